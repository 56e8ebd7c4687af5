"""The planner in a real browser: values move every prediction, names stay text, an empty widget says what to do."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.widgets import planted_plan
from widgets import PilotPlanner

pytestmark = pytest.mark.browser
TRAITS = ("theme", "title", "note", "values", "without", "interest", "by_cost", "k")
PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:8px"><div id="place"></div><script type="module">
const told = JSON.parse(document.getElementById("told").textContent);
const made = await import(URL.createObjectURL(new Blob([told.esm], { type: "text/javascript" })));
const state = told.state, heard = {};
state.frame_bytes = Uint8Array.from(atob(told.frame), (c) => c.charCodeAt(0));
window.model = { get: (n) => state[n], set(n, v) { state[n] = v; (heard[`change:${n}`] || []).forEach((f) => f()); },
  save_changes() {}, on(n, f) { (heard[n] = heard[n] || []).push(f); }, off() {} };
window.close_widget = made.default.render({ model: window.model, el: document.getElementById("place") });
</script><script type="application/json" id="told">"""


def shown(page: Any, widget: PilotPlanner, tmp_path: Path, frame: bytes | None = None) -> None:
    told = {
        "esm": str(widget._esm),
        "state": {name: getattr(widget, name) for name in TRAITS},
        "frame": base64.b64encode(widget.frame_bytes if frame is None else frame).decode(),
    }
    file = tmp_path / "page.html"
    file.write_text(PAGE + json.dumps(told).replace("</", "<\\/") + "</script>", encoding="utf-8")
    page.goto(file.as_uri())
    page.locator(".wb-pilots").wait_for()


def test_entering_a_value_moves_the_predictions_and_the_panel(
    page: Any, guard: Any, tmp_path: Path, picture: Any
) -> None:
    widget = PilotPlanner(planted_plan.plan(), "line 0", k=5, note="Synthetic numbers: they say nothing of biology.")
    shown(page, widget, tmp_path)
    first = page.locator(".panel tbody tr").first
    name = first.locator("th").inner_text()
    assert name == widget.recommended["treatment"][1]
    first.get_by_role("button", name="Enter").click()
    page.get_by_label("Measured value").fill("-3")
    page.get_by_role("button", name="Add", exact=True).click()
    assert page.evaluate("window.model.get('values')") == {name: -3}
    widget.values = {name: -3}
    row = page.locator(".all tbody tr").first.locator("th, td").all_inner_texts()
    mine = widget.predictions.filter(treatment=row[0]).row(0, named=True)
    assert float(row[2].replace("\u2212", "-")) == pytest.approx(mine["predicted"], abs=0.006)
    assert name not in page.locator(".panel").first.inner_text()
    picture(page, "pilot_planner")
    page.get_by_role("button", name="Remove").click()
    assert page.evaluate("window.model.get('values')") == {}
    assert not guard.errors


def test_a_drug_that_is_not_here_and_a_wrong_one_are_said(page: Any, guard: Any, tmp_path: Path) -> None:
    shown(page, PilotPlanner(planted_plan.plan(), "line 0", k=5), tmp_path)
    page.get_by_label("Measured drug").fill("drug 99")
    page.get_by_label("Measured value").fill("1")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("drug 99 is not a drug of this plan").wait_for()
    gone = page.locator(".panel tbody th").first.inner_text()
    page.locator(".panel tbody tr").first.get_by_role("button", name="cannot be measured here").click()
    assert page.evaluate("window.model.get('without')") == [gone]
    assert gone not in page.locator(".panel tbody").first.inner_text()
    page.get_by_role("button", name="Offer all again").click()
    assert page.evaluate("window.model.get('without')") == []
    assert not guard.errors


def test_a_hostile_name_is_text_and_no_plan_says_so(page: Any, guard: Any, tmp_path: Path) -> None:
    plan = planted_plan.plan()
    widget = PilotPlanner(
        plan, "line 0", measured={planted_plan.HOSTILE: 1.0}, classes={"drug 01": planted_plan.HOSTILE}
    )
    shown(page, widget, tmp_path)
    page.get_by_text(planted_plan.HOSTILE).first.wait_for(state="attached")
    page.wait_for_timeout(200)
    assert page.evaluate("window.__pwned") is None
    shown(page, widget, tmp_path, frame=b"")
    page.get_by_text("No plan: give the widget a fitted plan").wait_for()
    assert not guard.errors
