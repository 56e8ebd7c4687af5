"""The exported report, opened from disk in a real browser: no server, no network, and it answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.dashboards import planted
from widgets import report
from widgets._response.markup import number
from widgets._response.summary import per_treatment


@pytest.fixture(scope="module")
def run() -> planted.Run:
    return planted.run(subjects=120, drugs=12, name="reported")


@pytest.fixture(scope="module")
def written(run: planted.Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report.export(run, tmp_path_factory.mktemp("report") / "a report.html").as_uri()


def ready(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("html[data-ready]", state="attached")


def test_it_opens_from_disk_and_asks_for_nothing_else(
    page: Any, written: str, run: planted.Run, guard: Any, picture: Any
) -> None:
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    ready(page, written)
    assert {u.split(":")[0] for u in asked} <= {"file", "data", "blob"} and sum(
        u.startswith("file:") for u in asked
    ) == 1
    top = page.locator(".masthead").inner_text()
    for said in (run.study_digest, run.run_id, "Every scored cell line was left out of training", "0123456789abcdef"):
        assert said in top
    assert page.locator("table.scores tbody tr").count() == 9
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 2000
    picture(page, "report_top")
    assert guard.errors == []


def test_picking_a_drug_fills_its_page_and_moves_the_explorer(
    page: Any, written: str, run: planted.Run, picture: Any
) -> None:
    ready(page, written)
    page.locator("#pick-drug").select_option("Planted")
    panel = page.locator("#drug")
    panel.get_by_role("heading", name="Planted").wait_for()
    scores = per_treatment(run.predictions)
    for predictor in ("ridge", "drug_mean"):
        want = scores.row(
            by_predicate=(pl.col("treatment") == "Planted") & (pl.col("predictor") == predictor), named=True
        )
        row = (
            panel.locator("table.compact").first.locator("tbody tr", has_text=re.compile(f"^{predictor}")).inner_text()
        )
        for column in ("pearson", "spearman", "rmse"):
            assert number(want[column]) in row, (predictor, column)
    assert panel.locator("table.genes tbody th").first.inner_text() == "GENE0"
    lines = panel.locator("table", has_text="By tissue").locator("tbody td:nth-child(2)").all_inner_texts()
    assert sum(map(int, lines)) == 120
    assert page.locator("#explorer [role=option][aria-selected=true]").inner_text().startswith("Planted")
    picture(page.locator("#predictions"), "report_drug")


def test_picking_in_the_explorer_fills_the_page_of_the_drug(page: Any, written: str) -> None:
    ready(page, written)
    page.locator("#explorer").get_by_role("option", name="Drug 003").click()
    page.locator("#drug").get_by_role("heading", name="Drug 003").wait_for()
    assert page.locator("#pick-drug").input_value() == "Drug 003"


def test_a_brush_answers_and_the_predictor_can_change(page: Any, written: str, guard: Any) -> None:
    ready(page, written)
    explorer = page.locator("#explorer")
    plot = explorer.locator("canvas").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    before = explorer.inner_text()
    page.mouse.move(box["x"] + 70, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7, steps=4)
    page.mouse.up()
    page.wait_for_function("before => document.querySelector('#explorer').innerText !== before", arg=before)
    page.locator("#pick-predictor").select_option("mean_effects")
    page.get_by_text("No attributions were recorded for mean_effects").wait_for()
    assert guard.errors == []


def test_without_scripts_all_tables_can_be_read(chromium: Any, written: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(written)
        assert page.locator("table.scores tbody tr").count() == 9
        assert page.locator("svg").count() >= 4
    finally:
        context.close()


def test_rounded_rows_keep_the_scores(page: Any, written: str, run: planted.Run) -> None:
    """The explorer computes its own RMSE from the rows in the file: it is the table's to three digits."""
    ready(page, written)
    page.locator("#explorer").get_by_role("option", name=re.compile("All")).click()
    page.locator("#pick-predictor").select_option("ridge")
    rows = run.predictions.filter(pl.col("predictor") == "ridge")
    rmse = float(((rows["predicted"] - rows["observed"]) ** 2).mean()) ** 0.5
    page.locator("#explorer").get_by_text(f"{rmse:.3f}", exact=True).first.wait_for()


def test_the_file_of_a_big_run_stays_small(tmp_path: Path) -> None:
    run = planted.run(subjects=300, drugs=100, folds=5)
    size = report.export(run, tmp_path / "big.html").stat().st_size
    rows = run.predictions["row"].n_unique()
    assert size / rows < 60, f"{size / rows:.0f} bytes a pair: 220,000 pairs would not fit in 15 MB with room to spare"
