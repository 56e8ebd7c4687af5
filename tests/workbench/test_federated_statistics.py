"""Counts, means, spreads, histograms and quantiles over sites are the pooled rows', and no small count leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.exact import rows as _rows
from workbench.federated.exact import statistics
from workbench.federated.exact.harmonise import Plan, agree
from workbench.federated.exact.steady import SitesChanged, Steady
from workbench.federated.gate import outgoing as gate
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy
from workbench.federated.site import Site
from workbench.federated.sites import Inline, NotANumber
from workbench.splits import Split

OPEN = Policy(minimum_cell=1)


@dataclass
class Gappy(Site):
    """A site some of whose values are missing, and whose features stand on a large constant."""

    def block(self, modality, subjects, columns=None):
        values, there, features = super().block(modality, subjects, columns)
        values = values + np.float32(1e4)
        values[::3, 1] = np.nan
        values[:, 2] = np.nan
        return values, there, features


@pytest.fixture(scope="module")
def fold():
    study = toy.write(subjects=90)
    return Split.make(study, "unseen subject", endpoint="ln_ic50", folds=3).fold(0)


def federation(fold, kind=Site, policy=OPEN, sites=3, outgoing=None) -> tuple[Steady, Plan, Inline]:
    dealt = sharing.at_random(fold, sites)
    inline = Inline(
        [kind(n, sharing.local(fold, own), policy, *([outgoing(n)] if outgoing else [])) for n, own in dealt.items()]
    )
    plan = agree(inline)
    return Steady(inline, plan.sites), plan, inline


def pooled(inline: Inline, plan, of: str) -> np.ndarray:
    """All sites' rows in one matrix."""
    ask = Ask("moments", values={**plan.values(), "of": of})
    return np.concatenate([_rows.matrix_of(_rows.of(s, ask), ask) for s in inline.sites.values()])


@pytest.mark.parametrize("of", ["features", "endpoint"])
def test_moments_are_the_pooled_ones_and_nothing_cancels(fold, of):
    steady, plan, inline = federation(fold, Gappy)
    told, values = statistics.moments(steady, plan, of), pooled(inline, plan, of)
    there = np.isfinite(values)
    assert np.array_equal(told.count, there.sum(0)) and np.array_equal(told.missing, (~there).sum(0))
    some = told.count > 0
    exact = values[:, some].astype(np.longdouble)
    mean, variance = np.nanmean(exact, axis=0), np.nanvar(exact, axis=0)
    assert np.abs(told.mean[some] / mean - 1).max() < 1e-12
    assert np.abs(told.variance[some] / variance - 1).max() < 1e-12
    if of == "features":
        assert not some[2] and told.mean[2] == 0 and told.variance[2] == 0
        # one pass of raw squares would lose this: the control
        raw = np.nansum(exact.astype(np.float64) ** 2, 0) / there.sum(0)[some] - mean.astype(np.float64) ** 2
        assert np.abs(raw / variance - 1).max() > 1e-10


def test_a_histogram_is_the_pooled_one(fold):
    steady, plan, inline = federation(fold)
    values = pooled(inline, plan, "features")
    low, high = np.full(values.shape[1], -1.5), np.full(values.shape[1], 1.5)
    counts = statistics.histogram(steady, plan, low, high, 12)
    for j in range(values.shape[1]):
        expected = np.histogram(values[:, j], np.linspace(-1.5, 1.5, 13))[0]
        assert np.array_equal(counts[j, 1:-1], expected)
    assert np.array_equal(counts[:, 0], (values < -1.5).sum(0))
    assert (counts.sum(1) == len(values)).all()


def test_small_counts_are_told_with_the_next_ones_and_none_is_lost(fold):
    steady, plan, inline = federation(fold, policy=Policy(minimum_cell=5))
    seen: list[np.ndarray] = []

    def look(site, ask, made):
        seen.append(made.arrays["counts"])
        return made

    for site in inline.sites.values():
        site.outgoing = (look,)
    values = pooled(inline, plan, "features")
    low, high = np.full(values.shape[1], -2.0), np.full(values.shape[1], 2.0)
    counts = statistics.histogram(steady, plan, low, high, 16)
    assert seen and not any(((a > 0) & (a < 5)).any() for a in seen)
    assert (counts.sum(1) == len(values)).all()


