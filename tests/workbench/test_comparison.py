"""Comparisons of runs: planted differences are found with their size, equals are not told apart, formulas hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from workbench import runs, score, tables
from workbench.comparison import ComparisonError, _paired, _ranks, command, compare, frames, log
from workbench.comparison._drawn import figures
from workbench.runs import index, store

pytestmark = pytest.mark.shared_home  # the runs of `recorded` are made once

SUBJECTS, DRUGS, FOLDS, SEEDS = 90, 8, 3, (0, 1)
HOSTILE = "<img src=x onerror=alert(1)>"


def predictions(predictor: str, seed: int, fold: int, split: str = "unseen subject") -> pl.DataFrame:
    """Scored PREDICTIONS of a planted predictor: errors are a known multiple of one noise, or one of its own."""
    draw = np.random.default_rng(7)
    s, d = np.divmod(np.arange(SUBJECTS * DRUGS), DRUGS)
    baseline, signal = draw.normal(0, 2, DRUGS)[d], draw.normal(0, 1, len(s))
    observed = baseline + signal
    noise = draw.normal(0, 0.5, len(s)) + 0.4 * draw.normal(size=SUBJECTS)[s]  # errors of a subject go together
    own = np.random.default_rng([ord(c) for c in predictor]).normal(0, 0.5, len(s))
    wrong = {"good": 1.0, "copy": 1.0, "worse": 1.1, "defaulted": 1.0}
    error = noise * wrong[predictor] if predictor in wrong else own
    predicted = baseline if predictor == "mean_effects" else observed + error
    number = (np.random.default_rng([5, seed]).permutation(SUBJECTS) % FOLDS)[s]
    frame = pl.DataFrame(
        {
            "predictor": predictor, "split": split, "fold": fold, "row": np.arange(len(s)),
            "subject": [f"S{i:03}" for i in s], "treatment": [f"{HOSTILE} {i}" for i in d], "tissue": None,
            "endpoint": "ln_ic50", "unit": "ln(uM)", "predicted": predicted, "low": predicted - 1,
            "high": predicted + 1, "level": 0.9, "abstained": None, "baseline": baseline, "observed": observed,
            "censored": 0,
        },
        schema=dict(tables.PREDICTIONS.columns),
    )  # fmt: skip
    return frame.filter(pl.Series(number == fold))


def write(
    name: str, predictors: dict[str, dict], seed: int = 0, split: str = "unseen subject", kept: bool = True,
    study: str = "toy", digest: str = "5a" * 32, only: Callable[[str, int], bool] = lambda p, k: True, **more: object,
) -> str:  # fmt: skip
    """Record an experiment of planted predictors; returns the run's id."""
    told = {"name": name, "study": study, "split": split, "seed": seed, "folds": FOLDS, "endpoint": "ln_ic50", **more}
    with runs.record(told, digest) as parent:
        for fold in range(FOLDS):
            for predictor, params in predictors.items():
                if not only(predictor, fold):
                    continue
                with parent.child(predictor, fold, {**params, "seed": seed}) as child:
                    answer = predictions(predictor, seed, fold, split)
                    metrics, _ = score.evaluate(answer, [], draws=1)
                    whole = metrics.filter(pl.col("fold") == "all").select("metric", "value")
                    child.metrics(dict(whole.iter_rows()))
                    if kept:
                        child.tables({"PREDICTIONS": answer})
    return parent.run_id


@pytest.fixture(scope="module")
def recorded() -> dict[str, str]:
    plain: dict[str, dict] = {p: {} for p in ("good", "copy", "worse", "other", "another", "mean_effects")}
    first = write("planted", plain, 0)
    return {"first": first, "second": write("planted", plain, 1)}


