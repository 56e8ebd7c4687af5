"""A fold's predictor judged in another study: line and study unseen, levels taken from lines not under test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from tests.real import shared
from workbench import across, ceiling, folders, predict, predictors, score, splits, tables
from workbench.sources import gdsc
from workbench.splits import RULES, Split
from workbench.study import SealedError, Study

SCALE, LEVEL = 1.5, 4.0


def elsewhere(seed: int = 0) -> Study:
    """The same lines and compounds in another screen: other noise, scale and levels of drugs."""

    def measured(frame: pl.DataFrame) -> pl.DataFrame:
        truth = toy.planted()[0]
        at = [(truth.subjects.index(s), truth.treatments.index(t)) for s, t in frame["subject", "treatment"].rows()]
        draw = np.random.default_rng([9, seed])
        shift = dict(zip(sorted(toy.TREATMENTS), draw.normal(LEVEL, 2, len(toy.TREATMENTS)), strict=True))
        value = [SCALE * truth.mean[i] + shift[truth.treatments[i[1]]] for i in at]
        return frame.with_columns(pl.Series("value", np.array(value) + draw.normal(0, 0.3, frame.height)))

    return toy.write("elsewhere", outcomes=measured, missing=0.2)


def fold_of(study: Study, rule: str = "unseen subject", number: int = 1) -> splits.Fold:
    return Split.make(study, rule, endpoint="ln_ic50", folds=3).fold(number)


class Spy:
    """Knows what it is asked, and answers with what the planted truth says of it."""

    name = "spy"

    def __init__(self) -> None:
        self.asked: list[tuple[Study, pl.DataFrame]] = []

    def predict(self, study: Study, pairs: pl.DataFrame) -> pl.DataFrame:
        self.asked.append((study, pairs))
        truth = toy.planted()[0]
        value = [truth.mean[truth.subjects.index(s), truth.treatments.index(t)]
                 for s, t in pairs["subject", "treatment"].rows()]  # fmt: skip
        return predictors.answer(np.array(value), np.ones(len(value)))


def value(frame: pl.DataFrame, metric: str) -> float:
    metrics, _ = score.evaluate(frame, [], draws=30)
    return metrics.filter(fold="all", metric=metric)["value"][0]


# --- which rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_what_the_rule_holds_apart_is_unseen_there_too(rule: str) -> None:
    study, other = toy.write(), elsewhere()
    fold = fold_of(study, rule)
    spy = Spy()
    frame = across.predictions_elsewhere(spy, fold, other)  # type: ignore[arg-type]
    key = fold.group
    taught, asked = set(fold.train[key]), spy.asked[0][1]
    assert not taught & set(asked[key]) and set(asked[key]) <= set(fold.test[key])
    rows = splits.rows(other, "ln_ic50")
    wanted = rows.filter(pl.col(key).is_in(fold.test[key].unique().implode()))
    assert sorted(frame["row"]) == sorted(wanted["row"]), "all of them, and nothing else"
    assert set(frame["split"]) == {f"{rule}, in elsewhere"} and set(frame["fold"]) == {1}
    metrics, _ = score.evaluate(frame, [], draws=10)
    assert set(metrics["resampled"]) == {"treatment" if rule == "unseen treatment" else "subject"}


def test_the_predictor_sees_nothing_of_the_other_study() -> None:
    study, other = toy.write(), elsewhere()
    spy = Spy()
    fold = fold_of(study)
    across.predictions_elsewhere(spy, fold, other)  # type: ignore[arg-type]
    given, pairs = spy.asked[0]
    assert given.digest == study.digest and not {"value", "observed", "censored"} & set(pairs.columns)
    with pytest.raises(SealedError):
        _ = given.outcomes


def test_the_observations_are_those_of_the_other_study() -> None:
    study, other = toy.write(), elsewhere()
    frame = across.predictions_elsewhere(Spy(), fold_of(study), other)  # type: ignore[arg-type]
    truth = other.outcomes.with_row_index("row").select(pl.col("row").cast(pl.Int64), "subject", "treatment", "value")
    both = frame.join(truth, on=["row", "subject", "treatment"], how="left")
    assert both["value"].null_count() == 0 and (both["observed"] - both["value"]).abs().max() == 0
    tables.check(frame, tables.PREDICTIONS)


def test_a_compound_is_asked_for_under_the_name_the_fold_knows() -> None:
    study = toy.write()
    other = elsewhere()
    fold = fold_of(study)
    there, asked = across.unseen_there(fold, other)
    assert there is not None and asked["treatment"].equals(there.test["treatment"]), "the same name first"
    one = toy.write("one", outcomes=lambda f: f.filter(~pl.col("treatment").is_in(list(toy.ALIASES))))
    fold = fold_of(one)
    there, asked = across.unseen_there(fold, other)
    assert there is not None
    names = dict(zip(there.test["treatment"], asked["treatment"], strict=True))
    assert names["acetylsalicylic acid"] == "aspirin" and names["5-FU"] == "fluorouracil" and len(names) == 12


# --- levels ----------------------------------------------------------------------------------------------------------


def test_levels_come_from_lines_that_are_not_under_test() -> None:
    study, other = toy.write(), elsewhere()
    fold = fold_of(study)
    frame = across.predictions_elsewhere(Spy(), fold, other)  # type: ignore[arg-type]
    held = fold.test["subject"].unique().implode()
    rows = splits.rows(other, "ln_ic50").filter(~pl.col("subject").is_in(held))
    own = across.predictions_elsewhere(Spy(), fold, other, level="own")  # type: ignore[arg-type]
    for taught, found in ((rows, frame), (fold.train, own)):
        effects: Any = predictors.make("mean_effects")
        effects.learn(taught)
        asked = found.select("treatment", subject=pl.lit("unseen"))
        np.testing.assert_allclose(found["baseline"], effects.mean_of(asked), atol=1e-9)
        mean = dict(taught.group_by("treatment").agg(pl.col("value").mean()).iter_rows())
        assert all(abs(b - mean[t]) < 0.2 for t, b in found.select("treatment", "baseline").iter_rows())
    for column in ("predicted", "low", "high"):
        moved = frame[column] - own[column]
        np.testing.assert_allclose(moved, frame["baseline"] - own["baseline"], atol=1e-9)
    assert frame["observed"].equals(own["observed"]), "what was observed is never moved"


def test_a_shift_of_levels_dilutes_the_normalised_score_only_where_it_is_left_in() -> None:
    study, other = toy.write(), elsewhere()
    fold = fold_of(study)
    moved, own = (across.predictions_elsewhere(Spy(), fold, other, level=at) for at in across.LEVELS)  # type: ignore[arg-type]
    assert value(moved, "per-drug Pearson") == pytest.approx(value(own, "per-drug Pearson"), abs=1e-9)
    assert value(moved, "per-drug Pearson") > 0.9, "the truth is known"
    assert value(moved, "normalised Pearson") > 0.9 > value(own, "normalised Pearson") + 0.1
    assert value(moved, "RMSE") < 1.0 < value(own, "RMSE") - LEVEL / 2


@pytest.mark.parametrize("rule", RULES)
def test_nothing_of_the_other_studys_lines_is_told(rule: str) -> None:
    """A predictor that knows nothing ranks no lines there, whatever the other study knows of them under other drugs."""
    study, other = toy.write(), elsewhere()
    fold = fold_of(study, rule)
    frames = [
        across.predictions_elsewhere(predictors.make("global_mean").fit(fold), fold, other, level=at)
        for at in across.LEVELS
    ]
    assert [value(f, "per-drug Pearson") for f in frames] == [0.0, 0.0]
    moved = (frames[0]["predicted"] - frames[1]["predicted"]).round(9)
    each = pl.DataFrame({"treatment": frames[0]["treatment"], "moved": moved}).group_by("treatment").n_unique()
    assert set(each["moved"]) == {1}, "one shift a drug"


def test_a_fitted_predictor_transfers_and_the_naive_ones_do_not() -> None:
    study, other = toy.write(), elsewhere()
    fold = fold_of(study)
    frames = []
    for name in ("drug_mean", "tissue_drug_mean", "ridge"):
        frames.append(across.predictions_elsewhere(predictors.make(name).fit(fold), fold, other))
    metrics, _ = score.evaluate(pl.concat(frames), ["drug_mean", "tissue_drug_mean"], draws=50)
    found = dict(metrics.filter(fold="all", metric="normalised Pearson").select("predictor", "value").iter_rows())
    assert abs(found["drug_mean"]) < 0.1 and found["ridge"] > 0.5 > found["tissue_drug_mean"]


def test_all_predictors_of_a_fold_share_the_work_and_another_fold_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    study, other = toy.write(), elsewhere()
    across._prepared.cache_clear()
    asked: list[Any] = []
    real = across.unseen_there
    monkeypatch.setattr(across, "unseen_there", lambda *a: asked.append(a) or real(*a))
    for number in (0, 1, 1):
        across.predictions_elsewhere(Spy(), fold_of(study, number=number), other)  # type: ignore[arg-type]
    assert len(asked) == 2
    fold = fold_of(study)
    fewer = replace(fold, train=fold.train.head(50))
    frame = across.predictions_elsewhere(Spy(), fewer, other, level="own")  # type: ignore[arg-type]
    assert len(asked) == 3, "other training rows have other mean effects"
    np.testing.assert_allclose(
        frame["baseline"][0], predict.baseline(replace(fewer, test=real(fewer, other)[1]))[0], atol=1e-12
    )


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_judged_is_refused() -> None:
    study, other = toy.write(), elsewhere()
    fold, spy = fold_of(study), Spy()

    def judge(there: Study, **options: Any) -> pl.DataFrame:
        return across.predictions_elsewhere(spy, fold, there, **options)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="is the study of the fold itself"):
        judge(study)
    with pytest.raises(ValueError, match="no endpoint 'ln_ic5'"):
        judge(other, endpoint="ln_ic5")
    with pytest.raises(ValueError, match=r"has 'auc' in 'fraction', the fold predicts 'ln\(uM\)'"):
        judge(other, endpoint="auc")
    with pytest.raises(ValueError, match="level 'theirs' is unknown"):
        judge(other, level="theirs")
    stranger = toy.write("stranger", outcomes=lambda f: f, subjects=12)
    strange = Study.open(stranger.path)
    strange._cache["subjects.parquet"] = strange.subjects.with_columns(
        pl.concat_str(pl.lit("x"), "subject").alias("subject")
    )
    with pytest.raises(across.NothingShared, match="share no line"):
        judge(strange)
    assert not spy.asked


def test_a_fold_that_holds_out_nothing_of_the_other_study_gives_an_empty_table() -> None:
    study = toy.write()
    fold = fold_of(study)
    held = fold.test["subject"].unique().implode()
    other = toy.write("few", seed=0, outcomes=lambda f: f.filter(~pl.col("subject").is_in(held)), noise=0.4)
    frame = across.predictions_elsewhere(Spy(), fold, other)  # type: ignore[arg-type]
    assert frame.is_empty() and list(frame.columns) == list(tables.PREDICTIONS.columns)


# --- real screens ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.index
def test_a_folder_of_cell_lines_with_methylation_is_judged_in_gdsc1() -> None:
    """Its lines have DepMap ids and 706 genes by Entrez id; line and screen are unseen, and expression still helps."""
    folder = shared("cell_lines")
    lines, other = folders.build(folder, name="lines", unit="ln(uM)"), gdsc.build("gdsc1", progress=False)
    pairs = ceiling.shared_pairs(lines, other, "ln_ic50")
    assert pairs["subject"].n_unique() > 500 and pairs["treatment"].n_unique() == 88
    need = ("expression", "methylation", "mutation", "copy_number")
    fold = Split.make(lines, "unseen subject", endpoint="ln_ic50", require=need).fold(0)
    here, there = [], []
    for modality in need:
        predictor: Any = predictors.make("ridge", modality=modality).fit(fold)
        named = pl.lit(modality).alias("predictor")
        here.append(score.unseal(predict.predictions(predictor, fold), fold).with_columns(named))
        there.append(across.predictions_elsewhere(predictor, fold, other).with_columns(named))
    found = []
    for frames in (here, there):
        metrics, _ = score.evaluate(pl.concat(frames), [], draws=20)
        part = metrics.filter(fold="all", metric="normalised Pearson")
        found.append(dict(part.select("predictor", "value").iter_rows()))
    assert set(there[0]["subject"].cast(pl.String)) <= set(other.subjects["subject"].cast(pl.String))
    for values in found:
        assert values["expression"] > values["mutation"] and values["expression"] > values["copy_number"]
    assert found[0]["expression"] > found[1]["expression"] > 0.2
