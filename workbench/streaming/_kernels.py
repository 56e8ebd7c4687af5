"""Rows of a window gathered into a batch, in one pass, without Python's lock."""

from __future__ import annotations

import numba
import numpy as np

CP10K = 1e4


@numba.njit(nogil=True, cache=True)
def scatter(data, indices, begin, end, normalise, out):
    """Sparse rows, numbers ``begin`` to ``end`` of a window, onto ``out`` (B, features) float32.

    ``normalise``: ln(1 + 10,000 x / sum of the row); a row of zeros stays zero. False where a column lies outside, or
    stands twice in a row that should be normalised.
    """
    features = out.shape[1]
    for i in range(begin.shape[0]):
        row = out[i]
        row[:] = 0
        first, last = begin[i], end[i]
        scale = np.float32(1)
        if normalise:
            total = 0.0
            for k in range(first, last):
                total += data[k]
            scale = np.float32(CP10K / total) if total > 0 else np.float32(0)
        for k in range(first, last):
            j = indices[k]
            if j < 0 or j >= features:
                return False
            value = np.float32(data[k]) * scale
            if normalise:
                if row[j] != 0:
                    return False  # the logarithm of a sum is not the sum of logarithms
                value = np.log1p(value)
            row[j] += value
    return True


@numba.njit(nogil=True, cache=True)
def gather(data, indices, begin, end, normalise, features, to):
    """Sparse rows of a window as CSR in ``to`` (pointers, columns, values); False as in ``scatter``."""
    pointers, columns, values = to
    at = 0
    for i in range(begin.shape[0]):
        pointers[i] = at
        first, last = begin[i], end[i]
        scale = np.float32(1)
        if normalise:
            total = 0.0
            for k in range(first, last):
                total += data[k]
            scale = np.float32(CP10K / total) if total > 0 else np.float32(0)
        for k in range(first, last):
            j = indices[k]
            if j < 0 or j >= features or (k > first and j == indices[k - 1]):
                return False
            columns[at] = j
            value = np.float32(data[k]) * scale
            values[at] = np.log1p(value) if normalise else value
            at += 1
    pointers[begin.shape[0]] = at
    return True


@numba.njit(nogil=True, cache=True)
def pick(matrix, order, normalise, out):
    """Dense rows ``order`` of a window into ``out`` float32."""
    for i in range(order.shape[0]):
        row, to = matrix[order[i]], out[i]
        if normalise:
            total = 0.0
            for j in range(row.shape[0]):
                total += row[j]
            scale = np.float32(CP10K / total) if total > 0 else np.float32(0)
            for j in range(row.shape[0]):
                to[j] = np.log1p(np.float32(row[j]) * scale)
        else:
            for j in range(row.shape[0]):
                to[j] = np.float32(row[j])


@numba.njit(nogil=True, cache=True)
def add_products(data, indices, begin, end, normalise, sums, products):
    """Add the rows' sums (features,) and outer products (features, features), upper triangle, float64.

    Needs ascending columns within a row; False where they are not, or lie outside.
    """
    features = sums.shape[0]
    for i in range(begin.shape[0]):
        first, last = begin[i], end[i]
        total = 0.0
        for k in range(first, last):
            total += data[k]
        scale = CP10K / total if total > 0 else 0.0
        before = -1
        for k in range(first, last):
            j = indices[k]
            if j <= before or j >= features:
                return False
            before = j
            a = np.log1p(data[k] * scale) if normalise else float(data[k])
            data[k] = a
            sums[j] += a
        for k in range(first, last):
            a = data[k]
            line = products[indices[k]]
            for m in range(k, last):
                line[indices[m]] += a * data[m]
    return True


@numba.njit(nogil=True, cache=True)
def project(data, indices, begin, end, axes, shift, out):
    """``out`` (rows, k) = rows (sparse) times ``axes`` (features, k), less ``shift`` (k,)."""
    for i in range(begin.shape[0]):
        to = out[i]
        for c in range(axes.shape[1]):
            to[c] = -shift[c]
        for k in range(begin[i], end[i]):
            a, line = data[k], axes[indices[k]]
            for c in range(axes.shape[1]):
                to[c] += a * line[c]
