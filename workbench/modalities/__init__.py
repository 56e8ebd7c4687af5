"""One file = one modality: ``read`` it from a study, ``prepare`` it on the rows it may fit on, encode it.

Every file has ``AXIS`` ("subject" or "treatment"), ``UNIT``, ``GAIN`` (how loudly it speaks in a fusion at
the start), ``read(study) -> Block`` and ``prepare(matrix, fit_rows) -> Rotation``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench import rooms
from workbench.nn.scaling import Rotation


@dataclass(frozen=True)
class Block:
    """One modality of a study: values float32 (n, f), names of the n rows, names of the f features, unit."""

    values: np.ndarray
    names: list[str]
    features: list[str]
    unit: str

    def rows(self, wanted: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Values (len(wanted), f) with zeros where absent, and presence (len(wanted),) bool."""
        at = {name: i for i, name in enumerate(self.names)}
        index = np.array([at.get(name, -1) for name in wanted], dtype=np.int64)
        there = index >= 0
        out = np.zeros((len(wanted), len(self.features)), dtype=np.float32)
        out[there] = self.values[index[there]]
        return out, there


def read(study, name: str) -> Block:
    """Block of modality ``name``; an unknown name raises KeyError with the nearest."""
    return rooms.load(__name__, name).read(study)


def prepare(name: str, matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Scaler of modality ``name`` fitted on ``matrix[fit_rows]`` alone."""
    return rooms.load(__name__, name).prepare(matrix, fit_rows)


def from_anndata(data, unit: str) -> Block:
    """Block of an AnnData: X densified to float32."""
    values = data.X.toarray() if hasattr(data.X, "toarray") else np.asarray(data.X)
    if not np.isfinite(values).all():  # it would silence the whole modality, or every answer
        bad = np.argwhere(~np.isfinite(values))
        row, column = data.obs_names[bad[0, 0]], data.var_names[bad[0, 1]]
        raise ValueError(
            f"modality in {data.uns.get('unit', unit)!r}: expected numbers, found {values[tuple(bad[0])]} at {row!r}, "
            f"{column!r} ({len(bad)} such cells). Fill them or drop the row before the study is built."
        )
    return Block(values.astype(np.float32), list(data.obs_names), list(data.var_names), str(data.uns.get("unit", unit)))
