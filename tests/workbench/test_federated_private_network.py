"""A network trained in private rounds: gradients by person, clipping, noise, what it costs, budgets, the whole gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tests import toy
from workbench import predict, score
from workbench.federated import methods, sharing, spec
from workbench.federated.gate import outgoing as gate
from workbench.federated.gate.budget import Budget
from workbench.federated.messages import Ask, Gathered
from workbench.federated.network import fit as network
from workbench.federated.network import local as _network_local
from workbench.federated.network.module import set_weights, weights
from workbench.federated.policy import Policy
from workbench.federated.private import accounting, noise, person_level, public_start, site_level, training
from workbench.federated.private.accounting import Release
from workbench.federated.private.public_start import Public
from workbench.federated.secure.server import Secure
from workbench.federated.simulation import simulate
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.nn.losses import squared
from workbench.predictors.drug_response import DrugResponse
from workbench.splits import Fold, Split

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

STILL = {"dropout": 0.0, "noise": 0.0, "drop_modality": 0.0}  # no random number in a training step
PARAMS: dict[str, Any] = {"members": 2, "width": 6, "rank": 4, "subjects": 8, "learning_rate": 1e-2, "seed": 0}
DELTA = 1e-5


@pytest.fixture(scope="module")
def fold(_module_home: object) -> Fold:
    return Split.make(toy.write(subjects=90), "unseen subject", endpoint="ln_ic50", folds=5).fold(0)


@pytest.fixture(scope="module")
def dealt(fold: Fold) -> list[Fold]:
    """The first is public, the others are three sites'."""
    return [sharing.local(fold, s) for s in sharing.at_random(fold, 4).values()]


@pytest.fixture(scope="module")
def start(dealt: list[Fold]) -> Public:
    return public_start.prepared(dealt[0], PARAMS | STILL | {"modalities": ["expression", "mutation", "copy_number"]})


@pytest.fixture(scope="module")
def local(dealt: list[Fold], start: Public) -> _network_local.Local:
    return _network_local.Local(Site("site 1", dealt[1]), start.plan)


def held(dealt: list[Fold], **more: Any) -> list[Site]:
    return [Site(f"site {i}", f, **more) for i, f in enumerate(dealt[1:], 1)]


def settings(dealt: list[Fold], **more: Any) -> dict[str, Any]:
    usual = {
        "privacy": "person",
        "noise": 2.0,
        "rate": 1.0,
        "local_steps": 2,
        "persons": 18,
        "warm": 0,
        "public": dealt[0],
    }
    return usual | {"rounds": 3, "least": 2, "parameters": PARAMS} | more


def fixed(seed: int) -> noise.Bytes:
    return np.random.default_rng(seed).bytes


def persons_of(local: _network_local.Local, start: Public, module: Any) -> person_level.Persons:
    set_weights(module, weights(start.model))
    module.train()
    return person_level.of(local, start.offset, start.model.sigma_)


def ask(start: Public, **more: Any) -> Ask:
    arrays = {f"weights.{k}": a for k, a in weights(start.model).items()}
    arrays |= {"offset": start.offset, "sigma": np.array([start.model.sigma_])}
    values: dict[str, Any] = {
        "number": 0,
        "rounds": 3,
        "privacy": "person",
        "clip": 1.0,
        "noise": 2.0,
        "rate": 1.0,
        "steps": 1,
    }
    values |= {"learning_rate": 0.5, "size": 18} | more
    return start.plan.ask("network_private_round", 0, arrays, values, carry=True)


# --- the step --------------------------------------------------------------------------------------------------------


def test_gradients_by_person_equal_a_loop_over_persons(local: Any, start: Public) -> None:
    module = local.module(start.model.sigma_)
    persons = persons_of(local, start, module)
    found = person_level.gradients(module, persons)
    names = sorted(set(local.train["person"]))
    assert len(persons) == len(names) == 20
    known = torch.arange(len(local.plan.treatments))
    rows = local.rows(start.offset, start.model.sigma_)
    for i, name in enumerate(names):  # by the rows of Local itself, nothing of Persons
        own = torch.from_numpy(np.flatnonzero((local.train["person"] == name).to_numpy()))
        module.zero_grad()
        plane = module(rows.x, rows.presence, known, module.structure)
        f = plane[:, rows.subject[own], rows.treatment[own]]
        learns = 1 - int(rows.part[own[0]])  # of two members, the one whose part it is not
        squared(f, rows.target[own], rows.censored[own])[learns].mean().backward()
        for k, p in module.named_parameters():
            assert p.grad is not None
            np.testing.assert_allclose(found[k][i].numpy(), p.grad.numpy(), atol=1e-5, err_msg=k)


