"""Tumour growth: volume curves turned into response calls, rates, times and the comparison of arms.

from_outcomes(study.outcomes)                                 one row a curve: response, mRECIST call, rate, times
arms(study.outcomes, control="vehicle", day=21)               one row an arm: TGI, T/C, log cell kill, AUC ratio
response(day, volume)                                         one curve, on arrays
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from workbench import units
from workbench.text import nearest

Repeated = Literal["refuse", "mean"]
CURVE = ("subject", "treatment", "site", "source")
# Gao et al. 2015 (Nat Med 21:1318): both must lie below; else the next, and PD where none holds
RULE = {"CR": (-95.0, -40.0), "PR": (-50.0, -20.0), "SD": (35.0, 30.0)}
LOG2_10 = math.log2(10.0)  # 3.32: doublings in a factor of ten


class GrowthError(ValueError):
    """Volume curves that cannot be used; the message names the curve."""


def response(
    day: np.ndarray, volume: np.ndarray, *, from_day: float = 10.0, until_day: float | None = None, min_points: int = 1
) -> tuple[str | None, float, float]:
    """mRECIST call, best response and best average response (both % of baseline) of one curve.

    The change at day t is 100 (V(t) - V(0)) / V(0); the best response is its minimum over ``from_day`` and later; the
    average response at t is the mean of the changes from the first day to t, and the best one its minimum over the same
    days. CR: below -95 % and -40 %; PR: -50 % and -20 %; SD: 35 % and 30 %; PD: all else (Gao et al. 2015).

    Parameters
    ----------
    day, volume : (n,) by rising day; the first is the baseline
    until_day : ignore what was measured later; None: the whole curve, as the paper has it
    min_points : fewer measurements than this in the window give no call (None, nan, nan)
    """
    change = 100 * (volume - volume[0]) / volume[0]
    average = np.cumsum(change) / np.arange(1, len(change) + 1)
    window = (day >= from_day) & (day <= (math.inf if until_day is None else until_day))
    if window.sum() < max(min_points, 1):
        return None, math.nan, math.nan
    best, mean = float(change[window].min()), float(average[window].min())
    for call, (limit, mean_limit) in RULE.items():
        if best < limit and mean < mean_limit:
            return call, best, mean
    return "PD", best, mean


def growth_rate(day: np.ndarray, volume: np.ndarray, confidence: float = 0.95) -> dict[str, float]:
    """Least-squares slope of ln volume on day, over volumes above 0: ``rate``, ``low``, ``high`` (1/day), ``r2``.

    NaN with fewer than two such points (interval: three).
    """
    from scipy import special

    answer = dict.fromkeys(("rate", "low", "high", "r2"), math.nan)
    x, y = day[volume > 0], np.log(volume[volume > 0])
    if len(x) < 2:
        return answer
    dx, dy = x - x.mean(), y - y.mean()
    sxx, syy = float(dx @ dx), float(dy @ dy)
    slope = float(dx @ dy) / sxx
    rest = max(syy - slope * slope * sxx, 0.0)
    answer |= {"rate": slope, "r2": 1 - rest / syy if syy > 0 else math.nan}
    if len(x) > 2:
        half = float(special.stdtrit(len(x) - 2, 0.5 + confidence / 2)) * math.sqrt(rest / (len(x) - 2) / sxx)
        answer |= {"low": slope - half, "high": slope + half}
    return answer


def volume_at(day: np.ndarray, volume: np.ndarray, at: float) -> float:
    """Volume at day ``at``: between two measurements log-linear (linear where one is 0); NaN outside of them."""
    if not day[0] <= at <= day[-1]:
        return math.nan
    i = int(np.searchsorted(day, at, side="left"))
    if day[i] == at:
        return float(volume[i])
    share = (at - day[i - 1]) / (day[i] - day[i - 1])
    a, b = float(volume[i - 1]), float(volume[i])
    return a ** (1 - share) * b**share if a > 0 and b > 0 else a + share * (b - a)


def time_to(day: np.ndarray, volume: np.ndarray, target: float) -> tuple[float, int]:
    """First day the volume reaches ``target`` (interpolated as ``volume_at``), and 0; or the last day, and +1."""
    reached = np.flatnonzero(volume >= target)
    if not len(reached):
        return float(day[-1]), 1
    i = int(reached[0])
    if i == 0:
        return float(day[0]), 0
    a, b = float(volume[i - 1]), float(volume[i])
    share = math.log(target / a) / math.log(b / a) if a > 0 else (target - a) / (b - a)
    return float(day[i - 1] + share * (day[i] - day[i - 1])), 0


def mean_fold(day: np.ndarray, volume: np.ndarray, until: float) -> float:
    """Mean of V / V(0) from the first day to ``until`` (trapezoids); NaN where the curve ends before."""
    end = volume_at(day, volume, until)
    if math.isnan(end) or until <= day[0]:
        return math.nan
    kept = day < until
    x, y = np.append(day[kept], until), np.append(volume[kept], end)
    return float(np.trapezoid(y, x) / volume[0] / (until - day[0]))


def from_outcomes(
    outcomes: pl.DataFrame,
    *,
    endpoint: str = "tumour_volume",
    by: Sequence[str] = CURVE,
    fold: float = 2.0,
    from_day: float = 10.0,
    until_day: float | None = None,
    min_points: int = 1,
    repeated: Repeated = "refuse",
    confidence: float = 0.95,
) -> pl.DataFrame:
    """Every growth curve of a frame, one row a curve, sorted by its names.

    Parameters
    ----------
    outcomes : columns ``time_h``, ``value``, ``unit`` (a volume), any of ``by``, and ``endpoint`` where there
    fold : "event": the volume has reached this many times the baseline (2: doubling)
    from_day, until_day, min_points : the window of the mRECIST call, see ``response``
    repeated : several volumes of one curve at one time are refused (they usually are several animals under one name),
        or averaged ("mean")

    Returns
    -------
    polars.DataFrame
        Names, ``n_points``, ``first_day``, ``last_day``, ``baseline_mm3``, ``call``, ``best_response_percent``,
        ``best_average_response_percent``, ``growth_rate_per_day`` with ``_low`` and ``_high`` and ``growth_r2``,
        ``doubling_time_day`` (ln 2 / rate, null unless it grows), ``event_day`` and ``event_censored`` (+1: not reached
        by the last day, which then stands there). Null: cannot be said.

    Raises
    ------
    GrowthError
        A column is missing, a number is not finite, a volume negative or a baseline 0, or a day stands twice.
    """
    names, curves = _curves(outcomes, endpoint, by, repeated)
    rows: list[dict[str, Any]] = []
    for day, volume in curves:
        call, best, mean = response(day, volume, from_day=from_day, until_day=until_day, min_points=min_points)
        rate = growth_rate(day, volume, confidence)
        event, censored = time_to(day, volume, fold * volume[0])
        rows.append(
            {
                "n_points": len(day),
                "first_day": day[0],
                "last_day": day[-1],
                "baseline_mm3": volume[0],
                "call": call,
                "best_response_percent": best,
                "best_average_response_percent": mean,
                "growth_rate_per_day": rate["rate"],
                "growth_rate_low_per_day": rate["low"],
                "growth_rate_high_per_day": rate["high"],
                "growth_r2": rate["r2"],
                "doubling_time_day": math.log(2) / rate["rate"] if rate["rate"] > 0 else math.nan,
                "event_day": event,
                "event_censored": censored,
            }
        )
    schema: dict[str, Any] = {"n_points": pl.Int64, "call": pl.String, "event_censored": pl.Int8}
    columns = [
        "n_points", "first_day", "last_day", "baseline_mm3", "call", "best_response_percent",
        "best_average_response_percent", "growth_rate_per_day", "growth_rate_low_per_day", "growth_rate_high_per_day",
        "growth_r2", "doubling_time_day", "event_day", "event_censored",
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema={c: schema.get(c, pl.Float64) for c in columns})
    return names.hstack(frame.with_columns(pl.selectors.float().fill_nan(None)))


def arms(
    outcomes: pl.DataFrame,
    *,
    control: str,
    day: float,
    endpoint: str = "tumour_volume",
    by: Sequence[str] = CURVE,
    within: Sequence[str] = (),
    target_fold: float = 4.0,
    repeated: Repeated = "refuse",
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Each treatment against the control arm, one row a treatment (and ``within``).

    Parameters
    ----------
    control : the treatment that is the control
    day : of comparison; a curve that has ended before does not count, and ``n_ended`` says how many
    within : columns within which treatment and control are compared, as ("subject",) where each patient's tumour was
        grown in one mouse per treatment
    target_fold : size, in baselines, at which the delay of the log cell kill is read
    repeated : as in ``from_outcomes``

    Returns
    -------
    polars.DataFrame
        ``within``, ``treatment``, ``n``, ``n_control``, ``n_ended``, then (null: cannot be said, as where a median is
        not reached or controls do not grow)

        - ``tgi_percent`` = 100 (1 - dT / dC), d: mean volume at ``day`` less the mean baseline of the same animals,
          with bootstrap limits over animals where both arms have at least three; ``t_over_c_percent`` of mean V / V(0);
        - ``delay_day``: median days to ``target_fold`` of T less of C; ``log_cell_kill`` = delay / (3.32 Td), Td the
          median doubling time of the controls; ``auc_ratio``: mean of V / V(0) to ``day``, T over C.

    Raises
    ------
    GrowthError
        As ``from_outcomes``; also where there is no such control.
    """
    names, curves = _curves(outcomes, endpoint, by, repeated)
    if control not in names["treatment"]:
        hint = nearest(control, names["treatment"].unique())
        raise GrowthError(f"control {control!r} is no treatment here.{hint} There is: {names['treatment'].unique()}.")
    draw = np.random.default_rng(seed)
    places = names.with_row_index("_i").group_by([*within, "treatment"], maintain_order=True).agg("_i")
    groups = {tuple(row[:-1]): row[-1] for row in places.rows()}
    rows: list[dict[str, Any]] = []
    for key, members in groups.items():
        if key[-1] == control or (*key[:-1], control) not in groups:
            continue
        treated, controls = [curves[i] for i in members], [curves[i] for i in groups[(*key[:-1], control)]]
        rows.append(
            dict(zip([*within, "treatment"], key, strict=True))
            | _compared(treated, controls, day, target_fold, confidence, draws, draw)
        )
    schema = {c: names.schema[c] for c in (*within, "treatment")} | {
        c: pl.Int64() for c in ("n", "n_control", "n_ended")
    }
    floats = ("tgi_percent", "tgi_low_percent", "tgi_high_percent", "t_over_c_percent", "delay_day", "log_cell_kill")
    frame = pl.DataFrame(rows, schema=schema | {c: pl.Float64() for c in (*floats, "auc_ratio")})
    return frame.with_columns(pl.selectors.float().fill_nan(None))


