"""The comparison itself: places, entries and blocks in; the frames of a ``Comparison`` out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from workbench import predictors, score
from workbench.comparison import _paired, _ranks, frames
from workbench.comparison._chosen import Chosen, ComparisonError, choose
from workbench.comparison._paired import Block
from workbench.runs.stored import stored
from workbench.text import nearest

NEMENYI, PAIRED = "Nemenyi", "paired intervals"
SHARED = (
    "Folds of one split share training rows and seeds share subjects. Friedman, Iman-Davenport and Nemenyi take blocks "
    "as independent, so their p values are too small; the paired intervals draw subjects, models taken as fitted."
)


@dataclass
class Place:
    """One study and split: {entry: {block: ...}} of tracked values, runs, costs, and what the bootstrap found."""

    study: str
    split: str
    rule: str
    folds: int | None
    unit: str
    runs: pl.DataFrame
    values: dict[str, dict[str, dict[Block, float]]]  # metric, entry, block
    order: list[str]  # entries that are compared, best first
    facts: dict[str, dict[str, Any]]  # entry: predictor, variant, cost_s
    naive: set[str]  # entries of the naive family
    bootstrap: _paired.Bootstrap | None = None

    def row(self, **more: Any) -> dict[str, Any]:
        return {"study": self.study, "split": self.split, **more}


def compare(
    runs: list[str] | None = None,
    *,
    study: str | None = None,
    split: str | None = None,
    metric: str | Sequence[str] = "normalised Pearson",
    draws: int = 1000,
    most: int = 12,
    seed: int = 0,
    say: Callable[[float, str], None] | None = None,
) -> frames.Comparison:
    """Compare the predictors of recorded runs: scores, paired differences, ranks, parameters, cost.

    Parameters
    ----------
    runs
        Runs by id, start of an id, name, or name of an experiment; default: all that are recorded.
    study, split
        Only these; ``split`` is the rule, such as "unseen subject".
    metric
        One of ``score.BETTER``, or several; the first one orders the entries.
    draws
        Draws of the bootstrap; 0 reads no predictions and takes t intervals over folds.
    most
        Entries of each study and split that are paired and ranked, the best by the first metric and the best naive
        one; the others keep their score.
    seed
        Of the draws.
    say
        Told how far it is: (fraction, words).

    Raises
    ------
    ComparisonError
        A metric, run, study or split is unknown, or nothing that was asked for has finished.
    """
    metrics = (metric,) if isinstance(metric, str) else tuple(dict.fromkeys(metric))
    for name in metrics:
        if name not in score.BETTER:
            raise ComparisonError(
                f"unknown metric {name!r}.{nearest(name, score.BETTER)} Known: {', '.join(score.BETTER)}."
            )
    if not metrics or most < 2 or draws < 0:
        wanted = "metric names at least one, most is at least 2, draws at least 0"
        raise ComparisonError(f"{wanted}; found {metrics}, {most}, {draws}.")
    chosen = choose(runs, study, split, metrics)
    places = [_place(group, chosen.values, metrics, most) for _, group in
              chosen.runs.group_by("study", "split", maintain_order=True)]  # fmt: skip
    places.sort(key=lambda p: (p.study, p.split))
    notes = [*chosen.notes, *(_left_out(p, most) for p in places)]
    for i, place in enumerate(places):
        if say is not None:
            say(i / len(places), f"{place.study}, {place.split}: {len(place.order)} entries")
        if draws:
            notes.append(_load(place, metrics, draws, seed))
    told: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("scores", "pairs", "ranks", "critical", "groups", "pareto")
    }
    for place in places:
        for name in metrics:
            _judge(place, name, told)
    for name in metrics:
        _pooled(places, name, told, notes)
    if told["critical"]:
        notes.append(SHARED)
    links = chosen.runs.select(pl.col(c).cast(t) for c, t in frames.RUNS.items())
    return frames.Comparison(
        metrics,
        {m: score.BETTER[m] for m in metrics},
        **{name: _frame(rows, getattr(frames, name.upper())) for name, rows in told.items()},
        parameters=_parameters(chosen, places),
        runs=links,
        notes=tuple(dict.fromkeys(n for n in notes if n)),
    )


def _frame(rows: list[dict[str, Any]], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


# ---- what is there


def _place(group: pl.DataFrame, values: pl.DataFrame, metrics: tuple[str, ...], most: int) -> Place:
    told = group.select("run_id", "entry", "seed", "fold").join(values, on="run_id")
    found: dict[str, dict[str, dict[Block, float]]] = {m: {} for m in metrics}
    for entry, at, fold, name, value in told.select("entry", "seed", "fold", "metric", "value").iter_rows():
        if abs(value) < sys.float_info.max:  # neither NaN nor infinity, which MLflow keeps as the largest double
            found[name].setdefault(entry, {})[at, fold] = value
    sign = score.BETTER[metrics[0]] or 1
    first = {e: float(_paired.over_seeds(v)) for e, v in found[metrics[0]].items()}
    order = sorted(first, key=lambda e: (-sign * first[e], e))
    told = group.group_by("entry").agg(
        pl.col("predictor", "variant").first(), pl.col("duration_s").mean().alias("cost_s")
    )
    facts = {f["entry"]: f for f in told.iter_rows(named=True)}
    family = predictors.naive_names()
    naive = {e for e, f in facts.items() if f["predictor"] in family}
    kept = order[:most]
    if not naive & {*kept} and (best := [e for e in order if e in naive]):
        kept = [*kept[: most - 1], best[0]]
    row = group.row(0, named=True)
    return Place(row["study"], row["split"], row["rule"], row["folds"], "", group, found, kept, facts, naive)


def _left_out(place: Place, most: int) -> str:
    entries = place.runs["entry"].n_unique()
    silent = entries - len({e for v in place.values.values() for e in v})
    words = []
    if (more := entries - silent - len(place.order)) > 0:
        words.append(f"{more:,} entries beyond the best {most} have scores only: give most={entries} to pair them")
    if silent:
        words.append(f"no score of {silent} entr{'y' if silent == 1 else 'ies'} (abstained, or not recorded)")
    return f"{place.study}, {place.split}: {'; '.join(words)}." if words else ""


def _load(place: Place, metrics: tuple[str, ...], draws: int, seed: int) -> str:
    """Read the predictions of the entries compared; returns a note on those without."""
    wanted = place.runs.filter(pl.col("entry").is_in(place.order))
    where = {r["run_id"]: (r["entry"], (r["seed"], r["fold"])) for r in wanted.iter_rows(named=True)}
    found: dict[str, dict[Block, pl.DataFrame]] = {}
    for run_id, frame in stored(where, "PREDICTIONS", [*_paired.COLUMNS, "unit"]):
        entry, block = where[run_id]
        scored = frame.filter(pl.col("observed").is_not_null())
        if scored.height:
            place.unit = str(scored["unit"][0])
            found.setdefault(entry, {})[block] = scored
    whole = {
        e: f
        for e, f in found.items()
        if all(set(f) >= set(v.get(e, {})) for v in place.values.values()) and e in place.order
    }
    if whole:
        place.bootstrap = _paired.Bootstrap(place.rule, metrics, whole, draws, seed)
    missing = [e for e in place.order if e not in whole]
    if not missing:
        return ""
    names = ", ".join(missing)
    return f"{place.study}, {place.split}: no predictions are kept of {names}; their intervals are t over folds."


# ---- one place, one metric


def _judge(place: Place, metric: str, told: dict[str, list[dict[str, Any]]]) -> None:
    sign, values, boot = score.BETTER[metric], place.values[metric], place.bootstrap
    naive = {e: v for e, v in values.items() if e in place.naive}
    means = {e: float(_paired.over_seeds(v)) for e, v in values.items()}
    ranked = sorted(values, key=lambda e: (-(sign or 1) * means[e], e))
    for entry in ranked:
        mine, facts = values[entry], place.facts[entry]
        if boot is not None and entry in boot.frames:
            found = boot.value(entry, metric)
        else:
            found = _paired.by_folds(mine, place.folds)
        beside = {
            e: float(_paired.over_seeds({b: v[b] for b in mine})) for e, v in naive.items() if set(mine) <= set(v)
        }
        best = max(beside, key=lambda e: (sign or 1) * beside[e]) if beside else None
        told["scores"].append(
            place.row(
                entry=entry, predictor=facts["predictor"], variant=facts["variant"], metric=metric,
                value=means[entry], low=found.low, high=found.high, interval=found.how,
                naive=beside[best] if best else None, naive_predictor=best,
                folds=len({k for _, k in mine}), seeds=len({s for s, _ in mine}), cost_s=facts["cost_s"],
                unit=place.unit if metric in ("RMSE", "MAE", "interval width") else "",
            )
        )  # fmt: skip
    if not sign:  # to be near a level: neither ranked nor paired
        return
    there = [e for e in place.order if e in values]
    _pairs(place, metric, there, told)
    kept, blocks = _complete({e: values[e] for e in there})
    if len(kept) >= 2 and len(blocks) >= 2:
        matrix = np.array([[values[e][b] for e in kept] for b in blocks])
        _rank(place.study, place.split, metric, kept, matrix, told, set(there) - set(kept))
    _pareto(place, metric, means, told)


def _pairs(place: Place, metric: str, there: list[str], told: dict[str, list[dict[str, Any]]]) -> None:
    values, boot, rows = place.values[metric], place.bootstrap, []
    for a, b in combinations(there, 2):
        if boot is not None and a in boot.frames and b in boot.frames:
            found = boot.difference(a, b, metric)
        else:
            shared = {k: values[a][k] - values[b][k] for k in values[a] if k in values[b]}
            found = _paired.by_folds(shared, place.folds)
        said = score.verdict(found.low, found.high, score.BETTER[metric]) if found.comparable else NOT_PAIRED
        rows.append(
            place.row(metric=metric, a=a, b=b, difference=found.value, low=found.low, high=found.high, p=found.p,
                      verdict=said, paired=found.how, blocks=found.blocks)
        )  # fmt: skip
    for row, adjusted in zip(rows, _ranks.holm(np.array([r["p"] for r in rows], dtype=float)), strict=True):
        row["p_holm"] = float(adjusted)
    told["pairs"] += rows
    at = {e: i for i, e in enumerate(there)}
    same = np.zeros((len(there), len(there)), dtype=bool)
    for row in rows:
        if row["verdict"] == score.verdict(np.nan, np.nan, 1):
            same[at[row["a"]], at[row["b"]]] = same[at[row["b"]], at[row["a"]]] = True
    told["groups"] += [
        place.row(metric=metric, by=PAIRED, entries=[there[i] for i in found]) for found in _ranks.cliques(same)
    ]


NOT_PAIRED = "not comparable: no fold or row that both answered"


def _complete(values: dict[str, dict[Block, float]]) -> tuple[list[str], list[Block]]:
    """Entries that have at least half of the blocks that any has, and the blocks that all of them have."""
    most = max((len(v) for v in values.values()), default=0)
    kept = [e for e, v in values.items() if 2 * len(v) >= most]
    return kept, sorted(set.intersection(*(set(values[e]) for e in kept))) if kept else []


def _rank(
    study: str, split: str, metric: str, entries: list[str], matrix: np.ndarray,
    told: dict[str, list[dict[str, Any]]], absent: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:  # fmt: skip
    found = _ranks.test(matrix, score.BETTER[metric])
    where = {"study": study, "split": split, "metric": metric}
    for i in np.argsort(found.ranks, kind="stable"):
        told["ranks"].append({**where, "entry": entries[i], "rank": float(found.ranks[i]), "blocks": found.blocks})
    note = f"without {', '.join(sorted(absent))}, which took part in too few blocks" if absent else ""
    differ = found.p < _ranks.ALPHA
    if not differ:
        note = "; ".join(filter(None, ("no difference between mean ranks at 5 %: nobody is told apart", note)))
    told["critical"].append(
        {
            **where, "entries": len(entries), "blocks": found.blocks, "friedman": found.friedman,
            "p_friedman": found.p_friedman, "iman_davenport": found.iman_davenport, "p": found.p, "q": found.q,
            "critical_difference": found.critical_difference, "note": note,
        }
    )  # fmt: skip
    for group in _ranks.near(found.ranks, found.critical_difference if differ else np.inf):
        told["groups"].append({**where, "by": NEMENYI, "entries": [entries[i] for i in group]})


def _pareto(place: Place, metric: str, means: dict[str, float], told: dict[str, list[dict[str, Any]]]) -> None:
    sign = score.BETTER[metric]
    rows = [
        place.row(metric=metric, entry=e, predictor=f["predictor"], score=means[e], cost_s=f["cost_s"])
        for e, f in place.facts.items()
        if e in means and f["cost_s"] is not None
    ]
    rows.sort(key=lambda r: -sign * r["score"])
    reached = -np.inf
    for row in sorted(rows, key=lambda r: (r["cost_s"], -sign * r["score"])):
        row["on_front"] = bool(sign * row["score"] > reached)
        reached = max(reached, sign * row["score"])
    told["pareto"] += rows


# ---- over all places


def _pooled(places: list[Place], metric: str, told: dict[str, list[dict[str, Any]]], notes: list[str]) -> None:
    """Mean ranks over the blocks of all places, of the entries that took part in each of them."""
    if len(places) < 2 or not score.BETTER[metric]:
        return
    every = [{e for e in p.order if e in p.values[metric]} for p in places]
    shared = sorted(set.intersection(*every))
    rows = [
        [p.values[metric][e][b] for e in shared]
        for p in places
        for b in (sorted(set.intersection(*(set(p.values[metric][e]) for e in shared))) if shared else [])
    ]
    learnt = {e for p in places for e in p.facts if e not in p.naive}
    if len(shared) < 2 or len(rows) < 2 or not learnt & {*shared}:
        notes.append(
            f"{metric}: no ranks over all studies and splits, for no learnt entry took part in each with others."
        )
        return
    _rank(frames.ALL, frames.ALL, metric, shared, np.array(rows), told)


def _parameters(chosen: Chosen, places: list[Place]) -> pl.DataFrame:
    """Parameters that differ, of the entries compared; null where an entry does not say."""
    names = [(p.study, p.split, e) for p in places for e in p.order]
    kept = pl.DataFrame(names, schema=dict.fromkeys(("study", "split", "entry"), pl.String()), orient="row")
    mine = chosen.settings.join(kept, on=["study", "split", "entry"], how="semi", maintain_order="left")
    who = chosen.runs.select("study", "split", "entry", "predictor").unique(maintain_order=True)
    who = who.join(kept, on=["study", "split", "entry"], how="semi", maintain_order="left")
    asked = mine.join(who, on=["study", "split", "entry"]).select("predictor", "param").unique(maintain_order=True)
    full = who.join(asked, on="predictor").join(mine, on=["study", "split", "entry", "param"], how="left")
    # elsewhere they may differ; here only what does, an entry that does not say it counting within its predictor
    here = ["study", "split", "param"]
    between = pl.col("value").drop_nulls().n_unique().over(here) > 1
    within = pl.col("value").n_unique().over([*here, "predictor"]) > 1
    return full.filter(between | within).select(*frames.PARAMETERS).sort("study", "split", "entry", "param")
