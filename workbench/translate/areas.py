"""Areas under the ROC curve of many scores at once, with bootstrap intervals and permutation p corrected over them all.

    AUROC = P(score of a responder > score of another) + P(equal) / 2

The corrected p of a score is the share of permuted responses under which the best of *all* scores reaches it (max-T,
Westfall and Young 1993), so correlated drugs and methods cost no more than they should.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

SEED = 20261122


@dataclass(frozen=True)
class Areas:
    """Of every score (m,): AUROC, interval, p that it beats chance, the same corrected, p that it differs at all."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    corrected: np.ndarray
    either_way: np.ndarray


def auroc(score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """AUROC (m,) of scores (n, m) for the samples where ``positive`` (n,) is true; NaN where a class is empty."""
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    if not n1 or not n0:
        return np.full(score.shape[1], np.nan)
    return (rankdata(score, axis=0)[positive].sum(axis=0) - n1 * (n1 + 1) / 2) / (n1 * n0)


def bootstrap(score: np.ndarray, positive: np.ndarray, level: float, draws: int, seed: int) -> np.ndarray:
    """Percentile interval (2, m) of the AUROC: patients are drawn with replacement within each class."""
    rng = np.random.default_rng([SEED, seed])
    a, b = np.flatnonzero(positive), np.flatnonzero(~positive)
    wa = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=draws) / len(a)
    wb = rng.multinomial(len(b), np.full(len(b), 1 / len(b)), size=draws) / len(b)
    out = np.empty((2, score.shape[1]))
    tail = (1 - level) / 2
    for j in range(score.shape[1]):
        difference = score[a, j][:, None] - score[b, j][None, :]
        wins = (difference > 0) + 0.5 * (difference == 0)
        out[:, j] = np.quantile(((wa @ wins) * wb).sum(axis=1), [tail, 1 - tail])
    return out


def permuted(score: np.ndarray, positive: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """AUROC (permutations, m) under shuffled responses, the same shuffle for every score."""
    rng = np.random.default_rng([SEED + 1, seed])
    n, n1 = len(positive), int(positive.sum())
    labels = rng.permuted(np.tile(positive, (permutations, 1)), axis=1).astype(np.float64)
    return (labels @ rankdata(score, axis=0) - n1 * (n1 + 1) / 2) / (n1 * (n - n1))


def judge(
    score: np.ndarray,
    positive: np.ndarray,
    *,
    level: float = 0.95,
    draws: int = 2000,
    permutations: int = 2000,
    seed: int = 0,
) -> Areas:
    """Everything about scores (n, m) against a response (n,) of Booleans.

    Raises
    ------
    ValueError
        A score is not a number, or fewer than two samples are in a class.
    """
    positive = np.asarray(positive, dtype=bool)
    if not np.isfinite(score).all():
        raise ValueError(f"expected a number for every sample, found {int((~np.isfinite(score)).sum())} that are none.")
    if min(positive.sum(), (~positive).sum()) < 2:
        found = f"{int(positive.sum())} responders of {len(positive)}"
        raise ValueError(f"expected at least two responders and two others, found {found}.")
    value = auroc(score, positive)
    low, high = bootstrap(score, positive, level, draws, seed)
    chance = permuted(score, positive, permutations, seed)
    beats = (1 + (chance >= value - 1e-12).sum(axis=0)) / (1 + permutations)
    best = chance.max(axis=1)
    corrected = (1 + (best[:, None] >= value[None, :] - 1e-12).sum(axis=0)) / (1 + permutations)
    far = np.abs(chance - 0.5).max(axis=1)
    either = (1 + (far[:, None] >= np.abs(value - 0.5)[None, :] - 1e-12).sum(axis=0)) / (1 + permutations)
    return Areas(value, low, high, beats, corrected, either)
