"""Tables drawn as matplotlib figures: the pictures that are stored with a run.

Every function takes tables (``tables.py``) and returns a ``Figure`` that belongs to no window and no
pyplot state. Names are drawn as typed: ``$`` and ``<`` in them mean nothing here. Colours are those of
Okabe and Ito (2008), told apart with any colour vision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
GREY = "#767676"
LOWER_IS_BETTER = ("RMSE", "MAE", "interval width")
HEADLINE = ("normalised Pearson", "RMSE", "per-drug Pearson")
STYLE = {"text.parse_math": False, "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
FEW = 2000  # up to so many pairs each is a dot, beyond they are counted in hexagons
P = ParamSpec("P")


def _drawn(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with our style, whatever the session's own rc settings are, and leave those as they were."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        from matplotlib import rc_context, rcParamsDefault

        ours = ("text.", "font.", "axes.", "legend.", "lines.")
        plain: dict[Any, Any] = {k: v for k, v in rcParamsDefault.items() if k.startswith(ours)}
        with rc_context(plain | STYLE):
            return draw(*args, **kwargs)

    return styled


def story(metrics: pl.DataFrame, predictions: pl.DataFrame, curves: pl.DataFrame) -> dict[str, Figure]:
    """The figures of a run by file name, numbered in reading order; what has no rows is left out."""
    pages: dict[str, Figure] = {}
    there = set(metrics.filter(pl.col("value").is_not_null())["metric"])
    headline = [m for m in HEADLINE if m in there]
    for metric in headline:
        pages[f"{len(pages) + 1} {metric}"] = metric_bars(metrics, metric)
    answered = predictions.filter(pl.col("predicted").is_not_null() & pl.col("observed").is_not_null())
    best = [p for p in ranked(metrics, headline[0]) if p in set(answered["predictor"])][:2] if headline else []
    if best:
        pages[f"{len(pages) + 1} observed and predicted"] = observed_predicted(predictions, best[0])
        pages[f"{len(pages) + 1} per drug"] = per_drug(predictions, best)
    if len(curves):
        pages[f"{len(pages) + 1} learning curves"] = learning_curves(curves)
    return pages


def ranked(metrics: pl.DataFrame, metric: str, split: str | None = None) -> list[str]:
    """Predictors by their mean over folds of a metric, best first."""
    rows = metrics.filter((pl.col("fold") == "all") & (pl.col("metric") == metric) & pl.col("value").is_finite())
    if split is not None:
        rows = rows.filter(pl.col("split") == split)
    rows = rows.with_columns(pl.col("predictor").cast(pl.String)).group_by("predictor", maintain_order=True).agg(
        pl.col("value").mean()
    )  # fmt: skip
    return rows.sort("value", descending=metric not in LOWER_IS_BETTER)["predictor"].to_list()


@_drawn
def metric_bars(metrics: pl.DataFrame, metric: str = "normalised Pearson") -> Figure:
    """Predictors by one metric, best on top: mean over folds, 95 % interval, the best naive value as a line.

    Parameters
    ----------
    metrics
        METRICS; its rows of fold "all" are drawn, one panel per split.
    metric
        Its name in METRICS.
    """
    rows = metrics.filter((pl.col("fold") == "all") & (pl.col("metric") == metric) & pl.col("value").is_finite())
    splits = rows["split"].cast(pl.String).unique(maintain_order=True).to_list()
    most = max((len(rows.filter(pl.col("split") == s)) for s in splits), default=1)
    figure, panels = _panels(max(len(splits), 1), width=7.2, height=1.7 + 0.36 * most)
    if not splits:
        return _empty(figure, panels[0], f"No values of {metric}")
    for axes, split in zip(panels, splits, strict=False):
        order = ranked(rows, metric, split)[::-1]
        at = {name: i for i, name in enumerate(order)}
        unit, line, naive = "", "", None
        for row in rows.filter(pl.col("split") == split).iter_rows(named=True):
            unit, y, value = row["unit"] or unit, at[row["predictor"]], row["value"]
            colour = GREY if row["predictor"] == row["naive_predictor"] else OKABE_ITO[0]
            axes.barh(y, value, color=colour, height=0.66)
            if row["low"] is not None and row["high"] is not None:
                arms = [[max(value - row["low"], 0.0)], [max(row["high"] - value, 0.0)]]
                axes.errorbar(value, y, xerr=arms, color="black", capsize=3, linewidth=1.3)
            axes.text(1.01, y, f"{value:.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=10)
            if row["naive"] is not None:
                line = f"\ndashed: best naive, {_short(row['naive_predictor'] or '')} {row['naive']:.3f}"
                naive = row["naive"]
        if naive is not None:
            axes.axvline(naive, color=OKABE_ITO[1], linestyle="--", linewidth=1.6)
        axes.set_yticks(range(len(order)), [_short(n) for n in order], parse_math=False)
        axes.axvline(0, color="black", linewidth=0.8)
        sense = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
        axes.set_xlabel(_unit(metric, unit) + ("" if metric == "coverage" else f", {sense}"))
        axes.set_title(f"{metric}, {split}{line}", loc="left")
    return figure


@_drawn
def observed_predicted(predictions: pl.DataFrame, predictor: str | None = None) -> Figure:
    """Observed against predicted on the test rows, one panel per split and endpoint, with the identity line.

    Parameters
    ----------
    predictions
        PREDICTIONS with ``observed`` filled.
    predictor
        Default: the last in the table.
    """
    names = predictions["predictor"].cast(pl.String).unique(maintain_order=True).to_list()
    predictor = predictor if predictor is not None else (names[-1] if names else "")
    rows = predictions.filter(pl.col("predictor") == predictor)
    answered = rows.filter(pl.col("predicted").is_finite() & pl.col("observed").is_finite())
    facets = answered.select("split", "endpoint", "unit").unique(maintain_order=True).rows()
    figure, panels = _panels(max(len(facets), 1), width=6.2, height=5.6)
    if not facets:
        return _empty(figure, panels[0], f"No scored predictions of {predictor}")
    for axes, (split, endpoint, unit) in zip(panels, facets, strict=False):
        part = answered.filter((pl.col("split") == split) & (pl.col("endpoint") == endpoint) & (pl.col("unit") == unit))
        x, y = part["predicted"].to_numpy(), part["observed"].to_numpy()
        low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
        room = 0.03 * (high - low) or 1.0
        box = (low - room, high + room)
        if len(part) <= FEW:
            axes.scatter(x, y, s=12, alpha=0.5, color=OKABE_ITO[0], linewidths=0)
        else:
            cells = axes.hexbin(x, y, gridsize=70, extent=(*box, *box), bins="log", mincnt=1, cmap="cividis")
            bar = figure.colorbar(cells, ax=axes, format="%g", shrink=0.8)
            bar.ax.yaxis.minorticks_off()
            bar.set_label("pairs in a cell")
        (line,) = axes.plot(box, box, color=OKABE_ITO[1], linewidth=1.6)
        _legend(axes, [line], ["observed = predicted"])
        axes.set(xlim=box, ylim=box, aspect="equal")
        axes.set_xlabel(_unit(f"predicted {endpoint}", unit))
        axes.set_ylabel(_unit(f"observed {endpoint}", unit))
        unanswered = len(rows.filter(pl.col("split") == split)) - len(part) if len(facets) == 1 else 0
        silent = f", {unanswered:,} without an answer" if unanswered else ""
        axes.set_title(f"{_short(predictor)}, {split}\n{len(part):,} test pairs{silent}", loc="left")
    return figure


@_drawn
def learning_curves(curves: pl.DataFrame) -> Figure:
    """CURVES: one panel per curve name, one colour per predictor, one thin line per fold."""
    rows = curves.filter(pl.col("value").is_finite())
    names = rows["name"].cast(pl.String).unique(maintain_order=True).to_list()
    figure, panels = _panels(max(len(names), 1), width=5.4, height=4.0)
    if not names:
        return _empty(figure, panels[0], "No learning curves")
    predictors = rows["predictor"].cast(pl.String).unique(maintain_order=True).to_list()
    colours = {name: OKABE_ITO[i % len(OKABE_ITO)] for i, name in enumerate(predictors)}
    for axes, name in zip(panels, names, strict=False):
        part = rows.filter(pl.col("name") == name)
        lines: dict[str, Any] = {}
        for (predictor, _), fold in part.group_by("predictor", "fold", maintain_order=True):
            fold = fold.sort("step")
            (line,) = axes.plot(
                fold["step"].to_numpy(), fold["value"].to_numpy(), color=colours[str(predictor)], alpha=0.75,
                linewidth=1.2, marker="o" if len(fold) < 3 else None,
            )  # fmt: skip
            lines.setdefault(str(predictor), line)
        folds = part["fold"].n_unique()
        axes.set_xlabel("step")
        axes.set_ylabel(_unit(name, next((u for u in part["unit"] if u), None)))
        axes.set_title(f"{_short(name)}, {folds} fold{'s' if folds != 1 else ''}", loc="left")
        _legend(axes, list(lines.values()), [_short(n) for n in lines])
    return figure


@_drawn
def per_drug(predictions: pl.DataFrame, predictors: Sequence[str] | None = None, at_least: int = 5) -> Figure:
    """Pearson correlation within each drug, drugs ranked by the first predictor; one panel per split.

    Parameters
    ----------
    predictions
        PREDICTIONS with ``observed`` filled.
    predictors
        One or two names; default: the last two in the table.
    at_least
        Drugs with fewer answered test rows in a fold are left out of that fold. A drug's value is its mean over folds.
    """
    names = predictions["predictor"].cast(pl.String).unique(maintain_order=True).to_list()
    chosen = list(predictors) if predictors is not None else names[-2:]
    # one value for every subject ranks nobody: 0, where the formula would give rounding noise or nothing
    flat = (pl.col("predicted").max() - pl.col("predicted").min()) <= 1e-9 * pl.col("predicted").abs().max()
    within = pl.when(flat).then(0.0).otherwise(pl.corr("predicted", "observed"))
    values = (
        predictions.filter(
            pl.col("predictor").is_in(chosen) & pl.col("predicted").is_finite() & pl.col("observed").is_finite()
        )
        .with_columns(pl.col("predictor", "split", "treatment").cast(pl.String))
        .group_by("split", "predictor", "treatment", "fold", maintain_order=True)
        .agg(within.alias("r"), pl.len().alias("n"))
        .filter((pl.col("n") >= at_least) & pl.col("r").is_finite())
        .group_by("split", "predictor", "treatment", maintain_order=True)
        .agg(pl.col("r").mean())
    )
    splits = values["split"].unique(maintain_order=True).to_list()
    figure, panels = _panels(max(len(splits), 1), width=8.0, height=4.6)
    if not splits:
        return _empty(figure, panels[0], f"No drug has {at_least} scored predictions in a fold")
    for axes, split in zip(panels, splits, strict=False):
        part = values.filter(pl.col("split") == split)
        first = next((p for p in chosen if p in set(part["predictor"])), chosen[0])
        order = part.filter(pl.col("predictor") == first).sort("r", descending=True)["treatment"].to_list()
        place = {drug: i + 1 for i, drug in enumerate(order)}
        marks, labels = [], []
        for i, predictor in enumerate(chosen):
            mine = part.filter((pl.col("predictor") == predictor) & pl.col("treatment").is_in(order))
            if len(mine):
                x = [place[t] for t in mine["treatment"]]
                r, size, mark = mine["r"].to_numpy(), 16 if len(order) > 60 else 34, "os^D"[i % 4]
                marks.append(axes.scatter(x, r, s=size, color=OKABE_ITO[i], marker=mark, alpha=0.85, linewidths=0))
                labels.append(f"{_short(predictor)}, mean {r.mean() + 0.0:.3f}")
        axes.axhline(0, color="black", linewidth=0.8)
        if len(order) <= 40:
            axes.set_xticks(range(1, len(order) + 1), [_short(d, 24) for d in order], rotation=90, parse_math=False)
            axes.set_xlabel(f"drugs, ranked by {_short(first)}")
        else:
            axes.set_xlabel(f"{len(order)} drugs, ranked by {_short(first)}")
        axes.set_ylabel("Pearson within a drug")
        axes.set_title(f"Per-drug Pearson, {split}", loc="left")
        _legend(axes, marks, labels)
    return figure


def _panels(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``n`` panels, two to a row [inches]."""
    from matplotlib.figure import Figure

    columns = min(n, 2)
    down = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * down), layout="constrained", facecolor="white")
    grid = figure.subplots(down, columns, squeeze=False)
    for spare in grid.flat[n:]:
        spare.set_axis_off()
    return figure, list(grid.flat[:n])


