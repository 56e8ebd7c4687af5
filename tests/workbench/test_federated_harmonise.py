"""Before round one every difference between sites is found, named, and refused or harmonised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.exact import statistics
from workbench.federated.exact.harmonise import Plan, agree
from workbench.federated.exact.steady import Steady
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.splits import Fold, Split


class Elsewhere:
    """A study whose expression was measured otherwise: another unit, features missing, more, or in another order."""

    def __init__(self, study: Any, unit: str = "", lacks: int = 0, more: int = 0, reverse: bool = False) -> None:
        self._study, self._unit, self._lacks, self._more, self._reverse = study, unit, lacks, more, reverse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def modality(self, name: str) -> Any:
        data = self._study.modality(name)
        keep = np.arange(self._lacks, data.n_vars)
        data = data[:, keep[::-1] if self._reverse else keep].copy()
        if self._more:
            import anndata

            own = [f"own{i}" for i in range(self._more)]
            extra = anndata.AnnData(np.ones((data.n_obs, self._more), dtype=np.float32))
            extra.obs_names, extra.var_names, uns = data.obs_names, own, dict(data.uns)
            data = anndata.concat([data, extra], axis=1)
            data.uns.update(uns)
        if self._unit:
            data.uns["unit"] = self._unit
        return data


@pytest.fixture(scope="module")
def fold():
    return Split.make(toy.write(subjects=90), "unseen subject", endpoint="ln_ic50", folds=3).fold(0)


def sites(fold: Fold, **changed: Any) -> Inline:
    """Three sites; ``changed``: {"s2": a function over the site's fold}."""
    made = []
    for name, own in zip(("s1", "s2", "s3"), sharing.at_random(fold, 3).values(), strict=True):
        mine = sharing.local(fold, own)
        made.append(Site(name, changed.get(name, lambda f: f)(mine), Policy(minimum_cell=1)))
    return Inline(made)


def measured(**how: Any):
    return lambda fold: replace(fold, study=Elsewhere(fold.study, **how))


def texts(plan: Plan) -> list[str]:
    return [str(d) for d in plan.differences]


def test_sites_that_are_alike_have_no_difference(fold):
    plan = agree(sites(fold))
    assert plan.sites == ("s1", "s2", "s3") and not plan.differences and not plan.refused and plan.same
    assert plan.features == [f"gene{i}" for i in range(toy.GENES)] and plan.treatments == toy.TREATMENTS
    assert "features" not in plan.values()  # forty names need not travel each time: their digest does
    assert Plan.of(plan.text()) == plan


def test_expression_in_another_unit_is_refused_and_named(fold):
    plan = agree(sites(fold, s3=measured(unit="TPM")))
    assert plan.sites == ("s1", "s2")
    assert texts(plan) == ["s3: the unit of expression is 'TPM'; most sites have 'z-score': refused."]
    with pytest.raises(TooFewSites, match=r"fit together \(s3: the unit of expression is 'TPM'"):  # named once
        agree(sites(fold, s3=measured(unit="TPM")), least=3)
    reply = sites(fold, s3=measured(unit="TPM")).ask(Ask("moments", values=plan.values()))
    assert "not among those" in reply.lost["s3"]  # what is asked later keeps it out as well


def test_features_that_a_site_lacks_are_named_and_left_out_for_all(fold):
    plan = agree(sites(fold, s2=measured(lacks=3, more=2)))
    assert texts(plan) == [
        "s2: expression is lacking 3 features (gene0, gene1, gene2) and has 2 others; most sites have 40 features: "
        "harmonised."
    ]
    assert plan.features == [f"gene{i}" for i in range(3, 40)] and not plan.same
    told = statistics.moments(Steady(sites(fold, s2=measured(lacks=3, more=2)), plan.sites), plan)
    whole = sites(fold)
    assert np.allclose(told.mean, statistics.moments(Steady(whole), agree(whole)).mean[3:], rtol=1e-12, atol=1e-15)


def test_the_order_of_features_does_not_matter(fold):
    turned = sites(fold, s1=measured(reverse=True))
    plan, whole = agree(turned), sites(fold)
    assert plan.features == [f"gene{i}" for i in range(40)] and not plan.same
    told, expected = (statistics.moments(Steady(s), agree(s)) for s in (turned, whole))
    assert np.allclose(told.mean, expected.mean, rtol=1e-12, atol=1e-15)


def test_a_site_that_lacks_too_many_features_does_not_rob_the_others(fold):
    plan = agree(sites(fold, s2=measured(lacks=12)))
    assert plan.sites == ("s1", "s3") and len(plan.features) == 40
    assert "lacking 12 features, 'gene0' first" in plan.refused["s2"]
    assert len(agree(sites(fold, s2=measured(lacks=12)), share=0.5).features) == 28


def test_an_endpoint_in_another_unit_is_converted_exactly(fold):
    def nano(own: Fold) -> Fold:
        return replace(own, unit="ln(nM)", train=own.train.with_columns(pl.col("value") + np.log(1000.0)))

    there, whole = sites(fold, s3=nano), sites(fold)
    plan = agree(there)
    assert texts(plan) == ["s3: the unit of ln_ic50 is 'ln(nM)'; most sites have 'ln(uM)': harmonised."]
    told, expected = (statistics.moments(Steady(s), agree(s), "endpoint") for s in (there, whole))
    assert np.allclose(told.mean, expected.mean, rtol=0, atol=1e-12)
    unlike = statistics.moments(Steady(there), replace(plan, unit="ln(nM)"), "endpoint").mean - expected.mean
    assert np.allclose(unlike, np.log(1000.0), atol=1e-12)  # the control: what would be wrong without


@pytest.mark.parametrize("unit", ["uM", "fraction", "furlong"])
def test_an_endpoint_that_cannot_be_converted_is_refused(fold, unit):
    plan = agree(sites(fold, s1=lambda own: replace(own, unit=unit)))
    assert plan.sites == ("s2", "s3") and repr(unit) in plan.refused["s1"]


def test_another_endpoint_is_refused(fold):
    other = Split.make(toy.write("twin", subjects=90), "unseen subject", endpoint="auc", folds=3).fold(0)
    assert "the endpoint is 'auc'" in agree(sites(fold, s2=lambda own: other)).refused["s2"]
    plan = agree(sites(fold, s2=lambda own: other), endpoint="auc")
    assert plan.sites == ("s2",)


def test_treatments_are_the_union_and_one_compound_under_two_names_is_one(fold):
    lost = toy.TREATMENTS[3]

    def without(own: Fold) -> Fold:
        return replace(own, train=own.train.filter(pl.col("treatment") != lost))

    plan = agree(sites(fold, s1=without))
    assert plan.treatments == toy.TREATMENTS and not plan.alias

    def renamed(own: Fold) -> Fold:
        return replace(own, train=own.train.with_columns(pl.col("treatment").replace({"caffeine": "guaranine"})))

    plan = agree(sites(fold, s3=renamed))
    assert plan.alias == {"guaranine": "caffeine"} and plan.treatments == toy.TREATMENTS
    assert texts(plan) == ["s3: a treatment's name is 'guaranine'; most sites have 'caffeine': harmonised."]
    # aspirin stands under two names at every site: those are two treatments of their own
    assert {"aspirin", "acetylsalicylic acid"} <= set(plan.treatments)
    there, whole = sites(fold, s3=renamed), sites(fold)
    told, expected = (statistics.moments(Steady(s), agree(s), "endpoint") for s in (there, whole))
    assert np.array_equal(told.count, expected.count) and np.allclose(told.mean, expected.mean, atol=1e-12)


def test_a_site_without_the_modality_or_with_too_few_rows_is_refused_with_its_own_words(fold):
    few = sites(fold, s1=lambda own: replace(own, train=own.train.head(7)))
    assert "must rest on 20 training rows" in agree(few).refused["s1"]
    with pytest.raises(TooFewSites, match="no modality 'proteomics'"):
        agree(sites(fold), "proteomics")


def test_schema_tells_no_treatment_of_few_rows(fold):
    rare = toy.TREATMENTS[0]
    one = fold.train.filter(pl.col("treatment") == rare).head(2)
    own = replace(fold, train=pl.concat([one, fold.train.filter(pl.col("treatment") != rare)]))
    told = Site("s", own, Policy()).answer(Ask("schema", values={"modality": "expression"}))
    assert rare not in told.values["treatments"] and len(told.values["treatments"]) == 11  # type: ignore[arg-type, operator]
