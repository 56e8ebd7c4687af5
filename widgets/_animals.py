"""The arms of an animal study, weights by day, one measure by arm with its test, and findings by organ."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import polars as pl

from widgets._measures import WEIGHT

SEVERITY = {"minimal": 1, "mild": 2, "slight": 2, "moderate": 3, "marked": 4, "severe": 5}
NORMAL = (
    "normal", "no abnormality", "no abnormalities", "no abnormality detected", "unremarkable", "no visible lesions",
    "no gross findings", "within normal limits", "not remarkable", "no findings", "no remarkable findings", "no lesion",
    "no lesions",
)  # fmt: skip
DOMAINS = {"mi": "microscopic", "ma": "macroscopic", "cl": "clinical signs"}
_SEX = re.compile(r"^(?:females?|males?|[mf])\b[\s,:-]*|[\s,:-]+(?:females?|males?|[mf])$", re.IGNORECASE)


def arms_of(subjects: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(arms, subjects): arms by dose, controls first; subject, sex (M, F or U) and ``group``, the arm.

    Arms that differ by nothing but the sex in their name are one: "M - Vehicle" and "F - Vehicle" are Vehicle. Animals
    for recovery or toxicokinetics (columns ``recovery``, ``toxicokinetic``, else the arm's name) are arms of their own.
    ``arms`` has group (number), arm, dose, unit, kind ("" main, "R" recovery, "TK" toxicokinetics), n, males, females,
    against (the group it is compared with: the control of its kind, else of the main arms; null without any). A
    control is an arm of dose 0, or one that ``control`` says is (a placebo). Where animals change doses (``crossover``)
    arms are sequences of them, and none is compared.
    """
    has = set(subjects.columns)

    def column(name: str, kind: type[pl.DataType]) -> pl.Expr:
        return (pl.col(name) if name in has else pl.lit(None)).cast(kind).alias(name)

    def told(name: str, words: str) -> pl.Expr:
        named = pl.col("arm").cast(pl.String).str.to_lowercase().str.contains(words) if "arm" in has else pl.lit(False)
        return pl.coalesce(column(name, pl.Boolean), named, pl.lit(False))

    sex = column("sex", pl.String).str.to_uppercase().str.slice(0, 1)
    kind = pl.when(told("recovery", "recover")).then(pl.lit("R"))
    frame = subjects.select(
        pl.col("subject").cast(pl.String),
        column("arm", pl.String).fill_null("no arm given"),
        column("arm_dose", pl.Float64).alias("dose"),
        column("arm_dose_unit", pl.String).alias("unit"),
        kind.when(told("toxicokinetic", r"\btk\b|toxicokinetic"))
        .then(pl.lit("TK"))
        .otherwise(pl.lit(""))
        .alias("kind"),
        pl.when(sex.is_in(["M", "F"])).then(sex).otherwise(pl.lit("U")).alias("sex"),
        (column("arm_dose", pl.Float64).eq_missing(0) | column("control", pl.Boolean).fill_null(False)).alias(
            "control"
        ),
    )
    frame = frame.with_columns(pl.col("arm").map_elements(lambda s: _SEX.sub("", s) or s, return_dtype=pl.String))
    key = ["arm", "dose", "unit", "kind"]
    arms = frame.group_by(key, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("n"),
        *((pl.col("sex") == s).sum().cast(pl.Int64).alias(name) for s, name in (("M", "males"), ("F", "females"))),
        pl.col("control").any(),
    )
    arms = arms.sort(~pl.col("control"), "dose", "kind", nulls_last=True, maintain_order=True).with_row_index("group")
    frame = frame.join(arms.select("group", *key), on=key, how="left", nulls_equal=True, maintain_order="left")
    changing = "crossover" in has and bool(subjects["crossover"].fill_null(False).any())
    controls = [] if changing else arms.filter("control").to_dicts()
    bases = {row["kind"]: row["group"] for row in reversed(controls)}
    against = pl.Series("against", [bases.get(k, bases.get("")) for k in arms["kind"]], dtype=pl.Int64)
    return arms.drop("control").with_columns(against), frame.select("subject", "sex", "group")


