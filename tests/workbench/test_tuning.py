"""Nested tuning: the best of the space is found, the test rows have no say, and a stopped study goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import predictors, train, tuning
from workbench.predictors import Between, OneOf, answer
from workbench.splits import Fold, Split
from workbench.study import Study
from workbench.tuning import Tuning, TuningError, tune

pytestmark = [pytest.mark.shared_home]


class Scaled:
    """y = factor x drug mean: the best factor is 1. It writes down every row it is shown."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"factor": 0.2, "kind": "a", "deep": {"x": 1, "y": 2}, "silent": False}
    SEARCH: ClassVar[dict[str, Any]] = {
        "factor": Between(-1.0, 2.0),
        "kind": OneOf(("a", "b")),
        "deep.x": Between(1, 4),
    }
    taught: ClassVar[set[int]] = set()
    asked: ClassVar[set[int]] = set()
    fits: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, name: str = "scaled", **params: Any) -> None:
        self.name, self.params = name, self.DEFAULTS | params

    def fit(self, fold: Fold, report: Any = None) -> Scaled:
        self.taught.update(fold.train["row"])
        self.fits.append(dict(self.params))
        self.mean = dict(fold.train.group_by("treatment").agg(pl.col("value").mean()).iter_rows())
        return self

    def predict(self, study: Any, pairs: pl.DataFrame) -> pl.DataFrame:
        assert "value" not in pairs.columns
        self.asked.update(pairs["row"])
        value = self.params["factor"] * np.array([self.mean.get(t, 0.0) for t in pairs["treatment"]])
        return answer(value, np.ones(pairs.height), ["will not say"] * pairs.height if self.params["silent"] else None)


@pytest.fixture(scope="module")
def study(_module_home: object) -> Study:
    return toy.write(subjects=40)


@pytest.fixture
def fold(study: Study, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fold]:
    offered = predictors.offered() | {"scaled": Scaled}
    monkeypatch.setattr(predictors, "offered", lambda: offered)
    for seen in (Scaled.taught, Scaled.asked, Scaled.fits):
        seen.clear()
    yield Split.make(study, "unseen subject", endpoint="ln_ic50", folds=4, seed=0).fold(0)


def of(**settings: Any) -> Tuning:
    return Tuning.of("scaled", settings)


def test_the_planted_best_is_found_and_beats_the_defaults(fold: Fold) -> None:
    chosen, trials = tune("scaled", fold, {}, of(trials=25, search=["factor"]), mark="planted")
    assert abs(chosen["factor"] - 1.0) < 0.15 and list(chosen) == ["factor"]
    first = trials.filter(pl.col("trial") == 0).row(0, named=True)
    best = trials.filter("chosen").row(0, named=True)
    assert json.loads(first["parameters"]) == {"factor": 0.2} and best["value"] < first["value"]
    assert trials.height == 25 and trials["chosen"].sum() == 1 and set(trials["unit"]) == {"ln(uM)"}
    assert best["value"] == trials.filter(pl.col("state") == "complete")["value"].min()


def test_test_rows_are_in_no_trial(fold: Fold) -> None:
    tune("scaled", fold, {}, of(trials=6), mark="rows")
    inner = set(fold.train["row"])
    assert Scaled.taught <= inner and Scaled.asked <= inner and not (Scaled.asked & set(fold.test["row"]))
    assert len(Scaled.asked) < len(inner), "two of five parts test"


