"""Runs: what is recorded comes back to the bit, what was damaged is refused, what was killed does not stay open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import runs, tables
from workbench.runs import process, store

pytestmark = pytest.mark.shared_home  # one store for the file: it is made once

HOSTILE = "<img src=x onerror=alert(1)>"
DIGEST = "5a" * 32
ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, signal, sys, time
from workbench import runs
assert not {"mlflow", "torch", "matplotlib"} & set(sys.modules), "import workbench.runs is not light"
before = signal.getsignal(signal.SIGTERM)
with runs.record({"name": sys.argv[1], "study": "toy", "split": "unseen pair"}, study_digest="00" * 32) as run:
    with run.child("ridge", 0) as child:
        if sys.argv[1] == "forked":
            worker = os.fork()
            if not worker:
                time.sleep(60)
                os._exit(0)
            time.sleep(0.2)
            os.kill(worker, signal.SIGTERM)
            assert os.WTERMSIG(os.waitpid(worker, 0)[1]) == signal.SIGTERM
        else:
            print("ready", flush=True)
            time.sleep(60)
assert signal.getsignal(signal.SIGTERM) is before
"""


def predictions(predictor: str = "ridge", fold: int = 0, n: int = 4) -> pl.DataFrame:
    rows = {
        "predictor": predictor, "split": "unseen pair", "fold": fold, "row": range(n),
        "subject": [f"S{i}" for i in range(n)], "treatment": HOSTILE, "tissue": None, "endpoint": "ln_ic50",
        "unit": "ln(uM)", "predicted": np.linspace(-1, 1, n),
        "low": -2.0, "high": 2.0, "level": 0.9, "abstained": None, "baseline": 0.0, "observed": None, "censored": 0,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=dict(tables.PREDICTIONS.columns))


def metrics() -> pl.DataFrame:
    row = ("ridge", "unseen pair", "all", "RMSE", 1.2, 1.1, 1.3, 1.4, "drug_mean", "ln(uM)", "subject", 4, 0)
    return pl.DataFrame([row], schema=dict(tables.METRICS.columns), orient="row")


def curve(steps: int, predictor: str = "ridge", fold: int = 0) -> pl.DataFrame:
    rows = {"predictor": predictor, "fold": fold, "step": range(steps), "name": "loss", "value": 1.0, "unit": None}
    return pl.DataFrame(rows, schema=dict(tables.CURVES.columns))


ARRAYS = {
    "coef": np.arange(12, dtype=np.float32).reshape(3, 4).T,  # not contiguous
    "bias": np.float64(0.1),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 3), dtype=np.int8),
}
PAIRS = pl.DataFrame({"subject": ["S1"], "treatment": [HOSTILE]}, schema_overrides={"treatment": pl.Categorical})


@pytest.fixture(scope="module")
def whole(_module_home: Path) -> runs.Run:
    """A run with two predictors on two folds, tables, models and hostile names everywhere."""
    experiment = {
        "name": HOSTILE,
        "study": HOSTILE,
        "split": "unseen pair",
        "seed": 7,
        "nested": {"rate": 0.1},
        HOSTILE: [1],
    }
    with runs.record(experiment, study_digest=DIGEST, outcomes=tables.empty(tables.OUTCOMES)) as run:
        for p, predictor in enumerate(("ridge", HOSTILE)):
            for fold in range(2):
                rows = {"training": np.arange(10), "test": np.arange(10, 14)}
                with run.child(predictor, fold, {"alpha": 10.0, HOSTILE: HOSTILE}, **rows) as child:
                    child.metrics(
                        {"RMSE": 1.0 + p + fold, "R² (a/b)": 0.5, "per-drug Pearson": float("nan"), "MAE": None}
                    )
                    child.curve(curve(1500, predictor, fold))
                    child.curve(curve(3, predictor, fold))
                    child.model(predictor, {"alpha": 10.0, "fold": fold}, ARRAYS, PAIRS)
                    child.metrics({"after the model": 2.0, "infinite": float("inf")})
                    child.tables({"predictions": predictions(predictor, fold)})
        run.tables({"metrics": metrics()})
        run.metrics({"ridge RMSE": 1.2, "../x": 1.0, ".": 2.0, "": 3.0})
    return runs.find(run.run_id)


