"""What passed at a server, line by line, so that a run that was interrupted is recorded whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.federated.robust.updates import Noted
from workbench.federated.state import State, figures
from workbench.federated.watched import Exchange, Watched


class Journal:
    """Exchanges and figures of every round of one training, in a file that is only added to.

    Parameters
    ----------
    path : the file
    mark : what the training depends on; a journal of another one is begun anew
    last : the state that the training goes on from; None begins the journal anew whatever it holds

    Attributes
    ----------
    exchanges, noted, points : what an earlier process of the same training wrote; points are (round, {figure: value}),
        those of ``last`` among them although it was killed before it wrote them here
    """

    def __init__(self, path: Path, mark: str, last: State | None) -> None:
        self.path = path
        self.exchanges: list[Exchange] = []
        self.noted: list[Noted] = []
        self.points: list[tuple[int, dict[str, float]]] = []
        lines = [] if last is None or not path.is_file() else path.read_text(encoding="utf-8").splitlines()
        told = [t for line in lines if (t := _line(line)) is not None]
        if not told or told[0] != {"mark": mark}:
            told = []
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")
            self._add({"mark": mark})
        elif not path.read_bytes().endswith(b"\n"):  # torn by a kill: the next line begins a new one
            with path.open("ab") as stream:
                stream.write(b"\n")
        self.exchanges = [Exchange(**t["exchange"]) for t in told if "exchange" in t]
        self.noted = [Noted(**t["noted"]) for t in told if "noted" in t]
        self.points = [(t["round"], t["figures"]) for t in told if "figures" in t]
        if last is not None and last[0] not in {number for number, _ in self.points}:
            self.points.append((last[0], figures(last[2])))

    def watch(self, watched: Watched) -> None:
        """Tell ``watched`` what passed before this process."""
        watched.exchanges += self.exchanges
        watched.noted += self.noted

    def add(self, what: Exchange | Noted) -> None:
        """Write down one exchange, or what the checks said of one answer."""
        self._add({"exchange" if isinstance(what, Exchange) else "noted": asdict(what)})

    def point(self, number: int, found: Mapping[str, float]) -> None:
        """Write down the figures of a round; on return the disk has them."""
        self._add({"round": number, "figures": dict(found)}, synced=True)

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
