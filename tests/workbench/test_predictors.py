"""One contract for every predictor on offer, on a synthetic study: answers, restoring, and no leak from test rows."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import modalities, predict, predictors, score, tables, train
from workbench.predictors._pairs import matrix, positions
from workbench.predictors._widths import HalfWidths
from workbench.splits import RULES, Fold, Split
from workbench.study import SealedError, Study

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

SMALL: dict[str, dict[str, Any]] = {
    "drug_response": {"members": 2, "width": 16, "rank": 8, "epochs": 2, "subjects": 16},
    "trees": {"rounds": 30, "smallest_leaf": 5},
}
NAMES = list(predictors.offered())
FOLDS = {"unseen pair": 5, "unseen subject": 5, "unseen treatment": 5, "unseen tissue": 4}
every_predictor = pytest.mark.parametrize("name", NAMES)
every_rule = pytest.mark.parametrize("rule", RULES)


@pytest.fixture(scope="module", autouse=True)
def clean(_module_home: object) -> Study:
    return toy.write()


def fold_of(study: Study, rule: str, number: int = 0) -> Fold:
    return Split.make(study, rule, endpoint="ln_ic50", folds=FOLDS[rule]).fold(number)


def trained(name: str, fold: Fold, **more: Any) -> Any:
    predictor = predictors.make(name, **(SMALL.get(name, {}) | more))
    train.fit(predictor, fold, accelerator="cpu")
    return predictor


@cache
def planted(name: str, rule: str) -> tuple[Any, Fold]:
    """A predictor fitted on the clean study; one fit serves many tests."""
    from workbench.study import find

    fold = fold_of(Study.open(find("synthetic")), rule)
    return trained(name, fold), fold


def same(a: pl.DataFrame, b: pl.DataFrame, tolerance: float = 0.0) -> None:
    assert a["abstained"].equals(b["abstained"])
    for column in ("predicted", "low", "high"):
        x, y = a[column].to_numpy(), b[column].to_numpy()
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=column)


# --- answers ---------------------------------------------------------------------------------------------------------


@every_rule
@every_predictor
def test_every_test_row_gets_a_number_in_its_interval_or_a_reason(name: str, rule: str) -> None:
    predictor, fold = planted(name, rule)
    answer = predictor.predict(fold.study, fold.test)
    assert dict(answer.schema) == predictors.ANSWER
    assert answer.height == fold.test.height
    silent = answer.filter(pl.col("abstained").is_not_null())
    assert silent["predicted"].null_count() == silent["low"].null_count() == silent["high"].null_count() == len(silent)
    spoken = answer.filter(pl.col("abstained").is_null())
    for column in ("predicted", "low", "high"):
        assert spoken[column].is_finite().all() and spoken[column].null_count() == 0
    assert (spoken["low"] <= spoken["predicted"]).all() and (spoken["predicted"] <= spoken["high"]).all()
    assert isinstance(predictor, predictors.Predictor) or name == "drug_response"
    whole = predict.predictions(predictor, fold)
    assert tables.check(whole, tables.PREDICTIONS).height == fold.test.height
    assert whole["observed"].null_count() == whole.height
    assert whole["row"].equals(fold.test["row"])


@every_rule
@every_predictor
def test_the_answer_to_a_pair_depends_on_the_pair_alone(name: str, rule: str) -> None:
    predictor, fold = planted(name, rule)
    pairs = fold.test.with_row_index("at")
    whole = predictor.predict(fold.study, fold.test)
    mixed = pl.concat([pairs.sample(fraction=0.5, seed=1, shuffle=True), pairs.head(3)])
    some = predictor.predict(fold.study, mixed.select("subject", "treatment", "tissue"))
    same(some, whole[mixed["at"].to_list()], 1e-5)


@every_rule
@every_predictor
def test_what_was_stored_predicts_exactly_the_same(name: str, rule: str) -> None:
    predictor, fold = planted(name, rule)
    arrays = {k: np.array(v) for k, v in predictor.arrays().items()}
    assert all(a.dtype.kind in "biuf" for a in arrays.values())
    # runs store the keys sorted: what depends on their order comes back as something else
    again = predictors.restore(name, json.loads(json.dumps(predictor.config(), sort_keys=True)), arrays)
    assert again.name == name
    same(again.predict(fold.study, fold.test), predictor.predict(fold.study, fold.test))
    assert {k: v.tobytes() for k, v in again.arrays().items()} == {k: v.tobytes() for k, v in arrays.items()}
    told, want = again.attributions(), predictor.attributions()
    assert told.drop("value").equals(want.drop("value")) if want.height else told.height == 0
    if want.height:  # a scale is stored in single precision
        np.testing.assert_allclose(told["value"], want["value"], rtol=1e-6)


@every_predictor
def test_a_fit_repeats_itself(name: str) -> None:
    first, fold = planted(name, "unseen subject")
    again = trained(name, fold)
    assert {k: np.asarray(v).tobytes() for k, v in again.arrays().items()} == {
        k: np.asarray(v).tobytes() for k, v in first.arrays().items()
    }


# --- leaks -----------------------------------------------------------------------------------------------------------


@every_rule
@every_predictor
def test_garbage_in_the_test_targets_changes_no_prediction(name: str, rule: str) -> None:
    predictor, fold = planted(name, rule)
    hidden = fold.test["row"].to_list()

    def poison(frame: pl.DataFrame) -> pl.DataFrame:
        mark = pl.int_range(pl.len()).is_in(hidden)
        return frame.with_columns(
            pl.when(mark).then(1e6).otherwise("value").alias("value"),
            pl.when(mark).then(-1).otherwise("censored").cast(pl.Int8).alias("censored"),
        )

    other = fold_of(toy.write(f"poisoned {name} {rule}", outcomes=poison), rule)
    assert other.test.equals(fold.test) and other.train.equals(fold.train)
    assert other._targets["observed"].to_list() == [1e6] * fold.test.height, "the poison is there"
    again = trained(name, other)
    same(again.predict(other.study, other.test), predictor.predict(fold.study, fold.test))


@pytest.mark.parametrize("rule", ["unseen subject", "unseen treatment", "unseen tissue"])
@every_predictor
def test_garbage_in_the_features_of_what_is_tested_changes_nothing_learnt(name: str, rule: str) -> None:
    """Half of the test subjects (or compounds) become outliers: scalers fitted on them would show it in the others."""
    predictor, fold = planted(name, rule)
    key = "treatment" if rule == "unseen treatment" else "subject"
    hidden = sorted(set(fold.test[key]))
    ill = hidden[: (len(hidden) + 1) // 2]

    def poison(kind: str, names: list[str], values: np.ndarray) -> np.ndarray:
        mark = np.isin(names, ill)
        wrong = values * 100 + 1000 if kind == "expression" else 1 - values.astype(np.int8)
        return np.where(mark[:, None], wrong, values)

    other = fold_of(toy.write(f"outliers {name} {rule}", values=poison), rule)
    assert other.test.equals(fold.test)
    again = trained(name, other)
    assert {k: np.asarray(v).tobytes() for k, v in again.arrays().items()} == {
        k: np.asarray(v).tobytes() for k, v in predictor.arrays().items()
    }
    well = fold.test.filter(~pl.col(key).is_in(ill))
    assert well.height
    same(again.predict(other.study, well), predictor.predict(fold.study, well), 1e-9)


@every_predictor
def test_a_predictor_is_fitted_without_a_look_at_the_sealed_outcomes(name: str) -> None:
    _, fold = planted(name, "unseen subject")
    with pytest.raises(SealedError):
        _ = fold.study.outcomes


# --- what they are worth ---------------------------------------------------------------------------------------------


@cache
def scored(rule: str, names: tuple[str, ...]) -> pl.DataFrame:
    frames = []
    for name in names:
        predictor, fold = planted(name, rule)
        frames.append(score.unseal(predict.predictions(predictor, fold), fold))
    metrics, _ = score.evaluate(pl.concat(frames), predictors.naive_names(), draws=1)
    return metrics.filter(pl.col("fold") == "all")


def value(metrics: pl.DataFrame, name: str, metric: str) -> float:
    return metrics.filter(pl.col("predictor") == name, pl.col("metric") == metric)["value"].item()


def test_ridge_finds_what_was_planted_and_beats_the_naive() -> None:
    metrics = scored("unseen subject", ("mean_effects", "drug_mean", "ridge"))
    assert value(metrics, "ridge", "normalised Pearson") > 0.5
    assert value(metrics, "drug_mean", "normalised Pearson") < 0.2
    assert value(metrics, "ridge", "RMSE") < 0.9 * value(metrics, "drug_mean", "RMSE")
    assert 0.8 <= value(metrics, "ridge", "coverage") <= 1.0


def test_the_strongest_planted_gene_is_named() -> None:
    predictor, _ = planted("ridge", "unseen subject")
    top = predictor.attributions(top=3).filter(pl.col("treatment") == "caffeine")["feature"].to_list()
    assert set(top) <= {f"gene{i}" for i in range(6)}


@pytest.mark.parametrize("rule", ["unseen subject", "unseen tissue", "unseen pair"])
def test_drug_response_finds_what_was_planted(rule: str) -> None:
    metrics = scored(rule, ("mean_effects", "drug_response"))
    assert value(metrics, "drug_response", "RMSE") < value(metrics, "mean_effects", "RMSE")
    assert value(metrics, "drug_response", "normalised Pearson") > 0.3


@pytest.mark.parametrize("name", ["drug_mean", "mean_effects", "ridge", "trees", "drug_response"])
def test_intervals_hold_on_new_subjects(name: str) -> None:
    assert value(scored("unseen subject", (name,)), name, "coverage") >= 0.75


# --- the naive family by hand ----------------------------------------------------------------------------------------

#            A    B    C
#   s1 lung  1    2    6
#   s2 skin  3    4    .
TABLE = pl.DataFrame(
    {
        "row": pl.Series(range(5), dtype=pl.Int64),
        "subject": ["s1", "s2", "s1", "s2", "s1"],
        "treatment": ["A", "A", "B", "B", "C"],
        "compound": ["A", "A", "B", "B", "C"],
        "tissue": ["lung", "skin", "lung", "skin", "lung"],
        "pair": ["s1A", "s2A", "s1B", "s2B", "s1C"],
        "unit": "ln(uM)",
        "value": [1.0, 3.0, 2.0, 4.0, 6.0],
        "censored": pl.Series([0] * 5, dtype=pl.Int8),
    }
)
ASKED = pl.DataFrame(
    {
        "subject": ["s1", "s2", "s2", "new", "s1", "new"],
        "treatment": ["A", "B", "C", "C", "D", "D"],
        "tissue": ["lung", "skin", "skin", "bone", "lung", None],
    }
)
# drug effects of 2, 2 and 1 values: within 4/2, between (10.8 - 2*2) / 3.2 = 2.125; line effects of what they leave
DRUG = {"A": -1.2 * 4.25 / 6.25, "B": -0.2 * 4.25 / 6.25, "C": 2.8 * 2.125 / 4.125}
LINE = {"s1": -0.01243651335861265, "s2": 0.01790509132167724}
BY_HAND = {
    "global_mean": [3.2] * 6,
    "drug_mean": [2, 3, 6, 6, 3.2, 3.2],
    "cell_mean": [3, 3.5, 3.5, 3.2, 3, 3.2],
    "tissue_mean": [3, 3.5, 3.5, 3.2, 3, 3.2],
    "tissue_drug_mean": [1, 4, 6, 6, 3.2, 3.2],
    "mean_effects": [
        3.2 + DRUG["A"] + LINE["s1"], 3.2 + DRUG["B"] + LINE["s2"], 3.2 + DRUG["C"] + LINE["s2"], 3.2 + DRUG["C"],
        3.2 + LINE["s1"], 3.2,
    ],
}  # fmt: skip


def by_hand(rule: str = "unseen pair", frame: pl.DataFrame = TABLE) -> Fold:
    test = frame.drop("value", "censored").head(0)
    return Fold(rule, 0, "ln_ic50", "ln(uM)", 0, None, frame, test, frame.head(0))  # type: ignore[arg-type]


def test_the_naive_family_is_whole() -> None:
    assert predictors.naive_names() == list(BY_HAND)


@pytest.mark.parametrize("name", BY_HAND)
def test_naive_values_by_hand(name: str) -> None:
    made: Any = predictors.make(name).fit(by_hand())
    np.testing.assert_allclose(made.mean_of(ASKED.with_columns(pl.col("tissue").fill_null("unknown"))), BY_HAND[name])
    np.testing.assert_allclose(made.predict(None, ASKED)["predicted"], BY_HAND[name])


def test_effects_are_shrunk_as_far_as_chance_explains_them() -> None:
    """Planted: line effects of sd 1 under noise of sd 1, four values a line; then nothing but noise."""
    draw = np.random.default_rng(3)
    lines, drugs = 400, 4
    effect = draw.normal(size=lines)
    noise = draw.normal(size=(lines, drugs))
    for planted, least, most in ((effect, 0.75, 0.85), (0 * effect, 0.0, 0.05)):
        value = planted[:, None] + noise
        frame = pl.DataFrame({"subject": np.repeat([f"s{i:03d}" for i in range(lines)], drugs), "value": value.ravel()})
        frame = frame.with_columns(treatment=pl.Series(["A", "B", "C", "D"] * lines))
        made: Any = predictors.make("mean_effects")
        made.learn(frame)
        told = np.array(list(made.tables_[1].values()))
        centred = value - value.mean(axis=0)
        share = (told @ centred.mean(1)) / (centred.mean(1) ** 2).sum()
        assert least <= share <= most, "n v / (n v + w) = 4 / 5, or nothing"


def test_the_naive_family_looks_up_a_tissue_it_was_not_told(clean: Study) -> None:
    predictor, fold = planted("tissue_mean", "unseen subject")
    asked = fold.test.select("subject", "treatment")
    same(predictor.predict(fold.study, asked), predictor.predict(fold.study, fold.test))


# --- reasons, subsets, refusals --------------------------------------------------------------------------------------


def test_ridge_says_why_it_abstains() -> None:
    predictor, fold = planted("ridge", "unseen treatment")
    answer = predictor.predict(fold.study, fold.test)
    assert answer["abstained"].to_list() == ["drug not in training"] * fold.test.height
    predictor, fold = planted("ridge", "unseen subject")
    asked = pl.DataFrame({"subject": [toy.BARE, "subject 00"], "treatment": ["caffeine", "caffeine"]})
    assert predictor.predict(fold.study, asked)["abstained"].to_list() == ["sample has no expression", None]


def test_drug_response_takes_any_subset_of_modalities() -> None:
    predictor, fold = planted("drug_response", "unseen subject")
    names = [*fold.study.subjects["subject"]]
    asked = pl.DataFrame({"subject": names, "treatment": ["caffeine"] * len(names)})
    there = fold.study.presence().select("expression", "mutation", "copy_number").to_numpy()
    assert len({tuple(r) for r in there.tolist()}) >= 4, "the study has several subsets"
    reasons = predictor.predict(fold.study, asked)["abstained"].to_list()
    assert reasons == [None if any(r) else "sample has no modality" for r in there]
    assert reasons.count("sample has no modality") == 1
    some = predictor.predict(fold.study, asked, without=("expression",))
    assert some["abstained"].to_list() == [None if any(r[1:]) else "sample has no modality" for r in there]
    whole = predictor.predict(fold.study, asked)
    assert (some["predicted"] - whole["predicted"]).abs().max() > 1e-3, "expression is listened to"  # type: ignore[operator]
    nothing = predictor.predict(fold.study, asked, without=("expression", "mutation", "copy_number"))
    assert nothing["abstained"].to_list() == ["sample has no modality"] * len(names)


def test_drug_response_knows_a_new_compound_by_its_structure_or_says_that_it_cannot() -> None:
    study = toy.write("two unknown", no_structure=("caffeine", "naproxen"))
    split = Split.make(study, "unseen treatment", endpoint="ln_ic50", folds=10)
    met = {}
    for number in range(10):
        fold = split.fold(number)
        names = sorted(set(fold.test["treatment"]))
        if "caffeine" in names or "aspirin" in names:
            answer = trained("drug_response", fold).predict(fold.study, fold.test)
            for t in names:
                mine = answer.filter(fold.test["treatment"] == t)
                met[t] = mine.filter(fold.test.filter(pl.col("treatment") == t)["subject"] != toy.BARE)["abstained"]
    assert met["caffeine"].to_list() == ["unknown structure"] * len(met["caffeine"])
    assert met["aspirin"].null_count() == len(met["aspirin"])


def test_a_modality_the_study_lacks_is_left_out() -> None:
    study = toy.write("no copy number", leave_out=("copy_number", "drug_structure"))
    fold = fold_of(study, "unseen subject")
    made = trained("drug_response", fold)
    assert made.closed_.names == ["expression", "mutation"]
    assert made.predict(fold.study, fold.test).height == fold.test.height
    bare = toy.write("nothing", leave_out=("copy_number", "drug_structure", "expression", "mutation"))
    with pytest.raises(ValueError, match=r"study 'nothing' has none of the modalities .*; it has \[\]"):
        trained("drug_response", fold_of(bare, "unseen subject"))
    with pytest.raises(KeyError, match=r"has no modality 'expression'"):
        trained("ridge", fold_of(bare, "unseen subject"))


@pytest.mark.parametrize("name", ["ridge", "drug_response"])
def test_other_columns_than_those_of_the_fit_are_refused(name: str) -> None:
    predictor, fold = planted(name, "unseen subject")
    block = modalities.read(fold.study, "expression")

    class Renamed:
        """The study, its genes renamed."""

        modalities = fold.study.modalities

        def modality(self, kind: str) -> Any:
            data = fold.study.modality(kind).copy()
            data.var_names = [f"other{i}" for i in range(data.n_vars)]
            return data

    assert block.features[0] == "gene0"
    with pytest.raises(ValueError, match=r"has other columns than"):
        predictor.predict(Renamed(), fold.test)


def test_tobit_and_squared_are_two_losses_and_others_are_refused() -> None:
    first, fold = planted("drug_response", "unseen subject")
    other = trained("drug_response", fold, loss="tobit")
    assert not other.predict(fold.study, fold.test).equals(first.predict(fold.study, fold.test))
    with pytest.raises(ValueError, match=r"loss is 'squared' or 'tobit'; found 'huber'"):
        predictors.make("drug_response", loss="huber")


def test_typos_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown predictor 'rigde'.*Did you mean 'ridge'"):
        predictors.make("rigde")
    with pytest.raises(ValueError, match=r"'drug_response' has no parameter 'epoch'.*Did you mean 'epochs'"):
        predictors.make("drug_response", epoch=3)
    with pytest.raises(ValueError, match=r"'drug_mean' has no parameter 'epochs'"):
        predictors.make("drug_mean", epochs=3)
    with pytest.raises(KeyError, match=r"no 'expresion'.*Did you mean 'expression'"):
        modalities.read(None, "expresion")


@every_predictor
def test_one_tissue_is_enough_to_learn_from(name: str) -> None:
    """Two tissues, so that training on one leaves the intervals no second group to hold out."""
    fold = Split.make(toy.write(f"two {name}", tissues=2), "unseen tissue", endpoint="ln_ic50", folds=2).fold(0)
    answer = trained(name, fold).predict(fold.study, fold.test)
    spoken = answer.filter(pl.col("abstained").is_null())
    assert spoken.height > 0.9 * answer.height
    assert (spoken["low"] <= spoken["predicted"]).all() and spoken["high"].is_finite().all()


@pytest.mark.parametrize("name", ["ridge", "trees", "drug_response"])
def test_a_modality_that_never_varies_does_no_harm(name: str) -> None:
    def still(kind: str, names: list[str], values: np.ndarray) -> np.ndarray:
        return np.zeros_like(values) if kind == ("expression" if name == "ridge" else "mutation") else values

    fold = fold_of(toy.write(f"still {name}", values=still), "unseen subject")
    answer = trained(name, fold).predict(fold.study, fold.test)
    spoken = answer.filter(pl.col("abstained").is_null())
    assert spoken.height and spoken["predicted"].is_finite().all()


@pytest.mark.parametrize("epochs", [9, 10, 11])
def test_a_training_of_about_ten_steps_has_a_schedule(clean: Study, epochs: int) -> None:
    """One batch an epoch; of ten steps a warm-up of a tenth is none, by which the schedule would divide."""
    answer = trained("drug_response", fold_of(clean, "unseen subject"), epochs=epochs, subjects=64).predict(
        clean, fold_of(clean, "unseen subject").test
    )
    assert answer["predicted"].is_finite().all()


def test_an_ensemble_of_one_is_refused() -> None:
    """Member e does not learn from part e: alone it would learn from nothing, and have no spread."""
    with pytest.raises(ValueError, match=r"members should be at least 2; found 1"):
        predictors.make("drug_response", members=1)


@every_predictor
def test_one_compound_is_enough_to_learn_from(name: str) -> None:
    def two(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(pl.col("treatment").is_in(["aspirin", "caffeine"]))

    study = toy.write(f"two compounds {name}", outcomes=two)
    fold = Split.make(study, "unseen treatment", endpoint="ln_ic50", folds=2).fold(0)
    answer = trained(name, fold).predict(fold.study, fold.test)
    assert answer.height == fold.test.height
    assert answer.filter(pl.col("abstained").is_null())["high"].is_finite().all()


@pytest.mark.parametrize("name", ["ridge", "trees", "drug_response"])
def test_a_feature_that_is_not_a_number_is_named(name: str) -> None:
    """One such cell would silence the modality for everyone, without a word."""

    def hole(kind: str, names: list[str], values: np.ndarray) -> np.ndarray:
        values = values.copy()
        if kind == "expression":
            values[3, 5] = np.nan
        return values

    fold = fold_of(toy.write(f"hole {name}", values=hole), "unseen subject")
    with pytest.raises(ValueError, match=r"'z-score': expected numbers, found nan at 'subject 03', 'gene5' \(1 such"):
        trained(name, fold)


# --- pairs and widths ------------------------------------------------------------------------------------------------


def test_positions_and_matrix() -> None:
    at = positions(pl.Series(["b", "z", "a", "b"]), ["a", "b", "c"])
    assert at.tolist() == [1, -1, 0, 1]
    pairs = pl.DataFrame({"subject": ["s", "s", "t"], "treatment": ["A", "A", "B"], "value": [1.0, 2.0, 5.0]})
    np.testing.assert_array_equal(matrix(pairs, ["s", "t"], ["A", "B"]), [[1.5, np.nan], [np.nan, 5.0]])


def test_half_widths_are_the_conformal_quantile() -> None:
    size = np.arange(1, 101, dtype=float)
    sign = np.where(np.arange(100) % 2, 1, -1)
    made = HalfWidths.fit(np.r_[size * sign, 1000.0, np.nan], np.array(["A"] * 100 + ["B", "B"]), level=0.9)
    assert dict(zip(made.names, made.values, strict=True)) == {"A": 91.0, "B": 92.0}  # ceil(101 x 0.9), ceil(102 x 0.9)
    assert made.of(np.array(["B", "A", "new"])).tolist() == [92.0, 91.0, 92.0]
    with pytest.raises(ValueError, match=r"found none that is finite"):
        HalfWidths.fit(np.array([np.nan]), np.array(["A"]))


def test_half_widths_cover_what_they_say() -> None:
    draw = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        r = draw.normal(size=40)
        covered.append(abs(draw.normal()) <= HalfWidths.fit(r, np.full(40, "A")).pooled)
    assert 0.86 <= np.mean(covered) <= 0.96


def test_a_block_gives_zeros_and_says_so_where_it_has_nothing(clean: Study) -> None:
    block = modalities.read(clean, "mutation")
    values, there = block.rows([toy.BARE, "subject 03", "nobody"])
    assert there.tolist() == [False, True, False]
    assert not values[0].any() and not values[2].any()
    np.testing.assert_array_equal(values[1], np.asarray(clean.modality("mutation")["subject 03"].X)[0])
