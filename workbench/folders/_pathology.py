"""Findings of pathology and clinical chemistry of each animal as two modalities.

``pathology``: one row an animal, one column "SPECIMEN | FINDING" (macroscopic ones "SPECIMEN | FINDING (gross)").
    X is the severity grade, 0 none, 1 MINIMAL, 2 MILD, 3 MODERATE, 4 MARKED, 5 SEVERE; NaN where that specimen of that
    animal was not examined. A finding that was recorded without a grade counts as 1, and layer ``graded`` says so (0).
    An animal whose every tissue was looked at and normal (specimen ALL TISSUES) counts as examined everywhere.
``clinical_chemistry``: one row an animal, one column a laboratory test, the last result of each (terminal, as a rule);
    NaN where there is none; unit, category and name of the test in ``var``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench import terms
from workbench.folders._cdisc import Domains, Note, Unread, text

if TYPE_CHECKING:
    from anndata import AnnData

GRADES = "severity grade (0 none - 5 severe)"
ALL = "ALL TISSUES"


def pathology(domains: Domains, animals: list[str], note: Note) -> AnnData | None:
    """Findings of MI and MA of the ``animals``; None where there are none."""
    parts = [_examined(domains, name, note) for name in ("MI", "MA") if name in domains]
    rows = pl.concat(parts).filter(pl.col("animal").is_in(animals)) if parts else None
    if rows is None or not rows.height:
        return None
    found = rows.filter(pl.col("column") != "")
    columns = (
        found.select("column", "domain", "specimen", "finding")
        .unique()
        .sort("domain", "column", descending=[True, False])
    )
    at = {name: i for i, name in enumerate(columns["column"])}
    who = [a for a in animals if a in set(rows["animal"])]
    place = {name: i for i, name in enumerate(who)}
    values = np.full((len(who), len(at)), np.nan, np.float32)
    graded = np.full(values.shape, np.nan, np.float32)
    by_specimen: dict[tuple[str, str], list[int]] = {}
    for column, domain, specimen, _ in columns.rows():
        by_specimen.setdefault((domain, specimen), []).append(at[column])
        by_specimen.setdefault((domain, ALL), []).append(at[column])
    for animal, domain, specimen in rows.select("animal", "domain", "specimen").unique().rows():
        values[place[animal], by_specimen.get((domain, specimen), [])] = 0
    for animal, column, grade in found.select("animal", "column", "grade").rows():
        i, j = place[animal], at[column]
        values[i, j] = max(values[i, j], grade or 1)
        graded[i, j] = max(np.nan_to_num(graded[i, j]), float(grade is not None))
    data = _anndata(values, who, columns["column"].to_list(), GRADES)
    for name in ("domain", "specimen", "finding"):
        data.var[name] = columns[name].to_list()
    data.layers["graded"] = graded
    return data


def _examined(domains: Domains, name: str, note: Note) -> pl.DataFrame:
    """animal, domain, specimen, finding, column ("" where nothing was found), grade; one row a result."""
    frame, file = domains.frames[name], domains.files[name]
    severity = text(frame, f"{name}SEV")
    rows = pl.DataFrame(
        {
            "animal": text(frame, "USUBJID"),
            "specimen": [terms.standard("specimen", s) for s in text(frame, f"{name}SPEC")],
            "result": text(frame, f"{name}STRESC"),
            "status": text(frame, f"{name}STAT"),
            "severity": severity,
            "grade": pl.Series([terms.grade(s) if s else None for s in severity], dtype=pl.Int64),
        },
        schema_overrides={"specimen": pl.String},
    ).with_columns(pl.lit(name).alias("domain"))
    ungraded = rows.filter((pl.col("severity") != "") & pl.col("grade").is_null())
    for (word,), part in ungraded.group_by("severity", maintain_order=True):
        note(
            Unread(
                file,
                f"{name}SEV",
                f"{word!r} ({part.height} rows) is no grade of the five-grade scale: ungraded",
                "note",
            )
        )
    rows = rows.filter((pl.col("status") != "NOT DONE") & (pl.col("result") != "") & (pl.col("specimen") != ""))
    finding = ["" if terms.is_normal(r) else r.upper() for r in rows["result"]]
    suffix = " (gross)" if name == "MA" else ""
    columns = [f"{s} | {f}{suffix}" if f else "" for s, f in zip(rows["specimen"], finding, strict=True)]
    named = rows.with_columns(
        pl.Series("finding", finding, dtype=pl.String), pl.Series("column", columns, dtype=pl.String)
    )
    return named.select("animal", "domain", "specimen", "finding", "column", "grade")


def clinical_chemistry(numbers: pl.DataFrame, domains: Domains, animals: list[str]) -> AnnData | None:
    """Last laboratory result of every test and animal, of ``_findings.read``; None where there is none."""
    rows = numbers.filter((pl.col("domain") == "LB") & pl.col("subject").is_in(animals))
    if not rows.height:
        return None
    ordered = rows.with_columns(pl.col("time_h").fill_null(-np.inf)).sort("time_h", maintain_order=True)
    last = ordered.group_by("subject", "endpoint", maintain_order=True).agg(
        pl.col("value").last(), pl.col("time_h").last(), pl.col("censored").last()
    )
    facts = (
        rows.group_by("endpoint")
        .agg(pl.col("unit", "test", "specimen", "category").first())
        .sort("category", "endpoint")
    )
    who = [a for a in animals if a in set(last["subject"])]
    place = {name: i for i, name in enumerate(who)}
    at = {name: i for i, name in enumerate(facts["endpoint"])}
    values = np.full((len(who), len(at)), np.nan, np.float32)
    time, censored = values.copy(), np.zeros(values.shape, np.float32)
    for animal, endpoint, value, when, side in last.rows():
        cell = place[animal], at[endpoint]
        values[cell], time[cell], censored[cell] = value, when if np.isfinite(when) else np.nan, side
    data = _anndata(values, who, facts["endpoint"].to_list(), "as in var['unit']")
    lab = domains.frames["LB"]
    names = dict(zip(text(lab, "LBTESTCD"), text(lab, "LBTEST"), strict=True))
    data.var["unit"] = facts["unit"].to_list()
    data.var["category"] = facts["category"].to_list()
    data.var["specimen"] = facts["specimen"].to_list()
    data.var["test"] = [names.get(t, t) for t in facts["test"]]
    data.layers["time_h"], data.layers["censored"] = time, censored
    return data


def _anndata(values: np.ndarray, rows: list[str], columns: list[str], unit: str) -> Any:
    import pandas as pd
    from anndata import AnnData

    index, features = pd.Index(rows, dtype=object), pd.Index(columns, dtype=object)
    data = AnnData(values, obs=pd.DataFrame(index=index), var=pd.DataFrame(index=features))
    data.uns = {"axis": "subject", "unit": unit}
    return data
