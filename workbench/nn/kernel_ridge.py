"""Ridge regression of many sparse targets on one kernel, each with its own penalty, in closed form.

    alpha = (K + a I)^-1 (y - mean),   leave-one-out residual = (K + a I)^-1 (y - mean) / diag((K + a I)^-1)

The penalty of each target is the one with the least leave-one-out squared error, so nothing but the rows
passed in is used. With ``groups``, whole groups are left out together: the residual of group H is
[G_HH]^-1 (G y)_H with G = (K + a I)^-1. Source: Rifkin and Lippert 2007, Notes on Regularized Least Squares, MIT-CSAIL-TR-2007-025.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PENALTIES = 10.0 ** np.linspace(-1.5, 2.0, 15)


@dataclass(frozen=True)
class Fitted:
    """Dual weights (n, t), means (t,), penalties (t,) and left-out predictions (n, t; NaN where y is)."""

    dual: np.ndarray
    mean: np.ndarray
    penalty: np.ndarray
    left_out: np.ndarray


def fit(
    kernel: np.ndarray,
    targets: np.ndarray,
    penalties: np.ndarray = PENALTIES,
    groups: np.ndarray | None = None,
    progress: Callable[[float], None] | None = None,
) -> Fitted:
    """Fit every column of ``targets`` (n, t; NaN = not measured) on ``kernel`` (n, n, mean diagonal about 1).

    A column with fewer than three values keeps its mean (NaN if it has none) and zero weights.
    """
    n, t = targets.shape
    dual, mean = np.zeros((n, t)), np.full(t, np.nan)
    penalty, left_out = np.full(t, np.nan), np.full((n, t), np.nan)
    for j in range(t):
        there = np.flatnonzero(np.isfinite(targets[:, j]))
        if not len(there):
            continue
        y = targets[there, j].astype(np.float64)
        mean[j] = y.mean()
        left_out[there, j] = mean[j]
        if len(there) < 3:
            continue
        values, vectors = np.linalg.eigh(kernel[np.ix_(there, there)].astype(np.float64))
        b = vectors.T @ (y - mean[j])
        square = vectors**2
        blocks = None if groups is None else _blocks(groups[there])
        best = np.inf
        for a in penalties:
            shrink = 1.0 / (np.maximum(values, 0.0) + a)
            if blocks is None:
                # the mean is a free parameter: it takes 1/n of each row's leverage
                error = a * (vectors @ (shrink * b)) / np.maximum(a * (square @ shrink) - 1.0 / len(there), 1e-12)
            else:
                error = _left_out(vectors, shrink, b, blocks)
            loss = float(np.mean(error**2))
            if loss < best:
                best, penalty[j] = loss, a
                left_out[there, j] = y - error
        dual[there, j] = vectors @ (b / (np.maximum(values, 0.0) + penalty[j]))
        if progress is not None and j % 8 == 7:
            progress((j + 1) / t)
    return Fitted(dual, mean, penalty, left_out)


def _blocks(groups: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each group; a single group over all rows is split in two, since something must teach."""
    _, code = np.unique(groups, return_inverse=True)
    if code.max() == 0:
        code = np.arange(len(code)) % 2
    return [np.flatnonzero(code == g) for g in range(code.max() + 1)]


def _left_out(vectors: np.ndarray, shrink: np.ndarray, b: np.ndarray, blocks: list[np.ndarray]) -> np.ndarray:
    weights = vectors @ (shrink * b)
    error = np.empty(len(weights))
    for block in blocks:
        v = vectors[block]
        error[block] = np.linalg.solve((v * shrink) @ v.T, weights[block])
    return error
