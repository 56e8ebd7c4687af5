"""Standardise and rotate a matrix with statistics of the rows it may fit on.

    z = (x - mean) / sd,   r = z V / scale,   V the principal axes of the fit rows

A missing value (NaN) counts as the mean of its column over the fit rows: z = 0, as if nothing were known of it. Mean
and sd are those of the fit rows that have the value; no other row has a say.

With as many axes as fit rows the rotation loses nothing that a linear map with an L2 penalty could have
learnt from those rows, and a 6,000-column matrix becomes a few hundred columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Rotation:
    """A fitted scaler: mean and sd (f,), axes (f, k), scale (a number). ``apply`` gives float32 (n, k)."""

    mean: np.ndarray
    sd: np.ndarray
    axes: np.ndarray
    scale: float

    def apply(self, x: np.ndarray) -> np.ndarray:
        z = standardise(x, self.mean, self.sd)
        return (z @ self.axes / self.scale).astype(np.float32)

    def first(self, components: int) -> Rotation:
        """The same with no more than ``components`` axes, at the same scale."""
        return replace(self, axes=self.axes[:, :components])

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """``prefix.mean``, ``.sd``, ``.axes``, ``.scale``, as ``of`` reads them."""
        parts = {"mean": self.mean, "sd": self.sd, "axes": self.axes, "scale": np.array([self.scale])}
        return {f"{prefix}.{part}": value for part, value in parts.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> Rotation:
        """From what ``arrays`` gave."""
        mean, sd, axes, scale = (arrays[f"{prefix}.{part}"] for part in ("mean", "sd", "axes", "scale"))
        return cls(mean, sd, axes, float(scale[0]))


def standardise(x: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """(x - mean) / sd as float32, 0 where x is missing (NaN)."""
    z = (np.asarray(x, dtype=np.float32) - mean) / sd
    gaps = np.isnan(z)
    if gaps.any():
        z[gaps] = 0.0
    return z


def _moments(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (f,) of the values that are there; 0 for a column that has none."""
    gaps = np.isnan(a)
    if not gaps.any():
        mean = a.mean(0, dtype=np.float64).astype(np.float32)
        return mean, a.std(0, dtype=np.float64).astype(np.float32)
    n = np.maximum((~gaps).sum(0), 1)
    mean = np.where(gaps, 0.0, a.astype(np.float64)).sum(0) / n
    sd = np.sqrt((np.where(gaps, 0.0, a - mean) ** 2).sum(0) / n)
    return mean.astype(np.float32), sd.astype(np.float32)


def fit_rotation(x: np.ndarray, fit_rows: np.ndarray, components: int = 0) -> Rotation:
    """Fit on ``x[fit_rows]`` alone; constant columns are silenced. ``components`` 0 keeps every axis.

    The scale makes the fit rows' mean square 1 per component, the natural spread of the axes kept.
    """
    a = np.asarray(x, dtype=np.float32)[fit_rows]
    if not len(a):
        raise ValueError("a scaler needs at least one row to fit on; found none.")
    mean, sd = _moments(a)
    silent = sd < 1e-6
    sd = np.where(silent, np.float32(np.inf), sd)  # (x - mean) / inf = 0
    z = standardise(a, mean, sd)
    # axes from the small Gram matrix: n rows are far fewer than f columns
    gram = z @ z.T if len(z) <= z.shape[1] else z.T @ z
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    order = np.argsort(values)[::-1]
    keep = order[values[order] > max(values.max(), 1e-12) * 1e-7]
    if components:
        keep = keep[:components]
    axes = vectors[:, keep]
    if len(z) <= z.shape[1]:
        axes = (z.T @ axes) / np.sqrt(values[keep])
    spread = float(values[keep].sum()) / (len(z) * max(len(keep), 1))
    return Rotation(
        mean, sd.astype(np.float32), np.ascontiguousarray(axes, dtype=np.float32), float(np.sqrt(max(spread, 1e-12)))
    )
