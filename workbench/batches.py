"""Batches for training: everything in memory, one index-select a batch, restart at any epoch.

A batch is all rows of a few subjects. Their encoders run once, whatever the number of treatments, and the
order of epoch e is a function of (seed, e) alone: the loader's state is one number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Tensors of B rows over S subjects and T treatments. ``row`` is the only thread back to names.

    row (B,) row number in the study's outcomes; subject (B,) index into the first axis of ``x``; treatment (B,)
    index into the treatments; x {modality: (S, f)}; presence (S, M); target (B,) standardised; censored (B,)
    0, +1 or -1; part (B,) the ensemble part that must not learn from the row.
    """

    row: Tensor
    subject: Tensor
    treatment: Tensor
    x: dict[str, Tensor]
    presence: Tensor
    target: Tensor
    censored: Tensor
    part: Tensor


@dataclass
class Rows:
    """All rows of a fit, sorted by subject: tensors as in ``Batch``; ``subject`` indexes ``x`` of every subject."""

    row: Tensor
    subject: Tensor
    treatment: Tensor
    x: dict[str, Tensor]
    presence: Tensor
    target: Tensor
    censored: Tensor
    part: Tensor

    def __post_init__(self) -> None:
        if len(self.subject) and bool((self.subject.diff() < 0).any()):
            raise ValueError("Rows must be sorted by subject, so that a subject's rows lie side by side.")


class SubjectLoader:
    """Iterate ``Rows`` in batches of whole subjects.

    Parameters
    ----------
    rows : Rows
    subjects : subjects per batch
    seed : with the epoch it fixes the order
    """

    def __init__(self, rows: Rows, subjects: int = 64, seed: int = 0) -> None:
        if subjects < 1:
            raise ValueError(f"a batch needs at least one subject; asked for {subjects}.")
        self.rows, self.subjects, self.seed, self.epoch = rows, subjects, seed, 0
        ids, counts = torch.unique_consecutive(rows.subject, return_counts=True)
        self._ids, self._counts = ids, counts
        self._starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)[:-1]])

    def __len__(self) -> int:
        return -(-len(self._ids) // self.subjects)

    def order(self, epoch: int) -> Tensor:
        """Order of the subjects in ``epoch``."""
        rng = np.random.default_rng([self.seed, epoch])
        return torch.from_numpy(rng.permutation(len(self._ids)))

    def __iter__(self) -> Iterator[Batch]:
        for chosen in self.order(self.epoch).split(self.subjects):
            yield self.batch(chosen)

    def batch(self, chosen: Tensor) -> Batch:
        """All rows of the subjects at positions ``chosen``."""
        counts, rows = self._counts[chosen], self.rows
        local = torch.repeat_interleave(torch.arange(len(chosen)), counts)
        first = torch.repeat_interleave(self._starts[chosen] - (counts.cumsum(0) - counts), counts)
        index = first + torch.arange(len(local))
        ids = self._ids[chosen]
        return Batch(
            rows.row[index],
            local,
            rows.treatment[index],
            {name: value[ids] for name, value in rows.x.items()},
            rows.presence[ids],
            rows.target[index],
            rows.censored[index],
            rows.part[index],
        )

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["seed"] != self.seed:
            raise ValueError(
                f"this loader shuffles with seed {self.seed}; the checkpoint was made with {state['seed']}."
            )
        self.epoch = state["epoch"]
