"""Principal components of a matrix larger than memory: two passes over the file, exact.

The first pass adds up means and the products of all pairs of features (upper triangle, float64; of sparse rows only the
numbers that are there); their eigenvectors are the axes. The second pass lays the rows upon them. Centred, not scaled
(Jolliffe & Cadima, Phil Trans R Soc A 2016); the largest loading of an axis is positive, so that signs do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.backed import Backed
from workbench.formats import FormatError
from workbench.streaming import _kernels

COLUMNS = 20_000  # features whose products still fit: 3 GB
PIECE = 2**25  # bytes read at a time


@dataclass(frozen=True)
class Components:
    """scores (rows, k) float32; axes (features, k); mean (features,); variance (k,) and its share of the whole."""

    scores: NDArray[np.float32]
    axes: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    share: NDArray[np.float64]


def pca(
    backed: Backed, k: int = 50, *, normalise: bool = False, progress: Callable[[float], None] | None = None
) -> Components:
    """The first ``k`` principal components of all rows.

    Parameters
    ----------
    normalise : turn counts into ln(1 + counts per 10,000) on the way
    progress : told the share (0 to 1) that is done

    Raises
    ------
    MemoryError
        There are too many features for their table of products.
    ValueError
        Fewer than two rows, or more components than features; counts are asked for but the file holds others.
    """
    rows, features = backed.shape
    if features > COLUMNS:
        needed = 8 * features**2
        raise MemoryError(f"{features:,} features need {needed:,} bytes of products. Choose at most {COLUMNS:,} first.")
    if rows < 2 or not 1 <= k <= features:
        raise ValueError(f"expected two rows and 1 to {features} components, found {rows} rows and k = {k}.")
    if normalise and backed.unit not in (None, "counts"):
        raise ValueError(f"{backed.file} holds {backed.unit}, not counts: normalising it again would be wrong.")
    tell = progress or (lambda done: None)
    sums, products = np.zeros(features), np.zeros((features, features))
    for _, stop, part in _parts(backed):
        if isinstance(part, np.ndarray):
            part = _normalised(part) if normalise else part.astype(np.float64)
            sums += part.sum(axis=0)
            products += part.T @ part
        else:
            part.sum_duplicates()  # ascending columns, each once
            begin, end = part.indptr[:-1], part.indptr[1:]
            if not _kernels.add_products(part.data, part.indices, begin, end, normalise, sums, products):
                raise FormatError(backed.file, f"/{backed.matrix}", "a row's columns are not ascending")
        tell(0.6 * stop / rows)
    mean = sums / rows
    upper = np.triu(products)
    covariance = (upper + np.triu(upper, 1).T - rows * np.outer(mean, mean)) / (rows - 1)
    axes, variance, share = _axes(covariance, k)
    scores = np.empty((rows, k), np.float32)
    narrow, shift = axes.astype(np.float32), (mean @ axes).astype(np.float32)
    for start, stop, part in _parts(backed):
        if isinstance(part, np.ndarray):
            part = _normalised(part) if normalise else part
            scores[start:stop] = part @ narrow - shift
        else:
            if normalise:
                _log(part)
            begin, end = part.indptr[:-1], part.indptr[1:]
            _kernels.project(part.data, part.indices, begin, end, narrow, shift, scores[start:stop])
        tell(0.6 + 0.4 * stop / rows)
    return Components(scores, axes, mean, variance, share)


def _axes(covariance: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    from scipy.linalg import eigh

    features = len(covariance)
    values, axes = eigh(covariance, subset_by_index=[features - k, features - 1])
    values, axes = np.maximum(values[::-1], 0), axes[:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, np.arange(k)])
    whole = max(float(np.trace(covariance)), np.finfo(float).tiny)
    return np.ascontiguousarray(axes), values, values / whole


def _parts(backed: Backed) -> Iterator[tuple[int, int, Any]]:
    """The rows in order, some megabytes at a time."""
    rows, features = backed.shape
    if backed.indptr is None:
        step = max(1, PIECE // (8 * features))
        edges = [*range(0, rows, step), rows]
    else:
        marks = np.arange(0, int(backed.indptr[-1]), PIECE // 8)
        edges = sorted({*np.searchsorted(backed.indptr, marks).tolist(), 0, rows})
    for start, stop in pairwise(edges):
        yield start, stop, backed.rows(start, stop)


def _normalised(part: NDArray[Any]) -> NDArray[np.float64]:
    part = part.astype(np.float64)
    sums = part.sum(axis=1, keepdims=True)
    return np.log1p(part * np.divide(_kernels.CP10K, sums, out=np.zeros_like(sums), where=sums > 0))


def _log(part: Any) -> None:
    """Normalise a CSR matrix in place."""
    sums = np.asarray(part.sum(axis=1)).ravel()
    scale = np.divide(_kernels.CP10K, sums, out=np.zeros(len(sums)), where=sums > 0)
    part.data = np.log1p(part.data * np.repeat(scale, np.diff(part.indptr))).astype(np.float32)
