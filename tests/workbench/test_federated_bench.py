"""The benchmark of federated rounds, on a small case: same weights as the plain loop, and honest bookkeeping."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.benches import federation as bench
from workbench.federated import task

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
    assert not task._sites  # what sites kept between rounds is dropped with the engine
    assert [r["name"] for r in rows] == ["a round of 2 sites, small, inline", "a round of 2 sites, small, flower"]
    for row in rows:
        assert row["apart"] < 1e-6 < 1e-3 < row["moved"] and row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        assert 0 <= row["outside"] < 1 and "outside training" in row["note"]


def test_twenty_rounds_end_at_the_plain_loops_weights_to_the_bit(small: None) -> None:
    """Sites of unlike numbers of rows, changes as float64: nothing is left for training to amplify."""
    rows = bench.compare("long", ("inline", "flower"))
    assert [r["apart"] for r in rows] == [0.0, 0.0]
    assert all(r["moved"] > 1e-3 for r in rows)


def test_the_server_is_told_of_answers_when_none_is_missing_where_sites_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without workers; with them each answer is read while the others train."""
    from workbench.federated.simulation import runtime

    def stored(self: Any, name: Any) -> Any:
        self.message_ins_id_to_message_res_id[name] = name
        return name

    monkeypatch.setattr(runtime.InMemoryLinkState, "store_message_res", stored)
    heard: dict[bool, list[int]] = {}
    for together in (True, False):
        state = object.__new__(runtime.State)
        state.message_ins_store, state.message_ins_id_to_message_res_id = dict.fromkeys("abc"), {}
        told: list[int] = []
        state.together, state.answered = together, lambda told=told: told.append(1)
        heard[together] = [(state.store_message_res(name), len(told))[1] for name in "abc"]
    assert heard == {True: [0, 0, 1], False: [1, 2, 3]}


def test_fewer_rounds_do_not_give_the_same_weights(small: None) -> None:
    """A control: the comparison sees that rounds are missing; the last alone moves little, its rate is near 0."""
    _, ask, locals_ = bench._begin(bench._federation("small"))
    _, training, three = bench.plain(ask, locals_, 3)
    _, _, one = bench.plain(ask, locals_, 1)
    assert training > 0
    assert bench._apart(three, one) > 1e-4
