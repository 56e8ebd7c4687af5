"""A matrix with gaps, completed by singular values that are shrunk: what a row shows tells of what it does not.

    repeat:  A = U S V',   R = U max(S - S_k, 0) V',   gaps of A take the values of R

S_k is the k-th singular value, k a quarter of the shorter side. Source: soft-impute, Mazumder, Hastie and Tibshirani
2010, J. Mach. Learn. Res. 11:2287-2322, its threshold set by rank.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10


def complete(values: np.ndarray, rounds: int = ROUNDS) -> tuple[np.ndarray, np.ndarray]:
    """``values`` (n, t; NaN = gap, about 0 on average) with its gaps filled, and its low-rank part R (n, t)."""
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    low = np.zeros_like(filled)
    for _ in range(rounds):
        low = _shrunk(filled)
        filled = np.where(there, values, low)
    return filled, low


def _shrunk(a: np.ndarray) -> np.ndarray:
    """A with its singular values lowered by the k-th, through the smaller Gram matrix."""
    if a.shape[0] < a.shape[1]:
        return _shrunk(a.T).T
    squared, axes = np.linalg.eigh(a.T @ a)
    size = np.sqrt(np.maximum(squared, 0.0))[::-1]
    axes = axes[:, ::-1]
    kept = np.maximum(size - size[min(len(size) - 1, len(size) // 4)], 0.0) / np.maximum(size, 1e-12)
    return ((a @ axes) * kept) @ axes.T
