"""Non-compartmental pharmacokinetics: exposure, half-life, clearance and volumes from concentration over time.

    from_outcomes(study.outcomes, endpoint="concentration plasma", route="extravascular")
    profile(time_h, concentration_ng_ml, dose=10, route="iv bolus")

Below the limit of quantification (BLQ): before the first quantifiable sample it counts as 0; between quantifiable ones
and after the last it is left out. Nothing is reported beyond ``extrapolation_limit``: where more than 20 % of AUCinf
lies after the last quantifiable sample, AUCinf and all that rests on it is null, and the flags say why.
Formulas: Gabrielsson & Weiner 2012 (Methods Mol Biol 929:377); Gibaldi & Perrier 1982.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from workbench import units
from workbench.text import nearest

Route = Literal["extravascular", "iv bolus", "iv infusion"]
Method = Literal["linear-up log-down", "linear"]
ROUTES = ("extravascular", "iv bolus", "iv infusion")
METHODS = ("linear-up log-down", "linear")
PROFILE = ("subject", "treatment", "site", "dose", "source")
DEFAULTS: dict[str, Any] = {"n_points": 0, "n_blq": 0, "n_lambda": 0}
AGAIN_H = 48.0  # a profile that doubles after so long a gap holds two doses: day 1 and day 28 under one name


class PharmacokineticsError(ValueError):
    """A profile that cannot be analysed; the message names it."""


def usable(time_h: np.ndarray, value: np.ndarray, blq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and concentrations by the BLQ rule above, by rising time."""
    order = np.argsort(time_h, kind="stable")
    t, c, blq = time_h[order], value[order], blq[order]
    if blq.all():
        return t[:0], c[:0]
    first = int(np.argmin(blq))
    keep = ~blq | (np.arange(len(t)) < first)
    return t[keep], np.where(blq, 0.0, c)[keep]


def areas(t: np.ndarray, c: np.ndarray, method: Method = "linear-up log-down") -> tuple[float, float]:
    """Area under c(t) and under t c(t). Falling between positive values: logarithmic trapezoids, unless "linear"."""
    dt, c1, c2, t1, t2 = np.diff(t), c[:-1], c[1:], t[:-1], t[1:]
    area, moment = dt * (c1 + c2) / 2, dt * (t1 * (2 * c1 + c2) + t2 * (c1 + 2 * c2)) / 6
    if method == "linear-up log-down":
        log = (c2 < c1) & (c2 > 0)
        k = np.log(c1[log] / c2[log]) / dt[log]
        area[log] = (c1[log] - c2[log]) / k
        moment[log] = (t1[log] * c1[log] - t2[log] * c2[log]) / k + (c1[log] - c2[log]) / k**2
    return float(area.sum()), float(moment.sum())


def terminal(t: np.ndarray, c: np.ndarray, min_points: int = 3) -> dict[str, float]:
    """Terminal slope by the best adjusted R2 over the last ``min_points``, and more, of the samples handed in.

    Of fits within 0.0001 of the best the one with most samples. ``lambda_z`` (1/h) and ``clast`` (predicted), ``r2``
    (adjusted; 1 of two points), ``n``, ``span`` (covered half-lives); empty where no fit falls.
    """
    t, c = t[c > 0], c[c > 0]
    best: dict[str, float] = {}
    for n in range(max(min_points, 2), len(t) + 1):
        x, y = t[-n:], np.log(c[-n:])
        dx, dy = x - x.mean(), y - y.mean()
        slope = float(dx @ dy / (dx @ dx))
        if slope >= 0:
            continue
        total = float(dy @ dy)
        rest = max(total - slope * slope * float(dx @ dx), 0.0)
        r2 = 1.0 if n == 2 else 1 - (rest / total) * (n - 1) / (n - 2)
        if not best or r2 > best["r2"] - 1e-4:
            clast = math.exp(float(y.mean()) + slope * float(t[-1] - x.mean()))
            best = {
                "lambda_z": -slope, "clast": clast, "n": n, "span": float(x[-1] - x[0]) * -slope / math.log(2),
                "r2": max(r2, best.get("r2", r2)),
            }  # fmt: skip
    return best


