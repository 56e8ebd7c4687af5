"""Foreign delimited text (csv, tsv, txt; gzipped or not): every cell as text, every doubt with its place.

Source: RFC 4180 for quoting; R's ``write.table`` for row names (a header one field short). Types are never inferred:
``numbers`` converts a column and says which rows were no number.
"""

from __future__ import annotations

import polars as pl

from workbench.formats import _kind, _text
from workbench.formats._text import MISSING, ROW_NAME, decimal, numbers

__all__ = ["MISSING", "ROW_NAME", "decimal", "frame", "numbers", "read"]


def read(
    data: bytes, file: str, *, delimiter: str | None = None, encoding: str | None = None
) -> dict[str, pl.DataFrame]:
    """``{"table": every column as text, "/unread": place and reason of what was left out or assumed}``.

    Parameters
    ----------
    delimiter, encoding : stated by the user; otherwise found as `workbench.formats._text` says

    Raises
    ------
    FormatError
        Not text, empty, a quote never closed, an unclear delimiter.
    """
    notes = _text.Notes()
    text = _text.decode(_kind.gunzip(data, file), file, notes, encoding)
    rows = _text.grid(text, file, delimiter or _text.delimiter(text, file))
    table = _text.frame(rows, file, notes)
    return {"table": table, "/unread": notes.frame()}


def frame(grid: pl.DataFrame, file: str, sheet: str = "") -> dict[str, pl.DataFrame]:
    """As ``read``, of a sheet's grid of text (see `workbench.formats.xlsx`): its first used row is the header."""
    notes = _text.Notes()
    kept = [(n, ["" if c is None else c for c in r]) for n, *r in grid.iter_rows() if any(c is not None for c in r)]
    used = max((i for _, r in kept for i, c in enumerate(r) if c), default=-1) + 1
    table = _text.frame([(n, r[:used]) for n, r in kept], file, notes, f"sheet {sheet!r} row" if sheet else "row")
    return {"table": table, "/unread": notes.frame()}