def test_two_samples_of_one_person_are_one_unit(fold: Fold, start: Public) -> None:
    one = sharing.local(fold, fold.train["subject"].unique().sort().to_list()[:12])
    names = dict(zip(sorted(one.train["subject"].unique()), "aabbccddeeff", strict=True))
    pairs = one.train.with_columns(pl.col("subject").cast(pl.String).replace_strict(names).alias("person"))
    local = _network_local.Local(Site("s", replace(one, train=pairs)), start.plan)
    module = local.module(start.model.sigma_)
    persons = persons_of(local, start, module)
    assert len(persons) == 6 and persons.presence.shape[1] == 2
    assert int(persons.there.sum()) == one.train.height
    found = person_level.gradients(module, persons)["hidden.weight"]
    rows = local.rows(start.offset, start.model.sigma_)
    own = torch.from_numpy(np.flatnonzero((local.train["person"] == "c").to_numpy()))
    module.zero_grad()
    plane = module(rows.x, rows.presence, torch.arange(len(local.plan.treatments)), module.structure)
    f = plane[:, rows.subject[own], rows.treatment[own]]
    squared(f, rows.target[own], rows.censored[own])[1 - int(rows.part[own[0]])].mean().backward()
    assert module.hidden.weight.grad is not None
    np.testing.assert_allclose(found[2].numpy(), module.hidden.weight.grad.numpy(), atol=1e-5)


def moved(module: Any, persons: person_level.Persons, start: Public, **more: Any) -> np.ndarray:
    """Change of all weights by one step from the start's, in one vector."""
    before = weights(start.model)
    set_weights(module, before)
    usual: dict[str, Any] = {"clip": 1.0, "noise": 0.0, "rate": 1.0, "steps": 1, "learning_rate": 1.0, "size": 1.0}
    person_level.train(module, persons, **(usual | more))
    after = weights(module)
    return np.concatenate([(after[k].astype(np.float64) - before[k]).ravel() for k in before])


def test_a_huge_person_moves_the_weights_by_no_more_than_the_clip(local: Any, start: Public) -> None:
    module = local.module(start.model.sigma_)
    persons = persons_of(local, start, module)
    persons.target[3] *= 1e4  # planted
    everyone = np.arange(len(persons))
    whole = moved(module, persons, start, clip=0.5)
    without = moved(module, persons.at(np.delete(everyone, 3)), start, clip=0.5)
    assert np.linalg.norm(whole - without) == pytest.approx(0.5, rel=1e-3)
    unclipped = moved(module, persons, start, clip=1e9) - moved(module, persons.at(everyone[:3]), start, clip=1e9)
    assert np.linalg.norm(unclipped) > 1e3  # the control: without the clip it is seen
    persons.target[3] = torch.nan  # what is no number counts as nothing, and tells nothing
    np.testing.assert_allclose(moved(module, persons, start, clip=0.5), without, atol=1e-6)


def test_without_noise_and_clip_a_step_is_plain_full_batch_gradient_descent(local: Any, start: Public) -> None:
    module = local.module(start.model.sigma_)
    persons = persons_of(local, start, module)
    found = moved(module, persons, start, clip=1e9, learning_rate=0.3, size=float(len(persons)))
    rows = local.rows(start.offset, start.model.sigma_)
    module = local.module(start.model.sigma_)
    set_weights(module, weights(start.model))
    plane = module(rows.x, rows.presence, torch.arange(len(local.plan.treatments)), module.structure)
    error = squared(plane[:, rows.subject, rows.treatment], rows.target, rows.censored)
    own = error.gather(0, (1 - rows.part)[None])[0]
    count = torch.bincount(rows.subject)[rows.subject]
    (own / count).sum().div(len(persons)).backward()
    plain = np.concatenate([-0.3 * p.grad.numpy().ravel() for p in module.parameters() if p.grad is not None])
    np.testing.assert_allclose(found, plain, atol=1e-6)
    assert np.abs(plain).max() > 1e-3


