"""The way from a lasso to a run, in a real JupyterLab: select, save, split, train, land on the run in MLflow's page."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import toy
from tests.browser.conftest import free_port
from tests.widgets.planted import HOSTILE
from workbench.study import Study

ROOT = Path(__file__).resolve().parents[2]
CELL_LINES, TISSUES = 153, 3
START = """
import os; os.environ.update(WORKBENCH_HOME={home!r}, LOGNAME="ada")
from functools import partial
from widgets import CohortBuilder, EmbeddingExplorer, Selection, StudyBrowser
from workbench import interactive
from workbench.study import Study, find
study, selection = Study.open(find({name!r})), Selection()
"""
# where the points of a plot are, in the page's pixels
PLACES = """(plot) => {
    const canvas = plot.querySelector('canvas'), box = canvas.getBoundingClientRect();
    const api = canvas.parentElement.parentElement.api, n = api.get('points').length;
    const at = (i) => { const [x, y] = api.getScreenPosition(i); return [x + box.x, y + box.y]; };
    return Array.from({length: n}, (_, i) => at(i));
}"""


def grouped(kind: str, names: list[str], matrix: np.ndarray) -> np.ndarray:
    """Expression in which every tissue lies apart."""
    if kind == "expression":
        for i, name in enumerate(names):
            matrix[i, 10 + int(name.split()[1]) % TISSUES] += 12
    return matrix


def places(explorer: Any) -> np.ndarray:
    """Where the points are on the screen, once they are drawn."""
    plot = explorer.locator(".plot")
    plot.locator("canvas").first.wait_for()
    explorer.locator(".plot .none").wait_for(state="hidden")
    explorer.page.wait_for_function(
        "() => { for (const c of document.querySelectorAll('.wb-embedding .plot canvas')) "
        "{ const api = c.parentElement.parentElement.api; if (api && api.get('points').length) return true; } }"
    )
    return np.asarray(plot.evaluate(PLACES))


def lasso(page: Any, around: np.ndarray, slack: float = 12) -> None:
    """Draws a loop round these points with the mouse."""
    (left, up), (right, down) = around.min(axis=0) - slack, around.max(axis=0) + slack
    corners = np.array([(left, up), (right, up), (right, down), (left, down), (left, up)])
    page.mouse.move(*corners[0])
    page.mouse.down()
    for start, end in itertools.pairwise(corners):
        for share in np.linspace(0, 1, 9)[1:]:
            page.mouse.move(*(start + share * (end - start)))
            page.wait_for_timeout(12)
    page.mouse.up()


def ours(guard: Any) -> list[str]:
    return [e for e in guard.errors if "wb-" in e or e.startswith("page: ")]


@pytest.mark.slow
def test_from_a_lasso_to_a_run_in_mlflow(
    lab: Any, page: Any, guard: Any, launch: Callable[..., None], picture: Callable[..., None], workbench_home: Path
) -> None:
    from workbench import runs

    page.set_default_timeout(60_000)
    page.set_viewport_size({"width": 1400, "height": 1480})  # room for the widgets whole
    made = toy.write("lines", subjects=CELL_LINES, tissues=TISSUES, values=grouped)
    port = free_port()
    command, env = runs.server_command(port)
    launch(command, f"http://127.0.0.1:{port}/health", env={**env, "WORKBENCH_HOME": str(workbench_home)}, seconds=180)
    lab.show(
        page,
        [
            START.format(home=str(workbench_home), name="lines"),
            "EmbeddingExplorer(study, modality='expression', colour='tissue', selection=selection, title='Cell lines')",
            "StudyBrowser(study.presence(), study.outcomes, selection=selection)",
            f"start = partial(interactive.start, base='http://127.0.0.1:{port}', draws=50)\n"
            "CohortBuilder(study, selection, interactive.options(), start)",
        ],
        "cohort_path",
    )
    explorer, browser, builder = (page.locator(f".wb-{name}") for name in ("embedding", "study", "cohort"))
    builder.wait_for()
    assert explorer.get_by_text("1 of 153 subjects have no expression profile").is_visible()

    explorer.scroll_into_view_if_needed()
    at = places(explorer)
    group = np.arange(0, CELL_LINES - 1, TISSUES)  # one tissue; the last subject has no modality
    lasso(page, at[group])
    explorer.get_by_text(f"{len(group)} of 152 subjects selected").wait_for()
    browser.get_by_role("button", name=f"{len(group)} selected elsewhere").wait_for()
    builder.get_by_text(f"{len(group)} selected", exact=True).wait_for()
    picture(explorer, "cohort_1_lasso")
    browser.get_by_role("button", name="show only these").click()
    browser.get_by_role("option", name="subject 06").wait_for()
    picture(browser, "cohort_2_linked")

    builder.scroll_into_view_if_needed()
    assert builder.get_by_role("button", name="Split on it").is_disabled()
    builder.get_by_label("Name").fill("first tissue")
    builder.get_by_label("Note").fill("a lasso in the expression PCA")
    builder.get_by_role("button", name="Save cohort").click()
    builder.get_by_text(f"first tissue, {len(group)} subjects").wait_for()
    builder.get_by_text("(unchanged)").wait_for()
    kept = Study.open(made.path).cohorts["first tissue"]
    assert list(kept.members) == sorted(f"subject {i:02d}" for i in group)
    assert kept.note == "a lasso in the expression PCA" and Study.open(made.path).digest == made.digest
    picture(builder, "cohort_3_saved")

    builder.get_by_label("What is predicted").select_option("ln_ic50")
    builder.get_by_role("button", name="Split on it").click()
    builder.get_by_text("no subject and no row stands on both sides").wait_for()
    builder.get_by_text(f"{len(group)} subjects", exact=False).last.wait_for()
    builder.get_by_text("looking for leaks").wait_for(state="detached")
    picture(builder, "cohort_4_split")

    builder.get_by_label("Predictor").select_option("ridge")
    builder.get_by_role("button", name="Train", exact=True).click()
    link = builder.get_by_role("link", name=re.compile("^Open the run"))
    link.wait_for()
    picture(builder, "cohort_5_trained")
    with page.context.expect_page() as opened:
        link.click()
    landed = opened.value
    run = runs.find("latest")
    landed.get_by_text(run.name).first.wait_for()
    landed.get_by_text("first tissue").first.wait_for()
    landed.set_viewport_size({"width": 1400, "height": 900})
    picture(landed, "cohort_6_mlflow")
    assert run.status == "FINISHED" and run.run_id in landed.url
    tested = run.predictions.filter(predictor="ridge")["subject"].unique().sort().to_list()
    assert tested == list(kept.members)
    assert ours(guard) == []


def test_the_same_view_in_a_panel_page_follows_a_lasso(
    page: Any, guard: Any, launch: Callable[..., None], picture: Callable[..., None], tmp_path: Path
) -> None:
    app = tmp_path / "linked.py"
    app.write_text(
        "import panel as pn, polars as pl\n"
        "from widgets import EmbeddingExplorer, Selection\n"
        "from widgets._mirror import in_panel\n"
        "pn.extension()\n"
        "names = [f'a{i}' for i in range(20)] + [f'b{i}' for i in range(20)]\n"
        "frame = pl.DataFrame({'name': names, 'x': [i % 5 + 20 * (i > 19) for i in range(40)],\n"
        "                      'y': [i % 4 for i in range(40)], 'dose': [float(i) for i in range(40)]})\n"
        "selection = Selection()\n"
        "said = pn.widgets.StaticText(value='nothing')\n"
        "selection.observe(lambda c: setattr(said, 'value', ' '.join(c['new'])), 'subjects')\n"
        "explorer = EmbeddingExplorer(frame, colour='dose', selection=selection, title='In a page')\n"
        "pn.Column(said, in_panel(explorer)).servable()\n"
    )
    port = free_port()
    line = [sys.executable, "-m", "panel", "serve", str(app), "--address", "127.0.0.1", "--port", str(port)]
    launch(line, f"http://127.0.0.1:{port}/linked", env={"PYTHONPATH": str(ROOT)}, cwd=ROOT)
    page.goto(f"http://127.0.0.1:{port}/linked")
    explorer = page.locator(".wb-embedding")
    explorer.wait_for()
    explorer.locator(".plot canvas").first.wait_for()
    explorer.locator(".plot .none").wait_for(state="hidden")
    page.wait_for_timeout(1000)
    at = np.asarray(explorer.locator(".plot").evaluate(PLACES))
    lasso(page, at[:20])
    page.get_by_text(" ".join(f"a{i}" for i in range(20))).wait_for()
    assert explorer.get_by_text("20 of 40 subjects selected").is_visible()
    explorer.get_by_role("button", name="Highest tenth").focus()
    page.keyboard.press("Enter")
    page.get_by_text("b16 b17 b18 b19").wait_for()
    picture(explorer, "panel_embedding")
    page.keyboard.press("Escape")
    explorer.get_by_text("40 subjects", exact=True).wait_for()
    assert ours(guard) == []


def test_hostile_names_are_shown_as_typed(lab: Any, page: Any, guard: Any, workbench_home: Path) -> None:
    toy.write(HOSTILE.replace("/", ""), subjects=12, tissues=2)
    cells = [
        START.format(home=str(workbench_home), name=HOSTILE.replace("/", "")),
        "import polars as pl\nhostile = " + repr(HOSTILE) + "\n"
        "frame = pl.DataFrame({'name': [hostile + str(i) for i in range(9)], 'x': list(range(9)), 'y': [0, 5, 1] * 3,\n"
        "    'group': [hostile + 'a', hostile + 'b', 'c'] * 3, hostile: ['p', 'q', 'r'] * 3})\n"
        "EmbeddingExplorer(frame, colour='group', selection=selection, title=hostile)",
        "study = study.save_cohort(hostile, ['subject 01', 'subject 03'], note=hostile)\n"
        "builder = CohortBuilder(study, selection, interactive.options(), interactive.start, title=hostile)\n"
        "builder.combine('replace', hostile)\nbuilder",
    ]
    lab.show(page, cells, "hostile_names")
    explorer, builder = page.locator(".wb-embedding"), page.locator(".wb-cohort")
    builder.wait_for()
    assert explorer.get_by_role("heading", name=HOSTILE).is_visible()
    explorer.get_by_role("button", name=f"Select {HOSTILE}a, 3").click()
    explorer.get_by_role("option", name=f"{HOSTILE}0").first.wait_for()
    at = places(explorer)
    explorer.scroll_into_view_if_needed()
    at = places(explorer)
    page.mouse.move(*at[4])
    page.mouse.move(at[4][0] + 1, at[4][1])
    explorer.locator(".tip b", has_text=f"{HOSTILE}4").wait_for()
    assert builder.get_by_role("heading", name=HOSTILE).is_visible()
    assert builder.get_by_label("Saved cohort").inner_text().startswith(HOSTILE)
    builder.get_by_text("9 selected elsewhere are no subjects here").or_(
        builder.get_by_text("3 selected elsewhere are no subjects here")
    ).wait_for()
    assert ours(guard) == []
