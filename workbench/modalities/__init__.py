"""One file = one modality: ``read`` it from a study, ``prepare`` it on the rows it may fit on, encode it.

Every file has ``AXIS`` ("subject" or "treatment"), ``UNIT``, ``GAIN`` (how loudly it speaks in a fusion at
the start), ``read(study) -> Block`` and ``prepare(matrix, fit_rows) -> Rotation``. A modality measured on cells has
AXIS "subject" all the same: its Block is one row per subject, made from the cells (``_pseudo_bulk.py``).

Missing values are NaN in a Block, never filled there: ``prepare`` learns the means of the fit rows, and the Rotation
puts them in. A column that is the endpoint to be predicted is left out by ``read(..., endpoint=)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from workbench import rooms
from workbench.nn.scaling import Rotation


@dataclass(frozen=True)
class Block:
    """One modality of a study: values float32 (n, f), names of the n rows, names of the f features, unit.

    ``values`` may hold NaN where a measured value is missing. ``endpoints`` (f texts) says under which endpoint a
    column stands in OUTCOMES, where that is not the feature's own name.
    """

    values: np.ndarray
    names: list[str]
    features: list[str]
    unit: str
    endpoints: list[str] = field(default_factory=list)

    def rows(self, wanted: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Values (len(wanted), f) with zeros where absent, and presence (len(wanted),) bool."""
        at = {name: i for i, name in enumerate(self.names)}
        index = np.array([at.get(name, -1) for name in wanted], dtype=np.int64)
        there = index >= 0
        out = np.zeros((len(wanted), len(self.features)), dtype=np.float32)
        out[there] = self.values[index[there]]
        return out, there

    def only(self, columns: np.ndarray) -> Block:
        """The same rows with the columns of these numbers."""
        endpoints = [self.endpoints[j] for j in columns] if self.endpoints else []
        return replace(
            self, values=self.values[:, columns], features=[self.features[j] for j in columns], endpoints=endpoints
        )

    def without(self, endpoint: str) -> Block:
        """The same without every column that is ``endpoint`` itself (by name, whatever the case)."""
        target = endpoint.strip().casefold()
        says = self.endpoints or [""] * len(self.features)
        same = [
            target in (f.strip().casefold(), e.strip().casefold()) for f, e in zip(self.features, says, strict=True)
        ]
        return self.only(np.flatnonzero(~np.array(same, dtype=bool))) if any(same) else self

    def refuse(self, wrong: np.ndarray, expected: str) -> None:
        """Raise ValueError that names the first place where ``wrong`` (n, f) is true, and what was ``expected``."""
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"modality in {self.unit!r}: expected {expected}; found {self.values[row, column]:.4g} at "
                f"{self.names[row]!r}, {self.features[column]!r} ({int(wrong.sum())} such cells)."
            )


def read(study, name: str, *, endpoint: str | None = None, columns: list[str] | None = None) -> Block:
    """Block of modality ``name``; an unknown name raises KeyError with the nearest.

    Parameters
    ----------
    endpoint : what is to be predicted; a column that holds it is no feature and is left out
    columns : the features a predictor was fitted on, in its order; all come back if one of them is not there
    """
    block = rooms.load(__name__, name).read(study)
    if endpoint is not None:
        block = block.without(endpoint)
        if not block.features:
            raise ValueError(f"modality {name!r} holds nothing but the endpoint {endpoint!r}; leave it out.")
    if columns is not None and columns != block.features:
        at = {feature: j for j, feature in enumerate(block.features)}
        if all(c in at for c in columns):
            block = block.only(np.array([at[c] for c in columns], dtype=np.int64))
    return block


def prepare(name: str, matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Scaler of modality ``name`` fitted on ``matrix[fit_rows]`` alone."""
    return rooms.load(__name__, name).prepare(matrix, fit_rows)


def from_anndata(data, unit: str, *, missing: bool = False) -> Block:
    """Block of an AnnData: X densified to float32. With ``missing``, NaN stay (see the top); infinite values never do.

    ``var["endpoint"]``, where there is one, says which endpoint of OUTCOMES a column is.
    """
    values = data.X.toarray() if hasattr(data.X, "toarray") else np.asarray(data.X)
    wrong = np.isinf(values) if missing else ~np.isfinite(values)
    if wrong.any():  # it would silence the whole modality, or every answer
        bad = np.argwhere(wrong)
        row, column = data.obs_names[bad[0, 0]], data.var_names[bad[0, 1]]
        raise ValueError(
            f"modality in {data.uns.get('unit', unit)!r}: expected numbers, found {values[tuple(bad[0])]} at {row!r}, "
            f"{column!r} ({len(bad)} such cells). Fill them or drop the row before the study is built."
        )
    told = data.var["endpoint"].astype(str).to_list() if "endpoint" in data.var.columns else []
    found = str(data.uns.get("unit", unit))
    return Block(values.astype(np.float32), list(data.obs_names), list(data.var_names), found, told)
