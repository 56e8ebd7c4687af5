"""Clinical trials in CDISC's SDTM and ADaM: transport files of patients, tabulated (SDTM) and for analysis (ADaM).

Any data set but DM and ADSL, of which one is needed, may be missing. Every data set is kept as a record under its name.
Subjects are the patients of DM (those who failed screening too), with what ADSL adds. Numbers of the findings domains
become OUTCOMES (see ``_findings``), and so does every ADaM data set with PARAMCD and AVAL:

- endpoint: PARAMCD in lower case; unit: AVALU, else a unit in brackets at the end of PARAM, else "no unit"; a time to
  an event (CNSR) is in days where AVAL is ADT - STARTDT + 1 in every row;
- ``time_h``: (ADY - 1) x 24 from the first dose, ADY x 24 before it (there is no day 0);
- censored: +1 where CNSR is above 0 (the event had not happened yet);
- rows that were imputed or derived (DTYPE, such as LOCF) stay in the record only, and are noted.

The treatment of a row is what was actually given (EX up to that day, else the actual arm): the substance, with its
dose; a placebo is "control". An arm's name is kept in SUBJECTS.

Source: CDISC SDTM Implementation Guide 3.2 and ADaM Implementation Guide 1.1.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl

from workbench import tables, terms
from workbench.folders import _cdisc, _findings
from workbench.folders._cdisc import Content, Domains, Note, Unread, text
from workbench.formats import FormatError

OURS = {"ae", "cm", "mh", "qs", "adsl", "adae", "adtte", "ie", "sv"}
THEIRS = {"tx", "bw", "om", "ma", "mi", "pooldef", "bg"}
CONTROL = "control"
PLACEBO = re.compile(r"\b(placebo|vehicle|sham|pbo)\b", re.IGNORECASE)
BASELINE = ("AGE", "BMIBL", "HEIGHTBL", "WEIGHTBL", "AVGDD", "CUMDOSE", "TRTDUR", "DURDIS", "EDUCLVL", "MMSETOT")
PERIODS = dict[str, list[tuple[float, str, float | None, str]]]


def recognises(files: list[str]) -> bool:
    """Transport files of which one is a data set that only patients have."""
    stems = {PurePosixPath(f).stem.lower() for f in files if f.lower().endswith(".xpt")}
    return bool(stems & OURS) and not stems & THEIRS


def read(folder: Path, note: Note) -> Content:
    """The trial in ``folder``.

    Raises
    ------
    FormatError
        Neither DM nor ADSL can be read: no patient of the trial is known.
    """
    domains = _cdisc.load(folder, note, what="SDTM and ADaM")
    given = _given(domains)
    subjects = _subjects(domains, note)
    people = subjects["subject"].to_list()
    dm = domains.get("DM")
    first = dict(zip(text(dm, "USUBJID"), text(dm, "RFSTDTC"), strict=True)) if dm is not None else {}
    measured = _findings.read(domains, first, note, people)
    kept = ("subject", "time_h", "endpoint", "value", "unit", "censored", "source")
    parts = [measured.select(*kept, "day")]
    for name in sorted(domains.frames):
        if {"USUBJID", "PARAMCD", "AVAL"} <= set(domains.frames[name].columns):
            parts.append(_analysed(domains, name, people, note).select(*kept, "day"))
    outcomes = _treated(pl.concat(parts), subjects, given)
    return Content(
        outcomes=tables.check(outcomes, tables.OUTCOMES),
        subjects=subjects,
        treatments=_treatments(domains, outcomes),
        records=domains.records() | {"terms": _terms(domains)},
        provenance={"standard": "SDTM and ADaM", "domains": dict(sorted(domains.rows.items()))},
    )


# ---- patients


def _subjects(domains: Domains, note: Note) -> pl.DataFrame:
    dm, adsl = domains.get("DM"), domains.get("ADSL")
    main = dm if dm is not None and "USUBJID" in dm.columns else adsl
    if main is None or "USUBJID" not in main.columns or not main.height:
        raise FormatError("dm.xpt", "DM", "neither DM nor ADSL can be read: no patient of the trial is known")
    analysed: dict[str, dict[str, Any]] = {}
    if adsl is not None and "USUBJID" in adsl.columns:
        analysed = {r["USUBJID"]: r for r in adsl.iter_rows(named=True)}
        if strangers := sorted(set(analysed) - set(main["USUBJID"])):
            note(
                Unread(
                    domains.files["ADSL"], f"{len(strangers)} rows", f"patients DM does not have, first {strangers[0]}"
                )
            )
    rows = []
    for person in main.unique("USUBJID", keep="first", maintain_order=True).iter_rows(named=True):
        more = analysed.get(person["USUBJID"], {})
        sex = str(person.get("SEX") or "")
        arm = str(person.get("ARM") or more.get("ARM") or more.get("TRT01P") or "")
        actual = str(person.get("ACTARM") or more.get("TRT01A") or arm)
        rows.append(
            {
                "subject": person["USUBJID"],
                "tissue": None,
                "species": "HUMAN",
                "sex": terms.standard("sex", sex) or None,
                "sex_concept": terms.find("sex", sex).concept,
                "race": person.get("RACE") or None,
                "ethnicity": person.get("ETHNIC") or None,
                "site": person.get("SITEID") or more.get("SITEID") or None,
                "country": person.get("COUNTRY") or None,
                "arm": arm or None,
                "arm_code": person.get("ARMCD") or None,
                "actual_arm": actual or None,
                "control": bool(PLACEBO.search(actual)),
                "analysed": person["USUBJID"] in analysed if analysed else None,
                **{c.lower(): _number(person.get(c), more.get(c)) for c in BASELINE},
            }
        )
    kinds: dict[str, Any] = {
        "sex_concept": pl.Int64,
        "control": pl.Boolean,
        "analysed": pl.Boolean,
    }
    schema = dict.fromkeys(rows[0], pl.String) | kinds | {c.lower(): pl.Float64 for c in BASELINE}
    frame = pl.DataFrame(rows, schema=schema)
    empty = [c.lower() for c in BASELINE if frame[c.lower()].null_count() == frame.height]
    return tables.check(frame.drop(empty), tables.SUBJECTS)


def _number(*values: Any) -> float | None:
    return next((float(v) for v in values if isinstance(v, (int, float))), None)


# ---- treatments


def _given(domains: Domains) -> PERIODS:
    """What each patient was given from which study day on: (day, substance or "control", dose, unit), in order."""
    ex = domains.get("EX")
    found: PERIODS = {}
    if ex is None or not {"USUBJID", "EXTRT"} <= set(ex.columns):
        return found
    days, doses = (
        ex[c].cast(pl.Float64).to_list() if c in ex.columns and ex[c].dtype.is_numeric() else [None] * ex.height
        for c in ("EXSTDY", "EXDOSE")
    )
    for who, what, day, dose, unit in zip(
        text(ex, "USUBJID"), text(ex, "EXTRT"), days, doses, text(ex, "EXDOSU"), strict=True
    ):
        name = CONTROL if PLACEBO.search(what) else what
        found.setdefault(who, []).append((math.inf if day is None else day, name, dose, unit))
    return {who: sorted(doses, key=lambda g: g[0]) for who, doses in found.items()}


def _treated(numbers: pl.DataFrame, subjects: pl.DataFrame, given: PERIODS) -> pl.DataFrame:
    """OUTCOMES: what was given up to the day of the row, else what the actual arm says."""
    people = {
        r["subject"]: r for r in subjects.select("subject", "site", "actual_arm", "control").iter_rows(named=True)
    }
    rows = []
    for who, day in numbers.select("subject", "day").rows():
        person, doses = people[who], given.get(who, [])
        known = [g for g in doses if day is not None and g[0] <= day] or doses[:1]
        if known:
            # a time to an event has no day: its dose is that of the arm only if there was one alone
            alone = len({g[2] for g in doses}) == 1
            sure = alone or (day is not None and not math.isnan(day))
            rows.append((known[-1][1], known[-1][2] if sure else None, known[-1][3] or None, person["site"]))
        else:
            rows.append(
                (CONTROL if person["control"] else person["actual_arm"] or "not stated", None, None, person["site"])
            )
    schema = {"treatment": pl.String, "dose": pl.Float64, "dose_unit": pl.String, "site": pl.String}
    extra = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("site").fill_null("not stated"))
    both = pl.concat([numbers, extra], how="horizontal")
    return both.select(pl.col(name).cast(kind) for name, kind in tables.OUTCOMES.columns.items())


def _treatments(domains: Domains, outcomes: pl.DataFrame) -> pl.DataFrame:
    ex = domains.get("EX")
    route = Counter(r for r in text(ex, "EXROUTE") if r).most_common(1) if ex is not None else []
    names = set(outcomes["treatment"].unique().to_list())
    if ex is not None:
        names |= {CONTROL if PLACEBO.search(t) else t for t in text(ex, "EXTRT") if t}
    placebo = next((t for t in text(ex, "EXTRT") if PLACEBO.search(t)), None) if ex is not None else None
    shared = {"compound": None, "smiles": None, "route": terms.standard("route", route[0][0]) if route else None}
    rows = [
        {
            "treatment": n,
            "role": CONTROL if n == CONTROL else "test article",
            "source_term": placebo if n == CONTROL else n,
        }
        | shared
        for n in sorted(names)
    ]
    columns = ("treatment", "compound", "smiles", "role", "source_term", "route")
    return tables.check(pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String)), tables.TREATMENTS)


# ---- ADaM


def _analysed(domains: Domains, name: str, people: list[str], note: Note) -> pl.DataFrame:
    """The numbers of one ADaM data set with PARAMCD and AVAL."""
    frame, file = domains.frames[name], domains.files[name]
    frame = frame.filter(pl.col("AVAL").is_not_null()) if frame["AVAL"].dtype.is_numeric() else frame.clear()
    derived = text(frame, "DTYPE")
    for (kind,), part in (
        pl.DataFrame({"kind": derived}).filter(pl.col("kind") != "").group_by("kind", maintain_order=True)
    ):
        note(Unread(file, f"{part.height} rows", f"derived or imputed (DTYPE = {kind}): in record {name} only", "note"))
    frame = frame.filter(derived == "")
    strangers = frame.filter(~pl.col("USUBJID").is_in(people)).height
    if strangers:
        note(Unread(file, f"{strangers} rows", f"of patients that are in no list of patients: in record {name} only"))
        frame = frame.filter(pl.col("USUBJID").is_in(people))
    day = _findings.numbers(frame, "ADY")
    event = "CNSR" in frame.columns and frame["CNSR"].dtype.is_numeric()
    censored = (frame["CNSR"].fill_null(0) > 0).cast(pl.Int8) if event else pl.Series([0] * frame.height, dtype=pl.Int8)
    found = pl.DataFrame(
        {
            "subject": frame["USUBJID"],
            "time_h": pl.Series(
                [None if math.isnan(d) or event else _findings.day_h(d) for d in day], dtype=pl.Float64
            ),
            "endpoint": [p.lower() for p in text(frame, "PARAMCD")],
            "value": frame["AVAL"].cast(pl.Float64),
            "unit": _units(frame, name, event, note, file),
            "censored": censored,
            "day": day,
        },
        schema_overrides={"endpoint": pl.String, "unit": pl.String},
    ).with_columns(pl.lit(file).alias("source"))
    return _findings.one_unit(found.filter(pl.col("endpoint") != ""), note)


def _units(frame: pl.DataFrame, name: str, event: bool, note: Note, file: str) -> list[str]:
    if event and {"ADT", "STARTDT"} <= set(frame.columns):
        days = _findings.numbers(frame, "ADT") - _findings.numbers(frame, "STARTDT") + 1
        if frame.height and bool(np.all(days == _findings.numbers(frame, "AVAL"))):
            note(Unread(file, name, "AVAL is ADT - STARTDT + 1 in every row: its unit is the day", "note"))
            return ["day"] * frame.height
    stated = text(frame, "AVALU").to_list()
    bracket = [re.search(r"\(([^()]+)\)\s*$", p) for p in text(frame, "PARAM")]
    return [s or (b.group(1) if b else _findings.NO_UNIT) for s, b in zip(stated, bracket, strict=True)]


def _terms(domains: Domains) -> pl.DataFrame:
    frame = domains.get("DM") if "DM" in domains else domains.frames["ADSL"]
    assert frame is not None
    routes = [r for d in domains.frames.values() for c in d.columns if c.endswith("ROUTE") for r in text(d, c)]
    return terms.table({"sex": text(frame, "SEX"), "route": routes, "species": ["HUMAN"]})
