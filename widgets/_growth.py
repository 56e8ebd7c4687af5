"""Growth curves as the widget draws them: one row a curve, the middle of an arm by day. All volumes in one unit."""

from __future__ import annotations

import numpy as np
import polars as pl

from widgets.linked import counted
from workbench.tables import TableError

ENDPOINT = "tumour_volume"
LONGEST = 60  # days of an arm at which its middle is drawn
HOW = (
    "The middle of an arm is drawn while at least half of its models, and three, are still measured; a volume between "
    "two measured days is interpolated on the log scale. On the log axis a tumour that is gone lies on the floor. The "
    "best change is the lowest from day 10 on; calls are those of mRECIST (Gao et al. 2015). TGI, tumour growth "
    "inhibition, is 100 (1 \u2212 growth of the arm / growth of the control), of mean volumes from day 0."
)


def curves_of(outcomes: pl.DataFrame) -> pl.DataFrame:
    """One row a curve: subject, treatment, unit, day (list, ascending), volume (list); the mean where a day repeats.

    Raises
    ------
    TableError
        A column is missing, or the volumes have more than one unit.
    """
    needed = ["subject", "treatment", "endpoint", "time_h", "value", "unit"]
    if missing := [c for c in needed if c not in outcomes.columns]:
        raise TableError(f"outcomes: column {missing[0]!r} is missing; found {outcomes.columns}.")
    texts = [c for c in needed if c not in ("time_h", "value")]
    rows = outcomes.select(pl.col(texts).cast(pl.String), pl.col("time_h", "value").cast(pl.Float64)).filter(
        (pl.col("endpoint") == ENDPOINT) & pl.col("time_h").is_finite() & pl.col("value").is_finite()
    )
    if (units := rows["unit"].unique().sort()).len() > 1:
        raise TableError(f"outcomes: {ENDPOINT} should have one unit, found {units.to_list()}. Convert one of them.")
    points = rows.with_columns(day=pl.col("time_h") / 24).group_by("subject", "treatment", "day").agg(
        pl.col("value").mean().alias("volume"), pl.col("unit").first()
    )  # fmt: skip
    return (
        points.sort("treatment", "subject", "day")
        .group_by("treatment", "subject", maintain_order=True)
        .agg(pl.col("unit").first(), "day", "volume")
    )


def repeated(outcomes: pl.DataFrame) -> str:
    """What ``curves_of`` has averaged, in a sentence; empty where every volume has a day of its own."""
    keys = ["treatment", "subject", "time_h"]
    rows = outcomes.filter((pl.col("endpoint").cast(pl.String) == ENDPOINT) & pl.col("value").is_finite())
    twice = rows.select(pl.col("treatment", "subject").cast(pl.String), "time_h").group_by(keys).len()
    twice = twice.filter((pl.col("len") > 1) & pl.col("time_h").is_finite())
    if twice.is_empty():
        return ""
    models = twice["subject"].unique().sort().to_list()
    days = f"{len(twice):,} {'day' if len(twice) == 1 else 'days'}"
    return f"Measured more than once on {days}, of which the mean is drawn: {counted(models)}."


