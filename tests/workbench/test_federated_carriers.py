"""Features that few persons carry are left out before anything is summed along them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.exact.carried import carried
from workbench.federated.exact.harmonise import agree
from workbench.federated.exact.steady import Steady
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.splits import Fold, Split

pytestmark = pytest.mark.shared_home


def rare(kind: str, _names: list[str], matrix: np.ndarray) -> np.ndarray:
    """Mutation of which gene0 has one carrier, gene1 four, gene2 none, and the rest one line in five."""
    if kind != "mutation":
        return matrix
    out = matrix.copy()
    out[:, :3] = 0
    out[7, 0] = 1
    out[[3, 12, 25, 40], 1] = 1
    return out


@pytest.fixture(scope="module")
def fold() -> Fold:
    return Split.make(toy.write("carriers", values=rare), "unseen subject", endpoint="ln_ic50").fold(0)


def held(fold: Fold, **rules) -> Inline:
    dealt = sharing.at_random(fold, 3)
    return Inline([Site(n, sharing.local(fold, s), Policy(**({"minimum_rows": 1} | rules))) for n, s in dealt.items()])


def carriers(sites: Inline) -> dict[str, np.ndarray]:
    """{site: persons with a mutation in each gene}, counted from the study itself."""
    out = {}
    for name, site in sites.sites.items():
        values, there, _ = site.block("mutation", site.subjects)
        out[name] = (values[there] != 0).sum(0)
    return out


def test_carriers_are_counted_over_the_union_where_nobody_sees_a_part(fold: Fold) -> None:
    sites = held(fold, secure=True)
    plan = agree(sites, "mutation")
    told, _ = sites.total(Ask("carriers", values=plan.values()))
    union = sum(carriers(sites).values())
    assert told["carriers"].tolist() == union.tolist() and not told["few"].any()
    kept = carried(Steady(sites), plan)
    assert kept.features == [g for g, n in zip(plan.features, union, strict=True) if n >= 5]
    assert not {"gene0", "gene1", "gene2"} & set(kept.features) and len(kept.features) > 30
    assert not kept.same and kept.values()["features"] == kept.features


def test_a_count_that_the_server_would_see_is_told_only_where_it_is_no_small_one(fold: Fold) -> None:
    sites = held(fold, secure=False, minimum_cell=3)
    plan = agree(sites, "mutation")
    by = carriers(sites)
    for site in sites.sites.values():
        site.outgoing = [lambda _site, _ask, answer: answer]
    for reply in sites.ask(Ask("carriers", values=plan.values())).replies:
        own = by[reply.site]
        assert reply.arrays["carriers"].tolist() == np.where(own < 3, 0, own).tolist()
        assert reply.arrays["few"].tolist() == (own < 3).tolist()
    everywhere = np.min(list(by.values()), axis=0) >= 3
    assert 2 < everywhere.sum() < 40
    assert carried(Steady(sites), plan).features == [g for g, k in zip(plan.features, everywhere, strict=True) if k]


def test_lines_of_one_person_count_once_and_a_feature_that_all_carry_stays(fold: Fold) -> None:
    sites = held(fold, secure=True)
    plan = agree(sites, "expression")
    assert carried(Steady(sites), plan) is plan
    plan = agree(sites, "mutation")
    before, _ = sites.total(Ask("carriers", values=plan.values()))
    for site in sites.sites.values():
        one = site.subjects[0]
        site.fold = replace(site.fold, train=site.fold.train.with_columns(person=np.full(site.fold.train.height, one)))
        site.memory.clear()
    after, _ = sites.total(Ask("carriers", values=plan.values()))
    assert before["carriers"].max() > 5 and after["carriers"].max() <= 3
