"""A leaderboard: one file, many runs, one table; a second call fits nothing again."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests import toy
from workbench import cli, experiment, leaderboard, runs, train
from workbench.experiment import ExperimentError
from workbench.leaderboard import command

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

ROOT = Path(__file__).resolve().parents[2]
FILE = """
name = "small"
question = "Who predicts best?"
studies = ["synthetic", "synthetic-2"]
endpoint = "ln_ic50"
folds = 2
draws = 50
predictors = ["global_mean", "mean_effects", "ridge"]
[seeds]
"unseen subject" = [0, 1]
"unseen tissue" = [0]
"""


@pytest.fixture(scope="module")
def file(_module_home: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy.write("synthetic")
    toy.write("synthetic-2", seed=1)
    path = tmp_path_factory.mktemp("board") / "small.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "leaderboards").glob("*.toml")), ids=lambda p: p.stem)
def test_the_leaderboards_of_the_house_can_be_read(path: Path) -> None:
    board = leaderboard.read(path)
    specs = list(board.experiments())
    assert len(specs) == len(board.studies) * sum(len(s) for s in board.seeds.values())
    assert len({s.name for s in specs}) == len(specs)
    for spec in specs:
        assert spec.elsewhere == (
            tuple(board.elsewhere[spec.study]) if "treat" not in spec.split and "pair" not in spec.split else ()
        )


def test_first_seeds_come_first(file: Path) -> None:
    told = [(s.study, s.split, s.seed) for s in leaderboard.read(file).experiments()]
    assert told == [
        ("synthetic", "unseen subject", 0), ("synthetic", "unseen tissue", 0),
        ("synthetic-2", "unseen subject", 0), ("synthetic-2", "unseen tissue", 0),
        ("synthetic", "unseen subject", 1), ("synthetic-2", "unseen subject", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("folds =", "fold ="), r"unknown key 'fold'\. Did you mean 'folds'"),
        (('"unseen tissue"', '"unseen tisue"'), r"unknown split 'unseen tisue'\. Did you mean 'unseen tissue'"),
        (('"unseen tissue" = [0]', '"unseen tissue" = 0'), r"seeds should be a table"),
        (('"ridge"', '"rigde"'), r"unknown predictor 'rigde'\. Did you mean 'ridge'"),
        (('endpoint = "ln_ic50"', ""), r"endpoint is missing or empty"),
        (("folds = 2", "folds = 1"), r"folds should be at least 2"),
        (("folds = 2", "folds ="), r"is not TOML"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in FILE
    path = tmp_path / "small.toml"
    path.write_text(FILE.replace(*change), encoding="utf-8")
    with pytest.raises(ExperimentError, match=message):
        leaderboard.read(path)


def test_one_command_runs_all_and_a_second_call_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fits: list[str] = []
    true = train.fit

    def counted(predictor: Any, *rest: Any, **named: Any) -> Any:
        fits.append(predictor.name)
        return true(predictor, *rest, **named)

    monkeypatch.setattr(train, "fit", counted)
    out = [str(file), "--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    assert command.main([*out, "--study", "synthetic", "--seed", "0"]) == 0
    assert len(fits) == 2 * 2 * 3
    assert command.main(out) == 0
    assert len(fits) == 6 * 2 * 3, "two experiments stood finished"
    fits.clear()
    capsys.readouterr()
    assert command.main(out) == 0 and not fits
    shown = capsys.readouterr()
    assert shown.err.count("finished before") == 6
    lines = [line for line in shown.out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 * 2, "best naive and ridge, two studies, two splits"
    rows = json.loads((tmp_path / "a.json").read_text())
    ridge = [r for r in rows["scores"] if r["entry"] == "ridge" and r["metric"] == "normalised Pearson"]
    assert {(r["study"], r["split"], r["seeds"]) for r in ridge} == {
        ("synthetic", "unseen subject", 2), ("synthetic", "unseen tissue", 1),
        ("synthetic-2", "unseen subject", 2), ("synthetic-2", "unseen tissue", 1),
    }  # fmt: skip
    one = next(r for r in ridge if r["study"] == "synthetic" and r["seeds"] == 2)
    told = [
        runs.find(f"small synthetic unseen subject seed {seed}")
        .metrics.filter(
            pl.col("fold") == "all", pl.col("predictor") == "ridge", pl.col("metric") == "normalised Pearson"
        )["value"]
        .item()
        for seed in (0, 1)
    ]
    assert one["value"] == pytest.approx(sum(told) / 2, abs=1e-9) and one["low"] < one["value"] < one["high"]
    assert re.search(rf"\| ridge \| {one['value']:.3f} ", (tmp_path / "a.md").read_text())


def test_an_entry_of_unknown_cost_keeps_its_row(file: Path) -> None:
    told = leaderboard.table([experiment.standing(leaderboard.read(file).one("synthetic", "unseen tissue", 0)).run_id])  # type: ignore[union-attr]
    timed = leaderboard.markdown(told)
    untimed = leaderboard.markdown(replace(told, scores=told.scores.with_columns(cost_s=pl.lit(None, pl.Float64))))
    assert "| ridge | " in timed
    assert untimed.splitlines()[-1] == re.sub(r" \d+ \|$", " |", timed.splitlines()[-1])
    beside = leaderboard.markdown(told, entered=("drug_mean", "ridge", "forest")).splitlines()
    silent = [line for line in beside if "| forest |" in line]
    assert silent and set(silent) == {"| | | forest | abstains | abstains | abstains | |"}, "no score is passed over"
    assert [line for line in beside if line not in silent] == timed.splitlines()


def test_other_data_is_no_standing_run(file: Path) -> None:
    spec = leaderboard.read(file).one("synthetic", "unseen tissue", 0)
    assert experiment.standing(spec) is not None
    assert experiment.standing(leaderboard.read(file).one("synthetic", "unseen tissue", 7)) is None
    toy.write("synthetic-3")
    assert experiment.standing(leaderboard.read(file).one("synthetic-3", "unseen tissue", 0)) is None


def test_nothing_finished_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["leaderboard", str(file), "--standing", "--study", "synthetic-22"]) == 1
    assert "'synthetic-22' is not in the leaderboard 'small'. Did you mean 'synthetic-2'?" in capsys.readouterr().err
    assert cli.main(["leaderboard", str(file), "--standing", "--seed", "9"]) == 1
    assert "nothing to show" in capsys.readouterr().err
    assert cli.main(["leaderboard", "nowhere.toml"]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_a_predictor_is_tuned_only_where_it_can_answer(tmp_path: Path) -> None:
    file = FILE.replace('"ridge"]', '"ridge", "forest"]')
    path = tmp_path / "tuned.toml"
    tuned = '[tuning.forest]\nsplits = ["unseen tissue"]\ntrials = 2\n'
    path.write_text(file + tuned, encoding="utf-8")
    told = {s.split: s.tuning for s in leaderboard.read(path).experiments()}
    assert told == {"unseen subject": {}, "unseen tissue": {"forest": {"trials": 2}}}
    path.write_text(file + tuned.replace("unseen tissue", "unseen tisue"), encoding="utf-8")
    with pytest.raises(ExperimentError, match=r"tuning.forest.splits names 'unseen tisue'.*unseen tissue"):
        leaderboard.read(path)
