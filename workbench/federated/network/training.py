"""One round's training at a site, on its own rows from the shared weights on: what every kind of round starts from."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from workbench import train
from workbench.batches import Rows
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.network.module import RoundLoader, RoundResponse


def trained(module: RoundResponse, rows: Rows, ask: Ask, name: str, optimizer: dict[str, Any] | None = None) -> None:
    """Train ``module`` for the ask's epochs at the ask's place in the whole schedule.

    Values of the ask: number (of the round, from 0), rounds, epochs (of each), proximal.
    """
    epochs, number = int(_rows.number(ask, "epochs")), int(_rows.number(ask, "number"))
    seed = seed_of(int(module.params["seed"]), name)
    loader = RoundLoader(rows, module.params["subjects"], seed, first=number * epochs)
    steps = len(loader) * epochs
    total = int(_rows.number(ask, "rounds")) * steps
    module.begin(number * steps, total, _rows.number(ask, "proximal"), optimizer)
    module.train()  # predicting left it in evaluation mode, and the trainer keeps what it finds
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, str(number)))  # the CPU's; manual_seed looks for others too
        train.run_lightning(module, loader, epochs=epochs, survive=train.Survive(None), accelerator="cpu")


def seed_of(seed: int, name: str) -> int:
    """A seed of its own for each name, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()[:4], "big")


def weight_of(rows: float, of: int) -> float:
    """What a change counts: rows / 2^k, the smallest 2^k that is not below ``of``, the rows of all; exact in binary."""
    return rows / 2.0 ** (max(of, 1) - 1).bit_length()
