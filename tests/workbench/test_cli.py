"""The console command: exit status, help, rows as JSON, and errors that say what to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from workbench import cli, home, runs, train
from workbench.cli import answers
from workbench.study import Study

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

ROOT = Path(__file__).resolve().parents[2]
VERBS = ["demo", "study", "run", "runs", "bench", "ui"]
FILE = """
name = "from the shell"
study = "synthetic"
endpoint = "ln_ic50"
split = "unseen subject"
folds = 2
draws = 30
predictors = ["drug_mean", "ridge", "drug_response"]
[parameters.drug_response]
members = 2
width = 8
rank = 4
epochs = 2
"""


@pytest.fixture(scope="module")
def study(_module_home: object) -> Study:
    return toy.write()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "one.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ran(study: Study, file: Path) -> tuple[int, list[dict[str, Any]], str]:
    """Exit status and rows of `workbench run`, and the run's id."""
    out = file.with_name("rows.json")
    status = cli.main(["run", str(file), "--json", str(out), "--accelerator", "cpu"])
    return status, json.loads(out.read_text(encoding="utf-8")), runs.find("latest").run_id


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What stderr says when the verb ends with 1; stdout is empty and there is no traceback."""
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert said.err.startswith(f"workbench {words[0]}: ")
    return said.err


# --- help and usage --------------------------------------------------------------------------------------------------


def plugged() -> list[str]:
    return sorted({e.name for e in entry_points(group="workbench.verbs")})


def status(words: list[str]) -> int:
    """What the shell would see; usage and help leave argparse by SystemExit."""
    try:
        return cli.main(words)
    except SystemExit as ended:
        return int(ended.code or 0)


STUDY_VERBS = [["study", what] for what in ("list", "build", "info", "check")]


@pytest.mark.parametrize("words", [[], *[[v] for v in [*VERBS, *plugged()]], *STUDY_VERBS], ids=" ".join)
def test_every_verb_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status([*words, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.startswith("usage: workbench")
    assert all(w in said.out for w in words)


def test_the_first_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["--help"]) == 0
    said = capsys.readouterr().out
    assert {"ceiling", "compare", "coverage", "leaderboard", "pages", "pilot", "report", "translate"} <= set(plugged())
    for verb in (*VERBS, *plugged()):
        assert f"\n    {verb} " in said
    assert status(["--version"]) == 0 and capsys.readouterr().out.startswith("workbench 0.")


def test_a_mistyped_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["piolt"]) == 2
    assert "unknown verb 'piolt'. Did you mean 'pilot'?" in capsys.readouterr().err
    assert set(VERBS) <= set(cli.BUILT_IN)
    for verb in cli.BUILT_IN:
        assert status([verb, "--help"]) == 0


BAD = [
    "",
    "runn",
    "run",
    "study",
    "study build gdsc9",
    "bench nothing",
    "run a --jsn b",
    "runs a b",
    "report",
    "pages x",
]


@pytest.mark.parametrize("line", BAD)
def test_bad_usage_ends_with_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(line.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and "usage: workbench" in said.err


def test_the_installed_command_is_this_one() -> None:
    command = shutil.which("workbench", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run([command, "study", "list"], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0
    again = subprocess.run([sys.executable, "-m", "workbench.cli", "stdy"], capture_output=True, text=True, cwd=ROOT)
    assert again.returncode == 2 and "unknown verb 'stdy'. Did you mean 'study'" in again.stderr


# --- studies ---------------------------------------------------------------------------------------------------------


def test_studies_are_listed_described_and_checked(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["study", "list"]) == 0
    assert f"synthetic    {study.digest[:12]}" in capsys.readouterr().out
    assert cli.main(["study", "info", "synthetic", "--json", str(tmp_path / "a.json")]) == 0
    said = capsys.readouterr().out
    assert study.digest in said and "40 (subjects), z-score" in said and "made for a test" in said
    rows = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [r["endpoint"] for r in rows] == ["auc", "ln_ic50"]
    assert rows[1] | {"rows": 0} == {
        "study": "synthetic", "endpoint": "ln_ic50", "unit": "ln(uM)", "rows": 0, "subjects": 60, "treatments": 12,
    }  # fmt: skip
    assert rows[0]["rows"] + rows[1]["rows"] == study.outcomes.height
    assert cli.main(["study", "check", str(study.path), "--json", str(tmp_path / "b.json")]) == 0
    assert "every file is what its digest says" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == []


def test_a_damaged_study_fails_its_check_and_is_listed_as_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = toy.write("broken")
    file = broken.path / "outcomes.parquet"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(bytes(data))
    assert cli.main(["study", "check", "broken", "--json", str(tmp_path / "a.json")]) == 1
    said = capsys.readouterr()
    assert "outcomes.parquet" in said.out and "broken: 1 problems" in said.out
    rows = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert len(rows) == 1 and rows[0]["study"] == "broken" and "outcomes.parquet" in rows[0]["problem"]
    shutil.rmtree(broken.path)


def test_a_mistyped_study_names_the_nearest(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("info", "check"):
        said = refused(["study", verb, "synthetik"], capsys)
        assert "Did you mean 'synthetic'" in said and "workbench study build" in said


@pytest.mark.filterwarnings("default")
def test_an_empty_home_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "fresh"))
    assert cli.main(["study", "list"]) == 0
    assert "Build one: workbench study build gdsc2" in capsys.readouterr().out
    assert cli.main(["runs"]) == 0
    assert "no runs yet. Make one: workbench run" in capsys.readouterr().out


# --- experiments and runs --------------------------------------------------------------------------------------------


def test_rows_are_flat_and_carry_what_they_must(ran: tuple[int, list[dict[str, Any]], str]) -> None:
    status, rows, _ = ran
    assert status == 0
    assert len(rows) == 3 * 8 * 3  # predictors, metrics, two folds and all
    for row in rows:
        assert {"predictor", "split", "fold", "metric", "value", "low", "high", "naive"} <= set(row)
        assert all(v is None or isinstance(v, (str, int, float)) for v in row.values())
    whole = {(r["predictor"], r["metric"]): r for r in rows if r["fold"] == "all"}
    assert set(whole) == {(p, m) for p in ("drug_mean", "ridge", "drug_response") for m in {r["metric"] for r in rows}}
    assert whole["ridge", "normalised Pearson"]["value"] > 0.4
    assert whole["ridge", "RMSE"]["naive"] == whole["drug_mean", "RMSE"]["value"]


def test_a_run_is_shown_again_by_any_name(
    ran: tuple[int, list[dict[str, Any]], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, rows, run_id = ran
    for n, name in enumerate(("latest", run_id, run_id[:10], "from the shell")):
        capsys.readouterr()
        assert cli.main(["runs", name, "--json", str(tmp_path / f"{n}.json")]) == 0
        said = capsys.readouterr().out
        assert json.loads((tmp_path / f"{n}.json").read_text(encoding="utf-8")) == rows
        assert "best naive value" in said and f"workbench report {run_id[:8]}" in said and "ridge" in said
    assert cli.main(["runs"]) == 0
    assert f"{run_id[:8]}  FINISHED" in capsys.readouterr().out


def test_a_mistyped_run_names_the_nearest(
    ran: tuple[int, list[dict[str, Any]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(["runs", "from the shel"], capsys)
    assert "Did you mean 'from the shell" in said


def test_what_cannot_be_run_says_why(study: Study, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file. Did you mean 'one.toml'" in refused(["run", str(file.with_name("on.toml"))], capsys)
    for change, words in (
        (("folds =", "fold ="), "unknown key 'fold'. Did you mean 'folds'"),
        (('"synthetic"', '"synthetc"'), "Did you mean 'synthetic'"),
        (('"ln_ic50"', '"ln_ic5"'), "Did you mean 'ln_ic50'"),
        (('"ridge"', '"rigde"'), "Did you mean 'ridge'"),
    ):
        other = file.with_name("other.toml")
        other.write_text(FILE.replace(*change), encoding="utf-8")
        assert cli.main(["run", str(other)]) == 1
        said = capsys.readouterr()
        assert words in said.err and "Traceback" not in said.err and said.out == ""


def test_a_place_for_the_rows_that_is_none_is_said_before_the_run(
    study: Study, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = runs.runs().height
    assert status(["run", str(file), "--json", str(file.parent / "nowhere" / "a.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert runs.runs().height == before


def test_bugs_are_shown_whole_when_asked_for(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DEBUG", "1")
    with pytest.raises(FileNotFoundError, match=r"synthetik"):
        cli.main(["study", "info", "synthetik"])


def test_ctrl_c_is_an_answer_and_the_run_ends_as_killed(
    study: Study, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", interrupt)
    assert cli.main(["run", str(file)]) == 1
    assert "recorded as KILLED" in capsys.readouterr().err
    assert runs.find("latest").status == "KILLED"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_training_ends_the_run_as_killed(
    study: Study, file: Path, number: signal.Signals, code: int
) -> None:
    """A real process; its progress bar tells when training is under way."""
    long = file.with_name("long.toml")
    text = FILE.replace("epochs = 2", "epochs = 100000").replace('"drug_mean", "ridge", ', "")
    long.write_text(text.replace("from the shell", f"signal {number}"), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench.cli", "run", str(long)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said = b""
        assert process.stderr is not None
        while b" of 100000" not in said:
            part = os.read(process.stderr.fileno(), 4096)
            assert part, said.decode()
            said += part
        process.send_signal(number)
        said += process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == code, said.decode()
    assert b"Traceback" not in said, said.decode()
    assert runs.find(f"signal {number}").status == "KILLED"


def test_a_reader_that_hangs_up_is_no_error(study: Study) -> None:
    command = f"{sys.executable} -m workbench.cli study info synthetic | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, cwd=ROOT, timeout=60,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    answers.write(path, [{"value": 1.0}])
    with pytest.raises(ValueError, match=r"(?i)out of range|nan"):
        answers.write(path, [{"value": float("nan")}])
    assert json.loads(path.read_text(encoding="utf-8")) == [{"value": 1.0}]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert home.home() != tmp_path


def test_errors_spell_arguments_as_the_command_line_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "growthData_x.csv").write_text(
        '"","model.id","drug","time","volume"\n"1","a","b",0,100\n"2","a","b",3,150\n'
    )
    assert cli.main(["study", "build", str(tmp_path), "--kind", "growth"]) == 1
    assert "state --option volume_unit= (such as 'mm3')" in capsys.readouterr().err
    told = ["--option", "volume_unit=mm3", "--option", "time_unit=day"]
    assert cli.main(["study", "build", str(tmp_path), "--kind", "growth", *told, "--name", "one"]) == 0
    capsys.readouterr()
    assert cli.main(["study", "build", str(tmp_path), "--kind", "growth", *told, "--name", "one"]) == 1
    assert "Give --replace to replace it" in capsys.readouterr().err
