"""Concentration-time series: one row a sample with its subject or series, time, concentration, dose, route, species.

Units come from a column of units beside the numbers (CvTdb: Sayre et al. 2020, Scientific Data 7:122) or from the
column's own name. Concentrations are converted exactly to ng/mL; what no exact factor converts (ng/g without a density,
nmol/mL without a molar mass) is left out and listed. A value below the limit of quantification is left-censored at it.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from workbench import units
from workbench.folders import Content, _foreign
from workbench.folders._foreign import Note, Unread
from workbench.formats import FormatError

UNIT = "ng/mL"
SERIES = ("fk_series_id", "series_id", "series", "subject", "usubjid", "animal", "animal_id", "id", "subject_id")
COMPOUND = ("analyte_name_original", "compound", "analyte", "drug", "treatment", "substance", "chemical")
ROLES = {
    "time": ("time_original", "time", "t"),
    "concentration": ("conc_original", "concentration", "conc", "dv"),
    "dose": ("dose_level_original", "dose_level", "dose", "amt"),
    "loq": ("loq", "lloq", "loq_original"),
}
UNITS = {
    "time": ("time_units_original", "time_unit", "time_units"),
    "concentration": ("conc_units_original", "conc_unit", "conc_units", "concentration_unit", "concentration_units"),
    "dose": ("dose_level_units_original", "dose_unit", "dose_units"),
    "loq": ("loq_units", "lloq_units", "loq_unit", "lloq_unit"),
}
FACTS = {
    "species": ("species",),
    "strain": ("strain",),
    "sex": ("sex",),
    "route": ("administration_route_normalized", "route"),
    "matrix": ("conc_medium_normalized", "matrix", "medium", "specimen"),
    "weight_kg": ("weight_kg", "body_weight_kg"),
    "animal": ("fk_subject_id",),
    "study": ("fk_study_id", "study", "studyid"),
}
BELOW = r"^<\s*([\d.eE+-]+)$"
UNQUANTIFIED = ("bloq", "blq", "bql", "lloq", "<lloq", "< lloq", "nd", "not detected")
PER_BODY = re.compile(r"([a-zµμ]?g) per ([\d.]+) g \w* ?body weight", re.I)  # "ug per 250 g rat body weight"
CURATED_LOQ = ("invivPK_loq", "ivivPK_loq_units")
WORDS = {"conc", "concentration", "concentrations", "pk", "cvtdb", "toxicokinetics", "pharmacokinetics"}
OF_TIME = {"time", "series", "pk", "cvtdb", "profile", "profiles"}


def recognises(files: list[str]) -> bool:
    """A text table whose name says concentration and time."""
    return any(_is_series(f) for f in files)


def _is_series(name: str) -> bool:
    spoken = set(_foreign.words(name))
    return (
        _foreign.is_text(name)
        and bool(spoken & WORDS)
        and bool(spoken & OF_TIME)
        and not spoken & {"data", "params", "summary"}
    )


def read(
    folder: Path,
    note: Note,
    *,
    concentration_unit: str | None = None,
    time_unit: str | None = None,
    dose_unit: str | None = None,
    matrix: str | None = None,
) -> Content:
    """Endpoints "concentration <matrix>" in ng/mL by hours; a subject is a series (one animal, or a mean of several).

    Parameters
    ----------
    concentration_unit, time_unit, dose_unit, matrix : stated where the files declare none

    Raises
    ------
    FormatError
        No table can be read, or a unit is neither declared nor stated.
    """
    files = _foreign.listing(folder)
    heads = [f for f in files if _is_series(f)] or [f for f in files if _foreign.is_text(f)]
    _foreign.leftover(files, heads, note)
    stated = {"concentration": concentration_unit, "time": time_unit, "dose": dose_unit, "loq": concentration_unit}
    parts = {}
    records = {}
    for name in heads:
        table = _foreign.read_table(folder, name, note)
        if table is not None:
            parts[name] = _samples(table, name, note, stated, matrix)
            records[Path(name).stem] = table
    if not parts:
        raise FormatError(folder.name, "concentration tables", "not one can be read")
    samples = pl.concat([p.with_columns(pl.lit(n).alias("source")) for n, p in parts.items()], how="diagonal")
    facts = [f for f in FACTS if f in samples.columns]
    subjects = samples.group_by("subject", maintain_order=True).agg(
        *(pl.col(f).drop_nulls().unique() for f in facts), pl.col("treatment").n_unique().alias("analytes")
    )
    for fact in facts:
        several = subjects.filter(pl.col(fact).list.len() > 1)
        if several.height and fact != "matrix":
            note(
                Unread(
                    "subjects",
                    several["subject"][0],
                    f"{several.height} series have several values of {fact}: the first one counts",
                )
            )
    subjects = subjects.with_columns(pl.col(f).list.first() for f in facts).drop("analytes")
    outcomes = _foreign.outcomes(
        samples.with_columns(("concentration " + pl.col("matrix")).alias("endpoint")), unit=UNIT
    )
    return Content(
        outcomes=outcomes,
        subjects=_foreign.subjects(subjects.drop("matrix")),
        treatments=_foreign.treatments(outcomes["treatment"].to_list()),
        records=records,
        provenance={
            "source": "concentrations",
            "stated": stated | {"matrix": matrix},
            "below_quantification": int((outcomes["censored"] == -1).sum()),
            "rule": "a sample below the limit of quantification is left-censored at that limit",
        },
    )


def _samples(
    table: pl.DataFrame, file: str, note: Note, stated: dict[str, str | None], matrix: str | None
) -> pl.DataFrame:
    """subject, treatment, time_h, value (ng/mL), censored, dose, dose_unit and facts, one row a sample."""
    columns = {role: _foreign.column(table, names) for role, names in ROLES.items()}
    series, compound = _foreign.column(table, SERIES), _foreign.column(table, COMPOUND)
    lacking = [r for r in ("time", "concentration") if columns[r] is None] + [
        w for w, c in (("subject or series", series), ("compound", compound)) if c is None
    ]
    if lacking:
        raise FormatError(file, "header", f"no column for {lacking}; found {table.columns[:40]}")
    given = {
        role: _units(table, column, role, file, stated[role]) for role, column in columns.items() if column is not None
    }
    curated = _foreign.column(table, CURATED_LOQ[:1]), _foreign.column(table, CURATED_LOQ[1:])
    if all(curated):  # CvTdb's own limits mostly lack a unit; its curated ones never do
        columns["loq"], given["loq"] = curated[0], table[str(curated[1])]
    loq = _converted(table, columns["loq"], given.get("loq"), UNIT, file, None)
    if columns["loq"] and (bare := int((table[columns["loq"]].is_not_null() & loq.is_null()).sum())):
        note(Unread(file, f"column {columns['loq']!r}, {bare} rows", "a limit in no unit that converts: not used"))
    text = table[str(columns["concentration"])].cast(pl.String).str.strip_chars()
    marked = text.str.extract(BELOW, 1)
    blq = text.str.to_lowercase().is_in(UNQUANTIFIED).fill_null(False)
    plain = table.with_columns(
        pl.when(blq)
        .then(None)
        .when(marked.is_not_null())
        .then(marked)
        .otherwise(text)
        .alias(str(columns["concentration"]))
    )
    value = _converted(plain, columns["concentration"], given["concentration"], UNIT, file, note)
    hours = _converted(table, columns["time"], given["time"], "h", file, note)
    dose, dose_unit = _dose(table, columns["dose"], given.get("dose"), file, note)
    below = blq | marked.is_not_null().fill_null(False) | (value < loq).fill_null(False)
    quantified = pl.select(pl.when(marked.is_not_null()).then(value).when(below).then(loq).otherwise(value)).to_series()
    out = {
        "subject": table[str(series)].cast(pl.String),
        "treatment": table[str(compound)].cast(pl.String),
        "time_h": hours,
        "value": quantified,
        "censored": -below.cast(pl.Int8),
        "dose": dose,
        "dose_unit": dose_unit,
    }
    for fact, names in FACTS.items():
        column = _foreign.column(table, names)
        if column is not None:
            out[fact] = (
                _foreign.measured(table, column, file, note) if fact == "weight_kg" else table[column].cast(pl.String)
            )
    frame = pl.DataFrame(out)
    if "matrix" not in frame.columns:
        if matrix is None:
            raise FormatError(file, "header", "no column says what was sampled (plasma, blood ...); state matrix=")
        frame = frame.with_columns(pl.lit(matrix).alias("matrix"))
    unquantified = frame.filter(pl.col("value").is_null() & pl.Series(below))
    if unquantified.height:
        note(
            Unread(
                file,
                f"{unquantified.height} rows",
                "below the limit of quantification, which the file does not give: left out",
            )
        )
    unnamed = frame.filter(pl.any_horizontal(pl.col("subject", "treatment", "matrix").is_null()))
    if unnamed.height:
        note(Unread(file, f"{unnamed.height} rows", "lack their series, compound or matrix: left out"))
    return frame.drop_nulls(["subject", "treatment", "matrix", "value", "time_h"])


def _units(table: pl.DataFrame, column: str, role: str, file: str, stated: str | None) -> pl.Series:
    """The unit of every row: of a column of units, else of the column's name, else the stated one."""
    beside = _foreign.column(table, UNITS[role])
    if beside is not None and beside != column and (role != "loq" or table[beside].null_count() < table.height):
        return table[beside].cast(pl.String).alias(beside)
    declared = _foreign.declared(column)[1] or ("h" if column == "time_hr" else None) or stated
    if declared is None:
        if role in ("loq", "dose"):
            return pl.Series(column, [None] * table.height, dtype=pl.String)
        raise FormatError(
            file, f"column {column!r}", f"declares no unit, and no column of units stands beside it; state {role}_unit="
        )
    return pl.Series(column, [declared] * table.height, dtype=pl.String)


