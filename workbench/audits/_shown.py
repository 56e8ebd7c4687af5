"""Findings as lines of text, for a terminal."""

from __future__ import annotations

import textwrap

import polars as pl

WIDTH = 118
MARK = {"error": "ERROR", "warning": "warning", "note": "note"}


def text(findings: pl.DataFrame, of: str) -> str:
    """Findings of ``of`` as text: severity, check and place; what; what to do; worst first."""
    count = {s: findings.filter(pl.col("severity") == s).height for s in MARK}
    lines = [f"{of}: {count['error']} errors, {count['warning']} warnings, {count['note']} notes"]
    for f in findings.iter_rows(named=True):
        head = f"\n{MARK[f['severity']]:<8} {f['check']} [{f['where']}]"
        lines.append(f"{head}  confidence {f['confidence']:.2f}, n = {f['n']}")
        lines += textwrap.wrap(f["what"], WIDTH, initial_indent="  ", subsequent_indent="  ")
        lines += textwrap.wrap("-> " + f["do"], WIDTH, initial_indent="  ", subsequent_indent="     ")
        if f["rows"]:
            shown = ", ".join(str(r) for r in f["rows"][:8])
            lines.append(f"  rows {shown}{' ...' if f['n'] > 8 else ''}")
    return "\n".join(line if line.isprintable() else _plain(line) for part in lines for line in part.split("\n"))


def _plain(line: str) -> str:
    """Control characters of names shown as escapes, so that a name cannot move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
