"""Directions of a public study, and what is made of noisy numbers: planted truth is found, noise gives nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.gate.budget import Budget
from workbench.federated.policy import Policy
from workbench.federated.private import directions, ridge, shrinkage
from workbench.federated.private.accounting import PrivacyError
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.splits import Fold, Split


@pytest.fixture(scope="module")
def fold(tmp_path_factory) -> Fold:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        return Split.make(toy.write(subjects=160), "unseen subject", endpoint="ln_ic50").fold(0)


def known(fold: Fold) -> list[str]:
    from workbench import modalities

    return list(modalities.read(fold.study, "expression").features)


# --- directions ------------------------------------------------------------------------------------------------------


def test_directions_of_public_responses_lie_where_the_planted_effects_do(fold: Fold) -> None:
    """Six of 40 genes speak: the directions that tell responses are of these, principal axes are of any."""
    made = directions.public(fold, "expression", known(fold), "ln_ic50", 8)
    assert made["axes"].shape == (toy.GENES, 8)
    weight = made["axes"] ** 2 / (made["axes"] ** 2).sum(0)
    speaking = weight[:6].sum(0)
    assert speaking[:2].min() > 0.7 and speaking[4:].max() < 0.5, speaking
    mute = replace(fold, train=fold.train.with_columns(value=pl.col("value").shuffle(seed=1)))
    assert (directions.public(mute, "expression", known(fold), "ln_ic50", 8)["axes"][:6, :2] ** 2).sum() < 0.7 * (
        directions.public(mute, "expression", known(fold), "ln_ic50", 8)["axes"][:, :2] ** 2
    ).sum()


def test_along_public_directions_the_spread_of_new_persons_is_one(fold: Fold) -> None:
    from workbench import modalities

    half = fold.train["subject"].unique().sort().to_list()[::2]
    made = directions.public(sharing.local(fold, half), "expression", known(fold), "ln_ic50", 6)
    block = modalities.read(fold.study, "expression")
    others = [s for s in fold.train["subject"].unique().sort().to_list() if s not in half]
    x, there = block.rows(others)
    r = ((x[there] - made["mean"]) / made["sd"]) @ made["axes"]
    assert r[:, :3].std(0) == pytest.approx(np.ones(3), abs=0.25)  # of those that tell responses
    assert (made["share"] > 0).all() and made["share"].sum() < 1.1


def test_a_public_study_without_responses_gives_principal_axes(fold: Fold) -> None:
    from workbench import modalities

    block = modalities.read(fold.study, "expression")
    made = directions.public(str(fold.study.path), "expression", known(fold), "no such endpoint", 4)
    z = block.values - block.values.mean(0)
    z = z / z.std(0)
    v = np.linalg.svd(z, full_matrices=False)[2][:4].T
    own = made["axes"] / np.linalg.norm(made["axes"], axis=0)
    assert np.abs(np.abs((own * v).sum(0)) - 1).max() < 1e-6
    assert (z @ made["axes"]).std(0) == pytest.approx(np.ones(4), abs=1e-5)


def test_features_that_the_public_study_lacks_are_not_used_and_none_at_all_is_an_error(fold: Fold) -> None:
    wanted = [*known(fold)[:20], "a gene of tomorrow"]
    made = directions.public(fold, "expression", wanted, "ln_ic50", 4)
    assert not made["axes"][-1].any() and np.isinf(made["sd"][-1]) and made["axes"][:-1].any(1).all()
    with pytest.raises(PrivacyError, match="has none of the features"):
        directions.public(fold, "expression", ["a gene of tomorrow"], "ln_ic50", 4)


def test_a_private_ridge_along_directions_of_responses_beats_one_along_principal_axes(fold: Fold) -> None:
    """The same budget and as many directions; the public lines are none of the sites'."""
    people = fold.train["subject"].unique().sort().to_list()
    public, held = sharing.local(fold, people[:60]), sharing.local(fold, people[60:])
    dealt = sharing.at_random(held, 2)
    truth, _, _ = toy.planted(160)
    test = fold.test.select("subject", "treatment").filter(pl.col("subject") != toy.BARE)
    at = [truth.subjects.index(s) for s in test["subject"]], [toy.TREATMENTS.index(t) for t in test["treatment"]]

    def error(source: Fold) -> float:
        there = [Site(n, sharing.local(held, s), Policy(minimum_subjects=2), [Budget()]) for n, s in dealt.items()]
        told = {"epsilon": 1e3, "public": source, "axes": 4, "residual_spread": 1.5}
        made = ridge.fit(Inline(there), told).predict(fold.study, test)
        return float(np.nanstd(made["predicted"].to_numpy() - truth.mean[at]))

    mute = replace(public, train=public.train.filter(pl.col("treatment") == "none"))
    mute = replace(mute, train=public.train.with_columns(value=pl.lit(1.0)))  # persons, and responses that say nothing
    assert error(public) < 0.9 * error(mute)


