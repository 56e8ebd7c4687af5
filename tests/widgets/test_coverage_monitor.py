"""CoverageMonitor without a front end: what crosses to the page, what is chosen, what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import traitlets

from tests.widgets import planted
from widgets import CoverageMonitor
from widgets._parts import unpack
from workbench.tables import COVERAGE, TableError, empty


def coverage(names: tuple[str, ...] = ("lung", "skin", "blood"), intervals: str = "as recorded") -> pl.DataFrame:
    """COVERAGE of all rows and three tissues, the last of which breaks."""
    rows = [("all", "all rows", 0.9, "holds"), *[("tissue", n, 0.91, "holds") for n in names]]
    rows[-1] = ("tissue", names[-1], 0.7, "breaks")
    return pl.DataFrame(
        [
            ("ridge", "unseen subject", intervals, by, name, 0, "subject", 0.9, 300, 30, c, c - 0.05, c + 0.05, 0.02,
             0.98 - c, 3.5, 0.0, 0.01, 0.02, verdict)
            for by, name, c, verdict in rows
        ],
        schema=dict(COVERAGE.columns), orient="row",
    )  # fmt: skip


def test_the_table_crosses_whole_and_breaks_are_at_hand() -> None:
    monitor = CoverageMonitor(coverage())
    header, columns = unpack(monitor.frame_bytes)
    assert [header["names"][i] for i in columns["name"]] == ["all rows", "lung", "skin", "blood"]
    assert columns["covered"] == pytest.approx([0.9, 0.91, 0.91, 0.7])
    assert [header["verdicts"][v] for v in columns["verdict"]] == ["holds", "holds", "holds", "breaks"]
    assert [header["kinds"][k] for k in columns["kind"]] == ["all", "tissue", "tissue", "tissue"]
    assert (monitor.predictor, monitor.by, monitor.intervals, monitor.beside) == ("ridge", "tissue", "as recorded", "")
    assert monitor.shown["name"].to_list() == ["lung", "skin", "blood"]
    assert monitor.breaks["name"].to_list() == ["blood"]
    monitor.by = "all"
    assert monitor.shown.height == 1 and monitor.breaks.is_empty()


def test_other_intervals_stand_beside_and_unknown_ones_are_refused() -> None:
    monitor = CoverageMonitor(pl.concat([coverage(), coverage(intervals="weighted")]))
    monitor.beside = "weighted"
    monitor.beside = ""
    for trait, value in (("intervals", "weigthed"), ("beside", "none"), ("by", "drug"), ("predictor", "")):
        with pytest.raises(traitlets.TraitError, match=f"{trait} '{value}' is not among the"):
            setattr(monitor, trait, value)
    assert (monitor.intervals, monitor.beside, monitor.by) == ("as recorded", "", "tissue")


def test_what_is_unknown_crosses_as_no_number() -> None:
    frame = coverage().with_columns(pl.lit(None, pl.Float64).alias("width"), pl.lit(None, pl.Float64).alias("low"))
    _, columns = unpack(CoverageMonitor(frame).frame_bytes)
    assert np.isnan(columns["width"]).all() and np.isnan(columns["low"]).all()


def test_an_empty_table_is_shown_and_another_table_is_refused() -> None:
    monitor = CoverageMonitor(empty(COVERAGE))
    assert monitor.shown.is_empty() and monitor.by == ""
    with pytest.raises(TableError, match=r"column 'covered' .* is missing"):
        CoverageMonitor(coverage().drop("covered"))
    with pytest.raises(TableError, match="verdict 'fine' is not known"):
        CoverageMonitor(coverage().with_columns(verdict=pl.lit("fine")))


def test_a_hostile_name_is_text_in_the_header() -> None:
    header, _ = unpack(CoverageMonitor(coverage((planted.HOSTILE, "skin", "blood"))).frame_bytes)
    assert planted.HOSTILE in header["names"]
