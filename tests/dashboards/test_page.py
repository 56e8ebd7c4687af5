"""The page as Python holds it: pickers, empty and broken stores, and the parts that are made when first looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui
import polars as pl
import pytest

from tests.dashboards import planted
from widgets.dashboards import begin, command, main, serving
from widgets.dashboards.response import ResponsePage, page


@pytest.fixture(scope="module")
def stores() -> dict[str, Any]:
    return planted.stores()


def shown(viewer: ResponsePage) -> str:
    return "".join(p.object for p in viewer._body.select(pn.pane.HTML))


def tabs(viewer: ResponsePage) -> pmui.Tabs:
    return viewer._body.select(pmui.Tabs)[0]


def test_the_picker_lists_the_newest_first_and_opens_it(stores: dict[str, Any]) -> None:
    viewer = ResponsePage(stores["full"])
    names = list(viewer._picker.options)
    assert names[0].startswith("good run") and names[1].startswith("older run")
    assert all(word in names[0] for word in ("planted", "unseen subject", "2026-05-04", "FINISHED"))
    assert "good run" in shown(viewer)
    viewer._picker.value = viewer._picker.options[names[1]]
    assert "older run" in shown(viewer) and "good run" not in shown(viewer)


def test_one_run_is_shown_without_a_picker() -> None:
    run = planted.run(name="alone")
    viewer = ResponsePage(run)
    assert "alone" in shown(viewer)
    assert list(viewer.__panel__()) == [viewer._body]


def test_every_part_is_made_when_its_tab_is_opened(stores: dict[str, Any]) -> None:
    viewer = ResponsePage(stores["full"])
    book = tabs(viewer)
    assert [bool(room.objects) for room in book] == [True, False, False, False, False]
    for i in range(5):
        book.active = i
    assert all(room.objects for room in book)
    assert "polyline" in shown(viewer) and "ab" * 32 in shown(viewer)


def test_the_explorer_carries_trained_predictors_and_the_best_naive_one(stores: dict[str, Any]) -> None:
    from widgets._parts import unpack

    viewer = ResponsePage(stores["full"])
    tabs(viewer).active = 1
    explorer = tabs(viewer)[1][0]
    header, columns = unpack(explorer.frame_bytes)
    names = [p["name"] for p in header["predictors"]]
    assert set(names) == {*planted.MODELS, "mean_effects"}
    want = planted.run(name="good run").predictions
    assert header["pairs"] == want["row"].n_unique()
    k = names.index("ridge")
    ridge = want.filter(pl.col("predictor") == "ridge")
    assert float(columns[f"predicted.{k}"].mean()) == pytest.approx(float(ridge["predicted"].mean()), abs=1e-4)


def test_the_page_of_a_drug_shows_its_rows_and_follows_the_pickers(stores: dict[str, Any]) -> None:
    viewer = ResponsePage(stores["full"])
    tabs(viewer).active = 2
    drug = viewer._made[2]
    drug.treatment, drug.predictor = "Planted", "ridge"
    run = planted.run(name="good run")
    want = run.predictions.filter((pl.col("treatment") == "Planted") & (pl.col("predictor") == "ridge"))
    data = drug._points.data
    assert sorted(data["predicted"]) == pytest.approx(sorted(want["predicted"]))
    assert sorted(data["low"]) == pytest.approx(sorted(want["low"]))
    assert "Planted" in drug._head.object and "40 lines measured" in drug._head.object
    assert "GENE0" in drug._genes.object
    tissue = data["tissue"][0]
    drug.tissue = tissue
    lit = [t == tissue for t in drug._points.data["tissue"]]
    assert [c == "#D55E00" for c in drug._points.data["colour"]] == lit
    drug.predictor = "drug_mean"
    assert "No attributions were recorded for drug_mean" in drug._genes.object


def test_an_empty_store_says_which_command_to_run(stores: dict[str, Any]) -> None:
    assert "workbench run experiments/response_gdsc2_unseen-subject.toml" in shown(ResponsePage(stores["empty"]))


def test_a_run_without_tables_names_them_and_keeps_its_provenance(stores: dict[str, Any]) -> None:
    viewer = ResponsePage(stores["broken"])
    said = shown(viewer)
    assert "table METRICS is empty or was never recorded" in said and "KILLED" in said
    for i, name in ((1, "PREDICTIONS"), (2, "PREDICTIONS"), (3, "CURVES")):
        tabs(viewer).active = i
        assert f"table {name} is empty" in tabs(viewer)[i][0].object
    tabs(viewer).active = 4
    assert "b" * 32 in shown(viewer)


def test_a_store_that_cannot_be_read_is_said_in_its_own_words(stores: dict[str, Any]) -> None:
    said = shown(ResponsePage(stores["lost"]))
    assert "The runs cannot be listed: the store is gone" in said and "<img" not in said


def test_a_run_that_is_gone_is_named(stores: dict[str, Any]) -> None:
    viewer = ResponsePage(stores["full"])
    viewer.param["run_id"].objects = [*viewer.param["run_id"].objects, "f" * 32]
    viewer.run_id = "f" * 32
    assert "cannot be opened" in shown(viewer)


def test_new_runs_are_found_and_the_one_in_sight_stays() -> None:
    store = planted.Store(planted.run(name="first"))
    viewer = ResponsePage(store)
    store.found.append(planted.run(seed=5, name="second"))
    viewer.refresh()
    assert len(viewer._picker.options) == 2 and "first" in shown(viewer)


def test_the_whole_page_has_a_title_and_an_icon_of_its_own() -> None:
    made = page(planted.Store(planted.run()))
    assert made.title.startswith("Drug response") and str(made.favicon).startswith("data:image/svg+xml")


def test_pages_are_served_on_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOKEH_ALLOW_WS_ORIGIN", raising=False)
    line, environment = serving(5123)
    assert line[line.index("--address") + 1] == "127.0.0.1" and "--prefix" not in line
    assert environment["BOKEH_ALLOW_WS_ORIGIN"] == "127.0.0.1:5123,localhost:5123"
    index = Path(line[line.index("--index") + 1])
    assert "http" not in index.read_text(encoding="utf-8"), "the list of pages asks nobody outside"
    pages = [Path(w).name for w in line if w.endswith(".py")]
    assert "response.py" in pages and not any(p.startswith("_") for p in pages)
    behind, environment = serving(5123, prefix="/user/ada/panel/")
    assert behind[behind.index("--prefix") + 1] == "/user/ada/panel"
    assert environment["BOKEH_ALLOW_WS_ORIGIN"] == "127.0.0.1:*,localhost:*"
    assert serving(5123, origins=["hub.example:443"])[1]["BOKEH_ALLOW_WS_ORIGIN"] == "hub.example:443"
    monkeypatch.setenv("BOKEH_ALLOW_WS_ORIGIN", "hub.example:443")
    assert serving(5123)[1]["BOKEH_ALLOW_WS_ORIGIN"] == "hub.example:443"


def test_a_page_says_so_when_its_server_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, object] = {}
    monkeypatch.setattr("panel.extension", lambda **given: told.update(given))
    begin()
    assert told["notifications"] is True and "connection to the server is gone" in str(told["disconnect_notification"])


def test_the_verb_pages_becomes_the_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda path, line, environment: ran.append(line))
    main(["--port", "5123"])
    assert ran[0][1:4] == ["-m", "panel", "serve"]
    said = capsys.readouterr().err
    assert "http://127.0.0.1:5123/response\n" in said and "http://127.0.0.1:5123/study\n" in said  # every page
    main(["--port", "5123", "--prefix", "proxy/"])
    assert "http://127.0.0.1:5123/proxy/study\n" in capsys.readouterr().err
    assert command(5123, "/x")[1:] == ["-m", "widgets.dashboards", "--port", "5123", "--prefix", "/x"]
    assert command(5123, origins=["127.0.0.1:8"])[-2:] == ["--origin", "127.0.0.1:8"]
    assert main(["--port", "many"]) == 2 and main(["--port", "-1"]) == 2 and main(["--help"]) == 0
    assert len(ran) == 2
