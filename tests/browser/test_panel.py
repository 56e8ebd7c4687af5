"""The drug-response page, served by Panel and looked at in a real browser; and the same object in JupyterLab."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.dashboards import planted
from widgets._response.loaded import Loaded
from widgets._response.markup import number
from widgets._response.summary import best, per_treatment

BENIGN = re.compile(r"import map|favicon")  # Panel's own remarks about its modules


@pytest.fixture(scope="module")
def served(serve: Callable[..., str]) -> str:
    return serve("served")


@pytest.fixture(scope="module")
def good() -> planted.Run:
    return planted.run(name="good run")


def pick(page: Any, label: str, text: str) -> None:
    """Choose from one of the page's pickers by keyboard, as someone without a mouse would."""
    page.get_by_role("combobox", name=label).fill(text)
    page.get_by_role("option", name=text).first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")


def clean(guard: Any) -> list[str]:
    return [e for e in guard.errors if not BENIGN.search(e)]


def test_the_page_loads_and_says_who_wins(page: Any, served: str, good: planted.Run, guard: Any, picture: Any) -> None:
    page.goto(served)
    page.get_by_role("heading", name=f"{best(Loaded(good).scores)} leads").wait_for()
    rows = page.locator("table.scores tbody tr")
    rows.first.wait_for()
    assert rows.count() == 9
    assert page.title() == "Drug response · Translational Workbench"
    total = good.metrics.filter((good.metrics["fold"] == "all") & (good.metrics["metric"] == "RMSE"))
    ridge = page.locator("table.scores tbody tr", has_text="ridge").inner_text()
    value = dict(zip(total["predictor"], total["value"], strict=True))["ridge"]
    assert number(value) in ridge
    assert page.locator("table.scores .mark.better").count() > 0
    assert page.get_by_text("Every scored cell line was left out of training").first.is_visible()
    page.get_by_text("planted · digest abababababab").wait_for()
    picture(page, "panel_who_wins")
    assert clean(guard) == []


def test_the_run_picker_changes_the_page_and_the_address(page: Any, served: str) -> None:
    page.goto(served)
    page.get_by_role("heading", name="good run").wait_for()
    pick(page, "Run", "older run")
    page.get_by_role("heading", name="older run").wait_for()
    page.wait_for_url(re.compile(r"run=0{31}1"))
    page.goto(page.url)
    page.get_by_role("heading", name="older run").wait_for()
    page.goto(f"{served}?run=nowhere")
    page.get_by_text("Run nowhere cannot be opened").wait_for()


def test_the_explorer_works_in_the_page(page: Any, served: str, guard: Any, picture: Any) -> None:
    page.goto(served)
    page.get_by_role("tab", name="Explore predictions").click()
    explorer = page.locator(".wb")
    explorer.get_by_role("option", name="Planted").first.click()
    explorer.get_by_text("this treatment").wait_for()
    assert "40" in explorer.inner_text()
    explorer.get_by_role("button", name="Residuals").click()
    plot = explorer.locator("canvas").first
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 90, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] - 70, steps=4)
    page.mouse.up()
    explorer.get_by_role("button", name="Clear the rectangle").wait_for()
    picture(page, "panel_explorer")
    assert clean(guard) == []


def test_the_page_of_a_drug_follows_its_pickers(
    page: Any, served: str, good: planted.Run, guard: Any, picture: Any
) -> None:
    page.goto(served)
    page.get_by_role("tab", name="One drug").click()
    pick(page, "Drug", "Planted")
    page.get_by_role("heading", name="Planted", exact=True).wait_for()
    page.get_by_text("40 lines measured").wait_for()
    scores = per_treatment(good.predictions)
    ridge = next(r for r in scores.iter_rows(named=True) if (r["treatment"], r["predictor"]) == ("Planted", "ridge"))
    row = page.locator(
        "table.compact tbody tr", has_text=re.compile(rf"^ridge.*{re.escape(number(ridge['pearson']))}")
    ).first
    row.wait_for()
    assert number(ridge["pearson"]) in row.inner_text() and number(ridge["spearman"]) in row.inner_text()
    genes = page.locator("table.genes tbody tr")
    genes.first.wait_for()
    assert genes.first.locator("th").inner_text() == "GENE0"
    page.locator("canvas").first.wait_for()
    pick(page, "Predictor", "cell_mean")
    page.get_by_text("No attributions were recorded for cell_mean").wait_for()
    picture(page, "panel_one_drug")
    assert clean(guard) == []


def test_curves_and_provenance_are_one_click_away(page: Any, served: str, good: planted.Run) -> None:
    page.goto(served)
    page.get_by_role("tab", name="Learning curves").click()
    page.locator("polyline.curve").first.wait_for()
    assert page.locator("polyline.curve").count() == 6  # two curves of three folds
    page.get_by_role("tab", name="Provenance").click()
    page.get_by_text(good.study_digest).wait_for()
    page.get_by_text("0123456789abcdef0123456789abcdef01234567").wait_for()


def test_gaps_are_said_where_the_content_would_be(page: Any, served: str) -> None:
    page.goto(f"{served}?store=empty")
    page.get_by_text("workbench run experiments/response_gdsc2_unseen-subject.toml").wait_for()
    page.goto(f"{served}?store=broken")
    page.get_by_text("table METRICS is empty or was never recorded").wait_for()
    page.goto(f"{served}?store=lost")
    page.get_by_text("The runs cannot be listed: the store is gone").wait_for()


def test_the_same_object_is_shown_in_a_notebook(page: Any, lab: Any, picture: Any) -> None:
    cells = [
        "import panel as pn\npn.extension(inline=True)",
        "from tests.dashboards import planted\nfrom widgets.dashboards.response import ResponsePage\n"
        "ResponsePage(planted.run(name='in a notebook'))",
    ]
    lab.show(page, cells, "response")
    page.get_by_role("heading", name="in a notebook").wait_for()
    page.locator("table.scores tbody tr").first.wait_for()
    page.get_by_role("tab", name="One drug").click()
    page.get_by_text("lines measured").wait_for()
    picture(page, "lab_response")
