"""A run or a study as lines of text."""

from __future__ import annotations

import textwrap
from typing import Any

import polars as pl

from workbench import predictors

SHOWN = ("RMSE", "Pearson", "normalised Pearson", "per-drug Pearson", "coverage", "interval width")
NAME, CELL = 18, 20


def table(run: Any) -> str:
    """Predictors by metrics, means over folds, each beside the naive value; then paired comparisons of the learnt ones.

    Below each score stands its interval; who beats whom is told on normalised Pearson.
    """
    whole = run.metrics.filter(pl.col("fold") == "all")
    unit = whole.filter(pl.col("metric") == "RMSE")["unit"].first()
    by = whole["resampled"].first()
    lines = [
        f"\n{run.name}: {run.split}, mean over folds ({unit}); below each value its 95 % bootstrap interval over {by}s",
        _line("predictor", SHOWN),
    ]
    for name in whole["predictor"].unique(maintain_order=True):
        rows = {r["metric"]: r for r in whole.filter(pl.col("predictor") == name).iter_rows(named=True)}
        if rows["RMSE"]["value"] is None:
            lines.append(
                f"  {name:<{NAME}}   abstained on all {rows['RMSE']['abstained']:,} rows: it cannot answer this"
            )
            continue
        lines.append(_line(name, [_number(rows[m]["value"]) for m in SHOWN]))
        lines.append(_line("", [f"{_number(rows[m]['low'])} to {_number(rows[m]['high'])}" for m in SHOWN]))
    naive = {r["metric"]: r for r in whole.filter(pl.col("naive").is_not_null()).unique("metric").iter_rows(named=True)}
    if naive:
        lines.append(_line("best naive value", [_number(naive[m]["naive"]) if m in naive else "-" for m in SHOWN]))
        lines.append(_line("", [naive[m]["naive_predictor"] if m in naive else "-" for m in SHOWN]))
    family = predictors.naive_names()
    best = naive["normalised Pearson"]["naive_predictor"] if "normalised Pearson" in naive else ""
    pairs = run.comparisons.filter(pl.col("metric") == "normalised Pearson", pl.col("difference").is_not_null())
    learnt = pairs.filter(
        ~pl.col("predictor").is_in(family), pl.col("other").is_in(family).not_() | (pl.col("other") == best)
    )
    for c in learnt.iter_rows(named=True):
        interval = f"{c['difference']:+.4f} ({c['low']:+.4f} to {c['high']:+.4f})"
        lines.append(f"  {c['predictor']} against {c['other']}, normalised Pearson: {interval}, {c['verdict']}")
    return "\n".join(lines)


def study(opened: Any, most: int = 12) -> str:
    """A study built from a folder: subjects by arm, endpoints, modalities, records with their rows, what was not read.

    Parameters
    ----------
    most : lines of endpoints, arms and things not read; the rest is counted
    """
    subjects, outcomes, provenance = opened.subjects, opened.outcomes, opened.provenance
    kind = provenance.get("kind", provenance.get("source", ""))
    lines = [f"{opened.name}  {opened.path}", f"  digest      {opened.digest}"]
    lines.append(
        f"  {kind}: {subjects.height:,} subjects, {outcomes.height:,} values, {opened.treatments.height} treatments"
    )
    if "arm" in subjects.columns:
        arms = subjects.group_by("arm").len().sort("arm", nulls_last=True)
        lines.append(f"  {arms.height} arms")
        lines += _some([f"    {n:>6,}  {'not stated' if arm is None else arm}" for arm, n in arms.rows()], most)
    ends = outcomes.group_by("endpoint", "unit").agg(pl.len(), pl.col("subject").n_unique().alias("s")).sort("endpoint")
    lines.append(f"  {ends.height} endpoints")
    lines += _some([f"    {n:>6,}  {e}, {u}, of {s:,} subjects" for e, u, n, s in ends.rows()], most)
    facts = opened.manifest["files"]
    for name in opened.modalities:
        rows, columns = facts[f"modalities/{name}.h5ad"]["schema"]["shape"]
        axis, unit = facts[f"modalities/{name}.h5ad"]["axis"], facts[f"modalities/{name}.h5ad"]["units"]["X"]
        lines.append(f"  {name}: {rows:,} x {columns:,} ({axis}s), {unit}")
    counts = {name: facts[f"records/{name}.parquet"]["rows"] for name in opened.records}
    kept = [f"{name} {n:,}" for name, n in counts.items() if name not in ("unread", "notes")]
    if kept:
        lines += [f"  {len(kept)} records with their rows"]
        lines += textwrap.wrap(", ".join(kept), 110, initial_indent="    ", subsequent_indent="    ")
    for name, title in (("notes", "notes"), ("unread", "not read")):
        found = opened.record(name) if name in opened.records else None
        if found is not None and found.height:
            lines.append(f"  {title}: {found.height:,} (record {name!r})")
            lines += _some([f"    {file}, {place}: {reason}" for file, place, reason in found.rows()], most)
    if not counts.get("unread"):
        lines.append("  nothing was left unread")
    return "\n".join(lines)


def _some(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"    ... and {len(lines) - most:,} more"]


def _line(name: str, cells: Any) -> str:
    return "  " + name.ljust(NAME) + "".join(str(c).rjust(CELL) for c in cells)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
