"""JupyterLab's launcher starts the MLflow UI and the Panel pages behind its proxy, one click away."""

from __future__ import annotations

from typing import Any

import pytest

# Bokeh and MLflow ask for these and do without; none is a fault of the page.
HARMLESS = ("favicon", "apple-touch-icon")


def faults(guard: Any) -> list[str]:
    return [line for line in guard.errors if not any(word in line for word in HARMLESS)]


def opened(lab: Any, page: Any, title: str) -> Any:
    """The tab that a click on the launcher's tile opens."""
    page.goto(f"{lab.url}/lab/workspaces/launcher-{title[:4]}?reset&token={lab.token}")
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate("window.jupyterapp.restored")
    tile = page.locator(".jp-LauncherCard", has_text=title)
    tile.wait_for()
    assert tile.locator("svg, img").count() >= 1
    with page.context.expect_page() as caught:
        tile.click()
    return caught.value


@pytest.mark.timeout(300)
def test_the_runs_are_one_click_away(lab: Any, page: Any, guard: Any) -> None:
    tab = opened(lab, page, "Runs (MLflow)")
    guard.errors.clear()  # Lab's own; from here on it is the page behind the proxy
    tab.goto(f"{lab.url}/mlflow/#/experiments", timeout=150_000)
    tab.get_by_text("Default").first.wait_for(timeout=60_000)
    assert "/mlflow/" in tab.url
    assert faults(guard) == []


@pytest.mark.timeout(300)
def test_the_pages_are_one_click_away(lab: Any, page: Any, guard: Any) -> None:
    tab = opened(lab, page, "Pages (Panel)")
    guard.errors.clear()
    tab.goto(f"{lab.url}/panel/response", timeout=150_000)
    tab.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle", timeout=90_000)
    assert tab.locator("text=/run/i").first.inner_text()
    assert faults(guard) == []
