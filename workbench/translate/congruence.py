"""The test of every adaptation: is the shift gone, is the biology kept, and the verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from workbench.translate import adapt, biology, shift
from workbench.translate.domains import Matched


def examine(
    matched: Matched,
    methods: Sequence[str] | None = None,
    *,
    labels: np.ndarray | None = None,
    permutations: int = 200,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row a method, and all evidence of the biology.

    Columns: method; told_apart, the AUROC of telling tumours from lines of their tissue, the better of by_levels and
    by_spread (and co-expression); chance_low, chance_high; kept_least, the smallest share of known biology left, and
    weakest, what that is; verdict.

    Parameters
    ----------
    labels : a known label of each tumour, such as its subtype; never the response
    """
    chosen = list(methods or adapt.METHODS)
    rows, evidence = [], []
    for i, method in enumerate(chosen):
        if progress is not None:
            progress(i / len(chosen), method)
        found = shift.measure(method, matched.lines, matched.tumours, permutations=permutations, seed=seed)
        kept = biology.measure(method, matched.lines, matched.tumours, labels=labels, seed=seed)
        counted = kept.filter(pl.col("counted")).sort("kept")
        rows.append(
            {
                "method": method,
                "told_apart": found.value,
                "by_levels": found.levels,
                "by_spread": found.spread,
                "chance_low": found.low,
                "chance_high": found.high,
                "kept_least": counted["kept"][0] if counted.height else None,
                "weakest": counted["evidence"][0] if counted.height else None,
                "verdict": biology.words(found, kept),
            }
        )
        evidence.append(kept.select(pl.lit(method).alias("method"), pl.all()))
    return pl.DataFrame(rows), pl.concat(evidence)
