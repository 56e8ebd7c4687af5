"""Counts, means, variances, histograms and quantiles over the rows of all sites, from sums alone.

Whoever computes them sees (with secure aggregation) the sums over sites only; scalers and audits see the union without
a row. Means and variances are those of the pooled values to rounding (two passes: the second about the first's mean, so
that nothing cancels); quantiles are those of the pooled values to a stated resolution, by histograms refined about them.
A missing value is counted and otherwise left out. Nothing here asks for a maximum: the widest value belongs to somebody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.federated._steady import Steady
from workbench.federated.harmonise import Plan
from workbench.federated.messages import Ask

BINS = 64
MOST = 60  # rounds of one quantile; a few suffice


@dataclass(frozen=True)
class Moments:
    """Of each feature or treatment: ``count``, ``missing``, ``mean``, ``variance`` (of the values: divided by count).

    A column without values has mean 0 and variance 0.
    """

    count: np.ndarray
    missing: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(self.variance)


def moments(steady: Steady, plan: Plan, of: str = "features", round: int = 0) -> Moments:
    """Moments of the agreed features (f,), or of the endpoint by agreed treatment (t,); two rounds."""
    first = _moments(steady, plan, of, np.zeros(_size(plan, of)), round)
    mean = first["first"] / np.maximum(first["count"], 1)
    second = _moments(steady, plan, of, mean, round + 1)
    n = np.maximum(second["count"], 1)
    off = second["first"] / n
    return Moments(second["count"], second["missing"], mean + off, np.maximum(second["second"] / n - off**2, 0.0))


def _size(plan: Plan, of: str) -> int:
    return len(plan.features if of == "features" else plan.treatments)


def _moments(steady: Steady, plan: Plan, of: str, shift: np.ndarray, round: int) -> dict[str, np.ndarray]:
    return steady.total(Ask("moments", round, {"shift": shift}, {**plan.values(), "of": of}))


def histogram(
    steady: Steady,
    plan: Plan,
    low: np.ndarray,
    high: np.ndarray,
    bins: int = BINS,
    of: str = "features",
    round: int = 0,
) -> np.ndarray:
    """Counts (g, bins + 2) of each feature or treatment: below ``low`` (g,), in each equal bin, at or above ``high``."""
    values = {**plan.values(), "of": of, "bins": bins}
    return steady.total(Ask("histogram", round, {"low": low, "high": high}, values))["counts"]


def quantiles(
    steady: Steady, plan: Plan, levels: np.ndarray, resolution: float = 1e-6, of: str = "features", round: int = 0
) -> np.ndarray:
    """Quantile of each feature or treatment at each of ``levels``: (len(levels), g); NaN where there are no values.

    The ceil(n level)-th smallest value (the inverse of the empirical distribution), to ``resolution`` standard
    deviations of the column. At a very fine resolution it is one row's value: a site may want a coarse one.
    """
    told = moments(steady, plan, of, round)
    spread = np.where(told.sd > 0, told.sd, 1.0)
    out = np.full((len(levels), len(told.mean)), np.nan)
    for i, level in enumerate(np.asarray(levels, dtype=np.float64)):
        rank = np.clip(np.ceil(told.count * level - 1e-9), 1, None)
        out[i] = ranked(
            lambda low, high: histogram(steady, plan, low, high, BINS, of, round), rank, told.count,
            told.mean - 4 * spread, told.mean + 4 * spread, resolution * spread,
        )  # fmt: skip
    return out


def ranked(
    count: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rank: np.ndarray,
    total: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    resolution: np.ndarray,
) -> np.ndarray:
    """The ``rank``-th smallest value of each of g columns, within ``resolution``: the middle of the bin it lies in.

    Parameters
    ----------
    count : (low, high) -> counts (g, bins + 2); asked until every bin is narrow enough
    rank, total : which value, from 1, and how many there are; NaN comes back where there are fewer
    low, high : where to begin; widened where the value lies outside
    """
    low, high = low.astype(np.float64), high.astype(np.float64)
    known = (total >= 1) & (rank <= total)
    inside = np.zeros(len(low), dtype=bool)  # the value is known to lie between low and high
    asked = 0
    while (open_ := known & (~inside | (high - low > resolution))).any():
        if (asked := asked + 1) > MOST:
            raise RuntimeError(
                f"{int(open_.sum())} of {len(low)} quantiles were not found in {MOST} rounds: the counts of the rounds "
                "do not fit together. Does a site's policy leave small counts out?"
            )
        counts = count(low, high)
        cumulative = np.cumsum(counts, axis=1)
        at = (cumulative < rank[:, None]).sum(1)  # 0: below, 1..bins: inside, bins + 1: above
        bins, width = counts.shape[1] - 2, high - low
        edge = low + width * (at - 1) / bins
        narrow, above, below = open_ & (at >= 1) & (at <= bins), open_ & (at > bins), open_ & (at < 1)
        # an edge told to a site and the same edge here may round apart: half a bin of the next size is kept to spare
        spare = width / bins * 1e-9
        low, high = (
            np.where(narrow, edge - spare, np.where(above, high - spare, np.where(below, low - 8 * width, low))),
            np.where(
                narrow, edge + width / bins + spare, np.where(above, high + 8 * width, np.where(below, low, high))
            ),
        )
        high = np.where(below, high + spare, high)
        inside |= narrow
    return np.where(known, (low + high) / 2, np.nan)
