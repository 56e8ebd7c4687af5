"""A federation file as people write it, through Flower's engine to the run: strategies, rules, faults, budgets."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import runs
from workbench.federated import command, spec, task
from workbench.federated.simulation import simulate
from workbench.federated.sites import TooFewSites
from workbench.federated.watched import checked, missed

pytest.importorskip("flwr")
pytestmark = toy.lightning_warnings

NETWORK = """
name = "rehearsed"
study = "synthetic"
endpoint = "ln_ic50"
split = "unseen subject"
folds = 3
only = [0]
draws = 20
predictors = ["drug_response"]
[parameters.drug_response]
members = 2
width = 8
rank = 4
subjects = 8
learning_rate = 1e-2
modalities = ["expression"]
structure = false
[federation]
rounds = 2
least = 2
timeout_s = 60
{own}
[federation.sites]
random = 4
[federation.policy]
minimum_rows = 5
minimum_cell = 1
[federation.settings]
local_epochs = 1
axes = 12
steps = 1
{settings}
{faults}
"""
MEANS = """
name = "rehearsed means"
study = "synthetic"
endpoint = "ln_ic50"
split = "unseen subject"
folds = 3
only = [0]
draws = 20
predictors = ["drug_mean"]
[federation]
least = 2
timeout_s = {timeout}
[federation.sites]
random = 4
[federation.policy]
minimum_rows = 5
[federation.faults]
{faults}
"""


@pytest.fixture(scope="module", autouse=True)
def study(_module_home: Path) -> Any:
    return toy.write(subjects=90)


def read(folder: Path, text: str) -> spec.Federation:
    (folder / "f.toml").write_text(text)
    return spec.read(folder / "f.toml")


def network(folder: Path, settings: str = "", faults: str = "", own: str = "") -> spec.Federation:
    return read(folder, NETWORK.format(settings=settings, faults=faults, own=own))


def weights(federation: spec.Federation) -> np.ndarray:
    made = simulate.fitted(federation, 0, "inline").predictor
    arrays = dict(made.arrays())
    return np.concatenate([np.ravel(arrays[k]).astype(float) for k in sorted(arrays) if arrays[k].dtype.kind == "f"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return weights(network(tmp_path_factory.mktemp("plain")))


@pytest.mark.shared_home
@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ('strategy = "FedAvg"', True),
        ('strategy = "FedProx"\nproximal = 5.0', False),
        ('strategy = "FedAdam"\noptions = { rate = 0.02 }', False),
        pytest.param('strategy = "FedYogi"', False, marks=pytest.mark.slow),
        pytest.param('rule = "mean"', True, marks=pytest.mark.slow),
        pytest.param('rule = "clipped_mean"\nbad = 1', False, marks=pytest.mark.slow),
        ('rule = "median"', False),
        ('rule = "trimmed_mean"\nbad = 1', False),
        pytest.param('rule = "geometric_median"\nbad = 1', False, marks=pytest.mark.slow),
        pytest.param('rule = "spectral"\nbad = 1', False, marks=pytest.mark.slow),
        ('rule = "remembering"\nbad = 1', False),
        ('rule = "median"\nbad = 1\nmix = true', False),
        ('own = ["identity", "level"]', False),
        pytest.param("keep_optimizer = true", False, marks=pytest.mark.slow),
    ],
)
def test_each_way_of_training_is_reached_from_a_file(
    settings: str, same: bool, plain: np.ndarray, tmp_path: Path
) -> None:
    made = weights(network(tmp_path, settings))
    assert made.shape == plain.shape and np.isfinite(made).all()
    apart = np.linalg.norm(made - plain) / np.linalg.norm(plain)
    assert apart < 1e-6 if same else 1e-4 < apart < 1.0, apart


@pytest.mark.shared_home
def test_rounds_are_nested_metrics_and_each_planted_fault_is_told_by_site_round_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = """[federation.faults]
"site 1" = { fault = "nan", purposes = ["network_round"] }
"site 4" = { fault = "gone", purposes = ["network_round"] }
"""
    network(tmp_path, faults=faults)
    assert command.main(["simulate", str(tmp_path / "f.toml")]) == 0
    said = capsys.readouterr()
    run = runs.find("latest")
    assert run.name.startswith("rehearsed") and run.status == "FINISHED"
    child = next(c for c in run.children if c.info.run_name == "drug_response, fold 0")
    steps = [m.step for m in runs.store.client().get_metric_history(child.info.run_id, "training RMSE")]
    assert len(steps) >= 2 and steps == sorted(set(steps))
    told = run.table("FEDERATION_ROUNDS").filter(pl.col("lost").is_not_null())
    rounds = {name: sorted(set(told.filter(pl.col("site").cast(pl.String) == name)["round"])) for name in
              ("site 1", "site 2", "site 3", "site 4")}  # fmt: skip
    assert rounds["site 1"] == rounds["site 4"] and len(rounds["site 1"]) == 2
    assert not rounds["site 2"] and not rounds["site 3"]
    assert f"site 1 was dropped in rounds {rounds['site 1'][0]}, {rounds['site 1'][1]}, network_round" in said.out
    assert "has NaN" in said.out and "site 4 was lost" in said.out and "no answer" in said.out
    site = next(c for c in run.children if c.info.run_name == "drug_response at site 4, fold 0")
    assert "network_round: no answer" in site.data.tags["lost"]
    assert "'gone'" in site.data.tags["planted fault"]
    assert "s left" in said.err and "going on" not in said.err


@pytest.mark.shared_home
def test_below_the_least_number_of_sites_it_refuses_and_the_run_says_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = """
"site 1" = { fault = "counts", purposes = ["value_sums"] }
"site 2" = { fault = "inf" }
"site 3" = { fault = "names", purposes = ["value_sums"] }
"""
    read(tmp_path, MEANS.format(timeout=60, faults=faults))
    assert command.main(["simulate", str(tmp_path / "f.toml")]) == 1
    err = capsys.readouterr().err
    assert "1 of the 2 sites needed answered (site 1: " in err and "site 2: 'square' has infinite numbers" in err
    assert "site 3: array 'count' is missing" in err and "Traceback" not in err
    assert runs.find("latest").status == "FAILED"


@pytest.mark.shared_home
def test_a_slow_site_is_lost_by_name_after_the_time_the_file_allows(tmp_path: Path) -> None:
    faults = '"site 2" = { fault = "slow", seconds = 2.5, purposes = ["value_sums"] }'
    made = simulate.fitted(read(tmp_path, MEANS.format(timeout=1, faults=faults)), 0, "flower")
    lost = [e.lost for e in made.watched.exchanges if e.purpose == "value_sums"]
    assert lost == [{"site 2": "its answer took longer than timeout_s allows"}]  # who waits for a turn is not late


@pytest.mark.shared_home
def test_a_site_of_another_unit_is_left_out_by_name(tmp_path: Path) -> None:
    text = MEANS.replace('"drug_mean"', '"ridge"').replace("rehearsed means", "rehearsed units")
    more = "[federation.settings]\naxes = 8\nparts = 2\nsteps = 1\npenalties = [1.0]"
    given = read(tmp_path, text.format(timeout=60, faults='"site 3" = { fault = "unit" }\n' + more))
    fitted = simulate.fitted(given, 0, "inline")
    made, rounds = fitted.predictor, fitted.watched.rounds()
    assert [w.split(" was ")[0] for w in checked(rounds)] == ["site 3"]
    assert (
        checked(rounds)[0].startswith("site 3 was left out in round 0, schema: the unit")
        and "mmol" in checked(rounds)[0]
    )
    assert missed(rounds) == []  # that it has no part in the sums that follow is said once
    assert made.agreed_.sites == ("site 1", "site 2", "site 4")
    assert "mmol" in made.agreed_.refused["site 3"] and "ln(uM)" in made.agreed_.refused["site 3"]
    with pytest.raises(TooFewSites, match=r"site 3.*mmol"):
        simulate.fitted(
            spec.of(given.plain() | {"federation": given.plain()["federation"] | {"least": 4}}), 0, "inline"
        )


# --- a budget without a gate ------------------------------------------------------------------------------------------


@pytest.mark.shared_home
def test_what_was_charged_without_a_gate_outlives_the_process_and_goes_with_its_training(tmp_path: Path) -> None:
    given = read(tmp_path, MEANS.format(timeout=60, faults="")).plain()
    given["federation"]["policy"] = {"minimum_rows": 5, "epsilon": 1.0}
    federation = spec.of(given)
    place = task.budgets(federation, 0)
    for site in task.simulated(federation, 0):
        (budget,) = site.outgoing
        budget.book.append({"kind": "charge", "releases": [[2.0, 1.0, 1, "person"]], "answer": site.name})
    again = task.simulated(federation, 0)[2].outgoing[0]  # as in another process: nothing but the disk is shared
    assert [e["answer"] for e in again.charges()] == ["site 3"] and again.spent(again_policy(federation)).epsilon > 0.5
    assert again.noise_key() == task.simulated(federation, 0)[2].outgoing[0].noise_key()
    with pytest.raises(TooFewSites, match="is exact"):
        simulate.fitted(federation, 0, "inline")  # begun anew: what another attempt told was told to nobody
    assert not list(place.glob("*/ledger.jsonl")) or not again.charges()


def again_policy(federation: spec.Federation) -> Any:
    return task.simulated(federation, 0)[0].policy


# --- killed outright --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.shared_home
@pytest.mark.parametrize(
    "settings", ['strategy = "FedAdam"\noptions = { rate = 0.02 }', 'rule = "remembering"\nbad = 1']
)
def test_a_simulation_that_was_killed_ends_as_one_that_was_not(
    settings: str, tmp_path: Path, _module_home: Path
) -> None:
    text = NETWORK.format(settings=settings, faults="", own="").replace("rounds = 2", "rounds = 40")
    whole = weights(read(tmp_path, text))
    words = [sys.executable, "-m", "workbench.cli", "federate", "simulate", str(tmp_path / "f.toml")]
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    for line in first.stderr:
        if "round 5 of 40" in line or "round 6 of 40" in line or "round 7 of 40" in line:
            break
    first.kill()
    first.stderr.close()
    assert first.wait(30) == -signal.SIGKILL
    again = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on after round" in again.stderr
    assert "marked KILLED" in again.stderr
    arrays = runs.find("latest").weights("drug_response", 0)[1]
    made = np.concatenate([np.ravel(arrays[k]).astype(float) for k in sorted(arrays) if arrays[k].dtype.kind == "f"])
    np.testing.assert_allclose(made, whole, rtol=1e-5, atol=1e-6)


# --- the newest hash of each book -------------------------------------------------------------------------------------


@pytest.mark.shared_home
def test_the_run_keeps_the_newest_hash_of_each_sites_book(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = read(tmp_path, MEANS.format(timeout=60, faults="")).plain()
    given["federation"] |= {"gated": True, "policy": {"minimum_rows": 5, "minimum_subjects": 5}}
    run = simulate.simulate(spec.of(given), "inline")
    for k in (1, 2, 3, 4):
        child = next(c for c in run.children if c.info.run_name == f"drug_mean at site {k}, fold 0")
        head, book = child.data.tags["ledger head"], task.book(spec.of(given), 0, f"site {k}")
        assert command.main(["ledger", str(book), "--verify", "--head", head]) == 0
        file = book / "ledger.jsonl"
        whole = file.read_bytes()
        file.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))  # cut off: only the head shows it
        assert command.main(["ledger", str(book), "--verify"]) == 0
        assert command.main(["ledger", str(book), "--verify", "--head", head]) == 1
        assert "cut short, or written anew" in capsys.readouterr().out
