"""Plate readers' exports with a plate map: raw signal of every well, normalised to the controls of its own plate.

Viability = (signal - mean of blanks) / (mean of vehicle controls - mean of blanks), per plate; without blank wells
the blank is 0, and that is noted (percent of control: Assay Guidance Manual, "Assay Operations for SAR Support", 2012).
The map says what is in a well: blocks of the plate's own shape titled compound, dose (unit), line and control, or a
table with a row a well. The raw signals, the layout and each plate's controls are kept as records.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from workbench.folders import Content, _foreign, _plate_map
from workbench.folders._foreign import Note, Unread
from workbench.formats import FormatError

MAP = {"map", "layout", "platemap", "design", "annotation"}
EXPORT = {"plate", "plates", "raw", "reader", "export", "signal", "luminescence", "fluorescence", "absorbance", "od"}
VALUE = (
    "signal",
    "value",
    "raw",
    "luminescence",
    "fluorescence",
    "absorbance",
    "od",
    "rlu",
    "rfu",
    "reading",
)
VEHICLE = {"dmso", "vehicle", "vehicle control", "negative control", "negative", "neg", "nc", "solvent", "untreated"}
BLANK = {"blank", "medium", "media", "medium only", "no cells", "background", "empty medium"}
DEAD = {"positive control", "positive", "pos", "pc"}


def recognises(files: list[str]) -> bool:
    """A plate map beside at least one other table, named for plates."""
    named = [set(_foreign.words(f)) for f in files if _is_table(f)]
    return any(w & MAP for w in named) and any(w & EXPORT and not w & MAP for w in named)


def _is_table(name: str) -> bool:
    return _foreign.is_text(name) or name.casefold().endswith(".xlsx")


def read(
    folder: Path,
    note: Note,
    *,
    dose_unit: str | None = None,
    line: str | None = None,
    time_h: float | None = None,
    blank: float | None = None,
) -> Content:
    """Endpoint "viability" (fraction of the vehicle control) of every well with a compound and a dose.

    Parameters
    ----------
    dose_unit, line, time_h : stated where map and export do not say it
    blank : signal without cells, stated where no well is blank (0 says: take nothing off)

    Raises
    ------
    FormatError
        No map, no export, no vehicle control in any plate, or a dose without a unit.
    """
    time_h, blank = (None if v is None else float(v) for v in (time_h, blank))  # options of a command line are text
    files = _foreign.listing(folder)
    tables = [f for f in files if _is_table(f)]
    _foreign.leftover(files, tables, note)
    maps = [f for f in tables if set(_foreign.words(f)) & MAP]
    layouts = [m for f in maps if (m := _plate_map.layout(folder, f, note, dose_unit)) is not None]
    if not layouts:
        raise FormatError(folder.name, "plate map", "not one can be read (a file named map or layout)")
    layout = pl.concat(layouts, how="diagonal")
    signals = [s for f in tables if f not in maps and (s := _signals(folder, f, note)) is not None]
    if not signals:
        raise FormatError(folder.name, "plate exports", "not one can be read")
    wells = _joined(pl.concat(signals, how="diagonal"), layout, note, line)
    normalised, controls = _normalised(wells, note, blank)
    if not controls.height:
        raise FormatError(
            folder.name, "controls", f"no plate has a vehicle control; the map must call it one of {sorted(VEHICLE)}"
        )
    points = normalised.filter(
        (pl.col("role") == "sample") & pl.col("viability").is_not_null() & pl.col("dose").is_not_null()
    )
    outcomes = _foreign.outcomes(
        points.select(
            "dose", "dose_unit", subject="line", treatment="compound", value="viability", source="file"
        ).with_columns(pl.lit(time_h, dtype=pl.Float64).alias("time_h")),
        endpoint="viability",
        unit="fraction",
    )
    return Content(
        outcomes=outcomes,
        subjects=_foreign.subjects(outcomes.select("subject").unique().sort("subject")),
        treatments=_foreign.treatments(outcomes["treatment"].to_list()),
        records={"wells": normalised, "plate_map": layout, "controls": controls},
        provenance={
            "source": "plates",
            "rule": "viability = (signal - mean blank) / (mean vehicle control - mean blank), per plate",
            "stated": {"dose_unit": dose_unit, "line": line, "time_h": time_h, "blank": blank},
        },
    )


def _signals(folder: Path, name: str, note: Note) -> pl.DataFrame | None:
    """file, plate, well, place, signal of one export: a block is a plate, named by its title, its sheet or the file."""
    frames = []
    for sheet, wells, rows in _plate_map.parts(folder, name, note):
        if wells.height:
            only = wells["block"].n_unique() == 1
            called = (
                wells["block"] if not only else pl.Series([sheet or Path(name).stem] * wells.height, dtype=pl.String)
            )
            frame = wells.select(
                "well", "place", "block", signal=_foreign.measured(wells, "value", name, note)
            ).with_columns(called.alias("plate"))
        else:
            value = _foreign.column(rows, VALUE)
            if value is None:
                note(
                    Unread(name, sheet or "header", f"no column of signals ({', '.join(VALUE)}); found {rows.columns}")
                )
                continue
            barcode = _foreign.column(rows, _plate_map.FIELDS["plate"])
            frame = rows.select(
                "well",
                signal=_foreign.measured(rows, value, name, note),
                plate=pl.col(barcode) if barcode else pl.lit(Path(name).stem),
            )
            frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("block"), pl.lit("").alias("place"))
        frames.append(frame.with_columns(pl.lit(name).alias("file")))
    return pl.concat(frames, how="diagonal") if frames else None


def _joined(signals: pl.DataFrame, layout: pl.DataFrame, note: Note, line: str | None) -> pl.DataFrame:
    """Every well with what the map says of it: the map of its own plate, else the map of all plates."""
    fields = [c for c in ("compound", "dose", "dose_unit", "line", "control") if c in layout.columns]
    own = layout.filter(pl.col("plate").is_not_null()).select("plate", "well", *fields)
    common = layout.filter(pl.col("plate").is_null()).select("well", *fields)
    for frame, keys in ((own, ["plate", "well"]), (common, ["well"])):
        if frame.select(pl.struct(keys).is_duplicated().any()).item():
            twice = frame.filter(pl.struct(keys).is_duplicated()).row(0)[: len(keys)]
            raise FormatError("plate map", f"well {twice}", "stands in more than one row")
    named = own["plate"].unique().to_list()
    for odd in [p for p in signals["plate"].unique().to_list() if named and p not in named and not common.height]:
        note(
            Unread("plate map", f"plate {odd!r}", f"has no map (the map knows {sorted(named)}): its wells are left out")
        )
    wells = signals.join(own, on=["plate", "well"], how="left", maintain_order="left")
    wells = wells.join(common, on="well", how="left", suffix=" of all", maintain_order="left")
    for field in fields:
        if f"{field} of all" in wells.columns:
            wells = wells.with_columns(pl.coalesce(field, f"{field} of all").alias(field)).drop(f"{field} of all")
    for field, kind in (
        ("compound", pl.String),
        ("dose", pl.Float64),
        ("dose_unit", pl.String),
        ("line", pl.String),
        ("control", pl.String),
    ):
        if field not in wells.columns:
            wells = wells.with_columns(pl.lit(line if field == "line" else None, dtype=kind).alias(field))
    if line is not None:
        wells = wells.with_columns(pl.col("line").fill_null(line))
    told = pl.coalesce("control", "compound").str.strip_chars().str.to_lowercase()
    role = (
        pl.when(told.is_in(list(VEHICLE))).then(pl.lit("vehicle")).when(told.is_in(list(BLANK))).then(pl.lit("blank"))
    )
    role = (
        role.when(told.is_in(list(DEAD)))
        .then(pl.lit("positive"))
        .when(pl.col("compound").is_not_null())
        .then(pl.lit("sample"))
    )
    wells = wells.with_columns(role.otherwise(pl.lit("empty")).alias("role"))
    for what, lost in (
        (
            "lack a dose or its unit",
            (pl.col("role") == "sample") & (pl.col("dose").is_null() | pl.col("dose_unit").is_null()),
        ),
        ("lack a line; the map must name it, or state line=", (pl.col("role") == "sample") & pl.col("line").is_null()),
        ("lack a signal", (pl.col("role") != "empty") & pl.col("signal").is_null()),
    ):
        found = wells.filter(lost)
        for called, inside in found.group_by("plate", maintain_order=True):
            note(
                Unread(
                    str(inside["file"][0]),
                    f"plate {called[0]!r}",
                    f"{inside.height} wells {what} (first {inside['well'][0]})",
                )
            )
    return wells.with_columns(
        pl.when((pl.col("role") == "sample") & (pl.col("line").is_null() | pl.col("dose_unit").is_null()))
        .then(pl.lit("unused"))
        .otherwise("role")
        .alias("role")
    )


def _normalised(wells: pl.DataFrame, note: Note, stated: float | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """``wells`` with ``viability``, and the controls of every plate: file, plate, line, vehicle and blank mean, n, sd.

    Vehicle controls are those of the same plate, and of the same line where the map names lines for them.
    """
    keys = ["file", "plate"]
    control = wells.filter((pl.col("role") == "vehicle") & pl.col("signal").is_not_null())
    by_line = bool(control.height) and control["line"].null_count() == 0 and control["line"].n_unique() > 1
    group = [*keys, "line"] if by_line else keys
    vehicle = control.group_by(group, maintain_order=True).agg(
        pl.col("signal").mean().alias("vehicle"), pl.len().alias("vehicles"), pl.col("signal").std().alias("vehicle_sd")
    )
    blank = (
        wells.filter(pl.col("role") == "blank")
        .group_by(keys, maintain_order=True)
        .agg(pl.col("signal").mean().alias("blank"), pl.len().alias("blanks"))
    )
    controls = vehicle.join(blank, on=keys, how="left", maintain_order="left")
    if controls["blank"].null_count():
        said = (
            "no well is blank: nothing is taken off the signals"
            if stated is None
            else f"no well is blank: {stated} is taken off as stated"
        )
        note(Unread("plate map", "blanks", said, "note"))
    controls = controls.with_columns(
        pl.col("blank").fill_null(0.0 if stated is None else stated), pl.col("blanks").fill_null(0)
    )
    for row in controls.filter(pl.col("vehicle") <= pl.col("blank")).rows(named=True):
        note(
            Unread(
                row["file"],
                f"plate {row['plate']!r}",
                f"vehicle controls ({row['vehicle']:g}) do not lie above the blank ({row['blank']:g}): left out",
            )
        )
    controls = controls.filter(pl.col("vehicle") > pl.col("blank"))
    joined = wells.join(controls.select(*group, "vehicle", "blank"), on=group, how="left", maintain_order="left")
    for called, inside in joined.filter((pl.col("role") == "sample") & pl.col("vehicle").is_null()).group_by(
        "plate", maintain_order=True
    ):
        note(
            Unread(
                str(inside["file"][0]),
                f"plate {called[0]!r}",
                f"{inside.height} wells have no vehicle control on their plate: left out",
            )
        )
    return joined.with_columns(
        ((pl.col("signal") - pl.col("blank")) / (pl.col("vehicle") - pl.col("blank"))).alias("viability")
    ), controls
