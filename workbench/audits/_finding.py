"""What a check is, and what it says: one finding per fault, in words, with figures, rows and names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.audits._case import Case

LISTED = 10_000  # rows or names that a finding carries; ``n`` counts them all
ERROR, WARNING, NOTE = "error", "warning", "note"  # do not train on it; look first; know it


@dataclass(frozen=True)
class Finding:
    """One fault: see ``tables.FINDINGS`` for the columns it becomes.

    Attributes
    ----------
    severity : "error": do not train on it; "warning": look first; "note": know it
    confidence : 0 to 1, how sure the check is that this is what it says
    what : one sentence with the figures
    where : endpoint, modality, table or fold
    do : what to do about it
    rows : row numbers in the study's outcomes
    names : subjects, treatments, groups or features concerned
    n : how many rows or names in all, where fewer are listed
    """

    severity: str
    confidence: float
    what: str
    where: str
    do: str
    rows: Iterable[int] = ()
    names: Iterable[str] = ()
    n: int | None = None

    def row(self, check: str, family: str) -> dict[str, Any]:
        """The finding as a row of ``tables.FINDINGS``."""
        rows = [int(r) for r in np.asarray(list(self.rows), dtype=np.int64)]
        names = [str(n) for n in self.names]
        n = self.n if self.n is not None else (len(rows) or len(names))
        return {
            "check": check,
            "family": family,
            "severity": self.severity,
            "confidence": float(min(1.0, max(0.0, self.confidence))),
            "what": self.what,
            "where": self.where,
            "rows": rows[:LISTED],
            "names": names[:LISTED],
            "n": int(n),
            "do": self.do,
        }


@dataclass(frozen=True)
class Check:
    """A named look at a study, or at a study with a split.

    Attributes
    ----------
    name : what it looks for
    look : takes a ``Case``, yields findings; says nothing where it does not apply. The first line of its
        docstring is what people read about the check
    split : whether it needs a split
    """

    name: str
    look: Callable[[Case], Iterable[Finding]]
    split: bool = False

    @property
    def says(self) -> str:
        """One sentence about the check."""
        return (self.look.__doc__ or "").strip().splitlines()[0]


def foremost(found: list[tuple[float, str, Finding]]) -> Iterator[Finding]:
    """The strongest of findings (size, column, finding) that say one thing by several columns, the others named."""
    if not found:
        return
    _, best, finding = max(found, key=lambda f: f[0])
    others = [column for _, column, _ in found if column != best]
    more = f" {', '.join(others[:6])} {'say' if len(others) > 1 else 'says'} much the same." if others else ""
    yield replace(finding, what=finding.what + more)


def some(names: Iterable[Any], most: int = 4) -> str:
    """The first few names, quoted, and how many more: ``'a', 'b' and 3 more``."""
    listed = [repr(str(n)) for n in names]
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"


def figure(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def chance(p: float) -> str:
    """A p-value in words that do not pretend to more than was computed."""
    return "p < 1e-12" if p < 1e-12 else f"p = {p:.2g}"
