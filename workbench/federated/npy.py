"""An array as the bytes of an .npy file and back: what numpy writes and reads, with one copy each way.

numpy's own functions write a header anew for each array and go through a file in memory: for a network of a dozen small
arrays, five sites and two ways that is a third of what Flower's engine costs a round. Headers are remembered here.
"""

from __future__ import annotations

import functools
import math
from io import BytesIO

import numpy as np
from numpy.lib import format as npy

MAGIC = npy.magic(1, 0)


def packed(array: np.ndarray) -> bytes:
    """``array`` as numpy.save writes it; raises ValueError for objects, which no file without code can hold."""
    if array.dtype.hasobject:
        raise ValueError(f"an array of {array.dtype} cannot be written without pickle.")
    across = array.flags.f_contiguous and not array.flags.c_contiguous
    flat = np.ascontiguousarray(array.T if across else array).reshape(-1)
    return b"".join((_header(array.dtype, array.shape, across), flat.view(np.uint8).data))


def unpacked(data: bytes) -> np.ndarray:
    """The array in ``data``, one of its own; raises ValueError where there is none, or more or less than it says."""
    if data[: len(MAGIC)] != MAGIC:
        return np.load(BytesIO(data), allow_pickle=False)  # a later version of the format, or nothing of the kind
    start = len(MAGIC) + 2 + int.from_bytes(data[len(MAGIC) : len(MAGIC) + 2], "little")
    shape, across, dtype = _told(data[:start])
    count = math.prod(shape)
    if dtype.hasobject or min(shape, default=0) < 0 or len(data) - start != count * dtype.itemsize:
        raise ValueError(f"not an array: {len(data) - start} bytes for shape {shape} of {dtype}.")
    flat = np.frombuffer(data, dtype, count, start).copy() if count else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if across else "C")


@functools.lru_cache(maxsize=1024)
def _header(dtype: np.dtype, shape: tuple[int, ...], across: bool) -> bytes:
    file = BytesIO()
    told = {"descr": npy.dtype_to_descr(dtype), "fortran_order": across, "shape": shape}
    npy.write_array_header_1_0(file, told)
    return file.getvalue()


@functools.lru_cache(maxsize=1024)
def _told(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    return npy.read_array_header_1_0(BytesIO(header[len(MAGIC) :]))
