"""Dose-response curves: four-parameter logistic fits by the hundred thousand, with intervals, tests and flags.

    y(d) = top + (bottom - top) / (1 + (EC50 / d) ** hill)         y: viability, d: dose

Top is the response without drug (what a dose of 0 shows), bottom that at infinite dose, EC50 the dose halfway between
the two (relative), IC50 the dose at which the curve crosses 0.5 (absolute). Least squares within ``Bounds``.

    fit(study.outcomes)                      one row a curve
    fit(study.outcomes, doublings=2.5)       with growth-rate (GR) metrics
    fit_arrays(dose, response, offsets)      the same on arrays, without units
    band(dose, response, grid)               a curve with its interval, to draw
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl

from workbench import units
from workbench.assays._curves import (
    Bounds,
    DoseResponseError,
    Rules,
    fit_sorted,
    flat_df,
    sort_points,
    table,
)  # fmt: skip
from workbench.text import nearest

__all__ = ["Bounds", "DoseResponseError", "Rules", "band", "fit", "fit_arrays", "flat_df", "from_outcomes", "gr_values"]

CURVE = ("subject", "treatment", "site", "time_h", "source")
GR_BOUNDS = Bounds(top=(1.0, 1.0), bottom=(-1.0, 1.0), hill=(0.1, 5.0))  # Hafner et al. 2016, supplementary note
Zero = Literal["top", "drop", "normalise"]


def fit_arrays(
    dose: np.ndarray,
    response: np.ndarray,
    offsets: np.ndarray | None = None,
    *,
    doublings: np.ndarray | None = None,
    unit: str = "um",
    level: float = 0.5,
    confidence: float = 0.95,
    bounds: Bounds | None = None,
    rules: Rules | None = None,
) -> pl.DataFrame:
    """Fit many curves on one core; one row a curve, in order. Columns as in ``fit``, without names.

    Parameters
    ----------
    dose : (points,) from 0 up, in any one unit, in any order within a curve
    response : (points,) 1 is the untreated response
    offsets : (curves + 1,) where each curve starts, and the number of points; None: all points are one curve
    doublings : (curves,) population doublings of the untreated control during the assay; adds the GR columns
    unit : the dose's unit as column names spell it
    level : the response whose dose is the IC50

    Raises
    ------
    DoseResponseError
        A dose is negative or a number not finite, with its place; bounds or offsets do not hold together.
    """
    dose, response = np.asarray(dose, dtype=np.float64), np.asarray(response, dtype=np.float64)
    offsets = np.array([0, len(dose)]) if offsets is None else np.asarray(offsets, dtype=np.int64)
    if len(offsets) < 2 and not len(dose):
        offsets, empty = np.array([0, 1]), True
        dose, response, doublings = np.ones(1), np.ones(1), None if doublings is None else np.ones(1)
    else:
        empty = False
    bounds, rules = bounds or Bounds(), rules or Rules()
    x, y = sort_points(dose, response, offsets)
    raw, design = fit_sorted(x, y, offsets, bounds, level)
    frame = table(raw, design, rules=rules, confidence=confidence, unit=unit, level=level)
    few = (frame["n_doses"] < 4).to_numpy()
    if few.any():  # nothing was fitted: the mean at the highest dose stands for the effect
        top = x == np.repeat(design[3], np.diff(offsets))
        total, count = (np.add.reduceat(v * top, offsets[:-1]) for v in (y, np.ones(len(y))))
        frame = frame.with_columns(emax=pl.when(pl.Series(few)).then(pl.Series(total / count)).otherwise("emax"))
    if doublings is not None:
        grown = gr_values(y, np.repeat(np.asarray(doublings, dtype=np.float64), np.diff(offsets)))
        frame = frame.hstack(_growth_rate(x, grown, offsets, frame, unit, confidence))
    return frame.clear() if empty else frame


def gr_values(viability: np.ndarray, doublings: np.ndarray | float) -> np.ndarray:
    """Growth-rate inhibition, 1 without effect, 0 where growth stops, down to -1 where all cells die.

    GR = 2 ** (log2(x / x0) / log2(xctrl / x0)) - 1 of counts x at the end, x0 at the start and xctrl untreated at the
    end (Hafner et al. 2016, Nat Methods 13:521); with viability x / xctrl and the control's doublings log2(xctrl / x0)
    this is 2 ** (1 + log2(viability) / doublings) - 1. Viability of 0 or less (after background was taken off) is -1.

    Raises
    ------
    DoseResponseError
        Doublings are not above 0: without growth there is no rate to inhibit.
    """
    grown = np.asarray(doublings, dtype=np.float64)
    if not (np.isfinite(grown) & (grown > 0)).all():
        bad = np.atleast_1d(grown)[~np.atleast_1d(np.isfinite(grown) & (grown > 0))][0]
        raise DoseResponseError(f"doublings: expected finite numbers above 0, found {bad}. Leave such curves out.")
    with np.errstate(divide="ignore"):
        return np.exp2(1 + np.log2(np.maximum(viability, 0.0)) / grown) - 1


def _growth_rate(
    x: np.ndarray, grown: np.ndarray, offsets: np.ndarray, frame: pl.DataFrame, unit: str, confidence: float
) -> pl.DataFrame:
    raw, design = fit_sorted(x, grown, offsets, GR_BOUNDS, 0.5)
    fitted = table(raw, design, rules=Rules(), confidence=confidence, unit=unit, level=0.5)
    # whether there is any effect was decided on the viability: a flat curve has no GR50 to cross, and no slope
    flat = frame["flags"].list.contains("flat") & frame["n_doses"].ge(4)
    above = fitted["auc"] > 0.5
    side = pl.when(flat & above).then(1).when(flat).then(-1).otherwise(pl.col("ic50_censored")).cast(pl.Int8)
    edge = pl.when(flat & above).then(f"dose_max_{unit}").when(flat).then(f"dose_min_{unit}")
    kept = {f"{c}_{unit}": pl.when(~flat).then(f"ic50_{c}_{unit}") for c in ("low", "high")}
    return fitted.select(
        edge.otherwise(f"ic50_{unit}").alias(f"gr50_{unit}"),
        side.alias("gr50_censored"),
        *(value.alias(f"gr50_{name}") for name, value in kept.items()),
        pl.col("emax").alias("gr_max"),
        pl.col("bottom").alias("gr_inf"),
        pl.when(~flat).then("hill").alias("h_gr"),
        pl.when(~flat).then(f"ec50_{unit}").alias(f"gec50_{unit}"),
        (1 - pl.col("auc")).alias("gr_aoc"),
        pl.col("r2").alias("gr_r2"),
    )


def fit(
    outcomes: pl.DataFrame,
    *,
    endpoint: str = "viability",
    by: Sequence[str] = CURVE,
    dose_unit: str = "uM",
    molar_mass: float | Mapping[str, float] | None = None,
    doublings: float | Mapping[str, float] | None = None,
    zero: Zero = "top",
    level: float = 0.5,
    confidence: float = 0.95,
    bounds: Bounds | None = None,
    rules: Rules | None = None,
) -> pl.DataFrame:
    """Fit every dose-response curve of a frame of points; works on OUTCOMES and on any frame with these columns.

    Parameters
    ----------
    outcomes : columns ``dose``, ``dose_unit``, ``value``, ``unit`` ("fraction" or "%"), any of ``by``, and, where
        there, ``endpoint`` (only its rows with a dose are used) and ``censored``. Replicates are rows of one curve.
    by : the columns that name a curve; those the frame does not have are left out
    dose_unit : the unit of doses in the answer; ``molar_mass`` in g/mol (one, or by treatment) where mass becomes molar
    doublings : population doublings of the untreated control during the assay (one, or by subject); adds GR columns
    zero : rows of dose 0 are the response without drug and enter the fit as such ("top"), are left out ("drop"), or
        are the mean by which the curve is divided before it is fitted without them ("normalise")

    Returns
    -------
    polars.DataFrame
        One row a curve, sorted by ``by``: its names, ``n_points``, ``n_doses``, ``dose_min_um`` and ``dose_max_um``
        (0 aside), then

        - ``ic50_um``, ``ic50_low_um``, ``ic50_high_um``, ``ic50_censored`` (+1: the curve crosses ``level`` above the
          highest dose or never, and ``ic50_um`` is that dose; -1: below the lowest), and the same for ``ec50``;
        - ``auc``: mean of the fitted curve over the tested range of log dose, exact integral, 1 without effect;
          ``emax``: fitted response at the highest dose; both as fractions;
        - ``top``, ``bottom``, ``hill``, ``log10_ec50`` as fitted, the last even beyond the tested doses; ``rss``,
          ``r2``, ``df_residual`` (points less parameters that are not at a bound);
        - ``f_flat``, ``p_flat``: F test against a flat line with ``df_flat_model`` and ``df_flat_residual`` effective
          degrees of freedom (``flat_df``); ``flags``: a list of words;
        - with ``doublings``: ``gr50_um``, ``gr50_censored``, ``gr_max`` (at the highest dose), ``gr_inf``, ``h_gr``,
          ``gec50_um``, ``gr_aoc``.

        Intervals (``_low``, ``_high``) are asymptotic, from the Jacobian at the solution with t of ``df_residual``,
        those of potencies on log10 dose; parameters at a bound count as known. On nine single points with 5 % noise
        the 95 % ones hold the truth in 92 % (IC50), 91 % (EC50) and 95 % (AUC) of curves.
        Null: does not exist (too few doses, no residual freedom, censored).

    Raises
    ------
    DoseResponseError
        A column is missing, a dose negative, a value not finite, a unit or a control is missing; says where.
    UnitError
        Units do not convert.
    """
    points = _points(outcomes, endpoint)
    keys = [c for c in by if c in points.columns]
    points = (
        _in_units(points, dose_unit, molar_mass).sort(keys, maintain_order=True)
        if keys
        else _in_units(points, dose_unit, molar_mass)
    )
    points = points.with_columns(pl.struct(keys).rle_id().alias("_curve") if keys else pl.lit(0).alias("_curve"))
    points = _zeros(points, keys, zero)
    curves = points.group_by("_curve", maintain_order=True).agg(
        *(pl.col(k).first() for k in keys), pl.len().alias("_n"), (pl.col("censored") != 0).any().alias("_limit")
    )
    offsets = np.concatenate([[0], np.cumsum(curves["_n"].to_numpy())]).astype(np.int64)
    unit = dose_unit.lower().replace("/", "_").replace("\u00b5", "u").replace("\u03bc", "u")
    fitted = fit_arrays(
        points["dose"].to_numpy(), points["value"].to_numpy(), offsets, doublings=_doublings(curves, doublings),
        unit=unit, level=level, confidence=confidence, bounds=bounds, rules=rules,
    )  # fmt: skip
    limits = pl.Series([["censored points"] if v else [] for v in curves["_limit"]], dtype=pl.List(pl.String))
    fitted = fitted.with_columns(flags=pl.col("flags").list.concat(limits)) if limits.len() else fitted
    return curves.select(keys).hstack(fitted) if keys else fitted


from_outcomes = fit  # the name that every assay has


def _points(outcomes: pl.DataFrame, endpoint: str) -> pl.DataFrame:
    """The rows to fit, with a ``censored`` column, every number finite."""
    for column in ("dose", "dose_unit", "value", "unit"):
        if column not in outcomes.columns:
            hint = nearest(column, outcomes.columns)
            raise DoseResponseError(f"column {column!r} is missing; found {outcomes.columns}.{hint}")
    points = outcomes.with_row_index("_row")
    if "endpoint" in points.columns:
        known = points["endpoint"].unique().to_list()
        if endpoint not in known and points.height:
            raise DoseResponseError(f"no endpoint {endpoint!r}.{nearest(endpoint, known)} There is: {sorted(known)}.")
        points = points.filter(pl.col("endpoint") == endpoint)
    if "censored" not in points.columns:
        points = points.with_columns(censored=pl.lit(0, pl.Int8))
    points = points.filter(pl.col("dose").is_not_null())
    for column in ("dose", "value"):
        bad = points.filter(~pl.col(column).is_finite().fill_null(False))
        if bad.height:
            names = {c: bad[c][0] for c in ("subject", "treatment") if c in bad.columns}
            raise DoseResponseError(
                f"{column} in row {bad['_row'][0]} {names or ''}: expected a finite number, found {bad[column][0]} "
                f"({bad.height} such rows). Drop those rows, or put right where they come from."
            )
    bad = points.filter(pl.col("dose") < 0)
    if bad.height:
        raise DoseResponseError(
            f"dose in row {bad['_row'][0]}: expected 0 or more, found {bad['dose'][0]} ({bad.height} such rows). "
            "Are these log10 doses? Give the doses themselves."
        )
    return points


def _in_units(points: pl.DataFrame, dose_unit: str, molar_mass: float | Mapping[str, float] | None) -> pl.DataFrame:
    """Doses in ``dose_unit`` and values as fractions."""
    parts = []
    mapped = isinstance(molar_mass, Mapping)
    groups = ["dose_unit", "unit", *(["treatment"] if mapped else [])]
    for (given, unit, *name), part in points.group_by(groups, maintain_order=True):
        if given is None or unit is None:
            column = "dose_unit" if given is None else "unit"
            raise DoseResponseError(f"{column} in row {part['_row'][0]} is missing: name the unit, it is not guessed.")
        mass = None
        if molar_mass is not None and units.parse(given).dimension != units.parse(dose_unit).dimension:
            mass = molar_mass.get(name[0]) if isinstance(molar_mass, Mapping) else molar_mass
        dose = units.convert(part["dose"].to_numpy(), given, dose_unit, mass)
        value = units.convert(part["value"].to_numpy(), unit, "fraction")
        parts.append(part.with_columns(dose=pl.Series(dose), value=pl.Series(value)))
    return pl.concat(parts).sort("_row") if parts else points


def _zeros(points: pl.DataFrame, keys: list[str], zero: Zero) -> pl.DataFrame:
    """What becomes of rows of dose 0."""
    if zero == "top":
        return points
    if zero == "normalise":
        control = pl.col("value").filter(pl.col("dose") == 0).mean().over("_curve")
        points = points.with_columns(_control=control)
        bad = points.filter(~(pl.col("_control") > 0).fill_null(False))
        if bad.height:
            names = {k: bad[k][0] for k in keys}
            raise DoseResponseError(
                f"curve {names}: expected rows of dose 0 with a mean above 0 to normalise by, found "
                f"{bad['_control'][0]}. Leave zero at 'top' where values are normalised already."
            )
        points = points.with_columns(value=pl.col("value") / pl.col("_control"))
    elif zero != "drop":
        raise DoseResponseError(f"zero: expected 'top', 'drop' or 'normalise', found {zero!r}.")
    return points.filter(pl.col("dose") > 0)


def _doublings(curves: pl.DataFrame, doublings: float | Mapping[str, float] | None) -> np.ndarray | None:
    """(curves,) doublings of each curve's control."""
    if not isinstance(doublings, Mapping):
        return None if doublings is None else np.full(curves.height, float(doublings))
    unknown = [s for s in curves["subject"].unique(maintain_order=True) if s not in doublings]
    if unknown:
        raise DoseResponseError(f"doublings: {len(unknown)} subjects are missing, first {unknown[0]!r}. Add them.")
    return np.array([float(doublings[s]) for s in curves["subject"]])


