"""One way to judge: every metric beside the naive value, with a paired bootstrap interval over what was unseen.

    RMSE, MAE                         in the endpoint's unit
    Pearson                           over all rows: rewards knowing which drugs are strong, so look at it last
    normalised Pearson                after the mean effects of the training rows are taken from both sides
    per-drug Pearson, Spearman        mean over drugs with at least five answers; a constant prediction counts 0
    coverage, interval width          share of rows inside the interval, and its mean width

The bootstrap draws cell lines (subjects), or treatments where compounds or pairs of them were unseen; all predictors
of a fold share the draws, so differences are paired; two that answered different rows are compared on those shared.
What stands in several folds (a line, where pairs are unseen) is drawn for all folds at once.
Ranks of the Spearman metric are those of the full fold. A censored observation counts at its bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench import tables
from workbench.splits import COMBINATIONS, Fold

BETTER = {  # +1: larger is better, -1: smaller is better, 0: to be near its level
    "RMSE": -1,
    "MAE": -1,
    "Pearson": 1,
    "normalised Pearson": 1,
    "per-drug Pearson": 1,
    "per-drug Spearman": 1,
    "coverage": 0,
    "interval width": 0,
}
FEWEST = 5  # rows a drug needs for a correlation of its own
SAME = 1e-9
SILENT = 2e-3  # predictions that move less than this share of the observed spread beyond the baseline add nothing to it
NOT_PAIRED = "not comparable: no row that both answered"


def unseal(predictions: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    """The predictions with ``observed`` and ``censored`` filled from the fold's sealed targets."""
    targets = fold.observed(predictions)
    filled = predictions.drop("observed", "censored").join(targets, on="row", how="left", maintain_order="left")
    return tables.check(filled, tables.PREDICTIONS)


@dataclass(frozen=True)
class Draws:
    """Metrics of one predictor on one fold: ``value`` {metric: number}, ``draws`` {metric: (B,)}."""

    value: dict[str, float]
    draws: dict[str, np.ndarray]
    n: int
    abstained: int
    rows: np.ndarray  # sorted numbers of the rows answered


def resampled(split: str) -> str:
    """What the bootstrap draws for a split rule (also one judged elsewhere: "unseen treatment, in gdsc1")."""
    return "treatment" if split.split(", in ")[0] in ("unseen treatment", *COMBINATIONS) else "subject"


def weights(units: int, draws: int, seed: int) -> np.ndarray:
    """Bootstrap counts (draws + 1, units); row 0 is all ones, the sample itself."""
    rng = np.random.default_rng([20261121, seed])
    counts = rng.multinomial(units, np.full(units, 1.0 / units), size=draws)
    return np.concatenate([np.ones((1, units)), counts]).astype(np.float64)


