"""What the widgets share: packing, one module of text, colours, a light import, and a notebook without a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import widgets
from widgets import palette
from widgets._parts import esm, pack, unpack

ROOT = Path(__file__).resolve().parents[2]
STEMS = [f.stem for f in sorted((ROOT / "widgets").glob("*.js")) if f.with_suffix(".py").is_file() and f.stem[0] != "_"]


def test_what_is_packed_is_unpacked_on_aligned_starts() -> None:
    columns = {
        "odd": np.arange(3, dtype=np.uint8),
        "wide": np.array([1.5, np.nan], dtype=np.float32),
        "none": np.array([], dtype=np.int32),
        "big": np.array([1, -2], dtype=">i4"),
    }
    data = pack(columns, names=["\u00b5", "</script>"])
    header, found = unpack(data)
    assert header == {"names": ["\u00b5", "</script>"]}
    assert (4 + int.from_bytes(data[:4], "little")) % 8 == 0
    assert found["odd"].tolist() == [0, 1, 2]
    assert found["wide"][0] == 1.5 and np.isnan(found["wide"][1])
    assert found["none"].tolist() == []
    assert found["big"].tolist() == [1, -2]


def test_a_type_without_a_typed_array_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="'x' is int64"):
        pack({"x": np.arange(3, dtype=np.int64)})


@pytest.mark.parametrize("stem", STEMS)
def test_scripts_show_names_as_text_and_load_nothing(stem: str) -> None:
    text = esm(stem)
    for banned in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "import "):
        assert not re.search(rf"^[^/\n]*{re.escape(banned)}", text, re.MULTILINE), banned
    assert not re.search(r"https?://", text)


def test_colours_are_those_of_okabe_and_ito_and_the_theme_is_confined() -> None:
    assert palette.OKABE_ITO[0] == palette.BLUE == "#0072B2"
    assert len({c.upper() for c in palette.OKABE_ITO}) == 8
    rules = re.findall(r"([^{}]+)\{", palette.theme())
    assert len(rules) > 30
    assert [r for r in rules for part in r.split(",") if not part.strip().startswith(".wb")] == []


def test_importing_the_package_is_light_and_names_are_lazy() -> None:
    heavy = "['torch','pytorch_lightning','mlflow','scanpy','anywidget','ipywidgets','polars','panel']"
    code = f"import sys, widgets; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == "[]"
    assert set(widgets.__all__) <= set(dir(widgets))
    with pytest.raises(AttributeError, match=r"it has .*PredictionExplorer.*, Selection, StudyBrowser, TrainingPanel"):
        widgets.Nothing  # noqa: B018


def test_all_widgets_import_no_trainer() -> None:
    heavy = "['torch','pytorch_lightning','mlflow','flwr','panel','matplotlib']"
    code = f"import sys; from widgets import *; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == "[]"


def test_javascript_arithmetic_agrees_with_hand_computed_values() -> None:
    node = shutil.which("node")
    if not node:
        pytest.skip("no node on this machine: the browser tests cover the same code")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip("v\n")
    if tuple(map(int, version.split(".")[:2])) < (20, 19):
        pytest.skip(f"node {version} is older than 20.19 and cannot import a .js module without a package.json")
    files = sorted(map(str, Path(__file__).parent.glob("*.test.mjs")))
    said = subprocess.run([node, "--test", *files], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert said.returncode == 0, said.stdout[-3000:]
    assert int(re.search(r"^# pass (\d+)$", said.stdout, re.MULTILINE).group(1)) >= 9  # type: ignore[union-attr]


def test_widgets_run_in_a_notebook_without_a_front_end(tmp_path: Path) -> None:
    import nbclient
    import nbformat

    cells = [
        "from tests.widgets import planted\nfrom widgets import PredictionExplorer, StudyBrowser, TrainingPanel",
        "browser = StudyBrowser(planted.presence())\nbrowser.filters = {'tissues': ['lung']}\nbrowser",
        "explorer = PredictionExplorer(planted.predictions())\nexplorer.treatment = 'Gefitinib'\nexplorer",
        "panel = TrainingPanel({'predictors': ['ridge'], 'splits': ['unseen pair']},\n"
        "                      lambda choice, report, stopped: report({'fraction': 0.5}) or {'run': 'r1'})\n"
        "panel.start()\nprint(browser.selected, len(explorer.shown), panel.wait(20), panel.result['run'])\npanel",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    printed = [o for o in book.cells[3].outputs if o.output_type == "stream"]
    assert printed[0].text.strip() == "['line 0', 'line 3', 'line 6', 'line 9'] 30 done r1"
    for cell in book.cells[1:]:
        assert any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in cell.outputs)