def means(values: pl.DataFrame, *by: str) -> pl.DataFrame:
    """``by``, n, mean, low and high: the 95 % t interval of each group's mean (Student 1908), null of one or two.

    Of two values it would be 18 times their distance: true, and of no use beside the values themselves.
    """
    from scipy import stats

    one = pl.col("value")
    found = values.group_by(by).agg(pl.len().cast(pl.Int64).alias("n"), one.mean().alias("mean"), one.std().alias("sd"))
    n = found["n"].to_numpy()
    half = pl.Series("half", stats.t.ppf(0.975, np.maximum(n - 1, 1)) / np.sqrt(n)) * found["sd"]
    found = found.with_columns(low=pl.col("mean") - half, high=pl.col("mean") + half)
    found = found.with_columns(pl.when(pl.col("n") > 2).then(pl.col("low", "high")))
    return found.drop("sd").sort(by)


def weights(rows: pl.DataFrame) -> pl.DataFrame:
    """Body weight: group, sex, day, n, mean, low, high; days on which fewer than two are weighed are left out."""
    own = rows.filter((pl.col("endpoint") == WEIGHT) & pl.col("day").is_finite())
    return means(own, "group", "sex", "day").filter(pl.col("n") > 1)


def compared(values: pl.DataFrame, against: list[int | None]) -> pl.DataFrame:
    """Arms of one measure: sex, group, n, mean, low, high, fold (of the control's mean), p, verdict.

    ``against`` tells each arm's control. ``p`` is Dunnett's (1955, J Am Stat Assoc 50:1096) over the arms of one
    control within a sex, two-sided; null for a control, where an arm or its control has fewer than three values, and
    where the values do not spread within any arm. ``verdict``: "higher", "lower" (p < 0.05), "no difference shown",
    "all the same" or "no spread" (arms differ, but nothing says by how much they would by chance); else null.
    """
    from scipy import stats

    found = means(values, "sex", "group")
    average = {(sex, g): mean for sex, g, mean in found.select("sex", "group", "mean").iter_rows()}
    p: dict[tuple[str, int], float] = {}
    untested: dict[tuple[str, int], str] = {}
    for sex in found["sex"].unique(maintain_order=True):
        own = values.filter(pl.col("sex") == sex)
        samples = {g: own.filter(pl.col("group") == g)["value"].to_numpy() for g in own["group"].unique().sort()}
        for base in {a for a in against if a is not None and len(samples.get(a, ())) >= 3}:
            asked = [g for g in samples if against[g] == base and g != base and len(samples[g]) >= 3]
            if not asked:
                continue
            arms = [samples[g] for g in (base, *asked)]
            tiny = 1e-9 * max(np.abs(arm).max() for arm in arms)
            if max(np.ptp(arm) for arm in arms) <= tiny:
                alike = np.ptp([arm[0] for arm in arms]) <= tiny
                untested.update({(sex, g): "all the same" if alike else "no spread" for g in asked})
                continue
            rng = np.random.default_rng(0)  # its integral is drawn: the same numbers give the same p
            with warnings.catch_warnings():  # one arm all alike is no fault of the test
                warnings.filterwarnings("ignore", message="Precision loss", category=RuntimeWarning)
                test = stats.dunnett(*arms[1:], control=arms[0], rng=rng)
            p.update({(sex, g): float(v) for g, v in zip(asked, test.pvalue, strict=True)})
    key = list(found.select("sex", "group").iter_rows())
    bases = [average.get((sex, a)) if (a := against[g]) is not None else None for sex, g in key]
    fold = [average[k] / base if base is not None and base > 0 else None for k, base in zip(key, bases, strict=True)]
    frame = found.with_columns(
        pl.Series("fold", fold, dtype=pl.Float64), pl.Series("p", [p.get(k) for k in key], dtype=pl.Float64)
    )
    more = pl.Series([base is not None and average[k] > base for k, base in zip(key, bases, strict=True)])
    way = pl.when(more).then(pl.lit("higher")).otherwise(pl.lit("lower"))
    why = pl.Series([untested.get(k) for k in key], dtype=pl.String)
    verdict = pl.when(pl.col("p") < 0.05).then(way).when(pl.col("p") >= 0.05).then(pl.lit("no difference shown"))
    return frame.with_columns(verdict.otherwise(why).alias("verdict"))


