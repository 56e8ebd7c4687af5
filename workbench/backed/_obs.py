"""Columns of an h5ad's ``obs`` as polars series, one at a time, without pandas."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import polars as pl

from workbench.formats import FormatError

SLICE = 100_000  # rows of text that are Python objects at one time


def names(group: h5py.Group, file: str) -> pl.Series:
    """The index of an AnnData frame, as text."""
    key = group.attrs.get("_index", "_index")
    if key not in group:
        raise FormatError(file, group.name, f"expected an index column {key!r}, found none")
    return column(group, str(key), file).cast(pl.String)


def columns(group: h5py.Group) -> list[str]:
    """Names of the columns, in the order they were written."""
    return [str(name) for name in group.attrs.get("column-order", [])]


def column(group: h5py.Group, name: str, file: str) -> pl.Series:
    """One column: numbers, Booleans, text (String) or categories (Enum in the file's order)."""
    item = group[name]
    if isinstance(item, h5py.Dataset):
        return pl.Series(name, _values(item))
    kind = item.attrs.get("encoding-type")
    if kind == "categorical":
        codes, categories = coded(group, name, file)
        return (
            pl.Series(name, categories, dtype=pl.String)
            .gather(pl.Series(codes).replace(-1, None).cast(pl.UInt32))
            .cast(pl.Enum(categories))
        )
    if "values" in item and "mask" in item:
        values = pl.Series(name, _values(item["values"]))
        return values.to_frame().select(pl.when(~pl.Series("mask", item["mask"][:])).then(pl.col(name)))[name]
    raise FormatError(file, item.name, f"a column of encoding {kind!r} is not known here")


def coded(group: h5py.Group, name: str, file: str) -> tuple[np.ndarray, list[str]]:
    """Codes (n,) int32 with -1 for missing, and the categories they count, as text.

    Categories keep the file's order; text and numbers that are no categories are counted in sorted order.
    """
    item = group[name]
    if not isinstance(item, h5py.Group) or item.attrs.get("encoding-type") != "categorical":
        values = column(group, name, file).cast(pl.String)
        categories = sorted(values.drop_nulls().unique().to_list())
        found = values.cast(pl.Enum(categories)).to_physical().cast(pl.Int32).fill_null(-1)
        return found.to_numpy(), categories
    codes = item["codes"][:].astype(np.int32)
    stored = item["categories"]
    stored = stored["values"] if isinstance(stored, h5py.Group) else stored
    categories = pl.Series(_values(stored)).cast(pl.String).to_list()
    if codes.size and not (codes.min() >= -1 and codes.max() < len(categories)):
        raise FormatError(file, item.name, f"codes from {codes.min()} to {codes.max()} of {len(categories)} categories")
    if len(set(categories)) != len(categories):
        raise FormatError(file, item.name, "a category is listed twice")
    return codes, categories


def text(value: Any) -> str:
    """A scalar of ``uns`` as text."""
    value = value[()] if isinstance(value, h5py.Dataset) else value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _values(item: h5py.Dataset) -> Any:
    if h5py.check_string_dtype(item.dtype) is None:
        return item[:]
    reader = item.asstr(errors="replace")
    pieces = [pl.Series(reader[at : at + SLICE].tolist(), dtype=pl.String) for at in range(0, len(item), SLICE)]
    return pl.concat(pieces) if pieces else pl.Series([], dtype=pl.String)
