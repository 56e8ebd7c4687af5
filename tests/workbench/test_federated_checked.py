"""What comes in is checked in every federation: who sends what cannot be is dropped by name, others are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench.federated import sharing, spec, task
from workbench.federated.asked import Answer
from workbench.federated.journal import Journal
from workbench.federated.messages import Ask, Gathered, Reply
from workbench.federated.robust import rules
from workbench.federated.robust.faults import BackDoored, BadSite, mirrored
from workbench.federated.robust.updates import HiddenFault, Noted
from workbench.federated.simulation import simulate
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.federated.state import State
from workbench.federated.watched import Watched, checked
from workbench.federated.worth.value import of_run

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

RIDGE = {"axes": 8, "parts": 2, "steps": 1, "penalties": [1.0, 10.0], "rough": 1e-3}
NETWORK = {"local_epochs": 1, "axes": 12, "steps": 1}
PARAMS = {"members": 2, "width": 8, "rank": 4, "subjects": 8, "learning_rate": 1e-2,
          "modalities": ["expression"], "structure": False}  # fmt: skip
STARTS = {"ridge": "ridge_start", "drug_response": "network_round"}  # where a planted fault shows


def federation(predictor: str = "ridge", sites: Any = 4, **own: Any) -> spec.Federation:
    top: dict[str, Any] = {"name": "checked", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject",
                           "folds": 3, "only": [0], "draws": 20, "predictors": [predictor]}  # fmt: skip
    if predictor == "drug_response":
        top["parameters"] = {predictor: PARAMS}
    settings = (RIDGE if predictor == "ridge" else NETWORK) | own.pop("settings", {})
    own = {"sites": {"random": sites} if isinstance(sites, int) else sites, "settings": settings,
           "policy": {"minimum_rows": 5, "minimum_cell": 1}, "least": 2} | own  # fmt: skip
    if predictor == "drug_response":
        own = {"rounds": 2} | own
    return spec.of(top | {"federation": own})


@pytest.fixture(scope="module", autouse=True)
def study(_module_home: Path) -> Any:
    return toy.write(subjects=90)


def trained(plan: spec.Federation, there: Any) -> tuple[Any, Watched]:
    watched = Watched(there)
    return simulate.train(plan, watched), watched


def bad(plan: spec.Federation, make: Callable[[Site], Any], name: str = "site 3") -> Inline:
    return Inline([make(s) if s.name == name else s for s in task.simulated(plan, 0)])


def faulty(plan: spec.Federation, fault: str, **where: Any) -> Inline:
    return bad(plan, lambda s: BadSite(s, fault, purposes={STARTS[plan.predictor]}, **where))


def without(plan: spec.Federation, *names: str) -> Inline:
    return Inline([s for s in task.simulated(plan, 0) if s.name not in names])


def same(one: Any, other: Any, off: float = 0.0) -> None:
    a, b = one.arrays(), other.arrays()
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_allclose(array, b[name], rtol=0, atol=off, err_msg=name)


@pytest.fixture(scope="module")
def reference(study: Any) -> Callable[[str, str], Any]:
    """Of each predictor: trained by all, or with site 3 gone where a fault would show; each once."""
    made: dict[tuple[str, str], Any] = {}

    def of(predictor: str, how: str) -> Any:
        if (predictor, how) not in made:
            plan = federation(predictor)
            there = Inline(task.simulated(plan, 0)) if how == "clean" else faulty(plan, how)
            made[predictor, how] = simulate.train(plan, there)
        return made[predictor, how]

    return of


# --- one site's answer cannot be: dropped by name, the survivors are averaged exactly --------------------------------

FAULTS = {"nan": "NaN", "inf": "infinite", "shape": "shape", "dtype": "expected", "names": "missing",
          "counts": "its schema said"}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("predictor", STARTS)
def test_the_model_is_that_of_the_sites_that_can_be_right(predictor: str, fault: str, reference: Any) -> None:
    plan = federation(predictor)
    model, watched = trained(plan, faulty(plan, fault))
    same(model, reference(predictor, "gone"))
    assert {(n.site, n.kind, n.purpose) for n in watched.noted} == {("site 3", "dropped", STARTS[predictor])}
    assert all(FAULTS[fault] in n.why for n in watched.noted)
    told = watched.rounds().filter(pl.col("name").cast(pl.String) == "dropped")
    assert set(told["site"]) == {"site 3"} and told["lost"].str.contains(FAULTS[fault]).all()


def test_a_ridge_without_the_bad_site_is_the_ridge_of_the_others() -> None:
    plan = federation()
    model = simulate.train(plan, faulty(plan, "nan"))
    assert model.agreed_.sites == ("site 1", "site 2", "site 4")
    same(model, simulate.train(plan, without(plan, "site 3")), 1e-12)


@pytest.mark.parametrize("predictor", STARTS)
def test_below_the_least_number_of_sites_it_refuses_and_names_why(predictor: str) -> None:
    plan = federation(predictor, least=4)
    with pytest.raises(TooFewSites, match=r"3 of the 4 sites.*site 3: '.*' has NaN"):
        simulate.train(plan, faulty(plan, "nan"))


@pytest.mark.parametrize("predictor", ["ridge", pytest.param("drug_response", marks=pytest.mark.slow)])
def test_what_honest_sites_send_is_left_alone(predictor: str) -> None:
    """Also where they are unlike in size and tissue, or have no structures of compounds."""
    groups = {"a": ["tissue 0", "tissue 1"], "b": ["tissue 2"], "c": ["tissue 3"]}
    plan = federation(predictor, sites={"column": "tissue", "groups": groups})
    for there in (plan, federation(predictor, sites=5)):
        _, watched = trained(there, Inline(task.simulated(there, 0)))
        assert watched.noted == [] and not [e.lost for e in watched.exchanges if e.lost]


# --- claims ----------------------------------------------------------------------------------------------------------


@dataclass
class Spoilt(Site):
    """A site whose answers to one purpose are changed before anything hides them."""

    purpose: str = ""
    spoil: Callable[[Answer], Answer] = lambda made: made

    def made(self, ask: Ask, leaves: bool = True) -> Answer:
        found = super().made(ask, leaves)
        return self.spoil(found) if ask.purpose == self.purpose else found


def spoilt(purpose: str, **change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Site], Site]:
    def spoil(made: Answer) -> Answer:
        return replace(made, arrays={k: change[k](a) if k in change else a for k, a in made.arrays.items()})

    return lambda s: Spoilt(s.name, s.fold, s.policy, purpose=purpose, spoil=spoil)


def test_a_share_that_its_rows_do_not_make_is_dropped(reference: Any) -> None:
    plan = federation("drug_response")
    model, watched = trained(plan, bad(plan, spoilt("network_round", share=lambda a: 3 * a)))
    same(model, reference("drug_response", "gone"))
    assert all("claims a share of" in n.why for n in watched.noted) and len(watched.noted) == plan.rounds


def test_a_schema_that_contradicts_the_answer_is_dropped() -> None:
    plan = federation()
    model, watched = trained(plan, bad(plan, spoilt("schema", rows=lambda a: 100 * a)))
    assert model.agreed_.sites == ("site 1", "site 2", "site 4")
    assert "rows in an answer that rests on" in watched.noted[0].why and watched.noted[0].purpose == "schema"


def test_a_share_of_all_rows_above_the_cap_is_dropped_from_the_start() -> None:
    fold = federation().divide(toy_study()).fold(0)
    dealt = sharing.at_random(fold, 6)
    big = {"big": [s for k in (1, 2, 3) for s in dealt[f"site {k}"]], "a": dealt["site 4"], "b": dealt["site 5"]}
    sites = [Site(n, sharing.local(fold, own), federation_policy()) for n, own in big.items()]
    for most, left in ((0.5, ("a", "b")), (0.7, ("a", "b", "big"))):
        model, watched = trained(federation(most_share=most), Inline(sites))
        assert model.agreed_.sites == left
        assert [n.site for n in watched.noted][:1] == (["big"] if len(left) == 2 else [])
    with pytest.raises(spec.FederationError, match="most_share should be above 0"):
        federation(most_share=1.5)


def federation_policy() -> Any:
    from workbench.federated.policy import Policy

    return Policy(minimum_rows=5, minimum_cell=1)


def toy_study() -> Any:
    from workbench.study import Study, find

    return Study.open(find("synthetic"))


class Latecomer(Inline):
    """Site 3 comes once the training is under way."""

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        there = [n for n in (self.names if of is None else of) if n != "site 3" or ask.purpose == "network_round"]
        return super().ask(ask, there)


def test_a_site_that_never_said_its_rows_takes_no_share(reference: Any) -> None:
    plan = federation("drug_response")
    model, watched = trained(plan, Latecomer(task.simulated(plan, 0)))
    same(model, simulate.train(plan, without(plan, "site 3")))
    assert {n.site for n in watched.noted} == {"site 3"} and "never said its rows" in watched.noted[0].why


# --- sums that nobody sees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predictor", ["ridge", pytest.param("drug_response", marks=pytest.mark.slow)])
def test_a_site_masks_nothing_that_is_not_finite_and_is_named(predictor: str) -> None:
    """The site itself refuses, so it can be named although its part is hidden; what moves goes on without it."""
    pytest.importorskip("Crypto")
    plan = federation(predictor, secure=True, least=3)
    array = {"ridge": "gram", "drug_response": "learnt"}[predictor]
    there = bad(plan, spoilt(STARTS[predictor], **{array: lambda a: np.nan * a}))
    if predictor == "ridge":  # begun anew without it, the sums would differ by one site: the others refuse to sign that
        with pytest.raises(TooFewSites, match=f"site 3: masked: .*array {array!r} has values that are not finite"):
            trained(plan, there)
        return
    model, watched = trained(plan, there)
    lost = [(site, why) for e in watched.exchanges for site, why in e.lost.items()]
    assert {site for site, _ in lost} == {"site 3"}
    assert f"array {array!r} has values that are not finite" in lost[0][1]
    plain = federation(predictor, least=3)
    same(model, simulate.train(plain, faulty(plain, "gone")), 1e-5 if predictor == "drug_response" else 1e-8)


def test_hidden_parts_that_contradict_each_other_end_the_round_and_nobody_is_blamed() -> None:
    pytest.importorskip("Crypto")
    plan = federation("drug_response", secure=True, least=3)
    said = r"'network_round', round \d+: the sites' shares sum to 1\.5.*Which of site 1, .*site 4 it was cannot be told"
    with pytest.raises(HiddenFault, match=said):
        simulate.train(plan, bad(plan, spoilt("network_round", share=lambda a: a + 0.5)))


# --- slow, late, twice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predictor", STARTS)
def test_a_slow_site_is_waited_for(predictor: str, reference: Any) -> None:
    plan = federation(predictor)
    model, watched = trained(plan, faulty(plan, "slow", options={"seconds": 0.05}))
    same(model, reference(predictor, "clean"))
    took = [e.seconds for e in watched.exchanges if e.purpose == STARTS[predictor]]
    assert min(took) >= 0.05 and watched.noted == []


def test_an_answer_to_the_last_rounds_ask_is_no_answer(reference: Any) -> None:
    plan = federation("drug_response")
    model, watched = trained(plan, faulty(plan, "stale"))
    assert {n.site for n in watched.noted} == {"site 3"}
    assert "stale or replayed" in watched.noted[-1].why  # the first round's is an answer to something else
    same(model, reference("drug_response", "gone"))


def test_a_ridge_asks_again_for_an_answer_that_was_late(reference: Any) -> None:
    """The second time the site's last answer is the right one, so nothing is lost and the late one is on record."""
    plan = federation()
    model, watched = trained(plan, faulty(plan, "stale"))
    same(model, reference("ridge", "clean"))
    assert [(n.site, n.kind) for n in watched.noted] == [("site 3", "dropped")]


