"""What is installed is what is here: the wheel carries every file of the two packages, and the entry points."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of what git would commit, with the setuptools of this environment."""
    copy, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    if not (copy / "README.md").is_file():
        pytest.skip("README.md does not exist yet, and the package is not built without it")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", str(out), str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def test_it_carries_every_file_of_the_two_packages_and_nothing_of_the_tests(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    here = {
        str(path.relative_to(ROOT))
        for package in ("workbench", "widgets")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert here - names == set(), "add the suffix to [tool.setuptools.package-data]"
    assert names - here == set()
    assert {"workbench/icons/mlflow.svg", "workbench/icons/panel.svg"} <= names


def test_it_registers_the_command_the_verbs_and_the_launcher_tiles(wheel: zipfile.ZipFile) -> None:
    (name,) = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    text = wheel.read(name).decode()
    for line in (
        "workbench = workbench.cli:main",
        "report = widgets.report:main",
        "pages = widgets.dashboards:main",
        "mlflow = workbench.lab:mlflow_server",
        "panel = workbench.lab:panel_server",
    ):
        assert line in text.splitlines()


def test_it_says_its_licence_and_its_python(wheel: zipfile.ZipFile) -> None:
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    facts = Parser().parsestr(wheel.read(name).decode())
    assert facts["Name"] == "translational-workbench"
    assert facts["License-Expression"] == "Apache-2.0"
    assert facts["Requires-Python"] == "<3.12,>=3.11"
    assert [n for n in wheel.namelist() if n.endswith("licenses/LICENSE")]
