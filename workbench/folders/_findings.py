"""Numbers of the findings domains of SEND and SDTM as OUTCOMES.

Value and unit
    The standard result --STRESN in --STRESU. Within an endpoint every value is converted exactly to the unit that most
    of them have; where a unit does not convert, it gets an endpoint of its own, named with the unit. Body weights are
    in g. "<5" and ">5" in --STRESC are censored at 5; "BLQ", "BQL" and "<LLOQ" at --LLOQ.
Time
    ``time_h`` counts hours from the first dose: (study day - 1) x 24, or study day x 24 before the first dose (there is
    no day 0), from --DY, else --NOMDY, else VISITDY. A planned time after a dose, --ELTM (ISO 8601) or --TPT written as
    "0.5H" or "2 hrs postdose", is added to the day of that dose: the day of --RFTDTC where the clock times agree with
    the elapsed time, else the study day less the whole days elapsed. --TPTNUM only orders time points and is no time.
Left out, and said so
    Results that the laboratory excluded (--EXCLFL = Y) or that are derived. Results that are text stay in the records.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from workbench import units
from workbench.folders._cdisc import Domains, Note, Unread, text

DOMAINS = ("BW", "BG", "FW", "OM", "LB", "PC", "PP", "EG", "CV", "VS", "RE", "SC", "TF", "IS", "NV")
NAMES = {  # (domain, test code) -> endpoint; all else is its test code and specimen
    ("BW", "BW"): "body_weight", ("BW", "TERMBW"): "terminal_body_weight", ("BG", "BWGAIN"): "body_weight_gain",
    ("FW", "FC"): "food_consumption", ("FW", "WC"): "water_consumption", ("TF", "LATENCY"): "tumour_latency",
}  # fmt: skip
WANTED = {"body_weight": "g", "terminal_body_weight": "g", "body_weight_gain": "g"}
NO_UNIT = "no unit"
BELOW = ("BLQ", "BQL", "BLOQ", "BLLOQ", "<LLOQ", "< LLOQ", "<LOQ", "BELOW LIMIT OF QUANTIFICATION")
DURATION = re.compile(
    r"([+-]?)P(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
WORDS = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?)\s*H(?:R|RS|OUR|OURS)?)?\s*(?:(\d+(?:\.\d+)?)\s*MIN)?\s*(PRE|POST)?[- ]?(?:DOSE)?\s*"
)


@lru_cache(100_000)
def duration_h(words: str) -> float | None:
    """Hours of an ISO 8601 duration ("PT0.5H", "-PT1H45M", "P1D"), None where it is none."""
    match = DURATION.fullmatch(words.strip().upper())
    if match is None or not any(match.groups()[1:]):
        return None
    week, day, hour, minute, second = (float(g or 0) for g in match.groups()[1:])
    hours = 168 * week + 24 * day + hour + minute / 60 + second / 3600
    return -hours if match.group(1) == "-" else hours


@lru_cache(100_000)
def planned_h(words: str) -> float | None:
    """Hours of a planned time point in words ("0.5H", "1 hr 45 min predose"), None where it says none."""
    match = WORDS.fullmatch(words.upper())
    if match is None or not (match.group(1) or match.group(2)):
        return None
    hours = float(match.group(1) or 0) + float(match.group(2) or 0) / 60
    return -hours if match.group(3) == "PRE" else hours


@lru_cache(100_000)
def moment(words: str) -> datetime | None:
    """A date, with its time of day where it has one; None for a partial one."""
    try:
        return datetime.fromisoformat(words.strip()) if len(words.strip()) >= 10 else None
    except ValueError:
        return None


def day_h(day: float) -> float:
    """Hours from the first dose to the beginning of a study day; there is no day 0."""
    return (day - 1) * 24 if day >= 1 else day * 24


def _day(at: str, first: str) -> int | None:
    """Study day of a date, given that of day 1."""
    a, b = moment(at), moment(first)
    if a is None or b is None:
        return None
    days = (a.date() - b.date()).days
    return days + 1 if days >= 0 else days


def hours(frame: pl.DataFrame, domain: str, first: dict[str, str]) -> list[float | None]:
    """``time_h`` of each row; ``first`` gives the date of day 1 by animal (RFSTDTC)."""
    day = numbers(frame, f"{domain}DY")
    for other in (f"{domain}NOMDY", "VISITDY"):
        day = np.where(np.isnan(day), numbers(frame, other), day)
    columns = [text(frame, f"{domain}{c}").to_list() for c in ("ELTM", "TPT", "DTC", "RFTDTC")]
    animals = text(frame, "USUBJID").to_list()
    return [_hours(d, *words, first.get(a, "")) for d, a, *words in zip(day, animals, *columns, strict=True)]


@lru_cache(200_000)
def _hours(day: float, elapsed: str, planned: str, at: str, reference: str, first: str) -> float | None:
    after = duration_h(elapsed) if elapsed else planned_h(planned) if planned else None
    if after is None:
        return None if math.isnan(day) else day_h(day)
    a, b = moment(at), moment(reference)
    if a and b and (a.tzinfo is None) == (b.tzinfo is None) and len(reference) > 10:
        passed = (a - b).total_seconds() / 3600
        dosed = _day(reference, first) if abs(passed - after) < 6 else None
        if dosed is not None:
            return day_h(dosed) + after
    if math.isnan(day):
        return None
    return day_h(day - math.floor(after / 24) if after > 0 else day) + after


def numbers(frame: pl.DataFrame, column: str) -> np.ndarray:
    if column not in frame.columns or not frame[column].dtype.is_numeric():
        return np.full(frame.height, np.nan)
    return frame[column].cast(pl.Float64).fill_null(math.nan).to_numpy()


def read(domains: Domains, first: dict[str, str], note: Note, known: list[str]) -> pl.DataFrame:
    """Every number: subject, time_h, endpoint, value, unit, censored, source, domain, test, specimen, row.

    Parameters
    ----------
    first : date of study day 1 by animal
    known : the animals; results of any other are noted and stay in the records
    """
    parts = [_domain(domains, name, first, note) for name in DOMAINS if name in domains]
    schema = {"subject": pl.String, "time_h": pl.Float64, "endpoint": pl.String, "value": pl.Float64}
    schema |= {"unit": pl.String, "censored": pl.Int8, "source": pl.String, "domain": pl.String, "test": pl.String}
    schema |= {"specimen": pl.String, "category": pl.String, "day": pl.Float64, "reference": pl.String}
    if not parts:
        return pl.DataFrame(schema=schema)
    found = pl.concat([p.select(list(schema)) for p in parts]).cast(schema)  # type: ignore[arg-type]
    found = _shared(found, domains, note)
    strangers = found.filter(~pl.col("subject").is_in(known))
    for (source,), rows in strangers.group_by("source", maintain_order=True):
        who = ", ".join(rows["subject"].unique().sort().head(3).to_list())
        note(
            Unread(str(source), f"{rows.height} rows", f"of animals that DM does not have ({who}): in the records only")
        )
    return one_unit(found.filter(pl.col("subject").is_in(known)), note)


def _domain(domains: Domains, name: str, first: dict[str, str], note: Note) -> pl.DataFrame:
    frame, file = domains.frames[name], domains.files[name]
    value = numbers(frame, f"{name}STRESN").copy()
    if name == "TF" and "TFDETECT" in frame.columns:
        return _latency(frame, file)
    result = [r.upper() for r in text(frame, f"{name}STRESC").to_list()]
    limit = numbers(frame, f"{name}LLOQ")
    censored = np.zeros(frame.height, np.int8)
    nowhere = 0
    for row in np.flatnonzero(np.isnan(value)):
        sign = re.fullmatch(r"([<>])=?\s*(\d+(?:\.\d+)?(?:E[+-]?\d+)?)", result[row])
        if sign:
            value[row], censored[row] = float(sign.group(2)), -1 if sign.group(1) == "<" else 1
        elif result[row] in BELOW:
            value[row], censored[row] = limit[row], -1
            nowhere += bool(math.isnan(limit[row]))
    if nowhere:
        note(Unread(file, f"{nowhere} rows", f"below the limit of quantification, and {name}LLOQ does not state it"))
    test, specimen = text(frame, f"{name}TESTCD"), text(frame, f"{name}SPEC")
    unit = text(frame, f"{name}STRESU")
    owner = text(frame, "USUBJID")
    if "POOLID" in frame.columns:
        pool = text(frame, "POOLID")
        owner = pl.Series([o or (f"pool {p}" if p else "") for o, p in zip(owner, pool, strict=True)], dtype=pl.String)
    found = pl.DataFrame(
        {
            "subject": owner,
            "time_h": pl.Series(hours(frame, name, first), dtype=pl.Float64),
            "value": value,
            "unit": unit,
            "censored": censored,
            "test": test,
            "specimen": specimen,
            "category": text(frame, f"{name}CAT"),
            "day": numbers(frame, f"{name}DY"),
            "reference": text(frame, f"{name}RFTDTC"),
            "out": text(frame, f"{name}EXCLFL"),
        }
    ).with_columns(pl.lit(file).alias("source"), pl.lit(name).alias("domain"))
    numbered = found.filter(pl.col("value").is_finite() & (pl.col("test") != "") & (pl.col("subject") != ""))
    if excluded := numbered.filter(pl.col("out") == "Y").height:
        note(
            Unread(
                file,
                f"{excluded} rows",
                f"excluded by the laboratory ({name}EXCLFL = Y): in record {name} only",
                "note",
            )
        )
    numbered = numbered.filter(pl.col("out") != "Y").with_columns(_limits_unit(numbered.filter(pl.col("out") != "Y")))
    several = numbered.filter(pl.col("domain") == "PC")["test"].n_unique() > 1
    names = {(t, s): _endpoint(name, t, s, several) for t, s in numbered.select("test", "specimen").unique().rows()}
    keys = zip(numbered["test"], numbered["specimen"], strict=True)
    return numbered.with_columns(pl.Series("endpoint", [names[k] for k in keys], dtype=pl.String))


def _limits_unit(numbered: pl.DataFrame) -> pl.Series:
    """Censored results often have no unit of their own: they get that of the other results of their test."""
    usual: dict[tuple[str, str], str] = {}
    for (test, specimen), part in numbered.filter(pl.col("unit") != "").group_by("test", "specimen"):
        usual[str(test), str(specimen)] = Counter(part["unit"].to_list()).most_common(1)[0][0]
    rows = zip(numbered["test"], numbered["specimen"], numbered["unit"], numbered["censored"], strict=True)
    return pl.Series(
        "unit", [u or (usual.get((t, s), "") if c else "") or NO_UNIT for t, s, u, c in rows], dtype=pl.String
    )


def _endpoint(domain: str, test: str, specimen: str, several: bool) -> str:
    if domain == "PC":
        matrix = specimen.lower() or "specimen not stated"
        return f"concentration {matrix} {test}" if several else f"concentration {matrix}"
    return NAMES.get((domain, test)) or (f"{test} {specimen.lower()}" if specimen else test)


def _latency(frame: pl.DataFrame, file: str) -> pl.DataFrame:
    """TFDETECT: study day on which a tumour was detected."""
    value = numbers(frame, "TFDETECT")
    constants = {
        "endpoint": "tumour_latency",
        "unit": "day",
        "source": file,
        "domain": "TF",
        "category": "",
        "reference": "",
    }
    found = pl.DataFrame(
        {
            "subject": text(frame, "USUBJID"),
            "value": value,
            "time_h": pl.Series([None if math.isnan(v) else day_h(v) for v in value], dtype=pl.Float64),
            "test": text(frame, "TFTESTCD"),
            "specimen": text(frame, "TFSPEC"),
            "day": value,
        }
    )
    found = found.with_columns(
        *(pl.lit(v).alias(k) for k, v in constants.items()), pl.lit(0, pl.Int8).alias("censored")
    )
    return found.filter(pl.col("value").is_finite())


def _shared(found: pl.DataFrame, domains: Domains, note: Note) -> pl.DataFrame:
    """Results of a pool of animals, one row for each of them, in endpoints named "... of the pool"."""
    pooled = found.filter(pl.col("subject").str.starts_with("pool "))
    if not pooled.height:
        return found
    rest = found.filter(~pl.col("subject").str.starts_with("pool "))
    members = domains.get("POOLDEF")
    for (source,), rows in pooled.group_by("source", maintain_order=True):
        if members is None or not {"POOLID", "USUBJID"} <= set(members.columns):
            note(
                Unread(
                    str(source),
                    f"{rows.height} rows",
                    "of pools of animals, and POOLDEF does not say which: records only",
                )
            )
    if members is None or not {"POOLID", "USUBJID"} <= set(members.columns):
        return rest
    who = members.select((pl.lit("pool ") + pl.col("POOLID")).alias("subject"), pl.col("USUBJID").alias("#member"))
    each = pooled.join(who, on="subject", how="inner", maintain_order="left")
    for (source,), rows in pooled.group_by("source", maintain_order=True):
        lost = rows.filter(~pl.col("subject").is_in(who["subject"].implode())).height
        said = (
            f"measured on pools: each value stands once for every animal of its pool ({lost} of unknown pools left out)"
        )
        note(Unread(str(source), f"{rows.height} rows", said, "note"))
    each = each.with_columns(pl.col("#member").alias("subject"), pl.col("endpoint") + " of the pool").drop("#member")
    return pl.concat([rest, each])


def one_unit(found: pl.DataFrame, note: Note) -> pl.DataFrame:
    """One unit an endpoint: exactly converted where both are known, else an endpoint of its own."""
    changes: list[dict[str, Any]] = []
    for (endpoint,), part in found.group_by("endpoint", maintain_order=True):
        name = str(endpoint)
        counts = Counter(part["unit"].to_list())
        wanted = WANTED.get(name, counts.most_common(1)[0][0])
        for given in sorted(counts):
            if given == wanted:
                continue
            try:
                factor = units.factor(given, wanted)
                n, d, new, unit = float(factor.numerator), float(factor.denominator), name, wanted
                said = f"{counts[given]} values converted exactly from {given} to {wanted}"
            except units.UnitError:
                if name in WANTED and len(counts) == 1:
                    continue
                n, d, new, unit = 1.0, 1.0, f"{name} [{given}]", given
                said = f"{counts[given]} values in {given} do not convert to {wanted}: endpoint {new!r}"
            note(Unread(part["source"][0], f"endpoint {name!r}", said, "note"))
            changes.append({"endpoint": name, "unit": given, "#n": n, "#d": d, "#new": new, "#unit": unit})
    if not changes:
        return found
    joined = found.join(pl.DataFrame(changes), on=["endpoint", "unit"], how="left", maintain_order="left")
    return joined.with_columns(
        (pl.col("value") * pl.col("#n").fill_null(1.0) / pl.col("#d").fill_null(1.0)).alias("value"),
        pl.coalesce("#new", "endpoint").alias("endpoint"),
        pl.coalesce("#unit", "unit").alias("unit"),
    ).drop("#n", "#d", "#new", "#unit")
