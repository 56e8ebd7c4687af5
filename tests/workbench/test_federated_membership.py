"""Who was trained on: attacks that must work on an over-fitted model, and must not where there is nothing to find."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from workbench import tables
from workbench.federated.attacks import figures, membership, shadows

MEMORISING = (1e-3,)  # a penalty by which a ridge goes through every point


def screen(persons: int, features: int = 60, treatments: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng([7, seed])
    x = draw.normal(size=(persons, features))
    y = x[:, :5] @ draw.normal(0, 0.5, (5, treatments)) + draw.normal(0, 1, (persons, treatments))
    y[draw.random(y.shape) < 0.1] = np.nan
    return x, y


def of(found: list[figures.Figure], attack: str, figure: str = "AUC") -> figures.Figure:
    return next(f for f in found if f.attack == f"membership, {attack}" and f.figure == figure)


@pytest.fixture(scope="module")
def memorised() -> shadows.Played:
    x, y = (a[:120] for a in screen(200))
    return shadows.run(shadows.ClosedRidge(x, y, penalties=MEMORISING), 120, models=8)


def test_an_auc_is_the_share_of_pairs_in_order_and_its_interval_is_the_bootstraps() -> None:
    member = np.array([True] * 3 + [False] * 4)
    value, low, high = figures.auc(np.array([3.0, 2.0, 2.0, 1.0, 2.0, 0.0, 0.0]), member)
    assert value == pytest.approx((4 + 3.5 + 3.5) / 12) and low < value < high <= 1
    draw = np.random.default_rng(1)
    score = draw.normal(size=400) + (np.arange(400) < 200)
    value, low, high = figures.auc(score, np.arange(400) < 200)
    assert value == pytest.approx(0.760, abs=0.05)  # Phi(1 / sqrt 2)
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)  # Hanley and McNeil 1982
    sd = np.sqrt((value * (1 - value) + 199 * (q1 - value**2 + q2 - value**2)) / 200**2)
    assert (high - low) / (2 * 1.96) == pytest.approx(sd, rel=0.15)
    rate, chance = figures.caught(np.array([5.0, 3.0, 1.0, 4.0, 2.0]), np.array([1, 1, 1, 0, 0], dtype=bool), 0.01)
    assert (rate, chance) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_a_model_that_memorised_gives_its_members_away(memorised: shadows.Played) -> None:
    found = memorised.figures()
    for attack in (membership.LOSS, membership.OFFLINE, membership.ONLINE, membership.BY_TREATMENT):
        assert of(found, attack).low > 0.9, attack  # type: ignore[operator]
        assert of(found, attack).works and of(found, attack).n == 120
    assert of(found, membership.ONLINE, "TPR at 1.0% FPR").value > 0.5


def test_of_a_model_that_saw_none_of_them_nothing_is_told(memorised: shadows.Played) -> None:
    """The same persons, features and shadows; the attacked model was trained on others."""
    errors = shadows.ClosedRidge(*screen(200), penalties=MEMORISING)(np.arange(200) >= 120)[:120]
    for attack in membership.attack(errors, memorised.member, memorised.shadows):
        if attack.figure == "AUC":
            assert attack.low < 0.5 < attack.high, attack  # type: ignore[operator]
            assert not attack.works


def test_lira_finds_what_a_plain_threshold_does_not() -> None:
    """A modest penalty, and persons of very unlike noise: hard ones err more, seen or not."""
    x, y = screen(240, features=100, seed=3)
    draw = np.random.default_rng(5)
    y += draw.normal(size=y.shape) * draw.permutation(np.linspace(0, 4, 240))[:, None]
    played = shadows.run(shadows.ClosedRidge(x, y, penalties=(10.0,)), 240, models=16)
    found = played.figures()
    plain, online, vector = (of(found, a) for a in (membership.LOSS, membership.ONLINE, membership.BY_TREATMENT))
    assert not plain.works and plain.value < 0.6  # the threshold sees who is hard to predict, not who was seen
    assert online.low > 0.8 and vector.low > 0.8  # type: ignore[operator]


def test_a_strong_penalty_is_the_better_protection() -> None:
    x, y = screen(120)
    weak, strong = (
        of(shadows.run(shadows.ClosedRidge(x, y, penalties=(p,)), 120, models=4).figures(), membership.LOSS).value
        for p in (1e-3, 10.0)
    )
    assert strong < 0.7 < 0.95 < weak


def test_others_from_another_pool_are_refused(memorised: shadows.Played) -> None:
    shifted = memorised.shadows.errors.copy()
    shifted[:, ~memorised.member] *= 2.0  # the others are noisier whoever looks
    errors = memorised.errors.copy()
    errors[~memorised.member] *= 2.0
    with pytest.raises(membership.NotExchangeable, match=r"not of one pool.*at random from the same persons"):
        membership.attack(errors, memorised.member, membership.Shadows(shifted, memorised.shadows.seen))
    assert membership.exchangeable(membership.blind(memorised.shadows), memorised.member) > membership.UNLIKE


def test_halves_are_halves_of_every_site_and_each_person_is_in_half_of_the_shadows() -> None:
    sites = ["a"] * 10 + ["b"] * 20
    seen = shadows.halves(30, 6, groups=sites)
    assert (
        seen.shape == (7, 30) and seen[:, :10].sum(1).tolist() == [5] * 7 and seen[:, 10:].sum(1).tolist() == [10] * 7
    )
    assert (seen[1:].sum(0) == 3).all() and not (seen[1::2] & seen[2::2]).any()
    assert not np.array_equal(seen[0], seen[1])
    with pytest.raises(ValueError, match="in pairs"):
        shadows.halves(30, 5)


def test_a_stopped_game_goes_on_and_ends_the_same() -> None:
    x, y = screen(40)
    train = shadows.ClosedRidge(x, y, penalties=(1.0,))
    states: list[Any] = []
    whole = shadows.run(train, 40, models=4, keep=lambda k, a, v: states.append((k, dict(a), dict(v))))
    trained: list[int] = []

    def counting(seen: np.ndarray) -> np.ndarray:
        trained.append(1)
        return train(seen)

    again = shadows.run(counting, 40, models=4, state=states[2])
    assert len(trained) == 2 and np.array_equal(again.errors, whole.errors, equal_nan=True)
    assert np.array_equal(again.shadows.errors, whole.shadows.errors, equal_nan=True)


def test_persons_without_a_value_are_left_out_and_tables_that_do_not_fit_refused() -> None:
    x, y = screen(40)
    y[3] = np.nan
    played = shadows.run(shadows.ClosedRidge(x, y, penalties=(1.0,)), 40, models=4)
    assert len(played.member) == 39 and not played.kept[3] and played.kept.sum() == 39
    with pytest.raises(ValueError, match="no error at all"):
        membership.loss(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="do not fit"):
        membership.attack(np.zeros((3, 2)), np.zeros(4, bool))
    with pytest.raises(ValueError, match="no person in common"):
        membership.Shadows(np.zeros((1, 0, 2)), np.zeros((1, 0), dtype=bool))
    with pytest.raises(ValueError, match="of 1 models some person is in or out of 0 only"):
        membership.Shadows(np.zeros((1, 2, 2)), np.array([[1, 0]], dtype=bool))
    with pytest.raises(ValueError, match="at least two of them"):
        membership.Shadows(np.zeros((3, 2, 2)), np.array([[1, 0], [1, 0], [1, 1]], dtype=bool))


def test_the_table_is_the_federations_and_says_what_the_attacker_has(memorised: shadows.Played) -> None:
    frame = figures.table(memorised.figures(), epsilon=3.0, delta=1e-5)
    assert tables.check(frame, tables.FEDERATION_ATTACKS).height == 12
    row = frame.row(
        by_predicate=(pl.col("attack") == "membership, LiRA, online") & (pl.col("figure") == "AUC"), named=True
    )
    assert row["epsilon"] == 3.0 and row["n"] == 120 and row["chance"] == 0.5 and row["site"] is None
    assert row["knows"].endswith("8 models of the attacker's own")
