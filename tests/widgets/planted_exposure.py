"""Concentrations with known answers: two arms, two occasions, samples below the limit."""

from __future__ import annotations

import numpy as np
import polars as pl

from tests.widgets import planted_study
from workbench import home, tables
from workbench.study import Study, write_study

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


def write(name: str) -> Study:
    """A study of these rats, and of mice with tumours of two tissues (``planted_study``); the rats have none."""
    mice = planted_study.volumes()
    names = mice["subject"].unique().sort()
    tumours = pl.DataFrame({"subject": names, "tissue": ["lung" if int(n[-1]) < 3 else "skin" for n in names]})
    # the page shows the tissue where there is one: kept out of the subjects' own column, as a source's words are
    people = pl.concat([subjects(), tumours.rename({"tissue": "tissue_name"})], how="diagonal")
    frame = pl.concat([concentrations(), mice])
    return write_study(
        home.studies() / name,
        outcomes=frame,
        subjects=people.select("subject", pl.lit(None, pl.String).alias("tissue"), pl.exclude("subject")),
        treatments=pl.DataFrame(
            {"treatment": frame["treatment"].unique().sort(), "compound": None, "smiles": None},
            schema=dict(tables.TREATMENTS.columns),
        ),
        modalities={},
        provenance={"source": "synthetic numbers, planted truth"},
        event="made for a test",
    )


def area(dose: float) -> float:
    """To the last quantifiable sample, of the middle animal: linear up, then the exact area of an exponential."""
    peak, k = dose * 10, np.log(2) / HALF_LIFE_H
    last = max(h for h in HOURS if h >= 1 and peak * 0.5 ** ((h - 1) / HALF_LIFE_H) >= LIMIT)
    return float(0.5 * 0.5 * peak / 2 + 0.5 * (0.5 * peak + peak) / 2 + peak / k * (1 - np.exp(-k * (last - 1))))
