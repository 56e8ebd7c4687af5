"""Each widget in a real JupyterLab: it shows, a click reaches the kernel, keys work, names stay text, nobody is asked.

Beside each widget stands a label that the kernel writes from the widget's traits: what it says came back from Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.widgets.planted import HOSTILE

SETUP = """
import ipywidgets as ipw, polars as pl
from tests.widgets import planted
from widgets import PredictionExplorer, StudyBrowser, TrainingPanel
label = ipw.Label("nothing yet")
def follow(widget, names, tell):
    def write(change): label.value = str(tell())
    widget.observe(write, names)
    return ipw.VBox([label, widget])
"""


def says(page: Any, text: str) -> None:
    """Waits until the kernel's label says exactly this."""
    page.locator(".widget-label", has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def errors(guard: Any) -> list[str]:
    """Errors on the page that are ours; Lab itself logs a few when it looks for optional files of its own."""
    return [e for e in guard.errors if "wb-" in e or e.startswith("page: ")]


def test_the_study_browser_filters_in_the_kernel_and_follows_it(
    lab: Any, page: Any, guard: Any, picture: Callable[..., None]
) -> None:
    lab.show(
        page,
        [
            SETUP + "browser = StudyBrowser(planted.presence(), title='Planted')\n"
            "follow(browser, 'selected', lambda: ' '.join(x[5:] for x in browser.selected))",
            "back = ipw.Button(description='from Python')\n"
            "back.on_click(lambda _: setattr(browser, 'filters', {'modalities': {'mutation': 'lacks'}}))\nback",
        ],
        "study_browser",
    )
    widget = page.locator(".wb-study")
    widget.get_by_role("listbox", name=re.compile("^Tissues")).get_by_role("option", name="lung").click()
    says(page, "0 3 6 9")
    widget.get_by_role("button", name=re.compile("^expression: any")).click()  # the column header
    says(page, "0 3 6 9")
    widget.get_by_role("button", name=re.compile("^expression: has")).click()
    says(page, "")
    assert widget.get_by_text("No subject passes these filters").is_visible()
    widget.get_by_role("group", name="Modality expression").get_by_role("button", name="any").click()
    widget.get_by_role("searchbox").fill("line 6")
    says(page, "6")
    widget.get_by_role("button", name="Clear filters").click()
    says(page, "0 1 2 3 4 5 6 7 8 9 10 11")
    page.get_by_role("button", name="from Python").click()
    says(page, "0 1")
    assert widget.get_by_text("2 of 12 subjects selected (16.7 %)").is_visible()
    picture(widget, "lab_study_browser")
    assert errors(guard) == []


def test_the_study_browser_by_keyboard(lab: Any, page: Any, guard: Any) -> None:
    lab.show(
        page,
        [
            SETUP + "browser = StudyBrowser(planted.presence())\n"
            "follow(browser, ['selected', 'subject'], lambda: f'{len(browser.selected)} {browser.subject}'.strip())"
        ],
        "study_keys",
    )
    tissues = page.get_by_role("listbox", name=re.compile("^Tissues"))
    tissues.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    says(page, "4")
    page.keyboard.press(" ")
    says(page, "12")
    page.get_by_role("searchbox").focus()
    page.keyboard.type("line 1")
    says(page, "3")
    page.keyboard.press("ArrowDown")  # from the search box into the table
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    says(page, "3 line 11")
    assert page.locator(".jp-Notebook .jp-Cell").count() == 1, "a key reached Lab's own shortcuts"
    assert errors(guard) == []


def test_the_prediction_explorer_brushes_into_the_kernel(
    lab: Any, page: Any, guard: Any, picture: Callable[..., None]
) -> None:
    lab.show(
        page,
        [
            SETUP + "explorer = PredictionExplorer(planted.predictions(), title='Planted')\n"
            "follow(explorer, ['treatment', 'predictor', 'view', 'brush'], lambda: f'{explorer.predictor} '\n"
            "    f'{explorer.treatment or \"all\"} {explorer.view} {len(explorer.brushed)} of {len(explorer.shown)}')",
            "back = ipw.Button(description='from Python')\n"
            "back.on_click(lambda _: setattr(explorer, 'treatment', ''))\nback",
        ],
        "explorer",
    )
    widget = page.locator(".wb-explorer")
    widget.get_by_role("listbox", name=re.compile("^Treatments")).get_by_role("option", name="Gefitinib").click()
    says(page, "ridge Gefitinib observed 0 of 30")
    plot = widget.locator("canvas.over")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 14)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 16, box["y"] + box["height"] - 50, steps=4)
    page.mouse.up()
    says(page, "ridge Gefitinib observed 30 of 30")
    assert widget.get_by_text("30 of 30 pairs, 30 lines").is_visible()
    picture(widget, "lab_prediction_explorer")
    widget.get_by_role("button", name="Residuals").click()
    says(page, "ridge Gefitinib residuals 0 of 30")
    widget.get_by_label("Predictor").select_option("drug_mean")
    says(page, "drug_mean Gefitinib residuals 0 of 30")
    page.get_by_role("button", name="from Python").click()
    says(page, "drug_mean all residuals 0 of 90")
    assert widget.get_by_text("All 90 pairs shown").is_visible()
    assert errors(guard) == []


