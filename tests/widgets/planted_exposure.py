"""Concentrations with known answers: two arms, two occasions, samples below the limit."""

from __future__ import annotations

import numpy as np
import polars as pl

from workbench import tables

LIMIT = 5.0  # ng/mL
HOURS = (0.5, 1.0, 2.0, 4.0, 8.0, 24.0)
HALF_LIFE_H = 4.0


def subjects() -> pl.DataFrame:
    arms = (("arm low", 10.0), ("arm high", 100.0))
    rows = [(f"rat {dose:g} {k}", "RAT", arm, dose, "mg/kg") for arm, dose in arms for k in range(3)]
    return pl.DataFrame(rows, schema=["subject", "species", "arm", "arm_dose", "arm_dose_unit"], orient="row")


def concentrations(starts: tuple[float, ...] = (0.0, 672.0)) -> pl.DataFrame:
    """Peak 10 x dose (times 0.9, 1, 1.1) at an hour, then halved every four; below ``LIMIT`` the limit, censored."""
    rows: list[dict[str, object]] = []
    for row in subjects().iter_rows(named=True):
        own = 0.9 + 0.1 * int(row["subject"][-1])
        for start in starts:
            for hour in HOURS:
                risen = row["arm_dose"] * 10 * own * (0.5 if hour < 1 else 0.5 ** ((hour - 1) / HALF_LIFE_H))
                below = risen < LIMIT
                rows.append(
                    {"subject": row["subject"], "treatment": "compound", "site": "nowhere", "dose": row["arm_dose"],
                     "dose_unit": "mg/kg", "time_h": start + hour, "endpoint": "concentration plasma",
                     "value": LIMIT if below else risen, "unit": "ng/mL", "censored": -1 if below else 0,
                     "source": "synthetic"}
                )  # fmt: skip
    return pl.DataFrame(rows, schema=dict(tables.OUTCOMES.columns))


def area(dose: float) -> float:
    """To the last quantifiable sample, of the middle animal: linear up, then the exact area of an exponential."""
    peak, k = dose * 10, np.log(2) / HALF_LIFE_H
    last = max(h for h in HOURS if h >= 1 and peak * 0.5 ** ((h - 1) / HALF_LIFE_H) >= LIMIT)
    return float(0.5 * 0.5 * peak / 2 + 0.5 * (0.5 * peak + peak) / 2 + peak / k * (1 - np.exp(-k * (last - 1))))
