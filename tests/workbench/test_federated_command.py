"""``workbench federate``: what people read, and that no mistake ends in a traceback."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from tests import toy
from workbench import runs
from workbench.federated import command

FILE = """
name = "together"
study = "synthetic"
endpoint = "ln_ic50"
split = "unseen subject"
folds = 3
only = [0]
draws = 50
predictors = ["drug_mean"]
[federation]
[federation.sites]
random = 3
[federation.policy]
minimum_rows = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "together.toml").write_text(FILE)
    return str(tmp_path / "together.toml")


def test_a_simulation_is_trained_recorded_and_told(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("flwr")
    toy.write()
    assert command.main(["simulate", file, "--json", str(tmp_path / "rows.json")]) == 0
    out, err = capsys.readouterr()
    run = runs.find("latest")
    assert run.run_id in out and "drug_mean" in out and "100% done" in err
    told = {line.split("  ")[0]: line.split()[2:] for line in out.splitlines() if re.match(r"site \d", line)}
    assert set(told) == {"site 1", "site 2", "site 3"} and all(int(row[-1]) == 0 for row in told.values())
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {r["predictor"] for r in rows} >= {"drug_mean", "global_mean"}


def test_check_tells_who_would_hold_what_and_trains_nothing(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    toy.write()
    assert command.main(["simulate", file, "--check"]) == 0
    out = capsys.readouterr().out
    assert "421 training rows, 213 test rows" in out and out.count("training rows of") == 3
    assert runs.runs().is_empty()


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["simulat"], 2, "unknown word 'simulat'. Did you mean 'simulate'"),
        (["simulate"], 2, "required: experiment"),
        (["simulate", "FILE", "--workers", "two"], 2, "invalid int value"),
        (["simulate", "FILE", "--json", "/no/such/rows.json"], 2, "there is no folder '/no/such'"),
        (["simulate", "FILE", "--json", "/"], 2, "it is a folder; name a file"),
        (["simulate", "FILE", "--workers", "3"], 2, "--workers 3 does nothing with --engine flower"),
        (["simulate", "/no/such.toml"], 1, "there is no such file"),
        (["simulate", "FILE"], 1, "synthetic"),  # no such study
        (["simulate", "BAD"], 1, "unknown key 'rnadom'. Did you mean 'random'"),
    ],
)
def test_a_mistake_is_one_line(
    argv: list[str], status: int, words: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text(FILE.replace("random", "rnadom"))
    named = {"FILE": file, "BAD": str(tmp_path / "bad.toml")}
    assert command.main([named.get(a, a) for a in argv]) == status
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err
    assert status == 2 or (err.startswith("workbench federate simulate: ") and err.count("\n") == 1)


def test_engines_that_are_none_are_named(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    toy.write()
    assert command.main(["simulate", file, "--engine", "flowr"]) == 1
    assert "unknown engine 'flowr'. Did you mean 'flower'" in capsys.readouterr().err
    assert runs.runs().is_empty()


def test_help_names_every_word_and_each_has_its_room(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0 and command.main([]) == 2
    out = capsys.readouterr().out
    for word, (module, function, text) in command.WORDS.items():
        assert word in out and text in out
        assert callable(getattr(importlib.import_module(module), function))
        assert command.main([word, "--help"]) == 0
        assert f"workbench federate {word}" in capsys.readouterr().out
