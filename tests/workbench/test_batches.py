"""Batches: whole subjects, every row once an epoch, the order of an epoch a function of seed and number alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.batches import Batch, Rows, SubjectLoader


def rows(counts: list[int], seed: int = 0) -> Rows:
    """Rows of subjects 0, 1, ... with ``counts`` rows each; each tensor tells which row and subject it is of."""
    draw = np.random.default_rng(seed)
    subject = np.repeat(np.arange(len(counts)), counts)
    n = len(subject)
    return Rows(
        torch.from_numpy(1000 + np.arange(n)),
        torch.from_numpy(subject),
        torch.from_numpy(draw.integers(0, 5, n)),
        {"expression": torch.arange(len(counts))[:, None].float().repeat(1, 3)},
        torch.from_numpy((draw.random((len(counts), 1)) < 0.8).astype(np.float32)),
        torch.arange(n).float(),
        torch.from_numpy((np.arange(n) % 3 - 1).astype(np.int8)),
        torch.from_numpy(subject % 4),
    )


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=12).filter(any),
    size=st.integers(1, 15),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 5),
)
def test_an_epoch_holds_every_row_once_with_what_belongs_to_it(
    counts: list[int], size: int, seed: int, epoch: int
) -> None:
    data = rows(counts)
    loader = SubjectLoader(data, size, seed)
    loader.epoch = epoch
    batches = list(loader)
    assert len(batches) == len(loader)
    seen = torch.cat([b.row for b in batches])
    assert sorted(seen.tolist()) == data.row.tolist()
    for batch in batches:
        at = batch.row - 1000
        who = data.subject[at]
        assert torch.equal(batch.x["expression"][batch.subject, 0].long(), who)
        assert torch.equal(batch.presence[batch.subject], data.presence[who])
        for name in ("treatment", "target", "censored", "part"):
            assert torch.equal(getattr(batch, name), getattr(data, name)[at])
        assert len(set(who.tolist())) == len(batch.presence) <= size
        others = torch.cat([b.row for b in batches if b is not batch]) if len(batches) > 1 else torch.zeros(0)
        assert not set(data.subject[(others - 1000).long()].tolist()) & set(who.tolist())


def order(loader: SubjectLoader) -> list[int]:
    return torch.cat([b.row for b in loader]).tolist()


def test_epochs_and_seeds_differ_and_each_repeats() -> None:
    data = rows([2] * 20)
    loader, other = SubjectLoader(data, 4, seed=1), SubjectLoader(data, 4, seed=2)
    first = order(loader)
    assert order(loader) == first == order(SubjectLoader(data, 4, seed=1))
    assert order(other) != first
    loader.epoch = 1
    assert order(loader) != first


def test_the_state_is_one_number_and_belongs_to_a_seed() -> None:
    data = rows([2] * 20)
    loader = SubjectLoader(data, 4, seed=1)
    loader.epoch = 7
    fresh = SubjectLoader(data, 4, seed=1)
    fresh.load_state_dict(loader.state_dict())
    assert order(fresh) == order(loader)
    with pytest.raises(ValueError, match=r"shuffles with seed 2; the checkpoint was made with 1"):
        SubjectLoader(data, 4, seed=2).load_state_dict(loader.state_dict())


def test_rows_must_lie_side_by_side_and_a_batch_needs_a_subject() -> None:
    data = rows([2, 2])
    with pytest.raises(ValueError, match=r"sorted by subject"):
        dataclasses.replace(data, subject=torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"at least one subject; asked for 0"):
        SubjectLoader(data, 0)
    assert Batch._fields == tuple(f.name for f in dataclasses.fields(Rows))
