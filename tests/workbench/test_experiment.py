"""Experiments: read strictly, run once, and read back from the store with every number they had."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import experiment, home, predictors, runs, tables, train
from workbench.experiment import ExperimentError, entries
from workbench.splits import Split
from workbench.study import Study

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {
    "name": "toy",
    "study": "synthetic",
    "endpoint": "ln_ic50",
    "split": "unseen subject",
    "folds": 2,
    "predictors": ["global_mean", "mean_effects", "ridge", "drug_response"],
    "draws": 50,
    "parameters": {"drug_response": {"members": 2, "width": 8, "rank": 4, "epochs": 3, "subjects": 8}},
}
FILE = """
name = "toy"
question = "Does it run?"
study = "synthetic"
endpoint = "ln_ic50"
split = "unseen subject"
folds = 3
only = [0, 2]
require = ["expression"]
predictors = ["drug_mean", "drug_response"]
[parameters.drug_response]
members = 4
modalities = ["expression"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "one.toml"
    path.write_text(text, encoding="utf-8")
    return path


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_file_is_what_it_says(tmp_path: Path) -> None:
    read = experiment.read(written(tmp_path, FILE))
    assert (read.name, read.question, read.folds, read.seed, read.draws) == ("toy", "Does it run?", 3, 0, 1000)
    assert read.predictors == ("drug_mean", "drug_response") and read.require == ("expression",)
    assert read.numbers == [0, 2]
    assert read.parameters == {"drug_response": {"members": 4, "modalities": ["expression"]}}
    flat = read.flat()
    assert flat["predictors"] == ["drug_mean", "drug_response"] and flat["only"] == [0, 2]
    assert experiment.of(dict(PLAIN)).numbers == [0, 1]
    assert experiment.of(flat) == read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("folds =", "fold ="), r"one\.toml: unknown key 'fold'\. Did you mean 'folds'\?.*Known: name, study"),
        (("folds = 3", 'folds = "3"'), r"folds should be int, found '3'"),
        (("folds = 3", "folds = true"), r"folds should be int, found True"),
        (("folds = 3", "folds = 3.0"), r"folds should be int, found 3\.0"),
        (('name = "toy"', "name = 7"), r"name should be str, found 7"),
        (('"drug_mean", ', '"drug_maen", '), r"unknown predictor 'drug_maen'\. Did you mean 'drug_mean'"),
        (("[parameters.drug_response]", "[parameters.drug_respons]"), r"unknown predictor 'drug_respons'"),
        (("members = 4", "member = 4"), r"'drug_response' has no parameter 'member'\. Did you mean 'members'"),
        (('"unseen subject"', '"unseen subjects"'), r"split is one of .*Did you mean 'unseen subject'"),
        (('study = "synthetic"', ""), r"missing 1 required positional argument: 'study'"),
        (('predictors = ["drug_mean", "drug_response"]', "predictors = []"), r"predictors is empty"),
        (('predictors = ["drug_mean", "drug_response"]', 'predictors = "ridge"'), r"predictors should be"),
        (("only = [0, 2]", "only = [3]"), r"only names fold 3, but folds = 3 gives 0 to 2"),
        (("folds = 3", "folds ="), r"one\.toml is not TOML"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_run_is_refused_by_name(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in FILE
    with pytest.raises(ExperimentError, match=message) as caught:
        experiment.read(written(tmp_path, FILE.replace(*change)))
    assert "one.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predictors": [1]}, "predictors"),
        ({"only": ["0"]}, "only"),
        ({"require": [1]}, "require"),
        ({"parameters": {"ridge": 3}}, "ridge"),
        ({"predictors": ["ridge", "ridge"]}, "ridge"),
        ({"only": [0, 0]}, "only"),
        ({"folds": 1}, "folds"),
        ({"seed": -1}, "seed"),
        ({"draws": -1}, "draws"),
        ({"name": ""}, "name"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_when_read(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=rf"\b{message}\b") as caught:
        experiment.of(PLAIN | change)
    assert not re.search("object is not|argument after|not supported between", str(caught.value)), "Python's own words"


def test_a_file_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, FILE)
    with pytest.raises(ExperimentError, match=r"there is no such file\. Did you mean 'one\.toml'"):
        experiment.read(tmp_path / "on.toml")
    with pytest.raises(ExperimentError, match=r"no such file"):
        experiment.read(tmp_path / "nowhere" / "one.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExperimentError, match=r"is not TOML"):
        experiment.read(tmp_path / "bytes.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda p: p.stem)
def test_the_experiments_of_the_house_can_be_read(path: Path) -> None:
    read = experiment.read(path)
    assert read.name == path.stem and read.question.endswith("?")
    assert set(predictors.naive_names()) & set(read.predictors), "a score stands beside the naive value"


# --- running ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(_module_home: object) -> Study:
    return toy.write()


@pytest.fixture(scope="module")
def told() -> list[tuple[float, str]]:
    return []


@pytest.fixture(scope="module")
def points() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def run(study: Study, told: list[tuple[float, str]], points: list[tuple[str, int, int]]) -> runs.Run:
    return experiment.run(
        experiment.of(PLAIN),
        say=lambda done, message: told.append((done, message)),
        point=lambda name, fold, epoch, values: points.append((name, fold, epoch)),
        accelerator="cpu",
    )


def test_a_run_is_found_again_with_all_its_tables(run: runs.Run, study: Study) -> None:
    again = runs.find(run.run_id)
    assert again.status == "FINISHED" and again.study_digest == study.digest
    n = study.outcomes.filter(pl.col("endpoint") == "ln_ic50").height
    predictions = again.predictions
    assert predictions.height == n * len(PLAIN["predictors"])
    for name in PLAIN["predictors"]:
        mine = predictions.filter(pl.col("predictor") == name)
        assert mine["row"].n_unique() == n, "every row is tested once"
        assert mine["fold"].unique().sort().to_list() == [0, 1]
    truth = study.outcomes["value"].to_numpy()
    np.testing.assert_array_equal(predictions["observed"], truth[predictions["row"].to_numpy()])
    metrics = again.metrics
    assert metrics.height == len(PLAIN["predictors"]) * 8 * 3
    assert metrics["naive"].null_count() == 0
    assert set(again.comparisons["verdict"]) <= {"better", "worse", "no difference shown"} | {
        v for v in again.comparisons["verdict"] if v.startswith("not comparable")
    }
    assert again.outcomes.height == n
    assert again.params["split digest"] == split(study).digest
    assert runs.find("toy").run_id == run.run_id


def split(study: Study) -> Split:
    return Split.make(study, "unseen subject", endpoint="ln_ic50", folds=2, seed=0)


@pytest.mark.parametrize("name", PLAIN["predictors"])
def test_a_reloaded_model_predicts_exactly_the_same(name: str, run: runs.Run, study: Study) -> None:
    for number in range(2):
        fold = split(study).fold(number)
        model = runs.find(run.run_id).model(name, number, restore=predictors.restore)
        answer = model.predict(fold.study, fold.test)
        stored = run.predictions.filter(pl.col("predictor") == name, pl.col("fold") == number)
        assert stored["row"].equals(fold.test["row"])
        for column in ("predicted", "low", "high"):
            gap = (answer[column] - stored[column]).abs().max()
            assert gap is None or gap == 0.0
        assert answer["abstained"].equals(stored["abstained"])


def test_scores_are_those_of_the_stored_predictions(run: runs.Run) -> None:
    for number in range(2):
        mine = run.predictions.filter(
            pl.col("predictor") == "ridge", pl.col("fold") == number, pl.col("predicted").is_not_null()
        )
        rmse = ((mine["predicted"] - mine["observed"]) ** 2).mean() ** 0.5  # type: ignore[operator]
        stored = run.metrics.filter(
            pl.col("predictor") == "ridge", pl.col("fold") == str(number), pl.col("metric") == "RMSE"
        )["value"].item()
        assert stored == pytest.approx(rmse, abs=1e-12)
        whole = run.metrics.filter(pl.col("fold") == "all")
        for row in whole.filter(pl.col("value").is_not_null()).iter_rows(named=True):
            assert run.scores[f"{row['predictor']} {row['metric']}"] == pytest.approx(row["value"])


def test_curves_and_attributions_are_kept(run: runs.Run) -> None:
    curves = tables.check(run.curves, tables.CURVES)
    assert set(curves["predictor"]) == {"drug_response"}
    for number in range(2):
        mine = curves.filter(pl.col("fold") == number, pl.col("name") == "training RMSE")
        assert mine["step"].to_list() == [1, 2, 3]
    leaning = tables.check(run.attributions, tables.ATTRIBUTIONS)
    assert set(leaning["predictor"]) == {"ridge", "drug_response"}
    assert set(leaning["unit"]) == {"ln(uM) per sd"}


def test_progress_never_goes_back_and_ends_at_all(
    run: runs.Run, told: list[tuple[float, str]], points: list[tuple[str, int, int]]
) -> None:
    fractions = [d for d, _ in told]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and told[-1] == (1.0, "done")
    assert points == [("drug_response", fold, epoch) for fold in range(2) for epoch in range(1, 4)]


def test_no_checkpoint_stays(run: runs.Run) -> None:
    assert not home.checkpoints().exists() or list(home.checkpoints().iterdir()) == []


def test_only_runs_the_folds_it_names(study: Study) -> None:
    one = experiment.run(experiment.of(PLAIN | {"name": "only", "only": [1], "predictors": ["drug_mean", "ridge"]}))
    assert one.predictions["fold"].unique().to_list() == [1]
    assert sorted(one.metrics["fold"].unique()) == ["1", "all"]


def test_a_run_that_was_asked_to_stop_goes_on_from_its_checkpoint(
    study: Study, run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.fit, "__kwdefaults__", train.fit.__kwdefaults__ | {"every_s": 0.0})  # type: ignore[attr-defined]
    spec = experiment.of(PLAIN | {"name": "stopped", "predictors": ["drug_response"]})
    seen: list[tuple[str, int, int]] = []

    def point(name: str, fold: int, epoch: int, values: dict[str, float]) -> None:
        seen.append((name, fold, epoch))

    with pytest.raises(train.Stopped, match=r"the same call resumes"):
        experiment.run(spec, point=point, stopped=lambda: len(seen) == 5, accelerator="cpu")
    assert seen[-1] == ("drug_response", 1, 2)
    assert len(list(home.checkpoints().iterdir())) == 1
    seen.clear()
    again = experiment.run(spec, point=point, accelerator="cpu")
    assert seen == [("drug_response", 1, 3)], "the finished fold is taken over, the other goes on"
    whole = run.predictions.filter(pl.col("predictor") == "drug_response")
    assert again.predictions["predicted"].equals(whole["predicted"]), "as if it had never been stopped"


def test_a_run_that_is_asked_to_stop_is_killed(study: Study) -> None:
    spec = experiment.of(PLAIN | {"name": "asked to stop", "predictors": ["ridge"]})
    with pytest.raises(train.Stopped):
        experiment.run(spec, stopped=lambda: True)
    assert runs.find("asked to stop").status == "KILLED"


def test_a_run_that_fails_is_marked_as_failed(study: Study) -> None:
    spec = experiment.of(PLAIN | {"name": "fails", "predictors": ["trees"], "parameters": {"trees": {"leaves": -1}}})
    with pytest.raises(Exception, match=r"num_leaves"):
        experiment.run(spec)
    assert runs.find("fails").status == "FAILED"


def test_what_the_study_lacks_is_said_before_a_run_is_opened(study: Study) -> None:
    before = runs.runs().height
    for change, message in (
        ({"study": "synthetik"}, r"no study 'synthetik'.*Did you mean 'synthetic'"),
        ({"endpoint": "ln_ic5"}, r"no endpoint 'ln_ic5'.*Did you mean 'ln_ic50'"),
        ({"require": ["mutations"]}, r"no modality 'mutations'.*Did you mean 'mutation'"),
        ({"split": "unseen tissue", "folds": 9}, r"needs at least 9 groups; found 4"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            experiment.run(experiment.of(PLAIN | change))
    assert runs.runs().height == before


def test_a_checkpoint_made_with_other_defaults_is_not_used(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a newer version may have them: the file says nothing about width, and the width has changed."""
    monkeypatch.setattr(train.fit, "__kwdefaults__", train.fit.__kwdefaults__ | {"every_s": 0.0})  # type: ignore[attr-defined]
    cls: Any = predictors.offered()["drug_response"]
    monkeypatch.setattr(cls, "DEFAULTS", cls.DEFAULTS | PLAIN["parameters"]["drug_response"])  # type: ignore[index]
    spec = experiment.of(PLAIN | {"name": "older", "predictors": ["drug_response"], "parameters": {}, "only": [0]})
    seen: list[int] = []

    def point(name: str, fold: int, epoch: int, values: dict[str, float]) -> None:
        seen.append(epoch)

    with pytest.raises(train.Stopped):
        experiment.run(spec, point=point, stopped=lambda: len(seen) == 2, accelerator="cpu")
    monkeypatch.setattr(cls, "DEFAULTS", cls.DEFAULTS | {"width": 12})
    seen.clear()
    experiment.run(spec, point=point, accelerator="cpu")
    assert seen == [1, 2, 3]


# --- going on, tuning and checks -------------------------------------------------------------------------------------


def test_a_finished_fold_of_a_stopped_run_is_taken_over_and_looks_the_same(study: Study) -> None:
    spec = experiment.of(PLAIN | {"name": "taken over", "predictors": ["drug_mean", "ridge"]})
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return False

    experiment.run(spec, stopped=stopped)
    last, whole = len(asked), runs.find("taken over")
    asked.clear()
    other = experiment.of(PLAIN | {"name": "taken over 2", "predictors": ["drug_mean", "ridge"]})
    with pytest.raises(train.Stopped):
        experiment.run(other, stopped=lambda: asked.append(1) or len(asked) == last)  # type: ignore[func-returns-value]
    killed = runs.find("taken over 2")
    kept = {c.data.tags[runs.MARK] for c in killed.children if runs.MARK in c.data.tags}
    assert killed.status == "KILLED" and len(kept) == 3
    again = experiment.run(other)
    assert {c.data.tags.get("workbench.fitted under") for c in again.children} == {killed.run_id, None}
    assert len(again.children) == 4 and runs.find(killed.run_id).children[0].info.status != "FINISHED"
    assert again.predictions.drop("predictor").equals(whole.predictions.drop("predictor"))
    assert again.metrics.equals(whole.metrics)
    assert again.model("ridge", 0, restore=predictors.restore).predict(study.sealed(), split(study).fold(0).test).height


def stopped_halfway(spec: experiment.Experiment, fits: int) -> runs.Run:
    """The run that ``spec`` leaves when it is killed after so many fits."""
    made: list[str] = []
    true = train.fit

    def counted(predictor: Any, *rest: Any, **named: Any) -> Any:
        if len(made) == fits:
            raise train.Stopped("enough")
        made.append(predictor.name)
        return true(predictor, *rest, **named)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(train.Stopped):
        patch.setattr(train, "fit", counted)
        experiment.run(spec)
    return runs.find(spec.name)


def test_a_damaged_fold_of_a_stopped_run_is_fitted_anew(study: Study) -> None:
    spec = experiment.of(PLAIN | {"name": "damaged", "predictors": ["drug_mean", "ridge"]})
    killed = stopped_halfway(spec, 3)
    child = next(c for c in killed.children if runs.MARK in c.data.tags)
    path = Path(unquote(urlparse(child.info.artifact_uri).path), "tables", "predictions.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    again = experiment.run(spec)
    assert child.info.run_id not in {c.info.run_id for c in again.children}
    assert len(again.children) == 4 and again.status == "FINISHED"
    whole = experiment.run(experiment.of(PLAIN | {"name": "undamaged", "predictors": ["drug_mean", "ridge"]}))
    assert again.predictions.equals(whole.predictions)


def test_what_another_run_took_over_meanwhile_is_left_to_it(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of one experiment start at once and find the same nested run of a third that was killed."""
    spec = experiment.of(PLAIN | {"name": "both", "predictors": ["drug_mean", "ridge"]})
    stopped_halfway(spec, 3)
    found = runs.finished("both")
    assert len(found) == 3
    first = experiment.run(spec)
    monkeypatch.setattr(runs, "finished", lambda name: found)  # as the second one had read it
    second = experiment.run(spec)
    mine, theirs = ({c.info.run_id for c in runs.find(r.run_id).children} for r in (first, second))
    assert len(mine) == len(theirs) == 4 and not mine & theirs
    assert second.predictions.equals(first.predictions)
    told = runs.runs().filter(pl.col("run_id") == first.run_id)["predictors"].item()
    assert sorted(told) == ["drug_mean", "ridge"], "those taken over are named too"


def test_a_standing_run_whose_settings_are_damaged_does_not_count(study: Study) -> None:
    spec = experiment.of(PLAIN | {"name": "stands", "predictors": ["drug_mean"]})
    run = experiment.run(spec)
    assert experiment.standing(spec) is not None
    folder = Path(unquote(urlparse(run._entity.info.artifact_uri).path))
    (folder / "experiment.json").write_bytes(b"{}")
    assert experiment.standing(spec) is None


def test_a_finished_run_is_made_anew_when_asked_again(study: Study) -> None:
    spec = experiment.of(PLAIN | {"name": "twice", "predictors": ["drug_mean"]})
    first, second = experiment.run(spec), experiment.run(spec)
    assert len(first.children) == len(second.children) == 2
    assert not {c.info.run_id for c in runs.find(first.run_id).children} & {c.info.run_id for c in second.children}


def test_other_data_or_parameters_are_not_taken_over(study: Study) -> None:
    entry = entries.Entry("ridge")
    spec = experiment.of(PLAIN)
    plain = entries.mark(spec, "a", "b", entry, 0, {})
    other = experiment.of(PLAIN | {"parameters": {"ridge": {"modality": "mutation"}}})
    assert len({
        plain,
        entries.mark(spec, "A", "b", entry, 0, {}),
        entries.mark(spec, "a", "B", entry, 0, {}),
        entries.mark(spec, "a", "b", entry, 1, {}),
        entries.mark(spec, "a", "b", entries.Entry("ridge", "expression"), 0, {}),
        entries.mark(spec, "a", "b", entries.Entry("ridge", share=0.5), 0, {}),
        entries.mark(other, "a", "b", entry, 0, {}),
        entries.mark(experiment.of(PLAIN | {"seed": 1}), "a", "b", entry, 0, {}),
    }) == 8  # fmt: skip
    assert plain == entries.mark(experiment.of(PLAIN | {"name": "another name"}), "a", "b", entry, 0, {})


def test_a_permuted_modality_costs_the_score_that_was_made_of_it(study: Study) -> None:
    spec = experiment.of(
        PLAIN | {"name": "permuted", "predictors": ["mean_effects", "ridge"], "permute": ["expression", "mutation"]}
    )
    told = experiment.run(spec)
    assert told.metrics["predictor"].unique().sort().to_list() == [
        "mean_effects",
        "ridge",
        "ridge - expression permuted",
    ]
    value = dict(
        told.metrics.filter(pl.col("fold") == "all", pl.col("metric") == "normalised Pearson")
        .select("predictor", "value")
        .iter_rows()
    )
    assert value["ridge"] > 0.5 and abs(value["ridge - expression permuted"]) < 0.2
    pair = told.comparisons.filter(
        pl.col("predictor") == "ridge - expression permuted", pl.col("other") == "ridge", pl.col("metric") == "RMSE"
    )
    assert pair["verdict"].item() == "worse"


def test_every_sample_gets_the_row_of_another(study: Study) -> None:
    dealt = entries.Dealt(study, "expression", 0)
    before, after = study.modality("expression"), dealt.modality("expression")
    assert list(before.obs_names) == list(after.obs_names) and dealt.modality("mutation") is study.modality("mutation")
    assert not (np.asarray(before.X) == np.asarray(after.X)).all(axis=1).any()
    np.testing.assert_array_equal(np.sort(np.asarray(before.X)[:, 0]), np.sort(np.asarray(after.X)[:, 0]))


def test_a_learning_curve_rises_with_the_training_groups(study: Study) -> None:
    told = experiment.run(experiment.of(PLAIN | {"name": "sizes", "predictors": ["ridge"], "sizes": [0.2, 0.5]}))
    value = told.metrics.filter(pl.col("fold") == "all", pl.col("metric") == "RMSE").sort("value", descending=True)
    assert value["predictor"].to_list() == ["ridge - 0.2 of training", "ridge - 0.5 of training", "ridge"]
    fold = split(study).fold(0)
    fewer = entries.Entry("ridge", share=0.2).seen(fold, 0)
    assert 0.1 < fewer.train["subject"].n_unique() / fold.train["subject"].n_unique() < 0.3
    assert fewer.test.equals(fold.test)


def test_tuned_parameters_and_every_trial_are_recorded(study: Study) -> None:
    spec = experiment.of(
        PLAIN
        | {
            "name": "tuned",
            "predictors": ["drug_mean", "trees"],
            "parameters": {"trees": {"rounds": 20}},
            "tuning": {"trees": {"trials": 4, "parts": 3, "use": 2}},
            "sizes": [0.5],
        }
    )
    told = experiment.run(spec)
    trials = told.table("TRIALS")
    assert trials["predictor"].unique().to_list() == ["trees"]
    for number in range(2):
        mine = trials.filter(pl.col("fold") == number)
        assert mine.height == 4 and mine["chosen"].sum() == 1
        best = mine.filter(pl.col("state") == "complete").sort("value", "trial").row(0, named=True)
        assert best["chosen"]
        config, _ = told.weights("trees", number)
        chosen = json.loads(best["parameters"]) if best["trial"] else {}
        for key, value in chosen.items():
            whole, _, inner = key.partition(".")
            assert (config["params"][whole][inner] if inner else config["params"][whole]) == value
        assert config["params"]["rounds"] == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuning": {"ridge": {"trials": 3}}}, r"tuning\.ridge: 'ridge' has nothing to choose"),
        ({"tuning": {"trees": {}}}, r"tuning names 'trees', which is not among the predictors"),
        ({"tuning": {"drug_response": {"trails": 3}}}, r"unknown setting 'trails'\. Did you mean 'trials'"),
        ({"tuning": {"drug_response": {"trials": 0}}}, r"trials should be at least 1, found 0"),
        ({"tuning": {"drug_response": {"share": 1.5}}}, r"share should be above 0 and at most 1"),
        ({"tuning": {"drug_response": {"search": ["wdith"]}}}, r"no 'wdith' to choose\. Did you mean 'width'"),
        ({"sizes": [0.5, 1.0]}, r"between 0 and 1; found 1\.0"),
        ({"sizes": ["half"]}, r"sizes should hold float only, found 'half'"),
        ({"split": "unseen pair", "elsewhere": ["gdsc1"]}, r"elsewhere judges unseen lines"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        experiment.of(PLAIN | change)