def test_lines_that_test_a_trial_did_not_teach_it(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    true = train.fit

    def spy(predictor: Any, inner: Fold, **rest: Any) -> Any:
        seen.append((set(inner.train["subject"]), set(inner.test["subject"])))
        return true(predictor, inner, **rest)

    monkeypatch.setattr(train, "fit", spy)
    tune("scaled", fold, {}, of(trials=3, share=0.5), mark="lines")
    assert seen and not any(a & b for a, b in seen)
    assert all(len(a) < 0.6 * fold.train["subject"].n_unique() for a, _ in seen), "half of the lines teach"


def test_bad_trials_are_given_up_after_their_first_part(fold: Fold) -> None:
    _, trials = tune("scaled", fold, {}, of(trials=20, search=["factor"]), mark="pruned")
    given_up = trials.filter(pl.col("state") == "pruned")
    complete = trials.filter(pl.col("state") == "complete")
    assert given_up.height > 3 and not given_up["chosen"].any()
    assert len(Scaled.fits) == 2 * complete.height + given_up.height
    assert given_up["value"].min() > complete["value"].min()  # type: ignore[operator]


def test_a_stopped_study_goes_on_and_ends_as_if_it_had_not_been(fold: Fold) -> None:
    how = of(trials=10, search=["factor", "kind"])
    whole = tune("scaled", fold, {}, how, mark="whole")
    fits = len(Scaled.fits)
    Scaled.fits.clear()
    with pytest.raises(train.Stopped, match="goes on with the trials that are left"):
        tune("scaled", fold, {}, how, mark="whole 2", stopped=lambda: len(Scaled.fits) >= 7)
    before = len(Scaled.fits)
    assert before == 7
    chosen, trials = tune("scaled", fold, {}, how, mark="whole 2")
    assert trials.filter(pl.col("state") != "failed").height == 10
    assert len(Scaled.fits) <= fits + 2, "finished trials are not fitted again"
    Scaled.fits.clear()
    again, _ = tune("scaled", fold, {}, how, mark="whole 2")
    assert again == chosen and not Scaled.fits
    assert abs(whole[0].get("factor", 0.2) - 1) < 0.5 and abs(chosen.get("factor", 0.2) - 1) < 0.5


def test_the_same_mark_gives_the_same_trials(fold: Fold, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    told = []
    for name in ("a", "b"):
        monkeypatch.setenv("WORKBENCH_TUNING", f"sqlite:///{tmp_path / name}.db")
        told.append(tune("scaled", fold, {}, of(trials=8), mark="same")[1].drop("seconds"))
    assert told[0].equals(told[1])


def test_fewer_rounds_for_trials_do_not_reach_the_final_fit(fold: Fold) -> None:
    chosen, _ = tune(
        "scaled", fold, {"kind": "b"}, of(trials=2, given={"factor": 1.0}, search=["deep.x"]), mark="given"
    )
    assert chosen.get("factor") is None and chosen["kind"] == "b"
    assert {f["factor"] for f in Scaled.fits} == {1.0}
    if "deep" in chosen:
        assert chosen["deep"]["y"] == 2


def test_a_time_limit_still_tries_the_defaults(fold: Fold) -> None:
    chosen, trials = tune("scaled", fold, {}, of(trials=50, seconds=1e-6), mark="time")
    assert trials.height == 1 and chosen == {} and json.loads(trials["parameters"][0])["factor"] == 0.2


def test_a_predictor_that_never_answers_cannot_be_tuned(fold: Fold) -> None:
    with pytest.raises(TuningError, match="none of 3 trials of 'scaled' gave a finite RMSE"):
        tune("scaled", fold, {"silent": True}, of(trials=3), mark="silent")


def test_an_error_in_a_trial_is_raised_and_the_trial_counts_as_failed(fold: Fold, monkeypatch: Any) -> None:
    def broken(self: Any, study: Any, pairs: pl.DataFrame) -> pl.DataFrame:
        raise ZeroDivisionError("planted")

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError, match="planted"):
        patch.setattr(Scaled, "predict", broken)
        tune("scaled", fold, {}, of(trials=3), mark="broken")
    _, trials = tune("scaled", fold, {}, of(trials=3), mark="broken")
    assert trials["state"].to_list().count("failed") == 1 and trials["chosen"].sum() == 1


@pytest.mark.skipif(
    "WORKBENCH_TEST_POSTGRES" not in os.environ, reason="WORKBENCH_TEST_POSTGRES names no PostgreSQL database"
)
def test_trials_live_in_postgresql(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_TUNING", os.environ["WORKBENCH_TEST_POSTGRES"])
    mark = f"postgres {os.getpid()}"
    chosen, trials = tune("scaled", fold, {}, of(trials=12, search=["factor"]), mark=mark)
    Scaled.fits.clear()
    assert tune("scaled", fold, {}, of(trials=12, search=["factor"]), mark=mark)[0] == chosen and not Scaled.fits
    assert trials.height == 12


def test_only_predictors_with_a_space_can_be_tuned() -> None:
    with pytest.raises(TuningError, match=r"'ridge' has nothing to choose. Those that have: .*trees"):
        tuning.space_of("ridge")
    for name, cls in predictors.offered().items():
        for key in getattr(cls, "SEARCH", {}):
            whole, _, inner = key.partition(".")
            assert whole in cls.DEFAULTS, name  # type: ignore[attr-defined]
            assert not inner or inner in cls.DEFAULTS[whole], name  # type: ignore[attr-defined]
