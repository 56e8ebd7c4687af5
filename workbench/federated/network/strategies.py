"""What the server does with the sites' mean change: pure steps over {name: array}.

    D = sum_i n_i (w_i - w) / sum_i n_i                     w: shared weights, w_i: those of site i after its own epochs
    FedAvg    w + eta D                                     eta = 1: the weighted mean of the sites' weights
    FedProx   the same; a site adds mu / 2 |w_i - w|^2 to its loss
    FedAdam   w + eta m / (sqrt(v) + tau),   m = b1 m + (1 - b1) D,   v = b2 v + (1 - b2) D^2
    FedYogi   the same with                  v = v - (1 - b2) D^2 sign(v - D^2)

Sources: McMahan et al. 2017 (FedAvg), Li et al. 2020 (FedProx), Reddi et al. 2021, Adaptive federated optimization
(m starts at 0, v at tau^2, no correction of the start). Layers that a site keeps to itself (``own``: a local head,
Collins et al. 2021) are never sent, so no strategy sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from workbench.text import nearest

Arrays = dict[str, np.ndarray]
# what replaces the weighted mean where sites may lie (``robust.rules.Rule``): (changes, weights, names of the sites,
# bad ones that are dropped already) -> an object with ``arrays`` and ``set_aside``
Combine = Callable[[Sequence[Arrays], np.ndarray, Sequence[str], int], Any]


class StrategyError(ValueError):
    """No such strategy or setting; names the nearest."""


class Strategy(Protocol):
    """``proximal`` is the sites' mu; ``step`` gives the new shared weights and the strategy's own new state."""

    proximal: float

    def start(self, shared: Mapping[str, np.ndarray]) -> Arrays: ...
    def step(
        self, shared: Mapping[str, np.ndarray], change: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]
    ) -> tuple[Arrays, Arrays]: ...


@dataclass(frozen=True)
class FedAvg:
    """Weighted mean. ``rate``: eta."""

    rate: float = 1.0
    proximal: float = 0.0

    def start(self, shared: Mapping[str, np.ndarray]) -> Arrays:
        return {}

    def step(
        self, shared: Mapping[str, np.ndarray], change: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]
    ) -> tuple[Arrays, Arrays]:
        moved = {k: _as(w, w.astype(np.float64) + self.rate * change[k]) for k, w in shared.items()}
        return moved, dict(state)


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg whose sites are held near the shared weights. ``proximal``: mu."""

    proximal: float = 0.01


@dataclass(frozen=True)
class FedAdam:
    """Adam on the server. ``rate``: eta; ``first``, ``second``: b1, b2; ``floor``: tau."""

    rate: float = 0.01
    first: float = 0.9
    second: float = 0.99
    floor: float = 1e-3
    proximal: float = 0.0

    def start(self, shared: Mapping[str, np.ndarray]) -> Arrays:
        m = {f"m.{k}": np.zeros(w.shape) for k, w in shared.items()}
        return m | {f"v.{k}": np.full(w.shape, self.floor**2) for k, w in shared.items()}

    def step(
        self, shared: Mapping[str, np.ndarray], change: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]
    ) -> tuple[Arrays, Arrays]:
        moved: Arrays = {}
        after: Arrays = {}
        for k, w in shared.items():
            d = np.asarray(change[k], dtype=np.float64)
            m = self.first * state[f"m.{k}"] + (1 - self.first) * d
            v = self._second(state[f"v.{k}"], d * d)
            after[f"m.{k}"], after[f"v.{k}"] = m, v
            moved[k] = _as(w, w.astype(np.float64) + self.rate * m / (np.sqrt(v) + self.floor))
        return moved, after

    def _second(self, v: np.ndarray, square: np.ndarray) -> np.ndarray:
        return self.second * v + (1 - self.second) * square


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """FedAdam whose second moment moves by no more than the square itself."""

    def _second(self, v: np.ndarray, square: np.ndarray) -> np.ndarray:
        return v - (1 - self.second) * square * np.sign(v - square)


STRATEGIES: dict[str, type] = {c.__name__: c for c in (FedAvg, FedProx, FedAdam, FedYogi)}


def make(name: str, **options: float) -> Strategy:
    """Strategy ``name`` with its options; unknown ones raise StrategyError with the nearest."""
    if name not in STRATEGIES:
        raise StrategyError(f"unknown strategy {name!r}.{nearest(name, STRATEGIES)} Known: {', '.join(STRATEGIES)}.")
    known = [f.name for f in fields(STRATEGIES[name])]
    for key in options:
        if key not in known:
            raise StrategyError(f"{name} has no option {key!r}.{nearest(key, known)} It has: {', '.join(known)}.")
    return STRATEGIES[name](**options)


def mean(changes: Sequence[Arrays], weights: np.ndarray) -> Arrays:
    """Weighted mean of single changes: what the sum over sites gives without looking at any."""
    w = np.asarray(weights, dtype=np.float64)
    w = w / w.sum()
    return {k: np.tensordot(w, np.stack([c[k].astype(np.float64) for c in changes]), 1) for k in changes[0]}


def _as(like: np.ndarray, value: np.ndarray) -> np.ndarray:
    return value.astype(like.dtype)
