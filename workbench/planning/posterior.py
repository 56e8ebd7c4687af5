"""Exact conditioning of a Gaussian on what was measured.

    m_u = S_um S_mm^-1 (r_m - m_m),     v_u = diag(S_uu - S_um S_mm^-1 S_mu)

``S`` is the covariance of measured residuals: each treatment's noise is on its diagonal, so a pilot is believed as far
as that treatment's measurements deserve. Source: any text on the multivariate normal, such as Anderson 2003, 2.5.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve


def condition(
    covariance: np.ndarray, measured: np.ndarray, residual: np.ndarray, extra: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (t,) of what a measurement of every treatment would add to its prediction.

    Parameters
    ----------
    covariance : (t, t), noise on the diagonal
    measured : numbers of the k treatments that were measured, each once
    residual : measured minus predicted minus offset (k,)
    extra : variance of each measurement beyond the treatment's usual noise (k,), such as of a single dose

    Raises
    ------
    ValueError
        A treatment is given twice, or a residual is not a number.
    """
    measured = np.asarray(measured, dtype=np.int64)
    residual = np.asarray(residual, dtype=np.float64)
    variance = np.diag(covariance).copy()
    if not len(measured):
        return np.zeros(len(covariance)), variance
    if len(np.unique(measured)) < len(measured):
        raise ValueError("a treatment was measured twice; average repeated values first.")
    if len(residual) != len(measured) or not np.isfinite(residual).all():
        raise ValueError(f"{len(measured)} treatments were measured; expected as many finite residuals.")
    inner = covariance[np.ix_(measured, measured)].copy()
    if extra is not None:
        inner.flat[:: len(inner) + 1] += extra
    across = covariance[measured]
    factor = cho_factor(inner, lower=True, check_finite=False)
    solved = cho_solve(factor, across, check_finite=False)
    return residual @ solved, np.maximum(variance - (across * solved).sum(0), 0.0)


def remaining(covariance: np.ndarray, measured: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray:
    """Covariance (t, t) that is left once ``measured`` are known; their own rows and columns are near zero."""
    measured = np.asarray(measured, dtype=np.int64)
    if not len(measured):
        return covariance.copy()
    inner = covariance[np.ix_(measured, measured)].copy()
    if extra is not None:
        inner.flat[:: len(inner) + 1] += extra
    across = covariance[measured]
    return covariance - across.T @ cho_solve(cho_factor(inner, lower=True), across)
