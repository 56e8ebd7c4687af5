"""Points and fits of dose-response curves as the widget draws them: the one place that knows both tables' columns."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from workbench import units
from workbench.tables import TableError

ENDPOINT = "viability"
KEY = ["subject", "treatment"]
GRID = 161  # points of a drawn curve
HOW = (
    "Dots are the mean of a dose, rings its replicates; dotted lines lie beyond the doses tested. The band is the "
    "pointwise 95 % interval of the fitted mean. A diamond is an IC50 with its interval, on the line of half the "
    "untreated response; an arrow says that it lies beyond the doses tested. Flat curves are grey: the "
    "mean of their points. Wells without drug are not drawn."
)
_CURVE = ["subject", "treatment", "site", "time_h", "source"]  # what names a curve in workbench.assays.dose_response
_SPELLED = {"um": "uM", "nm": "nM", "mm": "mM", "pm": "pM", "m": "M"}
_IC50 = re.compile(r"^ic50_(?!low_|high_|censored$)(\w+)$")


def suffix_of(fits: pl.DataFrame) -> str:
    """The unit of doses in the columns of a table of fits: "um" of ``ic50_um``.

    Raises
    ------
    TableError
        There is no such column.
    """
    for column in fits.columns:
        if found := _IC50.match(column):
            return found[1]
    raise TableError(f"fits: a column ic50_<unit> is missing; found {fits.columns}. Use dose_response.fit(outcomes).")


def points_of(outcomes: pl.DataFrame, suffix: str | None = None) -> pl.DataFrame:
    """Points of one curve a pair: subject, treatment, dose, dose_unit, value (fraction of the untreated), curves.

    Where a pair has several curves (sites, times, sources), the one with the most points is kept, of equal ones that
    after the longest time, and ``curves`` counts them; the columns that name it stay. Doses are in the unit ``suffix``
    stands for, else in the most frequent one.

    Raises
    ------
    TableError
        A column is missing, or units do not convert.
    """
    needed = [*KEY, "endpoint", "dose", "dose_unit", "value", "unit"]
    if missing := [c for c in needed if c not in outcomes.columns]:
        raise TableError(f"points: column {missing[0]!r} is missing; found {outcomes.columns}.")
    named = [c for c in _CURVE if c in outcomes.columns]
    texts = [*(c for c in named if c != "time_h"), "endpoint", "dose_unit", "unit"]
    rows = outcomes.select(*named, *(c for c in needed if c not in named)).with_columns(pl.col(texts).cast(pl.String))
    rows = rows.filter((pl.col("endpoint") == ENDPOINT) & (pl.col("dose") >= 0) & pl.col("value").is_finite())
    if rows.is_empty():
        return rows.select(*named, "dose", "dose_unit", "value", curves=pl.lit(1, pl.UInt32))
    common = rows["dose_unit"].drop_nulls().mode()
    target = _SPELLED.get(suffix or "", suffix) or (str(common.sort()[0]) if len(common) else "")
    parts = []
    for (given, unit), part in rows.group_by("dose_unit", "unit", maintain_order=True):
        try:
            dose = part["dose"].to_numpy() if given == target else units.convert(part["dose"].to_numpy(), given, target)
            value = units.convert(part["value"].to_numpy(), unit, "fraction")
        except ValueError as error:
            raise TableError(f"points: {error}") from error
        parts.append(part.with_columns(dose=pl.Series(dose), value=pl.Series(value), dose_unit=pl.lit(target)))
    found = pl.concat(parts)
    if named != KEY:
        sizes = found.group_by(named, maintain_order=True).len()
        order = [c for c in ("len", "time_h") if c in sizes.columns]  # of equal ones that of the longest exposure
        sizes = sizes.sort(order, descending=True, nulls_last=True, maintain_order=True)
        best = sizes.group_by(KEY, maintain_order=True).agg(pl.all().first(), pl.len().alias("curves")).drop("len")
        found = found.join(best, on=named, how="inner", nulls_equal=True, maintain_order="left")
    else:
        found = found.with_columns(curves=pl.lit(1, pl.UInt32))
    return found.select(*named, "dose", "dose_unit", "value", "curves").sort("treatment", "subject", "dose")


def fits_of(fits: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    """One row a pair that has points: subject, treatment, ic50, ic50_low, ic50_high, state, flags.

    ``state``: 0 exact, +1 the IC50 lies above ``ic50``, -1 below, 2 flat (no IC50). ``flags`` are words.
    """
    unit = suffix_of(fits)
    joint = [c for c in _CURVE if c in fits.columns and c in points.columns]
    pairs = points.group_by(joint, maintain_order=True).agg(pl.col("curves").first())
    texts = [c for c in joint if c != "time_h"]
    censored = pl.col("ic50_censored") if "ic50_censored" in fits.columns else pl.lit(0)
    mapped = fits.select(
        *(pl.col(c).cast(pl.String) if c in texts else pl.col(c) for c in joint),
        *(
            (pl.col(c) if c in fits.columns else pl.lit(None)).cast(pl.Float64).fill_nan(None).alias(name)
            for name, c in {"ic50": f"ic50_{unit}", "low": f"ic50_low_{unit}", "high": f"ic50_high_{unit}"}.items()
        ),
        censored.cast(pl.Int8).fill_null(0).alias("state"),
        (pl.col("flags") if "flags" in fits.columns else pl.lit([], pl.List(pl.String))).alias("flags"),
    ).unique(joint, keep="first", maintain_order=True)
    found = pairs.join(mapped, on=joint, how="left", nulls_equal=True, maintain_order="left")
    flat = pl.col("flags").list.contains("flat").fill_null(False)
    after = pl.format(", that after {} h", pl.col("time_h").cast(pl.Int64)) if "time_h" in joint else pl.lit("")
    several = pl.when(pl.col("curves") > 1).then(
        pl.concat_list(pl.format("one of {} curves of this pair{}", "curves", after.fill_null("")))
    )
    flags = pl.when(pl.col("flags").is_null()).then(pl.lit(["not fitted"])).otherwise("flags")
    return found.with_columns(
        pl.when(flat).then(pl.lit(2, pl.Int8)).otherwise(pl.col("state").fill_null(0)).alias("state"),
        flags.list.concat(several.otherwise(pl.lit([], pl.List(pl.String)))).alias("flags"),
    ).select(*KEY, "ic50", pl.col("low").alias("ic50_low"), pl.col("high").alias("ic50_high"), "state", "flags")


def drawn(points: pl.DataFrame, grid: np.ndarray, flat: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle, low and high (G,) of one curve at the doses ``grid`` (G,); NaN where nothing can be fitted.

    A flat curve is the mean of its points with the t interval of that mean: the four parameters of a line without a
    slope mean nothing.
    """
    from scipy import stats

    from workbench.assays import dose_response

    if flat:
        values = points["value"].to_numpy()
        half = (
            stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
            if len(values) > 1
            else np.nan
        )
        return tuple(np.full(len(grid), values.mean() + d) for d in (0, -half, half))  # type: ignore[return-value]
    try:
        found = dose_response.band(points["dose"].to_numpy(), points["value"].to_numpy(), grid)
    except dose_response.DoseResponseError:
        nothing = np.full(len(grid), np.nan)
        return nothing, nothing, nothing
    middle, low, high = (found[c].fill_null(float("nan")).to_numpy() for c in ("response", "low", "high"))
    return middle, low, high
