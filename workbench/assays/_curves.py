"""Fitted curves as a table: parameters, potency, area, intervals, the test against a flat line, and flags."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import polars as pl

MIN_DOSES = 4  # distinct doses, dose 0 included: fewer do not tell four parameters apart
# coefficients of `flat_df`: five for the model's degrees of freedom, five for the residual ones
DF = (0.5367, 0.2842, -0.3071, -0.0334, -1.0646, -0.0436, 0.0755, 0.9902, -0.1246, -0.5682)
DF_OF_FIVE = {4: (1.23, 1.75), 5: (1.32, 1.57)}  # by doses: five points lie beside that formula
FLAGS = (
    "flat", "increasing", "no upper plateau", "no lower plateau", "poor fit", "non-monotone", "few doses",
    "too few doses", "top at bound", "hill at bound", "ec50 at bound", "no interval",
)  # fmt: skip


class DoseResponseError(ValueError):
    """Points that cannot be fitted; the message names the curve or row, and what to do."""


@dataclass(frozen=True)
class Bounds:
    """Where parameters may lie: responses as fractions, ``ec50`` in log10 units beyond the tested doses."""

    top: tuple[float, float] = (0.5, 1.5)
    bottom: tuple[float, float] = (0.0, 1.5)
    hill: tuple[float, float] = (0.1, 10.0)
    ec50: tuple[float, float] = (-2.0, 2.0)  # below the lowest and above the highest dose that is not 0

    def array(self) -> np.ndarray:
        """(8,) float64, checked: low before high, hill above 0.

        Raises
        ------
        DoseResponseError
            A bound is not finite, or the wrong way round.
        """
        flat = np.array([v for pair in astuple(self) for v in pair], dtype=np.float64)
        if not (np.isfinite(flat).all() and (flat[0::2] <= flat[1::2]).all() and 0 < flat[4] < flat[5]):
            raise DoseResponseError(f"bounds: expected finite pairs, low before high, hill above 0; found {self}.")
        return flat


@dataclass(frozen=True)
class Rules:
    """Thresholds of the flags."""

    alpha: float = 0.05  # "flat": p_flat is not below it
    plateau: float = 0.9  # "no lower (upper) plateau": less of the fall than this lies above the highest (lowest) dose
    r2: float = 0.7  # "poor fit": the curve is not flat, and explains less than this
    rise: float = 0.3  # "non-monotone": a dose's mean response lies this far above that of a lower dose
    few: int = 6  # "few doses": fitted, with fewer distinct doses than this


def flat_df(doses: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effective degrees of freedom (model, residual) of the F test of a fitted curve against a flat line.

    On a flat line EC50 and hill mean nothing, so the usual 3 and n - 4 do not hold (Davies 1987, Biometrika 74:33;
    NPARC meets the same, Childs et al. 2019): with five doses they call 0.4 % of flat curves significant at 5 %, with
    sixteen 4.7 %. The coefficients were fitted to 40,000 simulated flat curves of each of 68 designs (4 to 32 doses, 1
    to 8 replicates, even and uneven spacing, with and without dose 0, default ``Bounds``). On these, the share
    of flat curves with p below 0.2, 0.1, 0.05 or 0.01 is 0.80 to 1.15 times what it should be.

    Parameters
    ----------
    doses, points : (curves,) distinct doses (dose 0 counts as one) and points
    """
    k, n = np.asarray(doses, dtype=np.float64), np.asarray(points, dtype=np.float64)
    k, free = np.maximum(k, MIN_DOSES), np.maximum(n - 4, 1)
    a, b = DF[:5], DF[5:]
    model = np.exp(a[0] + a[1] * np.log(k) + a[2] / free + a[3] * k / n + a[4] / (k - 2) ** 2)
    residual = free * np.exp(b[0] + b[1] * np.log(k) + b[2] / free + b[3] * k / n + b[4] / free**2)
    for distinct, (first, second) in DF_OF_FIVE.items():
        five = (n == 5) & (k == distinct)
        model, residual = np.where(five, first, model), np.where(five, second, residual)
    return model, residual


