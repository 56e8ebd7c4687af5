"""Plate maps: what is in each well, told by blocks of the plate's shape or by a table with a row a well."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from workbench.folders import _foreign
from workbench.folders._foreign import Note, Unread
from workbench.formats import FormatError, plate

FIELDS = {
    "compound": ("compound", "drug", "treatment", "substance", "inhibitor"),
    "dose": ("dose", "concentration", "conc"),
    "dose_unit": ("dose_unit", "unit", "units", "conc_unit", "dose unit"),
    "line": ("line", "cell_line", "cell line", "subject", "sample", "cells", "model"),
    "control": ("control", "role", "well_type", "type", "content"),
    "plate": ("plate", "plate_id", "plate id", "barcode"),
}


def parts(folder: Path, name: str, note: Note) -> list[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """(sheet or "", wells of blocks, rows) of one file; refused sheets are noted."""
    from workbench import caged

    out = []
    try:
        data = _foreign.content(folder, name)
        if not name.casefold().endswith(".xlsx"):
            found = plate.read(data, name)
            _foreign.pour(found["/unread"], name, note)
            return [("", found["wells"], found["rows"])]
        sheets = caged.read("xlsx", data, name)
        _foreign.pour(sheets.pop("/unread"), name, note)
    except FormatError as error:
        _foreign.refuse(error, name, note)
        return []
    for sheet, grid in sheets.items():
        try:
            found = plate.grid(grid, name, sheet)
        except FormatError as error:
            note(Unread(name, f"sheet {sheet!r}", error.reason))
            continue
        _foreign.pour(found["/unread"], name, note)
        out.append((sheet, found["wells"], found["rows"]))
    return out


def _field(title: str) -> str | None:
    """Which field of a map a block's title names: "Dose (uM)" is dose."""
    bare = _foreign.plain(_foreign.declared(title)[0])
    for field, names in FIELDS.items():
        if any(_foreign.plain(n) in (bare, bare.removesuffix("map"), bare.removesuffix("s")) for n in names):
            return field
    return None


def layout(folder: Path, name: str, note: Note, stated: str | None) -> pl.DataFrame | None:
    """plate (null: every plate), well, compound, dose, dose_unit, line, control of one map file."""
    frames: list[pl.DataFrame] = []
    for sheet, wells, rows in parts(folder, name, note):
        where = f"sheet {sheet!r}" if sheet else "map"
        if rows.height:
            frames.append(_long(rows, name, where, note, stated))
        elif wells.height:
            block = _blocks(wells, name, where, sheet, note, stated)
            frames += [] if block is None else [block]
    if not frames:
        return None
    # sheets of a workbook may hold one field each; the same wells then meet here
    whole = frames[0]
    for frame in frames[1:]:
        shared = {*whole.columns} & {*frame.columns} - {"plate", "well"}
        whole = (
            pl.concat([whole, frame], how="diagonal")
            if shared
            else whole.join(frame, on=["plate", "well"], how="full", coalesce=True, nulls_equal=True)
        )
    return whole


def _long(rows: pl.DataFrame, name: str, where: str, note: Note, stated: str | None) -> pl.DataFrame:
    columns = {field: c for field, names in FIELDS.items() if (c := _foreign.column(rows, names)) is not None}
    out = rows.select("well", *(pl.col(c).alias(f) for f, c in columns.items() if c != "well"))
    if "plate" not in out.columns:
        out = out.with_columns(pl.lit(None, dtype=pl.String).alias("plate"))
    if "dose" in columns:
        doses = _foreign.measured(rows, columns["dose"], name, note)
        unit = _foreign.declared(columns["dose"])[1] or stated
        if "dose_unit" in out.columns:
            spelled = {u: _foreign.unit(u) for u in out["dose_unit"].drop_nulls().unique().to_list()}
            for odd in [u for u, known in spelled.items() if known is None]:
                note(Unread(name, where, f"{odd!r} is no unit that is known: its doses are left out"))
            units = out["dose_unit"].replace_strict(spelled, default=None, return_dtype=pl.String)
        elif unit is not None:
            units = pl.Series([unit] * out.height, dtype=pl.String)
        else:
            raise FormatError(
                name,
                f"{where}, column {columns['dose']!r}",
                "declares no unit; name it so (dose_uM) or state dose_unit=",
            )
        out = out.with_columns(doses.alias("dose"), units.alias("dose_unit"))
    return out


def _blocks(
    wells: pl.DataFrame, name: str, where: str, sheet: str, note: Note, stated: str | None
) -> pl.DataFrame | None:
    out: pl.DataFrame | None = None
    for title in wells["block"].unique(maintain_order=True).to_list():
        field = _field(title) or (_field(sheet) if sheet else None)
        if field is None or field in ("dose_unit", "plate"):
            note(
                Unread(
                    name,
                    f"{where}, block {title!r}",
                    f"its title names no field of a map ({', '.join(FIELDS)}): left out",
                )
            )
            continue
        block = wells.filter(pl.col("block") == title).select("well", pl.col("value").alias(field))
        if field == "dose":
            unit = _foreign.declared(title)[1] or (_foreign.declared(sheet)[1] if sheet else None) or stated
            if unit is None:
                raise FormatError(
                    name, f"{where}, block {title!r}", "declares no unit; title it so (Dose (uM)) or state dose_unit="
                )
            block = block.with_columns(_foreign.measured(block, "dose", name, note), pl.lit(unit).alias("dose_unit"))
        out = block if out is None else out.join(block, on="well", how="full", coalesce=True)
    return None if out is None else out.with_columns(pl.lit(None, dtype=pl.String).alias("plate"))
