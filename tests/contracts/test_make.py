"""Set-up: one stamp, redone when interrupted, clear without CPython 3.11; and CI fails where a browser test skips."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Stands for CPython: makes an "environment" whose python writes down what pip was asked, and fails if told to.
PYTHON = """#!/bin/sh
case "$1" in
  -c) exit 0 ;;
  --version) echo "Python 3.11.99" ;;
  -m) mkdir -p .venv/bin && cp "$(dirname "$0")/pip-only" .venv/bin/python ;;
esac
"""
PIP = """#!/bin/sh
echo "$@" >> pip.log
case "$*" in *"-e .") [ ! -e fail-own ] ;; *) [ ! -e fail ] ;; esac
"""
OLD = """#!/bin/sh
[ "$1" = --version ] && echo "Python 3.12.1"
[ "$1" != -c ]
"""


def script(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what set-up reads, and stand-ins for Python beside it."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    script(tmp_path / "python", PYTHON)
    script(tmp_path / "pip-only", PIP)
    return folder


def setup(checkout: Path, python: str | Path = "../python") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", "setup", f"PYTHON={python}"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def stamps(checkout: Path) -> list[str]:
    return [p.name for p in (checkout / ".venv").glob(".stamp-*")]


def asked(checkout: Path) -> list[str]:
    log = checkout / "pip.log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def test_set_up_installs_the_lock_and_then_this_checkout(checkout: Path) -> None:
    done = setup(checkout)
    assert done.returncode == 0, done.stderr
    lock, own = asked(checkout)
    assert "-r requirements.lock" in lock and lock.startswith("-m pip install")
    assert own.endswith("--no-deps --no-build-isolation -e .")
    assert "241 packages" in done.stdout or "packages of requirements.lock" in done.stdout
    assert len(stamps(checkout)) == 1


def test_the_second_call_does_nothing(checkout: Path) -> None:
    setup(checkout)
    again = setup(checkout)
    assert again.returncode == 0
    assert len(asked(checkout)) == 2
    assert "installing" not in again.stdout


def test_a_changed_lock_is_installed_over_and_leaves_one_stamp(checkout: Path) -> None:
    setup(checkout)
    before = stamps(checkout)
    with (checkout / "requirements.lock").open("a") as stream:
        stream.write("zzz==1\n")
    assert setup(checkout).returncode == 0
    assert len(asked(checkout)) == 4
    assert len(stamps(checkout)) == 1 and stamps(checkout) != before


def test_a_failed_pip_leaves_no_stamp_and_the_next_call_starts_from_nothing(checkout: Path) -> None:
    (checkout / "fail").touch()
    failed = setup(checkout)
    assert failed.returncode != 0
    assert "build/setup.log" in failed.stderr
    assert stamps(checkout) == []
    (checkout / ".venv" / "half-written").touch()
    (checkout / "fail").unlink()
    done = setup(checkout)
    assert done.returncode == 0
    assert "interrupted" in done.stdout
    assert not (checkout / ".venv" / "half-written").exists()
    assert len(stamps(checkout)) == 1


def test_a_checkout_that_does_not_build_keeps_the_packages_it_has(checkout: Path) -> None:
    (checkout / "fail-own").touch()
    assert setup(checkout).returncode != 0
    assert stamps(checkout) == []
    (checkout / ".venv" / "whole").touch()
    (checkout / "fail-own").unlink()
    assert setup(checkout).returncode == 0
    assert (checkout / ".venv" / "whole").exists()
    assert len(stamps(checkout)) == 1


def test_a_moved_checkout_gets_a_new_environment(checkout: Path) -> None:
    """Scripts in .venv/bin name the folder they were made in."""
    setup(checkout)
    (checkout / ".venv" / "old").touch()
    moved = checkout.rename(checkout.parent / "moved")
    done = setup(moved)
    assert done.returncode == 0
    assert "the checkout has moved" in done.stdout
    assert not (moved / ".venv" / "old").exists()
    assert len(stamps(moved)) == 1


def test_without_python_it_says_what_to_install(checkout: Path) -> None:
    done = setup(checkout, "python3.11-of-nowhere")
    assert done.returncode != 0
    assert "found no python3.11-of-nowhere" in done.stderr and "apt-get install" in done.stderr
    assert not (checkout / ".venv").exists()


def test_another_python_is_refused(checkout: Path) -> None:
    done = setup(checkout, script(checkout.parent / "old", OLD))
    assert done.returncode != 0
    assert "is Python 3.12.1, the workbench needs CPython 3.11" in done.stderr
    assert not (checkout / ".venv").exists()


# --- .ci/run's last word ---------------------------------------------------------------------------------------------

PASSED = '<testcase classname="tests.browser.test_lab_browser" name="test_click"/>'
WHY = '><skipped type="pytest.skip" message="no chromium"/></testcase>'
SKIPPED = PASSED.replace("/>", WHY)
MODULE = '<testcase classname="" name="tests.browser.test_panel"' + WHY  # a module that skips itself as a whole
OTHER = '<testcase classname="tests.workbench.test_x" name="test_y"' + WHY.replace("chromium", "archive")


@pytest.mark.parametrize(
    ("cases", "status", "said"),
    [
        (PASSED + OTHER, 0, "2 tests, 1 skipped; 1 browser tests, 0 skipped"),
        (PASSED + SKIPPED, 1, "test_click: no chromium"),
        (PASSED + MODULE, 1, "tests.browser.test_panel: no chromium"),
        (OTHER, 1, "no browser test was collected"),
    ],
)
def test_a_skipped_browser_test_fails_the_check(tmp_path: Path, cases: str, status: int, said: str) -> None:
    junit = tmp_path / "junit.xml"
    junit.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", encoding="utf-8")
    command = [sys.executable, str(ROOT / ".ci" / "skips.py"), str(junit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stdout


def test_no_results_at_all_fail_too(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / ".ci" / "skips.py"), str(tmp_path / "junit.xml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
