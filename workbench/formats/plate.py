"""Plate readers' text exports: matrix blocks of 96 or 384 wells, any number in one file, or one row a well.

Source: ANSI/SLAS 4-2004 for well positions; the layouts are those that readers export (BMG, Tecan, PerkinElmer: title,
a row of column numbers, lettered rows). Values stay text; `numbers` of `workbench.formats.table` converts them.
"""

from __future__ import annotations

import polars as pl

from workbench.formats import FormatError, _kind, _text, _wells
from workbench.formats._wells import well

__all__ = ["grid", "read", "well"]

WELL_COLUMNS = ("well", "well id", "well position", "position", "well_id", "well_position")


def read(
    data: bytes, file: str, *, delimiter: str | None = None, encoding: str | None = None
) -> dict[str, pl.DataFrame]:
    """``{"wells", "rows", "/unread"}`` of a text export.

    "wells": block, size (96 or 384), well ("A01"), value (text), place, of every matrix block. "rows": the rows of a
    long table with a column of wells (spelled "A01"), other columns as they are; empty where there are blocks.

    Raises
    ------
    FormatError
        Not text, or neither a block nor a column of wells in it.
    """
    notes = _text.Notes()
    text = _text.decode(_kind.gunzip(data, file), file, notes, encoding)
    if delimiter is None:  # a title line has no delimiter, so the commonest mark decides, not the evenest cut
        counts = {mark: text.count(mark) for mark in ("\t", ";", ",", "|")}
        delimiter = "\t" if counts["\t"] else ";" if counts[";"] else max(counts, key=lambda m: counts[m])
    rows = _text.grid(text, file, delimiter)
    return _either(rows, file, "line", notes)


def grid(sheet: pl.DataFrame, file: str, name: str) -> dict[str, pl.DataFrame]:
    """As ``read``, of a sheet's grid (column "row", then text columns; see `workbench.formats.xlsx`)."""
    rows = [(n, ["" if c is None else c for c in r]) for n, *r in sheet.iter_rows()]
    return _either(rows, file, f"sheet {name!r} row", _text.Notes())


def _either(rows: list[tuple[int, list[str]]], file: str, word: str, notes: _text.Notes) -> dict[str, pl.DataFrame]:
    wells = _wells.blocks(rows, word, notes)
    if wells.height:
        return {"wells": wells, "rows": pl.DataFrame(), "/unread": notes.frame()}
    at = next((i for i, (_, r) in enumerate(rows) if _column([c.strip() for c in r]) is not None), None)
    if at is None:
        found = "; ".join(reason for _, reason in notes.rows[:3]) or "nothing of the kind"
        raise FormatError(
            file, "content", f"expected a block of wells (1-12 over A-H, 1-24 over A-P) or a column 'well': {found}"
        )
    width = max((i for _, r in rows[at:] for i, c in enumerate(r) if c.strip()), default=-1) + 1
    table = _text.frame([(n, (r + [""] * width)[:width]) for n, r in rows[at:]], file, notes, word)
    column = table.columns[_column(table.columns) or 0]
    names = [well(w) if w is not None else None for w in table[column].to_list()]
    for index, (given, name) in enumerate(zip(table[column].to_list(), names, strict=True)):
        if name is None:
            notes.add(f"row {index + 1} below the header", f"{given!r} is no well of a 96- or 384-well plate: left out")
    rows_out = table.with_columns(pl.Series("well", names, dtype=pl.String))
    if column != "well":
        rows_out = rows_out.drop(column)
    return {"wells": wells, "rows": rows_out.filter(pl.col("well").is_not_null()), "/unread": notes.frame()}


def _column(names: list[str]) -> int | None:
    return next((i for i, n in enumerate(names) if n.casefold() in WELL_COLUMNS), None)
