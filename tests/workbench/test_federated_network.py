"""DrugResponse trained by sites together: against a plain loop and plain training, killed, left alone, restored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tests import toy
from workbench import predict, predictors, score, train
from workbench.batches import SubjectLoader
from workbench.federated import sharing
from workbench.federated.gate import outgoing as gate
from workbench.federated.messages import Ask, Gathered
from workbench.federated.network import fit as network
from workbench.federated.network import local as _network_local
from workbench.federated.network import personal
from workbench.federated.network.module import one_cycle, set_weights, weights
from workbench.federated.network.training import seed_of, weight_of
from workbench.federated.robust import rules as robust
from workbench.federated.site import Site
from workbench.federated.sites import Inline, Sites, TooFewSites
from workbench.predictors._widths import HalfWidths
from workbench.predictors.drug_response import DrugResponse
from workbench.splits import Fold, Split

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

PARAMS: dict[str, Any] = {"members": 2, "width": 8, "rank": 4, "subjects": 8, "learning_rate": 1e-2}
SETTINGS: dict[str, Any] = {"rounds": 3, "local_epochs": 2, "axes": 20, "least": 2, "parameters": PARAMS}
STILL = {"dropout": 0.0, "noise": 0.0, "drop_modality": 0.0}  # no random number in a training step


@pytest.fixture(scope="module")
def fold(_module_home: object) -> Fold:
    return Split.make(toy.write(subjects=90), "unseen subject", endpoint="ln_ic50", folds=5).fold(0)


def held(fold: Fold, sites: int = 3, **more: Any) -> list[Site]:
    if sites == 1:
        return [Site("site 1", fold, **more)]
    return [Site(n, sharing.local(fold, s), **more) for n, s in sharing.at_random(fold, sites).items()]


def fit(sites: Sites | Sequence[Site], state: Any = None, keep: Any = None, combine: Any = None, **more: Any) -> Any:
    there = Inline(sites) if isinstance(sites, Sequence) else sites
    return network.fit(there, SETTINGS | more, state, keep, combine=combine)


def recorded(sites: Sequence[Site]) -> tuple[Inline, list[Ask]]:
    asked: list[Ask] = []

    class Noted(Inline):
        def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
            asked.append(ask)
            return super().ask(ask, of)

    return Noted(sites), asked


@pytest.fixture(scope="module")
def kept(fold: Fold) -> tuple[DrugResponse, list[Any], list[Site], list[Ask]]:
    """Trained by three sites without a break, every state on the way, the sites, and what they were asked."""
    states: list[Any] = []
    sites = held(fold)
    there, asked = recorded(sites)
    model = fit(there, keep=lambda n, a, v: states.append((n, {k: x.copy() for k, x in a.items()}, dict(v))))
    return model, states, sites, asked


def same(a: Any, b: Any) -> None:
    left, right = a.arrays(), b.arrays()
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


# --- oracles ---------------------------------------------------------------------------------------------------------


def test_weights_are_those_of_a_plain_fedavg_loop(fold: Fold, kept: Any) -> None:
    """The same local training, and the mean of the sites' weights by rows, written out."""
    model, _, sites, asked = kept
    local = [s.memory[_network_local.MEMORY] for s in sites]
    first = next(a for a in asked if a.purpose == "network_round")
    plan, offset, sigma = local[0].plan, first.arrays["offset"], model.sigma_
    rows = np.array([len(x.train) for x in local], dtype=np.float64)
    assert rows.sum() == fold.train.height
    shared = weights(_network_local.built(plan, sigma))
    for number in range(3):
        after = []
        for site, x in zip(sites, local, strict=True):
            module = x.module(sigma)
            set_weights(module, shared)
            seed = seed_of(0, site.name)
            data = x.rows(offset, sigma)
            loader = SubjectLoader(data, 8, seed)
            loader.order = partial(lambda own, first, e: own(first + e), loader.order, 2 * number)  # type: ignore[method-assign]
            steps = 2 * len(loader)
            module.begin(number * steps, 3 * steps)
            torch.manual_seed(seed_of(seed, str(number)))
            train.run_lightning(module, loader, epochs=2, survive=train.Survive(None), accelerator="cpu")
            after.append(weights(module))
        shared = {k: sum(n * w[k] for n, w in zip(rows, after, strict=True)) / rows.sum() for k in shared}
    for k, w in weights(model).items():
        np.testing.assert_allclose(w, shared[k], atol=1e-6, err_msg=k)
        assert k == "level.weight" or np.abs(w).max() > 1e-3


