"""`workbench coverage RUN`: where the intervals of a recorded run hold what they promise, and where they do not."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import polars as pl

from workbench.text import on_command_line
from workbench.trust import coverage

SHOWN = 12  # groups of one kind shown in a terminal: those that break first, then those farthest off


def main(argv: list[str]) -> int:
    """Print COVERAGE of a run's predictions; exit status 0 done, 1 failed, 2 bad usage, 3 with --strict on a break."""
    parser = argparse.ArgumentParser(
        prog="workbench coverage", description="How often observed values lie within the intervals of a recorded run."
    )
    parser.add_argument("run", help="id, unique id prefix, name of run or experiment; 'latest'")
    parser.add_argument("--by", action="append", choices=coverage.BY, help="kind of group (default: all of them)")
    parser.add_argument("--predictor", action="append", help="only this predictor")
    parser.add_argument("--every", action="store_true", help="print every group, not the worst of each kind")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--strict", action="store_true", help="exit 3 where an interval breaks")
    args = parser.parse_args(argv)
    if args.json is not None and not args.json.parent.is_dir():
        parser.error(f"--json {args.json}: there is no folder {str(args.json.parent)!r}. Make it first.")
    try:
        table = of_run(args.run, tuple(args.by or coverage.BY), args.predictor)
    except (ValueError, LookupError, OSError, RuntimeError) as error:
        if os.environ.get("WORKBENCH_DEBUG"):
            raise
        said = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.stderr.write(f"workbench coverage: {on_command_line(said)}\n")
        return 1
    sys.stdout.write(text(table, None if args.every else SHOWN) + "\n")
    if args.json is not None:
        args.json.write_text(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 3 if args.strict and (table["verdict"] == coverage.BREAKS).any() else 0


def of_run(name: str, by: tuple[str, ...], predictors: list[str] | None = None) -> pl.DataFrame:
    """COVERAGE of a recorded run; by distance too where its study is at hand and has expression."""
    from workbench import runs
    from workbench.text import nearest

    run = runs.find(name)
    scored = run.predictions
    if scored.is_empty():
        raise ValueError(f"run {run.name!r} holds no predictions: it ended ({run.status}) before writing them.")
    known = scored["predictor"].cast(pl.String).unique(maintain_order=True).to_list()
    if predictors and (odd := [p for p in predictors if p not in known]):
        raise ValueError(f"run {run.name!r} has no predictor {odd[0]!r}.{nearest(odd[0], known)} It has: {known}.")
    scored = scored.filter(pl.col("predictor").is_in(predictors or known))
    distance, why = _distance(run, scored) if "distance" in by else (None, "")
    if why:
        sys.stderr.write(f"not by distance: {why}\n")
    return coverage.table(scored, by, distance=distance)


def _distance(run: Any, scored: pl.DataFrame) -> tuple[dict[str, float] | None, str]:
    """Distance of each test line from the lines that taught its fold; or nothing, and why."""
    from workbench.study import Study, StudyError, find
    from workbench.trust import shift
    from workbench.trust._left_out import CalibrationError

    if run.split not in ("unseen subject", "unseen tissue"):
        return None, f"{run.split!r} has seen its lines with other drugs."
    try:
        study = Study.open(find(run.study))
    except (StudyError, LookupError, OSError, ValueError) as error:
        return None, str(error)
    if study.digest != run.study_digest:
        return None, f"study {study.name!r} is not the one of the run any more (digest {study.digest[:12]})."
    if "expression" not in study.modalities:
        return None, f"study {study.name!r} has no expression."
    folds = scored.select(pl.col("subject").cast(pl.String), "fold").unique().sort("fold", "subject")
    everyone = set(folds["subject"])
    out: dict[str, float] = {}
    if folds["fold"].n_unique() < 2:
        return None, "one fold alone does not say which lines taught it."
    for _, part in folds.group_by("fold", maintain_order=True):
        tested = part["subject"].to_list()
        try:
            out |= shift.distances(study.sealed(), sorted(everyone - set(tested)), tested)
        except CalibrationError as error:
            return None, str(error)
    return out, ""


def text(table: pl.DataFrame, most: int | None = SHOWN) -> str:
    """The table for a terminal: what was promised, what was found, worst groups first."""
    if table.is_empty():
        return "nothing to show: no group of this kind has an interval."
    lines = []
    for (predictor, split, by), one in table.group_by("predictor", "split", "by", maintain_order=True):
        level = one["level"][0]
        broken = one.filter(pl.col("verdict") == coverage.BREAKS).height
        wide = one.filter(pl.col("verdict") == coverage.WIDE).height
        told = f"{one.height} groups, {broken} break, {wide} wider than promised" if one.height > 1 else ""
        lines.append(f"\n{predictor}, {split}, by {by}: {level:.0%} promised. {told}".rstrip())
        ordered = by in ("all", "fold", "predicted", "distance")
        rank = {coverage.BREAKS: 0, coverage.WIDE: 1, coverage.DOUBT: 2, coverage.HOLDS: 3, coverage.FEW: 4}
        shown = (
            one
            if ordered
            else one.sort(
                pl.col("verdict").replace_strict(rank, return_dtype=pl.Int8), pl.col("covered") - level, "name"
            )
        )
        for row in shown.head(most or one.height).iter_rows(named=True):
            span = f"({row['low']:.3f} to {row['high']:.3f})" if row["low"] is not None else ""
            units = (
                f"{row['units']:,} {row['unit']}s"
                if by != "all"
                else f"{row['n']:,} rows, {row['units']:,} {row['unit']}s"
            )
            width = f"width {row['width']:.2f}" if row["width"] is not None else "no finite interval"
            name = row["name"] if len(row["name"]) <= 30 else row["name"][:29] + "\u2026"
            lines.append(f"  {name:<30} {row['covered']:.3f} {span:<18} {width:<12} {units:<26} {row['verdict']}")
        if most and one.height > most and not ordered:
            lines.append(f"  ... {one.height - most} more; --every shows them")
    return "\n".join(lines).lstrip("\n")