def profile(
    time_h: np.ndarray,
    value: np.ndarray,
    blq: np.ndarray | None = None,
    *,
    dose: float | None = None,
    route: Route = "extravascular",
    infusion_h: float | None = None,
    method: Method = "linear-up log-down",
    tau_h: float | None = None,
    steady_state: bool = False,
    min_points: int = 3,
    extrapolation_limit: float = 20.0,
) -> dict[str, Any]:
    """One profile after one dose, at hour 0; concentrations in ng/mL, ``dose`` in mg/kg (or mg: no /kg below then).

    Where there is no sample at hour 0: after a bolus it is back-extrapolated from the first two samples on a log scale
    (where they fall; else the first sample); otherwise it is 0, or at ``steady_state`` the lowest concentration seen.

    Parameters
    ----------
    time_h, value : (n,) samples in any order; before hour 0 they are left out
    blq : (n,) bool, below the limit of quantification; None: where ``value`` is 0
    infusion_h : length of an infusion: half of it is taken off the MRT
    tau_h : adds the area to this hour (beyond the last sample along the terminal slope)
    min_points : samples of the terminal slope, all after Tmax (from Tmax on, after a bolus)
    extrapolation_limit : percent of AUCinf (area) that may lie beyond the last quantifiable sample

    Returns
    -------
    dict
        ``n_points``, ``n_blq``, ``cmax_ng_ml``, ``tmax_h``, ``tlast_h``, ``clast_ng_ml``, ``c0_ng_ml`` (bolus),
        ``auc_last_h_ng_ml``, ``auc_inf_h_ng_ml``, ``auc_tau_h_ng_ml``, ``auc_extrapolated_percent``,
        ``aumc_last_h2_ng_ml``, ``aumc_inf_h2_ng_ml``, ``mrt_h`` (extravascular: absorption included),
        ``lambda_z_per_h``, ``lambda_r2_adjusted``, ``n_lambda``, ``half_life_h``, ``cl_ml_min_kg`` and ``vz_l_kg``
        (intravenous; ``cl_f_`` and ``vz_f_`` extravascular), ``vss_l_kg`` (intravenous only), ``cmax_per_dose``,
        ``auc_last_per_dose``, ``flags``.
        NaN: cannot be said, or refused.

    Raises
    ------
    PharmacokineticsError
        Lengths differ, a number is negative or not finite, a time stands twice, an unknown route or method.
    """
    if route not in ROUTES or method not in METHODS:
        name, known = (route, ROUTES) if route not in ROUTES else (method, METHODS)
        raise PharmacokineticsError(f"{name!r} is unknown.{nearest(str(name), known)} Known: {', '.join(known)}.")
    if route == "iv infusion" and not (infusion_h and infusion_h > 0):
        raise PharmacokineticsError(f"iv infusion: expected infusion_h above 0, found {infusion_h}.")
    t, c = np.asarray(time_h, dtype=np.float64), np.asarray(value, dtype=np.float64)
    below = c <= 0 if blq is None else np.asarray(blq, dtype=bool)
    if not t.shape == c.shape == below.shape or t.ndim != 1:
        raise PharmacokineticsError(f"expected three columns of one length, found {t.shape}, {c.shape}, {below.shape}.")
    bad = ~np.isfinite(t) | ~np.isfinite(c) | (c < 0)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise PharmacokineticsError(
            f"sample {i}: expected finite numbers, concentration 0 or more; found {c[i]} at {t[i]} h. Drop or mend it."
        )
    flags: list[str] = []
    t, c, below = t[t >= 0], c[t >= 0], below[t >= 0]
    if len(np.unique(t)) < len(t):
        hour = np.sort(t)[:-1][np.diff(np.sort(t)) == 0][0]
        raise PharmacokineticsError(
            f"two samples at {hour} h. Two animals under one name? Name them apart, or average."
        )
    answer: dict[str, Any] = {"n_points": len(t), "n_blq": int(below.sum()), "n_lambda": 0, "flags": flags}
    t, c = usable(t, c, below)
    if not len(t):
        flags.append("no quantifiable sample")
        return answer
    top, last = int(np.argmax(c)), int(np.flatnonzero(c > 0)[-1])
    answer |= {"cmax_ng_ml": float(c[top]), "tmax_h": float(t[top])}
    answer |= {"tlast_h": float(t[last]), "clast_ng_ml": float(c[last])}
    again = [i for i in np.flatnonzero(np.diff(t) > AGAIN_H) if c[i + 1 :].max() > 2 * c[i]]
    if again:
        flags.append(f"rises again after {t[again[0] + 1] - t[again[0]]:g} h without a sample: another dose?")
    after = t >= t[top] if route == "iv bolus" else t > t[top]
    slope = terminal(t[after], c[after], min_points)
    if route == "extravascular" and top == 0:
        flags.append("highest at the first sample")
    if t[0] > 0:
        start = float(c.min()) if steady_state else 0.0
        if route == "iv bolus":
            falls = len(t) > 1 and c[0] > c[1] > 0
            start = float(c[0] * (c[0] / c[1]) ** (t[0] / (t[1] - t[0]))) if falls else float(c[0])
        t, c = np.append(0.0, t), np.append(start, c)
    if route == "iv bolus":
        answer["c0_ng_ml"] = float(c[0])
    area, moment = areas(t, c, method)
    if route == "iv bolus" and area > 0 and t[1:].size and areas(t[:2], c[:2], method)[0] > 0.2 * area:
        flags.append("over 20 % of the area before the second sample")
    answer |= {"auc_last_h_ng_ml": area, "aumc_last_h2_ng_ml": moment}
    if dose:
        answer |= {"cmax_per_dose": answer["cmax_ng_ml"] / dose, "auc_last_per_dose": area / dose}
    if tau_h is not None:
        answer["auc_tau_h_ng_ml"] = _to_tau(t, c, tau_h, method, slope.get("lambda_z"))
    if not slope:
        flags.append("no terminal slope")
        return answer
    k = slope["lambda_z"]
    answer |= {"lambda_z_per_h": k, "half_life_h": math.log(2) / k, "lambda_r2_adjusted": slope["r2"]}
    answer["n_lambda"] = int(slope["n"])
    flags += ["terminal slope over less than two half-lives"] if slope["span"] < 2 else []
    flags += ["poor terminal slope"] if slope["r2"] < 0.8 else []
    tail = answer["clast_ng_ml"] / k
    total = area + tail
    answer["auc_extrapolated_percent"] = 100 * tail / total
    if answer["auc_extrapolated_percent"] > extrapolation_limit:
        flags.append(f"extrapolated above {extrapolation_limit:g} %")
        return answer
    mean = moment + tail * (answer["tlast_h"] + 1 / k)
    mrt = mean / total - (infusion_h or 0.0) / 2 * (route == "iv infusion")
    answer |= {"auc_inf_h_ng_ml": total, "aumc_inf_h2_ng_ml": mean, "mrt_h": mrt}
    if dose:
        clearance = dose * 1e6 / total  # mg/kg over h ng/mL, in mL/h/kg
        f = "f_" if route == "extravascular" else ""
        answer |= {f"cl_{f}ml_min_kg": clearance / 60, f"vz_{f}l_kg": clearance / k / 1000}
        if not f:
            answer["vss_l_kg"] = clearance * mrt / 1000
    return answer