class Twice(Inline):
    """Site 3 answers twice where a fault would show: the second time with other numbers."""

    where = ""

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        told = super().ask(ask, of)
        more = [replace(r, arrays={k: a * 2 for k, a in r.arrays.items()}) for r in told.replies if r.site == "site 3"]
        return replace(told, replies=(*told.replies, *(more if ask.purpose == self.where else ())))


@pytest.mark.parametrize("predictor", STARTS)
def test_two_answers_under_one_name_are_none(predictor: str, reference: Any) -> None:
    plan = federation(predictor)
    there = Twice(task.simulated(plan, 0))
    there.where = STARTS[predictor]
    model, watched = trained(plan, there)
    same(model, reference(predictor, "gone"))
    assert {(n.site, n.why) for n in watched.noted} == {("site 3", "answered twice under one name")}


class Away(Inline):
    """Site 3 misses the second round of training."""

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        away = ask.purpose == "network_round" and ask.values["number"] == 1
        told = super().ask(ask, [n for n in (self.names if of is None else of) if not (away and n == "site 3")])
        return replace(told, lost=dict(told.lost) | ({"site 3": "no answer"} if away else {}))


def test_a_site_that_comes_back_takes_part_again() -> None:
    plan = federation("drug_response", rounds=3)
    model, watched = trained(plan, Away(task.simulated(plan, 0)))
    assert [len(r["took"]) for r in model.rounds_] == [4, 3, 4] and watched.noted == []
    assert [r["lost"] for r in model.rounds_] == [{}, {"site 3": "no answer"}, {}]


