"""Notebooks: committed clean, one question each, and they run from top to bottom."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest

from tests.real import shared

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def litter(notebook: nbformat.NotebookNode) -> list[str]:
    """What a notebook carries that should not be committed."""
    found = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.outputs:
            found.append(f"cell {number}: outputs")
        if cell.cell_type == "code" and cell.execution_count is not None:
            found.append(f"cell {number}: execution count")
        if not cell.source.strip():
            found.append(f"cell {number}: empty")
    return found + (["widget state"] if "widgets" in notebook.metadata else [])


def test_planted_litter_is_found() -> None:
    stream = nbformat.v4.new_output("stream", text="1\n")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("print(1)", outputs=[stream], execution_count=1)]
    )
    assert litter(notebook) == ["cell 0: outputs", "cell 0: execution count"]
    assert litter(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")])) == []


@every_notebook
def test_it_is_committed_clean(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert litter(notebook) == [], (
        f"clear it: .venv/bin/jupyter nbconvert --clear-output --inplace notebooks/{path.name}"
    )
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert notebook.metadata.kernelspec.name == "python3"


@every_notebook
def test_it_is_numbered_and_opens_with_its_title(path: Path) -> None:
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")


@pytest.mark.index
@pytest.mark.timeout(900)
@every_notebook
def test_it_runs(path: Path, workbench_home: Path) -> None:
    """In a home of its own; a study it needs it builds itself, from the archive in the user's cache.

    Metadata ``needs`` names real data a notebook reads (variable -> place); without them the test skips and says so.
    """
    from nbclient import NotebookClient

    notebook = read(path)
    places = {variable: str(shared(place)) for variable, place in notebook.metadata.get("needs", {}).items()}
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env={**os.environ, **places, "WORKBENCH_HOME": str(workbench_home)})
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    told = [out for cell in code for out in cell.outputs if out.get("name") == "stderr"]
    assert not [out.text for out in told if re.search(r"Traceback|WARNING|Warning", out.text)]
