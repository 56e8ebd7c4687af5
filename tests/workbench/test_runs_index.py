"""Runs read by SQL say what MLflow's client says, of a sqlite store, of a server and of what neither knows."""

from __future__ import annotations

import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from workbench import runs, tables
from workbench.runs import index, keys, store
from workbench.runs.stored import stored

pytestmark = pytest.mark.shared_home  # one store for the file

NAME = "R² (a/b) <b>"


@pytest.fixture(scope="module")
def recorded() -> dict[str, str]:
    """Two experiments, one of a deleted MLflow experiment, a deleted run, later steps, NaN and infinity."""
    ids = {}
    for name in ("one", "two", "gone"):
        with runs.record({"name": name, "study": "toy", "split": "unseen pair", "seed": 3}, "00" * 32) as parent:
            for fold in (0, 1):
                with parent.child("ridge", fold, {"alpha": 1.5, "nested": {"deep": [1, 2]}, NAME: "x"}) as child:
                    child.metrics({"RMSE": 1.0 + fold, NAME: 0.5})
                    child.metrics({"RMSE": 2.0 + fold}, step=1)
                    ids[name, fold] = child.run_id
        ids[name] = parent.run_id
    client = store.client()
    client.log_metric(ids["one", 0], "odd", float("nan"))
    client.log_metric(ids["one", 1], "odd", float("inf"))
    client.log_metric(ids["two", 0], "odd", float("-inf"))
    client.delete_run(ids["two", 1])
    client.delete_experiment(client.get_run(ids["gone"]).info.experiment_id)
    return ids


def theirs() -> list:
    return list(store.search_runs(""))


def same(history: pl.DataFrame, metrics: pl.DataFrame, params: pl.DataFrame) -> None:
    """The frames hold the client's runs, and its values to the bit."""
    peer = theirs()
    assert set(history["run_id"]) == {r.info.run_id for r in peer} and history["run_id"].is_unique().all()
    mine = {(r, m): repr(v) for r, m, v in metrics.iter_rows()}
    assert mine == {(r.info.run_id, k): repr(v) for r in peer for k, v in r.data.metrics.items()}
    assert len(mine) == metrics.height
    told = {(r, p): v for r, p, v in params.iter_rows()}
    assert told == {(r.info.run_id, k): v for r in peer for k, v in r.data.params.items()}
    by_id = {r["run_id"]: r for r in history.iter_rows(named=True)}
    for run in peer:
        row, info, tags = by_id[run.info.run_id], run.info, run.data.tags
        assert (row["name"], row["status"], row["experiment_id"]) == (info.run_name, info.status, info.experiment_id)
        assert row["started"].timestamp() * 1000 == pytest.approx(info.start_time, abs=0.5)
        assert row["duration_s"] == pytest.approx((info.end_time - info.start_time) / 1000)
        assert row["parent"] == tags.get("mlflow.parentRunId") and row["predictor"] == tags.get("predictor")
        assert row["fold"] == (int(tags["fold"]) if "fold" in tags else None)


def test_values_are_those_of_the_client(recorded: dict[str, str]) -> None:
    history = index.history()
    same(history, index.history_metrics(), index.history_params())
    assert dict(history.schema) == index.HISTORY
    nested = history.filter(run_id=recorded["one", 1]).row(0, named=True)
    assert (nested["study"], nested["split"], nested["seed"], nested["experiment"]) == ("toy", "unseen pair", 3, "one")
    assert nested["study_digest"] == "00" * 32 and nested["kind"] == "predictor and fold"
    assert history["started"].is_sorted(descending=True)
    assert recorded["two", 1] not in set(history["run_id"]) and recorded["gone"] not in set(history["run_id"])


def test_the_latest_step_nan_and_infinity(recorded: dict[str, str]) -> None:
    found = {(r, m): v for r, m, v in index.history_metrics(metrics=["RMSE", "odd"]).iter_rows()}
    assert found[recorded["one", 0], "RMSE"] == 2.0 and found[recorded["one", 1], "RMSE"] == 3.0
    assert math.isnan(found[recorded["one", 0], "odd"])
    assert found[recorded["one", 1], "odd"] == sys.float_info.max == -found[recorded["two", 0], "odd"]
    assert {m for _, m in found} == {"RMSE", "odd"}


def test_names_are_translated_where_asked(recorded: dict[str, str]) -> None:
    ids = [recorded["one", 0]]
    for asked in (NAME, keys.key(NAME)):
        assert index.history_metrics(ids, [asked])["metric"].to_list() == [keys.key(NAME)]
        assert index.history_metrics(ids, [asked], named=True)["metric"].to_list() == [NAME]
    told = dict(index.history_params(ids, named=True).select("param", "value").iter_rows())
    assert told == {"alpha": "1.5", "nested.deep": "[1, 2]", NAME: "x", "predictor": "ridge"}


