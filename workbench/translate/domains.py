"""Two domains made comparable: cell lines and tumours over the genes that both name.

A gene is matched by its symbol, whatever the case; every character but letters and digits counts as a full stop (R's
table readers write HLA-A as HLA.A). A symbol that two genes of a domain share after that matches nothing.

Cell lines may come as a z-score within the line; tumours are then standardised within the tumour over the same genes,
so that the first difference left is not one of units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from workbench import modalities

WITHIN = "within line"
FEWEST = 20  # genes below which nothing is compared


@dataclass(frozen=True)
class Domain:
    """Samples of one kind: values float64 (n, g), names (n,), genes (g,), tissue (n,) text ("" where not known)."""

    values: np.ndarray
    names: list[str]
    genes: list[str]
    tissue: np.ndarray

    def take(self, rows: np.ndarray) -> Domain:
        """The same genes of the samples of these numbers (or where this is true)."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(self, values=self.values[index], names=[self.names[i] for i in index], tissue=self.tissue[index])


@dataclass(frozen=True)
class Matched:
    """Lines and tumours over the same genes, and how many genes of each found no partner."""

    lines: Domain
    tumours: Domain
    lost_lines: int
    lost_tumours: int
    within: bool  # were samples standardised within themselves?


def symbol(name: str) -> str:
    """The form under which a gene's symbol is compared."""
    return re.sub(r"[^A-Z0-9]", ".", name.strip().upper())


def match(lines, tumours, modality: str = "expression") -> Matched:
    """Lines and tumours of two studies over the genes that both measure.

    Parameters
    ----------
    lines, tumours : studies, may be sealed

    Raises
    ------
    ValueError
        Fewer than 20 genes are shared.
    """
    a, b = modalities.read(lines, modality), modalities.read(tumours, modality)
    at, of = _unique(a.features), _unique(b.features)
    shared = [s for s in at if s in of]
    if len(shared) < FEWEST:
        raise ValueError(
            f"{modality}: expected at least {FEWEST} genes that both studies name, found {len(shared)} (such as "
            f"{a.features[:3]} in {lines.name!r} and {b.features[:3]} in {tumours.name!r}). Name genes by symbol."
        )
    genes = [a.features[at[s]] for s in shared]
    x = a.values[:, [at[s] for s in shared]].astype(np.float64)
    y = b.values[:, [of[s] for s in shared]].astype(np.float64)
    within = WITHIN in a.unit
    if within:
        x, y = _within(x), _within(y)
    lost = len(a.features) - len(shared), len(b.features) - len(shared)
    return Matched(
        Domain(x, a.names, genes, _tissue(lines, a.names)),
        Domain(y, b.names, genes, _tissue(tumours, b.names)),
        *lost,
        within,
    )


def _unique(names: list[str]) -> dict[str, int]:
    """Symbol -> column, without symbols that several columns have."""
    at: dict[str, int] = {}
    twice = set()
    for column, name in enumerate(names):
        key = symbol(name)
        if key in at:
            twice.add(key)
        at[key] = column
    return {key: column for key, column in at.items() if key not in twice}


def _within(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-9)


def _tissue(study, names: list[str]) -> np.ndarray:
    of = dict(study.subjects.select("subject", "tissue").iter_rows())
    return np.array([of.get(n) or "" for n in names], dtype=object)
