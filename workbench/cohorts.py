"""Named cohorts: who belongs together, saved in a study's journal and never overwritten.

A cohort is one entry of the hash-chained journal: it says who saved it, when and with which tool, and cannot
change unseen. Saving the name again with other members adds an entry; the newest counts, the older stay readable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.text import nearest

AXES = ("subject", "treatment", "cell")


class CohortError(ValueError):
    """A cohort cannot be saved or found; the message says why and what there is."""


@dataclass(frozen=True)
class Cohort:
    """Members of a study by name.

    Attributes
    ----------
    name, note : as typed
    axis : what the members are: "subject", "treatment" or "cell"
    members : names, sorted, each once
    when, who : of the journal's entry
    """

    name: str
    axis: str
    members: tuple[str, ...]
    note: str
    when: str
    who: str


def plain(name: str, members: Iterable[str], axis: str, note: str, known: Sequence[str]) -> dict[str, Any]:
    """What the journal's entry holds.

    Raises
    ------
    CohortError
        No name, no members, an unknown axis, or a member that the study does not have.
    """
    if not name.strip() or len(name) > 200 or any(ord(c) < 32 for c in name):
        raise CohortError(f"a cohort needs a name of 1 to 200 characters in one line; found {name!r}.")
    if axis not in AXES:
        raise CohortError(f"a cohort's axis is one of {', '.join(AXES)}; found {axis!r}.")
    chosen = sorted(set(members))
    if not chosen:
        raise CohortError(f"cohort {name!r} has no members. Select some {axis}s first.")
    there = set(known)
    lacking = [m for m in chosen if m not in there]
    if lacking:
        hint = nearest(lacking[0], known) if len(known) <= 10_000 else ""
        raise CohortError(
            f"cohort {name!r}: {len(lacking)} of {len(chosen)} members are no {axis}s of this study, "
            f"first {lacking[0]!r}.{hint}"
        )
    return {"name": name.strip(), "axis": axis, "members": chosen, "note": note}


def of(journal: Sequence[dict[str, Any]]) -> dict[str, Cohort]:
    """The cohorts of a verified journal by name, the newest of each name, in the order of their first saving."""
    found: dict[str, Cohort] = {}
    for entry in journal:
        if (c := entry.get("cohort")) is not None:
            found[c["name"]] = Cohort(c["name"], c["axis"], tuple(c["members"]), c["note"], entry["when"], entry["who"])
    return found


def find(journal: Sequence[dict[str, Any]], name: str, study: str) -> Cohort:
    """The cohort called ``name``; ``CohortError`` names the nearest where there is none."""
    known = of(journal)
    if name not in known:
        listed = f" It has: {', '.join(map(repr, known))}." if known else " It has none yet: save one first."
        raise CohortError(f"study {study!r} has no cohort {name!r}.{nearest(name, list(known))}{listed}")
    return known[name]
