"""What may be wrong with the data of one site, and what a federated ridge makes of it: the right number, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.exact import ridge
from workbench.federated.exact.harmonise import agree
from workbench.federated.policy import Policy
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.predictors.linear import Ridge
from workbench.splits import Fold, Split

pytestmark = pytest.mark.shared_home
OPEN = Policy(minimum_cell=1)
ONE = {"axes": 20, "penalties": [1.0]}


@pytest.fixture(scope="module")
def fold() -> Fold:
    return Split.make(toy.write(subjects=120), "unseen subject", endpoint="ln_ic50", folds=4).fold(0)


def sites(fold: Fold, policy: Policy = OPEN) -> Inline:
    dealt = sharing.at_random(fold, 3)
    return Inline([Site(n, sharing.local(fold, own), policy) for n, own in dealt.items()])


def house(fold: Fold) -> Inline:
    return Inline([Site("all", fold, OPEN)])


def apart(a: Ridge, b: Ridge) -> float:
    assert a.treatments_ == b.treatments_ and a.features_ == b.features_
    return max(float(np.abs(x - y).max()) for x, y in ((a.weights_, b.weights_), (a.offset_, b.offset_)))


def changed(fold: Fold, **columns: float) -> Fold:
    """The same fold of a study in which some columns of expression were changed: {gene: factor}; 0: constant."""

    def values(kind: str, names: list[str], x: np.ndarray) -> np.ndarray:
        if kind != "expression":
            return x
        out = x.copy()
        for gene, factor in columns.items():
            j = int(gene.removeprefix("g"))
            out[:, j] = 7.0 if factor == 0 else out[:, j] * np.float32(factor)
        return out

    study = toy.write(f"changed {columns}".replace("'", ""), subjects=120, values=values)
    return Split.make(study, "unseen subject", endpoint="ln_ic50", folds=4).fold(0)


def test_a_constant_column_has_no_weight_and_takes_none_from_the_others(fold: Fold) -> None:
    constant = changed(fold, g7=0)
    made = ridge.fit(sites(constant), ONE)
    assert apart(made, ridge.fit(house(constant), ONE)) < 1e-8
    assert np.abs(made.weights_[7]).max() < 1e-12 and np.isfinite(made.weights_).all()
    assert np.abs(made.weights_[:7]).max() > 0.1


@pytest.mark.parametrize("factor", [1e6, 1e-4])
def test_a_feature_in_another_unit_everywhere_changes_no_prediction(fold: Fold, factor: float) -> None:
    before, after = (ridge.fit(sites(f), ONE).predict(f.study, f.test) for f in (fold, changed(fold, g3=factor)))
    assert np.nanmax(np.abs((before["predicted"] - after["predicted"]).to_numpy())) < 1e-5


@pytest.mark.parametrize(("level", "off"), [(0.0, 1e-12), (1e3, 1e-6), (1e6, 1e-4)])
def test_what_a_large_level_of_the_endpoint_costs_the_weights(fold: Fold, level: float, off: float) -> None:
    """Conjugate gradients stop by the size of what they are given, which is the level's where it is large."""
    shifted = replace(fold, train=fold.train.with_columns(pl.col("value") + level))
    made, plain = (ridge.fit(sites(f), ONE) for f in (shifted, fold))
    assert np.abs(made.weights_ - plain.weights_).max() < off
    assert np.abs(made.offset_ - level - plain.offset_).max() < off


def test_a_treatment_that_a_site_never_measured_is_that_of_the_others(fold: Fold) -> None:
    there = sites(fold)
    one = there.sites["site 2"]
    gone = one.fold.train.filter(pl.col("treatment") != "nicotine")
    one.fold = replace(one.fold, train=gone)
    rest = fold.train.filter(~((pl.col("treatment") == "nicotine") & pl.col("subject").is_in(one.subjects)))
    assert 0 < rest.height < fold.train.height
    made = ridge.fit(there, ONE)
    assert "nicotine" in made.treatments_
    assert apart(made, ridge.fit(house(replace(fold, train=rest)), ONE)) < 1e-8


def test_a_treatment_of_one_site_with_too_few_rows_gets_no_number_rather_than_a_wrong_one(fold: Fold) -> None:
    """Four rows at one site and none elsewhere, where counts below five stay at home: nobody learns of it."""
    there = sites(fold, Policy(minimum_cell=5))
    few = there.sites["site 1"].fold.train.filter(pl.col("treatment") == "nicotine").head(4)["row"].to_list()
    for one in there.sites.values():
        keep = (pl.col("treatment") != "nicotine") | pl.col("row").is_in(few)
        one.fold = replace(one.fold, train=one.fold.train.filter(keep))
    assert sum((s.fold.train["treatment"] == "nicotine").sum() for s in there.sites.values()) == 4
    made = ridge.fit(there, {**ONE, "parts": 2})
    assert "nicotine" not in made.treatments_ and "nicotine" not in made.agreed_.treatments  # type: ignore[attr-defined]
    told = made.predict(fold.study, fold.test.filter(pl.col("treatment") == "nicotine"))
    assert told["predicted"].is_null().all() and set(told["abstained"]) == {"drug not in training"}
    without = replace(fold, train=fold.train.filter(pl.col("treatment") != "nicotine"))
    others = ridge.fit(Inline([Site("all", without, Policy(minimum_cell=5))]), {**ONE, "parts": 2})
    assert others.treatments_ == made.treatments_


def test_a_subject_that_two_sites_have_counts_twice_and_stays_in_one_part(fold: Fold) -> None:
    """The same line at two hospitals: nobody is told names, so nobody sees it. All lines twice is half the penalty."""
    double = Inline([Site(n, fold, OPEN) for n in ("a", "b")])
    for penalty in (0.5, 4.0):
        twice = ridge.fit(double, {**ONE, "penalties": [2 * penalty]})
        assert apart(twice, ridge.fit(house(fold), {**ONE, "penalties": [penalty]})) < 1e-8
    # left out at one site and taught at the other it would be predicted too well, and the least penalty would be chosen
    grid = [0.01, 0.1, 1.0, 10.0, 100.0]
    exact = {"axes": 20, "rough": 1e-10, "rounds_inner": 60}
    twice = ridge.fit(double, {**exact, "penalties": [2 * p for p in grid]})
    once = ridge.fit(house(fold), {**exact, "penalties": grid})
    assert np.array_equal(twice.penalty_, 2 * once.penalty_) and len(set(once.penalty_)) > 1
    assert np.abs(twice.widths_.values - once.widths_.values).max() < 0.02 * once.widths_.values.max()


def test_a_unit_that_is_named_is_converted_and_one_that_is_not_named_goes_unseen(fold: Fold) -> None:
    """ln(nM) said to be ln(uM): the labels agree, so only the errors tell; a site sees it in its own table of value."""
    said, unsaid = sites(fold), sites(fold)
    for there, unit in ((said, "ln(nM)"), (unsaid, "ln(uM)")):
        one = there.sites["site 3"]
        train = one.fold.train.with_columns(pl.col("value") + np.log(1000.0))
        one.fold = replace(one.fold, train=train, unit=unit)
    right = ridge.fit(sites(fold), ONE)
    made = ridge.fit(said, ONE)
    assert [d.what for d in made.agreed_.differences] == ["the unit of ln_ic50"]  # type: ignore[attr-defined]
    assert apart(made, right) < 1e-8
    wrong = ridge.fit(unsaid, ONE)
    assert not agree(unsaid, "expression").differences
    assert np.abs(wrong.offset_ - right.offset_).min() > 1.0
    assert np.median(wrong.widths_.values) > 2 * np.median(right.widths_.values)
