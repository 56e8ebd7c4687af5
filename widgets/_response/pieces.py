"""The pieces of the drug-response page, drawn once and shown by the served page, the notebook and the report alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl

from widgets._response import summary
from widgets._response.markup import DASH, MINUS, Markup, interval, number, table, tag, weight
from widgets._response.summary import Cell

STYLE = (Path(__file__).resolve().parents[1] / "report.css").read_text(encoding="utf-8")
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' "
    "rx='6' fill='%230072b2'/%3E%3Cpath d='M6 24 L26 8' stroke='white' stroke-width='2' stroke-dasharray='3 2'/%3E"
    "%3Ccircle cx='11' cy='19' r='3' fill='%23e69f00'/%3E%3Ccircle cx='20' cy='13' r='3' fill='white'/%3E%3C/svg%3E"
)
NOTE = (
    "▲ better, ▼ worse, = no difference shown against the best naive predictor "
    "(paired over the same rows where a comparison was recorded, else by whether the interval leaves the naive value "
    "out)."
)
WORDS = {"better": "is better than", "worse": "is worse than", "no difference shown": "shows no difference from"}


def direction(metric: str) -> str:
    """Which way a metric is good, in words."""
    if metric == "coverage":
        return "best at the stated level"
    if metric == "interval width":
        return "read with coverage"
    if metric in summary.LOWER_IS_BETTER:
        return "lower is better"
    return "higher is better" if metric in summary.HIGHER_IS_BETTER else ""


def mark(verdict: str) -> Markup:
    """A verdict as symbol and colour, with its words for those who see neither."""
    if not verdict:
        return Markup("")
    kind = {"better": "better", "worse": "worse"}.get(verdict, "same")
    return tag(
        "span", summary.SYMBOLS.get(verdict, "·"), class_=f"mark {kind}", role="img", aria_label=verdict, title=verdict
    )


def headline(
    found: dict[str, dict[str, Cell]], rule: str, comparisons: pl.DataFrame | None = None, level: float | None = None
) -> Markup:
    """Who wins and by how much, and what was unseen: the first thing to read.

    ``comparisons`` tells the distance to the next predictor; ``level`` is the one that intervals were made for.
    """
    winner = summary.best(found)
    lead = summary.leading({m for cells in found.values() for m in cells})
    unseen = tag("p", tag("strong", rule or "split not recorded"), " ", summary.UNSEEN.get(rule, ""), class_="unseen")
    if winner is None:
        return tag("section", tag("h2", "Only naive predictors were scored: there is nothing to compare."), unseen)
    cards = []
    for metric in dict.fromkeys([lead, "RMSE", "per-drug Pearson", "coverage"]):
        cell = found[winner].get(metric)
        if cell is None:
            continue
        unit = f" {cell.unit}" if cell.unit and cell.unit != "fraction" else ""
        against = f"naive {number(cell.naive)} ({cell.naive_predictor})" if cell.naive_predictor else ""
        if metric == "coverage":
            against = "" if level is None else f"intervals were made for {number(level)}"
        cards.append(
            tag(
                "div",
                tag("div", metric, class_="what"),
                tag("div", mark(cell.verdict), " ", number(cell.value), tag("small", unit), class_="figure"),
                tag("div", interval(cell.low, cell.high), class_="low"),
                tag("div", against, class_="low"),
                class_="card",
            )
        )
    verdict = found[winner][lead].verdict if lead in found[winner] else ""
    said = {
        "better": "leads, and is better than the best naive predictor",
        "worse": "leads the models, but is worse than the best naive predictor",
        "no difference shown": "leads, with no difference shown from the best naive predictor",
    }.get(verdict, "leads")
    return tag(
        "section",
        tag("h2", tag("span", winner, class_="winner"), f" {said} ({lead})."),
        _next(winner, lead, found, comparisons),
        unseen,
        tag("div", *cards, class_="cards"),
        class_="headline",
    )


def _next(winner: str, metric: str, found: dict[str, dict[str, Cell]], comparisons: pl.DataFrame | None) -> Markup:
    """How far the winner is ahead of the next trained predictor, paired."""
    second = next((p for p in found if p != winner and p not in summary.NAIVE), None)
    if second is None or comparisons is None:
        return Markup("")
    row = next(
        (r for r in summary.both_ways(comparisons).iter_rows(named=True)
         if (r["metric"], r["predictor"], r["other"]) == (metric, winner, second)), None,
    )  # fmt: skip
    if row is None:
        return Markup("")
    by = f"{number(row['difference'], signed=True)} {interval(row['low'], row['high'], signed=True)}"
    said = {"better": "better", "worse": "worse"}.get(row["verdict"], row["verdict"])
    return tag("p", "Against ", tag("b", second), ", the next best, on the same rows: ", mark(row["verdict"]),
               f" {said}, {by}.", class_="next")  # fmt: skip


def forest(found: dict[str, dict[str, Cell]], metric: str) -> Markup:
    """One metric: each predictor's value and interval on a line, the best naive value as a dashed rule."""
    rows = [(p, cells[metric]) for p, cells in found.items() if metric in cells and cells[metric].value is not None]
    rows.sort(key=lambda r: (r[1].value or 0.0) * (1 if metric in summary.LOWER_IS_BETTER else -1))
    if not rows:
        return Markup("")
    ends = [x for _, c in rows for x in (c.value, c.low, c.high, c.naive) if x is not None and x == x]
    low, high = min(ends), max(ends)
    pad = (high - low) * 0.05 or 1.0
    low, high = low - pad, high + pad
    left, right, width, step, top = 132, 178, 640, 26, 8
    height = top + step * len(rows) + 30

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (width - left - right), 1)

    parts = [_axis(low, high, x, top, top + step * len(rows))]
    naive = next((c for _, c in rows if c.naive is not None), None)
    if naive is not None and naive.naive is not None:
        at = x(naive.naive)
        parts.append(tag("line", x1=at, x2=at, y1=top, y2=top + step * len(rows), class_="naive-rule"))
    for i, (predictor, cell) in enumerate(rows):
        y = top + step * (i + 0.5)
        kind = "naive" if predictor in summary.NAIVE else "model"
        parts.append(
            tag(
                "text",
                _short(predictor),
                tag("title", predictor),
                x=left - 10,
                y=y + 4,
                text_anchor="end",
                class_=f"label {kind}",
            )
        )
        if cell.low is not None and cell.high is not None:
            parts.append(tag("line", x1=x(cell.low), x2=x(cell.high), y1=y, y2=y, class_=f"bar {kind}"))
        parts.append(tag("circle", cx=x(cell.value or 0.0), cy=y, r=5, class_=f"dot {kind}"))
        text = f"{number(cell.value)} {interval(cell.low, cell.high)}"
        parts.append(tag("text", text, x=width - right + 12, y=y + 4, class_=f"value {kind}"))
        if cell.verdict:
            kind = {"better": "better", "worse": "worse"}.get(cell.verdict, "same")
            parts.append(
                tag("text", summary.SYMBOLS.get(cell.verdict, ""), x=width - 14, y=y + 4, class_=f"mark {kind}")
            )
    unit = next((c.unit for _, c in rows if c.unit and c.unit != "fraction"), "")
    what = f"{metric}{f', {unit}' if unit else ''}, {direction(metric)}" if direction(metric) else metric
    dashed = f" Dashed: best naive, {naive.naive_predictor} {number(naive.naive)}." if naive else ""
    return tag(
        "figure",
        tag("figcaption", tag("strong", what), tag("span", dashed)),
        tag("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=f"{what}, by predictor"),
    )


def _axis(low: float, high: float, x: Any, top: float, bottom: float) -> Markup:
    parts = []
    for tick in _ticks(low, high):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, class_="grid"))
        parts.append(
            tag("text", f"{tick:g}".replace("-", MINUS), x=x(tick), y=bottom + 18, text_anchor="middle", class_="tick")
        )
    return tag("g", *parts)


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    rough = max(high - low, 1e-12) / about
    decade = 10.0 ** math.floor(math.log10(rough))
    size = next(f * decade for f in (1, 2, 5, 10) if f * decade >= rough)
    return [round(i * size, 10) for i in range(math.ceil(low / size), math.floor(high / size) + 1)]