def test_a_mean_halfway_between_two_numbers_falls_where_the_plain_one_does() -> None:
    """Weighed by rows over a power of two a mean of changes is exact; a control: by shares of all rows it is not."""
    rows, g = [620, 600, 680, 700, 600], np.random.default_rng(0)
    w = (1e-3 * g.standard_normal(200_000)).astype(np.float32)
    after = [w + (1e-3 * g.standard_normal(w.size)).astype(np.float32) for _ in rows]
    plain = np.zeros(w.size)
    for n, a in zip(rows, after, strict=True):
        plain += n * a.astype(np.float64)
    wrong = {}
    for name, counts in (("by a power of two", weight_of), ("shares", lambda n, of: n / of)):
        change, total = np.zeros(w.size), 0.0
        for n, a in zip(rows, after, strict=True):
            change += (a.astype(np.float64) - w) * counts(n, sum(rows))
            total += counts(n, sum(rows))
        moved = (w.astype(np.float64) + change / total).astype(np.float32)
        wrong[name] = int((moved != (plain / sum(rows)).astype(np.float32)).sum())
    assert wrong["by a power of two"] == 0 < wrong["shares"]


@pytest.mark.parametrize(
    ("rows", "of", "expected"), [(3, 4, 0.75), (3, 5, 0.375), (1, 1, 1.0), (700, 3200, 700 / 4096)]
)
def test_what_a_change_counts(rows: int, of: int, expected: float) -> None:
    assert weight_of(rows, of) == expected


def test_one_site_with_a_kept_optimiser_is_plain_training(fold: Fold) -> None:
    """Lightning's own loop, DrugResponse's own optimiser and schedule, nothing of the federation."""
    parameters = PARAMS | STILL | {"epochs": 3}
    model = fit(held(fold, 1), parameters=parameters, local_epochs=1, keep_optimizer=True, least=1)
    site = held(fold, 1)[0]
    started = fit([site], parameters=parameters, local_epochs=1, least=1)  # only for the shared preparation
    local = site.memory[_network_local.MEMORY]
    plain: Any = predictors.make("drug_response", **parameters)
    torch.manual_seed(0)
    plain._build({m: v.shape[1] for m, v in local.x.items()}, len(local.plan.treatments), local.plan.structure.shape[1])
    plain.register_buffer("structure", torch.from_numpy(local.plan.structure), persistent=False)
    plain.sigma_ = model.sigma_
    rows = local.rows(model.closed_.offset.numpy().astype(np.float64), model.sigma_)
    loader = SubjectLoader(rows, 8, seed_of(0, "site 1"))
    train.run_lightning(plain, loader, epochs=3, survive=train.Survive(None), accelerator="cpu")
    for k, w in weights(plain).items():
        np.testing.assert_allclose(weights(model)[k], w, atol=2e-6, err_msg=k)
    fresh = weights(started)["hidden.weight"]
    assert np.abs(fresh - weights(plain)["hidden.weight"]).max() > 1e-3  # an optimiser begun anew is another training


@pytest.mark.parametrize("steps", [7, 10, 36])
def test_the_schedule_is_torchs_one_cycle(steps: int) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], 1.0)
    warm = 0.1 if steps != 10 else 0.1 - 1e-9  # torch divides by a warm-up of no steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, pct_start=warm)
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert one_cycle(step, steps) == pytest.approx(
            (group["lr"], group["betas"][0]), abs=1e-12 if steps != 10 else 1e-8
        )
        optimizer.step()
        if step < steps - 1:
            schedule.step()


