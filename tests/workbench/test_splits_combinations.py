"""Splits of studies of drug pairs: either order is one pair, a new drug stands in no training row, leaks are named."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests import toy, toy_pairs
from tests.real import shared
from workbench.splits import COMBINATIONS, PLAIN_COMBINATIONS, RULES, LeakError, Split, held_out, inner_parts, rows
from workbench.study import Study

pytestmark = pytest.mark.shared_home
every_rule = pytest.mark.parametrize("rule", COMBINATIONS)


@pytest.fixture(scope="module")
def study(_module_home: object) -> Study:
    return toy_pairs.write()


def make(study: Study, rule: str, folds: int = 4, seed: int = 0) -> Split:
    return Split.make(study, rule, endpoint="synergy", folds=folds, seed=seed)


def drugs(frame: pl.DataFrame) -> set[str]:
    return set(pl.concat([frame["member_a"], frame["member_b"]]).drop_nulls())


def test_the_two_orders_of_a_pair_and_two_names_of_a_drug_are_one_compound() -> None:
    frame = rows(toy_pairs.write("swapped", swapped=True), "synergy")
    of = dict(frame.select("treatment", "compound").unique().iter_rows())
    assert of["aspirin + caffeine"] == of["caffeine + aspirin"] == of["acetylsalicylic acid + caffeine"]
    assert len(set(of.values())) == len(of) - 2
    assert (frame["member_a"] <= frame["member_b"]).all()


def test_a_study_of_single_drugs_has_no_members_and_no_combination_splits() -> None:
    single = toy.write("single")
    assert not {"member_a", "member_b"} & set(rows(single, "ln_ic50").columns)
    for rule in COMBINATIONS:
        with pytest.raises(ValueError, match=r"needs combinations of two drugs; study 'single' has none"):
            Split.make(single, rule, endpoint="ln_ic50")


@every_rule
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_tested_is_new_in_the_way_the_rule_says(study: Study, rule: str, seed: int) -> None:
    split = make(study, rule, seed=seed)
    for number in range(4):
        fold = split.fold(number)
        known = drugs(fold.train)
        new = [(a not in known) + (b not in known) for a, b in fold.test.select("member_a", "member_b").iter_rows()]
        assert set(new) == {COMBINATIONS[rule]}
        assert not set(fold.train["compound"]) & set(fold.test["compound"])
        assert fold.group == "compound"
    assert set(PLAIN_COMBINATIONS) == set(COMBINATIONS) and not set(COMBINATIONS) & set(RULES)


def test_every_row_is_tested_once_or_as_often_as_one_of_its_drugs_is_new(study: Study) -> None:
    frame = rows(study, "synergy")
    for rule, times in (("unseen combination", {1}), ("unseen drug of a combination", {0, 2})):
        tested = np.concatenate([test for _, test in make(study, rule).folds])
        count = np.bincount(np.searchsorted(frame["row"].to_numpy(), tested), minlength=frame.height)
        assert set(count.tolist()) <= times
    # both new: each row whose drugs fall into one part, once
    both = np.concatenate([test for _, test in make(study, "unseen drugs of a combination").folds])
    assert 0 < len(both) == len(set(both.tolist())) < frame.height


@every_rule
def test_a_seed_names_its_split(study: Study, rule: str) -> None:
    assert make(study, rule).digest == make(Study.open(study.path), rule).digest
    assert make(study, rule).digest != make(study, rule, seed=1).digest


# --- planted leaks ---------------------------------------------------------------------------------------------------


def test_a_swapped_duplicate_across_a_split_is_caught_and_a_clean_one_passes() -> None:
    study = toy_pairs.write("swapped again", swapped=True)
    frame = rows(study, "synergy")
    swapped = pl.col("treatment") == "caffeine + aspirin"
    clean = pl.col("treatment").is_in(["ibuprofen + nicotine"])

    def custom(rule: str, test: pl.Expr) -> Split:
        a, b = (frame.filter(e)["row"].to_list() for e in (~test, test))
        return Split.custom(study, rule, endpoint="synergy", folds=[(a, b)])

    for rule in ("unseen combination", "unseen treatment", "unseen pair"):
        with pytest.raises(LeakError, match=r"leaks: .*treatment 'a.* \+ caffeine'.*treatment 'caffeine \+ aspirin'"):
            custom(rule, swapped)
        assert len(custom(rule, clean).folds) == 1
    for number in range(4):
        fold = make(study, "unseen combination").fold(number)
        names = {"aspirin + caffeine", "caffeine + aspirin", "acetylsalicylic acid + caffeine"}
        assert len(names & set(fold.test["treatment"])) in (0, 3), "all of its names stand on one side"


@pytest.mark.parametrize("rule", ["unseen drug of a combination", "unseen drugs of a combination"])
def test_a_held_out_drug_with_another_partner_in_training_is_caught(study: Study, rule: str) -> None:
    train, test = make(study, rule).folds[0]
    frame = rows(study, "synergy")
    new = drugs(frame.filter(pl.col("row").is_in(test.tolist()))) - drugs(
        frame.filter(pl.col("row").is_in(train.tolist()))
    )
    holds = pl.col("member_a").is_in(list(new)) | pl.col("member_b").is_in(list(new))
    leak = frame.filter(holds & ~pl.col("row").is_in(test.tolist()))["row"][0]
    assert Split.custom(study, rule, endpoint="synergy", folds=[(train, test)])
    with pytest.raises(LeakError, match=rf"fold 0 claims {rule!r} but leaks: .* fewer than {COMBINATIONS[rule]}"):
        Split.custom(study, rule, endpoint="synergy", folds=[(np.append(train, leak), test)])


def test_a_drug_given_alone_in_training_is_seen() -> None:
    study = toy_pairs.write("with singles", singles=True)
    for number in range(4):
        fold = make(study, "unseen drug of a combination").fold(number)
        assert fold.train["member_b"].null_count() and not fold.test["member_b"].null_count()
    train, test = make(study, "unseen drug of a combination").folds[0]
    frame = rows(study, "synergy")
    new = drugs(frame.filter(pl.col("row").is_in(test.tolist()))) - drugs(
        frame.filter(pl.col("row").is_in(train.tolist()))
    )
    alone = frame.filter(pl.col("member_b").is_null() & pl.col("member_a").is_in(list(new)))["row"][0]
    with pytest.raises(LeakError, match=r"leaks"):
        Split.custom(study, "unseen drug of a combination", endpoint="synergy", folds=[(np.append(train, alone), test)])


@pytest.mark.parametrize("folds", [1, 11])
def test_too_few_drugs_are_refused(study: Study, folds: int) -> None:
    with pytest.raises(ValueError, match=r"needs at least \d+ drugs; found 10"):
        make(study, "unseen drug of a combination", folds)


# --- inside the training rows ----------------------------------------------------------------------------------------


@every_rule
def test_inner_divisions_keep_the_rule_of_the_fold(study: Study, rule: str) -> None:
    fold = make(study, rule).fold(0)
    made = held_out(fold, 3, seed=0)
    assert len(made) == 3
    for teaches, held in made:
        assert teaches.any() and held.any() and not (teaches & held).any()
        a, b = fold.train.filter(pl.Series(teaches)), fold.train.filter(pl.Series(held))
        known = drugs(a)
        new = [(x not in known) + (y not in known) for x, y in b.select("member_a", "member_b").iter_rows()]
        assert min(new) >= COMBINATIONS[rule] and not set(a["compound"]) & set(b["compound"])


def test_inner_divisions_of_other_rules_are_the_parts(study: Study) -> None:
    fold = make(study, "unseen subject").fold(0)
    part = inner_parts(fold, 3, 0)
    made = held_out(fold, 3, 0)
    assert all(np.array_equal(held, part == p) and np.array_equal(a, part != p) for p, (a, held) in enumerate(made))


# --- the real screen -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def screen(_module_home: object) -> Study:
    from workbench import folders

    return folders.build(shared("synergy"), name="screen")


def test_the_real_screen_divides_without_a_leak(screen: Study) -> None:
    frame = rows(screen, "synergy")
    assert frame.height == 18_950 and len(drugs(frame)) == 38 and frame["compound"].n_unique() == 583
    for rule in COMBINATIONS:
        for number, (train, test) in enumerate(Split.make(screen, rule, endpoint="synergy").folds):
            assert len(train) > 5000 and len(test) > 300, (rule, number)