def test_pieces_of_a_sample_make_the_same_step(local: Any, start: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    module = local.module(start.model.sigma_)
    persons = persons_of(local, start, module)
    whole = moved(module, persons, start, clip=0.3, noise=0.7, draw=fixed(1))
    monkeypatch.setattr(person_level, "NUMBERS", 5 * sum(p.numel() for p in module.parameters()))  # 5 persons a piece
    np.testing.assert_allclose(moved(module, persons, start, clip=0.3, noise=0.7, draw=fixed(1)), whole, atol=1e-6)


def test_noise_is_normal_and_of_the_sd_stated(local: Any, start: Public) -> None:
    drawn = noise.gaussian((400, 1000), 2.5, fixed(3))
    assert drawn.std() == pytest.approx(2.5, rel=0.005) and abs(drawn.mean()) < 0.02
    assert (np.abs(drawn) > 1.959964 * 2.5).mean() == pytest.approx(0.05, abs=0.002)
    assert (drawn**4).mean() / 2.5**4 == pytest.approx(3.0, abs=0.05)
    module = local.module(start.model.sigma_)
    persons = persons_of(local, start, module)
    quiet = moved(module, persons, start, clip=0.5)
    told = [moved(module, persons, start, clip=0.5, noise=1.7, draw=fixed(i)) - quiet for i in range(6)]
    n = np.concatenate(told)
    assert len(n) > 5000 and n.std() == pytest.approx(1.7 * 0.5, rel=4 / np.sqrt(2 * len(n)))
    one, other = (moved(module, persons, start, noise=1.0) for _ in range(2))
    assert (one != other).all()  # drawn anew each time, whatever the seed of the run


def test_a_sample_holds_each_person_with_the_rate_that_is_charged() -> None:
    sizes = np.array([len(noise.sampled(200, 0.1, fixed(i))) for i in range(500)])
    assert sizes.mean() == pytest.approx(20, abs=4 * np.sqrt(18 / 500))
    assert sizes.var() == pytest.approx(18, rel=0.25)  # of a binomial: not one fixed size
    assert len(noise.sampled(50, 1.0)) == 50


def test_a_step_on_nobody_is_noise_alone(local: Any, start: Public) -> None:
    module = local.module(start.model.sigma_)
    persons = persons_of(local, start, module)
    found = moved(module, persons.at(np.arange(0)), start, noise=1.0, draw=fixed(5))
    assert found.std() == pytest.approx(1.0, rel=0.1)


# --- sites as the unit -----------------------------------------------------------------------------------------------


def test_a_sites_change_is_clipped_as_a_whole_and_the_sum_has_the_noise_stated() -> None:
    change = {"a": np.full((3, 4), 2.0), "b": np.full(13, -2.0)}  # of length 10
    cut = site_level.clipped(change, 0.5)
    assert np.sqrt(sum((a**2).sum() for a in cut.values())) == pytest.approx(0.5)
    np.testing.assert_allclose(cut["b"] / change["b"], 0.05)
    np.testing.assert_array_equal(site_level.clipped(change, 10.1)["a"], change["a"])
    wide = {"a": np.zeros(40_000)}
    total = np.sum([site_level.noised(wide, 1.5 * 0.5 / np.sqrt(5), fixed(i))["a"] for i in range(5)], axis=0)
    assert total.std() == pytest.approx(1.5 * 0.5, rel=0.015)
    assert not site_level.clipped({"a": np.array([np.nan, 1.0])}, 1.0)["a"].any()


def test_a_part_of_the_noise_leaves_within_a_secure_sum_only(dealt: list[Fold], start: Public) -> None:
    site = held(dealt, policy=Policy(honest=3))[0]
    common = {"privacy": "site", "epochs": 1, "proximal": 0.0, "noise": 2.0}
    alone = site.made(ask(start, parts=1, **common))
    shared = site.made(ask(start, parts=3, **common), leaves=False)
    assert alone.releases == shared.releases == (Release(2.0, unit="site"),)
    refused = site.answer(ask(start, parts=3, **common)).refused
    assert refused is not None and "secure sum" in refused
    wary = Site("site 1", dealt[1]).answer(ask(start, parts=3, **common)).refused
    assert wary == "noise shared among 3 sites is refused; this site counts on 1 at most."
    sizes = [np.concatenate([a.ravel() for a in m.arrays.values()]).std() for m in (alone, shared)]
    assert sizes[0] == pytest.approx(2.0, rel=0.1) and sizes[1] == pytest.approx(2 / np.sqrt(3), rel=0.15)


def test_sites_as_the_unit_under_secure_sums(dealt: list[Fold]) -> None:
    sites = held(dealt, policy=Policy(honest=3))
    made: Any = training.fit(
        Secure(Inline(sites)),
        settings(dealt, privacy="site", noise=0.0, epsilon=50.0, rounds=1, least=3, honest=3, local_epochs=1),
    )
    assert made.spent_.unit == "site" and 49 < made.spent_.epsilon <= 50 and made.ended_ == ""


# --- whole trainings -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(dealt: list[Fold], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Site], list[Any]]:
    """Three rounds past every step of the gate, at sites that have a budget; and the states on the way."""
    folder = tmp_path_factory.mktemp("books")
    policy = Policy(epsilon=100.0, delta=DELTA)
    sites = [replace(s, policy=policy, outgoing=gate.steps(folder / s.name)) for s in held(dealt)]
    states: list[Any] = []
    model = training.fit(
        Inline(sites),
        settings(dealt),
        keep=lambda n, a, v: states.append((n, {k: x.copy() for k, x in a.items()}, dict(v))),
    )
    return model, sites, states


def budget(site: Site) -> Budget:
    return next(step for step in site.outgoing if isinstance(step, Budget))


def test_a_private_training_passes_the_gate_and_costs_what_the_accountant_says(
    whole: Any, dealt: list[Fold], fold: Fold
) -> None:
    model, sites, _ = whole
    expected = accounting.epsilon([Release(2.0, 1.0, 6)], DELTA)
    assert model.spent_.epsilon == expected and (model.spent_.delta, model.spent_.unit) == (DELTA, "person")
    for site in sites:
        charges = budget(site).charges()
        assert [c["releases"] for c in charges] == [[[2.0, 1.0, 2, "person"]]] * 3
        assert budget(site).spent(site.policy).epsilon == expected
    assert type(model) is DrugResponse
    assert [len(r["took"]) for r in whole[0].rounds_] == [3, 3, 3]
    answer = score.unseal(predict.predictions(whole[0], fold, predict.baseline(fold)), fold)
    assert answer["predicted"].is_finite().all() and (answer["high"] > answer["low"]).all()


def test_what_is_exact_does_not_pass_a_gate_with_a_budget(whole: Any, start: Public) -> None:
    _, sites, _ = whole
    plain = ask(start, epochs=1, proximal=0.0, keep_optimizer=False, rows=100, own=[])
    for purpose in ("network_round", "schema", "counts", "moments"):
        refused = sites[0].answer(replace(plain, purpose=purpose)).refused
        assert refused is not None and refused.startswith(("policy", "failed", "this site")), purpose
    refused = sites[0].answer(replace(plain, purpose="network_round")).refused
    assert refused is not None and "exact" in refused
    silent = sites[0].answer(ask(start, noise=0.0)).refused
    assert silent is not None and "exact" in silent
    fresh = sites[0].answer(ask(start))
    assert fresh.refused is None and fresh.rows == 0  # not even how many rows are behind it


def test_a_federation_file_is_trained_past_the_gate_with_a_budget(fold: Fold) -> None:
    toy.write("open to all", seed=0, subjects=30)
    given = {
        "name": "private", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "only": [0],
        "predictors": ["drug_response"], "parameters": {"drug_response": PARAMS},
        "federation": {
            "sites": {"random": 3}, "rounds": 2, "gated": True, "policy": {"epsilon": 8.0, "delta": DELTA},
            "settings": {
                "privacy": "person", "epsilon": 8.0, "rate": 1.0, "local_steps": 2, "persons": 20,
                "public": "open to all", "warm": 1,
            },
        },
    }  # fmt: skip
    told: list[tuple[int, float]] = []
    made = simulate.fitted(
        spec.of(given),
        0,
        "inline",
        point=lambda n, values: told.append((n, float(values["epsilon"]))),  # type: ignore[arg-type]
    )
    assert made.predictor.ended_ == "" and 7.92 < made.predictor.spent_.epsilon <= 8.0
    assert {e.purpose for e in made.watched.exchanges} == {"network_private_round"}
    assert 0 < told[0][1] < told[-1][1] == made.predictor.spent_.epsilon
    given["federation"]["policy"]["epsilon"] = 6.0  # type: ignore[index]
    short = simulate.fitted(spec.of(given), 0, "inline").predictor
    assert short.ended_.startswith("after 1 of 2 rounds") and short.spent_.epsilon < 6.0


def test_nothing_but_private_rounds_is_asked(dealt: list[Fold]) -> None:
    asked: list[str] = []

    class Noted(Inline):
        def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
            asked.append(ask.purpose)
            return super().ask(ask, of)

    training.fit(Noted(held(dealt)), settings(dealt, rounds=1))
    assert set(asked) == {"network_private_round"}


def test_epsilon_asked_for_is_met_by_the_noise_over_all_rounds(dealt: list[Fold]) -> None:
    given = {k: v for k, v in settings(dealt, noise=0.0, epsilon=4.0).items() if k in training.settings()}
    privacy = training.Privacy(**given)
    z = privacy.noise_over(3)
    told = accounting.epsilon(privacy.releases(z, 3), DELTA)
    assert 4.0 * 0.99 <= told <= 4.0


@pytest.mark.slow
def test_epsilon_of_sampled_rounds_is_that_of_the_prv_accountant(dealt: list[Fold]) -> None:
    from opacus.accountants import PRVAccountant

    made: Any = training.fit(Inline(held(dealt)), settings(dealt, rate=0.25, noise=1.1))
    account = PRVAccountant()
    account.history = [(1.1, 0.25, 6)]
    oracle = account.get_epsilon(DELTA)
    assert oracle * 0.99 <= made.spent_.epsilon and made.spent_.epsilon == pytest.approx(oracle, rel=0.05)


def test_only_the_layers_named_change_and_leave(dealt: list[Fold]) -> None:
    site, sent = held(dealt), list[set[str]]()

    class Noted(Inline):
        def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
            gathered = super().ask(ask, of)
            sent.extend({k.removeprefix("change.") for k in r.arrays} for r in gathered.replies)
            return gathered

    chosen = settings(dealt, only=["identity", "level"], rounds=2, strategy="FedAdam")
    model: Any = training.fit(Noted(site), chosen)
    assert sent == [{"identity.weight", "level.weight"}] * 6
    begun = public_start.prepared(dealt[0], network.Settings.of({"rounds": 2, "parameters": PARAMS}).params()).begun(0)
    for k, w in weights(model).items():
        assert (w != begun[k]).all() if k in sent[0] else (w == begun[k]).all(), k
    with pytest.raises(training.PrivacyError, match="names no layer"):
        training.fit(Inline(site), settings(dealt, only=["hiden"]))


def test_a_spent_budget_ends_the_training_with_the_rounds_done(dealt: list[Fold]) -> None:
    two = accounting.epsilon([Release(2.0, 1.0, 4)], DELTA)
    policy = Policy(epsilon=two + 1e-6, delta=DELTA)
    sites = [replace(s, policy=policy, outgoing=[Budget()]) for s in held(dealt)]
    last: list[Any] = []
    model: Any = training.fit(
        Inline(sites), settings(dealt, rounds=5), keep=lambda n, a, v: last.append((n, dict(a), dict(v)))
    )
    assert model.ended_.startswith("after 2 of 5 rounds") and "site 2: policy: budget spent" in model.ended_
    assert model.spent_.epsilon == pytest.approx(two) and len(model.rounds_) == 2
    assert last[-1][2]["ended"] == model.ended_
    again: Any = training.fit(Inline(sites), settings(dealt, rounds=5), state=last[-1])  # it stays ended
    assert again.ended_ == model.ended_
    for k, w in weights(model).items():
        np.testing.assert_array_equal(weights(again)[k], w)


def test_a_site_whose_budget_is_spent_is_left_out_by_name(dealt: list[Fold]) -> None:
    sites = [replace(s, outgoing=[Budget()]) for s in held(dealt)]
    poor = accounting.epsilon([Release(2.0, 1.0, 2)], DELTA)
    sites[1].policy = Policy(epsilon=poor + 1e-6, delta=DELTA)
    model: Any = training.fit(Inline(sites), settings(dealt))
    assert [r["took"] for r in model.rounds_[1:]] == [["site 1", "site 3"]] * 2 and model.ended_ == ""
    assert "budget spent" in model.rounds_[1]["lost"]["site 2"]


def test_a_fault_that_is_no_spent_budget_is_no_quiet_end(dealt: list[Fold]) -> None:
    class Breaking(Inline):
        def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
            gathered = super().ask(ask, of)
            return (
                gathered if ask.values["number"] == 0 else Gathered((), dict.fromkeys(self.names, "its process ended"))
            )

    with pytest.raises(TooFewSites, match="its process ended"):
        training.fit(Breaking(held(dealt)), settings(dealt))


def test_a_server_that_goes_on_is_not_charged_twice(dealt: list[Fold], start: Public) -> None:
    """Killed in round 2 after the sites had answered: they repeat their answer, and it costs nothing."""
    sites = [replace(s, outgoing=[Budget()]) for s in held(dealt)]
    states: list[Any] = []

    class Killed(RuntimeError): ...

    class Dying(Inline):
        def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
            gathered = super().ask(ask, of)
            if ask.values["number"] == 1:
                raise Killed
            return gathered

    def keep(n: int, a: Any, v: Any) -> None:
        states.append((n, {k: x.copy() for k, x in a.items()}, dict(v)))

    with pytest.raises(Killed):
        training.fit(Dying(sites), settings(dealt), keep=keep)
    assert [len(budget(s).charges()) for s in sites] == [2, 2, 2]
    training.fit(Inline(sites), settings(dealt), state=states[-1])
    assert [len(budget(s).charges()) for s in sites] == [3, 3, 3]
    forgetful = [replace(s, memory={}) for s in sites]  # a site started anew draws new noise: that is a new release
    training.fit(Inline(forgetful), settings(dealt), state=states[-1])
    assert [len(budget(s).charges()) for s in sites] == [5, 5, 5]


def test_noise_from_the_site_is_nobody_elses_to_repeat(dealt: list[Fold], start: Public) -> None:
    one, other = (Site("site 1", dealt[1]).answer(ask(start)) for _ in range(2))
    assert all((one.arrays[k] != other.arrays[k]).any() for k in one.arrays)


# --- settings --------------------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"epsilon": 3.0}, "give epsilon or noise"),
    ({"noise": 0.0}, "give epsilon or noise"),
    ({"rate": 0.0}, "rate should be above 0"),
    ({"rate": 1.5}, "at most 1"),
    ({"clip": -1.0}, "clip should be a number, at least 0"),
    ({"delta": 0.0}, "delta should be between 0 and 1"),
    ({"persons": 0}, "persons is missing"),
    ({"local_steps": 2.5}, "local_steps should be a whole number"),
    ({"steps": 2}, "called local_steps"),
    ({"public": ""}, "public is missing"),
    ({"privacy": "row"}, 'privacy should be "person" or "site"'),
    ({"own": ["level"]}, "own has no place"),
    ({"only": "level"}, "only should be a list"),
    ({"honest": 0}, "honest should be a whole number from 1"),
]


