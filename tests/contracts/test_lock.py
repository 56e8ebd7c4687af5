"""The lock: complete, plain, and what is installed."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
WANTED = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]


def locked() -> dict[str, str]:
    pairs = [line.split("==") for line in LINES]
    return {canonicalize_name(name): number for name, number in pairs}


def test_every_line_is_one_name_and_one_plain_version() -> None:
    """No hashes, markers, options or local tags: pip must find a file for it on any machine."""
    for line in LINES:
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert (pin.operator, requirement.marker, requirement.extras, requirement.url) == ("==", None, set(), None), (
            line
        )
        assert "+" not in pin.version and "*" not in pin.version, line
    names = [canonicalize_name(line.split("==")[0]) for line in LINES]
    assert names == sorted(set(names))


def test_torch_is_exact_and_alone() -> None:
    assert locked()["torch"] == "2.13.0"
    assert "torch==2.13.0" in PROJECT["dependencies"]
    assert not {"torchvision", "torchaudio", "lightning"} & set(locked())
    assert not [name for name in locked() if name.startswith(("nvidia-", "cuda-", "triton"))]


@pytest.mark.parametrize("wanted", WANTED, ids=lambda r: r.name)
def test_each_requirement_is_met_by_the_lock(wanted: Requirement) -> None:
    number = locked().get(canonicalize_name(wanted.name))
    assert number is not None, f"{wanted} is in pyproject.toml but not in requirements.lock: make lock"
    assert wanted.specifier.contains(number), (
        f"the lock has {wanted.name} {number}, pyproject.toml asks {wanted.specifier}"
    )


def test_what_runs_is_the_lock() -> None:
    found = {name: version(name).split("+")[0] for name in locked()}
    assert {n: v for n, v in found.items() if v != locked()[n]} == {}, "the environment is not the lock: make setup"
