"""The page of federations in a real browser: keys, figures equal to the table, rounds that come, names as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_hostile import unharmed
from tests.browser.test_panel import clean, pick
from tests.widgets import planted_federation
from tests.widgets.planted import HOSTILE

SCORES = planted_federation.value().sites


@pytest.fixture(scope="module")
def served(serve: Callable[..., str]) -> str:
    return serve("served_federation")


def figures(board: Any, site: str) -> list[str]:
    """The numbers of a site's row: its scores, then its differences."""
    row = board.locator("article.site").filter(has=board.page.locator(".who", has_text=re.compile(f"^{site}")))
    return [text.split()[0] for text in row.locator(".figs .num").all_inner_texts() if text.strip()]


def in_line(board: Any, site: str) -> bool:
    """Does each figure of the differences stand at the height of its own arm's dot, and of that arm's score?"""
    row = board.locator("article.site").filter(has=board.page.locator(".who", has_text=re.compile(f"^{site}")))
    figs, dots = row.locator(".figs").nth(1).locator(".num:not(.none)"), row.locator(".lane").nth(1).locator(".dot")
    arms = [text.split()[-1] for text in row.locator(".figs").first.locator(".num").all_inner_texts()]
    middle = "(e) => { const r = e.getBoundingClientRect(); return r.top + r.height / 2; }"
    gaps = [abs(figs.nth(i).evaluate(middle) - dots.nth(i).evaluate(middle)) for i in range(dots.count())]
    return arms == ["alone", "federated", "pooled"] and len(gaps) == 2 and max(gaps) < 4


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")


def test_figures_on_the_screen_are_those_of_the_table_for_the_metric_that_a_key_chose(
    page: Any, served: str, guard: Any, picture: Callable[..., None]
) -> None:
    page.goto(f"{served}?run=alike+sites")
    board = page.locator(".wb-fed")
    board.get_by_text("Join: north, south and hills. Do not join: island. Cannot tell: coast.").wait_for()
    picture(page, "federation_page")
    metric = board.get_by_label("Metric")
    metric.focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")  # per-drug Pearson, then RMSE
    board.get_by_text("Minus alone, ln(\u00b5M), left of 0 is better").wait_for()
    for site in ("north", "island"):
        rows = SCORES.filter(site=site, metric="RMSE")
        wanted = [f"{v:.3f}" for v in rows["value"]]
        assert figures(board, site) == [*wanted, *(signed(v) for v in rows["difference"].drop_nulls())]
        assert in_line(board, site), "a difference stands beside its own arm's dot"
    island = board.get_by_role("article", name=re.compile("^island: do not join"))
    assert island.get_by_text("Negative transfer: RMSE").is_visible()
    assert island.get_by_text("\u2715 do not join").is_visible() and island.get_by_text("\u25bc worse").count() == 2
    assert clean(guard) == []


def test_what_was_not_measured_is_said(page: Any, served: str) -> None:
    page.goto(f"{served}?run=alike+sites")
    given = page.locator(".wb-fed").get_by_role("region", name="What each site gives")
    row = given.locator("tbody tr", has_text="coast")
    row.wait_for()
    cells = [text.strip() for text in row.locator("td").all_inner_texts()]
    assert cells == ["cannot tell", "25,000", "20 %", *["not measured"] * 4]
    north = given.locator("tbody tr", has_text="north").locator("td").all_inner_texts()
    assert [t.strip() for t in north[3:6]] == ["2.5 of 4 at \u03b4 10\u207b\u2075", "1.25 MB", "42"]
    page.goto(f"{served}?run=older+run")
    page.get_by_text("Not measured: nobody attacked this federation.").wait_for()


def test_attacks_stand_beside_chance_and_faults_are_told_by_name_and_round(page: Any, served: str) -> None:
    page.goto(f"{served}?run=alike+sites")
    attacks = page.locator(".wb-fed").get_by_role("region", name="Attacks")
    attacks.wait_for()
    rows = [[" ".join(c.split()) for c in r.locator("td").all_inner_texts()] for r in attacks.locator("tbody tr").all()]
    assert [[r[0], *r[2:]] for r in rows] == [
        ["the whole federation", "AUC 0.64 (0.60 to 0.68)", "0.50", "! works"],
        ["island", "AUC 0.71 (0.66 to 0.75)", "0.50", "! works"],
        ["north", "AUC 0.50 (0.47 to 0.53)", "0.50", "not shown to work"],
    ]
    left = "(e) => parseFloat(e.style.left)"
    strip = attacks.locator(".strip").nth(1)
    assert strip.locator(".chance").evaluate(left) == 50 and strip.locator(".dot").evaluate(left) == 71
    faults = page.locator(".wb-fed").get_by_role("region", name="Flagged, set aside or without an answer")
    told = [
        [" ".join(c.split()) for c in r.locator("th, td").all_inner_texts()] for r in faults.locator("tbody tr").all()
    ]
    assert told == [
        ["hills", "flagged, and let pass", "round 2 of 13", "3.1 times longer than the median update"],
        ["south", "took no part", "round 4 of 13", "did not answer in time"],
        [
            "hills",
            "set aside by the rule",
            "training rounds 4 and 5",
            "61% of what tells sites apart; 1 more worded alike",
        ],
        ["island", "took no part", "rounds 10 to 13 of 13", "sent NaN"],
    ]
    how = page.locator(".wb-fed dl.how")
    assert how.get_by_text("differential privacy of each person: epsilon 4 at delta 10\u207b\u2075 agreed").is_visible()
    assert how.get_by_text("alone, federated, pooled").is_visible()


