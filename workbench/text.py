"""Words for people: hints for mistyped names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` (with a leading blank) for the nearest known name, or an empty string."""
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
