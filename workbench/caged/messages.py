"""How a value goes through a pipe between parent and child: magic, sizes, header, buffers, and a checksum of it all."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from workbench.caged import codec

MAGIC = b"CAGED001"
SIZES = struct.Struct("<QQ")  # bytes of the header, number of buffers
ALIGNED = 64
CHUNK = 1 << 20


def send(handle: int, value: Any) -> None:
    """Write ``value`` to file descriptor ``handle``; TypeError where the codec does not carry it."""
    check = 0
    for part in _parts(*codec.encode(value)):
        view = memoryview(part).cast("B") if len(part) else memoryview(b"")
        check = zlib.crc32(view, check)
        while len(view):
            view = view[os.write(handle, view[:CHUNK]) :]
    os.write(handle, struct.pack("<I", check))


def receive(data: bytearray) -> Any:
    """The value in ``data``, all that ``send`` wrote; GarbageError where it is anything else."""
    if len(data) < len(MAGIC) + SIZES.size + 4 or data[: len(MAGIC)] != MAGIC:
        raise codec.GarbageError(f"{len(data):,} bytes that do not begin as an answer does")
    body = memoryview(data)[:-4]
    if zlib.crc32(body) != struct.unpack("<I", data[-4:])[0]:
        raise codec.GarbageError("an answer whose checksum is wrong")
    size, count = SIZES.unpack_from(body, len(MAGIC))
    at = len(MAGIC) + SIZES.size
    if count > (len(body) - at) // 8:
        raise codec.GarbageError(f"{count} buffers in {len(data):,} bytes")
    sizes = struct.unpack_from(f"<{count}Q", body, at)
    buffers, at = [], at + 8 * count
    header, at = body[at : at + size], at + size
    for length in sizes:
        at += -at % ALIGNED
        if at + length > len(body):
            raise codec.GarbageError("a buffer that ends outside of the answer")
        buffers.append(body[at : at + length])
        at += length
    return codec.decode(header, buffers)


def _parts(header: bytes, buffers: list[codec.Buffer]) -> Iterator[codec.Buffer]:
    sizes = [memoryview(b).nbytes for b in buffers]
    start = MAGIC + SIZES.pack(len(header), len(buffers)) + struct.pack(f"<{len(sizes)}Q", *sizes) + header
    yield start
    at = len(start)
    for buffer, size in zip(buffers, sizes, strict=True):
        yield bytes(-at % ALIGNED)
        yield buffer
        at += -at % ALIGNED + size