# --- lies that could be true: flagged, and withstood by a rule -------------------------------------------------------


def lying(plan: spec.Federation, how: str) -> Inline:
    treatment = task.opened(plan, 0)[0].train["treatment"][0]
    make: dict[str, Callable[[Site], Any]] = {
        "reversed": lambda s: BadSite(s, "reversed", purposes={"network_round"}),
        "sign": lambda s: BadSite(s, "sign", purposes={"network_round"}),
        "labels": mirrored,
        "back door": lambda s: BackDoored.of(s, {3: 9.0, 5: -9.0}, treatment, -20.0),
    }
    return bad(plan, make[how], "site 2")


def away(model: Any, clean: Any) -> float:
    key = next(k for k in clean.arrays() if k.endswith("hidden.weight"))
    return float(np.sqrt(np.mean((model.arrays()[key].astype(float) - clean.arrays()[key]) ** 2)))


@pytest.fixture(scope="module")
def swayed(study: Any) -> tuple[float, Watched]:
    """How far the mean goes astray where one of six turns its change round, ten times as long; and what was noted."""
    plan = federation("drug_response", sites=6)
    clean = simulate.train(plan, Inline(task.simulated(plan, 0)))
    model, watched = trained(plan, lying(plan, "reversed"))
    assert [len(r["took"]) for r in model.rounds_] == [6, 6]  # told, not dropped
    return away(model, clean), watched


