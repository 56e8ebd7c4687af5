"""Pretraining where sites fail, lie, come back, or have too little: named, left out or survived."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests import toy
from tests.workbench.pretraining_sites import divided, held, learn, low_rank, same
from workbench.federated import sharing, watched
from workbench.federated.asked import pretrain_round
from workbench.federated.messages import Ask, Gathered
from workbench.federated.policy import Policy
from workbench.federated.pretraining import head, local
from workbench.federated.robust.faults import BadSite
from workbench.federated.robust.updates import Checked, Checks
from workbench.federated.simulation import recording
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.splits import Fold

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]


@pytest.fixture(scope="module")
def fold(_module_home: object) -> Fold:
    return divided("low rank", values=low_rank)


@pytest.mark.parametrize(
    ("fault", "why"), [("nan", "NaN"), ("shape", "shape"), ("gone", "no answer"), ("names", "missing")]
)
def test_a_site_that_fails_in_a_round_is_named_and_left_out(fold: Fold, fault: str, why: str) -> None:
    """Its change is not averaged: the round is that of the others, to the bit."""
    noted: list[Any] = []

    def rounds(sites: Any) -> Any:
        there = Checked(Inline(sites), Checks(), least=0, heard=noted.append)
        return learn(there, pretraining_rounds=2, least=2)

    sites = held(fold)
    made = rounds([BadSite(sites[0], fault, purposes=("pretrain_round", "pretrain_score")), *sites[1:]])
    if fault != "gone":
        assert {n.site for n in noted} == {"site 1"} and all(why in n.why for n in noted)
        assert {n.purpose for n in noted} == {"pretrain_round", "pretrain_score"}
    gone = held(fold)
    same(made, rounds([BadSite(gone[0], "gone", purposes=("pretrain_round", "pretrain_score")), *gone[1:]]))
    whole = learn(held(fold), pretraining_rounds=2)
    assert made.explained_[-1].persons < whole.explained_[-1].persons


def test_a_site_that_claims_more_samples_than_it_has_is_named(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.federated.robust.updates import HiddenFault
    from workbench.federated.secure import server

    honest = pretrain_round.answer

    def lies(site: Any, ask: Ask) -> Any:
        made = honest(site, ask)
        if site.name != "site 1":
            return made
        return replace(made, arrays={k: 50.0 * a if k != "held_out" else a for k, a in made.arrays.items()})

    monkeypatch.setattr(pretrain_round, "answer", lies)
    made = learn(held(fold), pretraining_rounds=2, least=2)
    assert list(made.left_out_) == ["site 1 in pretraining"] and "and said" in made.left_out_["site 1 in pretraining"]
    told = recording._set_aside(made)  # among the rounds, so that a run's output names it
    assert told["site"].to_list() == ["site 1"] and told["round"].to_list() == [1]
    assert any("site 1" in line and "claims" in line for line in watched.missed(told))
    with pytest.raises(HiddenFault, match=r"site 1, site 2, site 3 claim \d+ samples together and said"):
        learn(server.Secure(Inline(held(fold)), least=3), pretraining_rounds=1)
    with pytest.raises(TooFewSites, match="site 1: claims"):
        learn(held(fold), pretraining_rounds=1, least=3)
    monkeypatch.undo()
    away = held(fold)
    without = learn(Inline([BadSite(away[0], "gone", purposes=("pretrain_round",)), *away[1:]]), pretraining_rounds=2)
    same(made, without)
    assert without.left_out_ == {}


def test_too_few_sites_end_the_rounds(fold: Fold) -> None:
    sites = held(fold)
    bad = [BadSite(s, "nan", purposes=("pretrain_round",)) for s in sites[:2]]
    with pytest.raises(TooFewSites, match=r"site 1.*site 2"):
        learn(Checked(Inline([*bad, sites[2]]), Checks(), least=0), least=2)


def test_a_site_that_comes_back_is_told_the_plan_anew(fold: Fold) -> None:
    sites = held(fold)
    asked: list[str] = []

    class Restarted(Inline):
        """Site 1 is a new process before the third ask of a round."""

        def ask(self, ask: Ask, of: Any = None) -> Gathered:
            asked.append(ask.purpose)
            if asked.count("pretrain_round") == 3 and ask.purpose == "pretrain_round":
                sites[0].memory.clear()
            return super().ask(ask, of)

    same(learn(Restarted(sites)), learn(held(fold)))


def test_a_site_without_a_modality_learns_from_what_it_has(_module_home: object, fold: Fold) -> None:
    poor = divided("no copy number", values=low_rank, leave_out=("copy_number",))
    sites = held(fold)
    there = sharing.at_random(fold, 3)["site 1"]
    sites[0] = Site("site 1", sharing.local(poor, there), unlabelled=sites[0].unlabelled)
    made = learn(sites, pretraining_rounds=1)
    assert [e.modality for e in made.explained_] == ["expression", "mutation", "copy_number", "all"]
    mine = sites[0].memory[local.MEMORY]
    assert not mine.presence[:, 2].any() and mine.presence[:, 0].any()
    counted = {e.modality: e.persons for e in made.explained_}
    assert counted["copy_number"] <= counted["all"] - len(mine.subjects)


def test_a_study_without_a_modality_goes_on_without_it(_module_home: object) -> None:
    poor = divided("poor", values=low_rank, leave_out=("mutation", "copy_number"))
    made = learn(held(poor), pretraining_rounds=1)
    assert [e.modality for e in made.explained_] == ["expression", "all"]
    site = held(poor)[0]
    assert head.fit(made, site.fold).predict(poor.study, site.fold.test)["predicted"].null_count() == 0


def test_a_site_with_too_few_lines_is_named_and_the_others_go_on(fold: Fold) -> None:
    sites = held(fold)
    sites[0] = replace(sites[0], policy=Policy(minimum_rows=10_000))
    with pytest.raises(TooFewSites, match=r"site 1: policy"):
        learn(sites, least=3)
    made = learn(sites, least=2, pretraining_rounds=1)
    others = sum(len(s.memory[local.MEMORY].subjects) for s in sites[1:])
    assert made.explained_[-1].persons == others and local.MEMORY not in sites[0].memory
