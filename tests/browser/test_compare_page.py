"""The page that compares runs in a real browser: keys, figures equal to the table, names as text, all from here."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_hostile import unharmed
from tests.browser.test_panel import clean, pick
from tests.widgets import planted_comparison
from tests.widgets.planted import HOSTILE

SCORES = planted_comparison.comparison().scores.filter(study="gdsc2", split="unseen subject")


@pytest.fixture(scope="module")
def served(serve: Callable[..., str]) -> str:
    return serve("served_compare")


def cells(board: Any, entry: str) -> list[str]:
    row = board.locator("table.all tbody tr").filter(has=board.page.get_by_role("button", name=entry, exact=True))
    return [text.strip() for text in row.locator("td").all_inner_texts()]


def beginning(page: Any, board: Any, words: str) -> None:
    board.locator(".lead-in").get_by_text(re.compile(f"^{re.escape(words)}")).wait_for()


def test_figures_on_the_screen_are_those_of_the_table_for_the_metric_that_a_key_chose(
    page: Any, served: str, guard: Any, picture: Callable[..., None]
) -> None:
    page.goto(f"{served}?study=gdsc2&split=unseen+subject")
    board = page.locator(".wb-compare")
    beginning(
        page, board, "drug_response, members=5 leads with 0.597 (0.579 to 0.613); the best naive predictor has 0.468"
    )
    picture(page, "compare_page")
    metric = board.get_by_label("Metric")
    metric.focus()
    page.keyboard.press("ArrowDown")  # RMSE, where lower is better
    beginning(page, board, "ridge leads with 1.175 (1.157 to 1.191)")
    for row in SCORES.filter(metric="RMSE").iter_rows(named=True):
        told = cells(board, row["entry"])
        assert told[:4] == [f"{row[c]:.3f}" for c in ("value", "low", "high", "naive")], row["entry"]
        assert float(told[4].replace("\u2212", "-")) == pytest.approx(row["naive"] - row["value"], abs=6e-4)
        assert told[6:8] == ["5", "2"] and float(told[8]) == row["cost_s"]
    assert board.locator("table.all th[aria-sort=ascending]").inner_text().startswith("Score")
    cell = board.get_by_role("cell", name=re.compile("^ridge against trees: better, \u22120.090"))
    assert "\u25b2" in cell.inner_text()
    assert board.get_by_role(
        "img", name=re.compile("^Mean ranks, 1 is best: drug_response, members=5 1.20")
    ).is_visible()
    assert board.get_by_text("Critical difference by Nemenyi at 5 %: 1.93.").is_visible()
    assert clean(guard) == []


def test_marks_sorting_and_the_points_are_reached_by_keys_and_the_table_is_saved(
    page: Any, served: str, guard: Any
) -> None:
    page.goto(f"{served}?study=gdsc2&split=unseen+subject")
    board = page.locator(".wb-compare")
    name = board.locator(".forest").get_by_role("button", name="trees")
    name.focus()
    page.keyboard.press("Enter")
    board.locator("table.all tr.on", has_text="trees").wait_for()
    assert name.get_attribute("aria-pressed") == "true"
    assert board.locator("svg .name.on tspan").first.text_content() == "4.00"
    assert name.evaluate("(e) => e.getRootNode().activeElement === e"), "who pressed a key stays where they were"
    points = board.get_by_role("application", name=re.compile("seconds a fold, 5 entries"))
    points.focus()
    page.keyboard.press("End")
    board.locator(".tip").get_by_text("0.597 (0.579 to 0.613), 300 s a fold, on the front").wait_for()
    page.keyboard.press("Enter")
    board.locator("table.all tr.on").nth(1).wait_for()
    sort = board.get_by_role("button", name="Seconds a fold")
    sort.focus()
    page.keyboard.press("Enter")
    assert board.locator("table.all tbody tr th").all_inner_texts()[0] == "drug_response, members=5"
    page.keyboard.press("Enter")
    assert board.locator("table.all tbody tr th").all_inner_texts()[0] == "tissue_drug_mean"
    with page.expect_download() as saved:
        board.get_by_role("button", name="Save this table as csv").click()
    rows = list(csv.DictReader(saved.value.path().read_text(encoding="utf-8").splitlines()))
    assert rows[0]["entry"] == "tissue_drug_mean" and float(rows[0]["score"]) == pytest.approx(0.468)
    assert {r["split"] for r in rows} == {"unseen subject"}
    with page.expect_download() as whole:
        page.get_by_role("button", name="All scores as csv").click()
    assert len(list(csv.DictReader(whole.value.path().read_text(encoding="utf-8").splitlines()))) == 15
    assert clean(guard) == []


def test_runs_are_found_ticked_and_compared_by_keys(page: Any, served: str, guard: Any) -> None:
    page.goto(f"{served}?study=gdsc2&split=unseen+subject")
    page.locator(".wb-compare").wait_for()
    runs = page.locator(".wb-runs")
    runs.get_by_text("2 of 6 runs ticked").wait_for()
    runs.get_by_role("searchbox").fill("response running")
    runs.get_by_text("2 of 6 runs ticked, 1 listed").wait_for()
    runs.get_by_role("listbox").focus()
    page.keyboard.press(" ")
    again = page.get_by_role("button", name="Compare these 3 runs again")
    again.click()
    page.get_by_role("button", name="Compare these 3 runs", exact=True).wait_for()
    assert page.locator("table caption", has_text="These runs").locator("..").locator("tbody tr").count() == 3
    link = page.get_by_role("link", name="response subject 2")
    assert re.match(r"http://127\.0\.0\.1:5000/#/experiments/7/runs/[0-9a-f]{32}\?", link.get_attribute("href"))
    pick(page, "Split", "unseen treatment")
    beginning(page, page.locator(".wb-compare"), "drug_response, members=5 leads with 0.547")
    page.wait_for_url(re.compile("split=unseen(%20|\\+)treatment"))
    assert clean(guard) == []


def test_what_takes_long_and_what_is_not_there_is_said(page: Any, served: str, guard: Any) -> None:
    page.goto(f"{served}?store=slow")
    page.get_by_text(re.compile("^Comparing 2 runs \u2026 .*half of it")).wait_for()
    page.locator(".wb-compare").wait_for()
    page.get_by_text(re.compile("^Comparing 2 runs")).wait_for(state="detached")
    page.goto(f"{served}?store=empty")
    page.get_by_text("No runs yet").wait_for()
    page.goto(f"{served}?store=broken")
    page.get_by_text("The runs cannot be listed: ComputeError: the file is no database").wait_for()
    page.goto(f"{served}?study=nowhere")
    page.get_by_text("No run is on a study called 'nowhere'").wait_for()
    assert clean(guard) == []


def test_names_are_shown_as_typed_also_on_a_narrow_screen(page: Any, served: str, picture: Callable[..., None]) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto(f"{served}?store=hostile&study=gdsc2&split=unseen+subject")
    board = page.locator(".wb-compare")
    board.locator(".forest").get_by_role("button", name=HOSTILE).wait_for()
    board.locator("table.all").get_by_role("button", name=HOSTILE).click()
    board.get_by_role("row", name=re.compile(re.escape(HOSTILE))).first.wait_for()
    page.locator(".wb-runs").get_by_role("option", name=re.compile(re.escape(HOSTILE))).first.wait_for()
    page.get_by_role("link", name=re.compile(re.escape(HOSTILE))).first.wait_for()
    board.get_by_text("All pairs with p values").click()
    board.get_by_role("region", name="All pairs").get_by_text(HOSTILE).first.wait_for()
    unharmed(page)
    picture(page, "compare_narrow")
    wide = board.evaluate("(e) => e.scrollWidth - e.clientWidth")
    assert wide <= 1, "nothing but the tables scrolls sideways"


def test_ten_thousand_runs_stay_quick_to_search(page: Any, served: str, guard: Any) -> None:
    page.goto(f"{served}?store=many&study=gdsc2&split=unseen+subject")
    runs = page.locator(".wb-runs")
    runs.get_by_text("20 of 3,400 runs ticked").wait_for()
    assert runs.get_by_role("option").count() < 30
    runs.get_by_role("searchbox").fill("sweep 1699 running")
    runs.get_by_text("ticked, 1 listed").wait_for()
    runs.get_by_role("button", name="None").click()
    runs.get_by_role("button", name="All 1 listed").click()
    page.get_by_role("button", name="Compare this run again").wait_for()
    assert clean(guard) == []


def test_in_a_dark_notebook_marks_reach_the_kernel_and_two_widgets_share_them(
    page: Any, lab: Any, guard: Any, picture: Callable[..., None]
) -> None:
    lab.show(
        page,
        [
            "import ipywidgets as ipw\nfrom tests.widgets import planted_comparison\n"
            "from tests.widgets.planted import HOSTILE\n"
            "from widgets import RunComparison, Selection\nselection = Selection()\nlabel = ipw.Label('nothing yet')\n"
            "found = planted_comparison.comparison(hostile=HOSTILE)\n"
            "first, second = RunComparison(found, selection), RunComparison(planted_comparison.comparison(entries=1))\n"
            "def tell(change): label.value = f'{first.metric}: ' + ' '.join(selection.predictors)\n"
            "selection.observe(tell, 'predictors')\nfirst.observe(tell, 'metric')\n"
            "ipw.VBox([label, first, second])",
        ],
        "compare",
        dark=True,
    )
    board = page.locator(".wb-compare").first
    board.locator(".forest").get_by_role("button", name=HOSTILE).click()
    page.locator(".widget-label", has_text=re.compile("^normalised Pearson: <img")).wait_for()
    board.get_by_label("Metric").select_option(label="RMSE, ln(\u00b5M)")
    page.locator(".widget-label", has_text=re.compile("^RMSE: <img")).wait_for()
    page.locator(".wb-compare").nth(1).get_by_text("One run only: nothing to compare.").wait_for()
    picture(board, "lab_run_comparison")
    unharmed(page)
    assert [e for e in guard.errors if "wb-" in e or e.startswith("page: ")] == []
