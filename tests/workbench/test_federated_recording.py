"""A simulated federation as a run: what it holds, that its predictor comes back, that it is whole however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import predictors, runs, tables
from workbench.federated import methods, sharing, spec
from workbench.federated.messages import Ask
from workbench.federated.simulation import recording, simulate
from workbench.federated.state import Stopped


def federation(**own: Any) -> spec.Federation:
    top = own.pop("top", {})
    plain = {"name": "together", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 3,
             "only": [0, 1], "draws": 50, "predictors": ["ridge"]}  # fmt: skip
    own = {
        "sites": {"random": 3},
        "policy": {"minimum_rows": 5, "minimum_cell": 1},
        "settings": {"axes": 8, "parts": 2},
    } | own
    return spec.of(plain | top | {"federation": own})


@pytest.fixture(scope="module")
def run(_module_home: Path) -> runs.Run:
    toy.write()
    return simulate.simulate(federation(arms=["alone", "pooled"]), "inline")


@pytest.mark.shared_home
def test_the_run_is_whole_and_holds_what_any_run_holds(run: runs.Run) -> None:
    assert run.status == "FINISHED" and run.params["federation"]["sites"] == {"random": 3}
    names = [c.info.run_name for c in run.children]
    sites = [f"ridge at site {k}" for k in (1, 2, 3)]
    assert sorted(names) == sorted(f"{n}, fold {k}" for n in ["ridge", *sites] for k in (0, 1))
    assert {c.info.status for c in run.children} == {"FINISHED"}
    scored = run.metrics.filter((pl.col("fold") == "all") & (pl.col("metric") == "normalised Pearson"))
    assert {"ridge", *predictors.naive_names()} == set(scored["predictor"].cast(pl.String))
    ridge = scored.filter(pl.col("predictor").cast(pl.String) == "ridge")
    assert run.scores["normalised Pearson"] == pytest.approx(ridge["value"][0])
    assert ridge["value"][0] > 0.2 and ridge["low"][0] < ridge["value"][0] < ridge["high"][0]


@pytest.mark.shared_home
def test_the_predictor_comes_back_and_predicts_the_same(run: runs.Run) -> None:
    split = federation().divide(toy_study())
    fold = split.fold(1)
    made = run.model("ridge", 1, predictors.restore)
    told = run.predictions.filter((pl.col("predictor").cast(pl.String) == "ridge") & (pl.col("fold") == 1))
    again = made.predict(fold.study, told.select("subject", "treatment", "tissue"))
    # a stored matrix lies in rows, a fitted one in columns: its products may differ in the last bit of a float32
    assert np.allclose(again["predicted"].to_numpy(), told["predicted"].to_numpy(), atol=1e-5, equal_nan=True)


@pytest.mark.shared_home
def test_every_site_has_rounds_bytes_and_scores_of_its_own(run: runs.Run) -> None:
    rounds, costs = run.table("FEDERATION_ROUNDS"), run.table("FEDERATION_COSTS")
    whole = rounds.filter(pl.col("site").is_null() & (pl.col("name") == "log10 of the largest residual"))
    assert whole["round"].n_unique() > 1  # the federation's own curve, for the page
    assert whole.sort("round")["value"][-1] < -6
    asked = rounds.filter(pl.col("bytes").is_not_null())
    assert (
        set(asked["site"].cast(pl.String)) == {"site 1", "site 2", "site 3"}
        and asked["lost"].null_count() == asked.height
    )
    assert costs["rows"].min() > 100  # type: ignore[operator]
    assert costs["bytes"].sum() == asked["bytes"].sum()
    child = next(c for c in run.children if c.info.run_name == "ridge at site 2, fold 0")
    held = federation().dealt(federation().divide(toy_study()).fold(0))["site 2"]
    told = run.predictions.filter((pl.col("predictor").cast(pl.String) == "ridge") & (pl.col("fold") == 0))
    own = told.filter(pl.col("subject").cast(pl.String).is_in(held)).drop_nulls("predicted")
    rmse = float(((own["predicted"] - own["observed"]) ** 2).mean() ** 0.5)  # type: ignore[operator, arg-type]
    assert child.data.metrics["RMSE"] == pytest.approx(rmse, rel=1e-6)


@pytest.mark.shared_home
def test_arms_are_judged_on_each_sites_own_rows(run: runs.Run) -> None:
    told = tables.check(run.table("FEDERATION_PREDICTIONS"), tables.FEDERATION_PREDICTIONS)
    rows = told.group_by("site", "arm").len()
    assert set(rows["arm"].cast(pl.String)) == {"alone", "federated", "pooled"} and rows.height == 9
    assert rows.group_by("site").agg(pl.col("len").n_unique())["len"].to_list() == [1, 1, 1]
    fold = federation().divide(toy_study()).fold(0)
    held = federation().dealt(fold)["site 2"]
    mine = sharing.local(fold, held)
    for arm, seen in (("alone", mine), ("pooled", fold)):
        expected = predictors.make("ridge").fit(seen).predict(fold.study, mine.test)["predicted"].to_numpy()
        found = told.filter(
            (pl.col("arm") == arm) & (pl.col("site") == "site 2") & (pl.col("fold") == 0)
        )["predicted"].to_numpy()  # fmt: skip
        assert np.allclose(expected, found, atol=1e-6, equal_nan=True)


def toy_study() -> Any:
    from workbench.study import Study, find

    return Study.open(find("synthetic"))


# --- ends ------------------------------------------------------------------------------------------------------------


def slow_rounds(sites: Any, settings: Any, state: Any, keep: Any, say: Any) -> Any:
    """A method of rounds that ends as ``drug_mean``; what it did it notes in its state."""
    first = 0 if state is None else state[0]
    for k in range(first + 1, settings["rounds"] + 1):
        got, _ = sites.total(Ask("counts", k))
        keep(k, {"done": np.arange(k)}, {"loss": 1.0 / k, "rows": int(got["rows"][0])})
        time.sleep(settings.get("pause", 0.0))
    return methods._means(sites, settings, None, None, None)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> spec.Federation:
    known = methods.METHODS["means"]
    monkeypatch.setitem(methods.METHODS, "means", methods.Method(known.predictors, slow_rounds))
    toy.write()
    return federation(rounds=4, settings={}, top={"predictors": ["drug_mean"], "only": [0]})


def test_rounds_are_metrics_by_step(rounds: spec.Federation) -> None:
    run = simulate.simulate(rounds, "inline")
    child = next(c for c in run.children if c.info.run_name == "drug_mean, fold 0")
    history = runs.store.client().get_metric_history(child.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3)), (4, 0.25)]


def test_a_stopped_run_is_killed_and_the_next_goes_on(rounds: spec.Federation) -> None:
    seen: list[str] = []

    def stopped() -> bool:
        seen.append("round")
        return len(seen) == 2

    with pytest.raises(Stopped):
        simulate.simulate(rounds, "inline", stopped=stopped)
    assert runs.runs()["status"].to_list() == ["KILLED"]
    said: list[str] = []
    run = simulate.simulate(rounds, "inline", say=lambda done, what: said.append(what))
    assert run.status == "FINISHED" and any(w.startswith("going on after round 2") for w in said)
    child = next(c for c in run.children if c.info.run_name == "drug_mean, fold 0")
    history = runs.store.client().get_metric_history(child.info.run_id, "loss")
    assert [m.step for m in history] == [1, 2, 3, 4]  # the rounds before the stop are on the curve
    assert sorted(runs.runs()["status"]) == ["FINISHED", "KILLED"]


def test_a_training_that_fails_leaves_no_open_run(rounds: spec.Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("all sites gone")

    monkeypatch.setitem(methods.METHODS, "means", methods.Method(("drug_mean",), broken))
    with pytest.raises(RuntimeError, match="all sites gone"):
        simulate.simulate(rounds, "inline")
    failed = runs.find("latest")
    assert failed.status == "FAILED" and {c.info.status for c in failed.children} == {"FAILED"}


def test_finished_folds_are_taken_over(rounds: spec.Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    two = spec.of(rounds.plain() | {"only": [0, 1]})
    real, fitted = recording._fold, list[int]()

    def second_fails(federation: Any, parent: Any, train: Any, number: int, *rest: Any) -> Any:
        fitted.append(number)
        if number == 1 and len(fitted) == 2:
            raise KeyboardInterrupt
        return real(federation, parent, train, number, *rest)

    monkeypatch.setattr(recording, "_fold", second_fails)
    with pytest.raises(KeyboardInterrupt):
        simulate.simulate(two, "inline")
    run = simulate.simulate(two, "inline")
    assert fitted == [0, 1, 1] and run.status == "FINISHED"
    assert sorted(run.predictions["fold"].unique()) == [0, 1]


KILLED = """
    import sys, time
    sys.path.insert(0, {root!r})
    from workbench.federated import methods, spec
    from workbench.federated.simulation import simulate
    from tests.workbench.test_federated_recording import slow_rounds
    known = methods.METHODS["means"]
    methods.METHODS["means"] = methods.Method(known.predictors, slow_rounds, lambda: {{"pause": 0.0}})
    simulate.simulate(spec.of({plain!r}), "flower", say=lambda done, what: print(what, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_server_goes_on_and_the_run_is_not_left_open(how: int, workbench_home: Path) -> None:
    toy.write()
    plain = federation(settings={}, top={"predictors": ["drug_mean"], "only": [0]}).plain()
    plain["federation"] |= {"rounds": 15, "settings": {"pause": 0.4}}  # of the method that stands in for it there
    root = str(Path(__file__).resolve().parents[2])
    code = textwrap.dedent(KILLED.format(root=root, plain=plain))
    command = [sys.executable, "-c", code]
    first = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ.copy()
    )
    checkpoints = workbench_home / "checkpoints"
    until = time.monotonic() + 120
    while time.monotonic() < until and not list(checkpoints.glob("federation-*.safetensors")):
        time.sleep(0.02)
        assert first.poll() is None, first.stdout and first.stdout.read()
    first.send_signal(how)
    first.communicate(timeout=60)
    assert first.returncode != 0
    runs.sweep()
    assert runs.runs()["status"].to_list() == ["KILLED"]
    again = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ.copy(), check=False)
    assert again.returncode == 0, again.stderr
    assert "going on after round" in again.stdout
    assert sorted(runs.runs()["status"]) == ["FINISHED", "KILLED"]