def test_a_change_far_from_the_others_is_flagged_and_takes_part(swayed: Any) -> None:
    noted = swayed[1].noted
    assert {(n.kind, n.purpose) for n in noted} == {("flagged", "network_round")}
    long = [n for n in noted if "longer than the median update" in n.why]
    assert {n.site for n in long} == {"site 2"} and len({n.round for n in long}) == 2, noted


@pytest.mark.slow
@pytest.mark.parametrize("how", ["reversed", "sign", "labels", "back door"])
def test_a_rule_withstands_what_the_checks_let_pass(how: str, swayed: Any) -> None:
    """A network's honest changes hardly resemble each other, so a sign, labels or a back door need not even be seen."""
    plan = federation("drug_response", sites=6, settings={"rule": "median", "bad": 1})
    clean, before = trained(plan, Inline(task.simulated(plan, 0)))
    held, watched = trained(plan, lying(plan, how))
    assert [len(r["took"]) for r in held.rounds_] == [6, 6]
    assert {n.kind for n in watched.noted} <= {"flagged"}
    flags = [{n.site for n in w.noted} for w in (before, watched)]  # a site of one batch is short beside those of two
    assert flags[0] <= {"site 6"} and flags[1] <= {"site 2", "site 6"}
    assert all("shorter" in n.why for n in before.noted), before.noted
    assert away(held, clean) < 0.5 * swayed[0]


# --- a rule that remembers, and sites that forget --------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cut"), [("remembering", 1), ("remembering", 2), ("curvature", 2)])
def test_a_rule_that_remembers_goes_on_where_the_server_was_killed(name: str, cut: int) -> None:
    from workbench.federated.network import fit as network

    plan = federation("drug_response", sites=5, rounds=3)
    states: list[State] = []

    def fitted(rule: Any, state: State | None = None) -> Any:
        def keep(number: int, arrays: Any, values: Any) -> None:
            states.append((number, {k: np.array(a) for k, a in arrays.items()}, dict(values)))

        return network.fit(
            lying(plan, "sign"), simulate.settings(plan) | dict(plan.settings), state, keep, combine=rule
        )

    whole: Any = rules.make(name, bad=1)
    model = fitted(whole)
    rounds = [s for s in states if "inside/network/done" in s[1]]
    killed = next(s for s in rounds if s[1]["inside/network/done"][0] == cut)
    again: Any = rules.make(name, bad=1)
    resumed = fitted(again, killed)
    same(resumed, model)
    assert again.evidence == whole.evidence and len(again.evidence) == 5
    for site, row in getattr(whole, "seen", {}).items():
        np.testing.assert_array_equal(again.seen[site], row)
    assert resumed.rounds_ == model.rounds_


