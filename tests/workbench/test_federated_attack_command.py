"""``workbench federate attack``: a recorded federation is attacked, and its value tells what came of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from tests.workbench.test_federated_recording import federation
from workbench import runs, tables
from workbench.federated import command
from workbench.federated.attacks import battery, shadows
from workbench.federated.attacks import command as attack
from workbench.federated.simulation import simulate
from workbench.federated.state import Stopped
from workbench.federated.worth.value import of_run

SIZES = battery.Sizes(shadows=4, sites=40, axes=8)


@pytest.fixture(scope="module")
def run(_module_home: Path) -> runs.Run:
    toy.write(subjects=90, tissues=2)
    return simulate.simulate(federation(arms=["alone"], top={"only": [0]}), "inline")


@pytest.mark.shared_home
def test_a_recorded_federation_is_attacked_and_the_value_shows_it(
    run: runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "attacks.json"
    argv = ["attack", run.run_id, "--shadows", "4", "--sites", "40", "--axes", "8", "--json", str(where)]
    assert command.main(argv) == 0
    said = capsys.readouterr()
    assert "attacks on together; epsilon: none was spent" in said.out and f"recorded in run {run.run_id}" in said.out
    assert "model 5 of 5" in said.err and " left\n" in said.err
    rows = json.loads(where.read_text())
    named = {r["attack"] for r in rows}
    membership = {"loss threshold", "LiRA, offline", "LiRA, online", "LiRA, by treatment"}
    assert {a for a in named if a.startswith("membership")} == {
        f"membership, {m}" for m in (*membership, "loss threshold, recorded model")
    }
    assert "inversion, first update" in named
    assert sum(a.startswith("property, tissue") and a.endswith("dominates") for a in named) == 1
    assert all(r["knows"] and r["n"] > 0 and r["epsilon"] is None for r in rows)
    again = runs.find(run.run_id)
    stored = again.table("FEDERATION_ATTACKS")
    assert tables.check(stored, tables.FEDERATION_ATTACKS).height and "knows" in stored.columns
    value = of_run(again, draws=100)
    assert value.attacks.height == stored.height
    works = stored.filter(pl.col("low") > pl.col("chance"), pl.col("site").is_null())
    kinds = {str(a).split(",")[0] for a in works["attack"]}
    flags = [f for f in value.verdicts["flags"][0] if " works" in f]
    assert len(flags) >= len(kinds) and {f.split(",")[0] for f in flags} >= kinds  # one of each kind, the strongest
    assert all(sum(f.startswith(k) for f in flags) == 1 for k in kinds)
    assert runs.find(run.run_id).status == "FINISHED"


@pytest.mark.shared_home
def test_one_person_alone_is_seen_and_the_sum_hides_it(run: runs.Run) -> None:
    told, _ = attack.attacked(attack.of_run(run), 0, SIZES, ["inversion"])
    alone, site, every = told
    assert alone.value > 0.999 and alone.low is None and "policy" in alone.knows
    assert abs(site.value) < 0.4 and abs(every.value) < 0.4 and every.n == 20 and every.low is not None


@pytest.mark.shared_home
def test_what_secure_sums_or_noise_hide_is_no_figure_of_the_federation(run: runs.Run) -> None:
    of = attack.of_run(run)
    for changed, seen, words in (
        (replace(of, secure=True, least=3), [False, False, True], "which secure sums hide"),
        (replace(of, settings={"epsilon": 3.0}), [False, False, False], "without the noise"),
    ):
        told, _ = attack.attacked(changed, 0, SIZES, ["inversion"])
        assert [f.low is not None for f in told] == seen and words in told[1].knows
    assert attack.spent(of, run) == (None, None)
    assert attack.spent(replace(of, settings={"epsilon": 3.0}), run) == (3.0, 1e-5)
    assert not shadows.Federated(replace(of, secure=True, least=3), 0).federation.secure
    assert shadows.Federated(replace(of, secure=True, settings={"noise": 1.0}), 0).federation.secure


@pytest.mark.shared_home
def test_attacks_of_another_kind_stay_in_the_run(run: runs.Run) -> None:
    for kind in ("inversion", "property"):
        told, _ = attack.attacked(attack.of_run(run), 0, SIZES, [kind])
        attack.record(runs.find(run.run_id), attack.figures.table(told, 3.0, 1e-5))
    stored = runs.find(run.run_id).table("FEDERATION_ATTACKS")
    kinds = set(stored["attack"].cast(pl.String).str.split(",").list.first())
    assert kinds >= {"inversion", "property"}
    assert stored.filter(pl.col("attack").cast(pl.String).str.starts_with("property"))["epsilon"].to_list() == [
        3.0,
        3.0,
    ]


@pytest.mark.shared_home
def test_a_stopped_attack_goes_on_after_its_last_model(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    real = shadows.Federated.__call__

    def counted(self: Any, seen: np.ndarray) -> np.ndarray:
        trained.append(int(seen.sum()))
        return real(self, seen)

    monkeypatch.setattr(shadows.Federated, "__call__", counted)
    of, sizes = attack.of_run(run), battery.Sizes(shadows=4, seed=5)
    with pytest.raises(Stopped):
        attack.attacked(of, 0, sizes, ["membership"], stopped=lambda: len(trained) == 2)
    told, _ = attack.attacked(of, 0, sizes, ["membership"])
    assert len(trained) == 5
    assert abs(told[0].n - 2 * trained[0]) <= 3  # the target's half, of each of three sites


@pytest.mark.shared_home
def test_shadow_models_are_the_federations_own(run: runs.Run) -> None:
    """Trained on everybody, the trainer gives the errors of the recorded predictor."""
    from workbench import predictors

    trainer = shadows.Federated(attack.of_run(run), 0)
    mine = trainer(np.ones(len(trainer.persons), dtype=bool))
    recorded = trainer.errors(run.model("ridge", 0, predictors.restore))
    assert np.isfinite(mine).sum() > 500
    np.testing.assert_allclose(mine, recorded, atol=1e-4)


def test_bad_usage_and_runs_of_no_federation_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["attack", "x", "--shadows", "5"]) == 2
    assert command.main(["attack", "x", "--json", str(tmp_path / "no" / "f.json")]) == 2
    assert command.main(["attack", str(tmp_path / "none.toml")]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_words_that_share_a_file_are_told_which_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["keys", str(tmp_path / "keys"), "--sites", "a", "b"]) == 0
    assert (tmp_path / "keys" / "allowed.txt").is_file(), capsys.readouterr()
