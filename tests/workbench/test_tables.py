"""The walls: frames with the columns they promise, or an error that names the table, the column and the cell."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from workbench import tables
from workbench.tables import METRICS, OUTCOMES, SUBJECTS, TABLES, TableError
from workbench.text import nearest


def outcomes(**changes: Any) -> pl.DataFrame:
    row = {
        "subject": ["s", "t"], "treatment": ["a", "b"], "site": "here", "dose": None, "dose_unit": None, "time_h": None,
        "endpoint": "ln_ic50", "value": [1.0, 2.0], "unit": "ln(uM)", "censored": 0, "source": "test",
    }  # fmt: skip
    return pl.DataFrame(row, schema=dict(OUTCOMES.columns)).with_columns(**changes)


def test_a_good_frame_passes_with_its_columns_in_order() -> None:
    frame = outcomes()
    assert tables.check(frame, OUTCOMES).equals(frame)
    assert tables.check(frame.select(reversed(frame.columns)), OUTCOMES).columns == frame.columns
    coded = frame.with_columns(pl.col("subject").cast(pl.Categorical), pl.col("unit").cast(pl.Enum(["ln(uM)"])))
    assert tables.check(coded, OUTCOMES).equals(coded)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (outcomes().drop("value"), r"table OUTCOMES: column 'value' \(Float64\) is missing; found \['subject'"),
        (outcomes().rename({"value": "valu"}), r"column 'value'.*Did you mean 'valu'"),
        (outcomes(value=pl.lit(1)), r"column 'value' should be Float64, found Int32\. Cast it"),
        (outcomes(extra=pl.lit(1)), r"unknown column 'extra'"),
        (outcomes(sourc=pl.lit("x")), r"unknown column 'sourc'\. Did you mean 'source'"),
        (
            outcomes(subject=pl.Series(["s", None])),
            r"column 'subject' has 1 empty cells, first in row 1\. Fill or drop them",
        ),
        (outcomes(value=pl.Series([1.0, float("nan")])), r"column 'value' holds nan in row 1; numbers only"),
        (outcomes(value=pl.Series([float("-inf"), 1.0])), r"column 'value' holds -inf in row 0"),
    ],
)
def test_a_bad_frame_is_named(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(TableError, match=message):
        tables.check(frame, OUTCOMES)


def test_an_open_table_takes_further_columns_and_puts_them_last() -> None:
    frame = pl.DataFrame({"age": [3], "tissue": ["lung"], "subject": ["s"]})
    assert tables.check(frame, SUBJECTS).columns == ["subject", "tissue", "age"]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda t: t.name)
def test_a_table_knows_itself(table: tables.Table) -> None:
    frame = tables.empty(table)
    assert tables.check(frame, table).columns == list(table.columns) and frame.height == 0
    assert table.required <= set(table.columns) and table.finite <= set(table.columns)
    assert TABLES[table.name] is table


def test_scores_carry_what_a_score_row_must() -> None:
    assert {"predictor", "split", "fold", "metric", "value", "low", "high", "naive"} <= set(METRICS.columns)


def test_nearest_names_what_was_meant_or_nothing() -> None:
    assert nearest("rigde", ["ridge", "trees"]) == " Did you mean 'ridge'?"
    assert nearest("zzz", ["ridge", "trees"]) == nearest("", []) == ""
