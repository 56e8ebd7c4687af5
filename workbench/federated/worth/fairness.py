"""What a federation gains as a whole, and how even that is: mean over sites, by rows, the worst site, the gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench.federated.worth.measured import Found
from workbench.score import BETTER

KEYS = ("predictor", "split", "arm", "metric")
_F = pl.Float64()
OVERALL = {  # every gain is turned so that positive is good
    **dict.fromkeys(KEYS, pl.String()), "sites": pl.Int64(), "joined": pl.Int64(),
    "gain": _F, "low": _F, "high": _F,  # mean over sites, each counting once; 95 %, bootstrap within sites
    "by_rows": _F,  # the same, each site by the training rows it brought; null where those are not known
    "best_site": pl.String(), "best": _F, "worst_site": pl.String(), "worst": _F,
    "gap_alone": _F, "gap": _F,  # the best site's score less the worst one's, before and after
    "spearman": _F,  # of rows brought and gain: does who gives more get more? null under 3 sites
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One site's: predictor, split, site, arm and metric; score alone and in the arm; their difference."""

    where: dict[str, str]
    alone: float
    value: float
    difference: Found


def overall(parts: Sequence[Part], verdicts: pl.DataFrame) -> pl.DataFrame:
    """One row a predictor, split, arm and metric (columns: ``OVERALL``)."""
    from workbench.federated.worth.verdict import JOIN

    brought = dict(verdicts.select("site", "rows").iter_rows())
    groups: dict[tuple[str, ...], list[Part]] = {}
    for part in parts:
        groups.setdefault(tuple(part.where[k] for k in KEYS), []).append(part)
    rows = []
    for key, some in groups.items():
        sign = BETTER[key[-1]]
        gains = {p.where["site"]: sign * p.difference.value for p in some}
        draws = np.mean([sign * p.difference.draws for p in some], axis=0)
        mean = Found(float(np.mean(list(gains.values()))), draws, sum(p.difference.units for p in some))
        low, high = mean.interval()
        weights = [brought.get(s) for s in gains]
        known = all(w is not None for w in weights) and sum(w or 0 for w in weights) > 0
        best, worst = max(gains, key=lambda s: gains[s]), min(gains, key=lambda s: gains[s])
        alone, after = [p.alone for p in some], [p.value for p in some]
        joined = verdicts.filter(pl.col("verdict") == JOIN, **dict(zip(KEYS[:3], key[:3], strict=True))).height
        rows.append({
            **dict(zip(KEYS, key, strict=True)), "sites": len(some), "joined": joined,
            "gain": mean.value, "low": low, "high": high,
            "by_rows": float(np.average(list(gains.values()), weights=[w or 0.0 for w in weights])) if known else None,
            "best_site": best, "best": gains[best], "worst_site": worst, "worst": gains[worst],
            "gap_alone": max(alone) - min(alone), "gap": max(after) - min(after),
            "spearman": _rank_correlation(weights, list(gains.values())) if known and len(some) > 2 else None,
        })  # fmt: skip
    return pl.DataFrame(rows, schema=OVERALL).with_columns(pl.col(pl.Float64).fill_nan(None))


def _rank_correlation(a: Sequence[float | None], b: Sequence[float]) -> float:
    frame = pl.DataFrame({"a": a, "b": b}).select(pl.corr(pl.col("a").rank(), pl.col("b").rank()))
    return float(frame.item())
