"""Windows of an h5ad: many rows from many places, read in as few pieces as pay, and handed out as batches."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workbench.backed import Backed

NEAR = 2**13  # bytes that are quicker read over than jumped over


class Rooms:
    """Arrays that are used again: pages once touched need not be touched anew."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def room(self, name: str, size: int, dtype: np.dtype) -> NDArray[Any]:
        """An array of at least ``size``, whose old content is lost."""
        found = self._arrays.get(name)
        if found is None or len(found) < size or found.dtype != dtype:
            self._arrays.pop(name, None)
            found = self._arrays[name] = np.empty(size, dtype)
        return found


class Trays:
    """Arrays for minibatches, used again once nobody holds the last minibatch that lay in them.

    A tensor made by ``torch.from_numpy`` holds its array, and so does every view of it: an array that only the tray
    refers to is free.
    """

    KEPT = 3

    def __init__(self) -> None:
        self._arrays: list[NDArray[np.float32]] = []

    def tray(self, rows: int, features: int) -> NDArray[np.float32]:
        """An array (rows, features) float32 of any content."""
        for index in range(len(self._arrays)):
            if sys.getrefcount(self._arrays[index]) == 2 and self._arrays[index].shape == (rows, features):
                return self._arrays[index]
        made = np.empty((rows, features), np.float32)
        if len(self._arrays) < self.KEPT:
            self._arrays.append(made)
        return made


class H5ad:
    """Rows of a ``Backed``.

    Attributes
    ----------
    rows, features : of the whole file
    pointers : what is held in memory for the file, bytes
    """

    def __init__(self, backed: Backed) -> None:
        self.backed = backed
        self.rows, self.features = backed.shape
        self.sparse = backed.indptr is not None
        self.name, self.unit = backed.file, backed.unit
        self.pointers = 0 if backed.indptr is None else backed.indptr.nbytes
        parts = [backed.data] if backed.indices is None else [backed.data, backed.indices]
        self.unit_bytes = sum(p.row_bytes for p in parts)  # of one number and its column, or of one dense row
        chunk = max(p.chunk for p in parts)
        self._near = max(NEAR // self.unit_bytes, chunk if chunk > 1 else 0)
        mean = 1.0 if backed.indptr is None else max(1.0, backed.data.rows / max(1, self.rows))
        self.row_bytes = mean * self.unit_bytes
        self.together = 1 if chunk == 1 else round(4 * chunk / mean)  # rows below which inflating is mostly in vain

    def _spans(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        indptr = self.backed.indptr
        return (rows, rows + 1) if indptr is None else (indptr[rows], indptr[rows + 1])

    def edges(self, rows: NDArray[np.int64] | None, block: int) -> NDArray[np.int64]:
        """Blocks of ``block`` rows."""
        length = self.rows if rows is None else len(rows)
        return np.append(np.arange(0, length, block, dtype=np.int64), length)

    def costs(self, rows: NDArray[np.int64] | None, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes that each block takes in a window, gaps that are read over included."""
        indptr = self.backed.indptr
        if rows is None:
            at = edges if indptr is None else indptr[edges]
            return np.diff(at) * self.unit_bytes
        begin, end = self._spans(rows)
        gaps = np.append(begin[1:] - end[:-1], 0)
        taken = np.concatenate([[0], np.cumsum(end - begin + np.where(gaps <= self._near, gaps, 0))])
        return np.diff(taken[edges]) * self.unit_bytes

    def load(self, rows: NDArray[np.int64], order: NDArray[np.int64], rooms: Rooms, most: int) -> Window:
        """Read ``rows`` (sorted) into ``rooms`` of ``most`` bytes; the window hands them out in ``order``."""
        backed = self.backed.here()
        begin, end = self._spans(rows)
        room = most // self.unit_bytes
        breaks = self._breaks(begin, end, room)
        starts, stops = begin[np.append(0, breaks + 1)], end[np.append(breaks, len(rows) - 1)]
        lengths = stops - starts
        base = np.cumsum(lengths) - lengths
        shift = np.repeat(base - starts, np.diff(np.concatenate([[0], breaks + 1, [len(rows)]])))
        total = int(lengths.sum())
        parts = [("data", backed.data)] + ([] if backed.indices is None else [("indices", backed.indices)])
        arrays = []
        for name, extents in parts:
            flat = rooms.room(name, max(room, total) * extents.width, extents.dtype)
            width = extents.width
            for start, stop, at in zip(starts.tolist(), stops.tolist(), base.tolist(), strict=True):
                extents.read_into(start, stop, flat[at * width : (at + stop - start) * width])
            arrays.append(flat[: total * width])
        if backed.indices is None:
            arrays = [arrays[0].reshape(total, self.features)]
        return Window(self, arrays, (begin + shift)[order], (end + shift)[order])

    def _breaks(self, begin: NDArray[np.int64], end: NDArray[np.int64], room: int) -> NDArray[np.int64]:
        """Where to jump: after these rows; the smallest gaps are read over, as far as there is room for them."""
        gaps = begin[1:] - end[:-1]
        at = np.flatnonzero(gaps)
        at = at[np.argsort(gaps[at], kind="stable")]
        filled = np.cumsum(gaps[at]) + int((end - begin).sum())
        return np.sort(at[(gaps[at] > self._near) | (filled > room)])

    def column(self, name: str) -> tuple[NDArray[Any], list[str] | None]:
        """Column ``name`` of ``obs``: numbers, or codes and their categories."""
        import polars as pl

        kind = self.backed.column(name)
        if kind.dtype in (pl.String, pl.Enum, pl.Categorical):
            return self.backed.codes(name)
        return kind.to_numpy(), None


class Window:
    """Rows in memory, in the order they are handed out; ``begin`` and ``end`` say where each lies."""

    def __init__(self, source: Any, arrays: list[NDArray[Any]], begin: NDArray[np.int64], end: NDArray[np.int64]):
        self.source, self.arrays, self.begin, self.end = source, arrays, begin, end

    def dense(self, start: int, stop: int, normalise: bool, trays: Trays) -> torch.Tensor:
        """Rows ``start`` to ``stop`` as (B, features) float32, in a tray."""
        from workbench.streaming import _kernels

        out = trays.tray(stop - start, self.source.features)
        if len(self.arrays) == 1:
            _kernels.pick(self.arrays[0], self.begin[start:stop], normalise, out)
        else:
            data, indices = self.arrays
            if not _kernels.scatter(data, indices, self.begin[start:stop], self.end[start:stop], normalise, out):
                raise self.source.backed.stray()
        return torch.from_numpy(out)

    def csr(self, start: int, stop: int, normalise: bool, trays: Trays) -> torch.Tensor:
        """Rows ``start`` to ``stop`` as sparse CSR (B, features) float32."""
        from workbench.streaming import _kernels

        begin, end = self.begin[start:stop], self.end[start:stop]
        count = int((end - begin).sum())
        pointers, columns = torch.empty(stop - start + 1, dtype=torch.int32), torch.empty(count, dtype=torch.int32)
        values = torch.empty(count)
        data, indices = self.arrays
        to = pointers.numpy(), columns.numpy(), values.numpy()
        if not _kernels.gather(data, indices, begin, end, normalise, self.source.features, to):
            raise self.source.backed.stray()
        return torch.sparse_csr_tensor(
            pointers, columns, values, (stop - start, self.source.features), check_invariants=False
        )