def test_three_sites_start_where_one_with_all_rows_does(fold: Fold, kept: Any) -> None:
    one = fit(held(fold, 1), least=1, rounds=1)
    study, everyone = fold.study, sorted(fold.test["subject"].unique())
    planes = []
    for model in (one, kept[0]):
        c = model.closed_
        known, _, bits, _ = c.treatments_of(study, c.treatments)
        planes.append(c.predict(*c.features(study, everyone), known, bits)[1])
    np.testing.assert_allclose(planes[0], planes[1], atol=1e-4)
    assert planes[0].std(0).min() > 1e-3
    assert one.sigma_ == pytest.approx(kept[0].sigma_, rel=1e-6)
    assert one.closed_.penalty.item() == pytest.approx(kept[0].closed_.penalty.item())


def test_half_widths_rest_on_the_residuals_that_stayed_at_the_sites(kept: Any) -> None:
    model, _, sites, _ = kept
    local = [s.memory[_network_local.MEMORY] for s in sites]
    size = np.concatenate([x.residual[1] for x in local])
    who = np.concatenate([x.drug for x in local])
    rms = np.array([np.sqrt((size[who == t] ** 2).mean()) for t in range(len(model.closed_.treatments))])
    times = HalfWidths.fit(size / rms[who], np.zeros(len(size))).pooled
    together = HalfWidths.fit(size, np.zeros(len(size))).pooled
    np.testing.assert_allclose(model.widths_.values, times * rms, rtol=0.05)
    assert model.widths_.pooled == pytest.approx(together, rel=0.05)


# --- a model like any other ------------------------------------------------------------------------------------------


def test_what_comes_back_is_a_drug_response_that_names_no_subject(fold: Fold, kept: Any) -> None:
    assert type(kept[0]) is DrugResponse
    model: Any = kept[0]
    told = predict.predictions(model, fold)
    again: Any = predictors.restore("drug_response", json.loads(json.dumps(model.config())), model.arrays())
    assert predict.predictions(again, fold).equals(told)
    assert not any(s in json.dumps(model.config()) for s in fold.train["subject"].unique())
    opened = score.unseal(told, fold).filter(pl.col("abstained").is_null())
    covered = opened.select(pl.col("observed").is_between("low", "high").mean()).item()
    assert 0.8 <= covered <= 0.99
    naive = predictors.make("drug_mean").fit(fold)
    base = score.unseal(predict.predictions(naive, fold), fold)
    rmse = [float(np.sqrt(((f["predicted"] - f["observed"]) ** 2).mean())) for f in (opened, base)]  # type: ignore[arg-type]
    assert rmse[0] < 0.95 * rmse[1]
    assert model.attributions(3).height == 3 * 3 * len(model.closed_.treatments)


def test_a_curve_has_each_round_and_falls(fold: Fold) -> None:
    model = fit(held(fold), rounds=6)
    held_out = [v for _, name, v in model.points_ if name == "held-out RMSE"]
    assert len(held_out) == 7
    assert held_out[-1] < held_out[0] - 0.02
    assert [r["took"] for r in model.rounds_] == [["site 1", "site 2", "site 3"]] * 6


def test_another_name_of_a_treatment_at_one_site_gets_its_numbers(fold: Fold) -> None:
    sites = held(fold)
    name = {"caffeine": "coffee"}
    sites[1].fold = replace(sites[1].fold, train=sites[1].fold.train.with_columns(pl.col("treatment").replace(name)))
    model = fit(sites, rounds=1)
    pairs = pl.DataFrame({"subject": [fold.test["subject"][0]] * 2, "treatment": ["caffeine", "coffee"]})
    told = model.predict(fold.study, pairs)
    assert told["abstained"].null_count() == 2
    assert told["predicted"][0] == pytest.approx(told["predicted"][1], abs=1e-9)


# --- what leaves -----------------------------------------------------------------------------------------------------


