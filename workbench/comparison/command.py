"""``workbench compare``: the comparison as text, as JSON, and in MLflow."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import polars as pl

from workbench import score
from workbench.comparison._chosen import ComparisonError
from workbench.comparison._compared import NEMENYI, PAIRED, compare
from workbench.comparison.frames import ALL, Comparison, labels

WIDTH, NAME, MOST = 118, 40, 30
Short = dict[str, str]  # a label for each entry
TABLES = ("scores", "pairs", "ranks", "critical", "groups", "parameters", "pareto", "runs")


def main(argv: list[str]) -> int:
    """``workbench compare [RUN ...]``: exit status 0, 1 (nothing to compare) or 2 (bad usage)."""
    parser = argparse.ArgumentParser(
        prog="workbench compare", description="Compare the predictors of recorded runs, folds and seeds taken together."
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="id, name or experiment; default: all runs")
    parser.add_argument("--study", help="only this study")
    parser.add_argument("--split", help='only this split, such as "unseen subject"')
    parser.add_argument("--metric", action="append", help="default: normalised Pearson; may be given more than once")
    parser.add_argument(
        "--draws", type=int, default=1000, help="of the bootstrap; 0 takes t over folds (default: 1000)"
    )
    parser.add_argument("--most", type=int, default=12, help="entries paired in each study and split (default: 12)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all tables to this file")
    parser.add_argument(
        "--log", nargs="?", const="", metavar="RUN|EXPERIMENT", help="also store figure and tables in MLflow"
    )
    try:
        given = parser.parse_args(argv)
        if given.json is not None and not given.json.parent.is_dir():
            parser.error(f"--json {given.json}: there is no folder {str(given.json.parent)!r}. Make it first.")
    except SystemExit as e:
        return 2 if e.code else 0
    try:
        found = compare(
            given.runs or None, study=given.study, split=given.split, metric=given.metric or "normalised Pearson",
            draws=given.draws, most=given.most, say=_say,
        )  # fmt: skip
        sys.stdout.write(text(found) + "\n")
        if given.json is not None:
            _write(given.json, rows(found))
        if given.log is not None:
            from workbench.comparison import log

            sys.stdout.write(f"\nstored in run {log(found, given.log or None)}\n")
    except (ComparisonError, LookupError, ValueError, OSError) as e:
        sys.stderr.write(f"workbench compare: {e.args[0] if e.args else e}\n")
        return 1
    return 0


def _say(done: float, what: str) -> None:
    sys.stderr.write(f"{done:4.0%} {what}\n")


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Every row of every table, with the table's name under "table"; an infinite F is null."""
    found = []
    for name in TABLES:
        frame: pl.DataFrame = getattr(comparison, name)
        finite = pl.col(pl.Float64).replace([math.inf, -math.inf], None)
        found += [{"table": name, **row} for row in frame.with_columns(finite).to_dicts()]
    return found


