"""DrugResponse as a site trains it for one round: the same loss and loop, at the round's place in the whole schedule.

    rate(t) = one cycle over all rounds, t = (round + share of the round that is done) / rounds
    loss    = DrugResponse's + mu / 2 |w - w_shared|^2

A trainer started anew each round would warm up and cool down each time; here the schedule is that of one long training.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.batches import Batch, Rows, SubjectLoader
from workbench.predictors.drug_response import DrugResponse

WARM = 0.1  # share of the training in which the rate rises, as DrugResponse has it
LOW, LAST = 25.0, 1e4  # the cycle starts at 1/LOW of its peak and ends at 1/(LOW LAST)
CALM, QUICK = 0.95, 0.85  # Adam's first beta at the ends and at the peak


def one_cycle(step: float, steps: float) -> tuple[float, float]:
    """Share of the peak rate, and Adam's first beta, at ``step`` of ``steps`` (Smith and Topin 2019, cosine form)."""
    top = WARM * steps - 1.0
    if step <= top:
        at, low, high = (step / top if top > 0 else 1.0), 1.0 / LOW, 1.0
        beta = (CALM, QUICK)
    else:
        at, low, high = (step - top) / max(steps - 1.0 - top, 1.0), 1.0, 1.0 / (LOW * LAST)
        beta = (QUICK, CALM)
    turn = (1.0 + math.cos(math.pi * min(at, 1.0))) / 2.0
    return high + (low - high) * turn, beta[1] + (beta[0] - beta[1]) * turn


class RoundLoader(SubjectLoader):
    """Batches of the epochs from ``first`` on, in the order that one long training would have."""

    def __init__(self, rows: Rows, subjects: int, seed: int, first: int) -> None:
        super().__init__(rows, subjects, seed)
        self.first = first

    def order(self, epoch: int) -> Tensor:
        return super().order(self.first + epoch)


class RoundResponse(DrugResponse):
    """A DrugResponse that trains one round at a time; ``begin`` says which."""

    optimizer_: Any

    def begin(
        self, step: int, steps: int, proximal: float = 0.0, optimizer: dict[str, Any] | None = None
    ) -> RoundResponse:
        """Place of the round in the training: ``step`` of ``steps`` batches are behind it.

        Parameters
        ----------
        proximal : mu
        optimizer : the optimiser's state after the last round; None starts it anew
        """
        self.step_, self.steps_, self.proximal_, self.kept_ = step, steps, proximal, optimizer
        self.shared_ = [p.detach().clone() for p in self.parameters()] if proximal else []
        return self

    def forget(self) -> None:
        """Drop what a round leaves: gradients, the optimiser and its state, the weights it was held near."""
        self.zero_grad(set_to_none=True)
        self.optimizer_ = self.kept_ = None
        self.shared_ = []

    def configure_optimizers(self) -> Any:
        p = self.params
        self.optimizer_ = torch.optim.AdamW(
            self.parameters(), p["learning_rate"], weight_decay=p["weight_decay"], fused=True
        )
        if self.kept_ is not None:
            self.optimizer_.load_state_dict(self.kept_)
        return self.optimizer_

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        share, beta = one_cycle(self.step_ + self.trainer.global_step, self.steps_)
        for group in self.optimizer_.param_groups:
            group["lr"] = share * self.params["learning_rate"]
            group["betas"] = (beta, group["betas"][1])

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        loss = super().training_step(batch, _index)
        if self.proximal_:
            away = torch.stack([(p - q).square().sum() for p, q in zip(self.parameters(), self.shared_, strict=True)])
            loss = loss + 0.5 * self.proximal_ * away.sum()
        return loss


def weights(module: DrugResponse) -> dict[str, np.ndarray]:
    """Everything that is trained, by name: float32, copies."""
    return {k: v.detach().cpu().numpy().copy() for k, v in module.named_parameters()}


@torch.no_grad()
def set_weights(module: DrugResponse, values: dict[str, np.ndarray]) -> None:
    """Put weights back, by name; a name or shape that is not the module's raises ValueError."""
    known = dict(module.named_parameters())
    for k, v in values.items():
        if k not in known or known[k].shape != v.shape:
            raise ValueError(f"no weights {k!r} of shape {v.shape} in this network.")
        known[k].copy_(torch.from_numpy(np.ascontiguousarray(v)))
