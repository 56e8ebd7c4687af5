"""Names that MLflow, files and people read: turned into keys and back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from workbench import tables
from workbench.text import nearest

KIND = "workbench.kind"  # tag: what a run is
EXPERIMENT, CHILD = "experiment", "predictor and fold"


class RunError(LookupError):
    """A run, or a part of it, is not there, not unique, or not what was recorded."""


def key(name: str) -> str:
    """MLflow's key for a name: what its keys may not hold becomes ``:hex:``; ``name_of`` turns it back.

    >>> key("per-drug Pearson"), key("R² (a/b)")
    ('per-drug Pearson', 'R:b2: :28:a:2f:b:29:')
    """
    escaped = re.sub(r"[^A-Za-z0-9 _.\-]|^\.", lambda m: f":{ord(m[0]):x}:", name) or "::"
    if len(escaped) > 250:  # MLflow's limit; the tables keep the full name
        return f"{escaped[:200]}:~{sha256(name.encode())[:32]}"
    return escaped


def name_of(key: str) -> str:
    """The name behind an MLflow key (names beyond 250 characters are not recoverable)."""
    return re.sub(r":([0-9a-f]*):", lambda m: chr(int(m[1], 16)) if m[1] else "", key)


def slug(name: str) -> str:
    """A file name: letters, digits, ``_``, ``-`` and ``.`` only."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", name).strip("._") or "unnamed"


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested parameters as dotted names and strings: strings as they are, all else as JSON."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)


def table(name: str) -> tables.Table:
    """The table of that name, in any case; an unknown one raises RunError with the nearest."""
    if name.upper() not in tables.TABLES:
        hint = nearest(name.upper(), tables.TABLES)
        raise RunError(f"no table is called {name!r}.{hint} Known: {', '.join(tables.TABLES)}.")
    return tables.TABLES[name.upper()]
