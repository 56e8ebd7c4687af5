"""Points and fits of dose-response curves as the widget draws them: the one place that knows both tables' columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from workbench.tables import TableError

ENDPOINT = "viability"
KEY = ["subject", "treatment"]
GRID = 161  # points of a drawn curve
LEVEL = 0.95
HOW = (
    "Dots are the mean of a dose, rings its replicates; dotted lines lie beyond the doses tested. The band is a pointwise "
    "95 % interval of the fitted mean. The diamond is the IC50 with its interval, on the line of half the untreated "
    "response; an arrow says that it lies beyond the doses tested. Wells without drug are not drawn."
)
NEEDED = ("subject", "treatment", "top", "bottom", "hill", "ec50", "ic50")


def points_of(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Points with a dose above 0: subject, treatment, source, dose, dose_unit, value, unit.

    Raises
    ------
    TableError
        A column is missing, or doses or values come in more than one unit.
    """
    needed = ["subject", "treatment", "endpoint", "dose", "dose_unit", "value", "unit"]
    if missing := [c for c in needed if c not in outcomes.columns]:
        raise TableError(f"points: column {missing[0]!r} is missing; found {outcomes.columns}.")
    texts = ["subject", "treatment", "endpoint", "dose_unit", "unit"]
    rows = outcomes.select(pl.col(texts).cast(pl.String), pl.col("dose", "value").cast(pl.Float64)).filter(
        (pl.col("endpoint") == ENDPOINT) & (pl.col("dose") > 0) & pl.col("value").is_finite()
    )
    for column, what in (("dose_unit", "doses"), ("unit", "values")):
        if (found := rows[column].unique().sort()).len() > 1:
            raise TableError(f"points: {what} should have one unit, found {found.to_list()}. Convert some of them.")
    return rows.sort("treatment", "subject", "dose")


def fits_of(fits: pl.DataFrame | None, points: pl.DataFrame) -> pl.DataFrame:
    """One row a pair that has points: the fit's columns under this module's names, null where nothing was fitted.

    Columns: subject, treatment, top, bottom, hill, log10_ec50, ic50, ic50_low, ic50_high (dose), state (0 exact, +1 the
    IC50 lies above ``ic50``, -1 below, 2 flat), flags (list of words), curves (how many fits the pair has).
    """
    pairs = points.select(KEY).unique(maintain_order=True)
    if fits is None:
        fits = pl.DataFrame(schema={**dict.fromkeys(KEY, pl.String), **dict.fromkeys(NEEDED[2:], pl.Float64)})
    if missing := [c for c in NEEDED if c not in fits.columns]:
        raise TableError(f"fits: column {missing[0]!r} is missing; found {fits.columns}. Use dose_response.fit(points).")
    has = set(fits.columns)

    def number(name: str) -> pl.Expr:
        return (pl.col(name) if name in has else pl.lit(None)).cast(pl.Float64).fill_nan(None).alias(name)

    flags = pl.col("flags") if "flags" in has else pl.lit([], pl.List(pl.String))
    censored = pl.col("ic50_censored") if "ic50_censored" in has else pl.lit(0)
    mapped = fits.select(
        pl.col(KEY).cast(pl.String),
        *(number(name) for name in ("top", "bottom", "hill", "ic50", "ic50_low", "ic50_high")),
        number("ec50").log10().alias("log10_ec50"),
        flags.fill_null([]).alias("flags"),
        censored.cast(pl.Int8).fill_null(0).alias("state"),
    ).with_columns(
        pl.when(pl.col("flags").list.contains("flat")).then(pl.lit(2, pl.Int8)).otherwise("state").alias("state")
    )
    one = mapped.group_by(KEY, maintain_order=True).agg(pl.all().first(), pl.len().alias("curves"))
    return pairs.join(one, on=KEY, how="left", maintain_order="left").with_columns(
        pl.col("state").fill_null(0),
        pl.when(pl.col("curves").is_null()).then(pl.lit(["not fitted"])).otherwise("flags").alias("flags"),
    )


def curve(row: dict[str, Any], log_dose: np.ndarray) -> np.ndarray:
    """The fitted response (n,), in the unit of top and bottom, at ``log_dose`` (n,), log10 of the dose."""
    slope = np.clip(row["hill"] * (row["log10_ec50"] - log_dose), -300, 300)
    return row["top"] + (row["bottom"] - row["top"]) / (1 + 10**slope)


def interval(
    row: dict[str, Any], log_dose: np.ndarray, value: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise interval (G,) and (G,) of the fitted mean on ``grid``, by the delta method (Seber & Wild 1989, 5.3).

    With J the derivatives of the curve by its four parameters at the points (n, 4) and s2 = RSS / (n - 4), the variance
    at x is g' (J'J)^+ g s2. The pseudoinverse leaves out what the points do not determine, such as a plateau never seen.
    NaN where there are no more points than parameters.
    """
    from scipy import stats

    free = len(log_dose) - 4
    if free < 1:
        return np.full(len(grid), np.nan), np.full(len(grid), np.nan)

    def slopes(x: np.ndarray) -> np.ndarray:
        f = 1 / (1 + 10 ** np.clip(row["hill"] * (row["log10_ec50"] - x), -300, 300))
        turn = (row["bottom"] - row["top"]) * f * (1 - f) * math.log(10)
        return np.stack([1 - f, f, -turn * row["hill"], turn * (x - row["log10_ec50"])], axis=1)

    j, g = slopes(log_dose), slopes(grid)
    rss = float(np.sum((value - curve(row, log_dose)) ** 2))
    spread = np.sqrt(np.maximum(0, np.einsum("ij,jk,ik->i", g, np.linalg.pinv(j.T @ j, rcond=1e-9), g)) * rss / free)
    half = float(stats.t.ppf((1 + LEVEL) / 2, free)) * spread
    middle = curve(row, grid)
    return middle - half, middle + half
