"""Parquet: polars frames to bytes and back.

A parquet footer may declare any number of rows that a few bytes stand for, so declared cells are weighed against the
file before anything is decoded. Metadata of other writers (``ARROW:schema``, pandas) is not looked at for types that
code would have to build: an extension type comes back as what it stores, an object column is refused.
"""

from __future__ import annotations

import io
from typing import Any

import polars as pl

from workbench.formats import FormatError

CELLS = 50_000_000  # any file may declare
DENSITY = 64  # cells a byte of a larger file may stand for


def write(frame: pl.DataFrame, categorical: tuple[str, ...] = ()) -> bytes:
    """The frame as parquet (zstd); the columns named in ``categorical`` are stored as codes."""
    stored = frame.with_columns(pl.col(name).cast(pl.Categorical) for name in categorical)
    buffer = io.BytesIO()
    stored.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def read(data: bytes, file: str) -> pl.DataFrame:
    """The frame in ``data``; categorical columns come back as text, so that joins need no thought.

    Raises
    ------
    FormatError
        ``data`` is not parquet, is damaged, holds objects, or declares far more cells than it can hold.
    """
    if data[:4] != b"PAR1" or data[-4:] != b"PAR1":
        raise FormatError(file, "start and end", "expected the mark PAR1; the file is cut or not parquet")
    try:
        lazy = pl.scan_parquet(io.BytesIO(data))
        schema = lazy.collect_schema()
        rows = int(lazy.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise FormatError(file, "footer", f"parquet cannot be read: {error}") from None
    cells = rows * max(1, len(schema))
    if cells > CELLS and cells > DENSITY * len(data):
        raise FormatError(
            file, "footer", f"declares {rows:,} rows x {len(schema)} columns in {len(data):,} bytes: refused as a bomb"
        )
    for name, kind in schema.items():
        if isinstance(kind, (pl.Object, pl.Unknown)):
            raise FormatError(file, f"column {name!r}", f"type {kind} is refused: numbers, text, times and lists only")
    try:
        frame = pl.read_parquet(io.BytesIO(data), use_pyarrow=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise FormatError(file, "content", f"parquet cannot be read: {error}") from error
    codes = [name for name, kind in frame.schema.items() if isinstance(kind, (pl.Categorical, pl.Enum))]
    plain = frame.with_columns(pl.col(codes).cast(pl.String)) if codes else frame
    return plain.with_columns(_stored(plain[name]) for name in _extensions(plain)) if _extensions(plain) else plain


def _extensions(frame: pl.DataFrame) -> list[str]:
    kind: Any = getattr(pl, "BaseExtension", None)
    return [] if kind is None else [name for name, found in frame.schema.items() if isinstance(found, kind)]


def _stored(series: pl.Series) -> pl.Series:
    storage: pl.Series = series.ext.storage()
    return storage
