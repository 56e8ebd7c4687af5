"""Comparisons of runs as the bytes that ``run_comparison.js`` reads: names once, numbers in columns.

Layout (container: ``widgets._parts.pack``). Header::

    version     1
    entries     [{name, predictor, variant, naive}]     what competes; naive: of the naive family
    places      [{key, study, split, pooled}]           the last may be the pool of all splits
    metrics     [{name, unit, better}]                  better: "higher", "lower", or "" where it is no merit by itself
    texts       [text]                                  verdicts and how intervals were had; "" stands for none
    critical    [{place, metric, entries, blocks, p, difference, note}]
    groups      [{place, metric, by, entries: [index]}] sets in which no two are told apart
    parameters  [{place, param, values: [[entry, text]]}]
    compared    [metric index]                          metrics with pairs, ranks and a front
    notes       [text]

Columns, each with one number a row::

    score.<place metric entry>  i4      score.<value low high naive cost_s>  f4     score.<folds seeds>  i4
    score.<interval naive_predictor>  i4 (index into texts)
    pair.<place metric a b>     i4      pair.<difference low high p p_holm>  f4     pair.<verdict paired blocks>  i4
    rank.<place metric entry blocks>    i4                                          rank.rank  f4
    front.<place metric entry>  i4      front.<score cost_s>  f4                    front.on   u1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from widgets._parts import pack
from widgets._response.summary import HIGHER_IS_BETTER, LOWER_IS_BETTER, METRIC_ORDER
from widgets.prediction_explorer import NAIVE

POOLED = "all"  # study and split of rows that pool several splits
FRAMES = {
    "scores": ("study", "split", "entry", "predictor", "variant", "metric", "value", "low", "high", "naive", "cost_s"),
    "pairs": ("study", "split", "metric", "a", "b", "difference", "low", "high", "p", "verdict"),
    "ranks": ("study", "split", "metric", "entry", "rank", "blocks"),
    "critical": ("study", "split", "metric", "critical_difference"),
    "groups": ("study", "split", "metric", "by", "entries"),
    "parameters": ("study", "split", "entry", "param", "value"),
    "pareto": ("study", "split", "metric", "entry", "score", "cost_s", "on_front"),
}


def key(study: str, split: str) -> str:
    """Name of a place, for people: ``gdsc2 · unseen subject``."""
    return "all" if (study, split) == (POOLED, POOLED) else f"{study} \u00b7 {split}"


def frames_of(comparison: Any) -> dict[str, pl.DataFrame]:
    """The frames of a comparison by name, each with the columns that are drawn.

    Raises
    ------
    ValueError
        A frame is missing, or one of its columns.
    """
    found = {}
    for name, columns in FRAMES.items():
        frame = getattr(comparison, name, None)
        if not isinstance(frame, pl.DataFrame):
            raise ValueError(
                f"comparison: {name} should be a polars frame, found {type(frame).__name__}. Give what "
                "workbench.comparison.compare returns."
            )
        if missing := [c for c in columns if c not in frame.columns]:
            raise ValueError(f"comparison: {name} has no column {missing[0]!r}; it has {frame.columns}.")
        found[name] = frame
    return found


def metrics_of(frames: dict[str, pl.DataFrame]) -> list[str]:
    """Metrics of the scores, in the order in which they are read."""
    names = frames["scores"]["metric"].unique(maintain_order=True).to_list()
    return sorted(names, key=lambda m: (METRIC_ORDER.index(m) if m in METRIC_ORDER else len(METRIC_ORDER), m))


def places_of(frames: dict[str, pl.DataFrame]) -> list[tuple[str, str]]:
    """(study, split) of the scores, by name; the pool is none of them."""
    found = frames["scores"].select("study", "split").unique().sort("study", "split")
    return [(study, split) for study, split in found.iter_rows() if (study, split) != (POOLED, POOLED)]


def direction(metric: str, better: Mapping[str, int]) -> str:
    """Which way a metric is good: "higher", "lower", or "" where it is no merit by itself."""
    known = dict.fromkeys(LOWER_IS_BETTER, -1) | dict.fromkeys(HIGHER_IS_BETTER, 1) | dict(better)
    return {1: "higher", -1: "lower"}.get(known.get(metric, 0), "")


def packed(comparison: Any) -> bytes:
    """The bytes of a comparison; raises as ``frames_of``."""
    frames = frames_of(comparison)
    scores = frames["scores"]
    metrics, places = metrics_of(frames), places_of(frames)
    if frames["ranks"].filter((pl.col("study") == POOLED) & (pl.col("split") == POOLED)).height:
        places = [*places, (POOLED, POOLED)]
    named = scores.unique("entry", keep="first", maintain_order=True).select("entry", "predictor", "variant")
    entries = {entry: i for i, entry in enumerate(named["entry"])}
    texts: dict[str, int] = {"": 0}
    at_metric, at_place = {m: i for i, m in enumerate(metrics)}, {p: i for i, p in enumerate(places)}

    def numbered(column: pl.Series, known: Mapping[str, int]) -> np.ndarray:
        if not known:
            return np.full(len(column), -1, dtype=np.int32)
        codes = column.replace_strict(list(known), list(known.values()), default=-1, return_dtype=pl.Int32)
        return codes.fill_null(-1).to_numpy()

    def where(frame: pl.DataFrame) -> np.ndarray:
        keys = frame.select(pl.concat_str("study", "split", separator="\0")).to_series()
        return numbered(keys, {"\0".join(place): i for place, i in at_place.items()})

    def code(frame: pl.DataFrame, column: str, known: Mapping[str, int]) -> np.ndarray:
        return numbered(frame[column], known)

    def told(frame: pl.DataFrame, column: str) -> np.ndarray:
        if column not in frame.columns:
            return np.zeros(len(frame), dtype=np.int32)
        filled = frame[column].fill_null("")
        for text in filled.unique(maintain_order=True):
            texts.setdefault(text, len(texts))
        return numbered(filled, texts)

    def floats(frame: pl.DataFrame, column: str) -> np.ndarray:
        if column not in frame.columns:
            return np.full(len(frame), np.nan, dtype=np.float32)
        return frame[column].cast(pl.Float32).fill_null(float("nan")).to_numpy()

    def counts(frame: pl.DataFrame, column: str) -> np.ndarray:
        if column not in frame.columns:
            return np.zeros(len(frame), dtype=np.int32)
        return frame[column].cast(pl.Int32).fill_null(0).to_numpy()

    # rows that pool several splits, and rows of entries without a score, have no room in the plots of one split
    pairs, ranks, pareto = frames["pairs"], frames["ranks"], frames["pareto"]
    columns: dict[str, np.ndarray] = {
        "score.place": where(scores), "score.metric": code(scores, "metric", at_metric),
        "score.entry": code(scores, "entry", entries), "score.interval": told(scores, "interval"),
        "score.naive_predictor": told(scores, "naive_predictor"),
        **{f"score.{c}": floats(scores, c) for c in ("value", "low", "high", "naive", "cost_s")},
        **{f"score.{c}": counts(scores, c) for c in ("folds", "seeds")},
        "pair.place": where(pairs), "pair.metric": code(pairs, "metric", at_metric),
        "pair.a": code(pairs, "a", entries), "pair.b": code(pairs, "b", entries),
        "pair.verdict": told(pairs, "verdict"), "pair.paired": told(pairs, "paired"),
        "pair.blocks": counts(pairs, "blocks"),
        **{f"pair.{c}": floats(pairs, c) for c in ("difference", "low", "high", "p", "p_holm")},
        "rank.place": where(ranks), "rank.metric": code(ranks, "metric", at_metric),
        "rank.entry": code(ranks, "entry", entries), "rank.rank": floats(ranks, "rank"),
        "rank.blocks": counts(ranks, "blocks"),
        "front.place": where(pareto), "front.metric": code(pareto, "metric", at_metric),
        "front.entry": code(pareto, "entry", entries),
        "front.on": pareto["on_front"].fill_null(False).to_numpy().astype(np.uint8),
        **{f"front.{c}": floats(pareto, c) for c in ("score", "cost_s")},
    }  # fmt: skip
    return pack(
        columns,
        version=1,
        entries=[{**row, "name": row.pop("entry"), "naive": row["predictor"] in NAIVE} for row in named.to_dicts()],
        places=[{"key": key(*p), "study": p[0], "split": p[1], "pooled": p == (POOLED, POOLED)} for p in places],
        metrics=[{"name": m, "unit": _unit(scores, m), "better": direction(m, comparison.better)} for m in metrics],
        texts=list(texts),
        critical=[
            {
                "place": at_place.get((row["study"], row["split"]), -1), "metric": at_metric.get(row["metric"], -1),
                "entries": row.get("entries"), "blocks": row.get("blocks"), "p": _plain(row.get("p")),
                "p_friedman": _plain(row.get("p_friedman")), "difference": _plain(row["critical_difference"]),
                "note": row.get("note") or "",
            }
            for row in frames["critical"].iter_rows(named=True)
        ],
        groups=[
            {
                "place": at_place.get((row["study"], row["split"]), -1), "metric": at_metric.get(row["metric"], -1),
                "by": row["by"], "entries": [entries[e] for e in row["entries"] or [] if e in entries],
            }
            for row in frames["groups"].iter_rows(named=True)
        ],
        parameters=_parameters(frames["parameters"], at_place, entries),
        compared=[at_metric[m] for m in comparison.metrics if m in at_metric],
        notes=[str(note) for note in getattr(comparison, "notes", ())],
    )  # fmt: skip


def _unit(scores: pl.DataFrame, metric: str) -> str:
    if "unit" not in scores.columns:
        return ""
    found = scores.filter(pl.col("metric") == metric)["unit"].drop_nulls().unique()
    return next((u.replace("uM", "\u00b5M") for u in found if u and u != "fraction"), "")


def _plain(value: Any) -> float | None:
    """A number that JSON has, else None."""
    return float(value) if value is not None and np.isfinite(value) else None


def _parameters(
    frame: pl.DataFrame, at_place: dict[tuple[str, str], int], entries: dict[str, int]
) -> list[dict[str, Any]]:
    """One item a place and parameter, with what each entry has for it."""
    return [
        {
            "place": at_place.get((str(study), str(split)), -1), "param": param,
            "values": [[entries[e], v] for e, v in part.select("entry", "value").iter_rows() if e in entries],
        }
        for (study, split, param), part in frame.group_by("study", "split", "param", maintain_order=True)
    ]  # fmt: skip