def middles(curves: pl.DataFrame) -> dict[str, np.ndarray]:
    """Median with quartiles, and geometric mean with its 95 % t interval, of an arm's curves on a grid of days.

    Returns
    -------
    dict
        ``grid_day`` (G,), and ``median q25 q75 mean low high`` (G,), NaN where too few are measured. The geometric mean
        is that of volume + 1, less 1, since a tumour that is gone measures 0.
    """
    from scipy.special import stdtrit

    days = np.unique(np.concatenate([np.asarray(day) for day in curves["day"]]))
    if len(days) > LONGEST:
        days = np.linspace(days[0], days[-1], LONGEST)
    logs = np.full((len(curves), len(days)), np.nan)
    for i, (day, volume) in enumerate(curves.select("day", "volume").iter_rows()):
        logs[i] = np.interp(days, day, np.log1p(np.maximum(volume, 0)), left=np.nan, right=np.nan)
    n = np.isfinite(logs).sum(axis=0)
    enough = n >= max(min(3, len(curves)), len(curves) / 2)
    logs, n, days = logs[:, enough], n[enough], days[enough]
    if not len(days):
        return {name: np.empty(0) for name in ("grid_day", "median", "q25", "q75", "mean", "low", "high")}
    q25, median, q75 = np.nanquantile(logs, [0.25, 0.5, 0.75], axis=0)
    mean = np.nanmean(logs, axis=0)
    spread = np.sqrt(np.nansum((logs - mean) ** 2, axis=0) / np.maximum(1, n - 1))
    half = np.where(n > 1, stdtrit(np.maximum(1, n - 1), 0.975) * spread / np.sqrt(n), np.nan)
    given = {"median": median, "q25": q25, "q75": q75, "mean": mean, "low": mean - half, "high": mean + half}
    return {"grid_day": days, **{name: np.maximum(0, np.expm1(value)) for name, value in given.items()}}


def _as_outcomes(curves: pl.DataFrame) -> pl.DataFrame:
    points = curves.select("subject", "treatment", "unit", "day", "volume").explode(
        "day", "volume", empty_as_null=False
    )
    return points.select(
        "subject", "treatment", "unit", endpoint=pl.lit(ENDPOINT), time_h=pl.col("day") * 24, value="volume"
    )


def called(curves: pl.DataFrame, calls: pl.DataFrame | None = None) -> pl.DataFrame:
    """With ``call`` (CR, PR, SD, PD or null) and ``best`` (lowest change from day 10 on, per cent) of each curve.

    Both are ``workbench.assays.growth``'s; ``calls`` (subject, treatment, call), where given, goes before its calls.

    Raises
    ------
    TableError
        ``calls`` lacks a column.
    """
    from workbench.assays import growth

    names = ["subject", "treatment"]
    judged = curves.filter(pl.col("volume").list.first() > 0)  # no change from a baseline of nothing
    if judged.is_empty():
        return curves.with_columns(call=pl.lit(None, pl.String), best=pl.lit(None, pl.Float64))
    own = growth.from_outcomes(_as_outcomes(judged)).select(*names, "call", best="best_response_percent")
    if calls is not None:
        if missing := [c for c in (*names, "call") if c not in calls.columns]:
            raise TableError(f"calls: column {missing[0]!r} is missing; found {calls.columns}.")
        given = calls.select(pl.col(*names, "call").cast(pl.String)).unique(names, keep="first", maintain_order=True)
        own = own.drop("call").join(given, on=names, how="left")
    return curves.join(own, on=names, how="left", maintain_order="left")


def arms_of(curves: pl.DataFrame, control: str | None) -> tuple[pl.DataFrame, float | None]:
    """(arms, day): one row an arm with treatment, n, tgi, tgi_low, tgi_high, the control first, then the most measured.

    Growth inhibition is ``workbench.assays.growth.arms``'s at ``day``: the last on which half of the controls are still
    measured. Without a control there is neither.
    """
    from workbench.assays import growth

    arms = curves.group_by("treatment").agg(pl.len().cast(pl.Int64).alias("n"))
    arms = arms.sort(pl.col("treatment") != pl.lit(control or ""), -pl.col("n"), "treatment")
    judged = curves.filter(pl.col("volume").list.first() > 0)
    ends = judged.filter(pl.col("treatment") == pl.lit(control or ""))["day"].list.last()
    if control is None or ends.is_empty():
        return arms.with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("tgi", "tgi_low", "tgi_high")), None
    day = float(ends.quantile(0.5, "higher") or 0)
    found = growth.arms(_as_outcomes(judged), control=control, day=day)
    own = found.select("treatment", tgi="tgi_percent", tgi_low="tgi_low_percent", tgi_high="tgi_high_percent")
    return arms.join(own, on="treatment", how="left", maintain_order="left"), day