def _empty(figure: Figure, axes: Axes, words: str) -> Figure:
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
    return figure


def _legend(axes: Axes, handles: Sequence[Any], names: Sequence[str]) -> None:
    """A legend whose names are set afterwards: matplotlib would drop names that start with ``_``."""
    legend = axes.legend(handles, [str(i) for i in range(len(names))], frameon=False, fontsize=10)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def _unit(words: str, unit: str | None) -> str:
    return f"{words} [{unit}]" if unit else words


def _short(name: str, limit: int = 48) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


@_drawn
def training_sizes(metrics: pl.DataFrame, shares: dict[str, dict[float, str]], metric: str) -> Figure:
    """Learning curves over training size: ``shares`` gives {predictor: {share of the training groups: its label}}."""
    figure, (axes,) = _panels(1, 8.0, 5.0)
    values = {r["predictor"]: r for r in _whole(metrics, metric)}
    for i, (predictor, at) in enumerate(shares.items()):
        points = [(100 * share, values[label]) for share, label in sorted(at.items()) if label in values]
        x, y = [p for p, _ in points], [r["value"] for _, r in points]
        colour = OKABE_ITO[i % len(OKABE_ITO)] if i < len(OKABE_ITO) else GREY
        axes.plot(x, y, "o-", color=colour, label=_short(predictor))
        axes.fill_between(x, [r["low"] for _, r in points], [r["high"] for _, r in points], color=colour, alpha=0.15)
    axes.set_xlabel("share of the training groups, %")
    axes.set_ylabel(_unit(metric, _unit_of(metrics, metric)))
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    return figure


