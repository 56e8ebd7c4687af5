"""Splits: whole groups on one side, every row tested once, leaks named, test targets sealed until predicted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import toy
from workbench.splits import PLAIN, RULES, Fold, LeakError, Split, inner_parts, nested, rows
from workbench.study import SealedError, Study

pytestmark = pytest.mark.shared_home

ENDPOINT = "ln_ic50"
quick = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def study(_module_home: object) -> Study:
    return toy.write()


@pytest.fixture(scope="module")
def frame(study: Study) -> pl.DataFrame:
    return rows(study, ENDPOINT)


def make(study: Study, rule: str, folds: int = 4, seed: int = 0, **more: object) -> Split:
    return Split.make(study, rule, endpoint=ENDPOINT, folds=folds, seed=seed, **more)  # type: ignore[arg-type]


# --- made by rule ----------------------------------------------------------------------------------------------------


@quick
@given(rule=st.sampled_from(list(RULES)), folds=st.integers(2, 4), seed=st.integers(0, 2**32))
def test_every_row_is_tested_once_and_no_group_stands_on_both_sides(
    study: Study, frame: pl.DataFrame, rule: str, folds: int, seed: int
) -> None:
    split = make(study, rule, folds, seed)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in split.folds])), frame["row"].to_numpy())
    group = dict(frame.select("row", RULES[rule]).iter_rows())
    for train, test in split.folds:
        assert np.array_equal(np.sort(np.concatenate([train, test])), frame["row"].to_numpy())
        assert not {group[r] for r in train} & {group[r] for r in test}


@quick
@given(rule=st.sampled_from(list(RULES)), seed=st.integers(0, 2**32))
def test_a_seed_names_its_split(study: Study, rule: str, seed: int) -> None:
    split, again = make(study, rule, 3, seed), make(Study.open(study.path), rule, 3, seed)
    assert split.digest == again.digest
    for (train, test), (train_again, test_again) in zip(split.folds, again.folds, strict=True):
        assert np.array_equal(train, train_again) and np.array_equal(test, test_again)


@pytest.mark.parametrize(
    "rule",
    ["unseen pair", "unseen subject", "unseen treatment"],
)
def test_another_seed_is_another_split(study: Study, rule: str) -> None:
    first, second = make(study, rule, seed=0), make(study, rule, seed=1)
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first.folds, second.folds, strict=True))
    assert first.digest != second.digest


def test_the_digest_tells_rule_endpoint_and_data_apart(study: Study) -> None:
    made = {rule: make(study, rule).digest for rule in RULES}
    assert len(set(made.values())) == len(RULES)
    other = toy.write("other", seed=1)
    assert make(other, "unseen subject").digest != made["unseen subject"]
    second = Split.make(study, "unseen subject", endpoint="auc", folds=4)
    assert second.digest != made["unseen subject"]


def test_an_endpoint_has_its_own_rows(study: Study) -> None:
    first, second = (set(rows(study, e)["row"]) for e in ("ln_ic50", "auc"))
    assert len(second) > 20 and not first & second
    assert first | second == set(range(study.outcomes.height))


@pytest.mark.parametrize("rule", RULES)
def test_parts_are_of_similar_size(study: Study, rule: str) -> None:
    sizes = [len(test) for _, test in make(study, rule, 4).folds]
    assert max(sizes) <= 1.5 * min(sizes)


def test_one_compound_under_two_names_is_one_group(study: Study, frame: pl.DataFrame) -> None:
    compound = dict(frame.select("treatment", "compound").unique().iter_rows())
    assert len(compound) == 12 and len(set(compound.values())) == 10
    for _, test in make(study, "unseen treatment", 5).folds:
        names = set(frame.filter(pl.col("row").is_in(test.tolist()))["treatment"])
        assert ("aspirin" in names) == ("acetylsalicylic acid" in names)
        assert ("fluorouracil" in names) == ("5-FU" in names)


def test_a_treatment_without_structure_is_a_compound_of_its_own() -> None:
    study = toy.write("unstructured", no_structure=("aspirin", "caffeine"))
    compound = dict(rows(study, ENDPOINT).select("treatment", "compound").unique().iter_rows())
    assert compound["aspirin"] == "aspirin" and compound["caffeine"] == "caffeine"
    assert len(set(compound.values())) == 11


def test_require_leaves_out_subjects_without_the_modality(study: Study, frame: pl.DataFrame) -> None:
    presence = study.presence()
    lacking = set(presence.filter(~(pl.col("mutation") & pl.col("copy_number")))["subject"])
    assert lacking
    split = make(study, "unseen subject", require=("mutation", "copy_number"))
    kept = frame.filter(~pl.col("subject").is_in(list(lacking)))["row"].to_numpy()
    assert np.array_equal(np.sort(np.concatenate([t for _, t in split.folds])), kept)
    for number in range(4):
        fold = split.fold(number)
        assert not lacking & (set(fold.train["subject"]) | set(fold.test["subject"]))
    with pytest.raises(ValueError, match=r"no modality 'mutatoin'.*Did you mean 'mutation'"):
        make(study, "unseen subject", require=("mutatoin",))


@pytest.mark.parametrize(
    ("rule", "folds"), [("unseen tissue", 5), ("unseen treatment", 11), ("unseen subject", 1), ("unseen pair", 0)]
)
def test_too_few_groups_or_folds_are_refused(study: Study, rule: str, folds: int) -> None:
    with pytest.raises(ValueError, match=r"needs at least \d+ groups; found \d+"):
        make(study, rule, folds)


def test_typos_name_the_nearest(study: Study) -> None:
    with pytest.raises(ValueError, match=r"no endpoint 'ln_ic5'.*Did you mean 'ln_ic50'.*auc, ln_ic50"):
        Split.make(study, "unseen subject", endpoint="ln_ic5")
    with pytest.raises(ValueError, match=r"unknown split 'unseen subjects'.*Did you mean 'unseen subject'"):
        make(study, "unseen subjects")
    with pytest.raises(ValueError, match=r"unknown split"):
        Split.custom(study, "random", endpoint=ENDPOINT, folds=[])
    assert set(PLAIN) == set(RULES)


# --- made elsewhere --------------------------------------------------------------------------------------------------


def custom(study: Study, rule: str, train: pl.DataFrame, test: pl.DataFrame) -> Split:
    return Split.custom(study, rule, endpoint=ENDPOINT, folds=[(train["row"].to_list(), test["row"].to_list())])


@pytest.mark.parametrize("rule", RULES)
def test_a_clean_custom_split_passes(study: Study, rule: str) -> None:
    made = make(study, rule)
    again = Split.custom(study, rule, endpoint=ENDPOINT, folds=[(a.tolist(), b.tolist()) for a, b in made.folds])
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(made.folds, again.folds, strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_a_row_on_both_sides_is_named(study: Study, rule: str) -> None:
    train, test = make(study, rule).folds[0]
    with pytest.raises(LeakError, match=rf"fold 0 leaks: row {test[3]} is in training and in test \(1 such rows\)"):
        Split.custom(study, rule, endpoint=ENDPOINT, folds=[([*train, test[3]], test)])


def test_a_subject_on_both_sides_is_named(study: Study, frame: pl.DataFrame) -> None:
    theirs = frame.filter(pl.col("subject") == "subject 07")
    test = pl.concat([frame.filter(pl.col("subject") == "subject 01"), theirs.head(1)])
    train = frame.join(test, on="row", how="anti")
    with pytest.raises(LeakError, match=r"'unseen subject' but leaks: subject 'subject 07'.*; 1 such") as caught:
        custom(study, "unseen subject", train, test)
    assert f"test (row {theirs['row'][0]}" in str(caught.value)
    custom(study, "unseen subject", frame.join(theirs, on="row", how="anti"), theirs)


def test_a_tissue_on_both_sides_is_named(study: Study, frame: pl.DataFrame) -> None:
    """Whole subjects, so that it would pass as unseen subject."""
    test = frame.filter(pl.col("subject") == "subject 06")
    train = frame.join(test, on="row", how="anti")
    with pytest.raises(LeakError, match=r"'unseen tissue' but leaks: tissue 'tissue 2'"):
        custom(study, "unseen tissue", train, test)
    custom(study, "unseen subject", train, test)


def test_one_compound_under_two_names_on_both_sides_is_named(study: Study, frame: pl.DataFrame) -> None:
    test = frame.filter(pl.col("treatment") == "aspirin")
    train = frame.join(test, on="row", how="anti")
    with pytest.raises(LeakError, match=r"'unseen treatment' but leaks: compound 'BSYNRYMUTXBXSQ'") as caught:
        custom(study, "unseen treatment", train, test)
    assert "'acetylsalicylic acid'" in str(caught.value) and "'aspirin'" in str(caught.value)
    custom(study, "unseen treatment", train.filter(pl.col("treatment") != "acetylsalicylic acid"), test)


def test_a_pair_on_both_sides_is_named_even_under_two_names(study: Study, frame: pl.DataFrame) -> None:
    both = (
        frame.filter(pl.col("treatment").is_in(["aspirin", "acetylsalicylic acid"]))
        .filter(pl.len().over("subject") == 2)
        .sort("subject", "treatment")
    )
    test, subject = both.head(1), both["subject"][0]
    train = frame.join(test, on="row", how="anti")
    with pytest.raises(LeakError, match=rf"'unseen pair' but leaks: pair '{subject} x BSYNRYMUTXBXSQ'"):
        custom(study, "unseen pair", train, test)
    custom(study, "unseen pair", train.join(both.head(2), on="row", how="anti"), test)


def test_replicates_of_a_pair_stay_together_and_a_torn_pair_is_named() -> None:
    def twice(frame: pl.DataFrame) -> pl.DataFrame:
        return pl.concat([frame, frame.with_columns(pl.lit("second run").alias("source"))])

    study = toy.write("replicates", outcomes=twice)
    frame = rows(study, ENDPOINT)
    for train, test in make(study, "unseen pair").folds:
        sides = [set(frame.filter(pl.col("row").is_in(s.tolist()))["pair"]) for s in (train, test)]
        assert not sides[0] & sides[1]
    pair = frame["pair"][0]
    mine = frame.filter(pl.col("pair") == pair)
    assert mine.height >= 2
    with pytest.raises(LeakError, match=r"leaks: pair"):
        custom(study, "unseen pair", frame.join(mine.head(1), on="row", how="anti"), mine.head(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: ([], b), "0 training and"),
        (lambda a, b: (a, []), "and 0 test rows"),
        (lambda a, b: (a, [*b, 10**7]), "test row numbers repeat or are not rows"),
        (lambda a, b: ([-1, *a], b), "training row numbers repeat or are not rows"),
        (lambda a, b: ([a[0], *a], b), "training row numbers repeat"),
    ],
)
def test_row_numbers_must_be_rows(study: Study, change: object, message: str) -> None:
    train, test = make(study, "unseen subject").folds[0]
    with pytest.raises(ValueError, match=message):
        Split.custom(study, "unseen subject", endpoint=ENDPOINT, folds=[change(train, test)])  # type: ignore[operator]


def test_rows_of_another_endpoint_are_no_rows(study: Study) -> None:
    train, test = make(study, "unseen subject").folds[0]
    with pytest.raises(ValueError, match=r"not rows of 'ln_ic50'"):
        Split.custom(study, "unseen subject", endpoint=ENDPOINT, folds=[(train, [*test, rows(study, "auc")["row"][0]])])


# --- sealed targets --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fold(study: Study) -> Fold:
    return make(study, "unseen subject").fold(1)


def answers(fold: Fold, predicted: float | None = 0.0, reason: str | None = None) -> pl.DataFrame:
    return fold.test.select(
        "row",
        pl.lit(predicted, pl.Float64).alias("predicted"),
        pl.lit(reason, pl.String).alias("abstained"),
    )


def test_a_fold_shows_no_test_target(fold: Fold, study: Study) -> None:
    assert {"value", "censored"} <= set(fold.train.columns)
    assert not {"value", "censored"} & set(fold.test.columns)
    assert {"row", "subject", "treatment", "compound", "tissue", "unit"} <= set(fold.test.columns)
    with pytest.raises(SealedError, match=r"sealed"):
        _ = fold.study.outcomes
    assert "value" not in fold.study.rows.columns
    values = {f"{v:.6f}" for v in fold._targets["observed"]}
    assert not any(v in repr(fold) for v in values)
    assert fold.study.modality("expression").n_obs == study.modality("expression").n_obs
    assert (fold.unit, fold.group, fold.endpoint) == ("ln(uM)", "subject", ENDPOINT)


def test_targets_open_against_complete_predictions(fold: Fold, study: Study) -> None:
    truth = study.outcomes.with_row_index("row").select(pl.col("row").cast(pl.Int64), "value", "censored")
    for given_answers in (answers(fold), answers(fold, None, "cannot say"), answers(fold).reverse()):
        got = fold.observed(given_answers).join(truth, on="row")
        assert got.height == fold.test.height
        assert got["observed"].equals(got["value"]) and got["censored"].equals(got["censored_right"])


@pytest.mark.parametrize(
    "incomplete",
    [
        lambda a: a.tail(-1),
        lambda a: a.head(0),
        lambda a: a.with_columns(pl.when(pl.col("row") != a["row"][2]).then("predicted").alias("predicted")),
        lambda a: a.with_columns(pl.lit(float("nan")).alias("predicted")),
        lambda a: a.with_columns(pl.lit(float("inf")).alias("predicted")),
    ],
    ids=["a row lacks", "none", "null without reason", "not a number", "infinite"],
)
def test_targets_stay_sealed_against_incomplete_predictions(fold: Fold, incomplete: object) -> None:
    with pytest.raises(SealedError, match=r"stay sealed: \d+ of \d+ test rows .* first row \d+. Predict every row"):
        fold.observed(incomplete(answers(fold)))  # type: ignore[operator]


def test_targets_stay_sealed_against_what_is_no_prediction(fold: Fold) -> None:
    with pytest.raises(SealedError, match=r"only against PREDICTIONS"):
        fold.observed(fold.test)


def test_there_is_no_fold_beyond_the_last(study: Study) -> None:
    for number in (-1, 4):
        with pytest.raises(ValueError, match=rf"no fold {number}; folds are 0 to 3"):
            make(study, "unseen subject").fold(number)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("parts", [2, 8])
def test_inner_parts_keep_the_rule(study: Study, rule: str, parts: int) -> None:
    fold = make(study, rule).fold(0)
    part = inner_parts(fold, parts, seed=3)
    assert part.shape == (fold.train.height,)
    per_group = fold.train.with_columns(pl.Series("part", part)).group_by(fold.group).agg(pl.col("part").n_unique())
    assert per_group["part"].max() == 1
    assert sorted(set(part.tolist())) == list(range(min(parts, per_group.height)))
    assert np.array_equal(part, inner_parts(fold, parts, seed=3))


@pytest.mark.parametrize("rule", RULES)
def test_a_nested_fold_lies_inside_the_training_rows(study: Study, rule: str) -> None:
    fold = make(study, rule).fold(0)
    inner = nested(fold, inner_parts(fold, 3, seed=1), 2)
    taught, held = set(inner.train["row"]), set(inner.test["row"])
    assert taught | held == set(fold.train["row"]) and not taught & held and not held & set(fold.test["row"])
    assert not set(inner.train[inner.group]) & set(inner.test[inner.group])
    assert "value" not in inner.test.columns and "censored" not in inner.test.columns
    with pytest.raises(SealedError):
        inner.observed(inner.test)


def test_a_nested_fold_needs_two_sides(study: Study) -> None:
    fold = make(study, "unseen subject").fold(0)
    with pytest.raises(ValueError, match="part 7 holds 0 of"):
        nested(fold, inner_parts(fold, 3, seed=1), 7)
    with pytest.raises(ValueError, match="part has 2 entries for"):
        nested(fold, np.array([0, 1]), 0)
