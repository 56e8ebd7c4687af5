"""The scan's benchmark measures what it says."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.benches import scan


def test_both_sides_agree_and_the_peer_is_extrapolated_by_pairs() -> None:
    rows = scan.run(scan.synthetic(400, 50, 6), pairs=12, rounds=1)
    assert [r["name"] for r in rows] == ["association scan, beta, se, t", "association scan, with p and q"]
    for row in rows:
        assert row["unit"] == "s" and row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        said = float(row["note"].split("difference of t ")[1].split(";")[0])
        assert said < 1e-10
        assert "extrapolated from 12 random pairs" in row["note"] and "1 thread" in row["note"]


def test_a_planted_difference_is_seen() -> None:
    data = scan.synthetic(400, 20, 4)
    pairs = np.array([[0, 3], [1, 5], [3, 19]])
    _, t = scan.loop(*data, pairs, False)
    other = (data[0], data[1] + np.random.default_rng(0).normal(0, 1e-6, data[1].shape), data[2])
    _, changed = scan.loop(*other, pairs, False)
    assert np.abs(changed / t - 1).max() > 1e-9


def test_the_synthetic_data_have_the_size_of_the_real_ones() -> None:
    y, x, c = scan.synthetic()
    assert (y.shape, x.shape, c.shape) == ((917, 286), (917, 6163), (917, 30))
    assert np.isnan(y).mean() == pytest.approx(0.14, abs=0.005)
    assert np.linalg.matrix_rank(np.column_stack([np.ones(917), c])) == 31


@pytest.mark.slow
def test_the_scan_is_a_thousand_times_the_loop() -> None:
    """The figure itself is `workbench bench scan`; a third of its target holds on any machine."""
    rows = scan.run(scan.synthetic(), pairs=60, rounds=2)
    assert min(r["ratio"] for r in rows) > 1000
