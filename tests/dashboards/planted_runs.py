"""A store of planted runs for the page that compares them: a listing, and comparisons of any of its runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from tests.widgets import planted_comparison

BEGAN = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


def history(names: Sequence[str] = ("response", "tuned"), each: int = 3, hostile: str = "") -> pl.DataFrame:
    """Runs of two studies: ``each`` a split and experiment, the newest still running; a nested run below each."""
    rows: list[tuple[Any, ...]] = []
    for study, split in planted_comparison.PLACES:
        for name in names:
            for i in range(each):
                run_id = f"{len(rows):032x}"
                shown = f"{hostile}{name} {split.split()[-1]} {i}"
                started = BEGAN + timedelta(hours=len(rows))
                status = "RUNNING" if i == each - 1 else "FINISHED"
                own = (name, study, split, None, None, 0, status, started, 420.0 if status == "FINISHED" else None)
                rows.append((run_id, None, shown, *own, "experiment", "7"))
                rows.append((f"{len(rows):032x}", run_id, "ridge fold 0", *own, "predictor and fold", "7"))
    return pl.DataFrame(
        rows,
        schema={
            "run_id": pl.String(), "parent": pl.String(), "name": pl.String(), "experiment": pl.String(),
            "study": pl.String(), "split": pl.String(), "predictor": pl.String(), "fold": pl.Int64(),
            "seed": pl.Int64(), "status": pl.String(), "started": pl.Datetime("ms", "UTC"), "duration_s": pl.Float64(),
            "kind": pl.String(), "experiment_id": pl.String(),
        },
        orient="row",
    )  # fmt: skip


class Store:
    """Planted runs; ``asked`` keeps what was compared. ``slow`` seconds pass before an answer."""

    def __init__(self, runs: pl.DataFrame | Exception | None = None, slow: float = 0.0, hostile: str = "") -> None:
        self.runs = history(hostile=hostile) if runs is None else runs
        self.slow, self.hostile = slow, hostile
        self.asked: list[list[str]] = []

    def history(self) -> pl.DataFrame:
        """The listing, or what goes wrong with it."""
        time.sleep(self.slow)
        if isinstance(self.runs, Exception):
            raise self.runs
        return self.runs

    def compare(self, runs: Sequence[str], say: Callable[[float, str], None]) -> Any:
        """What is planted, for the places of these runs."""
        say(0.5, "half of it")
        time.sleep(self.slow)
        self.asked.append(list(runs))
        assert isinstance(self.runs, pl.DataFrame)
        places = self.runs.filter(pl.col("run_id").is_in(list(runs))).select("study", "split").unique().rows()
        return planted_comparison.comparison(hostile=self.hostile, places=places)