def sort_points(dose: np.ndarray, response: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log10 dose (a dose of 0 as the fit wants it) and response, by rising dose within each curve.

    Raises
    ------
    DoseResponseError
        Shapes do not fit; a dose is negative, or a number is not finite (the message says which row of which curve).
    """
    from workbench.assays import _logistic

    if not (dose.ndim == response.ndim == 1 and dose.shape == response.shape and offsets[0] == 0):
        raise DoseResponseError(f"expected dose and response of one length, found {dose.shape} and {response.shape}.")
    if offsets[-1] != len(dose) or (np.diff(offsets) < 1).any():
        raise DoseResponseError(f"offsets: expected a rise from 0 to {len(dose)}, at least one point a curve.")
    for name, bad, wanted in (
        ("dose", ~(np.isfinite(dose) & (dose >= 0)), "a finite number from 0 up"),
        ("response", ~np.isfinite(response), "a finite number"),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            curve = int(np.searchsorted(offsets, row, side="right")) - 1
            value = (dose if name == "dose" else response)[row]
            raise DoseResponseError(
                f"{name} of row {row} (curve {curve}, {int(bad.sum())} such rows): expected {wanted}, found {value}. "
                "Drop those rows, or put right where they come from."
            )
    with np.errstate(divide="ignore"):
        x = np.maximum(np.log10(dose), _logistic.ZERO_DOSE)
    starts = np.zeros(len(x), dtype=bool)
    starts[offsets[:-1]] = True
    if not (starts[1:] | (np.diff(x) >= 0)).all():
        order = np.lexsort((x, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))))
        x, response = x[order], response[order]
    return np.ascontiguousarray(x), np.ascontiguousarray(response)


def fit_sorted(
    x: np.ndarray, y: np.ndarray, offsets: np.ndarray, bounds: Bounds, level: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Raw columns of ``_logistic.fit`` by name, and per curve (points, distinct doses, log10 lowest and highest)."""
    from workbench.assays import _logistic

    out = np.empty((len(offsets) - 1, len(_logistic.COLUMNS)))
    _logistic.fit(x, y, offsets, bounds.array(), level, out)
    new = np.ones(len(x), dtype=np.int64)
    new[1:] = x[1:] != x[:-1]
    new[offsets[:-1]] = 1
    zero = np.add.reduceat((x <= _logistic.ZERO_DOSE).astype(np.int64), offsets[:-1])
    first = np.minimum(offsets[:-1] + zero, offsets[1:] - 1)
    design = np.stack([np.diff(offsets), np.add.reduceat(new, offsets[:-1]), x[first], x[offsets[1:] - 1], zero])
    return dict(zip(_logistic.COLUMNS, out.T, strict=True)), design


def censor(
    log10: np.ndarray, missing: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Potency kept within the tested doses: (log10 value or extreme dose, censored, is it inside).

    ``missing`` says where a potency that does not exist lies: +1 above the tested doses, -1 below them.
    """
    where = np.where(np.isnan(log10), missing, np.where(log10 > high, 1, np.where(log10 < low, -1, 0)))
    return np.where(where > 0, high, np.where(where < 0, low, log10)), where.astype(np.int8), where == 0


def interval(value: np.ndarray, error: np.ndarray, t: np.ndarray, log10: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both limits, taken from log10 to the dose where asked; NaN where there is none or it is beyond any number."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = value - t * error, value + t * error
        if log10:
            low, high = 10.0**low, 10.0**high
    return np.where(np.isfinite(low), low, np.nan), np.where(np.isfinite(high), high, np.nan)


def table(
    raw: dict[str, np.ndarray], design: np.ndarray, *, rules: Rules, confidence: float, unit: str, level: float
) -> pl.DataFrame:
    """One row a curve; the columns are described in ``dose_response.fit``."""
    from scipy import special

    points, doses, low, high, zero = design
    fitted = doses >= MIN_DOSES
    raw = {k: np.where(fitted, v, np.nan) for k, v in raw.items()}
    used = np.unique(raw["df_residual"][raw["df_residual"] >= 1])
    t = np.full(len(points), np.nan)
    place = np.searchsorted(used, raw["df_residual"])
    has = raw["df_residual"] >= 1
    t[has] = special.stdtrit(used, 0.5 + confidence / 2)[place[has]]

    df_model, df_rest = flat_df(doses, points)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (raw["tss"] - raw["rss"]) / df_model / (raw["rss"] / df_rest)
        r2 = 1 - raw["rss"] / raw["tss"]
        p = special.fdtrc(df_model, df_rest, np.maximum(f, 0.0))
        p = np.where(raw["tss"] > 0, p, 1.0)
    testable = fitted & (points > MIN_DOSES)
    f, p, df_model, df_rest = (np.where(testable, v, np.nan) for v in (f, p, df_model, df_rest))

    below = raw["emax"] < level  # an increasing or uncrossed curve lies on one side of the level
    ic50, ic50_side, inside = censor(raw["log10_ic50"], np.where(below, -1, 1), low, high)
    ec50, ec50_side, within = censor(raw["log10_ec50"], np.ones(len(points)), low, high)
    ic_low, ic_high = interval(ic50, np.where(inside, raw["se_log10_ic50"], np.nan), t, log10=True)
    ec_low, ec_high = interval(ec50, np.where(within, raw["se_log10_ec50"], np.nan), t, log10=True)
    columns: dict[str, Any] = {
        "n_points": points.astype(np.int64),
        "n_doses": doses.astype(np.int64),
        f"dose_min_{unit}": 10.0**low,
        f"dose_max_{unit}": 10.0**high,
        f"ic50_{unit}": np.where(fitted, 10.0**ic50, np.nan),
        "ic50_censored": np.where(fitted, ic50_side, 0).astype(np.int8),
        f"ic50_low_{unit}": ic_low,
        f"ic50_high_{unit}": ic_high,
        f"ec50_{unit}": np.where(fitted, 10.0**ec50, np.nan),
        "ec50_censored": np.where(fitted, ec50_side, 0).astype(np.int8),
        f"ec50_low_{unit}": ec_low,
        f"ec50_high_{unit}": ec_high,
        "auc": raw["auc"],
    }
    columns["auc_low"], columns["auc_high"] = interval(raw["auc"], raw["se_auc"], t)
    columns["emax"] = raw["emax"]
    for name in ("top", "bottom", "hill"):
        columns[name] = raw[name]
        columns[f"{name}_low"], columns[f"{name}_high"] = interval(raw[name], raw[f"se_{name}"], t)
    columns |= {"log10_ec50": raw["log10_ec50"], "rss": raw["rss"], "r2": r2, "df_residual": raw["df_residual"]}
    columns |= {"f_flat": f, "df_flat_model": df_model, "df_flat_residual": df_rest, "p_flat": p}

    with np.errstate(invalid="ignore", over="ignore"):
        seen = [1 / (1 + 10 ** (raw["hill"] * (raw["log10_ec50"] - x))) for x in (low, high)]
        flat = fitted & ~(p < rules.alpha) & testable
        curved, bits = fitted & ~flat, np.nan_to_num(raw["at_bound"]).astype(np.int64)
        rising = curved & (raw["bottom"] > raw["top"])
        marks = [
            flat,
            rising,
            curved & (zero == 0) & (seen[0] > 1 - rules.plateau),
            curved & (seen[1] < rules.plateau),
            curved & (r2 < rules.r2),
            fitted & ~rising & (raw["rise"] > rules.rise),
            fitted & (doses < rules.few),
            ~fitted,
            curved & ((bits & 1) > 0),
            curved & ((bits & 4) > 0),
            curved & ((bits & 8) > 0),
            fitted & ~np.isfinite(raw["se_log10_ec50"]) & ~np.isfinite(raw["se_auc"]),
        ]
    mask = np.sum([np.asarray(m, dtype=np.int64) << i for i, m in enumerate(marks)], axis=0)
    kinds, which = np.unique(mask, return_inverse=True)
    words = [[FLAGS[i] for i in range(len(FLAGS)) if kind >> i & 1] for kind in kinds]
    frame = pl.DataFrame(columns).with_columns(pl.selectors.float().fill_nan(None))
    frame = frame.with_columns(pl.col("df_residual").cast(pl.Int64))
    return frame.with_columns(flags=pl.Series(words, dtype=pl.List(pl.String)).gather(which))
