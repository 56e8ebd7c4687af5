"""One selection for all widgets: who speaks, who hears, what is missing where."""

from __future__ import annotations

import numpy as np
import polars as pl

from tests.widgets import planted
from widgets import EmbeddingExplorer, PredictionExplorer, Selection, StudyBrowser
from widgets.linked import counted, missing


def test_those_who_observe_hear_once_and_know_who_spoke() -> None:
    selection = Selection()
    heard: list[tuple[str, list[str], list[int]]] = []
    selection.observe(
        lambda c: heard.append((selection.by, c["new"], selection.cells.get("rna", np.zeros(0)).tolist())), "subjects"
    )
    selection.select(["a", "b"], "lasso", cells={"rna": np.array([4, 9])})
    selection.select(["a", "b"], "other")  # the same subjects: nobody needs to hear
    selection.select(["c"], "other")
    assert heard == [("lasso", ["a", "b"], [4, 9]), ("other", ["c"], [])]
    selection.select_treatments(["x"], "drugs")
    assert (selection.subjects, selection.treatments) == (["c"], ["x"])
    selection.clear("end")
    assert (selection.subjects, selection.treatments, selection.cells, selection.by) == ([], [], {}, "end")


def test_cells_are_kept_as_arrays_however_many() -> None:
    selection = Selection()
    selection.select(["a"], "lasso", cells={"rna": np.arange(1_000_000)})
    assert selection.cells["rna"].dtype == np.int32 and selection.cells["rna"].nbytes == 4_000_000


def test_what_a_view_lacks_is_counted_and_named() -> None:
    assert missing(["a", "b", "c"], {"b"}) == ["a", "c"]
    assert counted(["a", "b"]) == "a, b"
    assert counted([*"abcde"]) == "a, b, c and 2 more"


def test_a_selection_in_one_widget_is_marked_in_the_others() -> None:
    selection = Selection()
    names = [f"line {i}" for i in range(12)]
    explorer = EmbeddingExplorer(pl.DataFrame({"name": names, "x": range(12), "y": range(12)}), selection=selection)
    browser = StudyBrowser(planted.presence(), selection=selection)
    predictions = PredictionExplorer(planted.predictions(), selection=selection)
    explorer.picked = [1, 4]
    assert selection.subjects == browser.marked == predictions.marked == ["line 1", "line 4"]
    assert browser.filters["tissues"] == []
    browser.filters = {"tissues": ["lung"]}
    assert selection.subjects == browser.selected == ["line 0", "line 3", "line 6", "line 9"]
    assert explorer.selected == predictions.marked == browser.selected and browser.marked == []
    predictions.brush = [-50.0, 50.0, -50.0, 50.0]
    assert len(selection.subjects) == 30 and predictions.marked == []
    assert len(explorer.selected) == 12 and len(explorer.missing) == 18
    predictions.brush = []
    assert selection.subjects == explorer.selected == browser.marked == []


def test_without_a_selection_the_widgets_stand_alone() -> None:
    browser = StudyBrowser(planted.presence())
    browser.filters = {"tissues": ["lung"]}
    assert browser.selection is None and browser.marked == []
