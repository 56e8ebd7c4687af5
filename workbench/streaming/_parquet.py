"""Rows of a parquet file by row groups, the smallest part of it that can be read.

Rows that stand in one row group are read together, so a window is some dozens of row groups. A file with too few or
too large ones shuffles badly or not at all; the message says how to write it again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.formats import FormatError
from workbench.streaming._windows import Rooms, Window
from workbench.text import nearest

if TYPE_CHECKING:
    import pyarrow.parquet as pq


class Parquet:
    """Feature columns of a parquet file: numbers, or one column of lists of equal length.

    Attributes
    ----------
    rows, features : of the whole file
    names : of the feature columns
    """

    sparse = False
    unit = None
    pointers = 0

    def __init__(self, path: Path, features: Any, obs: Any) -> None:
        self.path, self.name = path, path.name
        self._file, self._process = self._open(), os.getpid()
        self._stamp = _stamp(path)
        meta, schema = self._file.metadata, self._file.schema_arrow
        self.rows = meta.num_rows
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        if features is None:
            features = [f.name for f in schema if f.name not in obs and _numeric(f.type)]
        self.names = list(features)
        for name in [*self.names, *obs]:
            if name not in schema.names:
                hint = nearest(name, schema.names)
                raise KeyError(f"{self.name}: there is no column {name!r}.{hint} It has: {', '.join(schema.names)}.")
        self._listed = len(self.names) == 1 and not _numeric(schema.field(self.names[0]).type)
        if not self.names:
            raise FormatError(self.name, "columns", "expected numeric columns as features, found none")
        if not self._listed and (odd := [n for n in self.names if not _numeric(schema.field(n).type)]):
            raise FormatError(self.name, f"column {odd[0]!r}", f"expected numbers, found {schema.field(odd[0]).type}")
        self.features = len(self.names)
        if self._listed:
            self.features = self._width()
        self.row_bytes = float(self.features * 4)
        self.together = int(np.median(sizes)) if sizes else 1

    def _open(self) -> pq.ParquetFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.path, memory_map=False, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise FormatError(self.name, "content", f"parquet cannot be read: {error}") from error

    def _width(self) -> int:
        """Length of the lists, from the first row."""
        first = next(self._file.iter_batches(1, columns=self.names), None)
        if first is None or not hasattr(first.column(0).type, "value_type"):
            raise FormatError(self.name, f"column {self.names[0]!r}", "expected numbers, or lists of numbers")
        return len(first.column(0)[0].as_py() or [])

    def edges(self, rows: NDArray[np.int64] | None, block: int) -> NDArray[np.int64]:
        """A block is one row group, or as many as make ``block`` rows."""
        cuts = self._starts if rows is None else np.searchsorted(rows, self._starts)
        kept = [0]
        for cut in cuts[1:]:
            if cut - kept[-1] >= block:
                kept.append(int(cut))
        if kept[-1] != cuts[-1]:
            kept.append(int(cuts[-1]))
        return np.array(kept, np.int64)

    def costs(self, rows: NDArray[np.int64] | None, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes that each block takes in a window: whole row groups."""
        if rows is None:
            counts = np.diff(edges)
        else:
            low = np.searchsorted(self._starts, rows[edges[:-1]], side="right") - 1
            high = np.searchsorted(self._starts, rows[edges[1:] - 1], side="right")
            counts = self._starts[high] - self._starts[low]
        return counts * self.features * 4

    def load(self, rows: NDArray[np.int64], order: NDArray[np.int64], rooms: Rooms, most: int) -> Window:
        """Read the row groups of ``rows`` (sorted) into ``rooms``; the window hands the rows out in ``order``."""
        if self._process != os.getpid():
            self._file, self._process = self._open(), os.getpid()
        if _stamp(self.path) != self._stamp:
            raise FormatError(self.name, "content", "it was changed on disk while it was open. Open it again")
        group = np.searchsorted(self._starts, rows, side="right") - 1
        groups, first = np.unique(group, return_index=True)
        sizes = self._starts[groups + 1] - self._starts[groups]
        base = np.cumsum(sizes) - sizes
        taken = int(sizes.sum()) * self.features
        matrix = rooms.room("data", max(taken, most // 4), np.dtype(np.float32))[:taken].reshape(-1, self.features)
        for number, at, size in zip(groups.tolist(), base.tolist(), sizes.tolist(), strict=True):
            self._group(number, matrix[at : at + size])
        counts = np.diff(np.append(first, len(rows)))
        place = rows - self._starts[group] + np.repeat(base, counts)
        return Window(self, [matrix], place[order], place[order] + 1)

    def _group(self, number: int, out: NDArray[np.float32]) -> None:
        """One row group as rows of float32; a missing number is NaN."""
        table = self._file.read_row_group(number, columns=self.names, use_threads=False)
        if self._listed:
            column = table.column(0).combine_chunks()
            flat = column.flatten()
            if column.null_count or len(flat) != out.size:
                raise FormatError(
                    self.name, f"column {self.names[0]!r}", f"expected {self.features} numbers in each row"
                )
            out[:] = flat.to_numpy(zero_copy_only=False).reshape(out.shape)
            return
        for j, name in enumerate(self.names):
            out[:, j] = table.column(name).to_numpy()

    def column(self, name: str) -> tuple[NDArray[Any], list[str] | None]:
        """Column ``name``: numbers, or codes in sorted order and their categories."""
        import polars as pl

        values = pl.from_arrow(self._file.read(columns=[name])).to_series()  # type: ignore[union-attr]
        if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
            values = values.cast(pl.String)
            categories = sorted(values.drop_nulls().unique().to_list())
            return values.cast(pl.Enum(categories)).to_physical().cast(pl.Int32).fill_null(-1).to_numpy(), categories
        return values.to_numpy(), None


def _numeric(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _stamp(path: Path) -> tuple[int, ...]:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
