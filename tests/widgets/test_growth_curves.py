"""GrowthCurves without a front end: calls, inhibition, the middle of an arm, what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import traitlets

from tests.real import shared
from tests.widgets import planted, planted_study
from widgets import GrowthCurves, Selection
from widgets._growth import middles
from widgets._parts import unpack
from workbench.tables import OUTCOMES, TableError, empty


def test_calls_and_best_changes_of_the_planted_arms() -> None:
    widget = GrowthCurves(planted_study.volumes(), control="vehicle")
    shown = widget.shown.group_by("treatment").agg(pl.col("call").unique(), pl.col("best").mean()).sort("treatment")
    assert dict(shown.select("treatment", "call").iter_rows()) == {"slows": ["SD"], "vehicle": ["PD"], "works": ["PR"]}
    works = widget.shown.filter(treatment="works", subject="works 0")
    assert works["best"][0] == pytest.approx(100 * (np.exp(-0.08 * 0.9 * 30) - 1))  # the lowest volume is the last


def test_inhibition_stands_against_the_control() -> None:
    header, _ = unpack(GrowthCurves(planted_study.volumes(), control="vehicle").frame_bytes)
    arms = {arm["name"]: arm for arm in header["arms"]}
    assert header["arms"][0]["name"] == "vehicle" and arms["vehicle"]["tgi"] is None
    assert (header["control"], header["day"]) == ("vehicle", 30)
    assert arms["works"]["tgi"] > 100 > arms["slows"]["tgi"] > 0  # shrinking is more than no growth at all
    assert arms["slows"]["tgi_low"] < arms["slows"]["tgi"] < arms["slows"]["tgi_high"]
    alone, _ = unpack(GrowthCurves(planted_study.volumes()).frame_bytes)
    assert alone["day"] is None and {arm["tgi"] for arm in alone["arms"]} == {None}


def test_the_middle_is_drawn_while_half_are_measured() -> None:
    frame = planted_study.volumes({"arm": 0.05})
    left = frame.filter((pl.col("time_h") <= 24 * 15) | pl.col("subject").is_in(["arm 0", "arm 1"]))
    curves = GrowthCurves(left)._curves
    found = middles(curves)
    assert found["grid_day"].max() == 15  # two of six go on: too few
    assert found["median"][0] == pytest.approx(200) and found["low"][-1] < found["mean"][-1] < found["high"][-1]
    rates = 0.05 * (0.9 + 0.04 * np.arange(6))
    # the geometric mean is that of volume + 1
    assert found["mean"][-1] == pytest.approx(np.exp(np.log1p(200 * np.exp(rates * 15)).mean()) - 1)


def test_calls_given_go_before_calls_made() -> None:
    given = pl.DataFrame({"subject": ["works 0"], "treatment": ["works"], "call": ["CR"]})
    shown = GrowthCurves(planted_study.volumes(), given).shown
    assert shown.filter(pl.col("call").is_not_null()).select("subject", "call").rows() == [("works 0", "CR")]


def test_a_tumour_of_nothing_and_a_short_curve_are_not_judged() -> None:
    frame = planted_study.volumes({"arm": 0.05}).filter((pl.col("subject") != "arm 1") | (pl.col("time_h") < 24 * 9))
    frame = frame.with_columns(value=pl.when(pl.col("subject") == "arm 0").then(0.0).otherwise("value"))
    shown = GrowthCurves(frame).shown.sort("subject")
    assert shown["call"].to_list() == [None, None, "PD", "PD", "PD", "PD"]
    assert shown["best"].null_count() == 2


def test_arms_are_picked_and_unknown_ones_refused() -> None:
    widget = GrowthCurves(planted_study.volumes())
    widget.arms = ["works"]
    assert widget.shown["subject"].to_list() == [f"works {k}" for k in range(6)]
    with pytest.raises(traitlets.TraitError, match="Did you mean 'works'"):
        widget.arms = ["work"]
    with pytest.raises(TableError, match="Did you mean 'vehicle'"):
        GrowthCurves(planted_study.volumes(), control="vehicel")
    mixed = planted_study.volumes().with_columns(
        unit=pl.when(pl.col("time_h") > 0).then(pl.lit("mm3")).otherwise(pl.lit("cm3"))
    )
    with pytest.raises(TableError, match="one unit, found"):
        GrowthCurves(mixed)


def test_a_tissue_is_looked_at_alone() -> None:
    names = [f"{arm} {k}" for arm in planted_study.RATES for k in range(6)]
    tissue = ["lung" if int(name[-1]) < 3 else planted.HOSTILE for name in names]
    subjects = pl.DataFrame({"subject": names, "tissue": tissue})
    widget = GrowthCurves(planted_study.volumes(), control="vehicle", subjects=subjects)
    header, columns = unpack(widget.frame_bytes)
    assert sorted((t["name"], t["n"]) for t in header["tissues"]) == sorted([("lung", 9), (planted.HOSTILE, 9)])
    assert (header["total"], len(columns["arm_of"])) == (18, 18)
    whole = {arm["name"]: arm["tgi"] for arm in header["arms"]}
    widget.arms = ["works"]
    widget.tissue = "lung"
    header, columns = unpack(widget.frame_bytes)
    assert widget.arms == ["works"] and header["total"] == 18 and len(columns["arm_of"]) == 9
    assert set(widget.shown["subject"]) == {"works 0", "works 1", "works 2"}
    slow = {arm["name"]: arm["tgi"] for arm in header["arms"]}
    assert slow["slows"] != whole["slows"]  # against the controls of this tissue
    with pytest.raises(traitlets.TraitError, match="Did you mean 'lung'"):
        widget.tissue = "lungs"
    alone, _ = unpack(GrowthCurves(planted_study.volumes()).frame_bytes)
    assert alone["tissues"] == []


def test_days_measured_twice_are_averaged_and_named() -> None:
    frame = planted_study.volumes()
    again = frame.filter((pl.col("subject") == "works 0") & (pl.col("time_h") == 0)).with_columns(value=pl.lit(400.0))
    twice = GrowthCurves(pl.concat([frame, again]))
    header, _ = unpack(twice.frame_bytes)
    assert "Measured more than once on 1 day, of which the mean is drawn: works 0." in header["how"]
    assert twice._curves.filter(subject="works 0")["volume"][0][0] == 300
    assert "more than once" not in unpack(GrowthCurves(frame).frame_bytes)[0]["how"]


def test_no_tumours_make_an_empty_widget() -> None:
    for frame in (empty(OUTCOMES), planted_study.points()):
        assert unpack(GrowthCurves(frame).frame_bytes)[0]["arms"] == []


def test_selection_goes_both_ways_and_hostile_names_are_names() -> None:
    selection = Selection()
    widget = GrowthCurves(planted_study.volumes({planted.HOSTILE: 0.1}), selection=selection, title=planted.HOSTILE)
    assert widget.arms == [planted.HOSTILE]
    widget.selected = [f"{planted.HOSTILE} 3"]
    assert (selection.subjects, selection.by) == ([f"{planted.HOSTILE} 3"], "GrowthCurves")
    selection.select([], by="lasso")
    assert widget.selected == []


def test_published_mouse_trials_are_drawn_quickly() -> None:
    file = shared("pdx/growthData_BreastCancer.csv")
    raw = pl.read_csv(file, infer_schema_length=None)
    frame = raw.select(
        subject="model.id", treatment="drug.join.name", endpoint=pl.lit("tumour_volume"), unit=pl.lit("mm3"),
        time_h=pl.col("time").cast(pl.Float64) * 24, value=pl.col("volume").cast(pl.Float64),
    )  # fmt: skip
    widget = GrowthCurves(frame, control="untreated")
    header, columns = unpack(widget.frame_bytes)
    assert len(header["arms"]) == raw["drug.join.name"].n_unique() and widget.arms[0] == "untreated"
    assert len(columns["arm_of"]) == raw.select("model.id", "drug.join.name").n_unique()