def test_the_prediction_explorer_by_keyboard_and_in_the_dark(
    lab: Any, page: Any, guard: Any, picture: Callable[..., None]
) -> None:
    lab.show(
        page,
        [
            SETUP + "explorer = PredictionExplorer(planted.predictions())\n"
            "follow(explorer, ['treatment', 'brush'], lambda: f'{explorer.treatment} {len(explorer.brush)} '\n"
            "       f'{len(explorer.brushed) == len(explorer.shown)}')"
        ],
        "explorer_keys",
        dark=True,
    )
    page.get_by_role("searchbox").focus()
    page.keyboard.type("pacli")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    says(page, "Paclitaxel 0 False")
    page.locator(".wb-explorer canvas.over").focus()
    page.keyboard.press("Enter")
    says(page, "Paclitaxel 4 False")
    for _ in range(16):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowDown")
    for _ in range(32):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowUp")
    says(page, "Paclitaxel 4 True")
    assert page.locator(".wb-explorer").get_attribute("data-dark") == "true"
    picture(page.locator(".wb-explorer"), "lab_prediction_explorer_dark")
    page.keyboard.press("Escape")
    says(page, "Paclitaxel 0 False")
    assert errors(guard) == []


TRAIN = """
import time
def start(choice, report, stopped):
    if choice["split"] == "unseen pair":
        raise ValueError("split 'unseen pair': no pair is left <b>for training</b>")
    for i in range(2000):
        if stopped() or (choice["predictor"] == "ridge" and i == 20):
            break
        report({"fraction": i / 2000, "message": f"epoch {i}", "points": [("training loss", i, 1 / (i + 1))]})
        time.sleep(0.02)
    row = {"metric": "RMSE", "value": 1.188, "low": 1.17, "high": 1.2, "naive": 1.463, "naive_predictor": "drug_mean"}
    return {"url": "http://127.0.0.1:9/#/runs/1", "run": "<i>quick</i> otter", "metrics": [row]}
panel = TrainingPanel({"predictors": ["trees", "ridge"], "splits": ["unseen subject", "unseen pair"],
                       "modalities": ["expression", "mutation"]}, start, title="Train")
follow(panel, "state", lambda: f"{panel.state} {panel.choice['predictor']} {panel.choice['modalities']}")
"""


