"""`workbench translate STUDY --from SCREEN`: does what cell lines teach hold in these patients, or in these mice?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from workbench.text import on_command_line

Row = dict[str, Any]


def main(argv: list[str]) -> int:
    """Run the verb; 0 done, 1 failed, 2 bad usage."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.json is not None and not args.json.parent.is_dir():  # said before the work, not after
        parser.error(f"--json {args.json}: there is no folder {str(args.json.parent)!r}. Make it first.")
    refusals = () if os.environ.get("WORKBENCH_DEBUG") else (ValueError, LookupError, OSError, RuntimeError)
    try:
        rows = _run(args)
    except KeyboardInterrupt:
        print("\nstopped; nothing was written.", file=sys.stderr)
        return 1
    except refusals as error:
        words = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"workbench translate: {on_command_line(words)}", file=sys.stderr)
        return 1
    if args.json is not None:
        temporary = args.json.with_name(f".{args.json.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(rows, indent=1, default=str), encoding="utf-8")
        os.replace(temporary, args.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench translate",
        description="Apply drug predictors learnt on cell lines to patients, or to tumours in mice, and judge them.",
    )
    parser.add_argument("study", help="patients with expression and a response in 0/1, or tumour growth with mRECIST")
    parser.add_argument("--from", dest="screen", default="gdsc2", help="study of cell lines (default: gdsc2)")
    parser.add_argument("--method", action="append", help="only this adaptation (may be repeated)")
    parser.add_argument("--drug", action="append", help="only this drug (may be repeated; default: what was given)")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws and permutations (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser


def _run(args: argparse.Namespace) -> list[Row]:
    from workbench.study import Study, find

    study, lines = Study.open(find(args.study)), Study.open(find(args.screen))
    return (_mice if "mrecist" in study.records else _patients)(study, lines, args)


def _patients(study, lines, args: argparse.Namespace) -> list[Row]:
    from workbench.translate import congruence, patients, transfer
    from workbench.translate.domains import match

    endpoint, truth = patients.response(study)
    transfer.check_drugs(lines, args.drug or [])  # said before the work, not after
    matched = match(lines, study.sealed())
    said = f"{len(matched.lines.names)} lines of {lines.name}, {len(matched.tumours.names)} patients of {study.name}"
    print(f"{said}, {len(matched.lines.genes):,} genes in both; {endpoint}: {sum(truth.values())} of {len(truth)}")
    tested, _ = congruence.examine(matched, args.method, seed=args.seed, progress=_tell("shift"))
    _show("Is the shift gone, and the biology kept? (AUROC of telling tumours from lines; 0.5: not at all)", tested)
    naive = patients.naive(study, truth, draws=args.draws, seed=args.seed)
    _show(f"AUROC for {endpoint} without any cell line", naive)
    moved = transfer.fit(
        lines, study, drugs=args.drug, methods=args.method, seed=args.seed, progress=_tell("ridges on lines")
    )
    verdict = moved.judge(truth, draws=args.draws)
    columns = ("method", "drug", "role", "lines_pearson", "auroc", "low", "high", "p", "corrected", "gate")
    _show(f"AUROC for {endpoint} of the sensitivity that cell lines predict", verdict.select(columns))
    print(f"\nThe gate is {'open for ' + str(len(moved.shown)) if moved.shown else 'shut'}. {_why(moved, verdict)}")
    return [*_rows("shift", tested), *_rows("naive", naive), *_rows("transfer", verdict)]


def _why(moved, verdict: pl.DataFrame) -> str:
    """The last words: why it is shut or for what it is open, and whether anything points the wrong way."""
    words = f"It abstains: {moved.gate.why}." if moved.gate.why else "Only what was confirmed is shown."
    wrong = verdict.filter((pl.col("auroc") < 0.5) & (pl.col("either_way") < 0.05)).sort("auroc")
    if wrong.height:
        r = wrong.row(0, named=True)
        words += (
            f" {wrong.height} of {verdict.height} point the wrong way beyond chance (such as {r['drug']}, "
            f"{r['method']}: {r['auroc']:.2f}, corrected p {r['either_way']:.2g}): check how the response is coded, "
            "and trust none of them."
        )
    return words


def _mice(study, lines, args: argparse.Namespace) -> list[Row]:
    from workbench.translate import lines_to_mice, xenografts

    rows: list[Row] = []
    for modality in [m for m in ("mutation", "copy_number") if m in study.modalities]:
        found = xenografts.unseen_patients(study, modality, draws=args.draws, seed=args.seed)
        _show(f"Concordance with disease control of unseen patients' tumours, from their {modality}", found)
        rows += _rows(f"unseen patients, {modality}", found)
    for features in [f for f in ("mutation", "driver_events") if {"mutation", f} <= set(lines.modalities)]:
        found = lines_to_mice.from_lines(study, lines, features=features, draws=args.draws, seed=args.seed)
        _show(f"Concordance of what lines of {lines.name} teach from {features}, within treatment and type", found)
        rows += _rows(f"from lines, {features}", found)
    return rows


def _tell(what: str) -> Callable[[float, str], None]:
    return lambda done, name: print(f"{done:4.0%} {what}: {name}", file=sys.stderr)


def _rows(table: str, frame: pl.DataFrame) -> list[Row]:
    clean = frame.with_columns(pl.col(pl.Float64).fill_nan(None))  # JSON has no NaN
    return [{"table": table, **row} for row in clean.iter_rows(named=True)]


def _show(title: str, frame: pl.DataFrame) -> None:
    """A table as people read it: whole, numbers to three digits, columns as wide as their longest cell."""
    cells: list[list[str]] = [frame.columns]
    for found in frame.iter_rows():
        cells.append([f"{v:.3f}" if isinstance(v, float) else ("" if v is None else str(v)) for v in found])
    wide = [max(len(row[j]) for row in cells) for j in range(frame.width)]
    number = [t.is_numeric() for t in frame.dtypes]
    print(f"\n{title}")
    for row in cells:
        line = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, wide, number, strict=True))
        print("  " + "  ".join(line).rstrip())