def _write(path: Path, told: list[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(told, indent=1, default=str, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)


def text(comparison: Comparison) -> str:
    """Scores, who is told apart from the best, ranks and parameters, as lines of text."""
    lines: list[str] = []
    for study, split in comparison.scores.select("study", "split").unique(maintain_order=True).iter_rows():
        lines += ["", *textwrap.wrap(f"{study}, {split}", WIDTH)]
        short = labels(comparison.scores.filter(study=study, split=split), NAME - 3)
        for metric in comparison.metrics:
            lines += _place(comparison, study, split, metric, short)
        lines += _parameters(comparison.parameters.filter(study=study, split=split), short)
    for metric in comparison.metrics:
        if comparison.critical.filter(study=ALL, metric=metric).height:
            short = labels(comparison.ranks.filter(study=ALL, metric=metric), NAME - 3)
            lines += ["", f"over all studies and splits, {metric}", *_ranks(comparison, ALL, ALL, metric, short)]
    lines.append("")
    for note in comparison.notes:
        lines += textwrap.wrap(note, WIDTH, initial_indent="  * ", subsequent_indent="    ")
    return "\n".join(lines).strip("\n")


def _place(comparison: Comparison, study: str, split: str, metric: str, short: Short) -> list[str]:
    scores = comparison.scores.filter(study=study, split=split, metric=metric)
    if scores.is_empty():
        return [f"  {metric}: nothing was recorded"]
    unit = f" [{scores['unit'][0]}]" if scores["unit"][0] else ""
    heads = f"{'value':>9}{'95 % interval':>20}{'best naive':>12}{'folds x seeds':>15}{'s a fold':>10}{'front':>7}"
    lines = [f"  {metric + unit:<{NAME}}{heads}"]
    front = {*comparison.pareto.filter(study=study, split=split, metric=metric).filter("on_front")["entry"]}
    for r in scores.head(MOST).iter_rows(named=True):
        span = "-" if r["low"] is None else f"{r['low']:.3f} to {r['high']:.3f}"
        naive = "-" if r["naive"] is None else f"{r['naive']:.3f}"
        cost = "-" if r["cost_s"] is None else f"{r['cost_s']:.1f}"
        lines.append(
            f"  {short[r['entry']]:<{NAME}}{r['value']:>9.3f}{span:>20}{naive:>12}"
            f"{r['folds']:>11} x {r['seeds']}{cost:>10}{'*' if r['entry'] in front else '':>7}"
        )
    if scores.height > MOST:
        lines.append(f"  ... and {scores.height - MOST:,} more (--json has them all)")
    hows = scores["interval"].head(MOST).unique(maintain_order=True).to_list()
    lines.append(f"  intervals: {'; '.join(h for h in hows if h)}; front: nothing is both better and cheaper")
    for entry in scores["entry"].head(MOST):
        if short[entry] != entry:
            mark = short[entry].rpartition(" ")[2]
            lines += textwrap.wrap(f"{mark} {entry}", WIDTH, initial_indent="  ", subsequent_indent="      ")
    return [
        *lines,
        *_pairs(comparison, study, split, metric, scores, short),
        *_ranks(comparison, study, split, metric, short),
    ]


def _pairs(
    comparison: Comparison, study: str, split: str, metric: str, scores: pl.DataFrame, short: Short
) -> list[str]:
    """The best entry against each other one."""
    pairs = comparison.pairs.filter(study=study, split=split, metric=metric)
    if pairs.is_empty():
        return []
    best = next(e for e in scores["entry"] if e in {*pairs["a"], *pairs["b"]})
    lines = [f"  {short[best]}, paired with"]
    for r in pairs.filter((pl.col("a") == best) | (pl.col("b") == best)).iter_rows(named=True):
        turn = 1 if r["a"] == best else -1
        other = r["b"] if turn > 0 else r["a"]
        if r["difference"] is None:
            lines.append(f"    {short[other]:<{NAME - 2}}{r['verdict']}")
            continue
        ends = "-" if r["low"] is None else "{:+.4f} to {:+.4f}".format(*sorted((turn * r["low"], turn * r["high"])))
        said = score.verdict(r["low"] or 0, r["high"] or 0, turn * comparison.better[metric])
        p = "-" if r["p_holm"] is None else "< 0.001" if r["p_holm"] < 0.001 else f"{r['p_holm']:.3f}"
        lines.append(f"    {short[other]:<{NAME - 2}}{turn * r['difference']:>+9.4f}{ends:>22}  Holm p {p:<8} {said}")
    return lines + _groups(comparison, study, split, metric, PAIRED, "paired intervals do not tell apart", short)


def _ranks(comparison: Comparison, study: str, split: str, metric: str, short: Short) -> list[str]:
    told = comparison.critical.filter(study=study, split=split, metric=metric)
    if told.is_empty():
        return []
    c = told.row(0, named=True)
    ranks = comparison.ranks.filter(study=study, split=split, metric=metric)
    names = "; ".join(f"{short[e]} {r:.2f}" for e, r in ranks.select("entry", "rank").iter_rows())
    note = f"; {c['note']}" if c["note"] else ""
    words = (
        f"mean ranks over {c['blocks']} folds: {names}. Friedman p {c['p_friedman']:.2g}, Iman-Davenport p "
        f"{c['p']:.2g}, Nemenyi's critical difference {c['critical_difference']:.2f}{note}."
    )
    lines = textwrap.wrap(words, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return lines + _groups(comparison, study, split, metric, NEMENYI, "mean ranks do not tell apart", short)


def _groups(
    comparison: Comparison, study: str, split: str, metric: str, by: str, words: str, short: Short
) -> list[str]:
    found = comparison.groups.filter(study=study, split=split, metric=metric, by=by)["entries"].to_list()
    told = " | ".join("; ".join(short[e] for e in g) for g in found)
    return textwrap.wrap(f"{words}: {told}", WIDTH, initial_indent="  ", subsequent_indent="    ") if found else []


def _parameters(frame: pl.DataFrame, short: Short) -> list[str]:
    if frame.is_empty():
        return []
    lines = ["  parameters that differ"]
    for param, group in frame.group_by("param", maintain_order=True):
        values = ", ".join(
            f"{short[e]}: {'-' if v is None else v}" for e, v in group.select("entry", "value").iter_rows()
        )
        lines += textwrap.wrap(f"{param[0]}  {values}", WIDTH, initial_indent="    ", subsequent_indent="      ")
    return lines