def pair(found: frames.Comparison, a: str, b: str, metric: str) -> dict:
    rows = found.pairs.filter(metric=metric)
    row = rows.filter(pl.col("a").is_in([a, b]) & pl.col("b").is_in([a, b])).row(0, named=True)
    if row["a"] == b:
        row |= {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    return row


def test_every_frame_has_the_columns_it_promises(recorded: dict[str, str]) -> None:
    found = compare(draws=50)
    for name in command.TABLES:
        frame, wanted = getattr(found, name), getattr(frames, name.upper())
        assert dict(frame.schema) == wanted, name
        assert frame.height or name == "parameters", name
    empty = frames.Comparison(("RMSE",), {"RMSE": -1})
    assert dict(empty.pairs.schema) == frames.PAIRS and empty.pairs.is_empty()


def test_a_known_difference_is_found_with_its_size(recorded: dict[str, str]) -> None:
    found = compare(metric=("RMSE", "normalised Pearson"))
    good = found.scores.filter(entry="good", metric="RMSE").row(0, named=True)
    worse = pair(found, "worse", "good", "RMSE")
    assert worse["difference"] == pytest.approx(0.1 * good["value"], rel=1e-9)  # its errors are 1.1 times as large
    assert worse["low"] < worse["difference"] < worse["high"] and worse["low"] > 0
    assert worse["p"] < 0.01 and worse["p_holm"] >= worse["p"] and worse["blocks"] == FOLDS * len(SEEDS)
    assert worse["paired"] == f"bootstrap over {SUBJECTS} subjects"
    told = found.pairs.filter(a="good", b="worse", metric="RMSE")["verdict"].to_list()
    told += found.pairs.filter(a="worse", b="good", metric="RMSE")["verdict"].to_list()
    assert told in (["better"], ["worse"])
    assert pair(found, "good", "mean_effects", "normalised Pearson")["verdict"] == "better"


def test_equals_are_not_told_apart(recorded: dict[str, str]) -> None:
    found = compare()
    same = pair(found, "good", "copy", "normalised Pearson")
    assert (same["difference"], same["low"], same["high"], same["p"]) == (0.0, 0.0, 0.0, 1.0)
    alike = pair(found, "other", "another", "normalised Pearson")  # noises of the same size, drawn apart
    assert alike["verdict"] == "no difference shown" and alike["low"] < 0 < alike["high"] and alike["p"] > 0.05
    groups = [set(g) for g in found.groups.filter(by="paired intervals")["entries"]]
    assert any({"good", "copy"} <= g for g in groups) and any({"other", "another"} <= g for g in groups)
    assert not any({"good", "worse"} <= g for g in groups)


def test_scores_are_means_over_folds_then_seeds_beside_the_naive_value(recorded: dict[str, str]) -> None:
    found = compare(metric="RMSE", draws=100)
    values = [[score.evaluate(predictions("good", s, k), [], draws=1)[0] for k in range(FOLDS)] for s in SEEDS]
    wanted = np.mean([np.mean([m.filter(metric="RMSE", fold="all")["value"][0] for m in v]) for v in values])
    row = found.scores.filter(entry="good").row(0, named=True)
    assert row["value"] == pytest.approx(wanted, abs=1e-12) and (row["folds"], row["seeds"]) == (FOLDS, 2)
    assert row["naive_predictor"] == "mean_effects" and row["unit"] == "ln(uM)" and row["variant"] == ""
    naive = found.scores.filter(entry="mean_effects").row(0, named=True)
    assert row["naive"] == naive["value"] > row["high"] and row["cost_s"] > 0
    assert found.scores["entry"].to_list()[0] in ("other", "another") or row["value"] <= found.scores["value"][0]


def test_a_subject_in_two_seeds_counts_as_one(recorded: dict[str, str]) -> None:
    """Running everything again under another seed adds no subjects: the interval must not shrink as if it did."""
    one, two = compare([recorded["first"]], metric="RMSE"), compare(metric="RMSE")
    a, b = (f.scores.filter(entry="good").row(0, named=True) for f in (one, two))
    assert b["value"] == pytest.approx(a["value"], rel=0.05)
    assert (b["high"] - b["low"]) == pytest.approx(a["high"] - a["low"], rel=0.1)


def test_the_bootstrap_agrees_with_that_of_the_score(recorded: dict[str, str]) -> None:
    found = compare([recorded["first"]], metric="RMSE", draws=2000)
    answers = pl.concat([predictions(p, 0, k) for p in ("good", "other") for k in range(FOLDS)])
    _, wanted = score.evaluate(answers, [], draws=2000)
    theirs = wanted.filter(metric="RMSE").row(0, named=True)
    mine = pair(found, theirs["predictor"], theirs["other"], "RMSE")
    assert mine["difference"] == pytest.approx(theirs["difference"], abs=1e-12)
    assert mine["high"] - mine["low"] == pytest.approx(theirs["high"] - theirs["low"], rel=0.12)


def test_runs_compared_on_what_both_answered(recorded: dict[str, str]) -> None:
    whole = predictions("good", 0, 0)
    part = predictions("worse", 0, 0).with_columns(
        pl.when(pl.col("subject") > "S045").then("predicted").alias("predicted")
    )
    boot = _paired.Bootstrap("unseen subject", ("RMSE",), {"a": {(0, 0): whole}, "b": {(0, 0): part}}, 100)
    shared = whole.filter(pl.col("subject") > "S045")
    rmse = float(((shared["predicted"] - shared["observed"]) ** 2).mean() ** 0.5)
    assert boot.difference("b", "a", "RMSE").value == pytest.approx(0.1 * rmse, rel=1e-9)
    none = part.with_columns(pl.lit(None, pl.Float64).alias("predicted"))
    boot = _paired.Bootstrap("unseen subject", ("RMSE",), {"a": {(0, 0): whole}, "b": {(0, 0): none}}, 100)
    assert not boot.difference("b", "a", "RMSE").comparable


def test_without_predictions_folds_are_paired_and_it_is_said() -> None:
    ids = [write("unkept", {"good": {}, "worse": {}, "copy": {}}, s, kept=False, study="bare") for s in SEEDS]
    found = compare(ids, metric="RMSE")
    row = pair(found, "worse", "good", "RMSE")
    assert row["paired"] == f"corrected t over {FOLDS * 2} folds" and row["verdict"] in ("better", "worse")
    assert "no predictions are kept of" in " ".join(found.notes) and "t over folds" in " ".join(found.notes)
    values = {(s, k): 0.1 * _rmse("good", s, k) for s in SEEDS for k in range(FOLDS)}
    v = np.array(list(values.values()))
    reach = stats.t.ppf(0.975, 5) * math.sqrt((1 / 6 + 1 / (FOLDS - 1)) * v.var(ddof=1))  # Nadeau and Bengio 2003
    assert row["high"] - row["low"] == pytest.approx(2 * reach, rel=1e-9)
    assert pair(found, "good", "copy", "RMSE")["p"] == 1.0
    single = _paired.by_folds({(0, 0): 1.5}, 5)
    assert single.value == 1.5 and math.isnan(single.low) and single.how == "one fold: no interval"


def _rmse(predictor: str, seed: int, fold: int) -> float:
    f = predictions(predictor, seed, fold)
    return float(((f["predicted"] - f["observed"]) ** 2).mean() ** 0.5)


def test_only_the_parameters_that_differ_make_variants() -> None:
    write("wide", {"good": {"alpha": 1.0, "kernel": "rbf"}, "worse": {"depth": 3}}, study="varied")
    write("narrow", {"good": {"alpha": 0.1, "kernel": "rbf"}, "worse": {"depth": 3}}, study="varied")
    write("tuned", {"good": {"alpha": 0.1, "kernel": "rbf"}}, study="varied", tuning={"good": {"trials": 20}})
    found = compare(study="varied", draws=20)
    variants = dict(found.scores.select("entry", "variant").iter_rows())
    assert variants == {
        "good, alpha=1.0": "alpha=1.0", "good, alpha=0.1": "alpha=0.1", "worse": "",
        "good, alpha=0.1, tuned": "alpha=0.1, tuned",
    }  # fmt: skip
    told = {(e, p): v for e, p, v in found.parameters.select("entry", "param", "value").iter_rows()}
    assert {p for _, p in told} == {"alpha", "tuning.trials"}
    assert told["good, alpha=1.0", "alpha"] == "1.0" and told["good, alpha=1.0", "tuning.trials"] is None
    assert "3 nested runs were run again" in " ".join(found.notes)  # worse, the same in the second run
    assert found.runs.filter(entry="worse")["parent"].n_unique() == 1


def test_different_tasks_are_not_mixed() -> None:
    write("all", {"good": {}}, study="tasks")
    write("fewer", {"good": {}}, study="tasks", require=["expression"])
    write("rebuilt", {"good": {}}, study="tasks", digest="6b" * 32)
    found = compare(study="tasks", draws=0)
    assert sorted(found.scores["split"]) == [
        "unseen subject (require expression, data 5a5a5a)",
        "unseen subject (require not stated, data 5a5a5a)",
        "unseen subject (require not stated, data 6b6b6b)",
    ]
    assert found.pairs.is_empty()


def test_an_unfinished_fold_and_a_missing_one() -> None:
    ids = [write("gaps", {"good": {}, "worse": {}, "copy": {}}, study="gaps", only=lambda p, k: p != "copy" or k == 0)]
    with pytest.raises(ZeroDivisionError), runs.record({"name": "gaps", "study": "gaps"}, "5a" * 32) as parent:
        with parent.child("good", 0) as child:
            child.metrics({"RMSE": 99.0})
            raise ZeroDivisionError
        ids.append(parent.run_id)
    found = compare(study="gaps", metric="RMSE", draws=50)
    assert found.scores["value"].max() < 2
    assert "1 nested runs that did not finish are left out." in found.notes
    told = found.critical.row(0, named=True)
    assert (told["entries"], told["blocks"]) == (2, FOLDS) and "without copy" in told["note"]
    assert pair(found, "copy", "worse", "RMSE")["blocks"] == 1


def test_ranks_over_several_splits() -> None:
    three: dict[str, dict] = {"good": {}, "worse": {}, "mean_effects": {}}
    write("here", three, study="twice")
    write("there", three, study="twice", split="unseen tissue")
    found = compare(study="twice", metric="RMSE", draws=20)
    pooled = found.ranks.filter(study="all")
    assert pooled.select("entry", "rank", "blocks").rows() == [
        ("good", 1.0, 6),
        ("worse", 2.0, 6),
        ("mean_effects", 3.0, 6),
    ]
    told = found.critical.filter(split="all").row(0, named=True)
    assert told["p"] == 0.0 and told["iman_davenport"] == math.inf and told["blocks"] == 6
    assert told["critical_difference"] == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 6)), abs=1e-3)
    assert "share training rows" in " ".join(found.notes)
    names = list(figures(found))
    assert names[-1] == "comparison RMSE all splits" and len(names) == 3 and all(len(n) <= 120 for n in names)
    assert "Over all studies and splits" in figures(found)[names[-1]].get_suptitle()
    page = command.rows(found)
    json.dumps(page, allow_nan=False, default=str)
    assert sum(r["table"] == "scores" for r in page) == 6


