"""Parquet and CSV: from bytes to frames, and refusals that name the place."""

from __future__ import annotations

import polars as pl
import pyarrow.parquet
import pytest

from workbench.formats import FormatError, csv, parquet


def test_parquet_stores_codes_and_gives_text_back(tmp_path):
    frame = pl.DataFrame({"name": ["b", "a", None, "b"], "value": [1.0, 2.0, 3.0, 4.0]})
    data = parquet.write(frame, ("name",))
    assert parquet.read(data, "x.parquet").equals(frame)
    (tmp_path / "x.parquet").write_bytes(data)
    stored = pyarrow.parquet.ParquetFile(tmp_path / "x.parquet")
    assert "dictionary" in str(stored.schema_arrow.field("name").type)
    assert parquet.write(frame, ("name",)) == data


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[:-1], lambda d: b"PAR1" + b"\xff" * 40 + b"PAR1"])
def test_what_is_no_parquet_is_refused(damage):
    data = parquet.write(pl.DataFrame({"a": [1]}))
    with pytest.raises(FormatError, match=r"^x\.parquet, "):
        parquet.read(damage(data), "x.parquet")


COLUMNS: dict[str, type[pl.DataType]] = {"name": pl.String, "dose": pl.Float64}


def test_csv_takes_the_promised_columns_in_the_promised_order():
    frame = csv.read(b'dose,name\n1.5,"a, b"\n,<b>\n', "x.csv", COLUMNS)
    assert frame.schema == {"name": pl.String, "dose": pl.Float64}
    assert frame.rows() == [("a, b", 1.5), ("<b>", None)]
    assert csv.read(b"\xef\xbb\xbfname,dose\r\nx,2\r\n", "x.csv", COLUMNS).rows() == [("x", 2.0)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"name,does\nx,1\n", r"x\.csv, line 1: column 'dose' is missing.*Did you mean 'does'"),
        (b"name,dose,extra\nx,1,2\n", r"x\.csv, line 1: column 'extra' is unknown"),
        (b"name,dose\nx,1\ny,high\n", r"x\.csv, row 2 below the header, column 'dose': expected Float64, found 'high'"),
        (b"name,dose\nx,1,2,3\n", r"x\.csv, content"),
        (b"\xff\xfe", r"x\.csv, line 1: expected a header in UTF-8"),
        (b"", r"x\.csv, line 1"),
    ],
)
def test_csv_refusals_name_the_place(data, message):
    with pytest.raises(FormatError, match=message):
        csv.read(data, "x.csv", COLUMNS)
