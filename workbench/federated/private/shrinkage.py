"""Numbers under noise of a known size, drawn to where they most likely are: what is done with them costs no privacy.

    drawn      c + tau^2 / (tau^2 + sd^2) (v - c)       c, tau^2: mean and spread of the numbers themselves
    low_rank   a matrix of few patterns under white noise, its singular values shrunk as is best for squared error
    slopes     what all treatments have in common first, then what they share in a few patterns

The first is the posterior mean under a normal prior whose size is read off the noisy numbers (Efron and Morris 1973,
JASA 68:117; Robbins 1956). In a mean over t treatments noise is sqrt(t) times smaller, so what they have in common is
told by budgets under which no single treatment's slope can be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TELLS = (
    0.16  # share of the responses' variance that a few directions can tell at best; half of it alike in all treatments
)
PATTERNS = 0.5  # patterns that treatments share, of the number of directions
LEAST = 0.04  # share of a release that a part of it gets at least


def drawn(noisy: np.ndarray, sd: float | np.ndarray, to: float | None = None) -> np.ndarray:
    """Posterior means of numbers (n,) under noise of ``sd`` (one, or of each), around ``to`` (None: their mean)."""
    centre = float(noisy.mean()) if to is None else to
    noise = np.broadcast_to(np.asarray(sd, dtype=np.float64) ** 2, noisy.shape)
    spread = max(float(((noisy - centre) ** 2).mean() - noise.mean()), 0.0)
    return centre + spread / np.maximum(spread + noise, 1e-300) * (noisy - centre)


def counts(noisy: np.ndarray, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means of counts (t,), and which of them are surely no chance (t,) bool.

    Where noise is wider than the counts are apart all of them are about the mean, and none is left out for want of
    certainty; else one that does not stand two standard deviations above nothing is taken as none.
    """
    mean = float(noisy.mean())
    spread = max(float(((noisy - mean) ** 2).mean() - sd**2), 0.0)
    share = spread / (spread + sd**2)
    found = mean + share * (noisy - mean)
    there = found > max(2.0 * np.sqrt(share) * sd, 1.0)
    return np.where(there, found, 0.0), there


def low_rank(noisy: np.ndarray, sd: float) -> np.ndarray:
    """The matrix under white noise of standard deviation ``sd``, by the best shrinkage of its singular values.

        shrunk y = sqrt((y^2 - b - 1)^2 - 4 b) / y where y > 1 + sqrt(b), else 0;   y in units of sd sqrt(n), b = m / n

    Gavish and Donoho 2017, IEEE Trans. Inf. Theory 63:2137, equation 7.
    """
    u, s, v = np.linalg.svd(noisy, full_matrices=False)
    m, n = sorted(noisy.shape)
    b, y = m / n, s / (sd * np.sqrt(n))
    above = y > 1 + np.sqrt(b)
    kept = np.zeros_like(s)
    kept[above] = sd * np.sqrt(n) * np.sqrt(np.maximum((y[above] ** 2 - b - 1) ** 2 - 4 * b, 0.0)) / y[above]
    return (u * kept) @ v


def slopes(products: np.ndarray, sd: float, count: np.ndarray) -> np.ndarray:
    """Slopes (k, t) from sums of products (k, t), each under noise of ``sd``, over ``count`` (t,) persons.

    The slopes all treatments have in common are drawn to none by the noise on their mean (James and Stein 1961); what
    is left of each is ``low_rank``.
    """
    k, total = len(products), float(count.sum())
    common = products.sum(1) / total
    noise = k * products.shape[1] * (sd / total) ** 2
    common = common * max(0.0, 1.0 - noise / max(float((common**2).sum()), 1e-300))
    return common[:, None] + low_rank(products - np.outer(common, count), sd) / count


@dataclass(frozen=True)
class Parts:
    """How a release is best divided: shares of 1 / noise^2 of levels and of products, and what they lose together.

    ``lost`` is in units of the responses' variance, to be held against ``TELLS``.
    """

    levels: float
    products: float
    lost: float


def divided(level: float, product: float, k: int, t: int, rest: float) -> Parts:
    """The division that loses least, if all of the release fell on levels or on products.

        lost = level^2 / share + TELLS / 2 (shrunk(product^2 k / t) + shrunk(product^2 k PATTERNS)),   shrunk: of a
        signal of TELLS / 2 under that much noise, TELLS / 2 + noise in the denominator

    Parameters
    ----------
    level, product : sd of the noise on a level, and on a slope of one direction, in units of the responses' spread
    k, t : directions and treatments
    rest : share of the release that is spoken for
    """

    def lost(share: float) -> float:
        noise, half = product**2 / (1.0 - rest - share), TELLS / 2
        parts = (noise * k / t, noise * k * PATTERNS)
        return level**2 / share + sum(half * n / (half + n) for n in parts)

    grid = np.linspace(0.1, 1.0 - rest - LEAST, 18)
    best = min(grid, key=lost)
    return Parts(float(best), float(1.0 - rest - best), lost(float(best)))