Curves = list[tuple[np.ndarray, np.ndarray]]


def _compared(
    treated: Curves, controls: Curves, day: float, fold: float, confidence: float, draws: int, draw: np.random.Generator
) -> dict[str, Any]:
    def sizes(curves: Curves) -> np.ndarray:
        """(animals still there, 2) baseline and volume at the day."""
        both = np.array([(v[0], volume_at(d, v, day)) for d, v in curves])
        return both[np.isfinite(both[:, 1])]

    def middle(curves: Curves) -> float:
        """Median time to the fold; censored ones count as later than all others."""
        times = [time_to(d, v, fold * v[0]) for d, v in curves]
        middle = float(np.median([math.inf if c else t for t, c in times]))
        return middle if math.isfinite(middle) else math.nan

    t, c = sizes(treated), sizes(controls)
    row: dict[str, Any] = {"n": len(treated), "n_control": len(controls)}
    row["n_ended"] = len(treated) - len(t) + len(controls) - len(c)
    if len(t) and len(c):
        grown = float((c[:, 1] - c[:, 0]).mean())
        row["tgi_percent"] = 100 * (1 - float((t[:, 1] - t[:, 0]).mean()) / grown) if grown > 0 else math.nan
        row["t_over_c_percent"] = 100 * float((t[:, 1] / t[:, 0]).mean() / (c[:, 1] / c[:, 0]).mean())
        if min(len(t), len(c)) > 2 and grown > 0:
            dt, dc = ((v[:, 1] - v[:, 0])[draw.integers(0, len(v), (draws, len(v)))].mean(axis=1) for v in (t, c))
            tail = 50 * (1 - confidence)
            with np.errstate(divide="ignore"):
                low, high = np.percentile(100 * (1 - dt / dc), [tail, 100 - tail])
            row |= {"tgi_low_percent": float(low), "tgi_high_percent": float(high)}
    row["delay_day"] = middle(treated) - middle(controls)
    rate = float(np.median([growth_rate(d, v)["rate"] for d, v in controls]))
    row["log_cell_kill"] = row["delay_day"] / (LOG2_10 * math.log(2) / rate) if rate > 0 else math.nan
    folds = [np.array([mean_fold(d, v, day) for d, v in curves]) for curves in (treated, controls)]
    if all(np.isfinite(f).any() for f in folds):
        row["auc_ratio"] = float(np.nanmean(folds[0]) / np.nanmean(folds[1]))
    return row


