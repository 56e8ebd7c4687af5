"""One person's values worked out of what a site sends: exact without protection, near the mean person with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests import toy
from tests.workbench.test_federated_network import PARAMS, STILL, recorded
from workbench.federated import sharing
from workbench.federated.attacks import inversion
from workbench.federated.gate import outgoing as gate
from workbench.federated.messages import Ask, Value
from workbench.federated.network import fit as network
from workbench.federated.network import local as _local
from workbench.federated.policy import Policy
from workbench.federated.robust.rehearsal import Plan, Plane
from workbench.federated.secure.server import Secure
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.splits import Fold, Split

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

OPEN = Policy(minimum_rows=1, minimum_cell=1, minimum_subjects=1)
ONE = "subject 13"


@pytest.fixture(scope="module")
def fold(_module_home: object) -> Fold:
    return Split.make(toy.write(subjects=90), "unseen subject", endpoint="ln_ic50", folds=5).fold(0)


@pytest.fixture(scope="module")
def held(fold: Fold) -> dict[str, list[str]]:
    """One site with one person, and two with a usual number of them."""
    assert ONE in set(fold.train["subject"])
    rest = sharing.at_random(fold, 2)
    return {"alone": [ONE], **{n: [s for s in names if s != ONE] for n, names in rest.items()}}


def sites(fold: Fold, held: Mapping[str, list[str]], policy: Policy = OPEN) -> list[Site]:
    return [Site(name, sharing.local(fold, own), policy) for name, own in held.items()]


# --- a linear step ---------------------------------------------------------------------------------------------------


def linear(fold: Fold) -> tuple[Ask, Plane]:
    """A step of 12 axes from 0; responses are taken as they are."""
    plane = Plane.of(fold, Plan(axes=12))
    arrays = {"weights": np.zeros((13, len(plane.treatments))), "axes": plane.axes, "mean": plane.mean,
              "sd": plane.sd, "decay": plane.decay}  # fmt: skip
    values: dict[str, Value] = {"treatments": plane.treatments, "modality": "expression", "plane": plane.name,
                                "steps": 1, "step": 1.0}  # fmt: skip
    return Ask("linear_step", 0, arrays, values), plane


def truth(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Features on the axes and responses (NaN: none) that the site has turned its rows into."""
    _, z, y, there, _ = site.memory["linear_step"]
    return z[0, :-1], np.where(there, y, np.nan)[0]


def test_a_linear_step_of_one_person_gives_features_and_responses_away(fold: Fold, held: Any) -> None:
    ask, _ = linear(fold)
    site = sites(fold, held)[0]
    change = site.answer(ask).arrays["change"]
    z, y = truth(site)
    features, level = inversion.of_linear(change)
    found = inversion.Recovered(features, z, np.zeros_like(z))
    assert found.correlation > 0.9999 and found.error < 1e-6
    there = np.isfinite(y)
    factor = there.sum() / len(y)  # how many were measured stands beside the answer
    assert np.allclose(level[there] * factor, y[there], rtol=1e-9) and not level[~there].any()
    told = found.figure("linear step", "its change")
    assert told.works and told.low > 0.99 and told.chance == 0.0 and told.n == 12  # type: ignore[operator]


def test_with_two_other_sites_in_the_sum_or_noise_little_is_left(fold: Fold, held: Any) -> None:
    ask, _ = linear(fold)
    there = sites(fold, held)
    replies = Inline(there).ask(ask).replies
    z, _ = truth(there[0])
    mean = np.average([r.arrays["change"] for r in replies], axis=0, weights=[r.rows for r in replies])
    together = inversion.Recovered(inversion.of_linear(mean)[0], z, np.zeros_like(z))
    assert abs(together.correlation) < 0.6 and together.error > 0.9
    own = next(r for r in replies if r.site == "alone").arrays["change"]
    length = float(np.linalg.norm(own))
    noised = [inversion.privatise({"change": own}, length, 1.0)["change"] for _ in range(8)]
    left = [inversion.Recovered(inversion.of_linear(c)[0], z, np.zeros_like(z)) for c in noised]
    assert np.mean([abs(f.correlation) for f in left]) < 0.7
    assert np.mean([f.error for f in left]) > 0.8
    # clipping alone hides nothing: it only shortens
    clipped = inversion.privatise({"change": own}, length / 10, 0.0)["change"]
    assert inversion.Recovered(inversion.of_linear(clipped)[0], z, np.zeros_like(z)).correlation > 0.9999


def test_a_policy_that_is_not_lowered_refuses_one_person(fold: Fold, held: Any, tmp_path: Any) -> None:
    ask, _ = linear(fold)
    policy = Policy(minimum_rows=1, minimum_subjects=10, minimum_cell=1)
    site = Site("alone", sharing.local(fold, held["alone"]), policy, gate.steps(tmp_path))
    assert "10 persons" in str(site.answer(ask).refused)
    assert "20 training rows" in str(Site("alone", site.fold, Policy()).answer(ask).refused)


