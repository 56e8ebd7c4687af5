"""One file = one family of checks on a study, or on a study with a split.

    findings = audits.run(study)              # tables.FINDINGS, worst first; empty where nothing is wrong
    findings = audits.run(study, split)       # the same, and what leaks or shifts across its folds

A file lists what it looks for in ``CHECKS``. A check that does not apply says nothing. Checks that judge by chance
hold a strict level together, so that clean data stay clean; each finding carries how sure it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from workbench import rooms, tables
from workbench.audits._case import Case
from workbench.audits._finding import ERROR, NOTE, WARNING, Check, Finding
from workbench.audits._shown import text
from workbench.splits import Split
from workbench.study import Study
from workbench.text import nearest

__all__ = ["Case", "Check", "Finding", "checks", "families", "run", "table", "text"]

ORDER = (ERROR, WARNING, NOTE)
Say = Callable[[float, str], None]  # (fraction done, what is being looked at)


def families() -> list[str]:
    """Names of the families: the files of this room."""
    return rooms.names(__name__)


def checks() -> pl.DataFrame:
    """Every check: family, check, split (does it need one?), says (one sentence)."""
    rows = [(f, c.name, c.split, c.says) for f in families() for c in rooms.load(__name__, f).CHECKS]
    return pl.DataFrame(
        rows, schema={"family": pl.String, "check": pl.String, "split": pl.Boolean, "says": pl.String}, orient="row"
    )


def run(
    study: Study,
    split: Split | None = None,
    *,
    families: Sequence[str] | None = None,
    say: Say | None = None,
    stopped: Callable[[], bool] | None = None,
) -> pl.DataFrame:
    """Look at a study, or at a study with a split, and say what is wrong with it.

    Values of rows that the split only ever tests on are not looked at (see ``Case``); a sealed study is refused.

    Parameters
    ----------
    families : which files of the room to use, all when not given
    say : progress
    stopped : True ends the audit after the check under way; what was found so far is returned, with a note

    Returns
    -------
    tables.FINDINGS, errors first, then by confidence

    Raises
    ------
    ValueError
        A family is unknown, or the split is of another study.
    """
    known = rooms.names(__name__)
    for name in families or ():
        if name not in known:
            raise ValueError(
                f"no family of checks is called {name!r}.{nearest(name, known)} Known: {', '.join(known)}."
            )
    if split is not None and split.study.digest != study.digest:
        raise ValueError(
            f"the split is of study {split.study.name!r} ({split.study.digest[:12]}), not of {study.name!r} "
            f"({study.digest[:12]}). Make it of the study that is audited."
        )
    case = Case(study, split)
    todo = [(f, c) for f in known if not families or f in families for c in rooms.load(__name__, f).CHECKS]
    todo = [(f, c) for f, c in todo if split is not None or not c.split]
    rows = []
    for done, (family, check) in enumerate(todo):
        if stopped is not None and stopped():
            rows.append(_unfinished(len(todo) - done).row("audit stopped", family))
            break
        if say is not None:
            say(done / len(todo), f"{family}: {check.name}")
        rows += [found.row(check.name, family) for found in _looked(check, case)]
    if say is not None:
        say(1.0, "done")
    return table(rows)


def table(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Findings as ``tables.FINDINGS``, errors first, then by confidence."""
    frame = tables.check(pl.DataFrame(rows, schema=dict(tables.FINDINGS.columns)), tables.FINDINGS)
    rank = pl.col("severity").replace_strict({s: i for i, s in enumerate(ORDER)}, return_dtype=pl.Int8)
    return frame.sort(rank, -pl.col("confidence"), "family", "check", "where", maintain_order=True)


def _looked(check: Check, case: Case) -> list[Finding]:
    """What a check found; one that fails must not end the audit (or the training that asked for it), so it says so."""
    try:
        return list(check.look(case))
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        return [
            Finding(
                WARNING,
                1.0,
                f"The check could not be made: {type(error).__name__}: {error}",
                "audit",
                "What it looks for is unknown here. Look at it by hand, and report this.",
            )
        ]


def _unfinished(left: int) -> Finding:
    return Finding(
        NOTE, 1.0, f"The audit was stopped with {left} checks left to make.", "audit", "Run it again.", n=left
    )
