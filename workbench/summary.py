"""A run as lines of text: each score beside the naive value, with its interval, and who beats whom."""

from __future__ import annotations

from typing import Any

import polars as pl

from workbench import predictors

SHOWN = ("RMSE", "Pearson", "normalised Pearson", "per-drug Pearson", "coverage", "interval width")
NAME, CELL = 18, 20


def table(run: Any) -> str:
    """Predictors by metrics, means over folds; then paired comparisons of the learnt ones on normalised Pearson."""
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


def _line(name: str, cells: Any) -> str:
    return "  " + name.ljust(NAME) + "".join(str(c).rjust(CELL) for c in cells)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