@_drawn
def randomised(metrics: pl.DataFrame, rows: Sequence[tuple[str, str, str]], metric: str) -> Figure:
    """Randomisation tests: ``rows`` of (label of the test, predictor, modality dealt anew), against the predictor."""
    figure, (axes,) = _panels(1, 8.0, 1.4 + 0.55 * len(rows))
    values = {r["predictor"]: r for r in _whole(metrics, metric)}
    drawn = [(label, whole, what) for label, whole, what in rows if label in values and whole in values]
    for y, (label, whole, _) in enumerate(reversed(drawn)):
        for name, colour, shift in ((whole, OKABE_ITO[0], 0.12), (label, OKABE_ITO[1], -0.12)):
            r = values[name]
            spread = [[r["value"] - (r["low"] or r["value"])], [(r["high"] or r["value"]) - r["value"]]]
            axes.errorbar(r["value"], y + shift, xerr=spread, fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(drawn)), [f"{_short(w)}: {_short(what)}" for _, w, what in reversed(drawn)])
    axes.set_xlabel(_unit(metric, _unit_of(metrics, metric)))
    handles = [axes.plot([], [], "o", color=OKABE_ITO[i])[0] for i in (0, 1)]
    _legend(axes, handles, ["as measured", "rows of the modality dealt anew"])
    return figure


