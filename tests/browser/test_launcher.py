"""JupyterLab's launcher starts the MLflow UI and the Panel pages behind its proxy, one click away."""

from __future__ import annotations

from typing import Any

import pytest

# MLflow's page asks who is logged in, and its server without accounts knows no such address.
EXPECTED = "/ajax-api/2.0/mlflow/users/current"


def opened(lab: Any, page: Any, title: str, failed: list[str]) -> Any:
    """The tab that a click on the launcher's tile opens; ``failed`` collects what its server refuses."""
    page.goto(f"{lab.url}/lab/workspaces/launcher-{title[:4]}?reset&token={lab.token}")
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate("window.jupyterapp.restored")
    tile = page.locator(".jp-LauncherCard", has_text=title)
    tile.wait_for()
    assert tile.locator("svg, img").count() >= 1
    # The tab opens once the server answers, and MLflow takes its time.
    page.context.on("response", lambda r: failed.append(r.url) if r.status >= 400 and EXPECTED not in r.url else None)
    with page.context.expect_page(timeout=120_000) as caught:
        tile.click()
    return caught.value


def faults(guard: Any, failed: list[str]) -> list[str]:
    """What the console said, less the lines that only repeat a refused address."""
    return failed + [line for line in guard.errors if "Failed to load resource" not in line]


@pytest.mark.timeout(300)
def test_the_runs_are_one_click_away(lab: Any, page: Any, guard: Any, picture: Any) -> None:
    failed: list[str] = []
    tab = opened(lab, page, "Runs (MLflow)", failed)
    tab.get_by_text("Welcome to MLflow").wait_for()
    assert tab.url.startswith(f"{lab.url}/mlflow/")
    tab.goto(f"{lab.url}/mlflow/#/experiments")
    tab.get_by_role("heading", name="Experiments").wait_for()
    tab.get_by_role("link", name="Default").wait_for()  # read from the store through the proxy, by POST
    picture(tab, "launcher_mlflow")
    assert faults(guard, failed) == []


@pytest.mark.timeout(300)
def test_the_pages_are_one_click_away(lab: Any, page: Any, guard: Any, picture: Any) -> None:
    failed: list[str] = []
    tab = opened(lab, page, "Pages (Panel)", failed)
    assert sorted(t.strip() for t in tab.locator("main a").all_inner_texts()) == [
        "Compare",
        "Federation",
        "Response",
        "Study",
    ]
    tab.get_by_role("link", name="response").click()
    # Bokeh opens its websocket through the proxy before a document is idle
    tab.wait_for_function("window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")
    assert tab.url.startswith(f"{lab.url}/panel/")
    tab.get_by_role("button", name="Look for new runs").click()
    tab.get_by_text("No runs yet").wait_for()
    picture(tab, "launcher_panel")
    assert faults(guard, failed) == []
