"""Where the bytes of an HDF5 dataset lie in its file, so that they can be read without HDF5's global lock.

A contiguous dataset is one extent, a chunked one an extent a chunk. Plain, gzipped and byte-shuffled chunks are read
with ``pread``, which lets other threads run; whatever else HDF5 can do is left to h5py, row block by row block.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from workbench.formats import FormatError

DEFLATE, SHUFFLE = 1, 2  # HDF5's numbers of the filters undone here
PIECE = 2**26  # bytes asked of one pread; Linux gives at most 2 GiB


class Extents:
    """Rows of one dataset (of one axis, or of two and contiguous) read into arrays.

    Parameters
    ----------
    dataset : an HDF5 dataset that was looked at
    descriptor : gives an open file descriptor of the same file
    file, place : named in errors

    Attributes
    ----------
    dtype : of the numbers, in this machine's byte order
    chunk : rows that are inflated together; 1 where rows can be read one by one
    direct : False where h5py has to read
    """

    def __init__(self, dataset: h5py.Dataset, descriptor: Callable[[], int], file: str, place: str) -> None:
        self.file, self.place, self._descriptor, self._dataset = file, place, descriptor, dataset
        self.rows = int(dataset.shape[0])
        self.width = int(np.prod(dataset.shape[1:], dtype=np.int64))
        self.dtype = dataset.dtype.newbyteorder("=")
        self.row_bytes = self.dtype.itemsize * self.width
        self.chunk = int(dataset.chunks[0]) if dataset.chunks else 1
        self._filters: list[int] = []
        self._offsets = self._stored = np.zeros(0, np.int64)
        self._plain = False
        self.direct = self._map(dataset)

    def _map(self, dataset: h5py.Dataset) -> bool:
        """Find the extents; False where h5py has to read."""
        if not dataset.dtype.isnative or dataset.file.userblock_size or not self.rows or not self.width:
            return False
        if dataset.chunks is None:
            offset = dataset.id.get_offset()
            if offset is None:  # compact, or never written
                return False
            self._offsets, self._plain, self.chunk = np.array([offset], np.int64), True, 1
            self._length = self.rows
            return True
        plist = dataset.id.get_create_plist()
        self._filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        if len(dataset.shape) > 1 or not set(self._filters) <= {DEFLATE, SHUFFLE}:
            return False
        self._length = self.chunk
        count = -(-self.rows // self.chunk)
        offsets, stored = np.full(count, -1, np.int64), np.zeros(count, np.int64)
        masked = False

        def note(info: Any) -> None:
            nonlocal masked
            number = info.chunk_offset[0] // self.chunk
            if number < count:
                offsets[number], stored[number] = info.byte_offset, info.size
            masked |= bool(info.filter_mask)

        dataset.id.chunk_iter(note)
        if masked or (offsets < 0).any():  # a chunk that skipped its filters, or that was never written
            return False
        self._offsets, self._stored, self._plain = offsets, stored, not self._filters
        if self._plain:
            self.chunk = 1
            full = self._length * self.row_bytes
            if (stored != full).any():
                return False
            self._joined = np.append(np.diff(offsets) == full, False)  # does the next chunk follow in the file?
            self._last = np.flatnonzero(~self._joined)
        return True

    def read_into(self, start: int, stop: int, out: Any) -> None:
        """Rows ``start`` to ``stop`` into the contiguous ``out`` of ``dtype``.

        Raises
        ------
        FormatError
            The file is shorter than it says, or a chunk does not inflate to its size.
        """
        if stop <= start:
            return
        if not self.direct:
            shape = (stop - start, *self._dataset.shape[1:])
            self._dataset.read_direct(out.reshape(shape), np.s_[start:stop])
            return
        view = memoryview(out).cast("B")
        if len(self._offsets) == 1 and self._plain:
            self._pread(int(self._offsets[0]) + start * self.row_bytes, view[: (stop - start) * self.row_bytes])
        elif self._plain:
            self._runs(start, stop, view)
        else:
            self._inflated(start, stop, view)

    def _runs(self, start: int, stop: int, view: memoryview) -> None:
        """Plain chunks, those that follow each other in the file in one go."""
        at = start
        while at < stop:
            number = at // self._length
            last = int(self._last[np.searchsorted(self._last, number)])
            end = min(stop, (last + 1) * self._length)
            offset = int(self._offsets[number]) + (at - number * self._length) * self.row_bytes
            self._pread(offset, view[(at - start) * self.row_bytes : (end - start) * self.row_bytes])
            at = end

    def _inflated(self, start: int, stop: int, view: memoryview) -> None:
        full = self._length * self.row_bytes
        for number in range(start // self._length, -(-stop // self._length)):
            packed = bytearray(int(self._stored[number]))
            self._pread(int(self._offsets[number]), memoryview(packed))
            plain = self._undo(packed, full)
            first = number * self._length
            low, high = max(start, first), min(stop, first + self._length)
            view[(low - start) * self.row_bytes : (high - start) * self.row_bytes] = plain[
                (low - first) * self.row_bytes : (high - first) * self.row_bytes
            ]

    def _undo(self, packed: bytes | bytearray, full: int) -> memoryview:
        """A chunk's ``full`` bytes, its filters undone from last to first."""
        for code in reversed(self._filters):
            if code == DEFLATE:
                try:
                    stream = zlib.decompressobj()
                    packed = stream.decompress(packed, full + 1)
                except zlib.error as error:
                    raise FormatError(self.file, self.place, f"a chunk does not inflate: {error}") from None
            else:
                item = self.dtype.itemsize
                packed = np.frombuffer(packed, np.uint8).reshape(item, -1).T.tobytes()
        if len(packed) != full:
            raise FormatError(self.file, self.place, f"a chunk holds {len(packed)} bytes, expected {full}")
        return memoryview(packed)

    def _pread(self, offset: int, view: memoryview) -> None:
        descriptor = self._descriptor()
        while view:
            got = os.preadv(descriptor, [view[:PIECE]], offset)
            if got <= 0:
                raise FormatError(self.file, self.place, f"the file ends at byte {offset}, where numbers should lie")
            view, offset = view[got:], offset + got
