"""Counts, means, variances, histograms and quantiles over the rows of all sites, from sums alone.

Whoever computes them sees (with secure aggregation) the sums over sites only; scalers and audits see the union without
a row. Means and variances are those of the pooled values to rounding (two passes: the second about the first's mean, so
that nothing cancels); quantiles are those of the pooled values to a stated resolution, by histograms refined
about them, where sites tell small counts; else as near as the counts they tell allow.
A missing value is counted and otherwise left out. Nothing here asks for a maximum: it is somebody's value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from workbench.federated.exact.harmonise import Plan
from workbench.federated.exact.steady import Steady
from workbench.federated.messages import Ask, Value

BINS = 64
MOST = 60  # rounds of one quantile; a few suffice


@dataclass(frozen=True)
class Moments:
    """Of each feature or treatment: ``count``, ``missing``, ``mean``, ``variance`` (squares divided by count).

    A column without values has mean 0 and variance 0.
    """

    count: np.ndarray
    missing: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(self.variance)


def moments(
    steady: Steady, plan: Plan, of: str = "features", round: int = 0, also: Mapping[str, Value] | None = None
) -> Moments:
    """Moments of the agreed features (f,), or of the endpoint by agreed treatment (t,); two rounds.

    ``also`` goes into the asks: ``parts`` and ``seed``, where a treatment needs enough rows in each inner part.
    """
    first = _moments(steady, plan, of, np.zeros(_size(plan, of)), round, also or {})
    # near the mean will do; of no more digits than the values have, so that differences from it stay exact
    mean = (first["first"] / np.maximum(first["count"], 1)).astype(np.float32).astype(np.float64)
    second = _moments(steady, plan, of, mean, round + 1, also or {})
    n = np.maximum(second["count"], 1)
    off = second["first"] / n
    missing = second["subjects"][0] - second["count"]
    return Moments(second["count"], missing, mean + off, np.maximum(second["second"] / n - off**2, 0.0))


def _size(plan: Plan, of: str) -> int:
    return len(plan.features if of == "features" else plan.treatments)


def _moments(steady: Steady, plan: Plan, of: str, shift: np.ndarray, round: int, also: Mapping[str, Value]) -> dict:
    return steady.total(Ask("moments", round, {"shift": shift}, {**plan.values(), **also, "of": of}))


def histogram(
    steady: Steady,
    plan: Plan,
    low: np.ndarray,
    high: np.ndarray,
    bins: int = BINS,
    of: str = "features",
    round: int = 0,
) -> np.ndarray:
    """Counts (g, bins + 2) of each feature or treatment: below ``low`` (g,), in each equal bin, from ``high`` on."""
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
    done = ~known
    asked = 0
    while (todo := ~done & (~inside | (high - low > resolution))).any():
        if (asked := asked + 1) > MOST:
            raise RuntimeError(f"{int(todo.sum())} of {len(low)} quantiles were not found in {MOST} rounds.")
        counts = count(low, high)
        at = (np.cumsum(counts, axis=1) < rank[:, None]).sum(1)  # 0: below, 1..bins: inside, then above
        bins, width = counts.shape[1] - 2, high - low
        below, above = todo & (at < 1), todo & (at > bins)
        within = todo & ~below & ~above
        # counts that no longer agree were merged at a site, or round at an edge: the edge is all that can be known
        settled, outside = inside & (below | above), ~inside & (below | above)
        edge = np.where(below, low, high) - resolution / 2
        step = low + width * (at - 1) / bins
        further = np.where(above, high, low - 8 * width)
        low = np.select([within, settled, outside], [step, edge, further], low)
        high = low + np.select([within, settled, outside], [width / bins, resolution, 8 * width], width)
        inside |= within
        done |= settled
    return np.where(known, (low + high) / 2, np.nan)
