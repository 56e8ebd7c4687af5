"""A comparison as pictures: scores with their intervals, critical differences, score against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from workbench import predictors
from workbench.comparison._compared import NEMENYI
from workbench.comparison.frames import ALL, Comparison, labels
from workbench.figures import GREY, OKABE_ITO, _drawn, _empty, _short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 24  # entries with a row of their own
FEW = 14  # up to so many, those off the front are named too, the naive ones excepted


def figures(comparison: Comparison, metric: str | None = None) -> dict[str, Figure]:
    """One figure a study and split, and one of the ranks over all of them, by a name for its file."""
    metric = metric or comparison.metrics[0]
    pages, places = {}, comparison.scores.select("study", "split").unique(maintain_order=True)
    for i, (study, split) in enumerate(places.iter_rows(), 1):
        pages[f"comparison {metric} {i} {study} {split}"[:120]] = page(comparison, study, split, metric)
    if comparison.critical.filter(study=ALL, metric=metric).height:
        pages[f"comparison {metric} all splits"] = ranks(comparison, metric)
    return pages


@_drawn
def page(comparison: Comparison, study: str, split: str, metric: str) -> Figure:
    """Scores with 95 % intervals, the critical-difference diagram, and score against cost, of one study and split."""
    from matplotlib.figure import Figure

    here = {n: f.filter(study=study, split=split, metric=metric) for n, f in _frames(comparison).items()}
    rows = here["scores"].head(MOST)
    drawn = pl.col("on_front") | pl.col("entry").is_in(rows["entry"].implode())
    tall = 2.4 + 0.34 * rows.height
    figure = Figure(figsize=(20, max(tall, 4.2)), layout="constrained", facecolor="white")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.05, 1.1, 0.85))
    best = f", the best {MOST} of {here['scores'].height:,}" if here["scores"].height > MOST else ""
    figure.suptitle(f"{_short(study)}, {_short(split, 90)}: {metric}{best}", x=0.01, ha="left", fontweight="bold")
    short = labels(here["scores"], 34)
    _scores(left, rows, metric, short)
    if here["critical"].height:
        _critical(middle, here, _naive(rows), short)
    else:
        _empty(figure, middle, "Mean ranks need two predictors\nwith two folds in common")
    _pareto(right, here["pareto"].filter(drawn), metric, short)
    return figure


@_drawn
def ranks(comparison: Comparison, metric: str) -> Figure:
    """The critical-difference diagram over all studies and splits."""
    from matplotlib.figure import Figure

    here = {n: f.filter(study=ALL, metric=metric) for n, f in _frames(comparison).items()}
    figure = Figure(figsize=(9, 2.4 + 0.34 * here["ranks"].height), layout="constrained", facecolor="white")
    figure.suptitle(f"Over all studies and splits: {metric}", x=0.01, ha="left", fontweight="bold")
    _critical(figure.subplots(), here, _naive(comparison.scores), labels(here["ranks"], 34))
    return figure


def _frames(comparison: Comparison) -> dict[str, pl.DataFrame]:
    return {n: getattr(comparison, n) for n in ("scores", "ranks", "critical", "groups", "pareto")}


def _naive(rows: pl.DataFrame) -> set[str]:
    return {*rows.filter(pl.col("predictor").is_in(predictors.naive_names()))["entry"]}


def _scores(axes: Axes, rows: pl.DataFrame, metric: str, short: dict[str, str]) -> None:
    naive = _naive(rows)
    best = rows.filter(pl.col("naive").is_not_null()).sort("folds", descending=True).head(1)
    for y, row in enumerate(rows.reverse().iter_rows(named=True)):
        colour = GREY if row["entry"] in naive else OKABE_ITO[0]
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(row["value"], y, "o", color=colour, markersize=7)
        axes.text(1.01, y, f"{row['value']:.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=10)
    names = [short[n] for n in rows["entry"].reverse()]
    axes.set_yticks(range(rows.height), names, parse_math=False)
    if best.height:
        axes.axvline(best["naive"][0], color=OKABE_ITO[1], linestyle="--", linewidth=1.4)
    unit = next((u for u in rows["unit"] if u), "")
    how = rows["interval"].mode().sort()
    line = f"\ndashed: best naive, {_short(best['naive_predictor'][0])} {best['naive'][0]:.3f}" if best.height else ""
    axes.set_title(f"Score, {how[0] if len(how) else 'no interval'} (95 %); grey: naive{line}", loc="left", fontsize=11)
    axes.set_xlabel(metric + (f" [{unit}]" if unit else ""))
    axes.grid(axis="x", color="#E5E5E5")
    axes.set_axisbelow(True)


def _critical(axes: Axes, here: dict[str, pl.DataFrame], naive: set[str], short: dict[str, str]) -> None:
    """Mean ranks on a line, names on both sides, bars under those not told apart (Demsar 2006, figure 1)."""
    told, order = here["critical"].row(0, named=True), here["ranks"].sort("rank")
    k, cd = order.height, told["critical_difference"]
    groups = here["groups"].filter(by=NEMENYI)["entries"].to_list()
    at = dict(order.select("entry", "rank").iter_rows())
    depth = 0.5 * len(groups) + 0.6
    sides = (k + 1) // 2
    axes.set_axis_off()
    axes.plot([1, k], [0, 0], color="black", linewidth=1.4)
    for tick in range(1, k + 1):
        axes.plot([tick, tick], [0, 0.18], color="black", linewidth=1.2)
        axes.text(tick, 0.3, str(tick), ha="center", va="bottom", fontsize=10)
    ruler = min(cd, k - 1)
    axes.plot([1, 1 + ruler], [1.55, 1.55], color=OKABE_ITO[1], linewidth=2.4)
    for end in (1, 1 + ruler):
        axes.plot([end, end], [1.4, 1.7], color=OKABE_ITO[1], linewidth=1.6)
    wider = " (wider than drawn)" if cd > ruler else ""
    axes.text(1, 1.8, f"critical difference {cd:.2f}{wider}", va="bottom", fontsize=10, color=OKABE_ITO[1])
    for i, (entry, rank) in enumerate(at.items()):
        first = i < sides
        y = -depth - 0.75 * (i if first else k - 1 - i)
        edge = 0.85 if first else k + 0.15
        colour = GREY if entry in naive else OKABE_ITO[0]
        axes.plot([rank, rank, edge], [0, y, y], color=colour, linewidth=1.1)
        axes.text(
            edge - 0.05 if first else edge + 0.05, y, f"{short[entry]}  {rank:.2f}" if first else
            f"{rank:.2f}  {short[entry]}", ha="right" if first else "left", va="center", fontsize=10,
        )  # fmt: skip
    for j, group in enumerate(groups):
        ends = [at[e] for e in group]
        y = -0.35 - 0.5 * j
        axes.plot([min(ends) - 0.06, max(ends) + 0.06], [y, y], color="black", linewidth=4, solid_capstyle="round")
    reach = 0.62 * (k - 1) + 0.6
    axes.set_xlim(1 - reach, k + reach)
    axes.set_ylim(-depth - 0.75 * sides - 0.2, 2.6)
    p = "p < 0.001" if told["p"] < 0.001 else f"p = {told['p']:.3f}"
    bars = "bars: not told apart" if groups else "all are told apart"
    axes.set_title(
        f"Mean rank over {told['blocks']} folds (1 is best); {bars}\nIman-Davenport {p}; folds share training rows",
        loc="left", fontsize=11,
    )  # fmt: skip


def _pareto(axes: Axes, rows: pl.DataFrame, metric: str, short: dict[str, str]) -> None:
    if rows.is_empty():
        axes.set_axis_off()
        return
    front, naive = rows.filter("on_front").sort("cost_s"), predictors.naive_names()
    axes.step(front["cost_s"], front["score"], where="post", color=OKABE_ITO[2], linewidth=1.6)
    span = float(rows["score"].max() - rows["score"].min()) or 1.0  # type: ignore[operator, arg-type]
    before = None
    for row in rows.sort("cost_s").iter_rows(named=True):
        front_row = row["on_front"]
        colour = OKABE_ITO[2] if front_row else GREY
        axes.plot(row["cost_s"], row["score"], "o" if front_row else "x", color=colour, markersize=7)
        if not front_row and (row["predictor"] in naive or rows.height > FEW):
            continue
        close = before is not None and abs(row["score"] - before["score"]) < 0.06 * span
        axes.annotate(
            short[row["entry"]], (row["cost_s"], row["score"]), textcoords="offset points",
            xytext=(7, -13) if close else (-7, 4), ha="center" if close else "right", fontsize=9,
            color="black" if front_row else GREY, parse_math=False,
        )  # fmt: skip
        before = None if close else row
    axes.set_xscale("log")
    axes.margins(x=0.45, y=0.1)
    axes.set_xlabel("cost of a fold: fit, predict, record [s]")
    axes.set_ylabel(metric)
    axes.set_title("Score against cost\nline: nothing is both better and cheaper", loc="left", fontsize=11)
