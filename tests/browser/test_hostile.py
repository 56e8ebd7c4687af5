"""Script in the name of a study, run, drug, subject, tissue, feature, predictor, metric, curve, unit or parameter.

Each is shown as it was typed, on the page and in the report, and none runs. The ``page`` fixture fails a test in which
``window.__pwned`` appears or a dialog opens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards import planted
from widgets import report

IMG, SCRIPT = planted.HOSTILE, planted.HOSTILE_SCRIPT


@pytest.fixture(scope="module")
def served(serve: Callable[..., str]) -> str:
    return serve("served") + "?store=hostile"


def unharmed(page: Any) -> None:
    """No element was made of a name: there is no such image and no such script, in no shadow tree either."""
    page.wait_for_timeout(300)
    assert page.evaluate("window.__pwned") is None
    made = page.evaluate(
        """() => {
            const found = [];
            const walk = (root) => {
                for (const e of root.querySelectorAll('*')) {
                    if (e.tagName === 'IMG' && e.getAttribute('src') === 'x') found.push(e.outerHTML);
                    if (e.tagName === 'SCRIPT' && e.textContent.trim() === 'window.__pwned=1') found.push(e.outerHTML);
                    if (e.shadowRoot) walk(e.shadowRoot);
                }
            };
            walk(document);
            return found;
        }"""
    )
    assert made == []


def sees(place: Any, *names: str) -> None:
    for name in names:
        place.get_by_text(name).first.wait_for(state="attached")


def test_the_trap_works(page: Any, tmp_path: Path) -> None:
    """The control: the same names put in unescaped do run, so a clean page means something."""
    trap = tmp_path / "trap.html"
    trap.write_text(f"<p>{IMG}</p><p>{SCRIPT}</p>")
    page.goto(trap.as_uri())
    page.wait_for_function("window.__pwned === 1")
    with pytest.raises(AssertionError):
        unharmed(page)
    page.goto("about:blank")


def test_every_part_of_the_page_shows_names_as_typed(page: Any, served: str) -> None:
    page.goto(served)
    page.locator("h1").get_by_text(IMG, exact=True).wait_for()
    sees(page, f"{SCRIPT} · digest", f"{IMG}trees1", f"{SCRIPT}MAE0", f"{IMG}ln(µM)1")
    unharmed(page)
    page.get_by_role("tab", name="Explore predictions").click()
    explorer = page.locator(".wb")
    explorer.get_by_role("option", name=f"{IMG}drug1").first.click()
    sees(explorer, f"{IMG}drug1", f"{SCRIPT}drug0", "line")
    unharmed(page)
    page.get_by_role("tab", name="Learning curves").click()
    sees(page, f"{IMG}loss1")
    unharmed(page)
    page.get_by_role("tab", name="Provenance").click()
    sees(page, f"{IMG}folds1", SCRIPT)
    unharmed(page)


def test_pickers_axes_and_hover_of_the_drug_show_names_as_typed(page: Any, served: str) -> None:
    page.goto(served)
    page.get_by_role("combobox", name="Run").click()
    page.get_by_role("option", name=IMG).first.wait_for()
    unharmed(page)
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="One drug").click()
    page.get_by_role("combobox", name="Drug").click()
    item = page.get_by_role("option", name=f"{IMG}drug1", exact=True)
    item.wait_for()
    unharmed(page)
    item.click()
    page.get_by_role("heading", name=f"{IMG}drug1", exact=True).wait_for()
    sees(page, f"{IMG}GENE1", f"{SCRIPT}GENE2", f"{IMG}tissue")
    page.get_by_role("combobox", name="Colour one tissue").click()
    sees(page, f"{IMG}tissue1")
    unharmed(page)
    page.keyboard.press("Escape")
    _hover(page)
    unharmed(page)


def _hover(page: Any) -> None:
    """Points about the figure until its tooltip is open; it shows a line and a tissue as typed."""
    box = page.locator(".bk-Figure").bounding_box()
    tip = page.locator(".bk-Tooltip").filter(has_text="tissue")
    for i in range(8, 60):
        for j in (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7):
            page.mouse.move(box["x"] + 50 + (box["width"] - 120) * i / 60, box["y"] + box["height"] * j)
            if tip.count() and tip.first.is_visible():
                for word in ("line", "tissue"):
                    tip.first.get_by_text(re.compile(rf"pwned=1(</script>|>){word}\d")).first.wait_for()
                return
    raise AssertionError("no dot answered the pointer")


@pytest.mark.parametrize("policy", [True, False], ids=["as written", "without its policy"])
def test_the_report_shows_names_as_typed(page: Any, tmp_path: Path, policy: bool) -> None:
    """Also with the file's own script policy cut out: escaping alone must do."""
    out = report.export(planted.run(hostile=True), tmp_path / "hostile.html")
    if not policy:
        text = out.read_text(encoding="utf-8")
        cut = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        assert len(cut) < len(text)
        out.write_text(cut, encoding="utf-8")
    page.goto(out.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.locator("h1").inner_text() == IMG and page.title().startswith(IMG)
    sees(page, SCRIPT, f"{IMG}trees1", f"{SCRIPT}MAE0", f"{IMG}ln(uM)1", f"{IMG}loss1", f"{IMG}folds1")
    for drug in (f"{IMG}drug1", f"{SCRIPT}drug2"):
        page.locator("#pick-drug").select_option(drug)
        page.locator("#drug").get_by_role("heading", name=drug, exact=True).wait_for()
        sees(page.locator("#drug"), f"{IMG}GENE1", f"{IMG}tissue1")
    page.locator("#pick-predictor").select_option(f"{IMG}trees1")
    page.get_by_text(f"No attributions were recorded for {IMG}trees1").wait_for()
    unharmed(page)