@pytest.mark.parametrize(("more", "words"), WRONG, ids=[w for _, w in WRONG])
def test_settings_that_cannot_be_are_refused_before_anything_is_asked(
    dealt: list[Fold], more: dict[str, Any], words: str
) -> None:
    class Never(Inline):
        def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
            raise AssertionError("asked")

    with pytest.raises(training.PrivacyError, match=words):
        training.fit(Never([]), settings(dealt, **more))


def test_a_site_checks_the_servers_numbers_itself(dealt: list[Fold], start: Public) -> None:
    site = Site("site 1", dealt[1])
    for more, words in (({"rate": 2.0}, "at most 1"), ({"clip": 0.0}, "clip"), ({"noise": -1.0}, "noise"),
                        ({"steps": 1.5}, "steps"), ({"privacy": "row"}, "unit")):  # fmt: skip
        refused = site.answer(ask(start, **more)).refused
        assert refused is not None and words in refused


def test_a_federation_file_says_privacy_whole_or_not_at_all() -> None:
    plain = {
        "name": "f",
        "study": "s",
        "endpoint": "ln_ic50",
        "split": "unseen subject",
        "predictors": ["drug_response"],
    }
    given = {"privacy": "person", "epsilon": 3.0, "rate": 0.1, "persons": 150, "public": "open"}
    assert spec.of(plain | {"federation": {"settings": given}}).settings == given
    with pytest.raises(spec.FederationError, match="epsilon"):
        spec.of(plain | {"federation": {"settings": {"privacy": "person", "epsilom": 3.0}}})
    with pytest.raises(methods.MethodError, match="say privacy"):
        methods.METHODS["network"].fit(Inline([]), {"rate": 0.1}, None, None, None)
    with pytest.raises(methods.MethodError, match="rule or privacy"):
        methods.METHODS["network"].fit(Inline([]), given | {"rule": "median"}, None, None, None)
