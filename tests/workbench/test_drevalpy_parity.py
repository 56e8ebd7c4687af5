"""The same splits and predictions give the same metrics as drevalpy 1.6, the field's own referee, to 1e-9.

drevalpy is used by this test alone and asks for other versions of what we use, so it runs in a Python of its own:
where it is not importable here, ``DREVALPY_PYTHON`` names an interpreter that has it, and without either the test
skips. To make one: ``python -m venv theirs && theirs/bin/pip install "drevalpy==1.6.*"``.

Which names say the same, and what differs (drevalpy 1.6.0, ``evaluation.py`` and ``visualization/utils.py``):

    RMSE, MAE, Pearson         the same numbers; MSE is RMSE squared
    per-drug Pearson, Spearman the mean over drugs of its metrics per drug (it shows them drug by drug)
    Pearson: normalized        the same number from the same mean effects: both take one naive prediction away from both
                               sides. The effects differ. Ours: drug, then line of what is left, each shrunk; a line
                               never seen has none. Its: overall + tissue + (line - tissue) + drug, raw means, so a line
                               never seen still has its tissue's effect, which its normalised metrics then do not credit
    NaN against 0              it calls the correlation with a constant truth NaN, we count it as 0 (so that a mean over
                               drugs has the same drugs for all predictors); a constant prediction is 0 for both
    tissue_drug_mean           a tissue never seen with a drug: ours says the drug's mean, its the overall one

It has R^2, Kendall and, over all rows, Spearman, also normalised; we do not. We have intervals, coverage, interval
width and paired comparisons; it does not.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import predict, predictors, score
from workbench.splits import RULES, Split

FOLDS, TOLERANCE = 3, 1e-9
PREDICTORS = ["global_mean", "drug_mean", "cell_mean", "tissue_mean", "tissue_drug_mean", "mean_effects", "ridge"]
THEIR_NAIVE = {
    "global_mean": "NaivePredictor",
    "drug_mean": "NaiveDrugMeanPredictor",
    "cell_mean": "NaiveCellLineMeanPredictor",
    "tissue_mean": "NaiveTissueMeanPredictor",
    "tissue_drug_mean": "NaiveTissueDrugMeanPredictor",
    "mean_effects": "NaiveMeanEffectsPredictor",
}

DRIVER = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
import drevalpy
from drevalpy.datasets.dataset import DrugResponseDataset, FeatureDataset
from drevalpy.evaluation import AVAILABLE_METRICS, evaluate
from drevalpy.models.baselines import naive_pred
from drevalpy.visualization.utils import _normalize_metrics_by_mean_effects

given = json.load(open(sys.argv[1]))
frame = pd.DataFrame(given["rows"])
for column in ("y_true", "y_pred"):
    frame[column] = frame[column].astype(float)
every = list(AVAILABLE_METRICS)

def dataset(rows):
    return DrugResponseDataset(response=rows["y_true"].to_numpy(), cell_line_ids=rows["cell_line_name"].to_numpy(),
                               drug_ids=rows["drug_name"].to_numpy(), predictions=rows["y_pred"].to_numpy())

out = {"version": drevalpy.__version__, "metrics": every, "whole": {}, "per_drug": {}, "naive": {}}
table = []
for (algorithm, mode, fold), rows in frame.groupby(["algorithm", "test_mode", "CV_split"]):
    key = f"{algorithm}_predictions_{mode}_split_{fold}"
    out["whole"][key] = evaluate(dataset(rows), every)
    out["per_drug"][key] = {d: {"n": int(part["y_pred"].notna().sum()), **evaluate(dataset(part), every)}
                            for d, part in rows.groupby("drug_name")}
    table.append((key, algorithm, "predictions", mode, fold))
table = pd.DataFrame(table, columns=["at", "algorithm", "rand_setting", "test_mode", "CV_split"]).set_index("at")
normal = _normalize_metrics_by_mean_effects(table, frame.assign(rand_setting="predictions"))
out["normalised"] = {k: v for k, v in normal["Pearson: normalized"].items()}

lines = FeatureDataset({s: {"cell_line_name": np.array([s]), "tissue": np.array([t])}
                        for s, t in given["tissues"].items()})
drugs = FeatureDataset({d: {"pubchem_id": np.array([d])} for d in given["drugs"]})
for key, part in given["train"].items():
    for name in given["naive"]:
        model = getattr(naive_pred, name)()
        train = DrugResponseDataset(response=np.array(part["y"]), cell_line_ids=np.array(part["line"]),
                                    drug_ids=np.array(part["drug"]))
        model.train(train, lines, drugs)
        test = given["test"][key]
        out["naive"][f"{name}_{key}"] = [float(v) for v in np.ravel(model.predict(
            np.array(test["line"]), np.array(test["drug"]), lines, drugs))]
json.dump(out, open(sys.argv[2], "w"))
"""