def _short(name: str, most: int = 17) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def leaderboard(found: dict[str, dict[str, Cell]]) -> Markup:
    """Predictors by metrics: value, interval, the naive value beside it, the verdict as symbol and colour."""
    metrics = summary.ordered(list({m for cells in found.values() for m in cells}))
    units = {m: next((c[m].unit for c in found.values() if m in c and c[m].unit), "") for m in metrics}
    head = ["Predictor"] + [
        tag("span", m, tag("small", " ".join(filter(None, (f"[{units[m]}]" if units[m] else "", direction(m))))))
        for m in metrics
    ]
    rows = []
    for predictor, cells in found.items():
        rows.append([_named(predictor), *[_score(cells.get(m)) for m in metrics]])
    return tag(
        "div",
        table(head, rows, "Every score beside the best naive value: mean over folds, 95 % interval", "scores"),
        tag("p", NOTE, class_="note"),
    )


def _named(predictor: str) -> Markup:
    kind = "naive" if predictor in summary.NAIVE else "model"
    return tag("span", predictor, tag("small", kind), class_=kind)


def _score(cell: Cell | None) -> Markup:
    if cell is None or cell.value is None:
        return tag("span", DASH, class_="low")
    beside = f"naive {number(cell.naive)}" if cell.naive is not None else "naive not scored"
    return tag(
        "span",
        tag("span", mark(cell.verdict), " ", tag("b", number(cell.value)), class_="line"),
        tag("span", interval(cell.low, cell.high), class_="line low"),
        tag("span", beside, tag("br"), cell.naive_predictor, class_="line low"),
        class_="score",
    )


