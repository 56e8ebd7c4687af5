"""Foreign text: tables, plates, SMILES and SDF. What is odd is read or noted with its place, never dropped."""

from __future__ import annotations

import gzip
import os
import pickle

import polars as pl
import pytest

from tests.samples import ETHANOL, SAMPLES
from workbench.formats import FormatError, plate, sdf, smiles, table


class Hostile:
    """What a pickle can do: run a command when it is opened."""

    def __reduce__(self):
        return os.system, ("true",)


# --- tables ----------------------------------------------------------------------------------------------------------


def test_a_table_is_text_first_and_numbers_on_request() -> None:
    read = table.read(SAMPLES["table"](), "t.csv")
    assert read["table"].rows() == [("A", "0,5", "two; words"), ("B", "10,25", None), ("C", "NA", 'a "quote"')]
    assert read["/unread"].height == 0
    dose = read["table"]["dose (uM)"]
    assert table.decimal([dose], "t.csv") == ","
    values, bad = table.numbers(dose, ",")
    assert values.to_list() == [0.5, 10.25, None] and bad == []
    assert table.numbers(dose, ".")[1] == [0, 1], "a comma is no point unless that was said"


@pytest.mark.parametrize(
    ("cells", "message"),
    [(["1,5", "2.5"], "mixed"), (["1,234", "5,678"], "thousands")],
)
def test_an_unclear_decimal_mark_is_refused(cells: list[str], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        table.decimal([pl.Series(cells)], "t.csv")
    assert table.decimal([pl.Series(["1.5", "2", "x, y"])], "t.csv") == "."


@pytest.mark.parametrize("text", ["1e400", "inf", "0x10", "1_000", "1 000", "5 mg", "--1", "1,5", "٣"])
def test_what_only_looks_like_a_number_is_none(text: str) -> None:
    values, bad = table.numbers(pl.Series([text, "2"]))
    assert values.to_list() == [None, 2.0] and bad == [0]


def test_ragged_rows_repeated_and_empty_names_are_noted_with_their_place() -> None:
    data = b"a,b,a,\n1,2,3,4\n1,2\n5,6,7,8\n1,2,3,4,5\n"
    read = table.read(data, "t.csv")
    assert read["table"].columns == ["a", "b", "a (2)", "column 4"]
    assert read["table"].rows() == [("1", "2", "3", "4"), ("5", "6", "7", "8")]
    assert read["/unread"].rows() == [
        ("line 1, column 3", "the name 'a' is used before: called 'a (2)'"),
        ("line 1, column 4", "has no name: called 'column 4'"),
        ("line 3", "expected 4 fields, found 2: left out"),
        ("line 5", "expected 4 fields, found 5: left out"),
    ]


def test_r_row_names_do_not_shift_the_header() -> None:
    """The trap: a header one field short moves every column by one."""
    read = table.read(b'"id","drug"\n"r1","X1","A"\n"r2","X2","B"\n', "t.csv")["table"]
    assert read.columns == ["row name", "id", "drug"]
    assert read["id"].to_list() == ["X1", "X2"]
    assert table.read(b'"","id"\n"r1","X1"\n', "t.csv")["table"].columns == ["row name", "id"]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("a,b\nµ,1\n".encode("utf-8-sig"), None),
        ("a,b\nµ,1\n".encode("utf-16"), None),
        ("a,b\nµ,1\n".encode("latin-1"), "latin-1"),
        (gzip.compress("a,b\nµ,1\n".encode()), None),
    ],
)
def test_encodings(data: bytes, encoding: str | None) -> None:
    read = table.read(data, "t.csv", encoding=encoding)
    assert read["table"].rows() == [("µ", "1")] and read["/unread"].height == 0


def test_windows_text_is_read_and_said() -> None:
    read = table.read("a,b\nµ,1\n".encode("cp1252"), "t.csv")
    assert read["table"]["a"].to_list() == ["µ"]
    assert read["/unread"].rows() == [("line 2", "byte 0xb5 is not UTF-8: the file was read as Windows-1252")]
    with pytest.raises(FormatError, match=r"t\.csv, line 2: byte 0x81"):
        table.read(b"a,b\n\x81,1\n", "t.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'a,b\n"open,1\nx,2\n', r"t\.csv, line 2: .*quote"),
        (b"a,b;c\n1,2;3\n", "cut the lines equally well"),
        (b"a,b\n\x001,2\n", "found binary"),
        (pickle.dumps(Hostile(), 0), "found a pickle"),
        (pickle.dumps(Hostile(), 4), "found a pickle"),
        (SAMPLES["xlsx"](), "found a zip archive: the content does not match the name"),
        (SAMPLES["h5ad"](), "found HDF5"),
        (SAMPLES["parquet"](), "found parquet"),
        (b"<!DOCTYPE html><html><body>not found</body></html>", "found HTML"),
        (b"%PDF-1.7\n", "found PDF"),
        (gzip.compress(b"a,b\n1,2\n")[:-9], "cut|damaged"),
        (gzip.compress(b"a,b\n1,2\n") + b"more", "something else follows"),
        (gzip.compress(pickle.dumps(Hostile(), 2)), "found a pickle"),
    ],
)
def test_what_is_no_table_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        table.read(data, "t.csv")


def test_a_gzip_bomb_is_refused_before_it_fills_memory() -> None:
    from workbench.formats import _kind

    with pytest.raises(FormatError, match="refused as a bomb"):
        _kind.gunzip(gzip.compress(b"0" * 50_000_000), "t.csv.gz", limit=10_000_000)
    assert _kind.gunzip(gzip.compress(b"ab") + gzip.compress(b"c"), "t.gz") == b"abc"


