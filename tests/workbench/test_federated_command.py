"""``workbench federate``: what people read, and that no mistake ends in a traceback."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

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


def test_a_home_that_cannot_be_written_is_told_before_the_work(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in the way").write_text("a file")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "in the way"))
    assert command.main(["simulate", file]) == 1
    err = capsys.readouterr().err
    assert "in the way: the home cannot be written" in err and "WORKBENCH_HOME" in err and err.count("\n") == 1


def test_a_store_that_fails_is_one_line(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Full", (Exception,), {"__module__": "mlflow.exceptions"})

    def fails(argv: list[str]) -> int:
        raise full("disk\nat")

    monkeypatch.setattr(importlib.import_module(__name__), "fails", fails, raising=False)
    monkeypatch.setitem(command.WORDS, "simulate", (__name__, "fails", ""))
    assert command.main(["simulate", file]) == 1
    assert capsys.readouterr().err == (
        "workbench federate simulate: the store of runs cannot be used: disk. Is its disk full?\n"
    )


@pytest.mark.parametrize(("word", "says"), [("simulate", "round that was kept"), ("value", "stopped.\n")])
def test_ctrl_c_says_what_goes_on_and_only_where_it_does(
    word: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module(__name__), "stops", stops, raising=False)
    monkeypatch.setitem(command.WORDS, word, (__name__, "stops", ""))
    assert command.main([word]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: [lines[0].replace(b'"rows"', b'"rovs"'), *lines[1:]], "line 1: its words do not have its hash"),
        (lambda lines: lines[1:], "removed"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "moved"),
        (lambda lines: [b"\x00\xff junk\n"], "line 1 is no entry"),
        (lambda lines: [b"[" * 200_000 + b"\n"], "THIS IS NO BOOK"),
        (lambda lines: [json.dumps({k: v for k, v in json.loads(lines[0]).items() if k != "site"}).encode() + b"\n"],
         "an entry lacks what every entry has"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verify", [["--verify"], []])
def test_a_book_that_was_touched_is_never_a_traceback(
    spoil: Any, says: str, verify: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from workbench.federated.gate import ledger

    book = ledger.Ledger(tmp_path / "ledger.jsonl")
    for k in range(3):
        book.append({"kind": "message", "site": "a", "purpose": "counts", "plain": "rows", "round": k, "rows": 9,
                     "masked": False, "arrays": [], "bytes": 8, "values": {}})  # fmt: skip
    assert command.main(["ledger", str(tmp_path), *verify]) == 0
    capsys.readouterr()
    book.path.write_bytes(b"".join(spoil(book.path.read_bytes().splitlines(keepends=True))))
    if says.startswith("an entry lacks") and verify:
        says = "its words do not have its hash"  # seen by the chain already
    assert command.main(["ledger", str(tmp_path), *verify]) == 1
    told = capsys.readouterr()
    assert says in told.out + told.err and "Traceback" not in told.err


def test_time_left_is_told_once_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.federated import output

    now = [100.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    left = output.TimeLeft()
    assert left(0.2) == ""  # taken over from a run before: no time was spent on it
    now[0] = 110.0
    assert left(0.4) == ", about 30 s left"
    now[0] = 400.0
    assert left(0.5) == ", about 8 min left" and left(1.0) == ""


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.federated import output

    (tmp_path / "a.json").write_text("before")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        output.write(tmp_path / "a.json", "after")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "before"
