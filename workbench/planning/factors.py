"""A covariance between treatments from a matrix with holes: factor analysis by expectation maximisation.

    r_s = m + W f_s + e_s,    f_s ~ N(0, I_q),    e_sd ~ N(0, psi_d)      so that  cov(r) = W W' + diag(psi)

The likelihood is that of the cells that are there, so nothing is filled in and the covariance is positive definite
whatever the holes. Rows of W have a Gaussian prior: ``shrink`` is its precision in units of one sample's worth of
information, and lets a generous rank do no harm. ``psi_d`` holds what no other treatment shares: the measurement noise
of the treatment, and the biology that is its own.

Source: Rubin and Thayer 1982, Psychometrika 47:69; missing cells as in Little and Rubin, Statistical Analysis with
Missing Data, chapter 11. Rank and shrinkage were chosen on GDSC1 (experiments/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RANK = 40
SHRINK = 10.0
FEWEST = 3  # values a treatment needs to say anything of its own
FLOOR = 1e-3  # least share of a treatment's variance that is its own: no treatment is known for certain from others


@dataclass(frozen=True)
class Factors:
    """A fitted covariance: ``offset`` m (t,), ``loadings`` W (t, q), ``noise`` psi (t,), all in the residual's unit."""

    offset: np.ndarray
    loadings: np.ndarray
    noise: np.ndarray
    log_likelihood: float  # per cell, of the rows it was fitted on

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of measured residuals (t, t), each treatment's own noise on the diagonal."""
        return self.loadings @ self.loadings.T + np.diag(self.noise)


def fit(
    residuals: np.ndarray, rank: int = RANK, shrink: float = SHRINK, steps: int = 60, tolerance: float = 1e-5
) -> Factors:
    """Factors of ``residuals`` (n, t; NaN = not measured).

    A treatment with fewer than three values shares nothing with others and has the pooled variance.

    Raises
    ------
    ValueError
        There are fewer than three rows, or no treatment has three values.
    """
    here = np.isfinite(residuals)
    count = here.sum(0)
    usable = count >= FEWEST
    n, t = residuals.shape
    if n < FEWEST or not usable.any():
        raise ValueError(
            f"a covariance needs {FEWEST} samples and a treatment with {FEWEST} values; found {n} samples, "
            f"at most {count.max(initial=0)} values a treatment."
        )
    offset, loadings, noise, told = _expectation_maximisation(
        np.where(here, residuals, 0.0)[:, usable], here[:, usable].astype(float), rank, shrink, steps, tolerance
    )
    q = loadings.shape[1]
    whole = Factors(np.zeros(t), np.zeros((t, q)), np.zeros(t), told)
    whole.offset[usable], whole.loadings[usable], whole.noise[usable] = offset, loadings, noise
    whole.noise[~usable] = float(np.mean((loadings**2).sum(1) + noise))
    return whole


def _expectation_maximisation(x, here, rank, shrink, steps, tolerance):
    n, t = x.shape
    q = max(1, min(rank, t - 1, n - 1)) if t > 1 else 1
    count = here.sum(0)
    offset = x.sum(0) / count
    x = (x - offset) * here
    variance = np.maximum((x**2).sum(0) / count, 1e-12)
    _, size, axes = np.linalg.svd(x, full_matrices=False)
    loadings = np.zeros((t, q))
    k = min(q, len(size))
    loadings[:, :k] = axes[:k].T * size[:k] / np.sqrt(n)
    noise = np.maximum(variance - (loadings**2).sum(1), 0.2 * variance)
    upper = np.triu_indices(q)
    before = -np.inf
    told = -np.inf
    for step in range(steps):
        scaled = loadings / noise[:, None]
        information = _full(here @ (loadings[:, upper[0]] * scaled[:, upper[1]]), upper, q) + np.eye(q)
        pull = x @ scaled
        spread = np.linalg.inv(information)
        scores = np.einsum("nij,nj->ni", spread, pull)
        told = _log_likelihood(x, here, noise, information, pull, scores)
        second = (spread + scores[:, :, None] * scores[:, None, :])[:, upper[0], upper[1]]
        moments = _full(here.T @ second, upper, q)
        cross = x.T @ scores
        loadings = np.linalg.solve(moments + shrink * np.eye(q), cross[:, :, None])[:, :, 0]
        left = (x**2).sum(0) - 2 * (loadings * cross).sum(1) + np.einsum("ti,tij,tj->t", loadings, moments, loadings)
        noise = np.maximum(left / count, FLOOR * variance)
        if step > 5 and abs(told - before) < tolerance * abs(told):
            break
        before = told
    return offset, loadings, noise, told / here.sum()


def _full(packed: np.ndarray, upper, q: int) -> np.ndarray:
    """Symmetric matrices (m, q, q) from their upper triangles (m, q (q + 1) / 2)."""
    out = np.empty((len(packed), q, q))
    out[:, upper[0], upper[1]] = packed
    out[:, upper[1], upper[0]] = packed
    return out


def _log_likelihood(x, here, noise, information, pull, scores) -> float:
    """Of all cells that are there, by the determinant lemma and Woodbury's identity."""
    determinants = np.linalg.slogdet(information)[1].sum() + (here @ np.log(noise)).sum()
    squares = (x**2 / noise).sum() - (pull * scores).sum()
    return float(-0.5 * (determinants + squares + here.sum() * np.log(2 * np.pi)))
