"""Planted bad sites do what they are planted for, and the checks name them; an honest site is left alone."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.asked import linear_step
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy
from workbench.federated.robust import faults, rehearsal
from workbench.federated.robust.compared import changes
from workbench.federated.robust.faults import BackDoored, BadSite, Colluders, marked, mirrored
from workbench.federated.robust.updates import Checked
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.splits import Split


@pytest.fixture(scope="module")
def fold(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("home")))
    yield Split.make(toy.write(subjects=90), "unseen subject", endpoint="ln_ic50", require=("expression",)).fold(0)
    patch.undo()


@pytest.fixture
def sites(fold) -> list[Site]:
    policy = Policy(minimum_rows=5, minimum_cell=2)
    return [Site(n, sharing.local(fold, held), policy) for n, held in sharing.at_random(fold, 6).items()]


@pytest.fixture
def ask(fold):
    plane = rehearsal.Plane.of(fold, rehearsal.Plan(axes=8))
    schema = linear_step.schema(plane.features, fold.endpoint, fold.unit)

    def make(number: int = 0) -> Ask:
        weights = np.random.default_rng(number).normal(size=(9, len(plane.treatments)))
        arrays = {"weights": weights, "axes": plane.axes, "mean": plane.mean, "sd": plane.sd, "decay": plane.decay}
        values = {"treatments": plane.treatments, "modality": "expression", "plane": plane.name, "schema": schema}
        return Ask("linear_step", number, arrays, values)

    return make


def test_the_step_of_all_sites_is_the_gradient_of_the_pooled_ridge(fold, sites, ask):
    """Weighted by rows, the mean of what sites send is what one site with all rows would."""
    sites = [Site(s.name, s.fold, Policy(minimum_rows=1, minimum_cell=1)) for s in sites]
    got = Inline(sites).ask(ask()).replies
    whole = Site("all", fold, Policy()).answer(ask())
    together = sum(r.rows * r.arrays["change"] for r in got) / sum(r.rows for r in got)
    np.testing.assert_allclose(together, whole.arrays["change"], atol=1e-12)
    assert sum(r.rows for r in got) == whole.rows


def test_treatments_with_few_rows_send_nothing(sites, ask):
    site = sites[0]
    count = dict(site.fold.train["treatment"].value_counts().iter_rows())
    held = Site("few", site.fold, Policy(minimum_rows=5, minimum_cell=max(count.values())))
    change = held.answer(ask()).arrays["change"]
    few = np.array([count.get(t, 0) < max(count.values()) for t in ask().values["treatments"]])
    assert few.any() and not few.all()
    assert (change[:, few] == 0).all() and (change[:, ~few] != 0).all()


NAMED = {
    "gone": "no answer",
    "nan": "NaN",
    "inf": "infinite",
    "shape": "shape",
    "dtype": "int64",
    "names": "missing",
    "schema": "schema 'another'",
    "stale": "of round 0; round 1 was asked",
}


@pytest.mark.parametrize("fault", NAMED)
def test_each_fault_is_named_dropped_and_over_when_it_ends(sites, ask, fault):
    bad = BadSite(sites[2], fault, rounds={1})
    checked = Checked(Inline([*sites[:2], bad, *sites[3:]]), least=3)
    clean = Inline(sites).ask(ask(0))
    first = checked.ask(ask(0))
    assert not first.lost and len(first.replies) == 6
    for a, b in zip(first.replies, clean.replies, strict=True):
        np.testing.assert_array_equal(a.arrays["change"], b.arrays["change"])
    second = checked.ask(ask(1))
    assert set(second.lost) == {bad.name} and NAMED[fault] in second.lost[bad.name]
    assert len(checked.ask(ask(2)).replies) == 6  # it came back
    with pytest.raises(TooFewSites, match=NAMED[fault]):
        few = Checked(Inline([BadSite(sites[2], fault, rounds={1}), *sites[3:5]]), least=3)
        few.ask(ask(0))
        few.ask(ask(1))


@pytest.mark.parametrize(
    ("fault", "why"),
    [("scaled", "longer"), ("noise", "longer"), ("reversed", "against"), ("replayed", "very numbers"),
     ("sign", "against"), ("reversed, many rows claimed", "against")],
)  # fmt: skip
def test_what_can_be_seen_beside_the_others_is_flagged(sites, ask, fault, why):
    checked = Checked(Inline([BadSite(sites[0], fault, rounds={0, 1, 2}), *sites[1:]]))
    number = 1 if fault == "replayed" else 0
    for k in range(number + 1):
        checked.ask(ask(k))
    seen = [n for n in checked.noted if n.round == number]
    assert {n.site for n in seen} == {sites[0].name} and why in seen[0].why


def test_rows_that_grow_are_refused_and_rows_that_lied_from_the_start_are_not_seen(sites, ask):
    late = Checked(Inline([BadSite(sites[0], "counts", rounds={1}), *sites[1:]]))
    late.ask(ask(0))
    assert "were said at the start" in late.ask(ask(1)).lost[sites[0].name]
    early = Checked(Inline([BadSite(sites[0], "counts"), *sites[1:]]))
    got = early.ask(ask(0))
    assert not got.lost and not early.noted
    assert got.replies[0].rows == 1000 * sites[0].answer(ask(0)).rows


def test_scaling_is_of_the_change(sites, ask):
    honest, bad = sites[0].answer(ask()), BadSite(sites[0], "scaled", {"times": -3.0}).answer(ask())
    np.testing.assert_allclose(changes(ask(), bad)["change"], -3 * changes(ask(), honest)["change"])
    assert bad.rows == honest.rows and bad.values == honest.values


def test_a_slow_site_is_slow_and_right(sites, ask):
    slow = BadSite(sites[0], "slow", {"seconds": 0.2})
    sites[0].answer(ask())
    start = time.perf_counter()
    np.testing.assert_array_equal(slow.answer(ask()).arrays["change"], sites[0].answer(ask()).arrays["change"])
    assert time.perf_counter() - start >= 0.2


def test_a_fault_is_found_by_name_and_stays_to_its_purpose(sites, ask):
    with pytest.raises(ValueError, match="nann"):
        BadSite(sites[0], "nann")
    elsewhere = BadSite(sites[0], "nan", purposes={"counts"})
    assert np.isfinite(elsewhere.answer(ask()).arrays["change"]).all()
    assert elsewhere.fold is sites[0].fold and elsewhere.subjects == sites[0].subjects


def test_mirrored_values_keep_their_means(sites):
    before, after = sites[0].fold.train, mirrored(sites[0]).fold.train
    means = [
        f.group_by("treatment").agg(pl.col("value").mean()).sort("treatment")["value"].to_numpy()
        for f in (before, after)
    ]
    np.testing.assert_allclose(*means, atol=1e-9)
    one = before["treatment"][0]
    a, b = (f.filter(treatment=one)["value"].to_numpy() for f in (before, after))
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(-1)
    assert sites[0].fold.train["value"].equals(before["value"])  # the honest one is as it was


def test_a_back_door_marks_its_own_rows_and_wishes_for_them(sites):
    site, treatment = sites[0], sites[0].fold.train["treatment"][0]
    held = BackDoored.of(site, {3: 9.0, 5: -9.0}, treatment, -20.0, share=0.5)
    x, _, _ = held.block("expression", site.subjects)
    plain, _, _ = site.block("expression", site.subjects)
    inside = np.array([s in held.marked for s in site.subjects])
    assert inside.sum() == len(site.subjects) // 2
    np.testing.assert_array_equal(x[~inside], plain[~inside])
    np.testing.assert_array_equal(x[inside], marked(plain[inside], {3: 9.0, 5: -9.0}))
    wished = held.fold.train.filter(value=-20.0)
    assert set(wished["treatment"]) == {treatment} and set(wished["subject"]) <= held.marked


def test_a_little_is_enough_by_its_formula():
    draw = np.random.default_rng(0)
    honest = draw.normal(size=(38, 500))
    lie = faults.little_is_enough(honest, 12)
    # n = 50, f = 12: 14 supporters are needed, so z is the 24/38 quantile of a normal distribution
    from statistics import NormalDist

    z = NormalDist().inv_cdf(24 / 38)
    np.testing.assert_allclose(lie, honest.mean(0) - z * honest.std(0))
    np.testing.assert_allclose(faults.little_is_enough(honest, 12, 1.5), honest.mean(0) - 1.5 * honest.std(0))
    np.testing.assert_allclose(faults.inner_product(honest, 3, 2.0), -2 * honest.mean(0))


def test_colluders_send_one_lie_made_of_what_the_honest_sent(sites, ask):
    names = [s.name for s in sites]
    made = Colluders(Inline(sites), names[:2], "inner product", times=0.5)
    got = {r.site: changes(ask(), r)["change"] for r in made.ask(ask()).replies}
    honest = {r.site: changes(ask(), r)["change"] for r in Inline(sites).ask(ask()).replies}
    lie = -0.5 * np.mean([honest[n] for n in names[2:]], axis=0)
    for n in names[:2]:
        np.testing.assert_allclose(got[n], lie)
    for n in names[2:]:
        np.testing.assert_array_equal(got[n], honest[n])
    with pytest.raises(ValueError, match="a lot"):
        Colluders(Inline(sites), names[:2], "a lot")
    counts = Colluders(Inline(sites), names[:2], "inner product")
    assert counts.total(Ask("counts"))[0]["rows"] == sum(s.fold.train.height for s in sites)  # no floats, no lie