def _converted(
    table: pl.DataFrame, column: str | None, given: pl.Series | None, wanted: str, file: str, note: Note | None
) -> pl.Series:
    """``column`` in ``wanted``; rows whose unit has no exact factor are null and, with ``note``, listed by unit."""
    if column is None or given is None:
        return pl.Series("none", [None] * table.height, dtype=pl.Float64)
    value = _foreign.measured(table, column, file, note or (lambda _: None))
    scale: dict[str, float | None] = {}
    for spelled in given.drop_nulls().unique().to_list():
        known = _foreign.unit(spelled)
        try:
            factor = units.factor(known or spelled, wanted)
            scale[spelled] = factor.numerator / factor.denominator
        except units.UnitError as error:
            scale[spelled] = None
            if note is not None:
                count = int((given == spelled).sum())
                note(Unread(file, f"column {column!r}, {count} rows in {spelled!r}", f"{error} Left out."))
    if note is not None and (bare := int((given.is_null() & value.is_not_null()).sum())):
        note(Unread(file, f"column {column!r}, {bare} rows", "declare no unit: left out"))
    return value * given.replace_strict(scale, default=None, return_dtype=pl.Float64)


def _dose(
    table: pl.DataFrame, column: str | None, given: pl.Series | None, file: str, note: Note
) -> tuple[pl.Series, pl.Series]:
    """(dose, unit): mg/kg where that is exact, otherwise as given; "ug per 250 g body weight" is 4 ug/kg."""
    empty = pl.Series("dose_unit", [None] * table.height, dtype=pl.String)
    if column is None or given is None:
        return empty.cast(pl.Float64), empty
    value = _foreign.measured(table, column, file, note)
    factors: dict[str, float] = {}
    spelled_as: dict[str, str | None] = {}
    for spelled in given.drop_nulls().unique().to_list():
        per_body = PER_BODY.fullmatch(spelled.strip())
        known = _foreign.unit(f"{per_body.group(1)}/kg") if per_body else _foreign.unit(spelled)
        factors[spelled], spelled_as[spelled] = (1000 / float(per_body.group(2)) if per_body else 1.0), known
        if known is None:
            note(
                Unread(
                    file,
                    f"column {column!r}, {int((given == spelled).sum())} rows in {spelled!r}",
                    "is no unit that is known: no dose",
                )
            )
            continue
        try:
            exact = units.factor(known, "mg/kg")
        except units.UnitError:
            continue
        factors[spelled] *= exact.numerator / exact.denominator
        spelled_as[spelled] = "mg/kg"
    unit = given.replace_strict(spelled_as, default=None, return_dtype=pl.String)
    dose = value * given.replace_strict(factors, default=None, return_dtype=pl.Float64)
    return pl.select(pl.when(unit.is_not_null()).then(dose)).to_series().cast(pl.Float64), unit
