"""What SEND, SDTM and ADaM folders share: transport files read in the cage, qualifiers merged, define.xml compared.

A domain is a data set: its name is that of its file, or of the data sets in it where there are several. Split domains
(``lbch.xpt``, ``lbhe.xpt`` with DOMAIN = LB) become one. Supplemental qualifiers (SUPPMI ...) become columns of
their parent, found by RDOMAIN, USUBJID or POOLID, IDVAR and IDVARVAL (SDTM Implementation Guide, section 8.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from workbench import caged
from workbench.folders import Content, Unread, listing, steps
from workbench.formats import FormatError

Note = Callable[[Unread], None]
LARGE = 2**30  # bytes of one file
PACE = 5e6  # bytes a second that any machine reads; a file is given that long, and ten seconds
COLUMNS = ("member", "column", "label", "format", "kind", "width")
__all__ = ["Content", "Domains", "Note", "Unread", "load", "text"]


@dataclass
class Domains:
    """Domains of a folder by upper-case name, and what is known of their columns."""

    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # domain -> the file it came from
    columns: list[pl.DataFrame] = field(default_factory=list)
    definition: dict[str, Any] | None = None
    rows: dict[str, int] = field(default_factory=dict)  # as read, per domain

    def __contains__(self, name: str) -> bool:
        return name in self.frames

    def get(self, name: str) -> pl.DataFrame | None:
        """Domain ``name``, None where it is missing."""
        return self.frames.get(name)

    def records(self) -> dict[str, pl.DataFrame]:
        """Every domain, and ``columns``: label, format and width of each column as the files give them."""
        found = dict(sorted(self.frames.items()))
        if self.columns:
            found["columns"] = pl.concat(self.columns)
        if self.definition is not None:
            found["define"] = _defined(self.definition)
        return found


def load(folder: Path, note: Note, *, what: str) -> Domains:
    """Every transport file of ``folder``, merged; whatever cannot be read is noted and left out."""
    domains = Domains()
    files = listing(folder)
    transports = [f for f in files if f.lower().endswith(".xpt")]
    plain_first = sorted(transports, key=lambda f: (len(Path(f).stem), f.count("/"), f))  # "lb" before "lb (copy)"
    for name in steps(plain_first, f"reading {what}"):
        _one(folder, name, domains, note)
    for name in files:
        if name.lower().endswith("define.xml"):
            _definition(folder, name, domains, note)
        elif name not in transports:
            note(Unread(name, "file", "expected transport files (.xpt) and define.xml; nothing of it was read"))
    domains.rows = {name: frame.height for name, frame in domains.frames.items()}
    if domains.definition is not None:
        _compare(domains, note)
    _merge_all(domains, note)
    return domains


def text(frame: pl.DataFrame, column: str) -> pl.Series:
    """Text of ``column``, trimmed; empty where blank, and all empty where the column is missing or no text."""
    if column not in frame.columns or frame[column].dtype != pl.String:
        return pl.Series(column, [""] * frame.height, dtype=pl.String)
    return frame[column].fill_null("").str.strip_chars()


def content(folder: Path, name: str) -> bytes:
    """The bytes of a file of the folder.

    Raises
    ------
    FormatError
        It is too large, or cannot be read.
    """
    path = folder / name
    try:
        if (size := path.stat().st_size) > LARGE:
            raise FormatError(name, "file", f"expected at most {LARGE:,} bytes, found {size:,}")
        return path.read_bytes()
    except OSError as error:
        raise FormatError(name, "file", f"cannot be read: {error.strerror or error}") from None


def _one(folder: Path, name: str, domains: Domains, note: Note) -> None:
    try:
        data = content(folder, name)
        seconds = 10 + len(data) / PACE
        got = caged.read("xpt", data, name, memory=max(2**30, 8 * len(data)), seconds=seconds)
    except FormatError as error:
        note(Unread(name, error.place, error.reason))
        return
    stem = Path(name).stem.upper()
    domains.columns.append(got["columns"])
    for member, frame in got["members"].items():
        upper = {c: c.upper() for c in frame.columns}
        frame = frame.rename(upper) if len(set(upper.values())) == len(upper) else frame
        given = stem if len(got["members"]) == 1 else member.upper()
        domain = _name(frame, given)
        if not re.fullmatch(r"[A-Z0-9_]+", domain):
            note(Unread(name, repr(member), "expected the name of a data set in letters and digits: left out"))
        elif domain not in domains.frames:
            domains.frames[domain], domains.files[domain] = frame, name
        elif given == domain or _repeats(domains.frames[domain], frame, domain):
            first = domains.files[domain]
            note(Unread(name, domain, f"{first} already gave these rows of {domain}; this one was left out"))
        else:
            domains.frames[domain] = pl.concat([domains.frames[domain], frame], how="diagonal_relaxed")


def _name(frame: pl.DataFrame, given: str) -> str:
    """``given``, or the domain that its rows state where the file is a part or a copy of it (LBCH, "LB (2)" of LB)."""
    for column, prefix in (("DOMAIN", ""), ("RDOMAIN", "SUPP")):
        if column in frame.columns and frame.height and frame[column].dtype == pl.String:
            stated = [str(v).strip().upper() for v in frame[column].unique().to_list() if v]
            if len(stated) == 1 and given.startswith(prefix + stated[0]):
                return prefix + stated[0]
    return given


def _repeats(frame: pl.DataFrame, other: pl.DataFrame, domain: str) -> bool:
    """Does ``other`` have rows that are in ``frame`` already, by animal and --SEQ, or as a whole without these?"""
    key = [c for c in ("USUBJID", "POOLID", f"{domain}SEQ") if c in frame.columns and c in other.columns]
    if f"{domain}SEQ" not in key:
        key = [c for c in frame.columns if c in other.columns and frame.schema[c] == other.schema[c]]
    if not key or any(frame.schema[c] != other.schema[c] for c in key):
        return False
    return frame.join(other, on=key, how="semi", nulls_equal=True).height > 0


# ---- supplemental qualifiers


def _merge_all(domains: Domains, note: Note) -> None:
    for name in sorted(n for n in domains.frames if n.startswith("SUPP") and len(n) > 4):
        parent, supp = name[4:], domains.frames[name]
        file = domains.files[name]
        missing = [c for c in ("USUBJID", "IDVAR", "IDVARVAL", "QNAM", "QVAL") if c not in supp.columns]
        if parent not in domains.frames:
            note(Unread(file, name, f"its parent {parent} is missing: {supp.height} qualifiers stand in {name} alone"))
        elif missing:
            note(Unread(file, name, f"columns {', '.join(missing)} are missing: nothing was merged into {parent}"))
        else:
            domains.frames[parent] = _merged(domains.frames[parent], supp, parent, name, file, note)


def _merged(frame: pl.DataFrame, supp: pl.DataFrame, parent: str, name: str, file: str, note: Note) -> pl.DataFrame:
    """``frame`` with a column for every QNAM; several values for one row are joined by "; "."""
    left = frame.with_row_index("#row")
    found: list[pl.DataFrame] = []
    rows = supp.with_row_index("#supp").with_columns(
        pl.col("IDVAR").str.strip_chars().str.to_uppercase(), pl.col("IDVARVAL").str.strip_chars()
    )
    owner = "USUBJID"
    if "POOLID" in supp.columns and "POOLID" in frame.columns:
        owner = "#owner"
        who = pl.when(pl.col("USUBJID") != "").then(pl.col("USUBJID")).otherwise(pl.lit("pool ") + pl.col("POOLID"))
        left, rows = left.with_columns(who.alias(owner)), rows.with_columns(who.alias(owner))
    if owner not in left.columns:
        note(Unread(file, name, f"{parent} has no column USUBJID: nothing was merged"))
        return frame
    for (variable,), part in rows.group_by("IDVAR", maintain_order=True):
        variable = str(variable)
        if not variable:
            found.append(part.join(left.select("#row", owner), on=owner))
        elif variable in frame.columns:
            keys = left.select("#row", owner, _key(left[variable]).alias("#key"))
            part = part.with_columns(_key(part["IDVARVAL"], left[variable].dtype.is_numeric()).alias("#key"))
            found.append(part.join(keys, on=[owner, "#key"]).drop("#key"))
    matched = (
        pl.concat(found, how="diagonal") if found else rows.clear().with_columns(pl.lit(0, pl.UInt32).alias("#row"))
    )
    lost = rows.filter(~pl.col("#supp").is_in(matched["#supp"].implode()))
    for row in lost.head(20).iter_rows(named=True):
        place = f"{name} row {row['#supp'] + 1}"
        what = f"{row['QNAM']} of {row['USUBJID']}, {row['IDVAR']} {row['IDVARVAL']}"
        note(Unread(file, place, f"{what} has no row in {parent}; it stands in {name} alone"))
    if lost.height > 20:
        note(Unread(file, name, f"{lost.height - 20} more rows without a parent in {parent}"))
    for (qualifier,), part in matched.group_by("QNAM", maintain_order=True):
        column = str(qualifier).strip().upper() or "QNAM"
        while column in frame.columns:
            column += f" ({name})"
        values = part.group_by("#row").agg(pl.col("QVAL").str.join("; ").alias(column))
        joined = left.select("#row").join(values, on="#row", how="left", maintain_order="left")
        frame = frame.with_columns(joined[column].fill_null(""))
    return frame


def _key(values: pl.Series, number: bool | None = None) -> pl.Series:
    """Values to be compared: numbers as numbers ("3" is 3.0), text as text."""
    if values.dtype.is_numeric():
        return values.cast(pl.Float64)
    return values.cast(pl.Float64, strict=False) if number else values.str.strip_chars()


# ---- define.xml


def _definition(folder: Path, name: str, domains: Domains, note: Note) -> None:
    if domains.definition is not None:
        note(Unread(name, "file", "a second define.xml; only the first was compared"))
        return
    try:
        domains.definition = caged.read("define_xml", content(folder, name), name)
    except FormatError as error:
        note(Unread(name, error.place, error.reason))


def _defined(definition: dict[str, Any]) -> pl.DataFrame:
    columns = {"dataset": pl.String, "name": pl.String, "label": pl.String, "type": pl.String, "length": pl.Int64}
    columns |= {"origin": pl.String, "codelist": pl.String, "mandatory": pl.Boolean}
    rows = [
        (name, *(variable[c] for c in list(columns)[1:]))
        for name, dataset in definition["datasets"].items()
        for variable in dataset["variables"]
    ]
    return pl.DataFrame(rows, schema=columns, orient="row")


def _compare(domains: Domains, note: Note) -> None:
    """Note where the files and define.xml disagree."""
    assert domains.definition is not None
    defined = {name.upper(): dataset for name, dataset in domains.definition["datasets"].items()}
    for name in sorted(set(defined) - set(domains.frames)):
        note(Unread(defined[name]["file"] or f"{name.lower()}.xpt", name, "define.xml announces it; it was not read"))
    for name in sorted(set(domains.frames) - set(defined)):
        note(Unread(domains.files[name], name, "is not in define.xml", "note"))
    for name in sorted(set(defined) & set(domains.frames)):
        frame = domains.frames[name]
        variables = {v["name"].upper(): v for v in defined[name]["variables"]}
        for what, which in (
            ("define.xml lists columns that the file lacks", [v for v in variables if v not in frame.columns]),
            ("the file has columns that define.xml lacks", [c for c in frame.columns if c not in variables]),
            ("define.xml calls numbers what the file holds as text", _mistaken(frame, variables)),
        ):
            if which:
                note(Unread(domains.files[name], name, f"{what}: {', '.join(which)}", "note"))


def _mistaken(frame: pl.DataFrame, variables: dict[str, Any]) -> list[str]:
    numbers = ("integer", "float")
    return [
        c for c in frame.columns if c in variables and variables[c]["type"] in numbers and frame[c].dtype == pl.String
    ]
