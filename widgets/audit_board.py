"""FINDINGS as a board that people read: what, where, how sure, how bad, what to do; a click selects who is concerned.

Layout of ``frame_bytes`` (container: ``widgets._parts.pack``). Header: ``version``, ``subjects`` [name], ``noun``,
``checks`` [{check, family}] (what was run, found or not), ``findings`` [{check, family, severity, confidence, what,
where, names, n, do, subjects}], worst first. ``names`` are cut to the first 40, ``subjects`` counts the subjects
concerned. Columns: ``start`` i4 findings + 1, ``concerned`` i4 (index into subjects).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._parts import esm, pack
from widgets._selected import Selects
from widgets.linked import Selection
from widgets.palette import theme
from workbench.tables import FINDINGS, TableError, check

SEVERITIES = ("error", "warning", "note")
_NAMED = 40  # names told in words; all of them are selected


def _ordered(findings: pl.DataFrame) -> pl.DataFrame:
    frame = check(findings, FINDINGS)
    strange = sorted(set(frame["severity"].cast(pl.String)) - set(SEVERITIES))
    if strange:
        raise TableError(f"table FINDINGS: severity {strange[0]!r} is not known; expected one of {list(SEVERITIES)}.")
    rank = pl.col("severity").cast(pl.String).replace_strict(SEVERITIES, range(len(SEVERITIES)), return_dtype=pl.Int8)
    return frame.sort(rank, -pl.col("confidence"), "family", "check", maintain_order=True)


def _concerned(finding: dict[str, Any], known: dict[str, int], of_row: list[str] | None) -> list[int]:
    """Subjects of a finding: those it names, then those whose rows it names."""
    named = [known[name] for name in finding["names"] or [] if name in known]
    rows = [] if of_row is None else [of_row[r] for r in finding["rows"] or [] if 0 <= r < len(of_row)]
    return list(dict.fromkeys([*named, *(known[s] for s in rows if s in known)]))


class AuditBoard(Selects, anywidget.AnyWidget):
    """What the checks of a study found, worst first.

    Parameters
    ----------
    findings : polars frame of ``tables.FINDINGS``; may be empty
    checks : what was run: names, (check, family) pairs, or the table of ``audits.checks()``; shown as a count, so that
        an empty board means something
    study : the study that was checked (or anything with ``subjects`` and ``rows``); it turns names and rows into
        subjects to select. Without it whatever a finding names can be selected: subjects, but features as well
    selection : what is selected, shared with other widgets
    title : heading, shown as text

    Attributes
    ----------
    family, severity : what is shown; ``""`` shows all
    selected : names of the subjects that the picked findings concern

    Raises
    ------
    TableError
        ``findings`` is not such a table, or a severity is unknown.

    Examples
    --------
    >>> AuditBoard(audits.run(study), study=study)  # doctest: +SKIP
    """

    _esm = esm("audit_board")
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    family = t.Unicode().tag(sync=True)
    severity = t.Enum(["", *SEVERITIES], default_value="").tag(sync=True)

    def __init__(
        self,
        findings: pl.DataFrame,
        checks: Iterable[str | tuple[str, str]] | pl.DataFrame = (),
        *,
        study: Any = None,
        selection: Selection | None = None,
        title: str = "",
        note: str = "",
    ) -> None:
        self._findings = _ordered(findings)
        rows = self._findings.to_dicts()
        of_row = None
        if study is not None:
            subjects = study.subjects["subject"].cast(pl.String).to_list()
            if any(row["rows"] for row in rows):
                of_row = study.rows["subject"].cast(pl.String).to_list()
        else:
            subjects = list(dict.fromkeys(name for row in rows for name in row["names"] or []))
        known = {name: i for i, name in enumerate(subjects)}
        concerned = [_concerned(row, known, of_row) for row in rows]
        if isinstance(checks, pl.DataFrame):
            checks = [(c, f) for c, f in checks.select("check", "family").iter_rows()]
        ran = [(c, "") if isinstance(c, str) else (str(c[0]), str(c[1])) for c in checks]
        told = [c for c in self._findings.columns if c not in ("rows", "names")]
        header = [
            {**{c: row[c] for c in told}, "names": (row["names"] or [])[:_NAMED], "subjects": len(who)}
            for row, who in zip(rows, concerned, strict=True)
        ]
        packed = pack(
            {
                "start": np.cumsum([0, *map(len, concerned)]).astype(np.int32),
                "concerned": np.array([i for who in concerned for i in who], dtype=np.int32),
            },
            version=1,
            subjects=subjects,
            noun="name" if study is None else "subject",
            checks=[{"check": check, "family": family} for check, family in ran],
            findings=header,
        )
        super().__init__(frame_bytes=packed, theme=theme(), title=title, note=note)
        self.join(selection)

    @property
    def shown(self) -> pl.DataFrame:
        """The findings that pass ``family`` and ``severity``, worst first."""
        keep = pl.lit(True)
        if self.family:
            keep &= pl.col("family") == self.family
        if self.severity:
            keep &= pl.col("severity") == self.severity
        return self._findings.filter(keep)
