"""The README's pictures, taken from the study and the newest run that this checkout's home holds. Run it by name:

SCREENSHOTS=notebooks/pictures .venv/bin/pytest tests/browser/pictures.py

PICTURED_HOME names another home.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("PICTURED_HOME") or ROOT / ".workbench")
EXPERIMENT = "response_gdsc2_unseen-subject"
FEDERATION = "federation_gdsc2_tissue"
pytestmark = pytest.mark.skipif(not (HOME / "mlflow.db").is_file(), reason="no runs yet: make demo")


def test_page(page: Any, launch: Any, picture: Any) -> None:
    from tests.browser.conftest import free_port
    from widgets.dashboards import serving

    port = free_port()
    command, env = serving(port)
    launch(command, f"http://127.0.0.1:{port}/response", env={**env, "WORKBENCH_HOME": str(HOME)})
    page.goto(f"http://127.0.0.1:{port}/response")
    page.get_by_text("unseen").first.wait_for()
    page.wait_for_timeout(6000)
    picture(page, "page")


def test_report(page: Any, picture: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(HOME))
    from widgets.report import export
    from workbench import runs

    page.goto(export(runs.find(EXPERIMENT), tmp_path / "report.html").as_uri())
    page.wait_for_timeout(3000)
    picture(page, "report-top")
    page.get_by_label("Find a treatment").fill("Trametinib")
    page.get_by_role("option", name="Trametinib").first.click()
    page.wait_for_timeout(1000)
    picture(page, "report")


def test_lab(page: Any, lab: Any, picture: Any) -> None:
    page.set_default_timeout(120_000)
    cells = [
        f"import os; os.environ['WORKBENCH_HOME'] = {str(HOME)!r}\n"
        "from workbench.study import Study, find\nfrom widgets import StudyBrowser",
        "study = Study.open(find('gdsc2'))\nStudyBrowser(study.presence(), study.outcomes, title='GDSC2 cell lines')",
    ]
    lab.show(page, cells, "study")
    page.get_by_text("A549").first.wait_for()
    picture(page.locator(".jp-Notebook .jp-CodeCell").nth(1), "lab")  # the cell above names a folder of this machine


def test_mlflow(page: Any, launch: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(HOME))
    from tests.browser.conftest import free_port
    from workbench import runs

    port = free_port()
    command, env = runs.server_command(port)
    launch(command, f"http://127.0.0.1:{port}/", env={**env, "WORKBENCH_HOME": str(HOME)}, seconds=180)
    page.goto(runs.find(EXPERIMENT).ui_url(f"http://127.0.0.1:{port}"))
    page.wait_for_timeout(8000)
    picture(page, "mlflow")


def test_federation(page: Any, launch: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(HOME))
    from tests.browser.conftest import free_port
    from widgets.dashboards import serving
    from widgets.dashboards.federation import Store

    known = Store().history().filter(status="FINISHED")
    wanted = known.filter(experiment=FEDERATION)
    if known.is_empty():
        pytest.skip(f"no federation yet: workbench federate simulate experiments/federations/{FEDERATION}.toml")
    port = free_port()
    command, env = serving(port)
    launch(command, f"http://127.0.0.1:{port}/federation", env={**env, "WORKBENCH_HOME": str(HOME)})
    page.set_viewport_size({"width": 1280, "height": 2600})
    page.goto(f"http://127.0.0.1:{port}/federation?run={(wanted if wanted.height else known)['run_id'][0]}")
    board = page.locator(".wb-fed")
    board.get_by_role("region", name="What each site gives").wait_for(timeout=90_000)
    board.evaluate("(e) => [...e.querySelectorAll(':scope > section')].slice(3).forEach((s) => s.remove())")
    picture(board, "federation")