def test_a_member_never_learns_from_its_part_at_any_site(fold: Fold) -> None:
    """One person's values are changed beyond measure: the member of the person's part must not notice, others must."""
    site = held(fold)[0]
    there, asked = recorded(held(fold))
    fit(there, rounds=1)
    ask = next(a for a in asked if a.purpose == "network_round")
    train_ = site.fold.train
    person = train_["person"][0]
    spoilt = train_.with_columns(value=pl.when(pl.col("person") == person).then(50.0).otherwise(pl.col("value")))
    clean, other = (replace(site.fold, train=t) for t in (train_, spoilt))
    replies = [Site("site 1", f).answer(ask) for f in (clean, other)]
    part = int(_network_local.part_of([person], 2, 0)[0])
    name = "change.hidden.weight"
    moved = np.abs(replies[0].arrays[name] - replies[1].arrays[name]).max(axis=(1, 2))
    assert moved[part] == 0
    assert moved[1 - part] > 1e-6


@pytest.mark.slow
def test_every_answer_passes_the_gate_of_a_site(fold: Fold, tmp_path: Any) -> None:
    sites = held(fold)
    for i, site in enumerate(sites):
        site.outgoing = gate.steps(tmp_path / str(i))
    model = fit(sites, rounds=2)
    assert [len(r["took"]) for r in model.rounds_] == [3, 3]
    # the server sees each part: most mutations have too few carriers at some site for their number to be told
    told = " ".join(f"{k}: {v}" for k, v in model.left_out_.items())
    assert "mutation" in told and ("carriers" in told or "carry" in told)


@pytest.mark.slow
def test_sums_that_nobody_sees_give_the_same_network(fold: Fold, kept: Any) -> None:
    from workbench.federated.secure import server

    model = fit(server.Secure(Inline(held(fold))), least=3)
    for k, w in weights(kept[0]).items():
        np.testing.assert_allclose(weights(model)[k], w, atol=1e-4, err_msg=k)


def test_a_local_head_is_never_sent_and_differs_by_site(fold: Fold) -> None:
    own = ["identity", "level", "shape"]
    there, asked = recorded(held(fold))
    model = fit(there, own=own)
    sent = {n for a in asked for n in a.arrays if n.startswith("weights.")}
    replies = [s.answer(next(a for a in asked if a.purpose == "network_round")) for s in held(fold)]
    sent |= {n for r in replies for n in r.arrays if n.startswith("change.")}
    assert sent
    assert not [n for n in sent for o in own if o in n]
    heads = [weights(personal.at_site(s, model))["identity.weight"] for s in there.sites.values()]
    assert np.abs(heads[0] - heads[1]).max() > 1e-4
    body = [weights(personal.at_site(s, model))["hidden.weight"] for s in there.sites.values()]
    np.testing.assert_array_equal(body[0], body[1])


def test_fine_tuning_changes_what_it_may_and_fits_the_site(fold: Fold, kept: Any) -> None:
    model, site = kept[0], kept[2][0].fold
    before = weights(model)
    tuned = personal.fine_tuned(model, site, epochs=8, learning_rate=2e-2, only=["identity", "level"])
    after = weights(tuned)
    assert sorted(k for k in before if not np.array_equal(before[k], after[k])) == ["identity.weight", "level.weight"]
    for k, w in weights(model).items():
        np.testing.assert_array_equal(w, before[k])  # the shared one is left as it was
    error = []
    for m in (model, tuned):
        told = m.predict(site.study, site.train)
        error.append(float(((told["predicted"] - site.train["value"]) ** 2).mean()))
    assert error[1] < error[0]
    pulled = personal.fine_tuned(model, site, epochs=8, learning_rate=2e-2, only=["identity", "level"], proximal=100.0)
    far, near = (np.abs(weights(m)["identity.weight"] - before["identity.weight"]).sum() for m in (tuned, pulled))
    assert near < 0.5 * far


# --- what a site keeps between rounds --------------------------------------------------------------------------------


