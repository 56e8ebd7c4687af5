"""What a server keeps after each round, so that one that is killed goes on: one file, whole or absent, inert.

The file is safetensors: the arrays to the bit, values and what the training depends on in its header. It is written
beside its place, synced and renamed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.durable import alive, sync_folder, write_synced
from workbench.federated.messages import Value

State = tuple[int, dict[str, np.ndarray], dict[str, Value]]


class Stopped(RuntimeError):
    """Training was asked to stop between two rounds; the same call goes on after the last one."""


class StateError(ValueError):
    """A state file cannot be read; says which."""


@dataclass(frozen=True)
class StateFile:
    """The state of one training.

    Attributes
    ----------
    path : where it lies
    mark : what the training depends on; a state with another mark is left alone and not used
    """

    path: Path
    mark: str

    def load(self) -> State | None:
        """(round, arrays, values) of the last round that was kept; None where there is none of this training."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        if not self.path.is_file():
            return None
        data = self.path.read_bytes()
        try:
            size = int.from_bytes(data[:8], "little")
            told = json.loads(data[8 : 8 + size])["__metadata__"]
            arrays = load(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise StateError(
                f"{self.path} is not a readable state ({type(error).__name__}). Delete it to train from the start."
            ) from None
        if told["mark"] != self.mark:
            return None
        return int(told["round"]), arrays, json.loads(told["values"])

    def keep(self, number: int, arrays: Mapping[str, np.ndarray], values: Mapping[str, Value]) -> None:
        """Write what round ``number`` ended with; on return the disk has it."""
        from safetensors.numpy import save

        told = {"mark": self.mark, "round": str(number), "values": json.dumps(dict(values))}
        data = save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata=told)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            if not alive(int(left.name.split(".")[-2])):
                left.unlink(missing_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            write_synced(temporary, data)
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def drop(self) -> None:
        """Remove it: the training has ended well."""
        self.path.unlink(missing_ok=True)


def figures(values: Mapping[str, Value]) -> dict[str, float]:
    """The numbers among a state's values: what can be drawn as a curve."""
    return {k: float(v) for k, v in values.items() if isinstance(v, (int, float))}


def keeper(
    file: StateFile | None,
    heard: Callable[[int, Mapping[str, Value]], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Callable[[int, Mapping[str, np.ndarray], Mapping[str, Value]], None]:
    """The ``keep`` of a method: writes the state, tells ``heard`` the round's values, and stops between rounds."""

    def keep(number: int, arrays: Mapping[str, np.ndarray], values: Mapping[str, Value]) -> None:
        if file is not None:
            file.keep(number, arrays, values)
        if heard is not None:
            heard(number, values)
        if stopped is not None and stopped():
            raise Stopped(f"stopped after round {number}; the same call goes on from there.")

    return keep
