"""What passed at the server of a deployment, line by line, so that a run that was interrupted is recorded whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.federated.robust.updates import Noted
from workbench.federated.watched import Exchange


class Journal:
    """Exchanges and figures of every round of one training, in a file that is only added to.

    Parameters
    ----------
    path : the file
    mark : what the training depends on; a journal of another one is begun anew
    fresh : True begins it anew whatever it holds: there is no state to go on from

    Attributes
    ----------
    exchanges, noted, points : what an earlier process of the same training wrote; points are (round, {figure: value})
    """

    def __init__(self, path: Path, mark: str, fresh: bool) -> None:
        self.path = path
        self.exchanges: list[Exchange] = []
        self.noted: list[Noted] = []
        self.points: list[tuple[int, dict[str, float]]] = []
        lines = [] if fresh or not path.is_file() else path.read_text(encoding="utf-8").splitlines()
        told = [t for line in lines if (t := _line(line)) is not None]
        if not told or told[0] != {"mark": mark}:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")
            self._add({"mark": mark})
            return
        if not path.read_bytes().endswith(b"\n"):  # torn by a kill: the next line begins a new one
            with path.open("ab") as stream:
                stream.write(b"\n")
        self.exchanges = [Exchange(**t["exchange"]) for t in told if "exchange" in t]
        self.noted = [Noted(**t["noted"]) for t in told if "noted" in t]
        self.points = [(t["round"], t["figures"]) for t in told if "figures" in t]

    def add(self, what: Exchange | Noted) -> None:
        """Write down one exchange, or what the checks said of one answer."""
        self._add({"exchange" if isinstance(what, Exchange) else "noted": asdict(what)})

    def point(self, number: int, figures: Mapping[str, float]) -> None:
        """Write down the figures of a round; on return the disk has them."""
        self._add({"round": number, "figures": dict(figures)}, synced=True)

    def drop(self) -> None:
        """Remove it: the run holds all of it."""
        self.path.unlink(missing_ok=True)

    def _add(self, what: Mapping[str, Any], synced: bool = False) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(what) + "\n")
            if synced:
                stream.flush()
                os.fsync(stream.fileno())


def _line(line: str) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