@pytest.mark.parametrize("of", ["features", "endpoint"])
def test_quantiles_are_the_pooled_ones_to_the_resolution(fold, of):
    steady, plan, inline = federation(fold)
    site = inline.sites["site 1"]
    first = site.fold.train.with_row_index().select(value=site.fold.train["value"].scatter(0, 4000.0))["value"]
    site.fold = replace(site.fold, train=site.fold.train.with_columns(value=first))  # far out, where no bin begins
    values, levels = pooled(inline, plan, of), np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    told = statistics.quantiles(steady, plan, levels, 1e-7, of)
    expected = np.nanquantile(values, levels, axis=0, method="inverted_cdf")
    assert np.abs(told - expected).max() < 1e-7 * np.nanstd(values, axis=0).max()
    if of == "endpoint":
        assert expected.max() == 4000.0


def test_quantiles_end_where_sites_keep_small_counts(fold):
    steady, plan, inline = federation(fold, policy=Policy(minimum_cell=5))
    values = pooled(inline, plan, "features")
    told = statistics.quantiles(steady, plan, np.array([0.5]))
    off = np.abs(told[0] - np.quantile(values, 0.5, axis=0))
    assert np.isfinite(told).all() and off.max() < 0.5 * values.std()  # near, and not the value of a subject
    assert (np.abs(told[0] - values).min(0) > 1e-6).mean() > 0.5


def test_a_treatment_with_few_rows_at_a_site_is_left_out_everywhere(fold):
    rare = fold.train["treatment"][0]
    one = fold.train.filter((fold.train["treatment"] == rare) & (fold.train["subject"] == fold.train["subject"][0]))
    rest = fold.train.filter(fold.train["treatment"] != rare)
    cut = replace(fold, train=one.extend(rest))
    steady, plan, _ = federation(cut, policy=Policy(minimum_cell=5))
    assert rare not in plan.treatments and len(plan.treatments) == len(toy.TREATMENTS) - 1
    ask = Ask("moments", values={**plan.values(), "treatments": [rare, *plan.treatments], "of": "endpoint"})
    assert steady.total(ask)["count"][0] == 0
    open_ = federation(cut)
    assert rare in open_[1].treatments  # the control: allowed, it is counted


def test_everything_passes_the_gate_of_a_strict_site(fold, tmp_path):
    steady, plan, _ = federation(fold, policy=Policy(), outgoing=lambda n: gate.steps(tmp_path / n))
    assert (statistics.moments(steady, plan).count == 59).all()  # one subject has no modality
    low = np.full(toy.GENES, -2.0)
    assert statistics.histogram(steady, plan, low, -low, 8).sum() == 59 * toy.GENES


def test_a_site_that_goes_between_two_sums_is_noticed(fold):
    steady, plan, inline = federation(fold)
    statistics.moments(steady, plan)
    gone = inline.sites.pop("site 2")
    inline.names = tuple(inline.sites)
    with pytest.raises(SitesChanged, match=r"rest on site 1, site 2, site 3; now site 1, site 3") as changed:
        statistics.moments(steady, plan)
    assert changed.value.now == ("site 1", "site 3")
    inline.sites["site 2"], inline.names = gone, ("site 1", "site 2", "site 3")
    assert statistics.moments(steady, plan).count.min() > 0


def test_a_site_that_sends_nan_is_named(fold):
    steady, plan, inline = federation(fold)

    def spoil(site, ask, made):
        return replace(made, arrays={k: np.where(np.arange(a.size) == 1, np.nan, a) for k, a in made.arrays.items()})

    inline.sites["site 3"].outgoing = (spoil,)
    with pytest.raises(NotANumber, match="of site 3 is not a number"):
        statistics.moments(steady, plan)