def verdicts(comparisons: pl.DataFrame) -> Markup:
    """Paired comparisons in words, a table for each metric; all but the first are folded away."""
    parts = comparisons.partition_by("metric", maintain_order=True)
    folded = [tag("details", tag("summary", str(part["metric"][0])), _verdicts(part)) for part in parts[1:]]
    return tag("div", *[_verdicts(part) for part in parts[:1]], *folded)


def _verdicts(comparisons: pl.DataFrame) -> Markup:
    rows = []
    for r in comparisons.iter_rows(named=True):
        said = tag("span", tag("b", r["predictor"]), f" {WORDS.get(r['verdict'], r['verdict'])} ", tag("b", r["other"]))
        rows.append(
            (
                tag("span", mark(r["verdict"]), " ", said, class_="line"),
                f"{number(r['difference'], signed=True)} {interval(r['low'], r['high'], signed=True)}",
                r["verdict"],
                r["resampled"],
            )
        )
    metric = str(comparisons["metric"][0])
    head = ["On the same rows", "Difference, 95 % interval", "Verdict", "Resampled over"]
    caption = ", ".join(filter(None, (f"Paired comparisons: {metric}", direction(metric))))
    return table(head, rows, caption, "left")


def drug_scores(scores: pl.DataFrame, order: list[str], unit: str) -> Markup:
    """One drug: each predictor's scores, the naive family beside the models."""
    by_name = {r["predictor"]: r for r in scores.iter_rows(named=True)}
    head = ["Predictor", "Pearson", "Spearman", f"RMSE [{unit}]", "in interval", "lines"]
    rows = [
        (
            _named(p),
            *[number(by_name[p][c]) for c in ("pearson", "spearman", "rmse", "inside")],
            by_name[p]["n"],
        )
        for p in order if p in by_name
    ]  # fmt: skip
    return table(head, rows, "Within this drug (correlations: mean over folds)", "compact")


def drug_tissues(frame: pl.DataFrame, unit: str) -> Markup:
    """One drug and predictor by tissue."""
    head = ["Tissue", "lines", f"observed [{unit}]", f"predicted [{unit}]", f"RMSE [{unit}]"]
    rows = [
        (r["tissue"], r["n"], number(r["observed"]), number(r["predicted"]), number(r["rmse"]))
        for r in frame.iter_rows(named=True)
    ]
    return table(head, rows, "By tissue (means over lines)", "compact")


