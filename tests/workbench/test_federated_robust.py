"""Rules of aggregation: against other implementations, against loops, and against planted liars."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.federated.robust import rules as robust
from workbench.federated.robust.geometry import norms

NEEDS = {  # fewest sites for f bad ones
    "clipped_mean": lambda f: 2 * f + 1,
    "median": lambda f: 2 * f + 1,
    "trimmed_mean": lambda f: 2 * f + 1,
    "geometric_median": lambda f: 2 * f + 1,
    "spectral": lambda f: 2 * f + 1,
    "remembering": lambda f: 2 * f + 1,
    "curvature": lambda f: 2 * f + 1,
    "krum": lambda f: 2 * f + 3,
    "multi_krum": lambda f: 2 * f + 3,
    "bulyan": lambda f: 4 * f + 3,
}


def some(n: int, seed: int = 0, spread: float = 1.0) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(seed)
    return [
        {"a": 1 + spread * draw.normal(size=(3, 4)), "b": (2 + spread * draw.normal(size=5)).astype(np.float32)}
        for _ in range(n)
    ]


def flat(update: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([update[k].ravel().astype(np.float64) for k in sorted(update)])


def one(name: str, updates, bad: int = 0, weights=None, **options) -> np.ndarray:
    return flat(
        robust.make(name, bad, **options)(updates, np.ones(len(updates)) if weights is None else weights).arrays
    )


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip("flwr.server.strategy.aggregate")


def test_flower_gives_the_same_numbers(peer):
    """Mean, median, trimmed mean, Krum, multi-Krum and Bulyan of Flower, on the same updates."""
    updates, rows = some(11), [10, 20, 30, 5, 8, 13, 21, 34, 55, 3, 1]
    lists = [[u["a"], u["b"].astype(np.float64)] for u in updates]
    even, own = [(x, 1) for x in lists], list(zip(lists, rows, strict=True))
    wide = [{k: a.astype(np.float64) for k, a in u.items()} for u in updates]

    def same(mine: np.ndarray, theirs) -> None:
        np.testing.assert_allclose(mine, np.concatenate([np.ravel(a) for a in theirs]), rtol=0, atol=1e-12)

    same(one("mean", wide, weights=np.array(rows)), peer.aggregate(own))
    same(one("median", wide, 2), peer.aggregate_median(own))
    same(one("trimmed_mean", wide, 2), peer.aggregate_trimmed_avg(own, 2 / 11 + 1e-9))
    same(one("krum", wide, 4), peer.aggregate_krum(own, 4, 0))
    same(one("multi_krum", wide, 3, keep=6), peer.aggregate_krum(even, 3, 6))
    same(one("bulyan", wide, 2), peer.aggregate_bulyan(even, 2, peer.aggregate_krum, to_keep=0))


def test_krum_is_the_update_of_least_distance_to_its_nearest():
    updates, f = some(9, seed=3), 3
    points = [flat(u) for u in updates]
    score = [sum(sorted(float(((p - q) ** 2).sum()) for j, q in enumerate(points) if j != i)[: 9 - f - 2])
             for i, p in enumerate(points)]  # fmt: skip
    np.testing.assert_allclose(robust.krum_scores(updates, f), score, rtol=1e-10)
    got = robust.make("krum", f)(updates, np.ones(9))
    np.testing.assert_array_equal(flat(got.arrays), points[int(np.argmin(score))])
    assert set(got.set_aside) == set(range(9)) - {int(np.argmin(score))}
    assert "of 9" in got.set_aside[int(np.argmax(score))]


def test_geometric_median_minimises_the_summed_distance():
    from scipy.optimize import minimize

    updates, w = some(7, seed=5), np.array([1.0, 2, 3, 1, 1, 2, 1])
    points = np.stack([flat(u) for u in updates])
    best = minimize(lambda v: w @ np.linalg.norm(points - v, axis=1), points.mean(0), method="BFGS", tol=1e-10)
    got = one("geometric_median", updates, weights=w, weighted=True)
    assert w @ np.linalg.norm(points - got, axis=1) == pytest.approx(best.fun, rel=1e-9)
    # the point of Fermat: 120 degrees between the corners of a triangle
    corners = [{"a": np.array(p)} for p in ((0.0, 0.0), (1.0, 0.0), (0.5, np.sqrt(3) / 2))]
    np.testing.assert_allclose(one("geometric_median", corners), [0.5, np.sqrt(3) / 6], atol=1e-7)


def test_a_heavy_liar_is_refused_where_weights_count():
    updates, rows = some(5), np.array([1.0, 1, 1, 1, 1000])
    with pytest.raises(robust.RobustError, match="100% of the weight"):
        one("geometric_median", updates, 1, weights=rows, weighted=True)
    np.testing.assert_array_equal(
        one("geometric_median", updates, 1, weights=rows), one("geometric_median", updates, 1)
    )


@pytest.mark.parametrize("name", NEEDS)
def test_each_refuses_too_few_sites(name):
    for f in (1, 2):
        least = NEEDS[name](f)
        assert len(one(name, some(least), f)) == 17
        with pytest.raises(robust.RobustError, match=f"{least - 1} sites cannot outvote {f} bad"):
            one(name, some(least - 1), f)
    with pytest.raises(robust.RobustError, match="-1"):
        one(name, some(9), -1)


@pytest.mark.parametrize("size", [1e3, 1e30])
@pytest.mark.parametrize("name", NEEDS)
def test_two_liars_move_no_rule_but_the_mean(name, size):
    updates = some(11, spread=0.1)
    honest = np.stack([flat(u) for u in updates[2:]])
    for liar in updates[:2]:
        liar["a"] = np.full((3, 4), size)
    got = one(name, updates, 2)
    slack = 0.7 if name == "clipped_mean" else 1e-6  # it bounds how far, no more
    assert (got >= honest.min(0) - slack).all() and (got <= honest.max(0) + slack).all()
    assert one("mean", updates)[0] > size / 10


@pytest.mark.parametrize("name", ["trimmed_mean", "geometric_median", "krum", "multi_krum", "bulyan", "spectral"])
def test_a_liar_is_told_and_the_honest_are_not(name):
    updates = some(11, spread=0.1)
    updates[4] = {k: -10 * a for k, a in updates[4].items()}
    told = robust.make(name, 1, **({"keep": 10} if name == "multi_krum" else {}))(updates, np.ones(11)).set_aside
    assert 4 in told
    if name not in ("krum", "bulyan"):  # those set many aside
        assert set(told) == {4}
    clean = robust.make(name, 0, **({"keep": 11} if name == "multi_krum" else {}))(some(11, spread=0.1), np.ones(11))
    assert name == "krum" or not clean.set_aside


def test_with_nobody_bad_rules_agree_with_the_mean():
    updates = some(8)
    for name in ("trimmed_mean", "spectral"):
        limit = 4 if name == "trimmed_mean" else 0
        mean = one("mean", updates)
        if limit:
            np.testing.assert_allclose(one(name, updates, 0), mean, atol=1e-6)
        else:
            assert np.abs(one(name, updates, 0) - mean).max() < 0.3  # those longer than the median are shortened


def test_rules_move_with_their_updates():
    """Adding a constant to every update adds it to the result: no rule but clipping knows where 0 is."""
    updates = [{k: a.astype(np.float64) for k, a in u.items()} for u in some(11, seed=9)]
    moved = [{k: a + 5 for k, a in u.items()} for u in updates]
    for name in ("mean", "median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "bulyan"):
        np.testing.assert_allclose(one(name, moved, 2), one(name, updates, 2) + 5, atol=1e-6)


def test_clipping_shortens_the_long_and_leaves_the_short():
    updates = [{"a": np.array([3.0, 4.0])}, {"a": np.array([0.3, 0.4])}, {"a": np.array([30.0, 40.0])}]
    got = robust.make("clipped_mean", longest=5.0)(updates, np.ones(3))
    np.testing.assert_allclose(got.arrays["a"], [(3 + 0.3 + 3) / 3, (4 + 0.4 + 4) / 3])
    assert set(got.set_aside) == {2} and "0.1 of its length" in got.set_aside[2]


def test_mixing_is_the_mean_of_the_nearest():
    updates, f = some(7, seed=2), 2
    points = np.stack([flat(u) for u in updates])
    got = np.stack([flat(u) for u in robust.mixed(updates, f)])
    for i, p in enumerate(points):
        near = np.argsort([((p - q) ** 2).sum() for q in points])[: 7 - f]
        np.testing.assert_allclose(got[i], points[near].mean(0), atol=1e-10)


def colluding(seed: int, signal: float, size: int = 2000) -> list[dict[str, np.ndarray]]:
    """Seven honest updates, mostly noise, and three that are one lie within their spread."""
    draw = np.random.default_rng(seed)
    honest = signal + draw.normal(size=(7, size))
    lie = honest.mean(0) - 1.0 * honest.std(0)
    return [{"a": h} for h in honest] + [{"a": lie + 1e-3 * draw.normal(size=size)} for _ in range(3)]


def test_a_lie_within_the_spread_of_the_honest_is_seen_in_the_main_difference():
    """Coordinate rules give way to it and name nobody; the main direction tells all three."""
    updates = colluding(0, 0.1)
    trimmed = robust.make("trimmed_mean", 3)(updates, np.ones(10))
    assert not trimmed.set_aside and trimmed.arrays["a"].mean() < -0.05
    got = robust.make("spectral", 3)(updates, np.ones(10))
    assert set(got.set_aside) == {7, 8, 9}
    assert got.arrays["a"].mean() == pytest.approx(0.1, abs=0.02)


def test_what_was_seen_is_remembered_and_only_by_name():
    rule = robust.Remembering(3)
    names = [f"site {i}" for i in range(10)]
    assert set(rule(colluding(1, 0.1), np.ones(10), names).set_aside) == {7, 8, 9}
    noise = [{"a": np.random.default_rng(i).normal(size=2000)} for i in range(10)]
    assert set(rule(noise, np.ones(10), names).set_aside) == {7, 8, 9}  # nothing to see in this round
    turned = rule(noise[::-1], np.ones(10), names[::-1])
    assert set(turned.set_aside) == {0, 1, 2}
    gone = rule(noise[:8], np.ones(8), names[:8], fewer=2)  # two of them dropped by the checks
    assert set(gone.set_aside) == {7}
    assert "%" in gone.set_aside[7]
    bare = robust.Remembering(3)  # without names a missing site shifts the others: what was seen is forgotten
    bare(colluding(1, 0.1), np.ones(10))
    bare(noise[:9], np.ones(9))
    assert len(bare.evidence) == 9 and max(bare.evidence.values()) < 1


def test_dtypes_stay_and_nonsense_is_refused():
    updates = some(5)
    got = robust.make("median", 1)(updates, np.ones(5)).arrays
    assert got["a"].dtype == np.float64 and got["b"].dtype == np.float32
    whole = [{"a": np.array([1, 2])}, {"a": np.array([2, 3])}]
    assert robust.make("mean")(whole, np.ones(2)).arrays["a"].tolist() == [1.5, 2.5]
    updates[3]["a"][0, 0] = np.nan
    for name in robust.RULES:
        with pytest.raises(robust.RobustError, match="update 3 is not finite"):
            one(name, updates, 0)
    updates[3] = {"a": np.zeros(2), "b": np.zeros(5)}
    with pytest.raises(robust.RobustError, match="update 3 has other arrays"):
        one("median", updates)
    for w in (np.ones(4), np.array([1, 1, 1, 1, np.nan]), np.zeros(5), np.array([1, 1, 1, 1, -1])):
        with pytest.raises(robust.RobustError, match="weight"):
            one("mean", some(5), weights=w)
    with pytest.raises(robust.RobustError, match="multi_krum"):
        robust.make("krumm")
    with pytest.raises(robust.RobustError, match="asked to keep 9"):
        one("multi_krum", some(9), 2, keep=9)


def test_lengths_are_over_all_arrays():
    assert norms([{"a": np.array([3.0]), "b": np.array([[4.0]])}]).tolist() == [5.0]