# --- plates ----------------------------------------------------------------------------------------------------------


def block(size: str, first: float = 0.0, columns: int = 12) -> str:
    head = "," + ",".join(str(c) for c in range(1, columns + 1))
    return "\n".join([head, *(f"{w}," + ",".join(f"{first + c:g}" for c in range(1, columns + 1)) for w in size)])


def test_a_block_of_wells_by_position() -> None:
    wells = plate.read(SAMPLES["plate"](), "p.txt")["wells"]
    assert wells.height == 96 and set(wells["size"]) == {96} and set(wells["block"]) == {"Plate 1"}
    by_well = dict(wells.select("well", "value").rows())
    assert (by_well["A01"], by_well["B03"], by_well["H12"]) == ("1.01", "2.03", "8.12")
    assert wells.filter(pl.col("well") == "B03")["place"].item() == "line 4, column 4"


def test_several_plates_of_two_sizes_in_one_file() -> None:
    text = f"Reader,X\nGain,3\n\nPlate one\n{block('ABCDEFGH')}\n\nPlate two\n{block('ABCDEFGHIJKLMNOP', 100, 24)}\n"
    wells = plate.read(text.encode(), "p.csv")["wells"]
    assert wells.group_by("block").len().sort("block").rows() == [("Plate one", 96), ("Plate two", 384)]
    assert wells.filter(block="Plate two", well="P24")["value"].item() == "124"


def test_a_block_without_all_its_rows_is_noted() -> None:
    text = f"One\n{block('ABCDEFGH')}\n\nTwo\n{block('ABCDEFG')}\n"
    read = plate.read(text.encode(), "p.csv")
    assert set(read["wells"]["block"]) == {"One"}
    said = "a header of 1 to 12 without its row 'H': the block is left out"
    assert read["/unread"].rows() == [("line 13, column 2", said)]


def test_wells_that_count_from_one_to_twelve_are_no_second_header() -> None:
    read = plate.read(block("ABCDEFGH").encode(), "p.csv")
    assert read["wells"].height == 96 and read["/unread"].height == 0
    assert read["wells"].filter(well="C07")["value"].item() == "7"


def test_a_long_table_of_wells() -> None:
    read = plate.read(b"Well,Signal\na1,5\nB12,6\nQ1,7\nA25,8\n", "p.csv")
    assert read["rows"].select("well", "Signal").rows() == [("A01", "5"), ("B12", "6")]
    assert [r for _, r in read["/unread"].rows()] == [
        "'Q1' is no well of a 96- or 384-well plate: left out",
        "'A25' is no well of a 96- or 384-well plate: left out",
    ]
    assert [plate.well(w) for w in ("p24", "A0", "A1B", "")] == ["P24", None, None, None]


def test_text_without_wells_is_no_plate() -> None:
    with pytest.raises(FormatError, match="expected a block of wells"):
        plate.read(b"a,b\n1,2\n", "p.csv")


# --- compounds -------------------------------------------------------------------------------------------------------


def test_smiles_are_parsed_and_failures_listed() -> None:
    read = smiles.read(b"id,CanonicalSMILES,IsomericSMILES\n1,OCC,OCC\n2,x,not one\n3,C,\n", "c.csv")
    assert read["table"]["smiles_canonical"].to_list() == ["CCO", None, None]
    assert read["/unread"].rows() == [
        ("row 2 below the header, column 'IsomericSMILES'", "SMILES cannot be parsed: 'not one'"),
        ("row 3 below the header, column 'IsomericSMILES'", "SMILES is empty"),
    ]
    assert smiles.read(b"id,CanonicalSMILES\n1,OCC\n", "c.csv", column="CanonicalSMILES")["table"].height == 1
    assert smiles.read(b"OCC ethanol\nC methane gas\n", "c.smi")["table"]["name"].to_list() == [
        "ethanol",
        "methane gas",
    ]
    for data, message in ((b"a,b\n1,2\n", "expected a column of SMILES"), (b"smiles\nqq\n", "not one SMILES")):
        with pytest.raises(FormatError, match=message):
            smiles.read(data, "c.csv")


def test_sdf_of_both_versions_with_data_items() -> None:
    read = sdf.read(SAMPLES["sdf"](), "c.sdf")
    assert read["table"].select("record", "name", "smiles", "version", "id").rows() == [
        (1, "ethanol", "CCO", "V2000", "7"),
        (2, None, "CC(N)=O", "V3000", "8"),
    ]
    assert read["/unread"].height == 0


def test_a_bad_molecule_leaves_the_others_readable() -> None:
    bad = ETHANOL.replace(" O   0", " Xx  0")
    five = ETHANOL.replace("1.2000    0.0000 O", "1.2000    0.0000 F").replace("  2  3  1  0", "  2  3  2  0")
    cut = ETHANOL.split("M  END")[0] + "$$$$\n"
    read = sdf.read((ETHANOL + bad + cut + five + ETHANOL).encode(), "c.sdf")
    assert read["table"]["record"].to_list() == [1, 5]
    assert [p for p, _ in read["/unread"].rows()] == ["record 2, line 15", "record 3, line 29", "record 4, line 39"]
    with pytest.raises(FormatError, match="not one molecule can be read"):
        sdf.read(bad.encode(), "c.sdf")


def test_a_script_in_a_name_stays_text() -> None:
    read = sdf.read(ETHANOL.replace("ethanol", "<script>alert(1)</script>").encode(), "c.sdf")
    assert read["table"]["name"].item() == "<script>alert(1)</script>"