def findings(
    domain: str, record: pl.DataFrame, people: pl.DataFrame, against: list[int | None]
) -> list[dict[str, Any]]:
    """Findings of one SEND domain, those most surely above their control first.

    Returns
    -------
    list of dict
        domain, organ, finding and ``cells``, one an arm: {"animals": [name], "grades": [worst grade of each, or None],
        "of": animals looked at, "by_sex": {sex: of}, "severity": mean grade or None}. An organ's animals are those with
        a record of it; where a domain writes down no normal organ of that name, every animal with any record of the
        domain counts as looked at.
    """
    from scipy import stats

    upper = domain.upper()
    names = {c.upper(): c for c in record.columns}

    def column(*wanted: str) -> pl.Expr:
        found = next((names[w] for w in wanted if w in names), None)
        return (pl.lit("") if found is None else pl.col(found).cast(pl.String).fill_null("")).alias(wanted[-1])

    rows = record.select(
        column("USUBJID", "subject"),
        column(f"{upper}SPEC", f"{upper}LOC", "organ"),
        column(f"{upper}STRESC", f"{upper}ORRES", "finding"),
        column(f"{upper}SEV", "severity").str.to_lowercase(),
        column(f"{upper}STAT", "done").str.to_uppercase(),
    )
    rows = rows.filter(pl.col("done") != "NOT DONE").join(people, on="subject", how="inner", maintain_order="left")
    plain = pl.col("finding").str.strip_chars().str.to_lowercase()
    rows = rows.with_columns(normal=plain.is_in(NORMAL) | (plain == ""))
    looked = rows.select("organ", "group", "sex", "subject").unique()
    seen = {(o, g, s): n for o, g, s, n in looked.group_by("organ", "group", "sex").len().iter_rows()}
    every = {(g, s): n for g, s, n in looked.unique(["group", "subject"]).group_by("group", "sex").len().iter_rows()}
    told = set(rows.filter(pl.col("normal"))["organ"]) - {""}
    words = pl.col("severity").replace_strict(SEVERITY, default=None, return_dtype=pl.Float64)
    grade = pl.coalesce(words, pl.col("severity").str.extract(r"^(\d)\s*of").cast(pl.Float64))
    hits = rows.filter(~pl.col("normal")).with_columns(grade=grade)
    worst = hits.group_by("organ", "finding", "group", "subject", maintain_order=True).agg(pl.col("grade").max())
    found: dict[tuple[str, str], dict[int, Any]] = {}
    for (organ, finding, group), part in worst.group_by("organ", "finding", "group", maintain_order=True):
        found.setdefault((str(organ), str(finding)), {})[int(str(group))] = part
    table: list[dict[str, Any]] = []
    for (organ, finding), by_group in found.items():
        cells = []
        for group in range(len(against)):
            hit = by_group.get(group)
            animals = [] if hit is None else hit["subject"].to_list()
            grades = [] if hit is None else hit["grade"].to_list()
            of = {s: seen.get((organ, group, s), 0) if organ in told else every.get((group, s), 0) for s in "MFU"}
            known = [grade for grade in grades if grade is not None]
            severity = sum(known) / len(known) if known else None
            cell = {"animals": animals, "grades": grades, "of": sum(of.values()), "by_sex": of, "severity": severity}
            cells.append(cell)
        table.append({"domain": domain, "organ": organ, "finding": finding, "cells": cells})

    def chance(row: dict[str, Any]) -> tuple[float, int]:
        """Smallest one-sided p of Fisher's exact test (1935) of an arm against its control; then how many in all."""
        k, n = [len(c["animals"]) for c in row["cells"]], [c["of"] for c in row["cells"]]
        arms = [(g, a) for g, a in enumerate(against) if a is not None and a != g and n[g] and n[a]]
        p = [float(stats.hypergeom.sf(k[g] - 1, n[g] + n[a], k[g] + k[a], n[g])) for g, a in arms]
        return min(p, default=1.0), -sum(k)

    return sorted(table, key=chance)
