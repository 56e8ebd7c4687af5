"""Curves, tumours, animals and findings with known answers, alone and together in one written study."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tests.widgets.planted import HOSTILE
from workbench import home, tables
from workbench.study import Study, write_study

DOSES = np.logspace(-3, 1, 9)  # uM
LINES = ["A549", "PC-9", "HT-29", "MCF7"]
EC50 = {"A549": 0.1, "PC-9": 0.01, "HT-29": 100.0, "MCF7": None}  # uM; HT-29 beyond the doses, MCF7 flat


def _outcomes(rows: list[dict[str, object]]) -> pl.DataFrame:
    fixed = {"site": "nowhere", "dose": None, "dose_unit": None, "time_h": None, "censored": 0, "source": "synthetic"}
    return pl.DataFrame([{**fixed, **row} for row in rows], schema=dict(tables.OUTCOMES.columns))


def points(lines: list[str] | None = None, drugs: tuple[str, ...] = ("Erlotinib", "Gefitinib")) -> pl.DataFrame:
    """Two replicates of nine doses: 1 / (1 + d / EC50) with 2 % noise; every second drug is ten times weaker."""
    draw = np.random.default_rng(5)
    rows: list[dict[str, object]] = []
    for j, drug in enumerate(drugs):
        for line, ec50 in zip(lines or LINES, EC50.values(), strict=True):
            for dose in np.repeat(DOSES, 2):
                truth = 1.0 if ec50 is None else 1 / (1 + dose / (ec50 * 10**j))
                seen = float(truth + draw.normal(0, 0.02))
                rows.append(
                    {"subject": line, "treatment": drug, "endpoint": "viability", "unit": "fraction",
                     "dose": float(dose), "dose_unit": "uM", "value": seen}
                )  # fmt: skip
    return _outcomes(rows)


RATES = {"vehicle": 0.08, "works": -0.08, "slows": 0.02}  # per day, of ln volume


def volumes(arms: dict[str, float] | None = None, animals: int = 6) -> pl.DataFrame:
    """Every third day to day 30 from 200 mm3, exp(rate * day), each animal at a rate of its own about its arm's."""
    rows: list[dict[str, object]] = []
    for arm, rate in (arms or RATES).items():
        for k in range(animals):
            own = rate * (0.9 + 0.04 * k)
            for day in range(0, 31, 3):
                rows.append(
                    {"subject": f"{arm} {k}", "treatment": arm, "endpoint": "tumour_volume", "unit": "mm3",
                     "time_h": 24.0 * day, "value": float(200 * np.exp(own * day))}
                )  # fmt: skip
    return _outcomes(rows)


@dataclass
class Animals:
    """What AnimalStudy reads of a study: 40 rats of both sexes, 3 doses and a control; the last raises ALT fourfold."""

    subjects: pl.DataFrame
    outcomes: pl.DataFrame
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def records(self) -> list[str]:
        return sorted(self.tables)

    def record(self, name: str) -> pl.DataFrame:
        return self.tables[name]


