"""DoseResponse without a front end: fits found, both ways of comparing, readings at a dose, what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import traitlets

from tests.widgets import planted, planted_study
from widgets import DoseResponse, Selection
from widgets._parts import unpack
from workbench.assays import dose_response
from workbench.tables import TableError, empty


@pytest.fixture(scope="module")
def points() -> pl.DataFrame:
    return planted_study.points()


def test_the_planted_potencies_are_shown_and_what_has_none_is_named(points: pl.DataFrame) -> None:
    widget = DoseResponse(points)
    header, columns = unpack(widget.index_bytes)
    assert (header["subjects"], header["treatments"]) == (sorted(planted_study.LINES), ["Erlotinib", "Gefitinib"])
    assert header["dose_unit"] == "\u00b5M"
    found = {
        (header["subjects"][s], header["treatments"][t]): (float(ic50), int(state))
        for s, t, ic50, state in zip(
            *(columns[c] for c in ("subject_of", "treatment_of", "ic50", "state")), strict=True
        )
    }
    assert found["A549", "Erlotinib"] == (pytest.approx(0.1, rel=0.15), 0)
    assert found["PC-9", "Gefitinib"] == (pytest.approx(0.1, rel=0.15), 0)
    assert found["HT-29", "Erlotinib"] == (pytest.approx(10.0), 1)  # above the highest dose tested
    assert found["MCF7", "Erlotinib"][1] == 2  # flat


def test_partners_come_by_potency_and_the_first_are_drawn(points: pl.DataFrame) -> None:
    widget = DoseResponse(points)
    widget.one = "Erlotinib"
    assert widget.partners() == ["PC-9", "A549", "HT-29", "MCF7"]
    widget.others = ["A549", "MCF7"]
    header, columns = unpack(widget.frame_bytes)
    assert [(c["subject"], c["state"]) for c in header["curves"]] == [("A549", 0), ("MCF7", 2)]
    assert "flat" in header["curves"][1]["flags"]
    assert (header["low"], header["high"]) == (pytest.approx(1e-3), pytest.approx(10.0))
    assert columns["start"].tolist() == [0, 18, 36] and columns["mean_start"].tolist() == [0, 9, 18]
    grid, mid = columns["grid"], columns["mid"].reshape(2, -1)
    at = int(np.argmin(np.abs(grid - np.log10(0.1))))
    assert mid[0, at] == pytest.approx(0.5, abs=0.04)
    assert np.ptp(mid[1]) == 0, "a flat curve is its mean"
    lower, upper = (columns[c].reshape(2, -1) for c in ("lower", "upper"))
    assert (lower <= mid).all() and (mid <= upper).all()


def test_several_drugs_on_one_line(points: pl.DataFrame) -> None:
    widget = DoseResponse(points)
    widget.by = "subject"
    widget.one = "PC-9"
    assert widget.shown.select("subject", "treatment").rows() == [("PC-9", "Erlotinib"), ("PC-9", "Gefitinib")]


def test_the_dose_line_reads_the_curves(points: pl.DataFrame) -> None:
    widget = DoseResponse(points)
    widget.one, widget.others, widget.dose = "Erlotinib", ["A549", "PC-9"], 0.1
    reading = widget.reading
    assert reading["predicted"].to_list() == pytest.approx([0.5, 1 / 11], abs=0.04)
    assert (reading["low"] < reading["predicted"]).all() and (reading["predicted"] < reading["high"]).all()


def test_fits_given_go_before_fits_made(points: pl.DataFrame) -> None:
    fits = dose_response.fit(points).with_columns(flags=pl.lit(["poor fit"]))
    widget = DoseResponse(points, fits)
    assert widget.shown["flags"].to_list() == [["poor fit"]] * 4
    part = DoseResponse(points, fits.filter(pl.col("subject") != "A549"))
    part.one, part.others = "Erlotinib", ["A549"]
    assert part.shown["flags"].to_list() == [["not fitted"]]
    with pytest.raises(TableError, match="a column ic50_<unit> is missing"):
        DoseResponse(points, fits.select("subject", "treatment"))


def test_units_are_converted_and_several_curves_of_a_pair_are_said(points: pl.DataFrame) -> None:
    nano = points.with_columns(pl.col("dose") * 1000, pl.lit("nM").alias("dose_unit"), pl.col("value") * 100,
                               pl.lit("%").alias("unit"))  # fmt: skip
    widget = DoseResponse(nano, dose_response.fit(points))  # fits are in uM
    assert unpack(widget.index_bytes)[0]["dose_unit"] == "\u00b5M"
    widget.one, widget.others, widget.dose = "Erlotinib", ["A549"], 0.1
    assert widget.reading["predicted"][0] == pytest.approx(0.5, abs=0.04)
    twice = pl.concat([points, points.filter(pl.col("dose") > 0.01).with_columns(site=pl.lit("elsewhere"))])
    widget = DoseResponse(twice)
    assert all("one of 2 curves of this pair" in " ".join(flags) for flags in widget.shown["flags"])
    assert unpack(widget.frame_bytes)[1]["start"].tolist() == [0, 18, 36, 54, 72]


def test_of_curves_of_one_length_that_of_the_longest_exposure_is_drawn(points: pl.DataFrame) -> None:
    early = points.with_columns(time_h=24.0, value=pl.lit(1.0))  # nothing has happened after a day
    widget = DoseResponse(pl.concat([early, points.with_columns(time_h=72.0)]))
    widget.one, widget.others, widget.dose = "Erlotinib", ["A549"], 0.1
    assert "one of 2 curves of this pair, that after 72 h" in widget.shown["flags"][0]
    assert widget.reading["predicted"][0] == pytest.approx(0.5, abs=0.04)


def test_no_points_make_an_empty_widget() -> None:
    from workbench.tables import OUTCOMES

    for frame in (empty(OUTCOMES), planted_study.volumes()):
        widget = DoseResponse(frame)
        assert unpack(widget.index_bytes)[0]["subjects"] == [] and widget.others == []


def test_what_is_not_there_is_refused(points: pl.DataFrame) -> None:
    widget = DoseResponse(points)
    with pytest.raises(traitlets.TraitError, match="Did you mean 'Erlotinib'"):
        widget.one = "Erlotinb"
    with pytest.raises(traitlets.TraitError, match="has no curve here"):
        widget.others = ["K-562"]
    with pytest.raises(TableError, match="'dose_unit' is missing"):
        DoseResponse(points.drop("dose_unit"))


def test_selection_goes_both_ways_and_hostile_names_are_names() -> None:
    selection = Selection()
    widget = DoseResponse(planted_study.points([planted.HOSTILE, *planted_study.LINES[1:]]), selection=selection)
    widget.selected = [planted.HOSTILE]
    assert (selection.subjects, selection.by) == ([planted.HOSTILE], "DoseResponse")
    selection.select(["PC-9", "someone else"], by="lasso")
    assert widget.selected == ["PC-9", "someone else"]
    widget.leave()
    selection.select([], by="lasso")
    assert widget.selected == ["PC-9", "someone else"]
