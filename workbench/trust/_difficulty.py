"""How wrong a prediction is likely to be, learnt from residuals of rows that were left out.

    log difficulty_sd = a + b_d + c_t + x_sd . g
    x = (z, |z|, z^2, distance),  z = (predicted - mean prediction of the drug) / their spread

b_d and c_t: log of the mean absolute residual of drug and tissue beside the mean of all, shrunk to nothing where rows
are few. distance: to the nearest training lines, where it is known. Scores divided by it are normalised conformity
scores (Papadopoulos, Gammerman and Vovk 2008; Lei et al. 2018, JASA 113:1094): intervals widen where errors do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

_PRIOR = 20.0  # rows' worth of "like all others" given to each drug and tissue
_RANGE = 4.0  # no row is taken to be more than so many times harder or easier than the middle one


@dataclass
class Difficulty:
    """Fitted difficulty: what ``of`` needs, as plain numbers and names."""

    coefficients: np.ndarray
    drugs: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # effect, mean and spread of predictions
    tissues: dict[str, float] = field(default_factory=dict)
    distance: tuple[float, float] = (0.0, 1.0)
    middle: float = 1.0

    @classmethod
    def fit(cls, rows: pl.DataFrame) -> Difficulty:
        """Learn from left-out rows: treatment, tissue, observed, predicted, and distance if there is one."""
        size = np.abs(rows["observed"].to_numpy() - rows["predicted"].to_numpy())
        floor = 0.05 * float(size.mean()) + 1e-12
        whole = float(np.log(size.mean() + floor))
        frame = rows.select(pl.col("treatment", "tissue").cast(pl.String), "predicted").with_columns(
            pl.Series("size", size)
        )
        shrunk = (pl.col("size").sum() + _PRIOR * float(size.mean())) / (pl.len() + _PRIOR)
        spread = float(np.std(rows["predicted"].to_numpy())) or 1.0
        by_drug = frame.group_by("treatment").agg(
            shrunk.alias("size"), pl.col("predicted").mean().alias("mean"), pl.col("predicted").std().alias("sd")
        )
        made = cls(np.zeros(0))
        for name, hard, mean, sd in by_drug.sort("treatment").iter_rows():
            made.drugs[name] = (float(np.log(hard + floor)) - whole, mean, sd if sd and sd > 1e-6 * spread else spread)
        for name, hard in frame.group_by("tissue").agg(shrunk.alias("size")).sort("tissue").iter_rows():
            made.tissues[name] = float(np.log(hard + floor)) - whole
        if "distance" in rows.columns:
            made.distance = (float(rows["distance"].mean()), float(rows["distance"].std() or 1.0) or 1.0)  # type: ignore[arg-type]
        x = made._features(rows)
        # a light ridge: a column without spread (one drug, one tissue) must not blow up
        gram = x.T @ x + 1e-3 * len(x) * np.diag([0.0] + [1.0] * (x.shape[1] - 1))
        made.coefficients = np.linalg.solve(gram, x.T @ np.log(size + floor))
        made.middle = float(np.median(x @ made.coefficients))
        return made

    def of(self, rows: pl.DataFrame) -> np.ndarray:
        """Difficulty of each row, 1 for the middle one: float64 (n,); rows need treatment, tissue, predicted."""
        bound = np.log(_RANGE)
        return np.exp(np.clip(self._features(rows) @ self.coefficients - self.middle, -bound, bound))

    def _features(self, rows: pl.DataFrame) -> np.ndarray:
        unknown = (0.0, float(np.mean([m for _, m, _ in self.drugs.values()])), 1.0)
        drug = np.array([self.drugs.get(t, unknown) for t in rows["treatment"].cast(pl.String)])
        tissue = np.array([self.tissues.get(t, 0.0) for t in rows["tissue"].cast(pl.String)])
        z = np.clip((rows["predicted"].to_numpy() - drug[:, 1]) / drug[:, 2], -4, 4)
        columns = [np.ones(len(z)), drug[:, 0], tissue, z, np.abs(z), z**2]
        if "distance" in rows.columns:
            columns.append(np.clip((rows["distance"].to_numpy() - self.distance[0]) / self.distance[1], -4, 4))
        return np.stack(columns, axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers of it, for a store that holds arrays only."""
        return {
            "coefficients": self.coefficients,
            "drugs": np.array(list(self.drugs.values())),
            "tissues": np.array(list(self.tissues.values())),
            "scales": np.array([*self.distance, self.middle]),
        }

    @classmethod
    def load(cls, names: dict[str, Any], arrays: dict[str, np.ndarray]) -> Difficulty:
        """Undo ``arrays``; ``names`` holds the drugs and the tissues."""
        drugs = dict(zip(names["drugs"], (tuple(r) for r in arrays["drugs"].tolist()), strict=True))
        tissues = dict(zip(names["tissues"], arrays["tissues"].tolist(), strict=True))
        low, spread, middle = arrays["scales"].tolist()
        return cls(arrays["coefficients"], drugs, tissues, (low, spread), middle)


def crossed(rows: pl.DataFrame) -> np.ndarray:
    """Difficulty of each calibration row by a fit that has not seen its part: float64 (n,).

    A difficulty that had seen a row's own residual would call large what turned out large.
    """
    part = rows["part"].to_numpy()
    out = np.ones(rows.height)
    if len(numbers := np.unique(part)) < 2:  # split conformal: halves of the groups judge each other
        _, code = np.unique(rows["group"].to_numpy(), return_inverse=True)
        part, numbers = code % 2, np.arange(2)
        if code.max() < 1:
            return out
    for k in numbers:
        mine = pl.Series(part == k)
        out[part == k] = Difficulty.fit(rows.filter(~mine)).of(rows.filter(mine))
    return out
