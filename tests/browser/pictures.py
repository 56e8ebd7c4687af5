"""The README's pictures, taken from the study and the newest run that this checkout's home holds. Run it by name:

SCREENSHOTS=notebooks/pictures .venv/bin/pytest tests/browser/pictures.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".workbench"
EXPERIMENT = "response_gdsc2_unseen-subject"
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
