"""How reliable each of three studies is, from their three agreements alone.

    rel_a = r_ab r_ac / r_bc        (and so on round; method of triads, Ocke and Kaaks 1997)

Two studies give only the product of their reliabilities; a third tells which of them is the noisier. What any two
share besides the truth (one laboratory, one assay) counts as truth, and makes those two look better than the third.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from workbench import score
from workbench.ceiling._repeat import bounds, shared_pairs
from workbench.study import Study

FEWEST_LINES = 30  # that all three measured with a drug


def reliabilities(
    studies: tuple[Study, Study, Study], endpoint: str, *, draws: int = 1000, seed: int = 0
) -> pl.DataFrame:
    """Share of the variance within drugs that is not error, for each of three studies.

    Taken over the pairs all three measured, each study's drug means over them removed, drugs with at least 30 lines.

    Returns
    -------
    frame study, reliability, low, high (95 %, bootstrap over lines), ceiling (its root), n (pairs), drugs. A value
    above 1, or a null one, says that the three do not fit the model.

    Raises
    ------
    ValueError
        Two are the same study, units differ, or no drug was measured by all three on 30 lines.
    """
    first, *rest = studies
    one, two = (shared_pairs(first, other, endpoint) for other in rest)
    three = one.join(two.select("row", third="other_value"), on="row").filter(
        pl.len().over("treatment") >= FEWEST_LINES
    )
    if three.is_empty() or rest[0].digest == rest[1].digest:
        names = ", ".join(s.name for s in studies)
        raise ValueError(f"{names}: no drug that all three measured on {FEWEST_LINES} lines; three studies are needed.")
    columns = ("value", "other_value", "third")
    three = three.with_columns(pl.col(c) - pl.col(c).mean().over("treatment") for c in columns)
    lines, u = np.unique(three["subject"].to_numpy(), return_inverse=True)
    w = score.weights(len(lines), draws, seed)
    whole = pl.repeat("all", three.height, eager=True)
    ab, ac, bc = (
        score.within_drugs(whole, u, three[x].to_numpy(), three[y].to_numpy(), len(lines), w)[3][:, 0]
        for x, y in (columns[:2], columns[::2], columns[1:])
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.stack([ab * ac / bc, ab * bc / ac, ac * bc / ab], axis=1)
    found = np.where((np.stack([ab, ac, bc], axis=1) > 0).all(1, keepdims=True), found, np.nan)
    low, high = bounds(found[1:])
    return pl.DataFrame(
        {
            "study": [s.name for s in studies],
            "reliability": found[0],
            "low": low,
            "high": high,
            "ceiling": np.sqrt(found[0]),
            "n": three.height,
            "drugs": three["treatment"].n_unique(),
        }
    ).with_columns(pl.col("reliability", "low", "high", "ceiling").fill_nan(None))
