"""Pairs of subject and treatment as a matrix and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl


def positions(column: pl.Series, names: Sequence[str]) -> np.ndarray:
    """Index of each cell of ``column`` in ``names``, -1 where unknown: int64 (n,)."""
    at = {name: i for i, name in enumerate(names)}
    distinct = column.cast(pl.String).unique()
    code = pl.DataFrame(
        {"name": distinct, "at": [at.get(n, -1) for n in distinct]}, schema={"name": pl.String, "at": pl.Int64}
    )
    joined = column.cast(pl.String).to_frame("name").join(code, on="name", how="left", maintain_order="left")
    return joined["at"].to_numpy(writable=True)  # torch refuses to share what it may not write


def matrix(pairs: pl.DataFrame, subjects: Sequence[str], treatments: Sequence[str]) -> np.ndarray:
    """Values as (subjects, treatments), NaN where none; repeated pairs are averaged."""
    s, d = positions(pairs["subject"], subjects), positions(pairs["treatment"], treatments)
    flat = s * len(treatments) + d
    size = len(subjects) * len(treatments)
    total, count = np.bincount(flat, pairs["value"].to_numpy(), size), np.bincount(flat, minlength=size)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(len(subjects), len(treatments))