def interpreter() -> str:
    if importlib.util.find_spec("drevalpy") is not None:
        return sys.executable
    named = os.environ.get("DREVALPY_PYTHON")
    if not named:
        pytest.skip("drevalpy 1.6 is not installed here, and DREVALPY_PYTHON names no interpreter that has it")
    return named


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Our predictions of every rule and fold, and what drevalpy makes of them."""
    python = interpreter()
    study = toy.write("judged", tissues=5)
    ours, given = [], {"train": {}, "test": {}, "naive": list(THEIR_NAIVE.values())}  # type: ignore[var-annotated]
    for rule in RULES:
        split = Split.make(study, rule, endpoint="ln_ic50", folds=FOLDS)
        for fold in (split.fold(k) for k in range(FOLDS)):
            base = predict.baseline(fold)
            for name in PREDICTORS:
                predictor = predictors.make(name).fit(fold)
                ours.append(score.unseal(predict.predictions(predictor, fold, base), fold))
            for side, rows in (("train", fold.train), ("test", fold.test)):
                told = {"line": rows["subject"].to_list(), "drug": rows["treatment"].to_list()}
                given[side][f"{rule}_{fold.number}"] = told | (
                    {"y": rows["value"].to_list()} if side == "train" else {}
                )
    frame = pl.concat(ours)
    taken = frame.filter(predictor="ridge").with_columns(
        pl.lit("NaiveMeanEffectsPredictor").alias("predictor"), predicted="baseline"
    )  # what both take away: the same effects, ours
    rows = pl.concat([frame, taken]).select(
        algorithm="predictor", test_mode="split", CV_split=pl.col("fold").cast(pl.String), drug_name="treatment",
        cell_line_name="subject", y_true="observed", y_pred="predicted",
    )  # fmt: skip
    given |= {"rows": rows.to_dict(as_series=False), "tissues": dict(study.subjects.select("subject", "tissue").rows())}
    given["drugs"] = toy.TREATMENTS
    place = tmp_path_factory.mktemp("drevalpy")
    (place / "driver.py").write_text(DRIVER, encoding="utf-8")
    (place / "in.json").write_text(json.dumps(given), encoding="utf-8")
    quiet = {"HOME": str(place), "MPLCONFIGDIR": str(place), "WANDB_MODE": "disabled", "PYTHONPATH": ""}
    done = subprocess.run(
        [python, str(place / "driver.py"), str(place / "in.json"), str(place / "out.json")],
        env={**os.environ, **quiet}, cwd=place, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(Path(place / "out.json").read_text(encoding="utf-8"))
    metrics = {rule: score.evaluate(frame.filter(split=rule), [], draws=2)[0] for rule in RULES}
    return {"frame": frame, "theirs": theirs, "metrics": metrics}


def cells(judged: dict[str, Any], metric: str):
    """(key of drevalpy, our value) of every predictor, rule and fold that answered."""
    for rule, metrics in judged["metrics"].items():
        part = metrics.filter(pl.col("metric") == metric, pl.col("fold") != "all", pl.col("value").is_not_null())
        for r in part.iter_rows(named=True):
            yield f"{r['predictor']}_predictions_{rule}_split_{r['fold']}", r["value"]


def told(what: str, apart: list[float]) -> None:
    assert apart, what
    print(f"{what}: {len(apart)} compared, largest difference {max(apart):.3g}")  # noqa: T201
    assert max(apart) < TOLERANCE, what


def test_it_is_the_version_that_was_compared(judged: dict[str, Any]) -> None:
    assert judged["theirs"]["version"].startswith("1.6.")
    assert judged["theirs"]["metrics"] == ["MSE", "RMSE", "MAE", "R^2", "Pearson", "Spearman", "Kendall"]


@pytest.mark.parametrize("metric", ["RMSE", "MAE", "Pearson"])
def test_errors_and_correlations_are_the_same(judged: dict[str, Any], metric: str) -> None:
    whole = judged["theirs"]["whole"]
    found = list(cells(judged, metric))
    assert len(found) >= FOLDS * len(RULES) * (len(PREDICTORS) - 1), "ridge abstains on unseen compounds"
    told(metric, [abs(whole[key][metric] - value) for key, value in found])
    if metric == "RMSE":
        told("MSE", [abs(whole[key]["MSE"] - value**2) for key, value in found])


@pytest.mark.parametrize("metric", ["Pearson", "Spearman"])
def test_means_over_drugs_are_the_same(judged: dict[str, Any], metric: str) -> None:
    apart = []
    for key, value in cells(judged, f"per-drug {metric}"):
        enough = [d[metric] for d in judged["theirs"]["per_drug"][key].values() if d["n"] >= score.FEWEST]
        apart.append(abs(np.mean(enough) - value) if enough else abs(value))
    told(f"per-drug {metric}", apart)


def test_normalised_is_the_same_from_the_same_effects(judged: dict[str, Any]) -> None:
    normal = judged["theirs"]["normalised"]
    told("normalised Pearson", [abs(normal[key] - value) for key, value in cells(judged, "normalised Pearson")])


@pytest.mark.parametrize("name", ["global_mean", "drug_mean", "cell_mean", "tissue_mean", "tissue_drug_mean"])
def test_naive_predictors_say_the_same(judged: dict[str, Any], name: str) -> None:
    apart = []
    for (rule, fold), mine in judged["frame"].filter(predictor=name).group_by("split", "fold", maintain_order=True):
        if name == "tissue_drug_mean" and rule in ("unseen tissue", "unseen treatment"):
            continue  # the two fall back to different means; see the top
        theirs = judged["theirs"]["naive"][f"{THEIR_NAIVE[name]}_{rule}_{fold}"]
        apart.append(float(np.abs(mine["predicted"].to_numpy() - np.array(theirs)).max()))
    told(name, apart)


def test_what_each_calls_mean_effects_differs_by_the_tissue_of_unseen_lines(judged: dict[str, Any]) -> None:
    """Its prediction is overall + tissue + drug there; taken away instead of ours it leaves a tissue mean no credit."""
    for fold in range(FOLDS):
        mine = judged["frame"].filter(predictor="mean_effects", split="unseen subject", fold=fold)
        theirs = np.array(judged["theirs"]["naive"][f"NaiveMeanEffectsPredictor_unseen subject_{fold}"])
        means = [np.array(judged["theirs"]["naive"][f"{THEIR_NAIVE[n]}_unseen subject_{fold}"])
                 for n in ("drug_mean", "tissue_mean", "global_mean")]  # fmt: skip
        np.testing.assert_allclose(theirs, means[0] + means[1] - means[2], atol=TOLERANCE)
        assert np.abs(theirs - mine["predicted"].to_numpy()).max() > 0.1


def test_a_constant_prediction_is_nothing_to_both(judged: dict[str, Any]) -> None:
    for rule in RULES:
        for fold in range(FOLDS):
            assert judged["theirs"]["whole"][f"global_mean_predictions_{rule}_split_{fold}"]["Pearson"] == 0
    zero = [v for k, v in cells(judged, "Pearson") if k.startswith("global_mean")]
    assert zero == [0.0] * len(RULES) * FOLDS
