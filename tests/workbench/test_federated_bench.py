"""The benchmark of federated rounds, on a small case: same weights as the plain loop, and honest bookkeeping."""

from __future__ import annotations

import pytest

from workbench.benches import federation as bench

pytest.importorskip("flwr")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setitem(bench.SIZES, "small", (60, 8, 16, 2, 3, 1, 1))
    monkeypatch.setitem(bench.SIZES, "long", (62, 8, 16, 2, 20, 1, 1))
    monkeypatch.setattr(bench, "SITES", 2)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_rounds_through_flower_give_the_plain_loops_weights(small: None) -> None:
    rows = bench.compare("small", ("inline", "flower"))
    assert [r["name"] for r in rows] == ["a round of 2 sites, small, inline", "a round of 2 sites, small, flower"]
    for row in rows:
        assert row["apart"] < 1e-6 < 1e-3 < row["moved"] and row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        assert 0 <= row["outside"] < 1 and "outside training" in row["note"]


def test_twenty_rounds_end_at_the_plain_loops_weights_to_the_bit(small: None) -> None:
    """Sites of unlike numbers of rows, changes as float64: nothing is left for training to amplify."""
    rows = bench.compare("long", ("inline", "flower"))
    assert [r["apart"] for r in rows] == [0.0, 0.0]
    assert all(r["moved"] > 1e-3 for r in rows)


def test_fewer_rounds_do_not_give_the_same_weights(small: None) -> None:
    """A control: the comparison sees that rounds are missing; the last alone moves little, its rate is near 0."""
    _, ask, locals_ = bench._begin(bench._federation("small"))
    _, training, three = bench.plain(ask, locals_, 3)
    _, _, one = bench.plain(ask, locals_, 1)
    assert training > 0
    assert bench._apart(three, one) > 1e-4
