"""StudyBrowser without a front end: filters, selection, what is packed, what is refused."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
import traitlets

from tests.widgets import planted
from widgets import StudyBrowser
from widgets._parts import unpack
from workbench.tables import TableError


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, range(12)),
        ({"tissues": ["lung"]}, [0, 3, 6, 9]),
        ({"tissues": ["lung", "breast"]}, [0, 1, 3, 4, 6, 7, 9, 10]),
        ({"modalities": {"expression": "lacks"}}, [2, 5, 8, 11]),
        ({"modalities": {"expression": "has", "mutation": "lacks"}}, [0, 1]),
        ({"modalities": {"expression": "any"}}, range(12)),
        ({"search": "LINE 1"}, [1, 10, 11]),
        ({"search": ".*"}, []),  # a name, not a pattern
        ({"tissues": ["skin"], "modalities": {"expression": "has"}}, []),
    ],
)
def test_filters_select(filters: dict[str, Any], wanted: list[int]) -> None:
    browser = StudyBrowser(planted.presence())
    browser.filters = filters
    assert browser.selected == [f"line {i}" for i in wanted]
    assert browser.selection_frame()["subject"].to_list() == browser.selected
    assert browser.selection_frame().columns == planted.presence().columns


def test_the_selection_can_be_observed() -> None:
    browser = StudyBrowser(planted.presence())
    seen: list[list[str]] = []
    browser.observe(lambda change: seen.append(change["new"]), "selected")
    browser.filters = {"tissues": ["lung"]}
    assert seen == [["line 0", "line 3", "line 6", "line 9"]]


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"tissue": ["lung"]}, "Did you mean 'tissues'"),
        ({"tissues": ["lungs"]}, "Did you mean 'lung'"),
        ({"modalities": {"expresion": "has"}}, "Did you mean 'expression'"),
        ({"modalities": {"expression": "have"}}, "'have' is not known"),
    ],
)
def test_unknown_filters_are_refused_and_change_nothing(filters: dict[str, Any], said: str) -> None:
    browser = StudyBrowser(planted.presence())
    with pytest.raises(traitlets.TraitError, match=said):
        browser.filters = filters
    assert len(browser.selected) == 12


def test_packed_presence_and_outcomes() -> None:
    outcomes = pl.DataFrame(
        {
            "subject": ["line 1", "line 1", "line 2"],
            "treatment": ["Erlotinib", "Gefitinib", "Erlotinib"],
            "endpoint": "ln_ic50",
            "unit": "ln(uM)",
        }
    )
    header, columns = unpack(StudyBrowser(planted.presence(), outcomes).frame_bytes)
    assert header["modalities"] == ["expression", "mutation"]
    assert columns["has.0"].tolist() == [1, 1, 0] * 4
    assert columns["has.1"].tolist() == [0, 0] + [1] * 10
    assert columns["n_outcomes"].tolist() == list(range(12))
    assert columns["n_treatments"].tolist() == [0, 2, 1] + [0] * 9
    assert columns["tissue_of"][11] == -1
    assert (header["treatments"], header["endpoints"]) == (2, [{"label": "ln IC50", "unit": "ln(\u00b5M)", "n": 3}])


def test_bad_presence_is_refused() -> None:
    with pytest.raises(TableError, match="'n_outcomes' is missing"):
        StudyBrowser(planted.presence().drop("n_outcomes"))
    with pytest.raises(TableError, match="modality 'mutation' should be Boolean, found Int64"):
        StudyBrowser(planted.presence().with_columns(pl.col("mutation").cast(pl.Int64)))
    with pytest.raises(TableError, match="repeated"):
        StudyBrowser(pl.concat([planted.presence(), planted.presence().head(1)]))


def test_an_empty_study_makes_an_empty_widget() -> None:
    browser = StudyBrowser(planted.presence().clear())
    assert browser.selected == []
    assert unpack(browser.frame_bytes)[0]["subjects"] == []


def test_hostile_names_filter_like_any_other() -> None:
    frame = planted.presence().with_columns(
        subject=pl.when(pl.col("n_outcomes") == 4).then(pl.lit(planted.HOSTILE)).otherwise("subject")
    )
    browser = StudyBrowser(frame.rename({"mutation": planted.HOSTILE}), title=planted.HOSTILE)
    browser.filters = {"modalities": {planted.HOSTILE: "has"}, "search": "<img"}
    assert browser.selected == [planted.HOSTILE]
    browser.subject = planted.HOSTILE
    with pytest.raises(traitlets.TraitError, match="is not in this study"):
        browser.subject = "nobody"


def test_the_group_may_be_something_else_than_the_tissue() -> None:
    frame = planted.presence()
    assert unpack(StudyBrowser(frame).frame_bytes)[0]["group"] == "tissue"
    header, _ = unpack(StudyBrowser(frame, group="arm").frame_bytes)
    assert header["group"] == "arm" and "lung" in header["tissues"]