def _unit_of(metrics: pl.DataFrame, metric: str) -> str:
    return next(iter(metrics.filter(pl.col("metric") == metric)["unit"].drop_nulls()), "")


def _whole(metrics: pl.DataFrame, metric: str) -> list[dict[str, Any]]:
    """Rows of a metric over all folds that have a value."""
    return (
        metrics.filter(pl.col("fold") == "all", pl.col("metric") == metric, pl.col("value").is_not_null())
        .with_columns(pl.col("predictor").cast(pl.String))
        .to_dicts()
    )


def checks(metrics: pl.DataFrame, entries: Sequence[Any], metric: str = "normalised Pearson") -> dict[str, Figure]:
    """Figures of randomisation tests and learning curves: ``entries`` have label, predictor, permuted and share."""
    pages: dict[str, Figure] = {}
    there = {r["predictor"] for r in _whole(metrics, metric)}
    if rows := [(e.label, e.predictor, e.permuted) for e in entries if e.permuted and e.label in there]:
        pages["6 randomisation tests"] = randomised(metrics, rows, metric)
    shares: dict[str, dict[float, str]] = {}
    for e in entries:
        if e.share < 1 and e.label in there:
            shares.setdefault(e.predictor, {1.0: e.predictor})[e.share] = e.label
    if shares:
        pages["7 training sizes"] = training_sizes(metrics, shares, metric)
    return pages
