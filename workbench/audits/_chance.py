"""What chance alone would do: robust scales, rank tests, permutations, corrections for many looks.

A study is looked at by dozens of checks and each makes many comparisons, so levels are strict: ``LEVEL`` is what one
check may spend on one study. Rank tests are used because measured responses have heavy tails.
"""

from __future__ import annotations

import math

import numpy as np

LEVEL = 1e-4  # chance of a false alarm a check may spend on one study
DRAWS = 1999  # permutations; with p = (1 + hits) / (1 + draws) the least is 5e-4
GAUSS = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


def scale(x: np.ndarray) -> float:
    """Robust standard deviation: 1.4826 x median absolute deviation; where that is 0, from the quartiles, else sd."""
    if len(x) < 2:
        return 0.0
    deviation = np.abs(x - np.median(x))
    found = GAUSS * float(np.median(deviation))
    if found == 0:
        found = float(np.subtract(*np.percentile(x, [90, 10]))) / 2.563
    return found if found > 0 else float(np.std(x))


def group_medians(values: np.ndarray, codes: np.ndarray, groups: int) -> np.ndarray:
    """Median of the values of each code 0 .. groups-1 (NaN for an empty one): float64 (groups,)."""
    out = np.full(groups, np.nan)
    if not len(values):
        return out
    order = np.lexsort((values, codes))
    v = values[order]
    count = np.bincount(codes, minlength=groups)
    start = np.concatenate(([0], np.cumsum(count)[:-1]))
    there = count > 0
    low, high = start + (count - 1) // 2, start + count // 2
    out[there] = 0.5 * (v[low[there]] + v[high[there]])
    return out


def improbable(z: np.ndarray) -> np.ndarray:
    """Expected number of values as large as each ``|z|`` among ``len(z)``, if the tail goes on as it begins.

    Beyond its 97.5 % quantile q the tail is taken as a power law P(|z| > x) = 0.025 (x / q)^(-1/a), with ``a`` the
    median of the log excesses over ln 2 (Hill's idea, made robust so that planted values do not hide themselves) and
    never below 0.15; a heavy tail of honest values therefore expects large ones. float64 (n,).
    """
    size = np.abs(z)
    n = len(size)
    if n < 20:
        return np.full(n, float(n))
    q = float(np.quantile(size, 0.975))
    if q <= 0:
        return np.full(n, float(n))
    beyond = size > q
    expected = np.full(n, float(n))
    told = beyond
    for _ in range(2):  # the tail's own shape is learnt again without what does not belong to it
        excess = np.log(size[told] / q)
        index = 0.2 if len(excess) < 8 else max(0.15, float(np.median(excess)) / math.log(2))
        expected[beyond] = n * 0.025 * (size[beyond] / q) ** (-1 / index)
        told = beyond & (expected > 0.2)
    return expected


def kruskal(values: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Kruskal-Wallis on groups of at least 3: p, and the share of rank variance between groups less what chance gives.

    The share is epsilon squared, (H - k + 1) / (n - k), at least 0 (Tomczak and Tomczak 2014).
    """
    from scipy.stats import chi2, rankdata

    count = np.bincount(codes)
    keep = count[codes] >= 3
    values, codes = values[keep], codes[keep]
    used = np.flatnonzero(np.bincount(codes, minlength=len(count)))
    n, k = len(values), len(used)
    if k < 2 or n < k + 3:
        return 1.0, 0.0
    rank = rankdata(values)
    total = float(np.var(rank) * n / (n - 1))
    if total == 0:
        return 1.0, 0.0
    sums, size = np.bincount(codes, rank)[used], np.bincount(codes)[used]
    h = float(((sums / size - rank.mean()) ** 2 * size).sum()) / total
    return float(chi2.sf(h, k - 1)), max(0.0, (h - (k - 1)) / (n - k))


def spearman(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's rho and its p; (0, 1) where either does not vary."""
    from scipy.stats import spearmanr

    if len(x) < 5 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0, 1.0
    rho, p = spearmanr(x, y)
    return float(rho), float(p)


def adjusted(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg q-values."""
    p = np.asarray(p, dtype=np.float64)
    n = len(p)
    if n == 0:
        return p
    order = np.argsort(p)
    q = np.minimum.accumulate((p[order] * n / np.arange(1, n + 1))[::-1])[::-1]
    out = np.empty(n)
    out[order] = np.minimum(q, 1.0)
    return out


def association(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Are two labellings (codes 0, 1, ...) related? p of chi squared by permutation, and Cramer's V without its bias.

    V is corrected after Bergsma (2013). Where permutations say "never", the p of the chi-squared law is given, but not
    less than a tenth of the least a permutation can show, since small tables do not follow that law.
    """
    from scipy.stats import chi2

    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    n = len(a)
    if rows < 2 or columns < 2 or n < 8:
        return 1.0, 0.0
    expected = np.outer(np.bincount(a, minlength=rows), np.bincount(b, minlength=columns)) / n
    inverse = 1 / np.where(expected > 0, expected, np.inf)

    def statistic(order: np.ndarray) -> float:
        table = np.bincount(a * columns + order, minlength=rows * columns).reshape(rows, columns)
        return float((table * table * inverse).sum()) - n

    found = statistic(b)
    random = np.random.default_rng([seed, n, rows, columns])
    hits = 0
    for draw in range(DRAWS):
        hits += statistic(random.permutation(b)) >= found - 1e-9
        if hits > 20 and draw < 200:
            break
    else:
        draw = DRAWS - 1
    p = (1 + hits) / (2 + draw)
    if hits == 0:
        p = min(p, max(float(chi2.sf(found, (rows - 1) * (columns - 1))), p / 10))
    phi = max(0.0, found / n - (rows - 1) * (columns - 1) / (n - 1))
    r, c = rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)
    return p, math.sqrt(phi / max(1e-9, min(r, c) - 1)) if min(r, c) > 1 else 0.0


def separated(points: np.ndarray, codes: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Do groups lie apart in space? PERMANOVA on Euclidean distance (Anderson 2001): p, and R squared less chance's.

    Parameters
    ----------
    points : (n, k); codes : (n,) 0, 1, ...
    """
    x = points - points.mean(axis=0)
    total = float((x * x).sum())
    groups = int(codes.max()) + 1
    if total == 0 or groups < 2:
        return 1.0, 0.0
    size = np.bincount(codes, minlength=groups)

    member = (codes[None, :] == np.arange(groups)[:, None]) / np.sqrt(np.maximum(size, 1))[:, None]  # (groups, n)

    def between(rows: np.ndarray) -> float:
        sums = member @ rows
        return float((sums * sums).sum()) / total

    found = between(x)
    random = np.random.default_rng([seed, len(x), groups])
    hits, mean = 0, 0.0
    for draw in range(DRAWS):
        value = between(x[random.permutation(len(x))])
        hits += value >= found - 1e-12
        mean += value
        if hits > 20 and draw < 200:
            break
    else:
        draw = DRAWS - 1
    chance = mean / (draw + 1)
    return (1 + hits) / (2 + draw), max(0.0, (found - chance) / (1 - chance))
