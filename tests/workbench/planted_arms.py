"""Federations with planted truth: who gains by how much is written down in ``SITES``; it says nothing about biology.

What is left of an outcome after the mean effects is z; an arm predicts ``scale * (share * z + noise)`` beyond them.
Part of the noise belongs to a line and is the same for all its drugs, as errors of real predictors are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench import tables


@dataclass(frozen=True)
class Plan:
    """One site: lines in its test rows, and per arm (correlation with z, scale of what is predicted)."""

    lines: int
    alone: tuple[float, float]
    federated: tuple[float, float]
    pooled: tuple[float, float] | None = None
    personalised: tuple[float, float] | None = None


GAINS, LOSES, UNSURE, MIXED, NOTHING = "gains", "loses", "is unsure", "rises and errs", "stays"
SITES = {  # a scale of r**2 would be the best for the error; 1 is near enough for all but the one that errs
    GAINS: Plan(120, (0.40, 0.4), (0.60, 0.6), (0.62, 0.6)),
    LOSES: Plan(120, (0.60, 0.6), (0.40, 0.4), (0.55, 0.5)),
    UNSURE: Plan(14, (0.50, 0.5), (0.52, 0.5)),
    MIXED: Plan(120, (0.40, 0.4), (0.55, 1.4)),  # ranks better, and exaggerates
    NOTHING: Plan(160, (0.50, 0.5), (0.50, 0.5)),
}


def predictions(
    sites: Mapping[str, Plan] | None = None,
    *,
    drugs: int = 12,
    seed: int = 0,
    folds: Sequence[int] = (0,),
    predictor: str = "ridge",
    alike: float = 0.8,
    unit: str = "ln(uM)",
) -> pl.DataFrame:
    """FEDERATION_PREDICTIONS, unsealed. ``alike``: correlation of the arms' errors; 1 makes NOTHING's arms equal."""
    rng = np.random.default_rng([11, seed])
    level = rng.normal(0, 2, drugs)
    frames, row = [], 0
    for site, plan in (SITES if sites is None else sites).items():
        lines = np.repeat(np.arange(plan.lines), drugs)
        drug = np.tile(np.arange(drugs), plan.lines)
        n = len(lines)
        z = rng.normal(size=n)
        common = _errors(rng, plan.lines, lines)
        for arm in ("alone", "federated", "pooled", "personalised"):
            if (wanted := getattr(plan, arm)) is None:
                continue
            r, scale = wanted
            noise = np.sqrt(alike) * common + np.sqrt(1 - alike) * _errors(rng, plan.lines, lines)
            beyond = scale * (r * z + np.sqrt(1 - r * r) * noise)
            names = pl.Series([f"{site} line {i:03d}" for i in lines])
            frames.append(
                pl.DataFrame(
                    {
                        "predictor": predictor, "split": "unseen subject", "fold": np.array(folds)[lines % len(folds)],
                        "row": np.arange(row, row + n), "subject": names,
                        "treatment": pl.Series([f"drug {i:02d}" for i in drug]), "tissue": None, "endpoint": "ln_ic50",
                        "unit": unit, "predicted": level[drug] + beyond, "low": None, "high": None, "level": 0.9,
                        "abstained": None, "baseline": level[drug], "observed": level[drug] + z, "censored": 0,
                        "site": site, "arm": arm,
                    },
                    schema=tables.FEDERATION_PREDICTIONS.columns,
                )
            )  # fmt: skip
        row += n
    return pl.concat(frames)


def _errors(rng: np.random.Generator, lines: int, line: np.ndarray, shared: float = 0.3) -> np.ndarray:
    return np.sqrt(shared) * rng.normal(size=lines)[line] + np.sqrt(1 - shared) * rng.normal(size=len(line))


COSTS = pl.DataFrame(
    {
        "site": [GAINS, LOSES, NOTHING],
        "rows": [4000, 3000, 5000],
        "epsilon": [2.5, None, 4.0],
        "delta": [1e-5, None, 1e-5],
        "bytes": [1_250_000, 1_250_000, None],
        "messages": [42, 42, None],
        "rounds": [20, 19, 20],
        "refusals": [0, 3, None],
    },
    schema=tables.FEDERATION_COSTS.columns,
)
ATTACKS = pl.DataFrame(
    {
        "site": [GAINS, LOSES],
        "attack": ["membership inference"] * 2,
        "figure": ["AUC"] * 2,
        "value": [0.503, 0.71],
        "low": [0.47, 0.66],
        "high": [0.53, 0.75],
        "chance": [0.5, 0.5],
    },
    schema=tables.FEDERATION_ATTACKS.columns,
)
