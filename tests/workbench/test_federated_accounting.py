"""What noisy releases cost: beside opacus' own accountants, the exact formula, and a Monte-Carlo count."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from workbench.federated.private import accounting
from workbench.federated.private.accounting import PrivacyError, Release, epsilon, noise_for, strength

DELTA = 1e-5


def opacus(kind: str, *history: tuple[float, float, int], **told: float) -> float:
    accountants = pytest.importorskip("opacus.accountants")
    account = getattr(accountants, kind)()
    account.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(account.get_epsilon(DELTA, **told))


@pytest.mark.parametrize(
    "history", [[(1.0, 0.01, 1000)], [(1.2, 0.05, 200), (2.0, 0.1, 50)], [(1.0, 0.02, 300), (3.0, 1.0, 2)]]
)
def test_a_sampled_run_costs_what_opacus_own_prv_accountant_says_or_more(history: list) -> None:
    found = epsilon([Release(*h) for h in history], DELTA)
    theirs = opacus("PRVAccountant", *history)
    assert found >= 0.99 * theirs and found <= opacus("RDPAccountant", *history)
    assert found == pytest.approx(theirs, rel=0.01)


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_a_full_run_is_exact_and_within_a_percent_of_opacus(noise: float) -> None:
    found = epsilon([Release(noise * math.sqrt(3), steps=3)], DELTA)
    assert found == pytest.approx(epsilon([Release(noise)], DELTA), rel=1e-6)  # three of noise sqrt(3) are one of 1
    assert found >= 0.99 * opacus("PRVAccountant", (noise, 1.0, 1), eps_error=0.002)
    assert found <= opacus("PRVAccountant", (noise, 1.0, 1)) and found <= opacus("RDPAccountant", (noise, 1.0, 1))


def test_the_exact_formula_agrees_with_a_count() -> None:
    """delta = E max(0, 1 - e^(epsilon - L)), L the privacy loss: N(mu^2 / 2, mu^2)."""
    mu, at = 1.5, 2.0
    loss = np.random.default_rng(0).normal(mu**2 / 2, mu, 2_000_000)
    counted = np.maximum(0.0, -np.expm1(at - loss)).mean()
    assert accounting.gaussian(mu, counted) == pytest.approx(at, rel=0.01)
    assert accounting.gaussian(strength(at, DELTA), DELTA) == pytest.approx(at, rel=1e-6)
    assert accounting.gaussian(strength(at, DELTA), DELTA) <= at


def test_noise_is_the_least_that_keeps_to_the_budget() -> None:
    before = [Release(6.0), Release(8.0, steps=2)]
    noise = noise_for(2.0, DELTA, 1.0, 3, before)
    assert epsilon([*before, Release(noise, steps=3)], DELTA) <= 2.0
    assert epsilon([*before, Release(0.99 * noise, steps=3)], DELTA) > 2.0
    with pytest.raises(PrivacyError, match="nothing of epsilon"):
        noise_for(0.5, DELTA, 1.0, 1, before)


def test_a_site_counts_for_a_person_at_half_its_noise_once_persons_are_told_of() -> None:
    sites = [Release(4.0, unit="site")]
    assert epsilon(sites, DELTA) == epsilon([Release(4.0)], DELTA)
    mixed = epsilon([*sites, Release(1e9)], DELTA)
    assert mixed == pytest.approx(epsilon([Release(2.0)], DELTA), rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"noise": 0.0}, {"noise": 1.0, "rate": 0.0}, {"noise": 1.0, "steps": 0}, {"noise": 1.0, "unit": "row"}]
)
def test_what_cannot_be_is_refused_by_name(wrong: dict) -> None:
    with pytest.raises(PrivacyError, match=[*wrong][-1]):
        Release(**wrong)


def test_nothing_told_costs_nothing_and_delta_is_checked() -> None:
    assert epsilon([], DELTA) == 0.0
    with pytest.raises(PrivacyError, match="delta"):
        epsilon([Release(1.0)], 0.0)
