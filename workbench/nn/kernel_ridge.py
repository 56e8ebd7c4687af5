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
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack, solve_triangular
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
    inverses = _Inverses(np.asarray(kernel, dtype=np.float64), penalties)

    def chunk(columns: np.ndarray) -> None:
        at = len(penalties) // 2  # neighbouring columns want similar penalties: start where the last one ended
        for j in columns:
            at = _column(fitted, inverses, targets, groups, int(j), at)
            done[0] += 1
            if progress is not None and done[0] % 8 == 0:
                progress(done[0] / t)

    # many small factorisations: one BLAS thread each and several at a time beats the reverse, above all on a busy
    # machine; the number of chunks is fixed so that results do not depend on the number of cores
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(CHUNKS, os.cpu_count() or 1)) as pool:
        list(pool.map(chunk, np.array_split(np.arange(t), CHUNKS)))
    return fitted


class _Inverses:
    """G = (K + a I)^-1 of the rows a column has, made from B, the inverse with all rows.

        G = B_oo - W'W,   W = L^-1 B_mo,   L L' = B_mm          (o: measured, m: missing)

    Few values are missing as a rule, so W is thin; B is made once for each penalty. Where most are missing, or all of B
    would not fit, the rows that are there are inverted by themselves.
    """

    MOST = 2**28  # numbers in all B together

    def __init__(self, kernel: np.ndarray, penalties: np.ndarray) -> None:
        self.kernel, self.penalties = kernel, penalties
        self.kept: dict[int, np.ndarray] = {}
        self.lock = threading.Lock()

    def of(self, index: int, there: np.ndarray) -> _Inverse:
        """That of penalty ``index`` for the rows ``there``."""
        n = len(self.kernel)
        if 2 * len(there) < n or n * n * len(self.penalties) > self.MOST:
            return _Inverse(self._inverted(self.kernel[np.ix_(there, there)], index), np.arange(len(there)), None)
        with self.lock:
            if index not in self.kept:
                self.kept[index] = self._inverted(self.kernel, index)
        whole = self.kept[index]
        missing = np.setdiff1d(np.arange(n), there, assume_unique=True)
        if not len(missing):
            return _Inverse(whole, there, None)
        factor = np.linalg.cholesky(whole[np.ix_(missing, missing)])
        return _Inverse(whole, there, solve_triangular(factor, whole[np.ix_(missing, there)], lower=True))

    def _inverted(self, kernel: np.ndarray, index: int) -> np.ndarray:
        a = kernel.copy()
        a.flat[:: len(a) + 1] += self.penalties[index]
        return _inverse(a)


@dataclass(frozen=True)
class _Inverse:
    """G: rows ``there`` of ``whole`` less W'W (None where nothing is taken away)."""

    whole: np.ndarray
    there: np.ndarray
    w: np.ndarray | None

    def times(self, v: np.ndarray) -> np.ndarray:
        """G v for v (n, c)."""
        full = np.zeros((len(self.whole), v.shape[1]))
        full[self.there] = v
        out = (self.whole @ full)[self.there]
        return out if self.w is None else out - self.w.T @ (self.w @ v)

    def diagonal(self) -> np.ndarray:
        out = self.whole[self.there, self.there]
        return out if self.w is None else out - (self.w**2).sum(0)

    def block(self, rows: np.ndarray) -> np.ndarray:
        at = self.there[rows]
        out = self.whole[np.ix_(at, at)]
        return out if self.w is None else out - self.w[:, rows].T @ self.w[:, rows]


def _column(fitted: Fitted, inverses: _Inverses, targets, groups, j: int, at: int) -> int:
    """Fit column ``j``, searching from penalty number ``at``; returns the number it ended at."""
    there = np.flatnonzero(np.isfinite(targets[:, j]))
    if not len(there):
        return at
    y = targets[there, j].astype(np.float64)
    fitted.intercept[j] = y.mean()
    fitted.left_out[there, j] = y.mean()
    if len(there) < 3:
        return at
    blocks = None if groups is None else _blocks(groups[there])
    tried: dict[int, tuple[float, np.ndarray, np.ndarray, float]] = {}
    at = _descend(lambda i: _try(inverses, there, y - y.mean(), blocks, tried, i), at, len(inverses.penalties))
    _, weights, error, shift = tried[at]
    fitted.intercept[j] += shift
    fitted.penalty[j], fitted.dual[there, j], fitted.left_out[there, j] = inverses.penalties[at], weights, y - error
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


def _try(inverses: _Inverses, there, y, blocks, tried, index) -> float:
    """Left-out squared error at one penalty; weights and errors are kept in ``tried``."""
    if index not in tried:
        inverse = inverses.of(index, there)
        ones, weights = inverse.times(np.stack([np.ones(len(y)), y], axis=1)).T
        total = ones.sum()
        shift = float(ones @ y / total)
        weights = weights - ones * shift
        if blocks is None:
            error = weights / (inverse.diagonal() - ones**2 / total)
        else:
            error = np.empty(len(y))
            for block in blocks:
                own = inverse.block(block) - np.outer(ones[block], ones[block] / total)
                error[block] = np.linalg.solve(own, weights[block])
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
