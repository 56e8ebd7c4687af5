"""Sums of the measured values by treatment: what a mean and a standard deviation of the union are made of."""

from __future__ import annotations

import numpy as np
import polars as pl

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask

PLAIN = "For each treatment the server names: number, sum and sum of squares of its values; small counts are left out."
LEAVES = Leaves(
    arrays={"count": "rows by treatment", "sum": "sum of values", "square": "sum of squared values"}, summed=True
)


def answer(site, ask: Ask) -> Answer:
    """``count`` int64, ``sum`` and ``square`` float64, each (treatments,); censored values count as they stand."""
    wanted = ask.values.get("treatments", [])
    names = [str(t) for t in wanted] if isinstance(wanted, list) else []
    by = site.fold.train.group_by("treatment").agg(
        n=pl.len(), sum=pl.col("value").sum(), square=(pl.col("value") ** 2).sum()
    )
    told = by.filter(pl.col("n") >= site.policy.minimum_cell)
    of = {name: rest for name, *rest in told.iter_rows()}
    rows = [of.get(name, (0, 0.0, 0.0)) for name in names]
    count, total, square = (np.array([r[i] for r in rows]) for i in range(3))
    arrays = {
        "count": count.astype(np.int64), "sum": total.astype(np.float64), "square": square.astype(np.float64),
    }  # fmt: skip
    behind = site.fold.train.filter(pl.col("treatment").is_in(pl.Series(names, dtype=pl.String).implode()))
    return Answer(behind.height, arrays, behind=behind["row"].to_numpy())