def test_what_a_site_keeps_is_put_in_anew_each_round(fold: Fold, kept: Any) -> None:
    """Planted: the kept network is spoilt in every weight, gradient and setting; the next answer must not notice."""
    first, second = [a for a in kept[3] if a.purpose == "network_round"][:2]
    clean, spoilt = held(fold)[:2], held(fold)[:2]
    for site in [*clean, *spoilt]:
        site.answer(first)
    for site in spoilt:
        network_ = site.memory[_network_local.MEMORY]._network
        assert network_.optimizer_ is None and network_.kept_ is None and network_.shared_ == []
        for parameter in network_.parameters():
            assert parameter.grad is None
            parameter.data.fill_(torch.nan)
            parameter.grad = torch.full_like(parameter, 7.0)
        network_.train()
        network_.sigma_ = torch.nan
    for a, b in zip(clean, spoilt, strict=True):
        left, right = a.answer(second).arrays, b.answer(second).arrays
        assert np.abs(left["change.hidden.weight"]).max() > 0
        for name, array in left.items():
            np.testing.assert_array_equal(array, right[name], err_msg=name)


def test_two_federations_of_unlike_widths_in_turn_end_as_each_alone(fold: Fold, kept: Any) -> None:
    """The same sites asked by both: a network of the one is never used for the other, nor its rows."""
    wide = {"parameters": PARAMS | {"width": 12}, "rounds": 2}
    alone = fit(held(fold), **wide)
    sites = held(fold)
    asks = [a for a in kept[3] if a.purpose == "network_round"]
    there = Inline(sites)

    class Both(Inline):
        def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
            if ask.purpose == "network_round":  # the other one's first round in between: it came with the plan
                for site in sites:
                    assert site.answer(asks[0]).refused is None
            return there.ask(ask, of)

    both = fit(Both(sites), **wide)
    assert [len(r["took"]) for r in both.rounds_] == [3, 3]
    same(both, alone)
    assert weights(both)["hidden.weight"].shape != weights(kept[0])["hidden.weight"].shape


def test_layers_of_its_own_come_before_what_is_kept(fold: Fold) -> None:
    """A site that keeps layers has none of its own in the first round: then a network is built anew."""
    there, asked = recorded(held(fold))
    fit(there, own=["identity"], rounds=2)
    first = next(a for a in asked if a.purpose == "network_round")
    site, other = held(fold)[0], held(fold)[0]
    site.answer(first)
    local = site.memory[_network_local.MEMORY]
    local.own, local.trained, local.answered = {}, -1, None  # as after a restart, but with the network still there
    for parameter in local._network.parameters():
        parameter.data.fill_(torch.nan)
    left, right = site.answer(first).arrays, other.answer(first).arrays
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


def test_an_ask_is_known_again_by_every_number(kept: Any) -> None:
    ask = next(a for a in kept[3] if a.purpose == "network_round")
    said = _network_local.Asked(ask)
    again = replace(ask, arrays={k: a.copy() for k, a in ask.arrays.items() if not k.startswith("plan.")}, round=99)
    assert said == _network_local.Asked(again)
    for name in ("weights.hidden.weight", "offset", "sigma"):
        arrays = {k: a.copy() for k, a in ask.arrays.items()}
        arrays[name].flat[-1] = np.nextafter(arrays[name].flat[-1], np.inf)
        assert said != _network_local.Asked(replace(ask, arrays=arrays)), name
    assert said != _network_local.Asked(replace(ask, values=dict(ask.values) | {"number": 1}))
    assert said != "a text"


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, -2])
def test_a_killed_server_goes_on_bitwise(fold: Fold, kept: Any, number: int) -> None:
    model, states, _, _ = kept
    resumed = fit(held(fold), state=states[number])  # other processes: the sites remember nothing
    same(resumed, model)
    assert resumed.points_ == model.points_


