"""A store of planted federations for their page: one that ended, one that trains, one without arms to compare."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from tests.widgets import planted_federation as planted
from widgets.dashboards.federation import Opened

BEGAN = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
NO_ARMS = "site 'north' has no rows of arm 'alone': what it has without joining must be known."


def history(hostile: str = "") -> pl.DataFrame:
    """Four runs, newest first."""
    rows = [
        ("d" * 32, "unlike sites", "RUNNING"), ("c" * 32, f"{hostile}alike sites", "FINISHED"),
        ("b" * 32, "without arms", "FINISHED"), ("a" * 32, "older run", "FINISHED"),
    ]  # fmt: skip
    told = [(i, n, "federation", s, BEGAN - timedelta(hours=k)) for k, (i, n, s) in enumerate(rows)]
    names = ["run_id", "name", "experiment", "status", "started"]
    return pl.DataFrame(told, schema=names, orient="row")


class Store:
    """Planted federations; ``asked`` keeps what was opened, with what matters. The one that trains gets on."""

    def __init__(self, runs: pl.DataFrame | Exception | None = None, slow: float = 0.0, hostile: str = "") -> None:
        self.runs = history(hostile) if runs is None else runs
        self.slow, self.hostile = slow, hostile
        self.asked: list[tuple[str, dict[str, float]]] = []
        self.round = 2

    def history(self) -> pl.DataFrame:
        """The listing, or what goes wrong with it."""
        if isinstance(self.runs, Exception):
            raise self.runs
        return self.runs

    def open(self, run_id: str, least: Mapping[str, float]) -> Opened:
        """What is planted for that run."""
        self.asked.append((run_id, dict(least)))
        time.sleep(self.slow)
        if run_id[0] == "d":
            self.round += 1
            return Opened(None, planted.rounds(min(self.round, 12), self.hostile), "RUNNING", NO_ARMS)
        if run_id[0] == "b":
            return Opened(None, planted.rounds(4), "FINISHED", NO_ARMS, {"method": "ridge"})
        value: Any = planted.value(self.hostile, sites=5 if run_id[0] == "c" else 2)
        if run_id[0] == "a":
            value.attacks = value.attacks.clear()
        return Opened(value, planted.rounds(12, self.hostile), "FINISHED", plan=planted.PLAN)
