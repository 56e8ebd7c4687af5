"""A run with planted truth, shaped like ``workbench.runs.Run``: the pages are tested against it without MLflow.

Truth: ln IC50 = drug mean + line mean + a sensitivity that ``drug_response`` sees best, ``ridge`` less, ``trees`` least
and the naive family not at all. Drug ``Planted`` leans on gene ``GENE0``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from workbench import tables

HOSTILE = "<img src=x onerror=window.__pwned=1>"
HOSTILE_SCRIPT = "</script><script>window.__pwned=1</script>"
NAIVE = ["global_mean", "drug_mean", "cell_mean", "tissue_mean", "tissue_drug_mean", "mean_effects"]
MODELS = {"ridge": 0.75, "trees": 0.85, "drug_response": 0.7}
PREDICTORS = [*NAIVE, *MODELS]
TISSUES = [
    "lung", "breast", "skin", "large intestine", "haematopoietic", "central nervous system", "ovary", "stomach",
    "pancreas", "oesophagus", "kidney", "bone", "upper aerodigestive tract", "autonomic ganglia", "urinary tract",
]  # fmt: skip
LEVEL = 0.9


@dataclass
class Run:
    """The attributes of ``workbench.runs.Run`` that pages read."""

    run_id: str
    name: str
    status: str
    params: dict[str, str]
    study_digest: str
    predictions: pl.DataFrame
    metrics: pl.DataFrame
    comparisons: pl.DataFrame
    attributions: pl.DataFrame
    curves: pl.DataFrame
    outcomes: pl.DataFrame = field(default_factory=lambda: tables.empty(tables.OUTCOMES))
    tags: dict[str, str] = field(default_factory=dict)
    started: datetime = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)


class Store:
    """The two functions of ``workbench.runs`` that pages call, over runs in memory."""

    def __init__(self, *found: Run) -> None:
        self.found = list(found)

    def runs(self) -> pl.DataFrame:
        columns = ["run_id", "name", "study", "split", "status", "started"]
        return pl.DataFrame(
            [
                (r.run_id, r.name, r.params.get("study", ""), r.params.get("split", ""), r.status, r.started)
                for r in self.found
            ],
            schema=columns if self.found else dict.fromkeys(columns, pl.String),
            orient="row",
        )

    def find(self, id_or_name: str) -> Run:
        for run in self.found:
            if id_or_name in (run.run_id, run.name):
                return run
        raise KeyError(f"no run {id_or_name!r}; the store has {[r.name for r in self.found]}.")


def run(
    subjects: int = 40, drugs: int = 6, folds: int = 3, seed: int = 0, hostile: bool = False, name: str | None = None
) -> Run:
    """A planted run; ``hostile`` puts script into the name of everything that has one."""
    rng = np.random.default_rng(seed)
    bad = (lambda i, word: f"{HOSTILE}{word}{i}" if i % 2 else f"{HOSTILE_SCRIPT}{word}{i}") if hostile else None
    lines = [bad(i, "line") if bad else f"LINE-{i:03d}" for i in range(subjects)]
    treatments = [bad(i, "drug") if bad else ("Planted" if i == 0 else f"Drug {i:03d}") for i in range(drugs)]
    tissues = [bad(i, "tissue") if bad else t for i, t in enumerate(TISSUES)]
    rule, unit = "unseen subject", (bad(1, "ln(uM)") if bad else "ln(uM)")
    drug, line, noise = rng.normal(2.5, 2.5, drugs), rng.normal(0, 0.5, subjects), rng.normal(0, 1.0, (subjects, drugs))
    truth = drug[None, :] + line[:, None] + noise
    keep = rng.random((subjects, drugs)) < 0.86
    keep[:, 0] = True
    fold_of, tissue_of = np.arange(subjects) % folds, rng.integers(0, len(tissues), subjects)
    d, s = np.nonzero(keep.T)
    frames, scores = [], []
    for predictor in PREDICTORS:
        predicted = np.full(truth.shape, drug.mean())
        if predictor in ("drug_mean", "tissue_drug_mean"):
            predicted = np.broadcast_to(drug[None, :], truth.shape) + 0.0
        if predictor == "tissue_drug_mean":
            predicted += rng.normal(0, 0.4, (len(tissues), drugs))[tissue_of]
        if predictor == "cell_mean":
            predicted = predicted + line[:, None]
        if predictor == "mean_effects":
            predicted = drug[None, :] + 0.3 * line[:, None]
        if predictor in MODELS:
            error = MODELS[predictor]
            predicted = drug[None, :] + line[:, None] + (1 - error**2) * noise
            predicted = predicted + rng.normal(0, error * np.sqrt(1 - error**2), truth.shape)
        predicted = predicted + rng.normal(0, 0.05, folds)[fold_of][:, None]
        half = 1.645 * float(np.std(truth - predicted))
        frame = pl.DataFrame(
            {
                "predictor": predictor, "split": rule, "fold": fold_of[s].astype(np.int32), "row": np.arange(len(s)),
                "subject": [lines[i] for i in s], "treatment": [treatments[i] for i in d],
                "tissue": [tissues[i] for i in tissue_of[s]],
                "endpoint": bad(0, "ln_ic50") if bad else "ln_ic50", "unit": unit,
                "predicted": predicted[s, d], "low": predicted[s, d] - half, "high": predicted[s, d] + half,
                "level": LEVEL, "abstained": None, "baseline": drug[d], "observed": truth[s, d], "censored": 0,
            },
            schema=dict(tables.PREDICTIONS.columns),
        )  # fmt: skip
        frames.append(frame)
        scores += _scores(frame, predictor)
    metrics = _beside_naive(pl.DataFrame(scores, schema=dict(tables.METRICS.columns), orient="row"))
    features = [bad(i, "GENE") if bad else f"GENE{i}" for i in range(30)]
    weights = rng.normal(0, 0.1, (drugs, len(features)))
    weights[0, 0] = 2.0
    attributions = pl.DataFrame(
        [
            (p, rule, 0, treatments[i], "expression", features[j], float(weights[i, j]), unit, "coefficient")
            for p in ("ridge", "drug_response") for i in range(drugs) for j in range(len(features))
        ],
        schema=dict(tables.ATTRIBUTIONS.columns), orient="row",
    )  # fmt: skip
    curves = pl.DataFrame(
        [
            ("drug_response", f, step, curve, float(end + 2 * np.exp(-step / 6) + rng.normal(0, 0.02)), curve_unit)
            for f in range(folds)
            for curve, end, curve_unit in (("training loss", 0.4, None), ("validation RMSE", 1.17, unit))
            for step in range(0, 40, 2)
        ],
        schema=dict(tables.CURVES.columns), orient="row",
    )  # fmt: skip
    called = name or (HOSTILE if hostile else "response_planted_unseen-subject")
    predictions, comparisons = pl.concat(frames), _comparisons(metrics)
    if bad:  # every name a person can give, also those of a predictor, a metric, a curve and a parameter
        predictions, metrics, comparisons, attributions, curves = (
            frame.with_columns(
                pl.col(c).replace({"trees": bad(1, "trees"), "MAE": bad(0, "MAE"), "training loss": bad(1, "loss")})
                for c in {"predictor", "other", "metric", "name", "naive_predictor"} & set(frame.columns)
            )
            for frame in (predictions, metrics, comparisons, attributions, curves)
        )
        metrics = metrics.with_columns(unit=pl.when(pl.col("unit").is_not_null()).then(pl.lit(unit)))
    return Run(
        run_id=f"{seed:032x}", name=called, status="FINISHED", study_digest="ab" * 32,
        params={
            "name": called, "study": (HOSTILE_SCRIPT if hostile else "planted"), "split": rule, "seed": "0",
            "folds": str(folds), (bad(1, "folds") if bad else "note"): "none",
        },
        tags={"git.commit": "0123456789abcdef0123456789abcdef01234567", "lock.sha256": "cd" * 32, "python": "3.11"},
        predictions=predictions, metrics=metrics, comparisons=comparisons,
        attributions=attributions, curves=curves,
    )  # fmt: skip


def _scores(frame: pl.DataFrame, predictor: str) -> list[tuple[object, ...]]:
    rows = []
    for fold in [*sorted(frame["fold"].unique()), None]:
        part = frame if fold is None else frame.filter(pl.col("fold") == fold)
        o, p, b = (part[c].to_numpy() for c in ("observed", "predicted", "baseline"))
        per_drug = part.group_by("treatment").agg(
            pearson=pl.corr("predicted", "observed").fill_nan(0.0),
            spearman=pl.corr("predicted", "observed", method="spearman").fill_nan(0.0),
        )
        inside = (o >= part["low"].to_numpy()) & (o <= part["high"].to_numpy())
        values = {
            "RMSE": (float(np.sqrt(np.mean((o - p) ** 2))), "ln(uM)"),
            "MAE": (float(np.mean(np.abs(o - p))), "ln(uM)"),
            "Pearson": (_corr(p, o), None),
            "normalised Pearson": (_corr(p - b, o - b), None),
            "per-drug Pearson": (float(per_drug["pearson"].mean()), None),
            "per-drug Spearman": (float(per_drug["spearman"].mean()), None),
            "coverage": (float(inside.mean()), "fraction"),
            "interval width": (float((part["high"] - part["low"]).mean()), "ln(uM)"),
        }
        for metric, (value, unit) in values.items():
            half = 0.4 / np.sqrt(part["subject"].n_unique())
            rows.append((predictor, "unseen subject", "all" if fold is None else str(fold), metric, value, value - half,
                         value + half, None, None, unit, "subject", part.height, 0))  # fmt: skip
    return rows


def _corr(a: np.ndarray, b: np.ndarray) -> float:
    return 0.0 if a.std() < 0.15 or b.std() == 0 else float(np.corrcoef(a, b)[0, 1])


def _beside_naive(metrics: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for (_, metric), part in metrics.group_by(["fold", "metric"], maintain_order=True):
        naive = part.filter(pl.col("predictor").is_in(NAIVE))
        if metric == "coverage":
            naive = naive.sort((pl.col("value") - LEVEL).abs())
        else:
            naive = naive.sort("value", descending=metric not in ("RMSE", "MAE", "interval width"))
        rows.append(part.with_columns(naive=pl.lit(naive["value"][0]), naive_predictor=pl.lit(naive["predictor"][0])))
    return pl.concat(rows)


def _comparisons(metrics: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for (metric,), part in metrics.filter(pl.col("fold") == "all").group_by(["metric"], maintain_order=True):
        if metric in ("coverage", "interval width"):
            continue
        value = dict(zip(part["predictor"], part["value"], strict=True))
        for predictor in MODELS:
            for other in (part["naive_predictor"][0], *(m for m in MODELS if m != predictor)):
                gain, half = value[predictor] - value[other], 0.03
                up = gain if metric not in ("RMSE", "MAE") else -gain
                verdict = "better" if up > half else "worse" if up < -half else "no difference shown"
                rows.append(
                    ("unseen subject", metric, predictor, other, gain, gain - half, gain + half, verdict, "subject")
                )
    return pl.DataFrame(rows, schema=dict(tables.COMPARISONS.columns), orient="row")


class Lost:
    """A store that cannot be read."""

    def runs(self) -> None:
        raise OSError(f"the store is gone {HOSTILE}")

    find = None


def stores() -> dict[str, object]:
    """Stores by name, made once for a server."""
    good = run(name="good run")
    older = replace(run(seed=1, name="older run"), started=good.started.replace(year=2025))
    bare = replace(
        good, run_id="b" * 32, name="bare run", status="KILLED", metrics=tables.empty(tables.METRICS),
        predictions=tables.empty(tables.PREDICTIONS), curves=tables.empty(tables.CURVES),
        comparisons=tables.empty(tables.COMPARISONS), attributions=tables.empty(tables.ATTRIBUTIONS),
    )  # fmt: skip
    return {
        "full": Store(older, good),
        "empty": Store(),
        "broken": Store(bare),
        "lost": Lost(),
        "hostile": Store(run(seed=2, hostile=True)),
    }
