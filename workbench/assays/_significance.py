"""Tails of t and false discovery rates."""

from __future__ import annotations

import numpy as np


def t_tails(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Two-sided p of ``t`` with ``df`` degrees of freedom (broadcast), exact into the tails (1e-300 is not 0).

    p = 2 F(-\\|t\\|; df), the cumulative distribution of Student's t at the negative side, so nothing is
    subtracted from 1. NaN where t or df is NaN.
    """
    from scipy import special

    return np.minimum(2.0 * special.stdtr(df, -np.abs(t)), 1.0)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """q of each p: the smallest false discovery rate at which it is called; NaN stay NaN and are not counted.

    q_(i) = min over j >= i of p_(j) m / j, with p_(1) <= ... <= p_(m) (Benjamini and Hochberg 1995, J. R. Stat.
    Soc. B 57:289-300).
    """
    flat = np.asarray(p, dtype=np.float64).ravel()
    q = np.full(flat.shape, np.nan)
    there = np.flatnonzero(~np.isnan(flat))
    if len(there):
        order = there[np.argsort(flat[there])]
        raw = flat[order] * (len(order) / np.arange(1, len(order) + 1))
        q[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0)
    return q.reshape(np.shape(p))