# --- noisy numbers ---------------------------------------------------------------------------------------------------


def test_numbers_are_drawn_to_their_mean_by_as_much_as_noise_is_of_their_spread() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(3.0, 2.0, 4000)
    for sd in (0.5, 2.0, 6.0):
        noisy = true + rng.normal(0, sd, true.size)
        made = shrinkage.drawn(noisy, sd)
        best = 3.0 + 4.0 / (4.0 + sd**2) * (noisy - 3.0)  # the posterior mean, were all known
        assert np.sqrt(((made - best) ** 2).mean()) < 0.1 * sd
        assert ((made - true) ** 2).mean() < ((noisy - true) ** 2).mean()
    assert np.allclose(shrinkage.drawn(true, 0.0), true)
    alone = rng.normal(0, 1.0, 4000)
    assert shrinkage.drawn(alone, 1.0, 0.0).std() < 0.2  # noise alone leaves next to nothing


def test_counts_under_wide_noise_are_all_about_the_mean_and_none_is_lost() -> None:
    rng = np.random.default_rng(6)
    true = np.full(300, 500.0)
    wide, there = shrinkage.counts(true + rng.normal(0, 260.0, 300), 260.0)  # by themselves 5 in 6 would be given up
    assert there.all() and np.abs(wide - 500).max() < 260
    true[:30] = 0.0
    narrow, there = shrinkage.counts(true + rng.normal(0, 20.0, 300), 20.0)
    assert there[:30].mean() < 0.15 and there[30:].all()  # two standard deviations: one in forty by chance
    assert not narrow[:30][~there[:30]].any() and np.abs(narrow[30:] - 500).max() < 80


def test_what_treatments_have_in_common_is_told_where_no_single_slope_can_be() -> None:
    rng = np.random.default_rng(7)
    k, t, n = 4, 300, np.full(300, 400.0)
    common = np.array([0.3, 0.1, 0.0, -0.1])
    sd = 0.8 * 400  # of a product: a slope's own noise is 0.8
    made = shrinkage.slopes(common[:, None] * n + rng.normal(0, sd, (k, t)), sd, n)
    assert np.abs(made.mean(1) - common).max() < 0.15
    assert np.sqrt(((made - common[:, None]) ** 2).mean()) < 0.15 * 0.8
    nothing = shrinkage.slopes(rng.normal(0, sd, (k, t)), sd, n)
    assert np.sqrt((nothing**2).mean()) < 0.06
    exact = rng.normal(size=(k, t))
    assert np.allclose(shrinkage.slopes(exact * n, 1e-9, n), exact)


def test_the_more_noise_there_is_the_more_of_a_release_falls_on_levels() -> None:
    parts = [shrinkage.divided(level, 3 * level, 8, 286, 0.05) for level in (0.01, 0.1, 0.3)]
    assert [p.levels for p in parts] == sorted(p.levels for p in parts) and parts[0].levels < parts[-1].levels
    assert [p.lost for p in parts] == sorted(p.lost for p in parts)
    assert parts[0].lost < 0.01 and parts[-1].lost > ridge.MOST  # there a fit stops
    for p in parts:
        assert p.levels + p.products == pytest.approx(0.95) and p.products >= shrinkage.LEAST - 1e-9