# ---- formulas


def test_friedman_and_iman_davenport_on_the_example_of_the_source() -> None:
    """Demsar 2006, section 3.2.2: mean ranks of four algorithms on 14 data sets, and what is printed for them."""
    printed = np.array([3.143, 2.000, 2.893, 1.964])
    chi2, f = _ranks.friedman(printed, 14)
    assert chi2 == pytest.approx(9.28, abs=5e-3) and f == pytest.approx(3.69, abs=5e-3)
    assert _ranks.studentised_range(4) * math.sqrt(4 * 5 / (6 * 14)) == pytest.approx(1.25, abs=5e-3)


def test_friedman_with_ties_is_that_of_scipy() -> None:
    values = np.random.default_rng(2).integers(0, 4, (12, 5)).astype(float)
    found, theirs = _ranks.test(values, 1), stats.friedmanchisquare(*values.T)
    assert found.friedman == pytest.approx(theirs.statistic, rel=1e-9)
    assert found.p_friedman == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.iman_davenport == pytest.approx(11 * found.friedman / (12 * 4 - found.friedman))
    assert found.p == pytest.approx(stats.f.sf(found.iman_davenport, 4, 44))
    assert _ranks.test(values, -1).ranks == pytest.approx(6 - found.ranks)


TABLE = [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)]