def measure(
    scored: pl.DataFrame, unit: np.ndarray, units: int, w: np.ndarray, only: Sequence[str] = tuple(BETTER)
) -> Draws:
    """Every metric of one predictor's scored rows under every row of ``w`` (B + 1, units).

    Parameters
    ----------
    unit : index of the resampled unit of each row
    only : metrics to compute
    """
    answered = scored["predicted"].is_not_null().to_numpy()
    d = scored.filter(pl.Series(answered))
    if not d.height:
        nan = np.full(len(w) - 1, np.nan)
        return Draws(dict.fromkeys(only, np.nan), dict.fromkeys(only, nan), 0, scored.height, np.array([]))
    u = unit[answered]
    y, p, b, low, high = (d[c].to_numpy() for c in ("observed", "predicted", "baseline", "low", "high"))

    def total(values: np.ndarray) -> np.ndarray:
        return w @ np.bincount(u, values, units)

    def correlation(a: np.ndarray, c: np.ndarray, least: float = 0.0) -> np.ndarray:
        a, c = a - a.mean(), c - c.mean()
        if c.std() < max(SAME, least * a.std()) or a.std() < SAME:
            return np.zeros(len(w))
        return _correlation(total(np.ones_like(a)), total(a), total(c), total(a * a), total(c * c), total(a * c))

    n = total(np.ones(len(y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        formulas = {
            "RMSE": lambda: np.sqrt(total((p - y) ** 2) / n),
            "MAE": lambda: total(np.abs(p - y)) / n,
            "Pearson": lambda: correlation(y, p),
            "normalised Pearson": lambda: correlation(y - b, p - b, SILENT),
            "per-drug Pearson": lambda: _per_drug(d, u, y, p, units, w),
            "per-drug Spearman": lambda: _per_drug(d, u, _ranks(d, "observed"), _ranks(d, "predicted"), units, w),
            "coverage": lambda: total(((y >= low) & (y <= high)).astype(float)) / n,
            "interval width": lambda: total(high - low) / n,
        }
        out = {metric: formulas[metric]() for metric in only}
    return Draws(
        {k: float(v[0]) for k, v in out.items()},
        {k: v[1:] for k, v in out.items()},
        d.height,
        scored.height - d.height,
        np.sort(d["row"].to_numpy()),
    )


def _correlation(n, sx, sy, sxx, syy, sxy) -> np.ndarray:
    vx, vy = sxx - sx * sx / n, syy - sy * sy / n
    return np.where((vx > SAME) & (vy > SAME), (sxy - sx * sy / n) / np.sqrt(np.maximum(vx * vy, SAME**2)), 0.0)


def _ranks(d: pl.DataFrame, column: str) -> np.ndarray:
    return d.select(pl.col(column).rank("average").over("treatment")).to_series().to_numpy()


def within_drugs(
    treatment: pl.Series, u: np.ndarray, y: np.ndarray, p: np.ndarray, units: int, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Correlation within each drug under every row of ``w`` (B + 1, units); 0 where one side is constant.

    Returns
    -------
    names (k,), rows of each (k,), rows drawn (B + 1, k), correlation (B + 1, k)
    """
    names, drug = np.unique(treatment.to_numpy().astype(str), return_inverse=True)
    k = len(names)
    count = np.bincount(drug, minlength=k)
    means = [np.bincount(drug, v, k) / count for v in (y, p)]
    yc, pc = y - means[0][drug], p - means[1][drug]  # centred per drug: keeps the sums well conditioned
    flat = u * k + drug
    sums = [
        w @ np.bincount(flat, v, units * k).reshape(units, k)
        for v in (np.ones_like(y), yc, pc, yc * yc, pc * pc, yc * pc)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        return names, count, sums[0], _correlation(*sums)


def _per_drug(d: pl.DataFrame, u: np.ndarray, y: np.ndarray, p: np.ndarray, units: int, w: np.ndarray) -> np.ndarray:
    """Mean over drugs of the correlation within each: (B + 1,)."""
    _, count, drawn, r = within_drugs(d["treatment"], u, y, p, units, w)
    counted = (count >= FEWEST)[None, :] & (drawn > 0)
    # where treatments are drawn, one drawn twice counts twice; where subjects are drawn, each drug counts once
    times = drawn / np.maximum(count, 1) if resampled(d["split"][0]) == "treatment" else 1.0
    weight = np.where(counted, times, 0.0)
    return (np.where(counted, r, 0.0) * weight).sum(1) / np.maximum(weight.sum(1), SAME)


def evaluate(
    scored: pl.DataFrame, naive: Sequence[str], draws: int = 1000, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """METRICS and COMPARISONS of unsealed PREDICTIONS of one split (all predictors, all folds).

    Parameters
    ----------
    naive : names of the naive family among the predictors; the best of it is the naive value
    """
    split = scored["split"][0]
    folds = sorted(scored["fold"].unique().to_list())
    order = scored["predictor"].unique(maintain_order=True).to_list()
    results: dict[tuple[str, int], Draws] = {}
    common: dict[
        tuple[str, str, int], tuple[Draws, Draws]
    ] = {}  # where two answered different rows: both on those shared
    by = resampled(split)
    whole = scored[by].unique().sort()
    recurring = scored.select(by, "fold").unique().height > len(whole)
    shared_w = weights(len(whole), draws, seed * 1000) if recurring else None
    for k in folds:
        part = scored.filter(pl.col("fold") == k)
        names = part[by].unique().sort()
        index = dict(zip(names, range(len(names)), strict=True))
        # a line whose rows lie in several folds is drawn for all of them at once, or it would count as several lines
        there = None if shared_w is None else whole.is_in(names.implode()).to_numpy()
        w = weights(len(names), draws, seed * 1000 + k) if shared_w is None else shared_w[:, there]
        for predictor in order:
            mine = part.filter(pl.col("predictor") == predictor)
            unit = mine[by].replace_strict(index, return_dtype=pl.Int64).to_numpy()
            results[predictor, k] = measure(mine, unit, len(names), w)
        for i, a in enumerate(order):
            for b in order[:i]:
                shared = np.intersect1d(results[a, k].rows, results[b, k].rows)
                if len(shared) and len(shared) < max(results[a, k].n, results[b, k].n):
                    both = part.filter(pl.col("row").is_in(pl.Series(shared).implode()))
                    one, two = (both.filter(pl.col("predictor") == p) for p in (a, b))
                    units = [f[by].replace_strict(index, return_dtype=pl.Int64).to_numpy() for f in (one, two)]
                    common[a, b, k] = (
                        measure(one, units[0], len(names), w),
                        measure(two, units[1], len(names), w),
                    )
    return _metrics(results, order, folds, split, by, list(naive), scored["unit"][0]), _comparisons(
        results, common, order, folds, split, by
    )


def _over_folds(
    results: dict[tuple[str, int], Draws], predictor: str, folds: list[int], metric: str
) -> tuple[float, np.ndarray]:
    value = float(np.mean([results[predictor, k].value[metric] for k in folds]))
    return value, np.mean([results[predictor, k].draws[metric] for k in folds], axis=0)


def _interval(draws: np.ndarray) -> tuple[float, float]:
    good = draws[np.isfinite(draws)]
    if len(good) < 20:
        return np.nan, np.nan
    low, high = np.quantile(good, [0.025, 0.975])
    return float(low), float(high)


def _metrics(results, order, folds, split, by, naive, unit) -> pl.DataFrame:
    rows = []
    known = [p for p in order if p in naive]
    for metric, sign in BETTER.items():
        for k in [*folds, None]:
            chosen = folds if k is None else [k]
            values = {p: _over_folds(results, p, chosen, metric) for p in order}
            candidates = {p: values[p][0] for p in known if np.isfinite(values[p][0])}
            best = None
            if candidates:
                reference = "mean_effects" if "mean_effects" in candidates else next(iter(candidates))
                best = max(candidates, key=lambda p: sign * candidates[p]) if sign else reference
            for p in order:
                value, draws = values[p]
                low, high = _interval(draws)
                rows.append(
                    {
                        "predictor": p,
                        "split": split,
                        "fold": "all" if k is None else str(k),
                        "metric": metric,
                        "value": value,
                        "low": low,
                        "high": high,
                        "naive": candidates[best] if best else None,
                        "naive_predictor": best,
                        "unit": unit if metric in ("RMSE", "MAE", "interval width") else "",
                        "resampled": by,
                        "n": sum(results[p, f].n for f in chosen),
                        "abstained": sum(results[p, f].abstained for f in chosen),
                    }
                )
    frame = pl.DataFrame(rows, schema=dict(tables.METRICS.columns)).with_columns(
        pl.col("value", "low", "high", "naive").fill_nan(None)
    )
    return tables.check(frame, tables.METRICS)


def _comparisons(results, common, order, folds, split, by) -> pl.DataFrame:
    rows = []
    for metric, sign in BETTER.items():
        if not sign:
            continue
        for i, a in enumerate(order):
            for b in order[:i]:
                sides = [common.get((a, b, k), (results[a, k], results[b, k])) for k in folds]
                paired = all(np.array_equal(x.rows, y.rows) and x.n for x, y in sides)
                difference = float(np.mean([x.value[metric] - y.value[metric] for x, y in sides]))
                low, high = _interval(np.mean([x.draws[metric] - y.draws[metric] for x, y in sides], axis=0))
                rows.append(
                    {
                        "split": split,
                        "metric": metric,
                        "predictor": a,
                        "other": b,
                        "difference": difference if paired else None,
                        "low": low if paired else None,
                        "high": high if paired else None,
                        "verdict": verdict(low, high, sign) if paired else NOT_PAIRED,
                        "resampled": by,
                    }
                )
    frame = pl.DataFrame(rows, schema=dict(tables.COMPARISONS.columns)).with_columns(
        pl.col("difference", "low", "high").fill_nan(None)
    )
    return tables.check(frame, tables.COMPARISONS)


def verdict(low: float, high: float, sign: int) -> str:
    """In words: does the paired interval of a difference exclude zero, and on which side?"""
    if np.isfinite(low) and np.isfinite(high):
        if low * sign > 0 and high * sign > 0:
            return "better"
        if low * sign < 0 and high * sign < 0:
            return "worse"
    return "no difference shown"
