"""What the server does with the mean change, against the formulas written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.federated.network import strategies

RNG = np.random.default_rng(5)
SHARED = {"a": RNG.normal(size=(3, 2)).astype(np.float32), "b": RNG.normal(size=4).astype(np.float32)}


def changes(n: int) -> list[dict[str, np.ndarray]]:
    return [{k: RNG.normal(size=w.shape) for k, w in SHARED.items()} for _ in range(n)]


def test_fedavg_is_the_mean_of_the_sites_weights_by_rows() -> None:
    given, rows = changes(3), np.array([10.0, 30.0, 60.0])
    moved, state = strategies.FedAvg().step(SHARED, strategies.mean(given, rows), {})
    for k, w in SHARED.items():
        by_hand = sum(n * (w + c[k]) for n, c in zip(rows, given, strict=True)) / rows.sum()
        np.testing.assert_allclose(moved[k], by_hand, atol=1e-6)
        assert moved[k].dtype == w.dtype
    assert state == {}


def test_half_a_rate_goes_half_the_way() -> None:
    (change,) = changes(1)
    moved, _ = strategies.FedAvg(rate=0.5).step(SHARED, change, {})
    np.testing.assert_allclose(moved["b"] - SHARED["b"], 0.5 * change["b"], atol=1e-6)


@pytest.mark.parametrize("name", ["FedAdam", "FedYogi"])
def test_adaptive_steps_follow_reddi_and_others(name: str) -> None:
    """Algorithm 2 of Reddi et al. 2021, one coordinate at a time."""
    rate, first, second, floor = 0.1, 0.8, 0.95, 0.01
    rule = strategies.make(name, rate=rate, first=first, second=second, floor=floor)
    shared = {k: w.astype(np.float64) for k, w in SHARED.items()}
    state = rule.start(shared)
    x, m, v = float(shared["a"][1, 0]), 0.0, floor**2
    for change in changes(4):
        shared, state = rule.step(shared, change, state)
        d = float(change["a"][1, 0])
        m = first * m + (1 - first) * d
        v = second * v + (1 - second) * d * d if name == "FedAdam" else v - (1 - second) * d * d * np.sign(v - d * d)
        x += rate * m / (np.sqrt(v) + floor)
        assert shared["a"][1, 0] == pytest.approx(x, rel=1e-12)


def test_yogi_forgets_a_large_square_more_slowly_than_adam() -> None:
    big, small = {"a": np.full(1, 10.0)}, {"a": np.full(1, 0.1)}
    seconds = {}
    for name in ("FedAdam", "FedYogi"):
        rule = strategies.make(name)
        shared = {"a": np.zeros(1)}
        state = rule.start(shared)
        for change in (big, *[small] * 20):
            shared, state = rule.step(shared, change, state)
        seconds[name] = float(state["v.a"][0])
    assert seconds["FedYogi"] > 1.1 * seconds["FedAdam"]


def test_steps_are_pure() -> None:
    rule, (change,) = strategies.FedAdam(), changes(1)
    before = {k: w.copy() for k, w in SHARED.items()}
    state = rule.start(SHARED)
    kept = {k: a.copy() for k, a in state.items()}
    one, two = (rule.step(SHARED, change, state) for _ in range(2))
    for k in SHARED:
        np.testing.assert_array_equal(SHARED[k], before[k])
        np.testing.assert_array_equal(one[0][k], two[0][k])
    for k in state:
        np.testing.assert_array_equal(state[k], kept[k])


def test_fedprox_is_the_sites_business() -> None:
    (change,) = changes(1)
    assert strategies.make("FedProx", proximal=0.3).proximal == 0.3
    assert strategies.make("FedAvg").proximal == 0.0
    prox, avg = (strategies.make(n).step(SHARED, change, {})[0] for n in ("FedProx", "FedAvg"))
    np.testing.assert_array_equal(prox["a"], avg["a"])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [("FedAvrg", {}, "FedAvg"), ("FedAdam", {"rat": 1.0}, "rate")],
)
def test_a_mistyped_name_or_option_gets_the_nearest(name: str, options: dict[str, float], said: str) -> None:
    with pytest.raises(strategies.StrategyError, match=said):
        strategies.make(name, **options)
