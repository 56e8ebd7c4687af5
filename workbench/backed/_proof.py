"""SHA-256 of a file too large for memory, computed by streaming and remembered while this process lives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from workbench import manifest
from workbench.manifest import StudyError

Progress = Callable[[float], None]
PIECE = 2**24

_proven: dict[tuple[int, ...], str] = {}


def prove(descriptor: int, file: str, sha256: str, size: int | None = None, progress: Progress | None = None) -> None:
    """Refuse the open file unless its SHA-256 is ``sha256``; the same file, untouched since, is read only once.

    Raises
    ------
    StudyError
        Size or digest is another.
    """
    found = digest(descriptor, file, progress) if size in (None, os.fstat(descriptor).st_size) else None
    if found is None:
        actual = os.fstat(descriptor).st_size
        raise StudyError(file, f"expected {size:,} bytes, found {actual:,}. {manifest.RESTORE}")
    if found != sha256:
        raise StudyError(file, f"expected SHA-256 {sha256}, found {found}. {manifest.RESTORE}")


def digest(descriptor: int, file: str, progress: Progress | None = None) -> str:
    """SHA-256 of an open file; remembered by device, inode, size and times, and forgotten with the process."""
    key = stamp(descriptor)
    if key not in _proven:
        hashed, at, size = hashlib.sha256(), 0, os.fstat(descriptor).st_size
        piece = bytearray(PIECE)
        while got := os.preadv(descriptor, [piece], at):
            hashed.update(memoryview(piece)[:got])
            at += got
            if progress is not None:
                progress(at / max(size, at))
        if stamp(descriptor) != key:
            raise StudyError(file, "it was changed while it was checked. Open it again.")
        _proven[key] = hashed.hexdigest()
    return _proven[key]


def stamp(descriptor: int) -> tuple[int, ...]:
    """What changes when a file does; the change time cannot be set back as the modification time can."""
    stat = os.fstat(descriptor)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