def _to_tau(t: np.ndarray, c: np.ndarray, tau: float, method: Method, slope: float | None) -> float:
    """Area from hour 0 to ``tau``: interpolated between samples as the method has it, beyond them along the slope."""
    if tau > t[-1]:
        if slope is None:
            return math.nan
        return areas(t, c, method)[0] + c[-1] / slope * (1 - math.exp(-slope * (tau - t[-1])))
    i = int(np.searchsorted(t, tau))
    share = (tau - t[i - 1]) / (t[i] - t[i - 1]) if i else 0.0
    a, b = c[max(i - 1, 0)], c[i]
    log = method == "linear-up log-down" and 0 < b < a
    end = a ** (1 - share) * b**share if log else a + share * (b - a)
    kept = t < tau
    return areas(np.append(t[kept], tau), np.append(c[kept], end), method)[0]


NUMBERS = (
    "cmax_ng_ml", "tmax_h", "tlast_h", "clast_ng_ml", "c0_ng_ml", "auc_last_h_ng_ml", "auc_inf_h_ng_ml",
    "auc_tau_h_ng_ml", "auc_extrapolated_percent", "aumc_last_h2_ng_ml", "aumc_inf_h2_ng_ml", "mrt_h", "lambda_z_per_h",
    "lambda_r2_adjusted", "half_life_h", "cl_ml_min_kg", "vz_l_kg", "vss_l_kg", "cl_f_ml_min_kg", "vz_f_l_kg",
    "cmax_per_dose", "auc_last_per_dose",
)  # fmt: skip


