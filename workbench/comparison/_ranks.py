"""Are several predictors different over many blocks, and which: Friedman, Iman and Davenport, Nemenyi.

    chi2_F = 12 N / (k (k + 1)) * (sum R_j^2 - k (k + 1)^2 / 4),  divided by 1 - sum (t^3 - t) / (N (k^3 - k)) for ties
    F_F    = (N - 1) chi2_F / (N (k - 1) - chi2_F),  with k - 1 and (k - 1)(N - 1) degrees of freedom
    CD     = q_a sqrt(k (k + 1) / (6 N)),  q_a the studentised range at infinite degrees of freedom over sqrt 2

Source: Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006) 1-30; Iman and Davenport,
Communications in Statistics A9 (1980) 571-595. The tests take blocks as independent. Folds of one split share training
rows, and seeds share subjects, so p values here are too small: they order predictors, they do not prove.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ALPHA = 0.05
SAME = 1e-12


@dataclass(frozen=True)
class Ranked:
    """Outcome of the tests on N blocks by k entries; ``ranks`` (k,) are means over blocks, 1 is best."""

    ranks: np.ndarray
    blocks: int
    friedman: float
    p_friedman: float
    iman_davenport: float
    p: float
    q: float
    critical_difference: float


def test(values: np.ndarray, sign: int) -> Ranked:
    """Rank entries in every block and test whether their mean ranks are the same.

    Parameters
    ----------
    values : (N, k) scores without NaN, N and k at least 2
    sign : +1 where larger is better, -1 where smaller is
    """
    from scipy import stats

    n, k = values.shape
    ranks = stats.rankdata(-sign * np.round(values, 10), axis=1)  # rounding noise is a tie
    mean = ranks.mean(0)
    ties = sum(float((c**3 - c).sum()) for c in (np.unique(row, return_counts=True)[1] for row in ranks))
    kept = 1 - ties / (n * (k**3 - k))
    chi2, f = friedman(mean, n, kept)
    q = studentised_range(k)
    return Ranked(
        mean,
        n,
        chi2,
        float(stats.chi2.sf(chi2, k - 1)),
        f,
        float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
        q,
        q * math.sqrt(k * (k + 1) / (6 * n)),
    )


def friedman(mean: np.ndarray, n: int, kept: float = 1.0) -> tuple[float, float]:
    """Friedman's chi-square and Iman and Davenport's F of mean ranks (k,) over ``n`` blocks.

    Parameters
    ----------
    kept : one minus the share lost to ties; 0 where everything is tied
    """
    k = len(mean)
    raw = 12 * n / (k * (k + 1)) * (float((mean**2).sum()) - k * (k + 1) ** 2 / 4)
    chi2 = max(raw, 0.0) / kept if kept > SAME else 0.0
    rest = n * (k - 1) - chi2
    return chi2, math.inf if rest <= SAME * n * k else (n - 1) * chi2 / rest


@lru_cache(maxsize=64)
def studentised_range(k: int) -> float:
    """Critical value q of Nemenyi's test for ``k`` entries at 5 %."""
    from scipy import stats

    return float(stats.studentized_range.ppf(1 - ALPHA, k, np.inf) / math.sqrt(2))


def near(ranks: np.ndarray, distance: float) -> list[list[int]]:
    """Largest sets of at least two entries, best first, whose mean ranks all lie closer than ``distance``."""
    order = [int(i) for i in np.argsort(ranks, kind="stable")]
    sets: list[list[int]] = []
    reached = -1
    for start in range(len(order)):
        stop = start
        while stop + 1 < len(order) and ranks[order[stop + 1]] - ranks[order[start]] < distance:
            stop += 1
        if stop > start and stop > reached:
            sets.append(order[start : stop + 1])
        reached = max(reached, stop)
    return sets


def cliques(same: np.ndarray) -> list[list[int]]:
    """Largest sets of at least two in which every pair is marked in ``same`` (k, k), by Bron and Kerbosch (1973)."""
    neighbours = [set(np.flatnonzero(row).tolist()) - {i} for i, row in enumerate(same)]
    found: list[list[int]] = []

    def grow(chosen: set[int], may: set[int], done: set[int]) -> None:
        if not may and not done:
            if len(chosen) > 1:
                found.append(sorted(chosen))
            return
        pivot = max(may | done, key=lambda v: len(neighbours[v] & may))
        for v in sorted(may - neighbours[pivot]):
            grow(chosen | {v}, may & neighbours[v], done & neighbours[v])
            may, done = may - {v}, done | {v}

    grow(set(), set(range(len(neighbours))), set())
    return sorted(found)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values; NaN stays NaN. Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70."""
    out = np.full(len(p), np.nan)
    there = np.flatnonzero(np.isfinite(p))
    order = there[np.argsort(p[there], kind="stable")]
    steps = np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order))))
    out[order] = np.minimum(steps, 1.0)
    return out
