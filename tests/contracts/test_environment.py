"""environment.yml says for conda what pyproject.toml says for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
SEVEN = {"jupyterlab", "ipywidgets", "polars", "scanpy", "pytorch-lightning", "mlflow", "panel"}  # conda-forge names
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def conda_specs() -> dict[str, str]:
    """Package name -> range, of the conda part."""
    found = {}
    for spec in [s for s in CONDA["dependencies"] if isinstance(s, str)]:
        name, ask = re.fullmatch(r"([a-z0-9_.-]+?)\s*([<>=!].*)?", spec).groups()  # type: ignore[union-attr]
        found[name] = ask or ""
    return found


def test_it_names_the_seven_packages_and_this_checkout() -> None:
    assert set(conda_specs()) == SEVEN | {"python", "pip"}
    assert CONDA["channels"][0] == "conda-forge"
    assert [s["pip"] for s in CONDA["dependencies"] if isinstance(s, dict)] == [["-e ."]]
    assert CONDA["name"] == PROJECT["name"]


def test_the_ranges_are_those_of_pyproject() -> None:
    pip = {r.name: r.specifier for r in map(Requirement, PROJECT["dependencies"])}
    assert {n: SpecifierSet(conda_specs()[n]) for n in SEVEN} == {n: pip[n] for n in SEVEN}


def test_python_is_the_one_the_project_supports() -> None:
    assert conda_specs()["python"] == "=3.11"
    assert "3.11.9" in SpecifierSet(PROJECT["requires-python"])
    assert "3.12.0" not in SpecifierSet(PROJECT["requires-python"])


def test_the_lock_lies_in_every_range() -> None:
    lock = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines())
    assert [n for n in SEVEN if not SpecifierSet(conda_specs()[n]).contains(lock[n])] == []
