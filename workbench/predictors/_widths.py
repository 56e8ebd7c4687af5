"""Half-widths of intervals from residuals a fit has not seen: a split-conformal quantile per treatment.

    half = the ceil((n + 1) level)-th smallest |residual|      (Vovk et al. 2005; Lei et al. 2018, JASA 113:1094)

A treatment with fewer than ``few`` residuals takes the quantile of them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LEVEL = 0.9


@dataclass
class HalfWidths:
    """Fitted half-widths: ``names`` of treatments, ``values`` (n,), ``pooled`` for every other one."""

    names: list[str]
    values: np.ndarray
    pooled: float

    @classmethod
    def fit(cls, residuals: np.ndarray, treatments: np.ndarray, level: float = LEVEL, few: int = 30) -> HalfWidths:
        """Quantiles of |residual| by treatment; residuals that are not finite are left out."""
        good = np.isfinite(residuals)
        size, who = np.abs(residuals[good]), np.asarray(treatments)[good]
        if not len(size):
            raise ValueError("intervals need residuals; found none that is finite.")
        names, code = np.unique(who, return_inverse=True)
        order = np.lexsort((size, code))
        start = np.searchsorted(code[order], np.arange(len(names) + 1))
        pooled = _quantile(np.sort(size), level)
        values = np.array([_quantile(size[order[a:b]], level) if b - a >= few else pooled for a, b in pairwise(start)])
        return cls([str(n) for n in names], values, pooled)

    def of(self, treatments: np.ndarray) -> np.ndarray:
        """Half-width of each named treatment: float64 (n,)."""
        at = dict(zip(self.names, self.values, strict=True))
        return np.array([at.get(str(t), self.pooled) for t in treatments])


def _quantile(ordered: np.ndarray, level: float) -> float:
    rank = int(np.ceil((len(ordered) + 1) * level)) - 1
    return float(ordered[min(rank, len(ordered) - 1)])
