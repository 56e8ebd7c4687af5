"""Whole groups dealt to parts, and what a split says when one stands on both sides."""

from __future__ import annotations

import numpy as np


class LeakError(ValueError):
    """A split lets test information into training; the message names what leaks and where."""


def deal(sizes: np.ndarray, folds: int, seed: int, balance: bool) -> np.ndarray:
    """Part of each group: shuffled evenly, or (few groups) largest first into the emptiest part."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sizes))
    part = np.empty(len(sizes), dtype=np.int32)
    if not balance:
        part[order] = np.arange(len(sizes)) % folds
        return part
    # sizes are blurred by up to a third, or the order of sizes alone would decide and every seed give the same split
    blurred = sizes * rng.uniform(0.67, 1.33, len(sizes))
    order = order[np.argsort(-blurred[order], kind="stable")]
    filled = np.zeros(folds)
    for group in order:
        k = int(np.argmin(filled))
        part[group] = k
        filled[k] += sizes[group]
    return part
