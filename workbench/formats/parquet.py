"""Parquet: polars frames to bytes and back."""

from __future__ import annotations

import io

import polars as pl

from workbench.formats import FormatError


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
        ``data`` is not parquet, or is damaged.
    """
    if data[:4] != b"PAR1" or data[-4:] != b"PAR1":
        raise FormatError(file, "start and end", "expected the mark PAR1; the file is cut or not parquet")
    try:
        frame = pl.read_parquet(io.BytesIO(data), use_pyarrow=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise FormatError(file, "content", f"parquet cannot be read: {error}") from error
    codes = [name for name, kind in frame.schema.items() if isinstance(kind, (pl.Categorical, pl.Enum))]
    return frame.with_columns(pl.col(codes).cast(pl.String)) if codes else frame
