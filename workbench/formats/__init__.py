"""File formats, one file each, read safely: from bytes already in memory, refusing what could do harm.

A format gives ``read(data, file)`` and, where the workbench also writes it, ``write(...) -> bytes``.
``file`` is only a name for messages; no format opens a path.
"""

from __future__ import annotations


class FormatError(ValueError):
    """A file is refused: ``file`` names it, ``place`` says where in it, ``reason`` why."""

    def __init__(self, file: str, place: str, reason: str) -> None:
        super().__init__(f"{file}, {place}: {reason}")
        self.file = file
        self.place = place
        self.reason = reason