@pytest.mark.parametrize(("k", "q"), TABLE)
def test_nemenyi_values_are_those_of_the_table(k: int, q: float) -> None:
    assert _ranks.studentised_range(k) == pytest.approx(q, abs=1.1e-3)  # Demsar 2006, table 5a
    assert stats.studentized_range.cdf(_ranks.studentised_range(k) * math.sqrt(2), k, np.inf) == pytest.approx(0.95)


def test_ties_and_no_difference_at_all() -> None:
    flat = _ranks.test(np.ones((5, 3)), 1)
    assert flat.ranks.tolist() == [2, 2, 2] and flat.friedman == 0 and flat.p == 1.0
    noise = _ranks.test(np.ones((5, 3)) + np.random.default_rng(0).normal(0, 1e-14, (5, 3)), 1)
    assert noise.ranks.tolist() == [2, 2, 2]
    lower = _ranks.test(np.array([[1.0, 2.0], [1.0, 3.0]]), -1)
    assert lower.ranks.tolist() == [1, 2]


def test_under_no_difference_friedman_rejects_as_often_as_promised() -> None:
    draw = np.random.default_rng(3)
    p = [_ranks.test(draw.normal(size=(10, 4)), 1).p for _ in range(600)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.027)  # three standard errors


def test_sets_that_are_not_told_apart() -> None:
    ranks = np.array([4.0, 1.0, 1.5, 2.4, 4.2])
    assert _ranks.near(ranks, 1.0) == [[1, 2], [2, 3], [0, 4]]
    assert _ranks.near(ranks, 0.1) == [] and _ranks.near(ranks, np.inf) == [[1, 2, 3, 0, 4]]
    same = np.zeros((5, 5), dtype=bool)
    for a, b in [(0, 1), (1, 2), (0, 2), (2, 3)]:
        same[a, b] = same[b, a] = True
    assert _ranks.cliques(same) == [[0, 1, 2], [2, 3]]
    every = np.random.default_rng(1).random((9, 9)) < 0.5
    every = every | every.T
    subsets = [c for n in range(2, 10) for c in combinations(range(9), n)]
    brute = [set(c) for c in subsets if all(every[i, j] for i, j in combinations(c, 2))]
    largest = sorted(sorted(c) for c in brute if not any(c < other for other in brute))
    assert _ranks.cliques(every) == largest


