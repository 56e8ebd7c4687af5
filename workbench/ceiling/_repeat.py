"""What two studies measured both, and how far they agree."""

from __future__ import annotations

import numpy as np
import polars as pl

from workbench import score, splits, tables
from workbench.ceiling import matching
from workbench.study import Study

PAIRS = ("study", "other", "endpoint", "unit", "row", "subject", "treatment", "compound", "other_treatment", "value")
OVER_ALL = ("Pearson", "normalised Pearson", "per-drug Pearson", "per-drug Spearman", "RMSE")


def shared_pairs(study: Study, other: Study, endpoint: str, other_endpoint: str | None = None) -> pl.DataFrame:
    """Every value of ``study`` whose line and compound ``other`` measured too, with the value found there.

    Parameters
    ----------
    other_endpoint : its name in ``other`` where that differs

    Returns
    -------
    frame study, other, endpoint, unit, row (in ``study.outcomes``), subject, treatment, compound, other_treatment
    (all names it has in ``other``), value, other_value (mean over those names and over replicates)

    Raises
    ------
    ValueError
        It is the same study twice, units differ, or there is no shared pair.
    """
    if study.digest == other.digest:
        raise ValueError(f"{study.name!r} and {other.name!r} are the same study; agreement with itself says nothing.")
    mine, theirs = splits.rows(study, endpoint), splits.rows(other, other_endpoint or endpoint)
    units = mine["unit"][0], theirs["unit"][0]
    if units[0] != units[1]:
        raise ValueError(
            f"{endpoint!r} is in {units[0]!r} in study {study.name!r} and in {units[1]!r} in {other.name!r}. "
            "Convert one of the two, or compare an endpoint they have in the same unit."
        )
    lines, drugs = matching.lines(study, other), matching.compounds(study, other)
    there = (
        theirs.select(other_subject="subject", other_treatment="treatment", value="value")
        .join(lines.select("subject", "other_subject"), on="other_subject")
        .join(drugs.select("treatment", "other_treatment", "compound"), on="other_treatment")
        .group_by("subject", "treatment", "compound")
        .agg(pl.col("value").mean().alias("other_value"), pl.col("other_treatment").unique().sort().str.join(" / "))
    )
    pairs = mine.drop("compound").join(there, on=["subject", "treatment"]).sort("row")
    if pairs.is_empty():
        raise ValueError(
            f"studies {study.name!r} and {other.name!r} share no pair: {lines.height} lines and "
            f"{drugs['treatment'].n_unique()} treatments of {study.name!r} are in both, but never together."
        )
    told = {"study": study.name, "other": other.name, "endpoint": endpoint}
    return pairs.with_columns(pl.lit(v).alias(k) for k, v in told.items()).select(*PAIRS, "other_value")


def agreement(study: Study, other: Study, endpoint: str, *, draws: int = 1000, seed: int = 0) -> pl.DataFrame:
    """``tables.CEILING`` of two studies: see ``shared_pairs`` and ``of_pairs``."""
    return of_pairs(shared_pairs(study, other, endpoint), draws=draws, seed=seed)


def of_pairs(pairs: pl.DataFrame, *, draws: int = 1000, seed: int = 0) -> pl.DataFrame:
    """``tables.CEILING``: per drug Pearson, Spearman, RMSE and shift (other minus study), and the same over all.

    Over all, "normalised Pearson" takes each study's own drug means over the shared lines away and nothing else (line
    means stay); "per-drug" means are over drugs with at least five shared lines. Intervals: bootstrap over lines, with
    the ranks of Spearman those of the full sample.
    """
    subjects, u = np.unique(pairs["subject"].to_numpy().astype(str), return_inverse=True)
    w = score.weights(len(subjects), draws, seed)
    a, b = pairs["value"].to_numpy(), pairs["other_value"].to_numpy()
    ranks = [pairs.select(pl.col(c).rank().over("treatment"))[c].to_numpy() for c in ("value", "other_value")]
    names, count, drawn, pearson = score.within_drugs(pairs["treatment"], u, a, b, len(subjects), w)
    spearman = score.within_drugs(pairs["treatment"], u, ranks[0], ranks[1], len(subjects), w)[3]
    drug = np.searchsorted(names, pairs["treatment"].to_numpy().astype(str))
    flat, k = u * len(names) + drug, len(names)

    def mean(values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return w @ np.bincount(flat, values, len(subjects) * k).reshape(-1, k) / drawn

    unit = pairs["unit"][0]
    facts = pairs.group_by("treatment").agg(pl.col("compound", "other_treatment").first()).sort("treatment")
    rows = []
    few = np.where(count < score.FEWEST, np.nan, 1.0)
    for metric, values, of in (
        ("Pearson", pearson * few, ""),
        ("Spearman", spearman * few, ""),
        ("RMSE", np.sqrt(mean((a - b) ** 2)), unit),
        ("shift", mean(b - a), unit),
    ):
        low, high = bounds(values[1:])
        rows.append(facts.with_columns(
            pl.lit(metric).alias("metric"), pl.Series("value", values[0]), pl.Series("low", low),
            pl.Series("high", high), pl.lit(of).alias("unit"), pl.Series("n", count, dtype=pl.Int64),
        ))  # fmt: skip
    whole = _over_all(pairs, u, w)
    rows.append(pl.DataFrame(
        [{"metric": m, "value": v[0], **dict(zip(("low", "high"), bounds(v[1:, None])[:, 0], strict=True)),
          "unit": unit if m == "RMSE" else "", "n": pairs.height} for m, v in whole.items()]
    ))  # fmt: skip
    frame = pl.concat(rows, how="diagonal").with_columns(
        pl.col("value", "low", "high").fill_nan(None),
        *(pl.lit(pairs[c][0]).alias(c) for c in ("study", "other", "endpoint")),
    )
    return tables.check(frame.select(list(tables.CEILING.columns)), tables.CEILING)


def _over_all(pairs: pl.DataFrame, u: np.ndarray, w: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> (B + 1,): the other study scored as if it predicted this one."""
    scored = pairs.with_columns(
        observed="value", predicted="other_value", baseline=pl.lit(0.0), low=pl.lit(0.0), high=pl.lit(0.0),
        split=pl.lit("unseen subject"),
    )  # fmt: skip
    centred = scored.with_columns(pl.col(c) - pl.col(c).mean().over("treatment") for c in ("observed", "predicted"))
    plain, normal = (score.measure(f, u, w.shape[1], w) for f in (scored, centred))
    return {
        m: np.concatenate([[(normal if m.startswith("norm") else plain).value[m]],
                           (normal if m.startswith("norm") else plain).draws[m]])
        for m in OVER_ALL
    }  # fmt: skip


def bounds(draws: np.ndarray) -> np.ndarray:
    """95 % percentile interval of each column of ``draws`` (B, k): (2, k), NaN where under 20 draws are numbers."""
    out = np.full((2, draws.shape[1]), np.nan)
    enough = np.isfinite(draws).sum(0) >= 20
    out[:, enough] = np.nanquantile(draws[:, enough], [0.025, 0.975], axis=0)
    return out
