"""Words for people: hints for mistyped names, errors as the command line spells them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` (with a leading blank) for the nearest known name, or an empty string."""
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def in_order(names: Iterable[str]) -> list[str]:
    """Names as people count: "site 2" before "site 10"."""
    return sorted(
        names, key=lambda n: [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in re.split(r"(\d+)", n)]
    )


def on_command_line(words: object) -> str:
    """An error's words with Python's arguments as the command line spells them."""
    told = str(words).replace("Give replace=True", "Give --replace")
    return re.sub(r"\bstate (\w+)=", r"state --option \1=", told)
