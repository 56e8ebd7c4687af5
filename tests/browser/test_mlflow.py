"""A run recorded by ``workbench.runs``: MLflow's own page shows it, and so does the real Panel page, under a prefix.

MLflow's page is not ours, and yet it asks nothing of other machines: the browser fixtures fail the test if it does.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards import planted
from widgets import report
from widgets._response.markup import number
from widgets.dashboards import command

pytestmark = pytest.mark.shared_home
ROOT = Path(__file__).resolve().parents[2]


def free() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def recorded(chromium: Any) -> Any:
    """The planted run, gone through MLflow and read back; and a run that was killed before it wrote a table."""
    from workbench import runs

    made = planted.run(name="response_planted")
    with (
        pytest.raises(KeyboardInterrupt),
        runs.record({"name": "killed early", "split": "unseen pair"}, "ab" * 32, "planted"),
    ):
        raise KeyboardInterrupt
    experiment = {"name": made.name, "study": "planted", "split": "unseen subject", "seed": 3}
    with runs.record(experiment, made.study_digest, "planted") as run:
        with run.child(predictor="drug_response", fold=0) as child:
            child.curve(made.curves.filter(made.curves["fold"] == 0))
        names = ("predictions", "metrics", "comparisons", "attributions", "curves")
        run.tables({name: getattr(made, name) for name in names})
        run.metrics({"RMSE ridge": 0.4242})
    return runs.find(made.name)


@pytest.fixture(scope="module")
def mlflow(recorded: Any, launch: Callable[..., None]) -> str:
    from workbench import runs

    port = free()
    line, environment = runs.server_command(port)
    launch(line, f"http://127.0.0.1:{port}/health", env=environment)
    return f"http://127.0.0.1:{port}"


def test_mlflow_shows_the_run_and_its_score(page: Any, mlflow: str, recorded: Any, picture: Any) -> None:
    page.goto(recorded.ui_url(mlflow))
    page.get_by_text(recorded.name).first.wait_for()
    page.get_by_text("RMSE ridge").first.wait_for()
    page.get_by_text("0.4242").first.wait_for()
    picture(page, "mlflow_run")
    page.goto(f"{mlflow}/#/experiments/{recorded.experiment_id}/runs")
    page.get_by_text(recorded.name).first.wait_for()
    time.sleep(2)  # late requests, if there are any


def test_the_page_lists_and_opens_recorded_runs_behind_a_prefix(
    page: Any, recorded: Any, launch: Callable[..., None], picture: Any
) -> None:
    port = free()
    url = f"http://127.0.0.1:{port}/user/ada/panel/response"
    launch(command(port, prefix="/user/ada/panel"), url, env={"PYTHONPATH": str(ROOT)}, cwd=ROOT)
    page.goto(url)
    page.get_by_role("heading", name=recorded.name).wait_for()
    made = planted.run(name="response_planted")
    total = made.metrics.filter((made.metrics["fold"] == "all") & (made.metrics["metric"] == "RMSE"))
    rmse = dict(zip(total["predictor"], total["value"], strict=True))["ridge"]
    row = page.locator("table.scores tbody tr", has_text="ridge")
    row.wait_for()
    assert number(rmse) in row.inner_text()
    page.get_by_role("tab", name="Provenance").click()
    page.get_by_text(recorded.run_id).wait_for()
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", page.locator("table.facts").inner_text())
    page.get_by_role("combobox", name="Run").fill("killed early")
    page.get_by_role("option", name="killed early").first.click()
    page.get_by_text("table METRICS is empty or was never recorded (the run's status is KILLED)").wait_for()


def test_the_report_of_a_recorded_run_is_that_of_its_tables(recorded: Any, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    assert report.main([recorded.name, "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert recorded.run_id in text and "ab" * 32 in text and recorded.tags["lock.sha256"] in text
    assert re.search(r"Started</dt><dd>20\d\d-\d\d-\d\d", text)
    assert report.main(["no such run", "--out", str(out)]) == 1
