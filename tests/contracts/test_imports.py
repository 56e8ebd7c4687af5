"""Imports stay quick, go downwards, and bring nothing they should not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAINERS = ["torch", "pytorch_lightning", "lightning", "mlflow", "flwr"]
HEAVY = [*TRAINERS, "scanpy", "anndata", "panel", "matplotlib", "rdkit"]


def loaded(code: str, watched: list[str]) -> list[str]:
    """Which of ``watched`` a fresh interpreter holds after ``code``."""
    script = f"import sys, json\n{code}\nprint(json.dumps([n for n in {watched!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: list[str] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_importing_both_packages_loads_nothing_heavy() -> None:
    assert loaded("import workbench, widgets", HEAVY) == []


def test_a_heavy_import_would_be_seen() -> None:
    assert loaded("import workbench, matplotlib", HEAVY) == ["matplotlib"]


@pytest.mark.skipif(not (ROOT / "workbench" / "cli").is_dir(), reason="workbench/cli does not exist yet")
def test_the_command_line_starts_light() -> None:
    assert loaded("import workbench.cli", [*TRAINERS, "scanpy", "panel", "rdkit"]) == []


def test_no_public_widget_module_loads_a_trainer_a_tracker_or_a_federation() -> None:
    names = [
        ".".join(f.relative_to(ROOT).with_suffix("").parts)
        for f in sorted((ROOT / "widgets").glob("*.py"))
        if not f.name.startswith("_")
    ]
    code = "\n".join(f"import {name}" for name in ["widgets", *names])
    assert loaded(code, TRAINERS) == []


@pytest.mark.parametrize("name", ["torchvision", "torchaudio"])
def test_what_breaks_lightning_is_not_importable(name: str) -> None:
    """The registry's torchvision does not fit the locked torch, and Lightning imports it as soon as it is there."""
    done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"No module named '{name}'" in done.stderr


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_import_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("workbench/text.py", "import workbench.tables", "Rooms import downwards, and every file has a room"),
        ("workbench/odds.py", "", "Rooms import downwards, and every file has a room"),
        ("workbench/study.py", "import widgets", "The workbench never imports widgets"),
        ("workbench/units.py", "def f():\n    import mlflow", "Only workbench.runs imports mlflow"),
        (
            "widgets/palette.py",
            "def f():\n    import torch",
            "Widgets see tables, never a trainer, a tracker or a federation",
        ),
        (
            "workbench/formats/csv.py",
            "from workbench.formats import parquet",
            "Members of a room do not import each other",
        ),
        ("workbench/formats/_x.py", "import workbench.formats.csv", "Members of a room do not import each other"),
    ],
)
def test_a_planted_import_breaks_its_contract(tmp_path: Path, file: str, line: str, contract: str) -> None:
    """The contracts of pyproject.toml, run on a copy of the two packages with one bad line more."""
    for path in [p for package in ("workbench", "widgets") for p in (ROOT / package).rglob("*.py")]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for name in ("pyproject.toml", "tests/contracts/siblings.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    with (tmp_path / file).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout[-2000:]
    assert [word for word in done.stdout.splitlines() if word.startswith(contract) and word.endswith("BROKEN")]
