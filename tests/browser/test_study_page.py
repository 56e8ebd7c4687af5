"""The page of a study in a real browser, linked by one selection, with hostile names as text; its widgets in Lab."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import free_port
from tests.browser.test_hostile import unharmed
from tests.browser.test_panel import clean, pick
from tests.widgets import planted_exposure, planted_study
from tests.widgets.planted import HOSTILE

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.shared_home


@pytest.fixture(scope="module")
def served(serve: Callable[..., str], _module_home: Path) -> str:
    planted_study.write("everything")
    planted_study.write("only tumours", leave_out=("viability", "animals"))
    planted_study.write("odd names", hostile=True)
    return serve("served_study", {"WORKBENCH_HOME": str(_module_home)})


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_what_is_selected_in_one_tab_is_selected_in_the_others(
    page: Any, served: str, guard: Any, picture: Callable[..., None]
) -> None:
    page.goto(f"{served}?study=everything")
    page.get_by_role("heading", name="everything").wait_for()
    assert page.title() == "Study \u00b7 Translational Workbench"
    page.get_by_text("Synthetic data").first.wait_for()
    picture(page, "study_overview")
    tab(page, "Animals")
    animals = page.locator(".wb-animals")
    animals.get_by_text("Body weight: 40 animals").wait_for()
    assert animals.get_by_text("Exposure: missing").is_visible()
    animals.get_by_role("button", name=re.compile("HYPERTROPHY, LIVER, High: 10 of 10, mean severity 3")).click()
    page.get_by_text("10 subjects selected: rat 30, rat 31").wait_for()
    picture(page, "study_animals")
    tab(page, "Growth")
    growth = page.locator(".wb-growth")
    growth.get_by_role("button", name="works").click()
    page.get_by_text("6 subjects selected: works 0, works 1").wait_for()
    assert growth.get_by_text("6 models selected").is_visible()
    picture(page, "study_growth")
    page.get_by_role("button", name="Clear selection").first.click()
    page.get_by_text("Nothing is selected.").wait_for()
    growth.get_by_text("Click a curve, a bar").wait_for()
    assert clean(guard) == []


def test_the_dose_line_is_moved_by_mouse_and_keys(
    page: Any, served: str, guard: Any, picture: Callable[..., None]
) -> None:
    page.goto(f"{served}?study=everything")
    tab(page, "Dose response")
    dose = page.locator(".wb-dose")
    dose.get_by_role("option", name="Erlotinib").first.click()
    line = dose.get_by_role("slider")
    line.wait_for()
    dose.get_by_text("At 0.1 \u00b5M", exact=True).wait_for()  # the middle of the doses tested
    row = dose.locator("tbody tr", has_text="A549")
    assert re.search(r"0\.[45]\d* \(0\.", row.inner_text())
    assert "none: the curve is flat" in dose.locator("tbody tr", has_text="MCF7").inner_text()
    assert "above 10, beyond the doses tested" in dose.locator("tbody tr", has_text="HT-29").inner_text()
    line.focus()
    page.keyboard.press("End")
    dose.get_by_text("At 10 \u00b5M", exact=True).wait_for()
    assert "10 \u00b5M" in line.get_attribute("aria-valuetext")
    box = line.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 150, steps=3)
    page.mouse.up()
    assert float(line.get_attribute("aria-valuenow")) < -1
    dose.get_by_role("button", name="A549").click()
    page.get_by_text("1 subject selected: A549").wait_for()
    dose.get_by_role("button", name="One line, several drugs").click()
    dose.get_by_text("Drugs by IC50").wait_for()
    picture(page, "study_dose")
    assert clean(guard) == []


def test_the_picker_changes_the_address_and_gaps_are_said(page: Any, served: str, guard: Any) -> None:
    page.goto(f"{served}?study=everything")
    page.get_by_role("heading", name="everything").wait_for()
    pick(page, "Study", "only tumours")
    page.get_by_role("heading", name="only tumours").wait_for()
    page.wait_for_url(re.compile("study=only(%20|\\+)tumours"))
    tab(page, "Dose response")
    page.get_by_text("This study has no dose-response points").wait_for()
    tab(page, "Animals")
    page.get_by_text("This study has no arms of animals").wait_for()
    page.goto(f"{served}?study=nowhere")
    page.get_by_text("There is no study called 'nowhere'").wait_for()
    assert clean(guard) == []


def test_the_audit_fills_its_board_and_cohorts_and_provenance_are_there(
    page: Any, served: str, guard: Any, picture: Callable[..., None]
) -> None:
    page.goto(f"{served}?study=only tumours")
    page.get_by_role("heading", name="only tumours").wait_for()
    tab(page, "Audit")
    page.locator(".wb-audit").get_by_text(re.compile(r"checks run$")).wait_for()
    picture(page, "study_audit")
    tab(page, "Cohorts")
    page.get_by_text("No cohort is saved in this study yet").wait_for()
    tab(page, "Provenance")
    page.get_by_text("synthetic numbers, planted truth").wait_for()
    assert page.get_by_text("made for a test").count() == 1
    assert clean(guard) == []


def test_concentrations_are_drawn_by_arm_and_a_tissue_of_tumours_alone(
    page: Any, served: str, guard: Any, picture: Callable[..., None], _module_home: Path
) -> None:
    planted_exposure.write("exposed")
    page.goto(f"{served}?study=exposed")
    page.get_by_role("heading", name="exposed").wait_for()
    page.locator(".wb-study").get_by_role("listbox", name="Arms; Enter").wait_for()  # no tissue tells them apart
    tab(page, "Exposure")
    exposure = page.locator(".wb-exposure")
    exposure.get_by_role("button", name="arm high, 100 mg/kg").last.click()
    page.get_by_text("3 subjects selected: rat 100 0").first.wait_for()
    assert "1000 (900 to 1100)" in exposure.locator("tbody tr.on").inner_text()
    exposure.get_by_label("occasion").select_option(label="day 29 of the study")
    exposure.locator(".body:not([aria-busy])").wait_for()
    exposure.get_by_role("application").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.get_by_text("1 subject selected: rat 10 0").wait_for()
    picture(page, "study_exposure")
    tab(page, "Growth")
    growth = page.locator(".wb-growth")
    growth.get_by_role("button", name="works").wait_for()
    growth.get_by_label("Tissue").select_option(label="lung, 9")
    growth.locator("tbody tr", has_text="works").get_by_role("cell", name="3", exact=True).first.wait_for()
    assert clean(guard) == []


def test_a_thousand_findings_are_read_check_by_check(
    page: Any, launch: Callable[..., None], guard: Any, picture: Callable[..., None], tmp_path: Path
) -> None:
    app = tmp_path / "board.py"
    app.write_text(
        "import panel as pn, polars as pl\nfrom tests.widgets import planted_study\n"
        "from widgets import AuditBoard\nfrom widgets._mirror import in_panel\npn.extension()\n"
        "one = planted_study.findings()\n"
        "errors = pl.concat([one.filter(severity='error').with_columns(what=pl.lit(f'Row {i}.'), names=[f'line {i}'])\n"
        "                    for i in range(1000)])\n"
        "in_panel(AuditBoard(pl.concat([one, errors]))).servable()\n"
    )
    port = free_port()
    line = [sys.executable, "-m", "panel", "serve", str(app), "--address", "127.0.0.1", "--port", str(port)]
    launch(line, f"http://127.0.0.1:{port}/board", env={"PYTHONPATH": str(ROOT)}, cwd=ROOT)
    page.goto(f"http://127.0.0.1:{port}/board")
    board = page.locator(".wb-audit")
    board.get_by_text("All 1,003 findings, under 3 headings").wait_for()
    assert board.locator(".finding").count() == 2  # those that are alone of their check
    fold = board.get_by_role("button", name="Error: outliers, 1,001 findings")
    assert fold.get_attribute("aria-expanded") == "false"
    fold.focus()
    page.keyboard.press("Enter")
    board.get_by_text("Show more: 941 are left").wait_for()
    assert fold.evaluate("(e) => e.getRootNode().activeElement === e") and board.locator(".finding").count() == 62
    board.get_by_role("button", name="Select 1,000 names").click()
    board.get_by_role("button", name="Selected: 1,000 names").wait_for()
    picture(page, "audit_thousand")
    board.get_by_role("button", name="Close all").click()
    board.get_by_text("Such as: ").wait_for()
    assert clean(guard) == []


def test_names_are_shown_as_typed_in_every_tab(page: Any, served: str) -> None:
    page.set_viewport_size({"width": 900, "height": 900})
    page.goto(f"{served}?study=odd names")
    page.get_by_role("heading", name="odd names").wait_for()
    page.locator(".wb-study").get_by_text(HOSTILE).first.wait_for()
    unharmed(page)
    for name, widget in (("Dose response", ".wb-dose"), ("Growth", ".wb-growth"), ("Animals", ".wb-animals")):
        tab(page, name)
        page.locator(widget).get_by_text(HOSTILE).first.wait_for()
        unharmed(page)
    tab(page, "Provenance")
    page.get_by_text(HOSTILE).first.wait_for()
    unharmed(page)


def test_a_phone_shows_who_is_who_and_cuts_no_button_off(page: Any, served: str) -> None:
    page.set_viewport_size({"width": 400, "height": 1400})
    page.goto(f"{served}?study=everything")
    board = page.locator(".wb-study")
    name = board.locator(".row .c-name").first
    name.wait_for()
    assert name.evaluate("(e) => e.getBoundingClientRect().width") > 80
    inside = "(e) => e.getBoundingClientRect().right <= e.closest('.wb-study').getBoundingClientRect().right"
    assert all(b.evaluate(inside) for b in board.locator(".ask button").all())
    picker = page.get_by_label("Study", exact=True).first.bounding_box()
    assert picker["width"] > 180, "the button beside it goes below"


def test_the_same_object_is_shown_in_a_notebook(
    page: Any, lab: Any, picture: Callable[..., None], _module_home: Path
) -> None:
    planted_study.write("everything here")
    lab.show(
        page,
        [
            "import panel as pn\npn.extension(inline=True)",
            f"import os; os.environ['WORKBENCH_HOME'] = {str(_module_home)!r}\n"
            "from widgets.dashboards.study import StudyPage\nStudyPage('everything here')",
        ],
        "study_page",
    )
    page.get_by_role("heading", name="everything here").wait_for()
    tab(page, "Growth")
    page.locator(".wb-growth").get_by_role("button", name="works").click()
    page.get_by_text("6 subjects selected").wait_for()
    picture(page, "lab_study_page")


def test_the_four_widgets_in_a_notebook_share_a_selection(
    page: Any, lab: Any, guard: Any, picture: Callable[..., None]
) -> None:
    lab.show(
        page,
        [
            "import ipywidgets as ipw\nfrom tests.widgets import planted, planted_study\n"
            "from widgets import AnimalStudy, AuditBoard, DoseResponse, GrowthCurves, Selection\n"
            "selection = Selection()\nlabel = ipw.Label('nothing yet')\n"
            "def tell(change): label.value = f'{selection.by}: ' + ' '.join(change['new'])\n"
            "selection.observe(tell, 'subjects')\n"
            "lines = [planted.HOSTILE, *planted_study.LINES[1:]]\n"
            "findings = planted_study.findings((planted.HOSTILE, 'PC-9'), planted.HOSTILE)\n"
            "ipw.VBox([label, AuditBoard(findings, selection=selection),\n"
            "  DoseResponse(planted_study.points(lines), selection=selection)])",
            "ipw.VBox([GrowthCurves(planted_study.volumes(), control='vehicle', selection=selection),\n"
            "  AnimalStudy(planted_study.animals(hostile=True), selection=selection)])",
        ],
        "four_widgets",
        dark=True,
    )
    audit, dose = page.locator(".wb-audit"), page.locator(".wb-dose")
    audit.get_by_role("button", name="Select 2 names").click()
    page.locator(".widget-label", has_text="AuditBoard: ").get_by_text(HOSTILE).wait_for()
    dose.get_by_role("button", name="Show the 2 selected").click()
    dose.locator("tbody tr.on").nth(1).wait_for()
    dose.locator("tbody tr").nth(2).wait_for(state="detached")
    audit.get_by_role("button", name="1 error").click()
    audit.get_by_text("1 of 3 findings").wait_for()
    picture(audit, "lab_audit_board")
    picture(dose, "lab_dose_response")
    growth, animals = page.locator(".wb-growth"), page.locator(".wb-animals")
    growth.get_by_role("button", name="Linear").click()
    growth.get_by_role("button", name="works").click()
    page.locator(".widget-label", has_text=re.compile("^GrowthCurves: works 0 works 1")).wait_for()
    picture(growth, "lab_growth_curves")
    growth.get_by_role("application", name=re.compile("^Best responses")).focus()
    page.keyboard.press("End")  # the best response of all
    growth.get_by_text(re.compile("^works 5, works, best change")).wait_for()
    page.keyboard.press("Enter")
    page.locator(".widget-label", has_text=re.compile("^GrowthCurves: works 5$")).wait_for()
    animals.get_by_label("Measure").select_option("ALT serum")
    animals.get_by_text(re.compile("higher, p < 0.001")).first.wait_for()
    animals.get_by_role("button", name=re.compile("High|img.*: 10 of 10")).first.click()
    page.locator(".widget-label", has_text=re.compile("^AnimalStudy: rat 30")).wait_for()
    picture(animals, "lab_animal_study")
    unharmed(page)
    assert [e for e in guard.errors if "wb-" in e or e.startswith("page: ")] == []