def test_parts_of_the_history(recorded: dict[str, str]) -> None:
    assert set(index.history(["one"])["experiment"]) == {"one"} and index.history(["nothing"]).is_empty()
    newest = index.history(limit=2)
    assert newest["run_id"].to_list() == index.history()["run_id"].to_list()[:2]
    nested = index.history(run_ids=[recorded["one", 0], "unknown", recorded["two", 1]])
    assert nested["run_id"].to_list() == [recorded["one", 0]] and nested["study"].to_list() == ["toy"]
    assert index.history_metrics([]).is_empty() and index.history_params(["unknown"]).is_empty()
    assert index.history_metrics([recorded["two", 1]]).is_empty()


def test_the_best_by_a_metric_are_those_of_the_client(recorded: dict[str, str]) -> None:
    found = index.best("RMSE", 2)
    assert found.rows() == [(recorded["one", 1], 3.0), (recorded["two", 0], 2.0)]  # of equals the newest
    assert index.best("RMSE", 1, ascending=True)["value"].to_list() == [2.0]
    assert index.best("odd", 9)["run_id"].to_list() == [recorded["one", 1], recorded["two", 0]]  # NaN is left out
    assert index.best("RMSE", 9, experiments=["two"])["run_id"].to_list() == [recorded["two", 0]]
    assert index.best("nothing", 3).is_empty()
    with pytest.raises(runs.RunError, match="at least 1"):
        index.best("RMSE", 0)


def test_a_schema_not_known_is_read_through_the_client(recorded: dict[str, str], monkeypatch) -> None:
    fast = [index.history(), index.history_metrics(), index.history_params(named=True), index.best("RMSE", 2)]
    one = [index.history(run_ids=[recorded["one", 0]]), index.history_metrics([recorded["one", 0]], [NAME], named=True)]
    one += [index.places([recorded["one"]], "sha256 files"), index.history(["two"]), index.history(limit=1)]
    monkeypatch.setattr(index, "_known", lambda database: False)
    slow = [index.history(), index.history_metrics(), index.history_params(named=True), index.best("RMSE", 2)]
    few = [index.history(run_ids=[recorded["one", 0]]), index.history_metrics([recorded["one", 0]], [NAME], named=True)]
    few += [index.places([recorded["one"]], "sha256 files"), index.history(["two"]), index.history(limit=1)]
    for a, b in zip(fast + one, slow + few, strict=True):
        by = [c for c in ("run_id", "metric", "param") if c in a.columns]
        assert a.sort(by).equals(b.sort(by)), (a, b)


def test_a_table_that_a_later_mlflow_renamed_is_noticed(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE runs (id TEXT)")
        assert not index._known(database)


def test_an_empty_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "empty"))
    assert index.history().is_empty() and dict(index.history().schema) == index.HISTORY
    assert index.history_metrics().is_empty() and index.best("RMSE", 5).is_empty()


def test_tables_of_many_runs(recorded: dict[str, str]) -> None:
    curve = pl.DataFrame(
        {"predictor": "ridge", "fold": 0, "step": [0, 1], "name": "loss", "value": [1.0, 0.5], "unit": None},
        schema=dict(tables.CURVES.columns),
    )
    with runs.record({"name": "kept", "study": "toy"}, "00" * 32) as parent, parent.child("ridge", 0) as child:
        child.tables({"CURVES": curve})
    found = dict(stored([parent.run_id, child.run_id], "curves"))
    assert list(found) == [child.run_id] and found[child.run_id].equals(curve)
    assert next(stored([child.run_id], "CURVES", ["value"]))[1].columns == ["value"]
    with pytest.raises(runs.RunError, match="no table is called 'CURVE'"):
        list(stored([child.run_id], "CURVE"))


# ---- a server


@pytest.fixture
def served(recorded: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on this machine over the store of this file."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv, env = runs.server_command(port)
    log = (tmp_path / "server.log").open("wb")
    server = subprocess.Popen(argv, env=os.environ | env, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
        log.close()


@pytest.mark.slow
def test_a_server_gives_the_same(recorded: dict[str, str], request: pytest.FixtureRequest) -> None:
    fast = [index.history(), index.history_metrics(), index.history_params(), index.best("RMSE", 2)]
    request.getfixturevalue("served")
    slow = [index.history(), index.history_metrics(), index.history_params(), index.best("RMSE", 2)]
    for a, b in zip(fast, slow, strict=True):
        by = [c for c in ("run_id", "metric", "param") if c in a.columns]
        assert a.sort(by).equals(b.sort(by)), (a, b)
    same(*slow[:3])
    assert index.history(run_ids=[recorded["one", 0]])["study"].to_list() == ["toy"]
