"""Private trainings carried by Flower: the numbers of one process, charged once a message, ended where spent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import toy
from workbench.federated import spec, task
from workbench.federated.gate import ledger
from workbench.federated.gate import outgoing as gate
from workbench.federated.gate.budget import spent
from workbench.federated.gate.ledger import Ledger
from workbench.federated.private import accounting
from workbench.federated.private.accounting import Release
from workbench.federated.simulation import simulate
from workbench.federated.sites import TooFewSites

pytest.importorskip("flwr")
pytest.importorskip("opacus")
pytestmark = toy.lightning_warnings

NAMES = ("site 1", "site 2", "site 3")
ENOUGH = 2e4  # epsilon, for three sites of 24 persons
STAGES = ["private_moments", "private_moments", "private_gram", "private_cross", "private_errors"]


def federation(method: str, own: dict[str, Any], **more: Any) -> spec.Federation:
    predictor = "ridge" if method == "private_ridge" else "drug_response"
    parameters = {"members": 2, "width": 6, "rank": 4, "subjects": 8} if predictor == "drug_response" else {}
    return spec.of({
        "name": "private", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "only": [0],
        "predictors": [predictor], "parameters": {predictor: parameters},
        "federation": {"method": method, "least": 3, "sites": {"random": 3}, "gated": True, "settings": own, **more},
    })  # fmt: skip


def ridge(epsilon: float = ENOUGH, allowed: float = ENOUGH, **more: Any) -> spec.Federation:
    """Of three sites, each of which allows ``allowed`` in all."""
    policy = {"epsilon": allowed, "minimum_subjects": 2}
    return federation("private_ridge", {"epsilon": epsilon, "sketch": 40, **more}, policy=policy)


def network(**more: Any) -> spec.Federation:
    own = {
        "privacy": "person",
        "rate": 1.0,
        "local_steps": 2,
        "persons": 20,
        "public": "open to all",
        "warm": 1,
        **more,
    }
    return federation("network", own, rounds=2, policy={"epsilon": 200.0, "minimum_subjects": 2})


def charges(told: spec.Federation, site: str) -> list[Any]:
    return list(Ledger(task.book(told, 0, site) / gate.BOOK).charges())


def test_a_private_ridge_through_flower_is_the_one_of_one_process_and_is_charged_once_a_message() -> None:
    toy.write(subjects=90)
    told = ridge()
    carried = simulate.fitted(told, 0, "flower")
    assert sorted({e.purpose for e in carried.watched.exchanges}) == sorted({*STAGES, "private_schema"})
    paid = {n: charges(told, n) for n in NAMES}
    for n in NAMES:
        assert [c["purpose"] for c in paid[n]] == STAGES
        assert spent(paid[n], 1e-5).epsilon == pytest.approx(carried.predictor.spent_.epsilon)
        assert ledger.verify(task.book(told, 0, n) / gate.BOOK).holds
    # the same questions to sites with the same keys: the same noise, and nothing to pay
    assert 0.999 * ENOUGH < carried.predictor.spent_.epsilon <= ENOUGH
    here = simulate.fitted(told, 0, "inline")
    for name, array in here.predictor.arrays().items():
        assert np.array_equal(array, carried.predictor.arrays()[name]), name
    assert {n: charges(told, n) for n in NAMES} == paid


def test_a_spent_budget_ends_a_training_through_flower_and_says_whose_and_what_to_do() -> None:
    toy.write(subjects=90)
    short = ridge(allowed=0.5 * ENOUGH)
    with pytest.raises(TooFewSites) as caught:
        simulate.fitted(short, 0, "flower")
    for n in NAMES:
        assert f"{n}: policy: budget spent" in str(caught.value)
        before = charges(short, n)
        assert 0 < len(before) < len(STAGES) and spent(before, 1e-5).epsilon <= 0.5 * ENOUGH
    assert "Ask for a smaller epsilon" in str(caught.value) and "policy.toml" in str(caught.value)
    again = {n: charges(short, n) for n in NAMES}
    with pytest.raises(TooFewSites, match="budget spent"):  # asked once more it neither pays nor gets further
        simulate.fitted(short, 0, "flower")
    assert {n: charges(short, n) for n in NAMES} == again


def test_a_private_network_through_flower_learns_and_costs_what_it_does_in_one_process() -> None:
    toy.write(subjects=90)
    toy.write("open to all", seed=1, subjects=30)
    made = {}
    for engine in ("flower", "inline"):
        told = network(
            noise=1.0, learning_rate=0.1 if engine == "flower" else 0.1000001
        )  # a plan, and books, of its own
        fitted = simulate.fitted(told, 0, engine)
        made[engine] = fitted.predictor
        assert {e.purpose for e in fitted.watched.exchanges} == {"network_private_round"}
        for n in NAMES:
            assert [c["releases"] for c in charges(told, n)] == [[[1.0, 1.0, 2, "person"]]] * 2
            assert spent(charges(told, n), 1e-5).epsilon == made[engine].spent_.epsilon
    one, other = made["flower"], made["inline"]
    assert one.spent_ == other.spent_ and one.spent_.epsilon == accounting.epsilon([Release(1.0, 1.0, 4)], 1e-5)
    a, b = dict(one.arrays()), dict(other.arrays())
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
    moved = [k for k in a if not np.array_equal(a[k], b[k])]
    assert moved and all(np.isfinite(a[k]).all() for k in moved)  # other noise, drawn by the sites


def test_a_network_whose_sites_have_spent_their_budgets_ends_with_the_rounds_done_through_flower() -> None:
    toy.write(subjects=90)
    toy.write("open to all", seed=1, subjects=30)
    one, two = (accounting.epsilon([Release(1.0, 1.0, 2 * n)], 1e-5) for n in (1, 2))
    told = network(noise=1.0)
    plain = told.plain()
    plain["federation"]["policy"]["epsilon"] = (one + two) / 2
    told = spec.of(plain)
    made = simulate.fitted(told, 0, "flower").predictor
    assert made.ended_.startswith("after 1 of 2 rounds") and made.spent_.epsilon == one
    for n in NAMES:
        assert f"{n}: policy: budget spent" in made.ended_ and len(charges(told, n)) == 1
    assert "Ask for a smaller epsilon" in made.ended_


def test_a_private_network_under_next_to_no_noise_is_the_same_through_flower() -> None:
    toy.write(subjects=90)
    toy.write("open to all", seed=1, subjects=30)
    still = {"dropout": 0.0, "noise": 0.0, "drop_modality": 0.0}
    made = []
    for engine in ("flower", "inline"):
        told = network(noise=1e-6, local_steps=1)
        told = spec.of(_with(told, still))
        made.append(dict(simulate.fitted(_unbounded(told), 0, engine).predictor.arrays()))
    start, carried = made
    for k, array in start.items():
        np.testing.assert_allclose(carried[k], array, atol=1e-4, err_msg=k)


def _with(told: spec.Federation, parameters: dict[str, Any]) -> dict[str, Any]:
    plain = told.plain()
    plain["parameters"]["drug_response"] |= parameters
    return plain


def _unbounded(told: spec.Federation) -> spec.Federation:
    plain = told.plain()
    plain["federation"]["policy"] = {"minimum_subjects": 2}
    return spec.of(plain)