def test_holm_against_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.array([0.01, 0.04, 0.03, 0.5, 0.0004, 0.03])
    assert _ranks.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert np.isnan(_ranks.holm(np.array([0.1, np.nan]))[1]) and _ranks.holm(np.array([0.1, np.nan]))[0] == 0.1


def test_the_front_holds_what_nothing_beats(recorded: dict[str, str]) -> None:
    found = compare(["planted"], draws=0).pareto
    for row in found.iter_rows(named=True):
        better = found.filter(
            (pl.col("score") >= row["score"]) & (pl.col("cost_s") <= row["cost_s"])
            & ((pl.col("score") > row["score"]) | (pl.col("cost_s") < row["cost_s"]))
        )  # fmt: skip
        assert row["on_front"] == better.is_empty(), row


# ---- what people see


def test_it_is_logged_where_the_team_looks(recorded: dict[str, str]) -> None:
    found = compare(["planted"], draws=50)
    run_id = log(found)
    client = store.client()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags["workbench.kind"] == "comparison"
    assert "normalised Pearson" in run.data.tags["mlflow.note.content"]
    assert {a.path for a in client.list_artifacts(run_id, "tables")} >= {
        "tables/comparison_scores.csv", "tables/comparison_pairs.csv", "tables/comparison_groups.csv",
    }  # fmt: skip
    (picture,) = [a.path for a in client.list_artifacts(run_id, "figures")]
    assert picture.endswith(".png") and "unseen_subject" in picture
    assert run_id not in set(runs.runs()["run_id"])  # no experiment: lists of runs stay as they were

    before = runs.find(recorded["first"]).tags
    assert log(found, recorded["first"]) == recorded["first"]
    after = runs.find(recorded["first"])
    assert {k: v for k, v in after.tags.items() if k in before and not k.startswith("sha256 ")} == {
        k: v for k, v in before.items() if not k.startswith("sha256 ")
    }
    assert "comparison_pairs.csv" in json.loads(after.tags["sha256 tables"]) and after.status == "FINISHED"
    into = client.get_run(log(found, "planted"))
    assert into.info.experiment_id == client.get_run(recorded["first"]).info.experiment_id
    with pytest.raises(runs.RunError, match="no run 'nowhere'"):
        log(found, "nowhere")


def test_the_verb_prints_and_writes(recorded: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "c.json"
    assert command.main(["planted", "--metric", "RMSE", "--draws", "200", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "toy, unseen subject" in out and f"bootstrap over {SUBJECTS} subjects" in out and "[ln(uM)]" in out
    assert "paired intervals do not tell apart" in out and "share training rows" in out
    assert max(len(line) for line in out.splitlines()) <= 120
    pairs = [r for r in json.loads(file.read_text()) if r["table"] == "pairs"]
    assert len(pairs) == 15 and {r["metric"] for r in pairs} == {"RMSE"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--metric", "RSME"], "unknown metric 'RSME'. Did you mean 'RMSE'"),
        (["--study", "toi"], "no run on study 'toi'. Did you mean 'toy'"),
        (["--split", "unseen subjekt"], "Did you mean 'unseen subject'"),
        (["plantet"], "Did you mean 'planted'"),
        (["--most", "1"], "most is at least 2"),
    ],
)
def test_mistakes_are_answered(
    recorded: dict[str, str], given: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert command.main(given) == 1
    assert said in capsys.readouterr().err
    assert command.main(["--draws", "many"]) == 2


def test_a_changed_file_is_not_opened(recorded: dict[str, str]) -> None:
    run_id = write("spoilt", {"good": {}, "worse": {}}, study="spoilt")
    nested = index.history(run_ids=None).filter(parent=run_id)["run_id"][0]
    root = store.client().get_run(nested).info.artifact_uri.removeprefix("file://")
    with open(f"{root}/tables/predictions.parquet", "r+b") as file:
        file.seek(100)
        file.write(b"\0\1\2\3")
    with pytest.raises(runs.RunError, match="SHA-256"):
        compare([run_id], draws=20)
    assert compare([run_id], draws=0).scores.height == 2


def test_nothing_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(ComparisonError, match="workbench run"):
        compare()
