"""SAS transport files: equal to a second reader on real files, exact on written ones; damage is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests import transport
from tests.real import REAL, shared
from workbench.formats import FormatError, xpt

FILES = sorted(p.relative_to(REAL) for place in ("send", "clinical") for p in (REAL / place).rglob("*.xpt"))


FOLDERS = ["PDS", "PointCross", "CDISC-Safety-Pharmacology-POC", "CBER-POC-Pilot-Study2-Vaccine"]


@pytest.mark.parametrize("folder", [*(f"send/{f}" for f in FOLDERS), "clinical/sdtm", "clinical/adam"])
def test_real_files_agree_with_pyreadstat(folder: str) -> None:
    import pyreadstat

    paths = sorted(shared(folder).glob("*.xpt"))
    assert paths
    for path in paths:
        got = xpt.read(path.read_bytes(), path.name)
        theirs, facts = pyreadstat.read_xport(str(path), disable_datetime_conversion=True)
        ((name, frame),) = got["members"].items()
        assert name == facts.table_name
        assert frame.columns == facts.column_names and frame.height == len(theirs)
        assert got["columns"]["label"].to_list() == [label or "" for label in facts.column_labels]
        for column in frame.columns:
            values = frame[column]
            if values.dtype == pl.String:
                assert values.to_list() == theirs[column].fillna("").tolist(), (path.name, column)
            else:  # the other reader cuts the last bit of the fraction where this one rounds it
                ours, others = values.fill_null(math.nan).to_numpy(), theirs[column].to_numpy(float)
                np.testing.assert_array_max_ulp(ours[~np.isnan(ours)], others[~np.isnan(others)], maxulp=1)
                np.testing.assert_array_equal(np.isnan(ours), np.isnan(others))


def test_numbers_are_rounded_to_the_nearest_and_lie_at_those_written_beside_them_as_text():
    """Body weights stand in the file as text and as IBM numbers, whose last bits its writer has cut off in part."""
    import pyreadstat

    path = shared("send/PDS") / "bw.xpt"
    frame = xpt.read(path.read_bytes(), "bw.xpt")["members"]["BW"]
    theirs = pl.Series(pyreadstat.read_xport(str(path))[0]["BWSTRESN"].to_numpy(float))
    both = frame.with_columns(theirs.alias("cut")).filter(pl.col("BWSTRESN").is_not_null())
    written = both["BWSTRESC"].cast(pl.Float64)
    np.testing.assert_array_max_ulp(written.to_numpy(), both["BWSTRESN"].to_numpy(), maxulp=1)
    assert (both.height, (written == both["BWSTRESN"]).sum(), (written == both["cut"]).sum()) == (4067, 3164, 2415)


# --- written files ----------------------------------------


def one(columns: list[transport.Column]) -> pl.DataFrame:
    return xpt.read(transport.write({"DM": columns}), "dm.xpt")["members"]["DM"]


NUMBERS = [0.0, 1.0, -1.0, 0.1, 1 / 3, 1e-60, -1e60, 2.0**53 + 1, 65536.0, 1e-5, math.pi, 255.9999]


def test_numbers_of_eight_bytes_are_exact():
    assert one([("X", "", -8, NUMBERS)])["X"].to_list() == NUMBERS


@pytest.mark.parametrize("width", range(2, 9))
def test_shorter_numbers_have_lost_their_last_bytes_and_nothing_else(width: int) -> None:
    found = one([("X", "", -width, NUMBERS), ("Y", "", 3, ["abc"] * len(NUMBERS))])
    for value, back in zip(NUMBERS, found["X"], strict=True):
        assert back == pytest.approx(value, rel=16.0 ** (2 - 2 * (width - 1) + 1) if width < 8 else 0, abs=0)
    assert found["Y"].unique().to_list() == ["abc"]
    assert one([("X", "", -width, [1.0, -3.0, 0.5])])["X"].to_list() == [1.0, -3.0, 0.5]


def test_all_missing_values_are_null_and_a_number_that_begins_like_one_is_a_number():
    letters = [".", "_", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    assert one([("X", "", -8, letters)])["X"].null_count() == 28
    assert one([("X", "", -2, letters)])["X"].null_count() == 28
    assert one([("X", "", -8, [1.0, 5.5, 16.0, 1e3])])["X"].to_list() == [1.0, 5.5, 16.0, 1e3]  # 0x41, 0x42, 0x43


def test_text_is_trimmed_at_its_end_alone_and_may_be_utf8_or_latin():
    columns = [
        ("A", "", 8, ["x", "", "  y ", "a\0"]),
        ("B", "", 12, ["\u00b5g/mL \u2265", "", "z", "w"]),
        ("C", "", 6, [b"\xb5g/mL", b"", b"\x93q\x94", b"w"]),
    ]
    frame = one(columns)
    assert frame["A"].to_list() == ["x", "", "  y", "a"]
    assert frame["B"].to_list() == ["\u00b5g/mL \u2265", "", "z", "w"]
    assert frame["C"].to_list() == ["\u00b5g/mL", "", "\u201cq\u201d", "w"]


def test_several_data_sets_labels_widths_and_an_empty_one():
    members = {
        "DM": [("A", "Label of A", 3, ["x"] * 5)],
        "LB": [("B", "", -8, [])],
        "MI": [("C", "", 200, ["y" * 200])],
    }
    got = xpt.read(transport.write(members, label="Title"), "x.xpt")
    assert {n: f.shape for n, f in got["members"].items()} == {"DM": (5, 1), "LB": (0, 1), "MI": (1, 1)}
    assert got["labels"] == dict.fromkeys(members, "Title")
    assert got["columns"].rows() == [
        ("DM", "A", "Label of A", "", "text", 3), ("LB", "B", "", "", "number", 8), ("MI", "C", "", "", "text", 200),
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 26, 27, 53, 80])
@pytest.mark.parametrize("width", [1, 3, 79, 80, 81])
def test_padding_is_no_row(rows: int, width: int) -> None:
    assert one([("A", "", width, ["x"] * rows)]).height == rows


def test_blank_rows_before_the_end_stay():
    assert one([("A", "", 3, ["", "", "x"])])["A"].to_list() == ["", "", "x"]
    assert one([("A", "", 100, ["x", "", ""])]).height == 3, "too long to be padding"


# --- damage ----------------------------------------

GOOD = transport.write({"DM": [("A", "", 50, ["x" * 50] * 9), ("N", "", -8, list(range(9)))]})
NAMESTRS = 8 * 80


def changed(at: int, new: bytes) -> bytes:
    return GOOD[:at] + new + GOOD[at + len(new) :]


@pytest.mark.parametrize(
    ("data", "place", "reason"),
    [
        (b"", "byte 0", "expected the header of a SAS transport file"),
        (b"PK\3\4", "byte 0", "expected the header of a SAS transport file"),
        (GOOD.replace(b"LIBRARY HEADER", b"LIBV8   HEADER", 1), "byte 0", "found version 8"),
        (GOOD[:-1], "end", "the file is cut or spliced"),
        (GOOD[:-80], "data set 'DM', row 9", "expected 58 bytes"),
        (GOOD[: 3 * 80], "byte 240", "expected a data set"),
        (GOOD[: 6 * 80], "byte 560", "expected the NAMESTR header"),
        (changed(240 + 74, b"0999"), "byte 314", "descriptions of 140 bytes, found 999"),
        (changed(7 * 80 + 54, b"0009"), "byte 640", "9 columns are announced"),
        (changed(7 * 80 + 54, b"00-1"), "byte 614", "expected the number of columns"),
        (changed(7 * 80 + 54, b"0000"), "byte 640", "has no columns"),
        (changed(NAMESTRS, b"\0\3"), "column description at byte 640", "found 3"),
        (changed(NAMESTRS + 4, b"\0\0"), "column description at byte 640", "found 0, 0"),
        (changed(NAMESTRS + 4, b"\x7f\xff"), "data set 'DM', descriptions at byte 640", "should begin at byte 32767"),
        (changed(NAMESTRS + 140 + 4, b"\0\x09"), "column description at byte 780", "2 to 8 bytes, found 9"),
        (changed(NAMESTRS + 140 + 84, b"\xff\xff\xff\xff"), "column description at byte 780", "found 8, -1"),
        (changed(NAMESTRS + 140 + 84, b"\0\0\0\x09"), "data set 'DM', descriptions at byte 640", "byte 50 of a row"),
        (changed(NAMESTRS + 140 + 8, b"A       "), "data set 'DM'", "column 'A' is described twice"),
        (changed(NAMESTRS + 8, b"        "), "column description at byte 640", "name of a column"),
        (GOOD + GOOD[240:], "byte 2400", "'DM' stands in the file twice"),
    ],
)  # fmt: skip
def test_damage_is_refused_by_its_place(data: bytes, place: str, reason: str) -> None:
    with pytest.raises(FormatError, match=r"dm\.xpt") as refusal:
        xpt.read(data, "dm.xpt")
    assert reason in refusal.value.reason
    assert refusal.value.place == place


def test_every_cut_is_refused_or_loses_whole_data_sets_only():
    for end in range(0, len(GOOD), 7):
        with pytest.raises(FormatError):
            xpt.read(GOOD[:end], "dm.xpt")


def test_the_list_of_real_files_is_not_empty_where_they_are():
    shared("send")
    assert len(FILES) == 93 and all(isinstance(f, Path) for f in FILES)