def from_outcomes(
    outcomes: pl.DataFrame,
    *,
    endpoint: str = "concentration plasma",
    by: Sequence[str] = PROFILE,
    dosed_at_h: Sequence[float] = (0.0,),
    molar_mass: float | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Every profile of a frame, one row a profile, sorted by its names and the hour of its dose.

    Parameters
    ----------
    outcomes : columns ``time_h``, ``value``, ``unit`` (a concentration), any of ``by``; where there ``endpoint``,
        ``dose`` with ``dose_unit`` (mg/kg or its like; or mg, and then clearance and volumes are per animal, in columns
        without ``_kg``), ``censored`` (-1: BLQ, value is the limit; without the column 0 is BLQ)
    dosed_at_h : hours of the doses that start a profile; a sample belongs to the last one not after it, and later
        profiles than the first are taken to be at steady state. One that is forgotten here is flagged ("rises again")
    molar_mass : g/mol, where concentrations are molar
    **options : as ``profile`` takes them: route, method, tau_h, ...

    Returns
    -------
    polars.DataFrame
        The names, ``dosed_at_h``, what ``profile`` returns (null for NaN), ``flags``.

    Raises
    ------
    PharmacokineticsError
        As ``profile``, naming the profile; a column is missing, or doses of two kinds are in one frame.
    """
    for column in ("time_h", "value", "unit"):
        if column not in outcomes.columns:
            hint = nearest(column, outcomes.columns)
            raise PharmacokineticsError(f"column {column!r} is missing; found {outcomes.columns}.{hint}")
    points = outcomes
    if "endpoint" in points.columns:
        known = points["endpoint"].unique().to_list()
        if endpoint not in known and points.height:
            raise PharmacokineticsError(
                f"no endpoint {endpoint!r}.{nearest(endpoint, known)} There is: {sorted(known)}."
            )
        points = points.filter(pl.col("endpoint") == endpoint)
    keys = [c for c in by if c in points.columns]
    points, kg = _in_units(points, molar_mass)
    starts = np.sort(np.asarray(dosed_at_h, dtype=np.float64))
    time = points["time_h"].to_numpy()
    which = np.searchsorted(starts, time, side="right") - 1
    points = points.with_columns(
        pl.Series("dosed_at_h", starts[np.maximum(which, 0)]), pl.Series("_before", which < 0, dtype=pl.Boolean)
    )
    rows, names = [], []
    for key, part in points.sort([*keys, "dosed_at_h"], maintain_order=True).group_by(
        [*keys, "dosed_at_h"], maintain_order=True
    ):
        part = part.filter(~pl.col("_before"))
        if part.height == 0:
            continue
        dose = part["dose"][0] if "dose" in part.columns else None
        blq = (part["censored"] < 0).to_numpy() if "censored" in part.columns else None
        at = float(part["dosed_at_h"][0])
        try:
            row = profile(
                part["time_h"].to_numpy() - at, part["value"].to_numpy(), blq, dose=dose,
                **({"steady_state": at > starts[0]} | options),
            )  # fmt: skip
        except PharmacokineticsError as error:
            raise PharmacokineticsError(f"{dict(zip([*keys, 'dosed_at_h'], key, strict=True))}: {error}") from None
        rows.append({**dict.fromkeys(NUMBERS, math.nan), **row})
        names.append(dict(zip([*keys, "dosed_at_h"], key, strict=True)))
    schema = {c: points.schema[c] for c in (*keys, "dosed_at_h")}
    whole = {c: pl.Int64() for c in DEFAULTS} | {c: pl.Float64() for c in NUMBERS} | {"flags": pl.List(pl.String)}
    frame = pl.DataFrame(names, schema=schema).hstack(pl.DataFrame(rows, schema=whole))
    frame = frame.with_columns(pl.col(NUMBERS).fill_nan(None))
    return frame if kg else frame.rename({c: c.removesuffix("_kg") for c in NUMBERS if c.endswith("_kg")})


def _in_units(points: pl.DataFrame, molar_mass: float | None) -> tuple[pl.DataFrame, bool]:
    """Concentrations in ng/mL, doses in mg/kg or mg; and are doses per body mass?"""
    for unit in points["unit"].unique().to_list():
        molar = units.parse(unit).dimension == "molar concentration"
        scale = float(units.factor(unit, "ng/mL", molar_mass if molar else None))
        points = points.with_columns(
            value=pl.when(pl.col("unit") == unit).then(pl.col("value") * scale).otherwise("value")
        )
    if "dose" not in points.columns or points["dose"].is_null().all():
        return points, True
    if "dose_unit" not in points.columns or points.filter(pl.col("dose").is_not_null())["dose_unit"].null_count():
        raise PharmacokineticsError("dose_unit is missing where there is a dose: name the unit, it is not guessed.")
    found = points["dose_unit"].drop_nulls().unique().to_list()
    kinds = {units.parse(u).dimension for u in found}
    if len(kinds) > 1:
        raise PharmacokineticsError(
            f"doses are in {found}: expected all per body mass or all absolute. Analyse them apart."
        )
    wanted = "mg/kg" if kinds == {"dose per body mass"} else "mg"
    for unit in found:
        scale = float(units.factor(unit, wanted))
        points = points.with_columns(
            dose=pl.when(pl.col("dose_unit") == unit).then(pl.col("dose") * scale).otherwise("dose")
        )
    return points, wanted == "mg/kg"
