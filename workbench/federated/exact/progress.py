"""How far a fit has come, as plain arrays and values: what a server that was killed goes on from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from workbench.federated.exact.harmonise import Plan

State = tuple[int, Mapping[str, np.ndarray], Mapping[str, Any]]  # round, arrays, values
Keep = Callable[[int, Mapping[str, np.ndarray], Mapping[str, Any]], None]


class Progress:
    """Stages done so far, each with its arrays, and the inside of the one under way."""

    def __init__(self, state: State | None, keep: Keep | None, say: Callable[[float, str], None] | None) -> None:
        self.round = 0
        self.arrays: dict[str, np.ndarray] = {}
        self.values: dict[str, Any] = {}
        if state is not None:
            self.round, self.arrays, self.values = state[0], dict(state[1]), dict(state[2])
        self._keep, self._say = keep, say

    def next(self, rounds: int = 1) -> int:
        """Number of the round that begins, of ``rounds``."""
        self.round += rounds
        return self.round - rounds

    def agreed(self, make: Callable[[], Plan]) -> Plan:
        """The plan, made where there is none yet."""
        if "plan" not in self.values:
            self.values["plan"] = make().text()
            self.save()
        return self.plan()

    def plan(self) -> Plan:
        return Plan.of(self.values["plan"])

    def once(
        self, stage: str, share: float, what: str, make: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The arrays of a stage: as they were kept, or made now and kept."""
        done = json.loads(self.values.get("done", "[]"))
        if stage not in done:
            made = make()
            self.arrays = {k: v for k, v in self.arrays.items() if not k.startswith("inside/")}
            self.arrays |= {f"{stage}/{name}": array for name, array in made.items()}
            self.values["done"] = json.dumps([*done, stage])
            self.save()
            if self._say is not None:
                self._say(share, what)
        return {k.partition("/")[2]: v for k, v in self.arrays.items() if k.partition("/")[0] == stage}

    def inner(self, name: str) -> dict[str, np.ndarray] | None:
        """What was kept inside a stage under ``name``."""
        prefix = f"inside/{name}/"
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)} or None

    def inside(self, name: str) -> Callable[[Mapping[str, np.ndarray]], None]:
        """What keeps the inside of a stage under ``name``, after each of its rounds."""

        def keep(arrays: Mapping[str, np.ndarray]) -> None:
            self.arrays |= {f"inside/{name}/{k}": v for k, v in arrays.items()}
            self.save()

        return keep

    @contextlib.contextmanager
    def part(self, low: float, high: float) -> Iterator[None]:
        """What is said meanwhile is a part of the whole, from ``low`` to ``high``."""
        say = self._say
        self._say = None if say is None else lambda done, what: say(low + (high - low) * done, what)
        try:
            yield
        finally:
            self._say = say

    def save(self) -> None:
        if self._keep is not None:
            self._keep(self.round, dict(self.arrays), dict(self.values))

    def restart(self, why: str) -> None:
        """Forget all but the number of the round."""
        self.arrays, self.values = {}, {}
        if self._say is not None:
            self._say(0.0, why)
