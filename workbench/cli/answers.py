"""What verbs share: a failure that is an answer, progress on stderr, rows written whole."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


class Failed(Exception):
    """A verb could not do what was asked; the message says why and what to do."""


def tell(text: str) -> None:
    """Say something that is not the answer."""
    print(text, file=sys.stderr)


def write(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """One list of flat rows, written whole or not at all."""
    if path is None:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(rows, indent=1, default=str, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)