def test_a_rule_is_told_names_and_how_many_bad_ones_are_gone() -> None:
    """Of five sites two may be bad; one sends NaN and is dropped: four with one bad are left, which still can be."""
    heard: list[tuple[tuple[str, ...], int]] = []

    def rule(updates: Any, weights: Any, names: Sequence[str], fewer: int) -> Any:
        heard.append((tuple(names), fewer))
        return rules.make("median", bad=2)(updates, weights, names, fewer)

    from workbench.federated.network import fit as network
    from workbench.federated.robust.updates import Checked

    plan = federation("drug_response", sites=5, rounds=1)
    network.fit(Checked(faulty(plan, "nan"), least=0), simulate.settings(plan), combine=rule)
    assert heard == [(("site 1", "site 2", "site 4", "site 5"), 1)]


class Forgetting(Inline):
    """Site 3's process is ended before the second round of training."""

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        if ask.purpose == "network_round" and ask.values["number"] == 1:
            self.sites["site 3"].memory.clear()
        return super().ask(ask, of)


@pytest.mark.parametrize("kept", [{"own": ["shape", "level"]}, {"keep_optimizer": True}])
def test_what_a_site_keeps_is_never_begun_anew_in_silence(kept: dict[str, Any]) -> None:
    plan = federation("drug_response", settings=kept, rounds=3)
    model = simulate.train(plan, Forgetting(task.simulated(plan, 0)))
    assert [len(r["took"]) for r in model.rounds_] == [4, 3, 3]
    assert "its process was ended" in model.rounds_[1]["lost"]["site 3"]
    assert ("layers of its own" if "own" in kept else "optimiser") in model.rounds_[2]["lost"]["site 3"]
    with pytest.raises(TooFewSites, match=r"site 3: this site took part before .* its process was ended"):
        least = federation("drug_response", settings=kept, least=4)
        simulate.train(least, Forgetting(task.simulated(plan, 0)))


def test_where_nothing_is_kept_a_new_process_is_the_same_site(reference: Any) -> None:
    plan = federation("drug_response")
    model = simulate.train(plan, Forgetting(task.simulated(plan, 0)))
    same(model, reference("drug_response", "clean"))


# --- on record -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_run_says_who_was_dropped_when_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = federation(arms=["alone"])
    monkeypatch.setattr(simulate.task, "simulated", lambda *a, of=task.simulated: [
        BadSite(s, "nan", purposes={"ridge_start"}) if s.name == "site 3" else s for s in of(*a)])  # fmt: skip
    run = simulate.simulate(plan, "inline")
    told = run.table("FEDERATION_ROUNDS").filter(pl.col("name").cast(pl.String) == "dropped")
    assert set(told["site"].cast(pl.String)) == {"site 3"}
    costs = run.table("FEDERATION_COSTS")
    by = dict(costs.select(pl.col("site").cast(pl.String), "refusals").iter_rows())
    assert by["site 3"] > 0 and by["site 1"] == 0
    said = [n for n in of_run(run).notes if n.startswith("site 3 was dropped in round")]
    assert len(said) == 1 and "ridge_start: 'gram' has NaN" in said[0]
    child = next(c for c in run.children if c.info.run_name == "ridge at site 3, fold 0")
    assert child.data.tags["checks"] == said[0]


def test_what_was_noted_outlives_the_server(tmp_path: Path) -> None:
    notes = [Noted("network_round", 4, "b", "dropped", "'share' has NaN (1 of 1)"),
             Noted("network_round", 5, "a", "flagged", "against the others' median (cosine -0.81)")]  # fmt: skip
    journal = Journal(tmp_path / "rounds.jsonl", "mark", None)
    for note in (notes[0], notes[0], notes[1]):
        journal.add(note)
    watched = Watched(Inline([]))
    Journal(tmp_path / "rounds.jsonl", "mark", (4, {}, {})).watch(watched)
    assert watched.noted == [notes[0], *notes]
    rounds = watched.rounds()
    assert rounds.height == 2 and rounds["lost"].null_count() == 1  # who is flagged took part
    assert checked(rounds) == [
        "b was dropped in round 4, network_round: 'share' has NaN (1 of 1).",
        "a was flagged in round 5, network_round: against the others' median (cosine -0.81).",
    ]
    heard: list[Any] = []
    told = Watched(Inline([]), heard.append)
    told.note(notes[1])
    assert heard == [notes[1]] and Reply("a", "counts", 0).rows == 0