def drug_features(frame: pl.DataFrame, predictor: str) -> Markup:
    """The features a predictor leans on for a drug, as bars to either side of nothing."""
    if frame.is_empty():
        return tag("p", f"No attributions were recorded for {predictor} and this drug.", class_="note")
    most = max(abs(v) for v in frame["value"]) or 1.0
    unit, method = frame["unit"][0], frame["method"][0]
    rows = []
    for r in frame.iter_rows(named=True):
        share, kind = 50 * abs(r["value"]) / most, "up" if r["value"] >= 0 else "down"
        place = f"left:{50 if kind == 'up' else 50 - share:.2f}%;width:{share:.2f}%"
        bar = tag("span", tag("span", class_=f"fill {kind}", style=place), class_="track")
        rows.append((r["feature"], r["modality"], bar, weight(r["value"])))
    head = ["Feature", "modality", "weight", f"[{unit}]"]
    # a measure of size alone has no direction to speak of
    signs = "; right raises the prediction, left lowers it" if any(v < 0 for v in frame["value"]) else "; size only"
    return table(head, rows, f"What {predictor} leans on here ({method}{signs})", "compact genes")


def curves(frame: pl.DataFrame) -> Markup:
    """Learning curves: one small picture per predictor and quantity, one line per fold."""
    figures = []
    for (predictor, name), part in frame.group_by(["predictor", "name"], maintain_order=True):
        part = part.filter(pl.col("value").is_finite())
        if part.is_empty():
            continue
        unit = next((u for u in part["unit"] if u), "")
        figures.append(_curve(str(predictor), str(name), unit, part))
    return tag("div", *figures, class_="figures")


def _curve(predictor: str, name: str, unit: str, part: pl.DataFrame) -> Markup:
    width, height, left, bottom, top = 640, 300, 56, 40, 10
    steps, values = part["step"], part["value"]
    x0, x1 = float(steps.min() or 0), float(steps.max() or 0)  # type: ignore[arg-type]
    low, high = float(values.min() or 0), float(values.max() or 0)  # type: ignore[arg-type]
    pad = (high - low) * 0.06 or 1.0
    low, high = low - pad, high + pad

    def x(v: float) -> float:
        return round(left + (v - x0) / ((x1 - x0) or 1.0) * (width - left - 90), 1)

    def y(v: float) -> float:
        return round(top + (high - v) / (high - low) * (height - top - bottom), 1)

    parts = [
        tag("g", tag("line", x1=left, x2=width - 90, y1=y(t), y2=y(t), class_="grid"),
            tag("text", f"{t:g}", x=left - 8, y=y(t) + 4, text_anchor="end", class_="tick"))
        for t in _ticks(low, high)
    ]  # fmt: skip
    parts += [
        tag("text", f"{t:g}", x=x(t), y=height - bottom + 18, text_anchor="middle", class_="tick")
        for t in _ticks(x0, x1)
    ]
    parts.append(tag("text", "step", x=(left + width - 90) / 2, y=height - 4, text_anchor="middle", class_="tick"))
    for i, ((fold,), line) in enumerate(part.sort("step").group_by(["fold"], maintain_order=True)):
        points = " ".join(f"{x(s)},{y(v)}" for s, v in zip(line["step"], line["value"], strict=True))
        parts.append(tag("polyline", points=points, class_=f"curve fold{i % 6}"))
        parts.append(tag("text", f"fold {fold}", x=width - 80, y=top + 14 + 18 * i, class_=f"value fold{i % 6}"))
    what = f"{name}{f', {unit}' if unit else ''}"
    return tag(
        "figure",
        tag("figcaption", tag("strong", predictor), tag("span", what)),
        tag("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=f"{predictor}: {what} by step"),
    )


def provenance(run: Any) -> Markup:
    """What is needed to compute the run again."""
    return table(["", ""], summary.provenance(run), "Where these numbers come from", "left facts")


def problem(text: str) -> Markup:
    """A gap, said where the content would have been."""
    return tag("p", text, class_="problem", role="status")