# --- a round of a network --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def round_(fold: Fold) -> Ask:
    """The first round's ask of a training by three usual sites, one epoch a round, no drop-out."""
    usual = [Site(n, sharing.local(fold, s), Policy()) for n, s in sharing.at_random(fold, 3).items()]
    there, asked = recorded(usual)
    settings = {"rounds": 1, "local_epochs": 1, "axes": 20, "least": 2, "parameters": PARAMS | STILL}
    network.fit(there, settings)
    return next(a for a in asked if a.purpose == "network_round")


def of(site: Site) -> Any:
    return site.memory[_local.MEMORY]


def own(site: Site, ask: Ask) -> dict[str, np.ndarray]:
    reply = site.answer(ask)
    assert reply.refused is None, reply.refused
    return {k: a / reply.arrays["share"][0] for k, a in reply.arrays.items() if k.startswith("change.")}


def test_one_step_of_adam_gives_little_more_than_signs(fold: Fold, held: Any, round_: Ask) -> None:
    site = sites(fold, held)[0]
    changes = own(site, round_)
    x = of(site).x["expression"][0].astype(np.float64)
    found = inversion.of_round(changes, round_.arrays, of(site).plan.params, 1, "expression")
    told = inversion.Recovered(found, x, np.zeros_like(x))
    signs = inversion.Recovered(np.sign(x), x, np.zeros_like(x))
    assert told.correlation > 0.6 and (np.sign(found) == np.sign(x)).mean() > 0.95
    assert told.correlation == pytest.approx(signs.correlation, abs=0.25)


def test_a_secure_sum_of_three_sites_hides_it(fold: Fold, held: Any, round_: Ask) -> None:
    there = sites(fold, held)
    sums, gathered = Secure(Inline(there), least=3).total(round_, 3)
    assert len(gathered.replies) == 3
    mean = {k: a / sums["share"][0] for k, a in sums.items() if k.startswith("change.")}
    x = of(there[0]).x["expression"][0].astype(np.float64)
    found = inversion.of_round(mean, round_.arrays, of(there[0]).plan.params, 1, "expression")
    together = inversion.Recovered(found, x, np.zeros_like(x))
    low, _ = together.interval()
    assert low < 0.2 and abs(together.correlation) < 0.5


def gradient(fold: Fold, held: Any, round_: Ask) -> tuple[Any, list[np.ndarray], Any]:
    """A network's gradient on one person, as the server of plain gradient averaging would have it."""
    import torch

    site = sites(fold, held)[0]
    own(site, round_)
    local = of(site)
    module = local.module(float(round_.arrays["sigma"][0]))
    made = inversion.gradient_of(module, local.presence[0], int(local.part[0]))
    target = torch.from_numpy(np.random.default_rng(3).normal(size=len(local.plan.treatments)).astype(np.float32))
    x = [torch.from_numpy(local.x[m][:1].astype(np.float32)) for m in module.fusion.names]
    return made, [g.detach().numpy() for g in made(*x, target)], (module, local)


def test_a_plain_gradient_gives_the_person_exactly(fold: Fold, held: Any, round_: Ask) -> None:
    """dW / db of the first layer, whatever lies above it."""
    _, sent, (module, local) = gradient(fold, held, round_)
    named = dict(zip([n for n, _ in module.named_parameters()], sent, strict=True))
    x = local.x["expression"][0].astype(np.float64)
    w, b = (named[f"fusion.encoders.expression.{k}"] for k in ("weight", "bias"))
    found = inversion.Recovered(inversion.of_first_layer(w, b), x, np.zeros_like(x))
    assert found.correlation > 0.999 and found.error < 0.01
    private = inversion.privatise({"w": w, "b": b}, float(np.sqrt((w**2).sum() + (b**2).sum())), 1.0)
    lost = inversion.Recovered(inversion.of_first_layer(private["w"], private["b"]), x, np.zeros_like(x))
    assert abs(lost.correlation) < 0.6 and lost.error > 0.8


def test_matching_gradients_finds_it_too(fold: Fold, held: Any, round_: Ask) -> None:
    made, sent, (module, local) = gradient(fold, held, round_)
    names = module.fusion.names
    shapes = [(1, local.x[m].shape[1]) for m in names] + [(len(local.plan.treatments),)]
    found = inversion.matched(made, sent, shapes, steps=300)
    x = local.x["expression"][0].astype(np.float64)
    told = inversion.Recovered(found[names.index("expression")][0].astype(np.float64), x, np.zeros_like(x))
    assert told.correlation > 0.8
    rng = np.random.default_rng(8)
    length = float(np.sqrt(sum((s**2).sum() for s in sent)))
    noisy = [(s + rng.normal(0, length, s.shape)).astype(np.float32) for s in sent]  # noise multiplier 1
    lost = inversion.matched(made, noisy, shapes, steps=50)
    told = inversion.Recovered(lost[names.index("expression")][0].astype(np.float64), x, np.zeros_like(x))
    assert abs(told.correlation) < 0.6


def test_nothing_sent_is_nothing_to_work_out() -> None:
    with pytest.raises(ValueError, match="nothing was changed"):
        inversion.of_linear(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="nothing to work out"):
        inversion.of_first_layer(np.zeros((2, 3, 4)), np.zeros((2, 1, 4)))
