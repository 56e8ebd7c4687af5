"""Exposure without a front end: groups, occasions, the limit of quantification, areas, what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import traitlets

from tests.real import shared
from tests.widgets import planted, planted_exposure
from widgets import Exposure, Selection
from widgets._exposure import middle
from widgets._parts import unpack
from workbench.tables import OUTCOMES, TableError, empty


@pytest.fixture
def widget() -> Exposure:
    return Exposure(planted_exposure.concentrations(), planted_exposure.subjects())


def test_groups_are_the_arms_by_rising_dose_with_their_figures(widget: Exposure) -> None:
    found = widget.summary
    assert found["name"].to_list() == ["arm low, 10 mg/kg", "arm high, 100 mg/kg"]
    assert found["cmax"].to_list() == pytest.approx([100, 1000]) and found["tmax"].to_list() == [1, 1]
    assert found["auc"].to_list() == pytest.approx([planted_exposure.area(10), planted_exposure.area(100)], rel=1e-6)
    assert found.select("subjects", "samples", "below").rows() == [(3, 18, 3), (3, 18, 0)]  # 24 h of the low dose


def test_occasions_are_told_apart_and_begin_at_hour_0(widget: Exposure) -> None:
    assert [o["label"] for o in widget.options["occasions"]] == ["day 1 of the study", "day 29 of the study"]
    assert widget.choice == {"compound": "compound", "matrix": "plasma", "occasion": "0"}
    widget.choice = {"occasion": "1"}
    header, columns = unpack(widget.frame_bytes)
    assert header["label"] == "Time from hour 672 of the study, h"
    assert sorted(set(columns["time"].tolist())) == list(planted_exposure.HOURS)
    assert widget.summary["cmax"].to_list() == pytest.approx([100, 1000])
    widget.choice = {"occasion": "all"}
    assert len(widget.shown) == 72 and widget.summary["auc"].null_count() == 2  # no area over two dosings
    alone = Exposure(planted_exposure.concentrations((2160.0,)), planted_exposure.subjects())
    assert alone.summary["tmax"].to_list() == [1, 1]  # of the dose, not of the study


def test_a_median_below_the_limit_is_not_drawn(widget: Exposure) -> None:
    header, columns = unpack(widget.frame_bytes)
    assert header["limits"] == [planted_exposure.LIMIT] and header["unit"] == "ng/mL"
    low = slice(columns["mid_start"][0], columns["mid_start"][1])
    assert columns["mid_time"][low].tolist() == list(planted_exposure.HOURS)
    assert np.isfinite(columns["mid"][low]).tolist() == [True] * 5 + [False]
    assert columns["below"].sum() == 3
    assert middle([5, 5, 9], [True, False, False]) == 5
    assert np.isnan(middle([5, 7], [True, False])) and np.isnan(middle([5], [True]))
    assert middle([4, 8], [False, False]) == 6


def test_without_arms_species_route_and_dose_make_the_groups() -> None:
    subjects = planted_exposure.subjects().select("subject", species=pl.lit("rat"), route=pl.lit("iv"))
    widget = Exposure(planted_exposure.concentrations((0.0,)), subjects)
    assert widget.summary["name"].to_list() == ["rat, iv, 10 mg/kg", "rat, iv, 100 mg/kg"]
    assert len(widget.options["occasions"]) == 1
    weekly = planted_exposure.concentrations((0.0, 672.0))  # hours after one dose: a late sample is no new occasion
    assert len(Exposure(weekly, subjects).options["occasions"]) == 1
    assert Exposure(planted_exposure.concentrations((0.0,))).summary["name"].to_list() == ["10 mg/kg", "100 mg/kg"]


def test_another_compound_and_matrix_are_chosen_and_unknown_ones_refused(widget: Exposure) -> None:
    frame = planted_exposure.concentrations()
    other = frame.with_columns(treatment=pl.lit("second"), endpoint=pl.lit("concentration liver"))
    both = Exposure(pl.concat([frame, other.filter(pl.col("subject") != "rat 10 0")]), planted_exposure.subjects())
    assert [c["name"] for c in both.options["compounds"]] == ["compound", "second"]
    both.choice = {"compound": "second"}
    assert both.choice["matrix"] == "liver" and both.options["matrices"] == ["liver"]
    with pytest.raises(traitlets.TraitError, match="Did you mean 'second'"):
        both.choice = {"compound": "secnd"}
    with pytest.raises(traitlets.TraitError, match="matrix 'urine' is not here"):
        widget.choice = {"matrix": "urine"}
    with pytest.raises(TableError, match="one unit, found"):
        Exposure(pl.concat([frame, frame.with_columns(unit=pl.lit("uM"))]))
    with pytest.raises(TableError, match="column 'dose' is missing"):
        Exposure(frame.drop("dose"))


def test_nothing_measured_makes_an_empty_widget() -> None:
    nothing = Exposure(empty(OUTCOMES))
    assert unpack(nothing.frame_bytes)[0]["subjects"] == [] and len(nothing.summary) == 0


def test_selection_goes_both_ways_and_hostile_names_are_names() -> None:
    selection = Selection()
    arms = planted_exposure.subjects().with_columns(arm=pl.lit(planted.HOSTILE))
    widget = Exposure(planted_exposure.concentrations(), arms, selection=selection)
    assert widget.summary["name"][0] == f"{planted.HOSTILE}, 10 mg/kg"
    widget.selected = ["rat 10 0"]
    assert (selection.subjects, selection.by) == (["rat 10 0"], "Exposure")
    selection.select(["rat 100 1"], by="lasso")
    assert widget.selected == ["rat 100 1"]


def test_a_published_study_of_many_compounds_is_drawn_quickly() -> None:
    from workbench.folders import concentrations

    content = concentrations.read(shared("pk"), lambda _: None)
    widget = Exposure(content.outcomes, content.subjects)
    assert len(widget.options["compounds"]) > 200
    widget.choice = {"compound": "phenacetin"}
    assert widget.choice["compound"] == "phenacetin" and len(widget.summary) > 0
