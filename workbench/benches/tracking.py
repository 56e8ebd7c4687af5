"""Reading very many runs for a comparison against MLflow's own client, on a sqlite store of MLflow's own schema.

10,000 runs of 10 metrics and 5 parameters each, 25 to an experiment run with its nested ones, written by SQL into a
temporary folder; with them NaN, infinity and deleted runs. Ours and ``MlflowClient.search_runs`` take turns in one
process and must give the same values: all runs (its pages of 1,000), and the 100 best by one metric (its ``order_by``).
Ours takes runs, metrics, parameters and the tags that a comparison needs; the client has no way to ask for less.
"""

from __future__ import annotations

import math
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from workbench.runs import index, key, store

RUNS, METRICS, PARAMETERS, TOP, ROUNDS = 10_000, 10, 5, 100, 3
NESTED = 25  # an experiment's run and its nested ones
METRIC = "normalised Pearson"
START_MS = 1_790_000_000_000


@contextmanager
def elsewhere(folder: Path) -> Iterator[Path]:
    """The tracking store is a new sqlite file in ``folder`` until the end of the block."""
    before, database = os.environ.get("MLFLOW_TRACKING_URI"), folder / "mlflow.db"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
    try:
        store.client()
        yield database
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI")
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def fill(database: Path, runs: int = RUNS, metrics: int = METRICS, parameters: int = PARAMETERS, seed: int = 0) -> None:
    """Write runs into a store that MLflow made: every 97th is deleted; some metrics are NaN or infinite."""
    draw = random.Random(seed)
    ids = [f"{draw.getrandbits(128):032x}" for _ in range(runs)]
    names = [key(METRIC), *(f"metric {i}" for i in range(1, metrics))]
    rows: dict[str, list[tuple[Any, ...]]] = {"runs": [], "latest_metrics": [], "params": [], "tags": []}
    for i, run in enumerate(ids):
        stage, began = "deleted" if i % 97 == 96 else "active", START_MS + 1000 * (i // 2)
        rows["runs"].append((run, f"run {i}", "FINISHED", began, began + draw.randrange(1, 90_000), stage, 1))
        for name in names:
            odd = {0: math.nan, 1: math.inf, 2: -math.inf}.get(draw.randrange(2000), draw.gauss(0.5, 0.1))
            value = 0.0 if math.isnan(odd) else max(min(odd, sys.float_info.max), -sys.float_info.max)
            rows["latest_metrics"].append((name, value, began, 0, math.isnan(odd), run))
        rows["params"] += [(f"parameter.{j}", str(draw.randrange(10)), run) for j in range(parameters)]
        told = {"workbench.kind": "experiment", "study": "gdsc2", "split": "unseen subject", "seed": str(i % 2)}
        if i % NESTED:
            told = {"workbench.kind": "predictor and fold", "predictor": f"predictor {i % 5}", "fold": str(i % 25 // 5)}
            told["mlflow.parentRunId"] = ids[i - i % NESTED]
        rows["tags"] += [(k, v, run) for k, v in told.items()]
    columns = {
        "runs": "run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id",
        "latest_metrics": '"key", value, timestamp, step, is_nan, run_uuid',
        "params": '"key", value, run_uuid',
        "tags": '"key", value, run_uuid',
    }
    with closing(sqlite3.connect(database)) as raw, raw:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, "
            "last_update_time) VALUES (1, 'bench', ?, 'active', 0, 0)",
            [(database.parent / "artifacts").as_uri()],
        )
        for table, values in rows.items():
            marks = ", ".join("?" * len(values[0]))
            raw.executemany(f"INSERT INTO {table} ({columns[table]}) VALUES ({marks})", values)
        raw.execute("UPDATE runs SET artifact_uri = '', source_type = 'LOCAL', user_id = 'bench'")


def ours_all() -> list[pl.DataFrame]:
    """Runs, metrics and parameters of the whole store."""
    return [index.history(), index.history_metrics(), index.history_params()]


def ours_top(n: int) -> list[pl.DataFrame]:
    """The same of the ``n`` best runs, best first."""
    ids = index.best(METRIC, n)["run_id"]
    told = index.history(run_ids=ids)
    return [ids.to_frame().join(told, on="run_id", maintain_order="left"),
            index.history_metrics(ids), index.history_params(ids)]  # fmt: skip


def peer_all() -> list[Any]:
    """MLflow's runs, page by page."""
    return list(store.pages(store.client().search_runs, **_asked()))


def peer_top(n: int) -> list[Any]:
    """MLflow's runs in its own order by a metric, as many as asked for."""
    return list(store.client().search_runs(**_asked([f"metrics.`{key(METRIC)}` DESC"]), max_results=n))


def _asked(order: list[str] | None = None) -> dict[str, Any]:
    return {"experiment_ids": [e.experiment_id for e in store.pages(store.client().search_experiments)],
            "order_by": order or ["attributes.start_time DESC"]}  # fmt: skip


def check(ours: list[pl.DataFrame], peer: list[Any]) -> None:
    """Same runs in the same order, same metrics to the bit, same parameters; else AssertionError says what differs."""
    runs, metrics, params = ours
    told = [(r.info.run_id, r.info.run_name, r.info.status, r.info.start_time, r.data.tags.get("fold")) for r in peer]
    mine = runs.select("run_id", "name", "status", pl.col("started").dt.epoch("ms"), pl.col("fold").cast(pl.String))
    if mine.rows() != told:
        raise AssertionError("ours and the client list different runs")
    for what, frame, theirs in (
        ("metrics", metrics, {(r.info.run_id, k): repr(v) for r in peer for k, v in r.data.metrics.items()}),
        ("parameters", params, {(r.info.run_id, k): repr(v) for r in peer for k, v in r.data.params.items()}),
    ):
        found = {(run, k): repr(v) for run, k, v in frame.iter_rows()}
        if found != theirs or len(found) != frame.height:
            raise AssertionError(f"ours and the client read different {what}")


def run(runs: int = RUNS, top: int = TOP, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Interleave both sides ``rounds`` times after a check that does not count; medians."""
    from tqdm import tqdm

    jobs: list[tuple[str, Callable[[], list[pl.DataFrame]], Callable[[], list[Any]]]] = [
        (f"{runs:,} runs, all", ours_all, peer_all),
        (f"{runs:,} runs, top {top}", lambda: ours_top(top), lambda: peer_top(top)),
    ]
    found = []
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder, elsewhere(Path(folder)) as database:
        fill(database, runs)
        with tqdm(total=len(jobs) * (rounds + 1), desc="tracking", unit="round", file=sys.stderr) as bar:
            for name, ours, peer in jobs:
                check(ours(), peer())
                bar.update()
                mine, theirs = [], []
                for _ in range(rounds):
                    mine.append(_seconds(ours))
                    theirs.append(_seconds(peer))
                    bar.update()
                a, b = statistics.median(mine), statistics.median(theirs)
                ratios = sorted(y / x for x, y in zip(mine, theirs, strict=True))
                note = (
                    f"{METRICS} metrics, {PARAMETERS} parameters and tags each; same values; "
                    f"rounds {ratios[0]:,.0f}x to {ratios[-1]:,.0f}x"
                )
                found.append({"name": name, "ours": a, "peer": b, "unit": "s", "ratio": b / a, "note": note})
    return found


def _seconds(do: Callable[[], Any]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start
