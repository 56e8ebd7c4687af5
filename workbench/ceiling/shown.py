"""``workbench ceiling``: how far two studies agree, drug by drug, and how near a run's predictors come."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import polars as pl

from workbench import ceiling
from workbench.ceiling._shares import UNREPEATED
from workbench.study import Study, find

OTHER = {"gdsc2": "gdsc1"}  # the study to compare with, where none is named; else gdsc2
ENDS = 8  # drugs shown at each end
SHARE = ("score", "elsewhere", "agreement", "corrected", "corrected_elsewhere", "triad")
HEADS = ("here", "there", "agreement", "share here", "share there", "triad")


def main(argv: list[str]) -> int:
    """``workbench ceiling [RUN] --json F``: exit status 0, 1 (it cannot be computed) or 2 (bad usage)."""
    parser = argparse.ArgumentParser(
        prog="workbench ceiling",
        description="How far two studies that measured the same lines and drugs agree, and what share of that ceiling "
        "the predictors of a run reach.",
    )
    parser.add_argument("run", nargs="?", help="id or name of a run, or 'latest'; without one only the agreement")
    parser.add_argument("--study", default="gdsc2", help="where no run is given (default: gdsc2)")
    parser.add_argument("--other", help="study to compare with (default: gdsc1 for gdsc2, else gdsc2)")
    parser.add_argument("--third", help="a third study: then the reliability of each of the three is told too")
    parser.add_argument("--endpoint", default=None, help="default: that of the run, or ln_ic50")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws (default: 1000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row as JSON too")
    try:
        given = parser.parse_args(argv)
    except SystemExit as e:
        return 2 if e.code else 0
    try:
        text, rows = _computed(given)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1, allow_nan=False), encoding="utf-8")
    except (LookupError, OSError, ValueError, RuntimeError) as e:
        sys.stderr.write(f"workbench ceiling: {e.args[0] if e.args else e}\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


def _computed(given: argparse.Namespace) -> tuple[str, dict[str, list[dict[str, object]]]]:
    run = None
    if given.run:
        from workbench import runs

        run = runs.find(given.run)
    name = run.study if run is not None else given.study
    study, other = (Study.open(find(n)) for n in (name, given.other or OTHER.get(name, "gdsc2")))
    pairs = ceiling.shared_pairs(study, other, given.endpoint or (run.params["endpoint"] if run else "ln_ic50"))
    agreed = ceiling.of_pairs(pairs, draws=given.draws)
    told, rows = [agreement(agreed)], {"ceiling": agreed.to_dicts()}
    if given.third:
        three = (study, other, Study.open(find(given.third)))
        reliable = ceiling.reliabilities(three, pairs["endpoint"][0], draws=given.draws)
        told.append(of_three(reliable))
        rows["reliabilities"] = reliable.to_dicts()
    if run is None:
        return "\n".join(told), rows
    shares = ceiling.beside(run.predictions, pairs, draws=given.draws)  # refuses values other than those of the study
    named = ceiling.verdicts(shares)
    rows |= {"shares": shares.to_dicts(), "verdicts": named.to_dicts()}
    return "\n".join([*told, of_predictors(shares), of_drugs(named)]), rows


def agreement(frame: pl.DataFrame, ends: int = ENDS) -> str:
    """CEILING as lines of text: over all, then the drugs that repeat worst and best."""
    one = frame.row(0, named=True)
    whole = {r["metric"]: r for r in frame.filter(pl.col("treatment").is_null()).iter_rows(named=True)}
    drugs = frame.filter(pl.col("metric") == "Pearson", pl.col("treatment").is_not_null()).sort(
        "value", descending=True, nulls_last=True
    )
    shared = next(iter(whole.values()))["n"]
    lines = [f"{one['study']} and {one['other']} share {shared:,} pairs of {drugs.height} drugs ({one['endpoint']})"]
    lines += [f"  {m:<20}{_interval(r)} {r['unit']}".rstrip() for m, r in whole.items()]
    if (whole["normalised Pearson"]["value"] or 0) > ceiling.MOST:
        lines.append("  they agree too well to be two screens: one set of measurements processed twice is no repeat")
    shown = [
        ("drugs that repeat best", drugs.head(ends)),
        ("worst", drugs.tail(max(0, drugs.height - ends)).tail(ends)),
    ]
    for title, part in shown:
        if part.height:
            lines.append(f"  {title} (Pearson over shared lines)")
        for r in part.iter_rows(named=True):
            called = "" if r["treatment"] == r["other_treatment"] else f" = {r['other_treatment']}"
            lines.append(f"    {_interval(r)}  {r['n']:>5} lines  {r['treatment']}{called}")
    return "\n".join(lines)


def of_three(frame: pl.DataFrame) -> str:
    """Reliabilities of three studies as lines of text."""
    n, drugs = frame.row(0, named=True)["n"], frame.row(0, named=True)["drugs"]
    lines = [f"\nreliability of each, from the {n:,} pairs of {drugs} drugs that all three measured"]
    for r in frame.iter_rows(named=True):
        lines.append(f"  {r['study']:<20}{_interval(r | {'value': r['reliability']})}, ceiling {_number(r['ceiling'])}")
    return "\n".join(lines)


def of_predictors(shares: pl.DataFrame) -> str:
    """SHARES over all drugs as lines of text, with what the columns mean."""
    one = shares.row(0, named=True)
    here, there = one["study"], one["other"]
    lines = [
        f"\npredictors, {one['split']}: scores here ({here}), against the same pairs' values there ({there}),",
        "  and their share of the ceiling, sqrt(agreement); what is peculiar to a screen raises the share here, not",
        "  the one there. Where the two are not equally reliable, read the triad. Below each its 95 % interval.",
    ]
    ranks = shares.filter(pl.col("treatment").is_not_null()).group_by("predictor", maintain_order=True)
    flat = [p for p, s in ranks.agg(pl.col("score").abs().max()).iter_rows() if s == 0]
    if flat:
        lines.append(f"  the same for every line, so nothing to correlate: {', '.join(flat)}")
    for metric in ("normalised Pearson", "per-drug Pearson"):
        part = shares.filter(pl.col("metric") == metric, ~pl.col("predictor").is_in(flat))
        if part.is_empty():
            continue
        lines.append(f"  {metric:<20}" + "".join(h.rjust(18) for h in HEADS))
        for r in part.iter_rows(named=True):
            lines.append(f"  {r['predictor']:<20}" + "".join(_number(r[c]).rjust(18) for c in SHARE))
            stems = ["" if c == "score" else f"{c}_" for c in SHARE]
            lines.append(" " * 22 + "".join(_bounds(r[f"{s}low"], r[f"{s}high"]).rjust(18) for s in stems))
    return "\n".join(lines)


def of_drugs(named: pl.DataFrame, most: int = 30) -> str:
    """Verdicts as lines of text: how many drugs of each kind, and by name those that fail."""
    lines = ["\ndrugs"]
    for verdict, n in named["verdict"].value_counts(sort=True).iter_rows():
        lines.append(f"  {n:>5}  {verdict}")
    failing = named.filter(~pl.col("verdict").is_in(["predicted", UNREPEATED])).sort("verdict", "treatment")
    for r in failing.head(most).iter_rows(named=True):
        agreed = (
            ""
            if r["agreement"] is None
            else f", there {_number(r['elsewhere'])}, the screens agree at {r['agreement']:.2f}"
        )
        lines.append(f"    {r['treatment']}: {r['verdict']} (best {r['predictor']} {_number(r['score'])}{agreed})")
    if failing.height > most:
        lines.append(f"    ... and {failing.height - most} more (--json has all)")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _interval(row: dict[str, Any]) -> str:
    return f"{_number(row['value']):>6} ({_bounds(row['low'], row['high'])})"
