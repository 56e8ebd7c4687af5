"""Do intervals hold what they promise, and where do they not: coverage by drug, tissue, fold, prediction and distance.

    covered = share of the answered rows whose observed value lies within [low, high]

Rows of one line are not independent. Where every line has one row (a drug) the interval of the share is the exact
binomial one (Clopper and Pearson 1934, Biometrika 26:404). Elsewhere lines are the units (drugs, where compounds were
unseen): with e_k = hits of unit k - level x rows of unit k, the mean of e_k is judged by Student's t after Hall's
transformation (1992, J. R. Stat. Soc. B 54:221) and before it, the larger p counting: a few lines that miss in most
rows make e_k lopsided. Many groups are looked at, so a break is called at a false discovery rate of 5 % among the
groups of one kind (Benjamini and Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from workbench import tables
from workbench.assays._significance import benjamini_hochberg
from workbench.score import resampled
from workbench.text import nearest

BY = ("all", "fold", "tissue", "treatment", "predicted", "distance")
RATE = 0.05  # false discoveries among what is called
FEWEST = 5  # units below which nothing is called
BINS = 5
HOLDS, BREAKS, WIDE, FEW = "holds", "breaks", "wider than promised", "too few to judge"
DOUBT = "in doubt"  # it would be called if it were the only group looked at


def table(
    scored: pl.DataFrame,
    by: Sequence[str] = BY,
    *,
    distance: Mapping[str, float] | None = None,
    intervals: str = "as recorded",
) -> pl.DataFrame:
    """``tables.COVERAGE`` of unsealed PREDICTIONS: every predictor and split in it.

    Parameters
    ----------
    by : kinds of groups: all, fold, tissue, treatment, predicted (fifths of each drug's answers, from the most
        to the least sensitive), distance (fifths of the lines)
    distance : distance of each subject from the training lines, as ``trust.shift.distances`` gives it
    intervals : what to call the intervals in the table

    Raises
    ------
    ValueError
        A kind is unknown, nothing was observed, or the intervals promise several levels at once.
    """
    for kind in by:
        if kind not in BY:
            raise ValueError(f"coverage goes by {', '.join(BY)}; found {kind!r}.{nearest(kind, BY)}")
    frame = tables.check(scored, tables.PREDICTIONS).filter(
        pl.col("low").is_not_null() & pl.col("high").is_not_null() & pl.col("predicted").is_not_null()
    )
    if frame.is_empty() or frame["observed"].null_count():
        raise ValueError(
            "coverage compares intervals with observed values: "
            + ("no row has an interval." if frame.is_empty() else "some targets are still sealed; use score.unseal.")
        )
    if (levels := frame["level"].unique()).len() > 1:
        raise ValueError(f"intervals promise {levels.sort().to_list()} in one table; give one level at a time.")
    if distance is not None:
        told = [distance.get(s) for s in frame["subject"].cast(pl.String)]
        frame = frame.with_columns(pl.Series("distance", told, dtype=pl.Float64))
    parts = []
    for (predictor, split), one in frame.group_by("predictor", "split", maintain_order=True):
        for kind in by:
            if kind == "distance" and distance is None:
                continue
            grouped = _grouped(one, kind)
            if grouped is None or grouped.is_empty():
                continue
            unit = "subject" if kind == "treatment" else resampled(str(split).partition(", in ")[0])
            made = _counted(grouped, unit, float(levels[0]))
            parts.append(
                made.with_columns(
                    pl.lit(str(predictor)).alias("predictor"),
                    pl.lit(str(split)).alias("split"),
                    pl.lit(intervals).alias("intervals"),
                    pl.lit(kind).alias("by"),
                    pl.lit(unit).alias("unit"),
                )
            )
    return tables.check(pl.concat(parts), tables.COVERAGE) if parts else tables.empty(tables.COVERAGE)


def _grouped(frame: pl.DataFrame, kind: str) -> pl.DataFrame | None:
    """The rows with ``name`` and ``position`` of their group; None where this kind says nothing here."""
    if kind == "all":
        return frame.with_columns(name=pl.lit("all rows"), position=pl.lit(0, pl.Int32))
    if kind in ("fold", "tissue", "treatment"):
        names = frame.with_columns(pl.col(kind).cast(pl.String).fill_null("unknown").alias("name"))
        rank = pl.col("fold").cast(pl.Int32) if kind == "fold" else pl.lit(0, pl.Int32)
        return names.with_columns(rank.alias("position"))
    if kind == "predicted":
        # among the answers to one drug, one fold: a drug's level says nothing about a line
        own = frame.with_columns(
            spread=pl.col("predicted").max().over("treatment", "fold")
            - pl.col("predicted").min().over("treatment", "fold"),
            share=(pl.col("predicted").rank("ordinal").over("treatment", "fold") - 0.5)
            / pl.len().over("treatment", "fold"),
            size=pl.len().over("treatment", "fold"),
        ).filter((pl.col("spread") > 1e-9) & (pl.col("size") >= BINS))
        share, words = (
            "share",
            ("most sensitive fifth", "second fifth", "middle fifth", "fourth fifth", "least sensitive fifth"),
        )
    else:
        lines = frame.filter(pl.col("distance").is_not_null()).unique("subject").select("subject", "distance")
        if lines.height < BINS:
            return None
        ranked = lines.sort("distance").with_columns(share=(pl.int_range(pl.len()) + 0.5) / pl.len()).drop("distance")
        own = frame.join(ranked, on="subject", how="inner")
        share, words = "share", ("nearest fifth", "second fifth", "middle fifth", "fourth fifth", "farthest fifth")
    position = (pl.col(share) * BINS).floor().clip(0, BINS - 1).cast(pl.Int32)
    return own.with_columns(position=position).with_columns(
        name=pl.col("position").replace_strict(range(BINS), words, return_dtype=pl.String)
    )


def _counted(frame: pl.DataFrame, unit: str, level: float) -> pl.DataFrame:
    """One row a group: counts, coverage with its interval, p, q, verdict."""
    within = (pl.col("observed") >= pl.col("low")) & (pl.col("observed") <= pl.col("high"))
    width = pl.col("high") - pl.col("low")
    units = frame.group_by("name", "position", unit).agg(
        pl.len().alias("n"),
        within.sum().alias("hits"),
        (pl.col("observed") < pl.col("low")).sum().alias("under"),
        width.filter(width.is_finite()).sum().alias("width"),
        width.is_finite().sum().alias("finite"),
    )
    error = pl.col("hits") - level * pl.col("n")
    ratio = pl.col("hits") - pl.col("hits").sum() / pl.col("n").sum() * pl.col("n")
    groups = (
        units.group_by("name", "position")
        .agg(
            pl.col("n", "hits", "under", "width", "finite").sum(),
            pl.len().alias("units"),
            pl.col("n").max().alias("most"),
            error.mean().alias("mean"),
            error.std().alias("sd"),
            error.skew(bias=False).alias("skew"),
            ratio.skew(bias=False).alias("lopsided"),
            (ratio**2).sum().alias("squares"),
        )
        .sort("position", "name")
    )
    n, hits, k = (groups[c].to_numpy().astype(float) for c in ("n", "hits", "units"))
    low, high, p = _judged(n, hits, k, groups, level)
    few = k < FEWEST
    q = benjamini_hochberg(np.where(few, np.nan, p))
    covered = hits / n
    called, alone = q < RATE, p < RATE
    verdict = np.select([few, called & (covered < level), called, alone], [FEW, BREAKS, WIDE, DOUBT], HOLDS)
    return groups.select(
        "name",
        "position",
        pl.lit(level).alias("level"),
        pl.col("n", "units").cast(pl.Int64),
        pl.Series("covered", covered),
        pl.Series("low", low),
        pl.Series("high", high),
        (pl.col("under") / pl.col("n")).alias("below"),
        (1 - (pl.col("hits") + pl.col("under")) / pl.col("n")).alias("above"),
        pl.when(pl.col("finite") > 0).then(pl.col("width") / pl.col("finite")).alias("width"),
        (1 - pl.col("finite") / pl.col("n")).alias("unbounded"),
        pl.Series("p", p),
        pl.Series("q", q),
        pl.Series("verdict", verdict.tolist(), dtype=pl.String),
    ).with_columns(pl.col("low", "high", "p", "q").fill_nan(None))


def _judged(n, hits, k, groups: pl.DataFrame, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interval of the coverage and p against ``level``; exact where every unit has one row."""
    from scipy import stats

    covered = hits / n
    one = groups["most"].to_numpy() == 1
    mean, sd = (groups[c].cast(pl.Float64).fill_null(float("nan")).to_numpy() for c in ("mean", "sd"))
    skew, lopsided = (groups[c].cast(pl.Float64).fill_nan(0).fill_null(0).to_numpy() for c in ("skew", "lopsided"))
    # units that all agree have no spread to judge by: they count as one trial each
    flat = ~one & ~(sd > 1e-9)
    trials, wins = np.where(flat, k, n), np.where(flat, covered * k, hits)
    exact = one | flat
    with np.errstate(invalid="ignore", divide="ignore"):
        low = np.where(wins > 0, stats.beta.ppf(0.025, wins, trials - wins + 1), 0.0)
        high = np.where(wins < trials, stats.beta.ppf(0.975, wins + 1, trials - wins), 1.0)
        tails = np.minimum(stats.binom.cdf(wins, trials, level), stats.binom.sf(np.ceil(wins) - 1, trials, level))
        w = mean / sd
        t = np.sqrt(k) * np.minimum(np.abs(w), np.abs(w + skew * w**2 / 3 + skew**2 * w**3 / 27 + skew / (6 * k)))
        p = np.where(exact, np.minimum(2 * tails, 1.0), 2 * stats.t.sf(t, np.maximum(k - 1, 1)))
        spread = np.sqrt(groups["squares"].to_numpy() / np.maximum(k - 1, 1)) * k / n
        reach = stats.t.ppf(0.975, np.maximum(k - 1, 1)) / np.sqrt(k)
        below = covered - spread * np.maximum(_hall(reach, lopsided, k), reach)
        above = covered - spread * np.minimum(_hall(-reach, lopsided, k), -reach)
    lone = k < 2  # one unit: rows that depend on each other, and nothing to compare them with
    nan = np.where(lone & ~one, np.nan, 1.0)
    low = np.where(exact, low, np.clip(below, 0, 1)) * nan
    high = np.where(exact, high, np.clip(above, 0, 1)) * nan
    return low, high, p * nan


def _hall(reach: np.ndarray, skew: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Undo Hall's transformation: the standardised deviation whose transformed value is ``reach``."""
    some = np.where(np.abs(skew) > 1e-6, skew, 1.0)
    return np.where(np.abs(skew) > 1e-6, 3 / some * (np.cbrt(1 + some * (reach - some / (6 * k))) - 1), reach)
