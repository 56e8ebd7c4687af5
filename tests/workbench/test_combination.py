"""Synergy of drug pairs: order says nothing, planted interactions are found, unknown structures are told, no leak."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy_pairs
from workbench import experiment, predict, predictors, score
from workbench.nn import kronecker
from workbench.predictors._members import Effects, Spread, blinded, members, structures
from workbench.splits import COMBINATIONS, Fold, Split
from workbench.study import Study, find

pytestmark = pytest.mark.shared_home

NAMES = ("additive_effects", "pair_effects", "combination")
every_predictor = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", autouse=True)
def clean(_module_home: object) -> Study:
    return toy_pairs.write()


def fold_of(study: Study, rule: str, number: int = 0, folds: int = 5) -> Fold:
    return Split.make(study, rule, endpoint="synergy", folds=folds).fold(number)


@cache
def planted(name: str, rule: str) -> tuple[Any, Fold]:
    fold = fold_of(Study.open(find("pairs")), rule)
    return predictors.make(name).fit(fold), fold


@cache
def scored(rule: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    made = [planted(name, rule) for name in NAMES]
    tables = [score.unseal(predict.predictions(p, fold), fold) for p, fold in made]
    metrics, comparisons = score.evaluate(pl.concat(tables), ["additive_effects", "pair_effects"], draws=200)
    return metrics.filter(pl.col("fold") == "all"), comparisons


def value(rule: str, name: str, metric: str) -> float:
    return scored(rule)[0].filter(predictor=name, metric=metric)["value"].item()


def verdict(rule: str, name: str, other: str, metric: str) -> str:
    return scored(rule)[1].filter(predictor=name, other=other, metric=metric)["verdict"].item()


# --- what it is worth ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["unseen combination", "unseen subject"])
def test_the_kernel_finds_what_was_planted_and_beats_additive_effects(rule: str) -> None:
    assert verdict(rule, "combination", "additive_effects", "RMSE") == "better"
    assert verdict(rule, "combination", "additive_effects", "normalised Pearson") == "better"
    assert value(rule, "combination", "normalised Pearson") > 0.4
    if rule == "unseen subject":  # the pair was seen on other lines
        assert verdict(rule, "pair_effects", "additive_effects", "RMSE") == "better"


def test_the_bootstrap_draws_what_was_unseen() -> None:
    assert {score.resampled(rule) for rule in COMBINATIONS} == {"treatment"}
    assert score.resampled("unseen subject") == "subject"


@every_predictor
@pytest.mark.parametrize("rule", ["unseen combination", "unseen subject"])
def test_intervals_hold(name: str, rule: str) -> None:
    assert 0.84 <= value(rule, name, "coverage") <= 0.97


def test_shuffled_synergies_teach_nothing() -> None:
    fold = fold_of(Study.open(find("pairs")), "unseen combination")
    draw = np.random.default_rng(0)
    noise = fold.train.with_columns(pl.Series("value", draw.permutation(fold.train["value"].to_numpy())))
    fold = Fold(fold.rule, 0, fold.endpoint, fold.unit, 0, fold.study, noise, fold.test, fold._targets)
    made: Any = predictors.make("combination").fit(fold)
    spread = made.predict(fold.study, fold.test)["predicted"].std()
    assert spread < 0.25 * noise["value"].std()  # type: ignore[operator]


# --- a pair has no order ---------------------------------------------------------------------------------------------


@every_predictor
@pytest.mark.parametrize("rule", ["unseen combination", "unseen drug of a combination"])
def test_the_order_of_a_pair_changes_nothing(name: str, rule: str) -> None:
    one, fold = planted(name, rule)
    other = fold_of(toy_pairs.write(f"flipped {name} {rule}", flip=True), rule)
    assert not set(other.test["treatment"]) & set(fold.test["treatment"])
    again = predictors.make(name).fit(other)
    told = [
        pl.concat([f.test.select("subject", "compound"), p.predict(f.study, f.test)], how="horizontal").sort(
            "subject", "compound"
        )
        for p, f in ((one, fold), (again, other))
    ]
    assert told[0].select("subject", "compound").equals(told[1].select("subject", "compound"))
    for column in ("predicted", "low", "high"):
        np.testing.assert_allclose(told[0][column].to_numpy(), told[1][column].to_numpy(), atol=1e-8)


def test_members_of_a_swapped_and_renamed_pair_are_the_same() -> None:
    study = toy_pairs.write("swapped", swapped=True)
    told = members(
        study, ["aspirin + caffeine", "caffeine + aspirin", "acetylsalicylic acid + caffeine", "new + other"]
    )
    assert told["compound"].n_unique() == 2 and told["member_a"][:3].n_unique() == told["member_b"][:3].n_unique() == 1
    assert told.row(3) == ("new + other", "new + other", "new + other", None)
    assert len(structures(study)) == 10


# --- reasons ---------------------------------------------------------------------------------------------------------


def test_a_new_drug_without_structure_gets_a_reason_and_a_known_one_a_number() -> None:
    study = toy_pairs.write("two unknown", no_structure=("caffeine", "naproxen"))
    met = {}
    for number in range(5):
        fold = fold_of(study, "unseen drug of a combination", number)
        answer = predictors.make("combination").fit(fold).predict(fold.study, fold.test)
        known = {*fold.train["member_a"], *fold.train["member_b"]}
        for a, b, why in zip(fold.test["member_a"], fold.test["member_b"], answer["abstained"], strict=True):
            met.setdefault((bool({a, b} & {"caffeine", "naproxen"} - known)), set()).add(why)
    assert met == {True: {"unknown structure"}, False: {None}}


def test_a_new_line_without_expression_gets_a_reason() -> None:
    made, fold = planted("combination", "unseen subject")
    asked = pl.DataFrame({"subject": ["nobody", fold.test["subject"][0]], "treatment": [fold.test["treatment"][0]] * 2})
    assert made.predict(fold.study, asked)["abstained"].to_list() == ["sample has no expression", None]


def test_a_drug_alone_is_answered_beside_pairs() -> None:
    fold = fold_of(toy_pairs.write("with singles", singles=True), "unseen subject")
    for name in NAMES:
        answer = predictors.make(name).fit(fold).predict(fold.study, fold.test)
        alone = answer.filter(fold.test["member_b"].is_null())
        assert alone.height and alone["abstained"].null_count() == alone.height


# --- leaks and files -------------------------------------------------------------------------------------------------


@every_predictor
@pytest.mark.parametrize("rule", list(COMBINATIONS))
def test_garbage_in_the_test_targets_changes_nothing(name: str, rule: str) -> None:
    made, fold = planted(name, rule)
    targets = fold._targets.with_columns(pl.lit(1e6).alias("observed"))
    other = Fold(fold.rule, 0, fold.endpoint, fold.unit, fold.seed, fold.study, fold.train, fold.test, targets)
    again: Any = predictors.make(name).fit(other)
    assert {k: v.tobytes() for k, v in again.arrays().items()} == {k: v.tobytes() for k, v in made.arrays().items()}


@every_predictor
def test_what_was_stored_predicts_the_same(name: str) -> None:
    made, fold = planted(name, "unseen drug of a combination")
    config = json.loads(json.dumps(made.config(), sort_keys=True))
    again = predictors.restore(name, config, {k: np.array(v) for k, v in made.arrays().items()})
    assert again.predict(fold.study, fold.test).equals(made.predict(fold.study, fold.test))


def test_a_pair_seen_by_no_training_row_has_no_effect_of_its_own() -> None:
    made, fold = planted("pair_effects", "unseen combination")
    additive, _ = planted("additive_effects", "unseen combination")
    want = additive.predict(fold.study, fold.test)["predicted"].to_numpy()
    np.testing.assert_allclose(made.predict(fold.study, fold.test)["predicted"].to_numpy(), want)
    np.testing.assert_allclose(predict.baseline(fold).to_numpy(), want, err_msg="what normalised scores take away")


def test_an_experiment_may_ask_for_unseen_combinations() -> None:
    given = {
        "name": "n",
        "study": "s",
        "endpoint": "synergy",
        "split": "unseen combination",
        "predictors": ["combination"],
    }
    assert experiment.of(given).split == "unseen combination"


# --- the sums --------------------------------------------------------------------------------------------------------


def test_effects_by_hand() -> None:
    draw = np.random.default_rng(0)
    drugs, lines = [f"d{i}" for i in range(6)], [f"l{i}" for i in range(40)]
    u, b = draw.normal(0, 1, 6), draw.normal(0, 1, 40)
    rows = pl.DataFrame(
        [(li, f"{x} + {y}", x, y) for i, x in enumerate(drugs) for y in drugs[i + 1 :] for li in lines],
        schema=["subject", "compound", "member_a", "member_b"],
        orient="row",
    )
    at = [np.array([int(v[1:]) for v in rows[c]]) for c in ("member_a", "member_b", "subject")]
    truth = 3 + u[at[0]] + u[at[1]] + b[at[2]]
    made = Effects.fit(rows, truth, pairs=False)
    np.testing.assert_allclose(made.of(rows), truth, atol=0.2)
    own = truth + np.where(rows["compound"] == "d1 + d3", 5.0, 0.0)
    seen = Effects.fit(rows, own, pairs=True).of(rows) - own
    assert np.abs(seen).max() < 0.3 and np.abs(Effects.fit(rows, own, pairs=False).of(rows) - own).max() > 2
    # noise is no effect of a pair
    noise = Effects.fit(rows, draw.normal(size=rows.height), pairs=True)
    assert np.abs(noise.of_compound).max() < 0.1


def test_intervals_of_a_new_drug_know_only_its_partner() -> None:
    _, fold = planted("combination", "unseen drug of a combination")
    rows = fold.train
    teaches = ~(rows["member_a"] == rows["member_a"][0]).to_numpy()
    told = blinded(rows, teaches, ~teaches)
    new = rows["member_a"][0] in set(rows.filter(pl.Series(teaches))["member_b"])
    assert new or told["member_a"].null_count() == told.height
    assert told["subject"].null_count() == 0
    draw = np.random.default_rng(1)
    noisy = (rows["member_a"] == rows["member_a"][0]).to_numpy()
    spread = Spread.fit(rows, draw.normal(size=rows.height) * np.where(noisy, 5.0, 1.0))
    half = spread.of(rows)
    assert half[noisy].mean() > 2.5 * half[~noisy].mean()
    with pytest.raises(ValueError, match="found none that is finite"):
        Spread.fit(rows, np.full(rows.height, np.nan))


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_ridge_on_a_product_of_kernels_is_that_of_the_whole_matrix(missing: float) -> None:
    draw = np.random.default_rng(0)
    a, b = (x @ x.T / 4 + 0.1 * np.eye(len(x)) for x in (draw.normal(size=(9, 4)), draw.normal(size=(7, 4))))
    y = draw.normal(size=(9, 7))
    y[draw.random(y.shape) < missing] = np.nan
    there = np.isfinite(y).ravel()
    whole = np.kron(a, b)[np.ix_(there, there)] + 0.4 * np.eye(there.sum())
    want = np.zeros(there.size)
    want[there] = np.linalg.solve(whole, y.ravel()[there])
    np.testing.assert_allclose(kronecker.solve(a, b, y, 0.4).ravel(), want, atol=1e-5)


def test_a_kernel_that_is_no_number_is_refused() -> None:
    broken = np.eye(3)
    broken[0, 0] = np.nan
    y = np.full((3, 2), 1.0)
    y[0, 0] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match=r"grid of \(3, 2\) with 1 missing cells was not solved"):
        kronecker.solve(broken, np.eye(2), y, 0.1)
