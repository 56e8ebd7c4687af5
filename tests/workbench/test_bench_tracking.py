"""The benchmark of the reader compares equal values, and would see others."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from workbench.benches import tracking


def test_the_benchmark_compares_equal_values() -> None:
    before = os.environ.get("MLFLOW_TRACKING_URI")
    rows = tracking.run(runs=300, top=20, rounds=1)
    assert [r["name"] for r in rows] == ["300 runs, all", "300 runs, top 20"]
    for row in rows:
        assert row["unit"] == "s" and row["ratio"] == pytest.approx(row["peer"] / row["ours"]) and row["ratio"] > 1
        assert "same values" in row["note"]
    assert os.environ.get("MLFLOW_TRACKING_URI") == before


def test_the_benchmark_sees_a_planted_difference(tmp_path: Path) -> None:
    with tracking.elsewhere(tmp_path) as database:
        tracking.fill(database, 60)
        ours, peer = tracking.ours_all(), tracking.peer_all()
        tracking.check(ours, peer)
        assert len(peer) == 60 and ours[1].height == 600 and ours[2].height == 300
        for wrong in (
            [ours[0].reverse(), *ours[1:]],
            [ours[0], ours[1].with_columns(pl.col("value") * (1 + 1e-15)), ours[2]],
            [ours[0], ours[1].head(599), ours[2]],
            [*ours[:2], ours[2].with_columns(pl.col("value").replace("3", "4"))],
        ):
            with pytest.raises(AssertionError, match="different"):
                tracking.check(wrong, peer)
        tracking.check(tracking.ours_top(7), tracking.peer_top(7))
