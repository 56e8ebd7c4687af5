"""What a run's tables say, as plain rows: no drawing here, no panel, no computing that ``score`` has already done."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import polars as pl

from workbench import tables

LOWER_IS_BETTER = frozenset({"RMSE", "MAE"})  # a narrow interval is no merit by itself: it must cover
HIGHER_IS_BETTER = frozenset({"Pearson", "normalised Pearson", "per-drug Pearson", "per-drug Spearman"})
METRIC_ORDER = (
    "normalised Pearson", "RMSE", "per-drug Pearson", "per-drug Spearman",
    "Pearson", "MAE", "coverage", "interval width",
)  # fmt: skip
NAIVE = ("mean_effects", "tissue_drug_mean", "drug_mean", "tissue_mean", "cell_mean", "global_mean")
SHOWN = ("name", "study", "split", "seed", "seeds", "git_commit", "lock_hash")  # not told twice in the provenance
SYMBOLS = {"better": "▲", "worse": "▼", "no difference shown": "="}
UNSEEN = {
    "unseen subject": "Every scored cell line was left out of training; all drugs had been seen on other lines.",
    "unseen treatment": "Every scored drug was left out of training; all cell lines had been seen with other drugs.",
    "unseen tissue": "Every scored tissue was left out of training with all of its lines; all drugs had been seen.",
    "unseen pair": "Only the scored pairs of line and drug were left out; each line and each drug had been seen "
    "in other pairs. This is the easiest of the rules.",
    "unseen combination": "Every scored pair of drugs was left out of training; each drug had other partners there.",
    "unseen drug of a combination": "One drug of every scored pair was left out of training with all of its partners.",
    "unseen drugs of a combination": "Both drugs of every scored pair were left out of training, with any partner.",
}


class Missing(Exception):
    """A table that a page needs is not in the run; the message says which and what to do."""


@dataclass(frozen=True)
class Cell:
    """One score beside the naive one, with the verdict on their difference and where the verdict comes from."""

    value: float | None
    low: float | None
    high: float | None
    naive: float | None
    naive_predictor: str
    unit: str
    verdict: str  # "better", "worse", "no difference shown" or "" where none can be given
    evidence: str  # "paired" or "interval" or ""


def read(run: Any, name: str) -> pl.DataFrame:
    """Table ``name`` of a run, with its schema checked.

    Raises
    ------
    Missing
        The run has no such table, it cannot be read, it is empty or has another shape.
    """
    what = f"run {getattr(run, 'name', '?')!r}: table {name.upper()}"
    try:
        frame = getattr(run, name)
    except Exception as e:  # whatever the store says about a table it cannot give belongs on the page
        raise Missing(f"{what} cannot be read: {e}") from e
    if frame is None or frame.is_empty():
        status = str(getattr(run, "status", "unknown"))
        hint = (
            "The run has not finished: come back when it has." if status == "RUNNING" else "Run the experiment again."
        )
        raise Missing(f"{what} is empty or was never recorded (the run's status is {status}). {hint}")
    try:
        return tables.check(frame, tables.TABLES[name.upper()])
    except tables.TableError as e:
        raise Missing(f"{what} has another shape than expected: {e}") from e


def ordered(metrics: list[str]) -> list[str]:
    """Metric names, the most telling first, unknown ones last."""
    return sorted(metrics, key=lambda m: (METRIC_ORDER.index(m) if m in METRIC_ORDER else 99, m))


def scores(metrics: pl.DataFrame, comparisons: pl.DataFrame | None = None) -> dict[str, dict[str, Cell]]:
    """``{predictor: {metric: Cell}}`` over all folds, best predictor first by the leading metric.

    The verdict against the naive predictor is the paired one where COMPARISONS holds it, else whether the interval
    leaves the naive value out; naive predictors get none against themselves.
    """
    paired = {
        (r["metric"], r["predictor"], r["other"]): r["verdict"]
        for r in ([] if comparisons is None else both_ways(comparisons).iter_rows(named=True))
    }
    found: dict[str, dict[str, Cell]] = {}
    for r in metrics.filter(pl.col("fold") == "all").iter_rows(named=True):
        verdict, evidence = paired.get((r["metric"], r["predictor"], r["naive_predictor"]), ""), "paired"
        if r["predictor"] in NAIVE:
            verdict = ""
        elif not verdict:
            verdict, evidence = _by_interval(r), "interval"
        unit = (r["unit"] or "").replace("uM", "\u00b5M")  # as people write it
        found.setdefault(r["predictor"], {})[r["metric"]] = Cell(
            r["value"], r["low"], r["high"], r["naive"], r["naive_predictor"] or "", unit, verdict,
            evidence if verdict else "",
        )  # fmt: skip
    lead = leading({m for cells in found.values() for m in cells})

    def rank(predictor: str) -> tuple[bool, float]:
        cell = found[predictor].get(lead)
        value = None if cell is None else cell.value
        if value is None or value != value:
            return (True, 0.0)
        return (False, value if lead in LOWER_IS_BETTER else -value)

    return {p: found[p] for p in sorted(found, key=rank)}


def leading(metrics: set[str]) -> str:
    """The metric that ranks the page: normalised Pearson where there is one, else the first known."""
    return ordered(sorted(metrics))[0] if metrics else ""


def _by_interval(r: dict[str, Any]) -> str:
    low, high, naive = r["low"], r["high"], r["naive"]
    if None in (low, high, naive) or r["metric"] not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return ""
    if low <= naive <= high:
        return "no difference shown"
    return "better" if (high < naive) == (r["metric"] in LOWER_IS_BETTER) else "worse"


def both_ways(comparisons: pl.DataFrame) -> pl.DataFrame:
    """COMPARISONS with each pair told from either side, what was recorded first."""
    turned = comparisons.with_columns(
        predictor=pl.col("other"), other=pl.col("predictor"), difference=-pl.col("difference"),
        low=-pl.col("high"), high=-pl.col("low"),
        verdict=pl.col("verdict").cast(pl.String).replace({"better": "worse", "worse": "better"}),
    )  # fmt: skip
    names = ("split", "metric", "predictor", "other", "verdict", "resampled")
    whole = pl.concat([f.with_columns(pl.col(names).cast(pl.String)) for f in (comparisons, turned)])
    return whole.unique(["split", "metric", "predictor", "other"], keep="first", maintain_order=True)


def sorted_comparisons(comparisons: pl.DataFrame, order: list[str]) -> pl.DataFrame:
    """COMPARISONS by metric, the most telling first, then by the rank of the two predictors.

    Each pair is told once, from the side of the better ranked; pairs of two naive predictors are left out.
    """
    whole = both_ways(comparisons)
    place = {p: i for i, p in enumerate(order)}
    metrics = {m: i for i, m in enumerate(ordered(whole["metric"].unique().to_list()))}

    def at(column: str, names: dict[str, int]) -> pl.Expr:
        return pl.col(column).replace_strict(names, default=999, return_dtype=pl.Int64)

    naive = pl.col("predictor").is_in(NAIVE) & pl.col("other").is_in(NAIVE)
    rows = whole.filter(~naive).sort(
        at("metric", metrics), at("predictor", place), at("other", place), maintain_order=True
    )
    pair = pl.concat_list("predictor", "other").list.sort()
    return rows.unique(["split", "metric", pair], keep="first", maintain_order=True)


def best(table: dict[str, dict[str, Cell]]) -> str | None:
    """The best predictor outside the naive family, by the leading metric."""
    return next((p for p in table if p not in NAIVE), None)


def treatments(predictions: pl.DataFrame) -> list[str]:
    """Names of the drugs, in the order a person would look them up."""
    return sorted(predictions["treatment"].unique().cast(pl.String).to_list(), key=lambda t: (t.casefold(), t))


def per_treatment(predictions: pl.DataFrame) -> pl.DataFrame:
    """Scores within each drug: columns treatment, predictor, n, rmse, pearson, spearman, inside.

    Correlations are taken within each fold and averaged: pooled over folds, a mean of the other folds would look
    correlated with what it left out. A predictor that gives one value for all lines ranks nothing and gets 0. RMSE is
    in the endpoint's unit, ``inside`` the fraction of observations within their interval; n counts answered rows.
    """
    answered = predictions.filter(pl.col("predicted").is_not_null() & pl.col("observed").is_not_null())
    zero = pl.lit(0.0)
    by_fold = answered.group_by("treatment", "predictor", "fold").agg(
        n=pl.len(),
        squares=((pl.col("predicted") - pl.col("observed")) ** 2).sum(),
        inside=((pl.col("observed") >= pl.col("low")) & (pl.col("observed") <= pl.col("high"))).sum(),
        bounded=(pl.col("low").is_not_null() & pl.col("high").is_not_null()).sum(),
        flat=(pl.col("predicted").max() - pl.col("predicted").min()) < 1e-9,
        pearson=pl.corr("predicted", "observed"),
        spearman=pl.corr("predicted", "observed", method="spearman"),
    )
    enough = pl.col("n") >= 3
    by_fold = by_fold.with_columns(
        *[
            pl.when(~enough).then(None).when(pl.col("flat")).then(zero).otherwise(pl.col(c).fill_nan(None)).alias(c)
            for c in ("pearson", "spearman")
        ]
    )
    return (
        by_fold.group_by("treatment", "predictor")
        .agg(
            n=pl.col("n").sum(),
            rmse=(pl.col("squares").sum() / pl.col("n").sum()).sqrt(),
            pearson=pl.col("pearson").mean(),
            spearman=pl.col("spearman").mean(),
            inside=pl.when(pl.col("bounded").sum() > 0).then(pl.col("inside").sum() / pl.col("bounded").sum()),
        )
        .with_columns(pl.col("treatment", "predictor").cast(pl.String))
        .sort("treatment", "predictor")
    )


def by_tissue(predictions: pl.DataFrame, treatment: str, predictor: str) -> pl.DataFrame:
    """One drug and predictor by tissue: tissue, n, observed, predicted (means), rmse; most lines first."""
    part = predictions.filter(
        (pl.col("treatment") == treatment) & (pl.col("predictor") == predictor) & pl.col("predicted").is_not_null()
    )
    return (
        part.with_columns(pl.col("tissue").cast(pl.String).fill_null("unknown"))
        .group_by("tissue")
        .agg(
            n=pl.len(),
            observed=pl.col("observed").mean(),
            predicted=pl.col("predicted").mean(),
            rmse=((pl.col("predicted") - pl.col("observed")) ** 2).mean().sqrt(),
        )
        .sort(["n", "tissue"], descending=[True, False])
    )


def top_features(attributions: pl.DataFrame, top: int = 15) -> pl.DataFrame:
    """The ``top`` features of each drug and predictor, the largest first.

    Columns: treatment, predictor, modality, feature, unit, method, value (mean over folds).
    """
    return (
        attributions.with_columns(
            pl.col("treatment", "predictor", "modality", "feature", "unit", "method").cast(pl.String)
        )
        .group_by("treatment", "predictor", "modality", "feature", "unit", "method")
        .agg(value=pl.col("value").mean())
        .sort(["treatment", "predictor", pl.col("value").abs(), "feature"], descending=[False, False, True, False])
        .group_by("treatment", "predictor", maintain_order=True)
        .head(top)
    )


def features(attributions: pl.DataFrame, treatment: str, predictor: str, top: int = 15) -> pl.DataFrame:
    """The features a predictor leans on for one drug; columns as in ``top_features``."""
    return top_features(
        attributions.filter((pl.col("treatment") == treatment) & (pl.col("predictor") == predictor)), top
    )


def given(run: Any) -> dict[str, Any]:
    """The parameters of a run; empty where they cannot be read."""
    try:
        return dict(run.params or {})
    except Exception:  # a run that died early has none, and that is all a page needs to know of it
        return {}


def started(run: Any) -> Any:
    """When a run began: its own word, else that of the list of runs; None where nobody knows."""
    own = getattr(run, "started", None)
    if own is None and type(run).__module__.startswith("workbench.runs"):
        known = importlib.import_module("workbench.runs").runs()
        own = next(iter(known.filter(pl.col("run_id") == run.run_id)["started"]), None)
    return own


def provenance(run: Any) -> list[tuple[str, str]]:
    """What a reader needs to compute this run again: label and value, the unknown said as such."""
    params = {str(k): v for k, v in given(run).items()}
    tags = {str(k): v for k, v in dict(getattr(run, "tags", None) or {}).items()}

    def first(*names: str) -> str:
        for name in names:
            for place in (params, tags, getattr(run, "__dict__", {})):
                if place.get(name) not in (None, ""):
                    return str(place[name])
        return "not recorded"

    split, dirty = first("split"), first("git.dirty", "git_dirty")
    changed = " (with uncommitted changes)" if dirty == "true" else ""
    rest = [(k, str(v)) for k, v in sorted(params.items()) if k not in SHOWN]
    return [
        ("Run", str(getattr(run, "name", ""))),
        ("Run id", str(getattr(run, "run_id", ""))),
        ("Status", str(getattr(run, "status", ""))),
        ("Started", when(started(run))),
        ("Study", first("study", "study_name")),
        ("Study digest (SHA-256)", str(getattr(run, "study_digest", "") or "not recorded")),
        ("Split rule", f"{split}. {UNSEEN.get(split, '')}".strip()),
        ("Seed", first("seed", "seeds")),
        ("Git commit", first("git.commit", "git_commit") + changed),
        ("Lock hash (SHA-256)", first("lock.sha256", "lock_hash")),
        ("Python", first("python")),
        ("Command", first("command")),
        *rest,
    ]


def when(moment: Any) -> str:
    """A time to the minute with its zone; whatever else is given, as it is."""
    if moment is None:
        return "not recorded"
    if hasattr(moment, "strftime"):
        return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()
    return str(moment)
