"""What was measured on the animals of a study: study days, names in words, values of animals and of cages."""

from __future__ import annotations

import math
import re
from typing import Any

import polars as pl

WEIGHT = "body_weight"
POOLED = " of the pool"  # ending of an endpoint that was measured by cage (folders/_findings.py)
NO_UNIT = "no unit"
EXPOSURE = "concentration"
ORGAN_WEIGHT = re.compile(r"^(weight|owbw|owbr|organ weight)\b", re.IGNORECASE)
TESTED = ("LB", "OM", "EG", "CV", "VS", "RE", "FW", "BW", "BG", "PC", "PP", "SC", "TF", "IS", "NV")
"""Domains of SEND in which --TEST spells --TESTCD out."""


def study_day(time_h: pl.Expr) -> pl.Expr:
    """Study day of hours from the first dose: its day is 1, the day before -1, and there is no day 0 (SENDIG 3.1)."""
    return pl.when(time_h >= 0).then(time_h / 24 + 1).otherwise(time_h / 24)


def day_text(day: float) -> str:
    """ "29", "8, 2 h" (two hours into day 8), "1.75 h before the first dose"."""
    if -1 < day < 0:
        return f"{-24 * day:.4g} h before the first dose"
    whole = math.floor(day + 1e-6)
    hours = 24 * (day - whole)
    return f"{whole}" if hours < 1e-3 else f"{whole}, {hours:.4g} h"


def measured(outcomes: pl.DataFrame, people: pl.DataFrame) -> pl.DataFrame:
    """Outcomes of these animals: subject, sex, group, endpoint, unit, study day, value (mean of a repeat), censored."""
    texts = ["subject", "endpoint", "unit"]
    rows = outcomes.select(pl.col(texts).cast(pl.String), study_day(pl.col("time_h")).alias("day"), "value", "censored")
    rows = rows.join(people, on="subject", how="inner", maintain_order="left")
    return rows.group_by("subject", "sex", "group", "endpoint", "unit", "day", maintain_order=True).agg(
        pl.col("value").mean(), pl.col("censored").first()
    )


def one_measure(rows: pl.DataFrame, endpoint: str, day: float | None) -> pl.DataFrame:
    """One value an animal of ``endpoint``: that of the study day, or each animal's last one."""
    own = rows.filter(pl.col("endpoint") == endpoint)
    if day is not None:
        return own.filter((pl.col("day") - day).abs() < 1e-6)
    return own.sort("day", maintain_order=True).unique("subject", keep="last", maintain_order=True)


def cages(pooldef: pl.DataFrame | None) -> dict[str, str]:
    """The cage (pool, or pools) of each animal, from SEND's POOLDEF; empty without one."""
    if pooldef is None or not {"POOLID", "USUBJID"} <= set(pooldef.columns):
        return {}
    own = pooldef.group_by("USUBJID").agg(pl.col("POOLID").cast(pl.String).unique().sort().str.join(", "))
    return dict(own.iter_rows())


def one_a_cage(values: pl.DataFrame, cage_of: dict[str, str]) -> pl.DataFrame:
    """One row a cage, with ``cage`` and its animals in ``members``: measured once, it must not count for each of them.

    The row stands at the cage's first animal. Without ``cage_of``, animals of one arm, sex and day with one value
    count as one cage: never too many, perhaps too few.
    """
    names = [cage_of.get(s) or f"cage of value {v:g}" for s, v in values.select("subject", "value").iter_rows()]
    kept = values.with_columns(pl.Series("cage", names, dtype=pl.String)).group_by(
        "cage", "sex", "group", "day", maintain_order=True
    )
    rest = [pl.col(c).first() for c in values.columns if c not in ("sex", "group", "day", "value")]
    found = kept.agg(*rest, pl.col("value").mean(), pl.col("subject").alias("members"))
    return found.select(*values.columns, "cage", "members")


def spelled(records: dict[str, pl.DataFrame]) -> dict[str, str]:
    """Test code -> name of the test, of the first domain that has it: --TESTCD in SEND, PARAMCD in ADaM."""
    found: dict[str, str] = {}
    for name, record in records.items():
        for code, spelt in ((f"{name.upper()}TESTCD", f"{name.upper()}TEST"), ("PARAMCD", "PARAM")):
            if not {code, spelt} <= set(record.columns):
                continue
            pairs = record.select(pl.col(code, spelt).cast(pl.String)).unique(maintain_order=True).drop_nulls()
            for key, words in pairs.iter_rows():
                if key and words:
                    found.setdefault(key if spelt != "PARAM" else key.lower(), words)
    return found


def in_words(endpoint: str, tests: dict[str, str]) -> str:
    """ "ALT serum" as "Alanine Aminotransferase, serum" where ``tests`` spells ALT out; else the endpoint as it is."""
    own, by_cage = endpoint.removesuffix(POOLED), endpoint.endswith(POOLED)
    code, _, specimen = own.partition(" ")
    name = tests.get(code)
    if name is None:
        plain = own.replace("_", " ") if own.islower() else own
        label = plain[:1].upper() + plain[1:] if own.islower() else plain
    else:
        label = f"{name}, {specimen}" if specimen else name
    return f"{label}, by cage" if by_cage else label


def kind_of(endpoint: str) -> str:
    """The heading under which a measure is offered."""
    if ORGAN_WEIGHT.match(endpoint):
        return "organ weights"
    if endpoint.startswith(EXPOSURE):
        return "exposure"
    return "body weight" if endpoint == WEIGHT else "laboratory and other values"


def offered(rows: pl.DataFrame, tests: dict[str, str]) -> list[dict[str, Any]]:
    """Measures to pick from, by name: endpoint, label, code ("" where the label says it), unit, kind, n (animals)."""
    counts = rows.group_by("endpoint", "unit").agg(pl.col("subject").n_unique().alias("n"))
    found = []
    for endpoint, unit, n in counts.sort("endpoint").iter_rows():
        if endpoint == WEIGHT:
            continue
        label, code = in_words(endpoint, tests), endpoint.partition(" ")[0]
        found.append(
            {
                "endpoint": endpoint,
                "label": label,
                "code": code.upper() if code in tests else "",
                "unit": "" if unit == NO_UNIT else unit,
                "kind": kind_of(endpoint),
                "n": int(n),
            }
        )
    return sorted(found, key=lambda m: (m["kind"], m["label"].lower()))
