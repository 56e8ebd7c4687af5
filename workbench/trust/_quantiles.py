"""Weighted quantiles with a mass at infinity: the one formula behind every conformal interval here.

    q = inf { r : sum_i w_i 1[R_i <= r]  >=  level (sum_i w_i + w_new) }

R_i are scores of calibration rows, w_new is the weight of the row to come, which may lie anywhere. With w = 1 this is
the ceil(level (n + 1))-th smallest score (Vovk, Gammerman and Shafer 2005). With w_i = 1 / (rows of its group) it is
the hierarchical quantile of Lee, Barber and Willett (2023, arXiv:2306.06342), and also what repeated subsampling of one
row a group (Dunn, Wasserman and Ramdas 2022, JASA) tends to when the p-values of ever more draws are averaged. With
density ratios it is that of Tibshirani, Barber, Candes and Ramdas (2019, NeurIPS 32).
"""

from __future__ import annotations

import numpy as np

_CHUNK = 4_000_000  # numbers sorted at once
_SLACK = 1e-9  # of the mass: level (n + 1) is not always a whole number in floating point where it is one


def quantile(scores: np.ndarray, weights: np.ndarray, level: float, new: np.ndarray) -> np.ndarray:
    """The quantile above for each new row: float64 (m,), infinite where the finite mass does not reach.

    Parameters
    ----------
    scores, weights : of the calibration rows, (n,)
    new : weight of each new row, (m,)
    """
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(weights[order])
    total = mass[-1] if len(mass) else 0.0
    at = np.searchsorted(mass, level * (total + new) - _SLACK * (total + new), side="left")
    return np.append(scores[order], np.inf)[at]


def upper(
    centres: np.ndarray, scale: np.ndarray, scores: np.ndarray, part: np.ndarray, weights: np.ndarray, need: np.ndarray
) -> np.ndarray:
    """Least t with  sum_i w_i 1[ centre_part(i) + scale R_i <= t ] >= need, for each new row: float64 (m,).

    The upper end of CV+ (Barber, Candes, Ramdas and Tibshirani 2021, Annals of Statistics 49:486); the lower end is
    that of minus the centres. Many scores are searched by bisection, few are sorted; both agree to 1e-9 of the scale.

    Parameters
    ----------
    centres : what the predictor of each part says of each new row, (m, parts)
    scale : by which scores are multiplied, (m,)
    scores, part, weights : of the calibration rows, (n,)
    need : mass to be reached, (m,); more than there is gives infinity
    """
    out = np.full(len(centres), np.inf)
    total = weights.sum()
    reached = need <= total * (1 + _SLACK)
    where = np.flatnonzero(reached)
    if not len(where) or not len(scores):
        return out
    need = np.minimum(need[where] - _SLACK * total, total * (1 - _SLACK))
    if len(scores) > 20_000:
        out[where] = _bisect(centres[where], scale[where], scores, part, weights, need)
        return out
    step = max(1, _CHUNK // len(scores))
    for start in range(0, len(where), step):
        rows = where[start : start + step]
        ends = centres[rows][:, part] + scale[rows, None] * scores
        order = np.argsort(ends, axis=1)
        mass = np.cumsum(weights[order], axis=1)
        at = (mass < need[start : start + step, None]).sum(1)
        at = np.minimum(at, len(scores) - 1)
        out[rows] = np.take_along_axis(ends, np.take_along_axis(order, at[:, None], 1), 1)[:, 0]
    return out


def _bisect(centres, scale, scores, part, weights, need) -> np.ndarray:
    lists = []
    for k in range(centres.shape[1]):
        order = np.argsort(scores[part == k])
        lists.append((scores[part == k][order], np.concatenate([[0.0], np.cumsum(weights[part == k][order])])))
    low = centres.min(1) + scale * scores.min() - 1e-9
    high = centres.max(1) + scale * scores.max() + 1e-9
    for _ in range(48):
        middle = (low + high) / 2
        mass = sum(
            cumulated[np.searchsorted(ordered, (middle - centres[:, k]) / scale, side="right")]
            for k, (ordered, cumulated) in enumerate(lists)
        )
        enough = mass >= need
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    return high


def effective(weights: np.ndarray) -> float:
    """How many equal weights would vary as much: (sum w)^2 / sum w^2 (Kish 1965); 0 where there is none."""
    squares = float(np.sum(weights**2))
    return float(np.sum(weights)) ** 2 / squares if squares > 0 else 0.0


def least_groups(level: float) -> int:
    """Fewest exchangeable groups with which an interval at ``level`` is finite: 9 for 90 %."""
    return int(np.ceil(level / (1 - level) - 1e-9))
