"""The Trainer of a fit is a copy of one never used: as good as a new one, and nothing of a fit stays behind in it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch

from tests import toy
from workbench import train
from workbench.batches import Rows, SubjectLoader

pytestmark = toy.lightning_warnings


class Line(lightning.LightningModule):
    """y = w x on the batches' targets; notes what the Trainer says of the step and the epoch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.layer, self.told = torch.nn.Linear(width, 1), list[tuple[int, int]]()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.1)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        self.told.append((self.trainer.current_epoch, self.trainer.global_step))
        x = torch.nn.functional.dropout(batch.x["expression"][batch.subject], 0.3, self.training)
        return (self.layer(x)[:, 0] - batch.target).square().mean()


def rows(n: int, width: int) -> Rows:
    g = torch.Generator().manual_seed(n)
    numbers, zeros = torch.arange(n), torch.zeros(n, dtype=torch.long)
    x = {"expression": torch.randn(n, width, generator=g)}
    presence, censored = torch.ones(n, 1), zeros.to(torch.int8)
    return Rows(numbers, numbers, zeros, x, presence, torch.randn(n, generator=g), censored, zeros)


def fit(n: int, width: int, epochs: int = 2) -> tuple[Line, train.Survive]:
    module, survive = Line(width), train.Survive(None)
    torch.manual_seed(0)
    train.run_lightning(module, SubjectLoader(rows(n, width), 4), epochs=epochs, survive=survive, accelerator="cpu")
    return module, survive


def test_fits_one_after_the_other_are_bitwise_those_of_new_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two widths and numbers of rows in turn, as sites of a federation are."""
    cases = [(12, 3), (7, 5), (12, 3)]
    mine = [fit(*case) for case in cases]
    monkeypatch.setattr(train, "_trainer", lambda epochs, survive, *how: train._made(epochs, [survive], *how))
    new = [fit(*case) for case in cases]
    for (a, told), (b, as_told) in zip(mine, new, strict=True):
        assert torch.equal(a.layer.weight, b.layer.weight) and torch.equal(a.layer.bias, b.layer.bias)
        assert a.told == b.told and a.told[0] == (0, 0) and a.told[-1][0] == 1
        assert told.points == as_told.points
    assert torch.equal(mine[0][0].layer.weight, mine[2][0].layer.weight)
    assert not torch.equal(mine[0][0].layer.weight, Line(3).layer.weight)


def test_nothing_of_a_fit_stays_in_what_is_kept() -> None:
    kept = train._unused(2)
    before = set(kept.__dict__)
    module, survive = fit(12, 3)
    layer = weakref.ref(module.layer)
    assert train._unused(2) is kept and set(kept.__dict__) == before
    assert kept.callbacks == [] and kept.train_dataloader is None and kept.lightning_module is None
    assert (kept.current_epoch, kept.global_step, kept.state.fn) == (0, 0, None)
    assert kept.strategy.optimizers == []
    del module, survive
    gc.collect()
    assert layer() is None


def test_each_fit_has_a_trainer_of_its_own_with_its_epochs_and_callback() -> None:
    first, second = train.Survive(None), train.Survive(None)
    a, b, c = (train._trainer(e, s, "cpu", 1, "auto", 1) for e, s in ((2, first), (2, second), (3, first)))
    assert a is not b and a.fit_loop is not b.fit_loop and a.strategy is not b.strategy
    assert a.callbacks == [first] and b.callbacks == [second]
    assert (a.max_epochs, b.max_epochs, c.max_epochs) == (2, 2, 3)
    assert a.fit_loop.trainer is a and a.strategy.accelerator is not b.strategy.accelerator
