"""Fixed point, graph, shares and masks, each alone."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.federated.secure import fixed_point, graph, masks, shares

pytest.importorskip("Crypto", reason="secure sums share keys with pycryptodome (extra: federation)")

moderate = st.floats(-1e12, 1e12, allow_nan=False)
single = st.floats(-1e6, 1e6, width=32)
whole = st.integers(-(2**59), 2**59)


def summed(arrays: list[np.ndarray]) -> np.ndarray:
    total = sum(fixed_point.encode("x", a, len(arrays)) for a in arrays)
    return fixed_point.decode(fixed_point.kind(arrays[0].dtype), np.asarray(total))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(moderate, min_size=3, max_size=3), min_size=1, max_size=7))
def test_sums_of_float64_are_exact_to_the_resolution(rows):
    found = summed([np.array(r) for r in rows])
    for column, value in enumerate(found):
        exact = sum((Fraction(r[column]) for r in rows), Fraction(0))
        # each site rounds once, the sum once more in each limb and where they meet
        assert abs(Fraction(float(value)) - exact) <= len(rows) * Fraction(1, 2**61) + abs(exact) * Fraction(1, 2**51)


@settings(max_examples=100, deadline=None)
@given(st.lists(single, min_size=1, max_size=9))
def test_sums_of_float32_are_exact_to_the_resolution(values):
    found = summed([np.array([v], dtype=np.float32) for v in values])
    assert abs(found[0] - math.fsum(values)) <= len(values) * 2.0**-33 + abs(found[0]) * 2.0**-52


@settings(max_examples=100, deadline=None)
@given(st.lists(whole, min_size=1, max_size=7))
def test_sums_of_whole_numbers_are_exact(values):
    assert summed([np.array(v) for v in values]) == sum(values)


@settings(max_examples=100, deadline=None)
@given(st.lists(moderate, min_size=2, max_size=5), st.binary(min_size=32, max_size=32))
def test_a_mask_put_on_and_taken_off_leaves_nothing(values, key):
    hidden = {"x": fixed_point.encode("x", np.array(values), 3), "y": fixed_point.encode("y", np.arange(3), 3)}
    before = {k: v.copy() for k, v in hidden.items()}
    masks.blend(hidden, key, 1)
    assert not (hidden["x"] == before["x"]).any()
    masks.blend(hidden, key, -1)
    assert all((hidden[k] == before[k]).all() for k in hidden)


def test_a_mask_is_the_same_however_long_and_differs_between_keys():
    key = bytes(range(32))
    long, short = {"x": np.zeros(300_000, np.uint64)}, {"x": np.zeros(10, np.uint64)}
    masks.blend(long, key, 1)
    masks.blend(short, key, 1)
    assert (long["x"][:10] == short["x"]).all() and len(np.unique(long["x"])) == 300_000
    other = {"x": np.zeros(10, np.uint64)}
    masks.blend(other, bytes(32), 1)
    assert not (other["x"] == short["x"]).any()
    two = {"a": np.zeros(4, np.uint64), "b": np.zeros((2, 3), np.uint64)}
    masks.blend(two, key, 1)
    assert (np.concatenate([two["a"], two["b"].ravel()]) == short["x"]).all()


@pytest.mark.parametrize(
    ("array", "sites", "why"),
    [
        (np.array([1.0, np.inf]), 5, "not finite"),
        (np.array([np.nan]), 5, "not finite"),
        (np.array([2.0**57 / 5 + 1]), 5, "too large for a sum over 5 sites"),
        (np.array([-(2.0**57) / 5 - 1]), 5, "too large"),
        (np.array([2**62]), 5, "too large"),
        (np.array([2**64 - 1], dtype=np.uint64), 1, "too large"),
        (np.array([5e8], dtype=np.float32), 5, "float64 reaches further"),
        (np.array([1.0]), 1024, "takes 1 to 1023 sites"),
    ],
)
def test_what_might_wrap_round_is_refused(array, sites, why):
    with pytest.raises(fixed_point.FixedPointError, match=why):
        fixed_point.encode("x", array, sites)


@pytest.mark.parametrize("sites", [1, 3, 1023])
def test_the_largest_that_is_taken_does_not_wrap(sites):
    for array in (
        np.array([2**63 // sites - 1, -(2**63 // sites) + 1]),
        np.array([2.0**56 / sites, -(2.0**56) / sites]),
        np.array([2.0**30 / sites, -(2.0**30) / sites], dtype=np.float32),
    ):
        one = fixed_point.encode("x", array, sites)
        many = np.zeros_like(one)
        for _ in range(sites):
            many += one
        found = fixed_point.decode(fixed_point.kind(array.dtype), many)
        exact = [int(v) * sites if array.dtype.kind == "i" else Fraction(float(v)) * sites for v in array]
        assert all(abs(Fraction(f.item()) - e) <= abs(e) / 2**52 for f, e in zip(found, exact, strict=True))


def test_empty_and_single_numbers_keep_their_shape():
    for array in (np.zeros((0, 4)), np.array(3.5), np.array(True), np.zeros((2, 0, 3), np.float32)):
        form = fixed_point.kind(array.dtype)
        back = fixed_point.decode(form, fixed_point.encode("x", array, 3))
        assert back.shape == array.shape and (back == array).all()


def test_a_summed_gram_matrix_solves_as_the_pooled_one_does():
    """Ridge from secure sums: as near to the exact solution as ridge on the pooled rows is itself."""
    draw = np.random.default_rng(86)
    x = [draw.normal(0, 10, size=(60, 80)) * np.logspace(0, 3, 80) for _ in range(5)]
    y = [a @ np.ones(80) + draw.normal(size=60) for a in x]
    gram, cross = summed([a.T @ a for a in x]), summed([a.T @ b for a, b in zip(x, y, strict=True)])
    pooled = np.concatenate(x)
    exact = pooled.T @ pooled
    assert np.abs(gram - exact).max() <= 1e-14 * np.abs(exact).max()
    one = np.linalg.solve(gram + np.eye(80), cross)
    other = np.linalg.solve(exact + np.eye(80), pooled.T @ np.concatenate(y))
    assert np.abs(one - other).max() < 1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 9), st.binary(min_size=32, max_size=32), st.randoms(use_true_random=False))
def test_a_threshold_of_shares_opens_a_secret_and_fewer_do_not(number, secret, random):
    need = graph.threshold(number - 1)
    dealt = shares.split(secret, need, number)
    some = random.sample(range(number), need)
    assert shares.join({k: dealt[k] for k in some}, need) == secret
    assert shares.join({k: dealt[k] for k in some[:-1]}, need - 1) != secret
    with pytest.raises(ValueError, match="shares are needed"):
        shares.join({k: dealt[k] for k in some[:-1]}, need)


def test_what_is_sealed_opens_for_its_purpose_only():
    first, second = masks.key_pair(), masks.key_pair()
    key = masks.agreed(first[0], second[1], "seal")
    assert key == masks.agreed(second[0], first[1], "seal") != masks.agreed(second[0], first[1], "mask")
    sealed = shares.seal(key, b"s" * 64, "a to b")
    assert len(sealed) == shares.SEALED and shares.open_sealed(key, sealed, "a to b") == b"s" * 64
    for bad, about in ((sealed, "a to c"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), "a to b")):
        with pytest.raises(ValueError, match="was changed on its way"):
            shares.open_sealed(key, bad, about)


@pytest.mark.parametrize(("sites", "degree"), [(3, 2), (5, 4), (40, 16), (101, 28), (8, 12)])
def test_neighbours_are_mutual_and_of_equal_number(sites, degree):
    near = graph.neighbours(sites, degree, "one")
    for i, found in enumerate(near):
        assert i not in found and len(found) == len(set(found)) == min(degree, sites - 1)
        assert all(i in near[j] for j in found)
    reached = {0}
    for _ in range(sites):
        reached |= {j for i in reached for j in near[i]}
    assert len(reached) == sites
    if degree < sites - 1:
        assert near != graph.neighbours(sites, degree, "another")


def test_no_graph_may_fall_into_pieces_of_fewer_than_three():
    assert [d for d in range(12) if graph.fits(10, d)] == [4, 6, 8, 9]
    assert [d for d in range(5) if graph.fits(3, d)] == [2] and not any(graph.fits(2, d) for d in range(4))
    assert all(graph.fits(n, graph.degree(n)) for n in range(3, 1024))
    assert min(graph.threshold(d) for d in range(2, 64) if d != 2 and graph.fits(1023, d)) == 3


def test_the_degree_grows_as_the_logarithm():
    assert [graph.degree(n) for n in (3, 5, 32, 33, 100, 1000)] == [2, 4, 31, 22, 28, 40]
    assert [graph.threshold(d) for d in (2, 4, 16)] == [2, 3, 9]