class Flaky(Inline):
    """Sites of which some are gone at some rounds of training; ``forget`` empties their memory once."""

    def __init__(self, sites: Sequence[Site], gone: Mapping[int, Sequence[str]], forget: bool = False) -> None:
        super().__init__(sites)
        self.gone, self.forget, self.number = gone, forget, -1

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        if ask.purpose != "network_round":
            return super().ask(ask, of)
        new, self.number = ask.values["number"] != self.number, int(str(ask.values["number"]))
        gone = self.gone.get(self.number, ())
        if self.forget:
            for name in gone if new else ():
                self.sites[name].memory.clear()
            gone = ()
        told = super().ask(ask, [n for n in self.names if n not in gone])
        return Gathered(told.replies, dict(told.lost) | dict.fromkeys(gone, "gone"))


def test_a_site_that_stops_is_survived_and_named(fold: Fold, kept: Any) -> None:
    model = fit(Flaky(held(fold), {1: ["site 2"]}))
    assert [r["lost"] for r in model.rounds_] == [{}, {"site 2": "gone"}, {}]
    assert model.rounds_[1]["took"] == ["site 1", "site 3"]
    assert np.isfinite(weights(model)["hidden.weight"]).all()
    assert np.abs(weights(model)["hidden.weight"] - weights(kept[0])["hidden.weight"]).max() > 1e-5


def test_a_site_that_came_back_without_memory_is_told_the_plan_and_misses_nothing(fold: Fold, kept: Any) -> None:
    model = fit(Flaky(held(fold), {1: ["site 3"]}, forget=True))
    assert [len(r["took"]) for r in model.rounds_] == [3, 3, 3]
    same(model, kept[0])


def test_the_same_ask_twice_is_one_training(fold: Fold, kept: Any) -> None:
    asked = [a for a in kept[3] if a.purpose == "network_round"]
    site = held(fold)[0]
    first = site.answer(asked[0])
    moved = site.memory[_network_local.MEMORY].trained
    again = site.answer(asked[0])
    assert moved == site.memory[_network_local.MEMORY].trained == 0
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    other = site.answer(replace(asked[1]))
    assert np.abs(other.arrays["change.hidden.weight"] - first.arrays["change.hidden.weight"]).max() > 0


def test_too_few_sites_end_the_training(fold: Fold) -> None:
    with pytest.raises(TooFewSites, match="site 2: gone"):
        fit(Flaky(held(fold), {1: ["site 1", "site 2"]}))


def test_a_robust_rule_stands_where_the_mean_does_not(fold: Fold, kept: Any) -> None:
    def flipped(updates: Sequence[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        return [{k: -50 * a if i == 0 else a for k, a in u.items()} for i, u in enumerate(updates)]

    plain = fit(held(fold), combine=robust.make("mean"))
    for k, w in weights(kept[0]).items():
        np.testing.assert_allclose(weights(plain)[k], w, atol=1e-6)
    clean = weights(kept[0])["hidden.weight"]
    away = {}
    for name in ("mean", "median"):
        rule = robust.make(name, bad=0 if name == "mean" else 1)
        model = fit(held(fold), rounds=2, combine=lambda u, w, n, f, rule=rule: rule(flipped(u), w, n, f))
        away[name] = float(np.abs(weights(model)["hidden.weight"] - clean).max())
    assert away["median"] < 0.1 * away["mean"]


def test_held_apart_tissues_are_refused_by_the_sites(_module_home: object) -> None:
    study = toy.write("tissues", subjects=60)
    fold = Split.make(study, "unseen tissue", endpoint="ln_ic50", folds=4).fold(0)
    with pytest.raises(TooFewSites, match="tissues apart"):
        fit(held(fold), rounds=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"local_epoch": 2}, "local_epochs"),
        ({"rounds": 0}, "at least 1"),
        ({"parameters": {"widht": 3}}, "width"),
        ({"modality": "methylation"}, "not among"),
    ],
)
def test_a_setting_that_cannot_be_is_named(fold: Fold, given: dict[str, Any], said: str) -> None:
    with pytest.raises(network.NetworkError, match=said):
        fit(held(fold), **given)