def animals(hostile: bool = False, leave_out: tuple[str, ...] = ()) -> Animals:
    """Findings: liver hypertrophy in all of the highest dose (moderate) and one control (minimal); kidneys normal."""
    draw = np.random.default_rng(6)
    subjects: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    found: list[dict[str, object]] = []
    organ = HOSTILE if hostile else "LIVER"
    for group, dose in enumerate((0.0, 10.0, 30.0, 100.0)):
        for k in range(10):
            sex, name = "MF"[k % 2], f"rat {group}{k}"
            arm = f"{sex} - {HOSTILE if hostile and group == 3 else ('Vehicle', 'Low', 'Mid', 'High')[group]}"
            subjects.append(
                {"subject": name, "tissue": None, "species": "RAT", "sex": sex, "arm": arm, "arm_dose": dose,
                 "arm_dose_unit": "mg/kg"}
            )  # fmt: skip
            said = {"subject": name, "treatment": "compound" if dose else "control"}
            for day in (1, 8, 15, 22, 29):
                weight = (300 if sex == "M" else 200) + 4 * day * (1 - dose / 200) + draw.normal(0, 5)
                rows.append({**said, "endpoint": "body_weight", "unit": "g", "time_h": 24.0 * day, "value": weight})
            alt = 30 * (4 if group == 3 else 1) * np.exp(draw.normal(0, 0.1))
            rows.append({**said, "endpoint": "ALT serum", "unit": "U/L", "time_h": 24.0 * 29, "value": float(alt)})
            liver = 10 + draw.normal(0, 0.5)
            rows.append({**said, "endpoint": "WEIGHT liver", "unit": "g", "time_h": 24.0 * 29, "value": float(liver)})
            sick = group == 3 or (group == 0 and k == 0)
            for where, finding in ((organ, "HYPERTROPHY" if sick else "NORMAL"), ("KIDNEY", "NORMAL")):
                severity = ("MODERATE" if group == 3 else "MINIMAL") if finding != "NORMAL" else ""
                found.append({"USUBJID": name, "MISPEC": where, "MISTRESC": finding, "MISEV": severity, "MISTAT": ""})
    tables_ = {"MI": pl.DataFrame(found)}
    return Animals(
        pl.DataFrame(subjects), _outcomes(rows), {k: v for k, v in tables_.items() if k.lower() not in leave_out}
    )


def findings(names: tuple[str, ...] = ("A549", "PC-9"), what: str = "Two values lie far off.") -> pl.DataFrame:
    """One finding of each severity; the error names rows 0 and 1, the warning two subjects, the note nobody."""
    shared = {"n": 2, "do": "Look at them."}
    rows = [
        {"check": "duplicates", "family": "quality", "severity": "note", "confidence": 0.4, "what": "Some rows repeat.",
         "where": "outcomes", "rows": [], "names": [], **shared},
        {"check": "outliers", "family": "quality", "severity": "error", "confidence": 0.97, "what": what,
         "where": "viability", "rows": [0, 1], "names": [], **shared},
        {"check": "two names", "family": "leakage", "severity": "warning", "confidence": 0.8, "what": "One line twice.",
         "where": "subjects", "rows": [], "names": list(names), **shared},
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=dict(tables.FINDINGS.columns))


def write(name: str = "everything", hostile: bool = False, leave_out: tuple[str, ...] = ()) -> Study:
    """A study with dose-response points, tumours, animals; ``leave_out``: "viability", "tumour_volume", "animals"."""
    from anndata import AnnData

    lines = [HOSTILE if hostile and line == "A549" else line for line in LINES]
    arms = {(HOSTILE if hostile and arm == "works" else arm): rate for arm, rate in RATES.items()}
    rats = animals(hostile)
    parts = {"viability": points(lines), "tumour_volume": volumes(arms), "animals": rats.outcomes}
    frame = pl.concat([part for kind, part in parts.items() if kind not in leave_out])
    subjects = pl.DataFrame({"subject": frame["subject"].unique().sort()})
    people = rats.subjects.with_columns(tissue=pl.lit(None, pl.String))
    if "animals" in leave_out:
        people = people.select("subject", "tissue").clear()
    subjects = subjects.join(people, on="subject", how="left", maintain_order="left")
    data = AnnData(np.random.default_rng(7).normal(size=(len(subjects), 12)).astype(np.float32))
    data.obs_names, data.var_names = subjects["subject"].to_list(), [f"gene{i}" for i in range(12)]
    data.uns["axis"], data.uns["unit"] = "subject", "z-score"
    return write_study(
        home.studies() / name,
        outcomes=frame,
        subjects=subjects.select("subject", "tissue", pl.exclude("subject", "tissue")),
        treatments=pl.DataFrame(
            {"treatment": frame["treatment"].unique().sort(), "compound": None, "smiles": None},
            schema=dict(tables.TREATMENTS.columns),
        ),
        modalities={"expression": data},
        records={} if "animals" in leave_out else rats.tables,
        provenance={"source": "synthetic numbers, planted truth", "said": HOSTILE if hostile else "nothing"},
        event="made for a test",
    )
