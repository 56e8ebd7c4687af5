"""Ridge regression of many sparse targets on one kernel, each with its own penalty, in closed form.

    G = (K + a I)^-1,   P = G - G11'G / 1'G1          (the intercept is free: P 1 = 0)
    alpha = P y,   intercept = 1'Gy / 1'G1,   leave-one-out residual = alpha / diag(P)

The penalty of each target is the one with the least leave-one-out squared error, so nothing but the rows
passed in is used. With ``groups``, whole groups are left out together: the residual of group H is
[P_HH]^-1 (P y)_H, exactly that of a refit without H. Source: Rifkin and Lippert 2007, Notes on Regularized Least
Squares, MIT-CSAIL-TR-2007-025.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

CHUNKS = 8
PENALTIES = 10.0 ** np.linspace(-1.5, 2.0, 15)


@dataclass(frozen=True)
class Fitted:
    """Dual weights (n, t), intercepts (t,), penalties (t,) and left-out predictions (n, t; NaN where y is)."""

    dual: np.ndarray
    intercept: np.ndarray
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
    fitted = Fitted(np.zeros((n, t)), np.full(t, np.nan), np.full(t, np.nan), np.full((n, t), np.nan))
    done = [0]

    def chunk(columns: np.ndarray) -> None:
        at = len(penalties) // 2  # neighbouring columns want similar penalties: start where the last one ended
        for j in columns:
            at = _column(fitted, kernel, targets, penalties, groups, int(j), at)
            done[0] += 1
            if progress is not None and done[0] % 8 == 0:
                progress(done[0] / t)

    # many small factorisations: one BLAS thread each and several at a time beats the reverse, above all on a busy
    # machine; the number of chunks is fixed so that results do not depend on the number of cores
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(CHUNKS, os.cpu_count() or 1)) as pool:
        list(pool.map(chunk, np.array_split(np.arange(t), CHUNKS)))
    return fitted


def _column(fitted: Fitted, kernel, targets, penalties, groups, j: int, at: int) -> int:
    """Fit column ``j``, searching from penalty number ``at``; returns the number it ended at."""
    there = np.flatnonzero(np.isfinite(targets[:, j]))
    if not len(there):
        return at
    y = targets[there, j].astype(np.float64)
    fitted.intercept[j] = y.mean()
    fitted.left_out[there, j] = y.mean()
    if len(there) < 3:
        return at
    k = np.asarray(kernel[np.ix_(there, there)], dtype=np.float64)
    blocks = None if groups is None else _blocks(groups[there])
    tried: dict[int, tuple[float, np.ndarray, np.ndarray, float]] = {}
    at = _descend(lambda i: _try(k, y - y.mean(), penalties[i], blocks, tried, i), at, len(penalties))
    _, weights, error, shift = tried[at]
    fitted.intercept[j] += shift
    fitted.penalty[j], fitted.dual[there, j], fitted.left_out[there, j] = penalties[at], weights, y - error
    return at


def _blocks(groups: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each group; a single group over all rows is split in two, since something must teach."""
    _, code = np.unique(groups, return_inverse=True)
    if code.max() == 0:
        code = np.arange(len(code)) % 2
    return [np.flatnonzero(code == g) for g in range(code.max() + 1)]


def _descend(loss: Callable[[int], float], start: int, n: int) -> int:
    """Index of the local minimum of ``loss`` over 0..n-1 that lies downhill of ``start``."""
    at, here = start, loss(start)
    for step in (1, -1):
        while 0 <= at + step < n and loss(at + step) < here:
            at, here = at + step, loss(at + step)
    return at


def _try(k, y, penalty, blocks, tried, index) -> float:
    """Left-out squared error at one penalty; weights and errors are kept in ``tried``."""
    if index not in tried:
        inverse = k.copy()
        inverse.flat[:: len(k) + 1] += penalty
        inverse = _inverse(inverse)
        ones = inverse.sum(1)
        shift = float(ones @ y / ones.sum())
        inverse -= np.outer(ones, ones / ones.sum())
        weights = inverse @ y
        if blocks is None:
            error = weights / np.diag(inverse)
        else:
            error = np.empty(len(y))
            for block in blocks:
                error[block] = np.linalg.solve(inverse[np.ix_(block, block)], weights[block])
        tried[index] = (float(np.mean(error**2)), weights, error, shift)
    return tried[index][0]


def _inverse(a: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix by Cholesky, in place."""
    factor, info = lapack.dpotrf(a, lower=1, overwrite_a=1, clean=0)
    if info:
        raise np.linalg.LinAlgError("the kernel is not positive definite; is a row of it not a number?")
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    lower = np.tril(inverse)
    return lower + np.tril(lower, -1).T
