"""Intervals and expectations held to what happened on training lines.

The training lines are dealt into parts. The covariance of the other parts predicts each line from k of its own
responses, chosen and random in turn; what happened on the rest of them gives

    scale(k)    conformal quantile of |error| / sd: turns the posterior's sd into an interval   (Lei et al. 2018)
    factor_d    the same by treatment, relative to all, drawn towards 1 where there are few
    rms(k)      root of mean squared error over mean variance: turns an expected sd into an expected RMSE
    line(k)     5 %, 50 % and 95 % of RMSE over expected RMSE from line to line
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.planning import choice, factors
from workbench.planning.posterior import condition

KS = (0, 1, 2, 5, 10, 20)
MOST = 400  # lines that are gone through
FEW = 50  # errors of a treatment worth as much as the pooled quantile


@dataclass(frozen=True)
class Calibration:
    """``ks`` (m,), ``scale`` (m,), ``rms`` (m,), ``line`` (m, 3), ``factor`` (t,)."""

    ks: np.ndarray
    scale: np.ndarray
    rms: np.ndarray
    line: np.ndarray
    factor: np.ndarray

    def half(self, variance: np.ndarray, k: int) -> np.ndarray:
        """Half-width (t,) of the interval after ``k`` measurements."""
        return np.sqrt(variance) * np.interp(k, self.ks, self.scale) * self.factor

    def expected(self, variance: float | np.ndarray, k: int) -> np.ndarray:
        """RMSE that a mean variance stands for after ``k`` measurements."""
        return np.sqrt(np.maximum(variance, 0.0)) * np.interp(k, self.ks, self.rms)

    def between(self, k: int) -> tuple[float, float]:
        """Where 9 of 10 lines' RMSE lies, as shares of the expected one."""
        return tuple(float(np.interp(k, self.ks, self.line[:, at])) for at in (0, 2))  # type: ignore[return-value]


def calibrate(
    residual: np.ndarray, *, level: float, parts: int = 4, seed: int = 0, rank: int, shrink: float, ks=KS
) -> Calibration:
    """Calibration from residuals of training lines that the predictor had not seen (n, t; NaN = none).

    Lines with fewer than 4 values beyond k are left out at that k; a k that no line can serve is left out.
    """
    n, t = residual.shape
    rng = np.random.default_rng([20261122, seed, 7])
    order = rng.permutation(n)
    part = np.empty(n, dtype=int)
    part[order] = np.arange(n) % min(parts, n)
    taken = np.zeros(n, dtype=bool)
    taken[order[: min(n, MOST)]] = True
    errors: dict[int, list[np.ndarray]] = {k: [] for k in ks}  # (treatment, error / sd)
    lines: dict[int, list[tuple[float, float]]] = {k: [] for k in ks}  # (mean squared error, mean variance)
    for p in range(part.max() + 1):
        fitted = factors.fit(residual[part != p], rank, shrink)
        covariance = fitted.covariance
        for i in np.flatnonzero((part == p) & taken):
            r = residual[i] - fitted.offset
            here = np.flatnonzero(np.isfinite(r))
            panels = (rng.permutation(here), choice.greedy(covariance, max(ks), candidates=here).order)
            for k in ks:
                if len(here) < k + 4:
                    continue
                for panel in panels if k else panels[:1]:
                    if len(panel) < k:
                        continue
                    mean, variance = condition(covariance, panel[:k], r[panel[:k]])
                    rest = np.setdiff1d(here, panel[:k])
                    error = r[rest] - mean[rest]
                    errors[k].append(np.stack([rest, np.abs(error) / np.sqrt(np.maximum(variance[rest], 1e-12))]))
                    lines[k].append((float(np.mean(error**2)), float(np.mean(variance[rest]))))
    used = [k for k in ks if errors[k]]
    if not used:
        raise ValueError("intervals need training lines with at least 4 measured responses; found none.")
    joined = {k: np.concatenate(errors[k], axis=1) for k in used}
    scale = np.array([_quantile(joined[k][1], level) for k in used])
    factor = np.ones(t)
    pooled = [np.concatenate([joined[k][i] / (scale[at] if i else 1) for at, k in enumerate(used)]) for i in (0, 1)]
    where = pooled[0].astype(int)
    for d in range(t):
        own = pooled[1][where == d]
        if len(own):
            weight = len(own) / (len(own) + FEW)
            factor[d] = weight * _quantile(own, level) + (1 - weight)
    # the factors move coverage a little; one more quantile puts it back where it belongs
    scale *= [
        _quantile(joined[k][1] / factor[joined[k][0].astype(int)] / scale[at], level) for at, k in enumerate(used)
    ]
    told = [np.array(lines[k]) for k in used]
    rms = np.array([np.sqrt(a[:, 0].mean() / max(a[:, 1].mean(), 1e-12)) for a in told])
    shares = [np.sqrt(a[:, 0] / np.maximum(a[:, 1], 1e-12)) / r for a, r in zip(told, rms, strict=True)]
    line = np.array([np.quantile(s, [0.05, 0.5, 0.95]) for s in shares])
    return Calibration(np.array(used, dtype=np.float64), scale, rms, line, factor)


def _quantile(values: np.ndarray, level: float) -> float:
    """The ceil((n + 1) level)-th smallest value; the largest where there are too few."""
    ordered = np.sort(values)
    return float(ordered[min(int(np.ceil((len(ordered) + 1) * level)) - 1, len(ordered) - 1)])