def test_rounds_come_while_it_trains_and_lost_sites_are_named(page: Any, served: str, guard: Any, picture: Any) -> None:
    page.goto(f"{served}?run=unlike+sites")
    board = page.locator(".wb-fed")
    board.get_by_text("Still training: this page follows it.").wait_for()
    board.get_by_text("After round 3, 4 of 5 sites.").wait_for()
    assert board.get_by_text("Without south (did not answer in time).").is_visible()
    gone = board.get_by_role("region", name="Sites by round").get_by_role("rowheader", name=re.compile("^south"))
    assert "without a part in the last ask" in gone.inner_text()
    board.get_by_text(re.compile(r"^After round \d, 5 of 5 sites")).wait_for()  # by itself
    figure = board.get_by_label("Figure")
    figure.focus()
    page.keyboard.press("ArrowDown")
    board.get_by_role("img", name=re.compile("^training loss by round: north, last")).wait_for()
    assert board.get_by_text("No verdict yet").is_visible()
    picture(page, "federation_live")
    assert clean(guard) == []


def test_another_run_is_picked_by_keyboard_and_the_address_follows(page: Any, served: str) -> None:
    page.goto(f"{served}?run=alike+sites")
    page.locator(".wb-fed").get_by_text("Do not join: island").first.wait_for()
    pick(page, "Federation", "older run")
    page.wait_for_url(re.compile("run=a{32}"))
    page.locator(".wb-fed").get_by_text("Join: north and south.").wait_for()
    pick(page, "Federation", "without arms")
    page.get_by_text("No verdict: site 'north' has no rows of arm 'alone'").wait_for()


def test_what_takes_long_and_what_is_not_there_is_said(page: Any, served: str, guard: Any) -> None:
    page.goto(f"{served}?store=slow&run=alike+sites")
    page.get_by_text(re.compile("^Judging the sites")).wait_for()
    page.locator(".wb-fed").wait_for()
    page.goto(f"{served}?store=empty")
    page.get_by_text("No federation yet").wait_for()
    page.goto(f"{served}?store=broken")
    page.get_by_text("The runs cannot be listed: ComputeError: the file is no database").wait_for()
    page.goto(f"{served}?run=nothing")
    page.get_by_text("No federation is called 'nothing'").wait_for()
    assert clean(guard) == []


def test_names_are_shown_as_typed_also_on_a_narrow_screen(page: Any, served: str, picture: Callable[..., None]) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto(f"{served}?store=hostile&run=cccc")
    board = page.locator(".wb-fed")
    board.get_by_role("heading", name=HOSTILE).wait_for()
    board.locator(".who", has_text=HOSTILE).wait_for()
    board.locator(".flags li", has_text=f"flag of {HOSTILE}").wait_for()
    board.get_by_role("region", name="What each site gives").get_by_role("rowheader", name=HOSTILE).wait_for()
    board.get_by_role("region", name="Attacks").get_by_role("cell", name=HOSTILE).wait_for()
    board.locator(".legend", has_text=HOSTILE).first.wait_for()
    cell = board.get_by_role("region", name="What each site gives").get_by_role("cell").nth(1)
    assert cell.evaluate("(e) => getComputedStyle(e, '::before').content").startswith('"Training rows'), (
        "rows are stacked"
    )
    unharmed(page)
    picture(page, "federation_narrow")
    wide = board.evaluate("(e) => e.scrollWidth - e.clientWidth")
    assert wide <= 1, "nothing but the tables scrolls sideways"


def test_in_a_dark_notebook_rounds_and_verdicts_come_from_the_kernel(
    page: Any, lab: Any, guard: Any, picture: Callable[..., None]
) -> None:
    lab.show(
        page,
        [
            "import ipywidgets as ipw\nfrom tests.widgets import planted_federation as planted\n"
            "from tests.widgets.planted import HOSTILE\nfrom widgets import FederationBoard\n"
            "label = ipw.Label('nothing yet')\nboard = FederationBoard(rounds=planted.rounds(2))\n"
            "def tell(change): label.value = f'{board.metric}: {board.shown.height}'\n"
            "board.observe(tell, 'metric')\nmore = ipw.Button(description='go on')\n"
            "more.on_click(lambda _: board.update(planted.value(HOSTILE), rounds=planted.rounds(9, HOSTILE)))\n"
            "ipw.VBox([label, more, board])",
        ],
        "federation",
        dark=True,
    )
    board = page.locator(".wb-fed")
    board.get_by_text(re.compile("^After round 2, 5 of 5 sites")).wait_for()
    page.get_by_role("button", name="go on").click()
    board.get_by_text(re.compile("^After round 9, 4 of 5 sites")).wait_for()
    board.get_by_label("Metric").select_option(label="RMSE, ln(\u00b5M)")
    page.locator(".widget-label", has_text=re.compile("^RMSE: 15")).wait_for()
    picture(board, "lab_federation_board")
    unharmed(page)
    assert [e for e in guard.errors if "wb-" in e or e.startswith("page: ")] == []


def test_a_dark_page_is_dark_throughout_and_says_so_to_its_widgets(page: Any, served: str, picture: Any) -> None:
    page.goto(f"{served}?run=alike+sites")
    board = page.locator(".wb-fed")
    board.get_by_text("Do not join: island").first.wait_for()
    assert board.get_attribute("data-dark") == "false"
    page.get_by_label("Toggle theme").click()
    page.locator('.wb-fed[data-dark="true"]').wait_for()
    ink = "(e) => getComputedStyle(e).color.match(/\\d+/g).slice(0, 3).map(Number)"
    assert min(board.locator(".who").first.evaluate(ink)) > 200
    from playwright.sync_api import expect

    lit = "rgb(86, 180, 233)"  # the accent of a dark page; it comes by and by
    expect(page.get_by_role("button", name="Look for new runs")).to_have_css("color", lit)
    picture(page, "federation_dark")
