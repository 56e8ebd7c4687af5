"""What the commands of a federation share: files to write to, judged before the work, and how long it takes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from workbench import home


def complaint(flag: str, path: Path | None) -> str:
    """Why ``path`` cannot be written to, in words; "" where it can (or there is none)."""
    if path is None:
        return ""
    if path.is_dir():
        return f"{flag} {path}: it is a folder; name a file."
    if not path.parent.is_dir():
        return f"{flag} {path}: there is no folder {str(path.parent)!r}. Make it first."
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return f"{flag} {path}: it may not be written. Name another file, or change its rights."
    return ""


def unwritable(folder: Path) -> str:
    """Why nothing can be written in ``folder``, or where it would be made; "" where it can. Leaves nothing there."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".try-"):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def homeless() -> str:
    """Why nothing can be kept in the home, in words; "" where it can."""
    why = unwritable(place := home.home())
    return why and f"{place}: the home cannot be written ({why}). Make room, or set WORKBENCH_HOME to another folder."


def write(path: Path, text: str) -> None:
    """Write the file whole or not at all; what stood there stays until then."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


class TimeLeft:
    """Words for the time that is left, by the share done since the first call; "" where nothing can be said yet."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def __call__(self, done: float) -> str:
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            self._first = (now, done)
        start, begun = self._first
        if done <= begun or done >= 1:
            return ""
        left = (now - start) * (1 - done) / (done - begun)
        return f", about {left:.0f} s left" if left < 90 else f", about {left / 60:.0f} min left"