def test_the_training_panel_starts_reports_stops_fails_and_ends(
    lab: Any, page: Any, guard: Any, picture: Callable[..., None]
) -> None:
    lab.show(page, [SETUP + TRAIN], "training")
    panel = page.locator(".wb-training")
    panel.get_by_label("mutation").uncheck()
    panel.get_by_role("button", name="Start").focus()
    page.keyboard.press("Enter")
    says(page, "running trees ['expression']")
    # no cell is running now: what follows comes from the thread alone
    panel.get_by_text(re.compile("so far, about")).wait_for()
    panel.get_by_text(re.compile(r"^epoch \d{2,}$")).wait_for()
    assert panel.locator("figure canvas").get_attribute("aria-label").startswith("training loss: ")
    assert panel.get_by_role("button", name="Start").is_disabled()
    picture(panel, "lab_training_running")
    panel.get_by_role("button", name="Stop").click()
    says(page, "stopped trees ['expression']")

    panel.get_by_label("Predictor").select_option("ridge")
    panel.get_by_label("Split").select_option("unseen pair")
    panel.get_by_role("button", name="Start").click()
    says(page, "failed ridge ['expression']")
    alert = panel.get_by_role("alert").get_by_text("ValueError: split 'unseen pair'")
    assert alert.text_content() == "ValueError: split 'unseen pair': no pair is left <b>for training</b>"

    panel.get_by_label("Split").select_option("unseen subject")
    panel.get_by_role("button", name="Start").click()
    says(page, "done ridge ['expression']")
    link = panel.get_by_role("link", name="Open <i>quick</i> otter in MLflow")
    assert link.get_attribute("href") == "http://127.0.0.1:9/#/runs/1"
    assert link.get_attribute("rel") == "noopener noreferrer"
    row = panel.locator("tbody tr")
    assert row.all_text_contents() == ["RMSE1.1881.170 to 1.2001.463drug_mean"]
    assert panel.get_by_role("progressbar").get_attribute("aria-valuenow") == "100"
    picture(panel, "lab_training_done")
    assert errors(guard) == []


def test_hostile_names_appear_as_typed_and_run_nothing(lab: Any, page: Any, guard: Any) -> None:
    lab.show(
        page,
        [
            SETUP + "bad = planted.HOSTILE\n"
            "frame = planted.predictions(drugs=(bad, 'Gefitinib'))\n"
            "frame = frame.with_columns(predictor=pl.lit(bad) + pl.col('predictor'), tissue=pl.lit(bad),\n"
            "    subject=pl.lit(bad) + pl.col('subject'), endpoint=pl.lit(bad), unit=pl.lit(bad), split=pl.lit(bad))\n"
            "PredictionExplorer(frame, title=bad)",
            "study = planted.presence().with_columns(subject=pl.lit(bad) + pl.col('subject'), tissue=pl.lit(bad))\n"
            "StudyBrowser(study.rename({'mutation': bad}), title=bad)",
            "def start(choice, report, stopped):\n"
            "    report({'message': bad, 'fraction': 0.5, 'points': [(bad, 0, 1.0), (bad, 1, 2.0)]})\n"
            "    return {'url': 'javascript:window.__pwned=1', 'run': bad, 'metrics': [{'metric': bad, 'value': 1.0,\n"
            "        'naive': 2.0, 'naive_predictor': bad, 'unit': bad}]}\n"
            "names = {name: [bad] for name in ('predictors', 'splits', 'modalities', 'studies')}\n"
            "panel = TrainingPanel(names, start, title=bad)\npanel.start()\npanel.wait()\npanel",
        ],
        "hostile",
    )
    explorer, study, panel = (page.locator(f".wb-{name}") for name in ("explorer", "study", "training"))
    panel.get_by_text("Done").wait_for()
    for widget in (explorer, study, panel):
        widget.get_by_role("heading", name=HOSTILE).wait_for()
        assert widget.locator("img[src], img[onerror]").count() == 0
    explorer.get_by_role("listbox", name=re.compile("^Treatments")).get_by_text(HOSTILE).click()
    explorer.locator("canvas.over").hover()
    study.get_by_role("option", name=HOSTILE).first.click()
    assert study.get_by_text(HOSTILE, exact=True).count() >= 2
    assert panel.get_by_role("link").count() == 0, "only web addresses may be links"
    assert panel.get_by_text(f"Run: {HOSTILE}").is_visible()
    assert page.evaluate("window.__pwned") is None
    assert errors(guard) == []


def test_empty_tables_explain_themselves(lab: Any, page: Any, guard: Any) -> None:
    lab.show(
        page,
        [
            SETUP + "PredictionExplorer(planted.predictions().clear())",
            "StudyBrowser(planted.presence().clear())",
            "TrainingPanel({}, dict)",
        ],
        "empty",
    )
    page.get_by_text("No scored predictions to show.").wait_for()
    page.get_by_text("This study has no subjects yet.").wait_for()
    page.get_by_text("No predictor to train.").wait_for()
    assert errors(guard) == []
