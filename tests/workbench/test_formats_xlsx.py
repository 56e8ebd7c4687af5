"""Workbooks: values as they stand, every doubt noted, every known attack refused before the workbook is parsed."""

from __future__ import annotations

import datetime
import io
import zipfile

import openpyxl
import pytest

from tests.samples import SAMPLES
from workbench.formats import FormatError, _archive, table, xlsx

SHEET = "xl/worksheets/sheet1.xml"


def repacked(change: dict[str, bytes | None], stored: bool = False) -> bytes:
    """The sample with members replaced, added or (None) taken out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(SAMPLES["xlsx"]())) as old, zipfile.ZipFile(out, "w") as new:
        names = [n for n in old.namelist() if n not in change]
        for name, content in [*((n, old.read(n)) for n in names), *change.items()]:
            if content is not None:
                new.writestr(name, content, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    return out.getvalue()


def sheet(inside: str, size: str = "A1:B2") -> bytes:
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{space}"><dimension ref="{size}"/><sheetData>{inside}</sheetData></worksheet>'.encode()


def test_sheets_are_grids_of_text_that_lose_no_digit() -> None:
    read = xlsx.read(SAMPLES["xlsx"](), "x.xlsx")
    assert read["values"].rows() == [(1, "name", "value"), (2, "x", "0.1"), (3, "007", "1e-12"), (4, "y", "6")]
    assert read["more"].rows() == [(3, "4")]
    assert read["/unread"].height == 0
    assert table.frame(read["values"], "x.xlsx", "values")["table"].rows() == [
        ("x", "0.1"),
        ("007", "1e-12"),
        ("y", "6"),
    ]
    assert list(xlsx.read(SAMPLES["xlsx"](), "x.xlsx", sheet="more")) == ["more", "/unread"]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-15, 5e-324, 123456789.123, 6.02214076e23, -2.5e-7, 3, 0.0])
def test_a_number_comes_back_exactly(value: float) -> None:
    book = openpyxl.Workbook()
    book.active.append(["v"])
    book.active.append([value])
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as archive:
        stored = archive.read(SHEET).split(b"<v>")[-1].split(b"<")[0]
    read = xlsx.read(buffer.getvalue(), "x.xlsx")["Sheet"]["1"][1]
    assert float(read) == float(stored)


def test_errors_dates_and_hidden_sheets_are_said() -> None:
    book = openpyxl.Workbook()
    book.active.append(["when", "what", "sum"])
    book.active.append([datetime.datetime(2020, 1, 2), True, 1])
    book.active["C3"] = "#DIV/0!"
    book.active["C3"].data_type = "e"
    hidden = book.create_sheet("kept back")
    hidden.sheet_state = "hidden"
    hidden["A1"] = 5
    book.create_sheet("nothing")
    buffer = io.BytesIO()
    book.save(buffer)
    read = xlsx.read(buffer.getvalue(), "x.xlsx")
    assert read["Sheet"].rows()[1] == (2, "2020-01-02 00:00:00", "true", "1")
    assert read["/unread"].rows() == [
        ("member 'xl/worksheets/sheet1.xml', cell C3", "holds the error #DIV/0!"),
        ("sheet 'kept back'", "is hidden; it was read"),
        ("sheet 'nothing'", "is empty"),
    ]


def test_a_link_to_another_workbook_is_not_followed_and_said() -> None:
    read = xlsx.read(repacked({"xl/externalLinks/externalLink1.xml": b"<externalLink/>"}), "x.xlsx")
    assert read["values"].height == 4
    assert [p for p, _ in read["/unread"].rows()] == ["member 'xl/externalLinks/externalLink1.xml'"]
    assert "not followed" in read["/unread"]["reason"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xl/vbaProject.bin": b"macro"}, r"member 'xl/vbaProject.bin': holds macros"),
        ({"../../evil.txt": b"x"}, "leads out of the archive's folder"),
        ({"/etc/evil": b"x"}, "leads out of the archive's folder"),
        ({"C:\\evil.txt": b"x"}, "leads out of the archive's folder"),
        ({"xl/Workbook.xml": b"x"}, "the name stands twice"),
        ({"xl/workbook.xml": None}, r"member 'xl/workbook.xml': is missing: a zip archive, but no Excel workbook"),
        ({"xl/media/big.bin": b"\0" * 50_000_000}, "declares 50,000,000 bytes .*refused as a bomb"),
        ({SHEET: b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + sheet("")}, "declares a document type or entities"),
        ({SHEET: sheet("").decode().encode("utf-16")}, "found UTF-16"),
        (
            {
                SHEET: sheet(
                    '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
                )
            },
            "reaches over 16384 columns x 1048576 rows",
        ),
    ],
)
def test_hostile_workbooks_are_refused(change: dict[str, bytes | None], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        xlsx.read(repacked(change), "x.xlsx")


def test_a_member_that_holds_more_than_it_declares_is_refused() -> None:
    """The directory says 10 bytes; the stream goes on."""
    data = bytearray(repacked({"xl/media/a.bin": b"a" * 5000}, stored=True))
    real = (5000).to_bytes(4, "little")
    at = data.rfind(b"xl/media/a.bin") - 46
    assert data[at : at + 4] == b"PK\x01\x02" and data[at + 24 : at + 28] == real
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    with pytest.raises(FormatError, match=r"member 'xl/media/a.bin'"):
        xlsx.read(bytes(data), "x.xlsx")


def test_members_that_share_bytes_are_refused() -> None:
    """The overlap behind the densest known zip bombs: two directory entries for one stream."""
    data = bytearray(repacked({"xl/media/a.bin": b"a" * 100, "xl/media/b.bin": b"a" * 100}, stored=True))
    first, second = data.rfind(b"xl/media/a.bin") - 46, data.rfind(b"xl/media/b.bin") - 46
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    with pytest.raises(FormatError, match=r"shares its bytes with another member|is damaged"):
        xlsx.read(bytes(data), "x.xlsx")


def test_an_encrypted_member_is_refused() -> None:
    data = bytearray(SAMPLES["xlsx"]())
    at = data.rfind(b"PK\x01\x02")
    data[at + 8] |= 1
    with pytest.raises(FormatError, match="is encrypted"):
        xlsx.read(bytes(data), "x.xlsx")


def test_a_clean_archive_passes_and_a_cut_one_does_not() -> None:
    whole = SAMPLES["xlsx"]()
    assert "xl/workbook.xml" in _archive.members(whole, "x.xlsx", "an Excel workbook")
    for length in (100, len(whole) // 2, len(whole) - 10):
        with pytest.raises(FormatError, match=r"^x\.xlsx, "):
            xlsx.read(whole[:length], "x.xlsx")


def test_other_content_under_the_name_is_refused() -> None:
    for kind, found in (("h5ad", "HDF5"), ("parquet", "parquet"), ("table", "text")):
        with pytest.raises(FormatError, match=f"expected a zip archive .an Excel workbook., found {found}"):
            xlsx.read(SAMPLES[kind](), "x.xlsx")


def test_no_such_sheet() -> None:
    with pytest.raises(FormatError, match=r"sheet 'sums': is not there; the sheets are \['values', 'more'\]"):
        xlsx.read(SAMPLES["xlsx"](), "x.xlsx", sheet="sums")
