"""CSV with a promised header: every column named and typed beforehand, nothing inferred."""

from __future__ import annotations

import io

import polars as pl

from workbench.formats import FormatError
from workbench.text import nearest


def read(data: bytes, file: str, columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    """The frame in ``data`` with exactly ``columns`` (name -> polars type), in that order.

    Raises
    ------
    FormatError
        A column is missing or not promised, or a cell is not of its column's type.
    """
    try:
        header = data.split(b"\n", 1)[0].decode("utf-8-sig").strip("\r")
        found = next(iter(pl.read_csv(io.StringIO(header + "\n"), has_header=False, infer_schema=False).rows()), ())
    except (UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise FormatError(file, "line 1", f"expected a header in UTF-8: {error}") from None
    for name in columns:
        if name not in found:
            known = [str(f) for f in found]
            raise FormatError(file, "line 1", f"column {name!r} is missing; found {known}.{nearest(name, known)}")
    for name in found:
        if name not in columns:
            raise FormatError(file, "line 1", f"column {name!r} is unknown; expected {list(columns)}.")
    try:
        text = pl.read_csv(io.BytesIO(data), infer_schema=False, encoding="utf8")
    except pl.exceptions.PolarsError as error:
        raise FormatError(file, "content", f"CSV cannot be read: {error}") from error
    frame = text.select(pl.col(name).cast(kind, strict=False) for name, kind in columns.items())
    for name, kind in columns.items():
        lost = frame[name].is_null() & text[name].is_not_null()
        if lost.any():
            row = int(lost.arg_max() or 0)
            place = f"row {row + 1} below the header, column {name!r}"
            raise FormatError(file, place, f"expected {kind.__name__}, found {text[name][row]!r}")
    return frame