def _curves(
    outcomes: pl.DataFrame, endpoint: str, by: Sequence[str], repeated: Repeated
) -> tuple[pl.DataFrame, Curves]:
    """Names of the curves, sorted, and day and volume (mm3) of each by rising day."""
    for column in ("time_h", "value", "unit"):
        if column not in outcomes.columns:
            hint = nearest(column, outcomes.columns)
            raise GrowthError(f"column {column!r} is missing; found {outcomes.columns}.{hint}")
    points = outcomes.with_row_index("_row")
    if "endpoint" in points.columns:
        known = points["endpoint"].unique().to_list()
        if endpoint not in known and points.height:
            raise GrowthError(f"no endpoint {endpoint!r}.{nearest(endpoint, known)} There is: {sorted(known)}.")
        points = points.filter(pl.col("endpoint") == endpoint)
    keys = [c for c in by if c in points.columns]
    if not keys:
        raise GrowthError(
            f"expected at least one of the columns {list(by)} to tell curves apart; found {points.columns}."
        )

    def refuse(bad: pl.DataFrame, what: str, column: str, do: str) -> None:
        if bad.height:
            names = {c: bad[c][0] for c in keys}
            raise GrowthError(
                f"row {bad['_row'][0]} {names}: expected {what}, found {bad[column][0]} ({bad.height} such rows). {do}"
            )

    for column in ("time_h", "value"):
        refuse(
            points.filter(~pl.col(column).is_finite().fill_null(False)), f"a finite {column}", column,
            "Drop those rows, or put right where they come from.",
        )  # fmt: skip
    for unit in points["unit"].unique().to_list():
        scale = float(units.factor(unit, "mm3"))
        points = points.with_columns(
            value=pl.when(pl.col("unit") == unit).then(pl.col("value") * scale).otherwise("value")
        )
    refuse(points.filter(pl.col("value") < 0), "a volume of 0 or more", "value", "Put right where it comes from.")
    if repeated == "mean":
        points = points.group_by([*keys, "time_h"], maintain_order=True).agg(
            pl.col("value").mean(), pl.col("_row").first()
        )
    elif repeated != "refuse":
        raise GrowthError(f"repeated: expected 'refuse' or 'mean', found {repeated!r}.")
    points = points.sort([*keys, "time_h"], maintain_order=True)
    twice = points.filter(pl.struct([*keys, "time_h"]).is_duplicated())
    refuse(
        twice,
        "one volume a curve and time",
        "time_h",
        "Are these two animals? Name them apart, or average: repeated='mean'.",
    )
    groups = points.group_by(keys, maintain_order=True).agg(pl.col("time_h") / 24, "value", pl.col("_row").first())
    first = groups.with_columns(first=pl.col("value").list.first())
    refuse(
        first.filter(pl.col("first") == 0), "a baseline above 0", "first", "Start the curve where it can be measured."
    )
    curves = [
        (np.asarray(d, dtype=np.float64), np.asarray(v, dtype=np.float64))
        for d, v in zip(groups["time_h"].to_list(), groups["value"].to_list(), strict=True)
    ]
    return groups.select(keys), curves