def band(
    dose: np.ndarray,
    response: np.ndarray,
    grid: np.ndarray,
    *,
    confidence: float = 0.95,
    bounds: Bounds | None = None,
) -> pl.DataFrame:
    """The fitted curve of one set of points at the doses ``grid``, with the pointwise interval of its mean, to draw.

    Returns
    -------
    polars.DataFrame
        ``dose``, ``response``, ``low``, ``high``; the interval is null without residual freedom

    Raises
    ------
    DoseResponseError
        As ``fit_arrays``, or with fewer than four distinct doses.
    """
    from scipy import special

    x, y = sort_points(np.asarray(dose, dtype=np.float64), np.asarray(response, np.float64), np.array([0, len(dose)]))
    if len(np.unique(x)) < 4:
        raise DoseResponseError(f"expected at least 4 distinct doses, found {len(np.unique(x))}: no curve is fitted.")
    limits = bounds or Bounds()
    raw, _ = fit_sorted(x, y, np.array([0, len(x)]), limits, 0.5)
    one = {k: float(v[0]) for k, v in raw.items()}
    at = np.maximum(np.log10(np.asarray(grid, dtype=np.float64)), -1e4)

    def columns(log_dose: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            s = 1 / (1 + 10 ** (one["hill"] * (one["log10_ec50"] - log_dose)))
        u = (one["bottom"] - one["top"]) * s * (1 - s) * math.log(10)
        return np.stack([1 - s, s, u * (log_dose - one["log10_ec50"]), -u * one["hill"]], axis=1)

    free = [i for i, k in enumerate(("top", "bottom", "hill", "log10_ec50")) if math.isfinite(one[f"se_{k}"])]
    drawn = columns(at)
    mean = drawn[:, 0] * one["top"] + drawn[:, 1] * one["bottom"]
    half = np.full(len(at), np.nan)
    if free and one["df_residual"] >= 1:
        j = columns(x)[:, free]
        cov = np.linalg.pinv(j.T @ j) * one["rss"] / one["df_residual"]
        t = special.stdtrit(one["df_residual"], 0.5 + confidence / 2)
        half = t * np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", drawn[:, free], cov, drawn[:, free]), 0))
    frame = pl.DataFrame(
        {"dose": np.asarray(grid, np.float64), "response": mean, "low": mean - half, "high": mean + half}
    )
    return frame.with_columns(pl.col("low", "high").fill_nan(None))
