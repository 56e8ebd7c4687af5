"""Single features that a kernel cannot carry: forward selection of fixed effects under the kernel's covariance.

    y = X_S b + f + noise,   f + noise ~ N(0, s^2 (K + a I)),   t_g = x_g' P y / (s sqrt(x_g' P x_g))

P is (K + a I)^-1 with the effects already chosen projected out. The feature with the largest |t| enters while that is
above ``threshold``; b is shrunk a little. A kernel over thousands of features gives each a share of one in thousands,
so a strong single cause is lost in it. Source: the score test of a linear mixed model, as in Kang et al. 2010, Nature
Genetics 42:348-354, and its forward form, Segura et al. 2012, Nature Genetics 44:825-830.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

MOST = 8  # effects of one target
SHRINKAGE = 0.1
LEAST = 1e-3  # a feature with less variance left than this share of the mean has been said already


def threshold(features: int, targets: int, false: float = 1.0) -> float:
    """The |t| that ``false`` of features x targets pairs would pass by chance alone."""
    return NormalDist().inv_cdf(1.0 - min(false / max(2.0 * features * targets, 2.0 * false), 0.5))


def select(
    kernel: np.ndarray, features: np.ndarray, targets: np.ndarray, penalties: np.ndarray, above: float
) -> np.ndarray:
    """Effects (f, t) of the chosen features on each target, 0 where not chosen.

    Parameters
    ----------
    kernel : (n, n), centred
    features, targets : (n, f), (n, t), no value missing; centred here
    penalties : (t,) noise a of each target
    above : |t| a feature must pass
    """
    effects = np.zeros((features.shape[1], targets.shape[1]))
    if not features.shape[1]:
        return effects
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0.0)
    x = vectors.T @ (features - features.mean(0))
    y = vectors.T @ (targets - targets.mean(0))
    precise = 1.0 / (values[:, None] + penalties)
    score = x.T @ (y * precise)
    scale = np.maximum((y * y * precise).sum(0) / len(y), 1e-12)
    for penalty in np.unique(penalties):
        inverse = 1.0 / (values + penalty)
        power = (x**2 * inverse[:, None]).sum(0)
        for j in np.flatnonzero(penalties == penalty):
            chosen, b = _forward(x, inverse, power, score[:, j], scale[j], above)
            effects[chosen, j] = b
    return effects


def _forward(x, inverse, power, score, scale, above) -> tuple[list[int], np.ndarray]:
    """Numbers of the features that enter for one target, and their effects."""
    chosen: list[int] = []
    b = np.zeros(0)
    rows = np.zeros((0, x.shape[1]))  # x_S' (K + aI)^-1 x
    left, spread = score, power
    floor = LEAST * max(float(power.mean()), 1e-12)
    while len(chosen) < MOST:
        t = np.where(spread > floor, np.abs(left) / np.sqrt(np.maximum(spread, floor) * scale), 0.0)
        t[chosen] = 0.0
        best = int(np.argmax(t))
        if t[best] < above:
            break
        chosen.append(best)
        rows = np.concatenate([rows, ((x[:, best] * inverse) @ x)[None]])
        within = rows[:, chosen]
        size = float(np.mean(np.diag(within)))
        b = np.linalg.solve(within + SHRINKAGE * size * np.eye(len(chosen)), score[chosen])
        left = score - b @ rows
        spread = power - (rows * np.linalg.solve(within + 1e-6 * size * np.eye(len(chosen)), rows)).sum(0)
    return chosen, b