@pytest.fixture(scope="module")
def killed(_module_home: Path) -> Iterator[dict[str, tuple[int | None, str, str]]]:
    """Exit status, stdout and stderr of processes that got a real signal in the middle of a run.

    The one that got SIGKILL is left unreaped, a zombie, until the end; instead of its status stands its pid.
    """
    store.client()  # the store is there before they start
    command = [sys.executable, "-c", SCRIPT]
    started = {
        name: subprocess.Popen(
            [*command, name],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for name in ("9", "15", "2", "forked")
    }
    ended: dict[str, tuple[int | None, str, str]] = {}
    try:
        for name in ("9", "15", "2"):
            line = started[name].stdout.readline()  # type: ignore[union-attr]
            assert line == "ready\n", (line, started[name].communicate())
            started[name].send_signal(int(name))
        ended["9"] = (started["9"].pid, "", "")
        for name in ("15", "2", "forked"):
            said = started[name].communicate(timeout=60)
            ended[name] = (started[name].returncode, *said)
        yield ended
    finally:
        for one in started.values():
            if one.returncode is None:
                os.killpg(one.pid, signal.SIGKILL)
                one.communicate()


# --- names ------------------------------------------------------------------------------------------------------------


@settings(deadline=None)  # the first example imports mlflow
@given(st.text(max_size=20))
def test_every_name_survives_as_a_key(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    _validate_metric_name(runs.key(name))
    _validate_param_name(runs.key(name))
    assert runs.name_of(runs.key(name)) == name


def test_the_metric_names_of_the_workbench_are_their_own_keys() -> None:
    for name in ("RMSE", "normalised Pearson", "per-drug Pearson", "coverage", "interval width"):
        assert runs.key(name) == name
    assert len(runs.key("ä" * 300)) <= 250


# --- what comes back --------------------------------------------------------------------------------------------------


def test_tables_come_back_as_they_went_in(whole: runs.Run) -> None:
    assert whole.metrics.equals(metrics())
    both = [predictions(p, f) for p in ("ridge", HOSTILE) for f in range(2)]
    assert whole.predictions.equals(pl.concat(both)), "tables of the nested runs stand in for the missing one"
    assert len(whole.curves) == 4 * 1503
    assert whole.outcomes.schema == tables.empty(tables.OUTCOMES).schema
    assert whole.attributions.is_empty() and whole.comparisons.is_empty()


def test_parameters_keep_their_types_and_hostile_names_their_letters(whole: runs.Run) -> None:
    assert whole.params["nested"] == {"rate": 0.1} and whole.params[HOSTILE] == [1] and whole.params["seed"] == 7
    assert (whole.status, whole.study, whole.split, whole.study_digest) == ("FINISHED", HOSTILE, "unseen pair", DIGEST)
    assert whole.name.startswith(HOSTILE)
    assert whole.scores == {"ridge RMSE": 1.2, "../x": 1.0, ".": 2.0, "": 3.0}
    kept = whole.children[-1].data.params
    assert kept[runs.key(HOSTILE)] == HOSTILE and kept["alpha"] == "10.0"


def test_metrics_that_are_no_numbers_are_left_out(whole: runs.Run) -> None:
    kept = {runs.name_of(k) for k in whole.children[0].data.metrics}
    assert kept == {"RMSE", "R² (a/b)", "loss", "after the model"}
    assert len(store.client().get_metric_history(whole.children[0].info.run_id, "loss")) == 1503


def test_the_run_says_which_code_and_data_it_used(whole: runs.Run) -> None:
    assert json.loads(whole.tags["packages"])["mlflow"].startswith("3.")
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
        assert len(whole.tags["git.commit"]) == len(head.stdout.strip())  # it may have moved on meanwhile
        assert whole.tags["git.dirty"] in ("true", "false")
    assert len(whole.tags["lock.sha256"]) == 64 and whole.tags["seed"] == "7"
    inputs = whole.children[0].inputs.dataset_inputs
    assert sorted(t.value for i in inputs for t in i.tags) == ["test", "training"]
    assert {i.dataset.digest for i in inputs} == {i.dataset.digest for i in whole.children[2].inputs.dataset_inputs}
    assert json.loads(inputs[0].dataset.profile)["num_rows"] in (4, 10)


def test_models_rank_on_the_rows_they_were_tested_on(whole: runs.Run) -> None:
    test = next(i.dataset for i in whole.children[0].inputs.dataset_inputs if i.tags[0].value == "test")
    ranked = store.client().search_logged_models(
        [whole.experiment_id],
        order_by=[
            {"field_name": "metrics.RMSE", "ascending": True, "dataset_name": test.name, "dataset_digest": test.digest}
        ],
    )
    assert [m.tags["predictor"] for m in ranked if any(x.dataset_name == test.name for x in m.metrics)] == [
        "ridge",
        HOSTILE,
    ]
    assert {x.key for x in ranked[0].metrics} == {"RMSE", runs.key("R² (a/b)"), "after the model"}


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # importing mlflow.pyfunc
def test_a_model_comes_back_to_the_bit_and_nothing_in_it_runs(whole: runs.Run) -> None:
    seen = whole.model(HOSTILE, 1, lambda name, config, arrays: (name, config, arrays))
    assert seen[:2] == (HOSTILE, {"alpha": 10.0, "fold": 1})
    for name, array in ARRAYS.items():
        assert seen[2][name].dtype == array.dtype and np.array_equal(seen[2][name], array)
    import mlflow
    from mlflow.models import Model

    model = store.client().get_logged_model(whole.children[0].data.tags["workbench.model"])
    folder = Path(model.artifact_location.removeprefix("file://"))
    assert sorted(p.name for p in folder.iterdir()) == [
        "MLmodel", "arrays.safetensors", "config.json", "input_example.json", "requirements.txt",
    ]  # fmt: skip
    described = Model.load(str(folder))
    assert described.signature.inputs.input_names() == ["subject", "treatment"]
    assert described.signature.outputs.input_names() == ["predicted", "low", "high"]
    assert described.load_input_example(str(folder)).to_dict("list") == {"subject": ["S1"], "treatment": [HOSTILE]}
    assert list(described.flavors) == ["workbench"]
    with pytest.raises(mlflow.MlflowException, match="python_function"):
        mlflow.pyfunc.load_model(str(folder))


def test_a_missing_model_names_the_nearest(whole: runs.Run) -> None:
    with pytest.raises(runs.RunError, match="Did you mean 'ridge'"):
        whole.weights("rigde", 0)
    with pytest.raises(runs.RunError, match=r"folds \[0, 1\] of 'ridge'"):
        whole.weights("ridge", 5)


# --- what is refused --------------------------------------------------------------------------------------------------


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << (bit % 8)
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["arrays.safetensors", "config.json"])
def test_one_flipped_bit_in_a_model_is_refused(whole: runs.Run, file: str) -> None:
    child = next(c for c in whole.children if c.data.tags["predictor"] == "ridge")
    model = store.client().get_logged_model(child.data.tags["workbench.model"])
    path = Path(model.artifact_location.removeprefix("file://")) / file
    good = path.read_bytes()
    flip(path, 8 * len(good) - 3)
    with pytest.raises(runs.RunError, match=rf"{file} has SHA-256 .* expected .* not opened"):
        whole.weights("ridge", int(child.data.tags["fold"]))
    path.write_bytes(good)
    whole.weights("ridge", int(child.data.tags["fold"]))


def test_one_flipped_bit_in_a_table_is_refused_and_so_is_a_missing_file(whole: runs.Run, workbench_home: Path) -> None:
    path = workbench_home / "artifacts" / whole.run_id / "artifacts" / "tables" / "metrics.parquet"
    good = path.read_bytes()
    flip(path, 4321)
    with pytest.raises(runs.RunError, match=r"metrics\.parquet has SHA-256"):
        _ = runs.find(whole.run_id).metrics
    path.unlink()
    with pytest.raises(runs.RunError, match=r"metrics\.parquet was stored but cannot be read"):
        _ = runs.find(whole.run_id).metrics
    path.write_bytes(good)
    assert len(runs.find(whole.run_id).metrics) == 1


def test_a_wrong_table_fails_the_run_and_says_why(whole: runs.Run) -> None:
    with (
        pytest.raises(tables.TableError, match="column 'value' should be Float64"),
        runs.record({"name": "wrong table"}, study_digest=DIGEST) as run,
    ):
        run.tables({"metrics": metrics().with_columns(pl.col("value").cast(pl.String))})
    assert runs.find("wrong table").status == "FAILED"
    assert "TableError" in runs.find("wrong table").tags["workbench.ended by"]
    with runs.record({"name": "wrong names"}, study_digest=DIGEST) as run, run.child("ridge", 0) as child:
        with pytest.raises(runs.RunError, match="Did you mean 'METRICS'"):
            run.tables({"metricks": metrics()})
        with pytest.raises(runs.RunError, match="holds rows of 'trees', fold 0"):
            child.curve(curve(2, "trees"))
    with pytest.raises(runs.RunError, match="'name'"):
        runs.record({"study": "toy"}, study_digest=DIGEST)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_runs_are_found_by_id_start_of_id_name_and_experiment(whole: runs.Run) -> None:
    for wanted in (whole.run_id, whole.run_id[:12], whole.name, HOSTILE, whole.children[0].info.run_id):
        assert runs.find(wanted).run_id == whole.run_id
    with runs.record({"name": "newest"}, study_digest=DIGEST):
        pass
    assert runs.find("latest").name.startswith("newest ")
    with pytest.raises(ZeroDivisionError), runs.record({"name": "newest"}, study_digest=DIGEST):
        raise ZeroDivisionError
    assert runs.find("latest").status == "FAILED" and runs.find("newest").status == "FINISHED"
    with pytest.raises(runs.RunError, match="Did you mean 'newest'"):
        runs.find("newset")
    for unknown in ("", "0" * 32, "no such run"):
        with pytest.raises(runs.RunError, match="no run"):
            runs.find(unknown)


def test_a_start_that_fits_two_ids_is_refused(whole: runs.Run) -> None:
    known = runs.runs()["run_id"]
    first = [i[0] for i in known]
    shared = next((c for c in first if first.count(c) > 1), None)
    while shared is None:  # at most sixteen runs have different first letters
        with runs.record({"name": "more"}, study_digest=DIGEST):
            pass
        first = [i[0] for i in runs.runs()["run_id"]]
        shared = next((c for c in first if first.count(c) > 1), None)
    with pytest.raises(runs.RunError, match="run ids start with"):
        runs.find(shared)


def test_the_list_takes_one_search_and_shows_parents_only(whole: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    client = store.client()
    search = client.search_runs
    monkeypatch.setattr(client, "search_runs", lambda *a, **k: calls.append(k) or search(*a, **k))
    found = runs.runs()
    assert len(calls) == 1
    assert found["started"].is_sorted(descending=True) and found["started"].dtype == pl.Datetime("ms", "UTC")
    row = found.row(by_predicate=pl.col("run_id") == whole.run_id, named=True)
    assert (row["experiment"], row["status"], row["predictors"]) == (HOSTILE, "FINISHED", ["ridge", HOSTILE])
    assert not set(found["run_id"]) & {c.info.run_id for c in whole.children}


def test_the_page_is_told_one_worker_no_jobs_and_the_store(whole: runs.Run, workbench_home: Path) -> None:
    argv, env = runs.server_command(5001, prefix="user/mlflow/")
    assert argv[argv.index("--backend-store-uri") + 1] == f"sqlite:///{workbench_home}/mlflow.db"
    assert argv[argv.index("--workers") + 1] == "1" and argv[argv.index("--static-prefix") + 1] == "/user/mlflow"
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false" and env["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert env["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    where = f"#/experiments/{whole.experiment_id}/runs/{whole.run_id}"
    assert whole.ui_url("http://127.0.0.1:5001/").startswith(f"http://127.0.0.1:5001/{where}")


# --- what was killed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [("15", 143), ("2", -signal.SIGINT)])
def test_a_stopped_run_is_marked_killed_at_once(
    killed: dict[str, tuple[int | None, str, str]], name: str, code: int
) -> None:
    found = runs.find(name)
    assert found.status == "KILLED"
    assert [c.info.status for c in found.children] == ["KILLED"]
    assert killed[name][0] == code


def test_a_worker_that_is_terminated_does_not_end_the_run(killed: dict[str, tuple[int | None, str, str]]) -> None:
    assert killed["forked"][0] == 0, killed["forked"][2]
    assert runs.find("forked").status == "FINISHED"


def test_nothing_is_said_on_stdout(killed: dict[str, tuple[int | None, str, str]]) -> None:
    for name in ("15", "2", "forked"):
        assert killed[name][1] == ""


def test_the_sweep_ends_what_died_and_leaves_what_lives(killed: dict[str, tuple[int | None, str, str]]) -> None:
    dead, deadline = killed["9"][0], time.monotonic() + 20
    while Path(f"/proc/{dead}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert runs.find("9").status == "RUNNING", "nobody could tell so far"
    with (
        runs.record({"name": "alive"}, study_digest=DIGEST) as alive,
        runs.record({"name": "elsewhere"}, study_digest=DIGEST) as elsewhere,
        runs.record({"name": "recycled"}, study_digest=DIGEST) as recycled,
    ):
        alive.child("ridge", 0)
        elsewhere.tag({"process.host": "another-host", "process.pid": str(dead), "process.started": "1.0"})
        recycled.tag({"process.started": "1000000000.0"})  # this pid lives, but it is another process
        assert runs.sweep() == 3, "the killed run, its nested run, and the one whose pid was given away"
        status = {name: runs.find(name).status for name in ("9", "alive", "elsewhere", "recycled")}
        assert status == {"9": "KILLED", "alive": "RUNNING", "elsewhere": "RUNNING", "recycled": "KILLED"}
        assert [c.info.status for c in runs.find("9").children] == ["KILLED"]
        assert [c.info.status for c in runs.find("alive").children] == ["RUNNING"]
        assert runs.sweep() == 0
    assert runs.find("alive").children[0].info.status == "FINISHED", "a child left open ends with its parent"


def test_two_processes_may_make_the_store_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db.new").write_bytes(b"half a store, of a start that was killed")
    code = "from workbench import runs\nwith runs.record({'name': 'both'}, study_digest='00' * 32): pass"
    env = {**os.environ, "WORKBENCH_HOME": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [p.communicate(timeout=120)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path))
        assert runs.runs()["status"].to_list() == ["FINISHED", "FINISHED"]
    assert not (tmp_path / "mlflow.db.new").exists()


def test_who_stopped_it() -> None:
    def lightning_way() -> BaseException:
        try:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                sys.exit(1)
        except SystemExit as stopped:
            return stopped

    assert process.was_killed(KeyboardInterrupt()) and process.was_killed(runs.Terminated())
    assert process.was_killed(lightning_way())
    assert (
        not process.was_killed(SystemExit(1)) and not process.was_killed(ValueError()) and not process.was_killed(None)
    )


def test_sigterm_is_held_while_ending_and_the_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(runs.Terminated), process.sigterm_raises() as guard:
        guard.hold()
        os.kill(os.getpid(), signal.SIGTERM)
        survived = True
    assert survived and signal.getsignal(signal.SIGTERM) is before
    assert runs.Terminated().code == 143
