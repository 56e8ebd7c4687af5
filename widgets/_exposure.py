"""Concentrations over time as the widget draws them: one row a sample, groups by dose, middles that know the limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from workbench.tables import TableError

PREFIX = "concentration "
PAUSE_H = 48.0  # a new occasion begins after a pause longer than this, and than three times what was sampled so far
KEY = ["subject", "treatment", "matrix"]
HOW = (
    "Dots are samples, thin lines subjects, thick lines the median of a group at a time. A triangle is a sample below "
    "the limit of quantification (LLOQ, dashed): it counts as lower than every number, and where the median itself is "
    "below the limit nothing is drawn. The table gives medians with their range over subjects; AUC is that to the last "
    "quantifiable sample, by linear-up log-down trapezoids, of subjects with three quantifiable samples or more."
)


def _group(subjects: pl.DataFrame | None, rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` with ``group`` (arm and dose; else species, sex, route and dose), ``size`` (of the dose), ``staged``."""
    known = pl.DataFrame(schema={"subject": pl.String}) if subjects is None else subjects
    told = [c for c in ("arm", "arm_dose", "arm_dose_unit", "species", "route") if c in known.columns]
    known = known.select(pl.col("subject").cast(pl.String), *told).unique("subject", keep="first", maintain_order=True)
    rows = rows.join(known, on="subject", how="left", maintain_order="left")
    for name, kind in (
        ("arm", pl.String), ("arm_dose", pl.Float64), ("arm_dose_unit", pl.String), ("species", pl.String),
        ("route", pl.String),
    ):  # fmt: skip
        rows = rows.with_columns((pl.col(name) if name in told else pl.lit(None)).cast(kind).alias(name))
    size = pl.coalesce("arm_dose", "dose")
    unit = pl.coalesce("arm_dose_unit", "dose_unit")
    number = size.map_elements(lambda x: f"{x:.4g}", return_dtype=pl.String)
    dose = pl.when(size.is_not_null()).then(pl.concat_str(number, unit, separator=" ", ignore_nulls=True))
    arm = pl.when(pl.col("arm").str.contains(dose, literal=True)).then("arm").otherwise(
        pl.concat_str("arm", dose, separator=", ", ignore_nulls=True)
    )  # fmt: skip
    other = pl.concat_str("species", "route", dose, separator=", ", ignore_nulls=True).replace("", None)
    return rows.with_columns(
        group=pl.when(pl.col("arm").is_not_null()).then(arm).otherwise(other.fill_null("dose not stated")),
        size=size.fill_null(-1.0),
        staged=pl.col("arm").is_not_null(),
    )


def _occasions(times: np.ndarray) -> np.ndarray:
    """Number of the occasion of each of the ascending ``times`` (n,), hours: see ``PAUSE_H``."""
    found, start = np.zeros(len(times), dtype=np.int32), 0
    for i in range(1, len(times)):
        new = times[i] - times[i - 1] > max(PAUSE_H, 3 * (times[i - 1] - times[start]))
        start = i if new else start
        found[i] = found[i - 1] + new
    return found


def samples_of(outcomes: pl.DataFrame, subjects: pl.DataFrame | None = None) -> pl.DataFrame:
    """One row a sample: subject, treatment, matrix, unit, group, size, route, time_h, value, below, occasion, from_h.

    Occasions are told apart only where subjects have arms, hours then being those of the study and not after a dose;
    ``from_h`` is the midnight before an occasion's first sample.

    Raises
    ------
    TableError
        A column is missing, or one matrix has several units.
    """
    needed = ["subject", "treatment", "endpoint", "dose", "dose_unit", "time_h", "value", "unit", "censored"]
    if missing := [c for c in needed if c not in outcomes.columns]:
        raise TableError(f"outcomes: column {missing[0]!r} is missing; found {outcomes.columns}.")
    texts = ["subject", "treatment", "endpoint", "dose_unit", "unit"]
    rows = outcomes.select(needed).with_columns(pl.col(texts).cast(pl.String))
    rows = rows.filter(
        pl.col("endpoint").str.starts_with(PREFIX) & pl.col("time_h").is_finite() & pl.col("value").is_finite()
    )
    rows = rows.with_columns(matrix=pl.col("endpoint").str.strip_prefix(PREFIX), below=pl.col("censored") < 0)
    units = rows.group_by("matrix").agg(pl.col("unit").unique().sort()).filter(pl.col("unit").list.len() > 1)
    if len(units):
        name, found = units.row(0)
        raise TableError(f"outcomes: concentration {name!r} should have one unit, found {found}. Convert one of them.")
    rows = _group(subjects, rows).sort(*KEY, "time_h", maintain_order=True)
    numbered = []
    for (treatment, matrix), part in rows.filter("staged").group_by("treatment", "matrix"):
        times = part["time_h"].unique().sort()
        numbered.append(
            pl.DataFrame({"time_h": times, "occasion": _occasions(times.to_numpy())}).with_columns(
                treatment=pl.lit(treatment), matrix=pl.lit(matrix)
            )
        )
    schema = {"time_h": pl.Float64, "occasion": pl.Int32, "treatment": pl.String, "matrix": pl.String}
    known = pl.concat([pl.DataFrame(schema=schema), *numbered])
    rows = rows.join(known, on=["treatment", "matrix", "time_h"], how="left", maintain_order="left")
    occasion = pl.when("staged").then("occasion").otherwise(0)
    start = (pl.col("time_h").min().over("treatment", "matrix", occasion) / 24).floor() * 24
    return rows.with_columns(occasion=occasion, from_h=pl.when("staged").then(start).otherwise(0.0)).select(
        *KEY, "unit", "group", "size", "route", "time_h", "value", "below", "occasion", "from_h"
    )


def middle(value: list[float], below: list[bool]) -> float:
    """Median of samples of which those ``below`` a limit are lower than all others; NaN where it is one of them."""
    ordered = sorted(-np.inf if under else v for v, under in zip(value, below, strict=True))
    two = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(np.mean(two)) if np.isfinite(two).all() else float("nan")


def sizes_of(curve: pl.DataFrame) -> dict[str, float]:
    """cmax, tmax and auc (to the last quantifiable sample) of one subject; those that cannot be said are left out."""
    from workbench.assays import pharmacokinetics

    points = curve.group_by("time_h", maintain_order=True).agg(pl.col("value").mean(), pl.col("below").all())
    route = "iv bolus" if (curve["route"][0] or "").lower().startswith(("iv", "intraven")) else "extravascular"
    try:
        found = pharmacokinetics.profile(
            points["time_h"].to_numpy(), points["value"].to_numpy(), points["below"].to_numpy(),
            route=route,  # type: ignore[arg-type]
            steady_state=bool(curve["from_h"][0] > 0),
        )  # fmt: skip
    except pharmacokinetics.PharmacokineticsError:
        return {}
    enough = int((~points["below"]).sum()) >= 3 and curve["occasion"].n_unique() == 1
    kept = {"cmax": "cmax_ng_ml", "tmax": "tmax_h", **({"auc": "auc_last_h_ng_ml"} if enough else {})}
    return {name: float(found[c]) for name, c in kept.items() if np.isfinite(found.get(c, np.nan))}


def summary_of(samples: pl.DataFrame) -> list[dict[str, Any]]:
    """One entry a group, by rising dose: name, subjects, samples, below; cmax, tmax, auc as [median, low, high, n]."""
    found = []
    for (name,), part in samples.sort("size", "group", maintain_order=True).group_by("group", maintain_order=True):
        sizes = [sizes_of(curve) for _, curve in part.group_by("subject", maintain_order=True)]
        entry = {
            "name": str(name),
            "subjects": part["subject"].n_unique(),
            "samples": len(part),
            "below": int(part["below"].sum()),
        }
        for what in ("cmax", "tmax", "auc"):
            values = [s[what] for s in sizes if what in s]
            entry[what] = [float(np.median(values)), min(values), max(values), len(values)] if values else None
        found.append(entry)
    return found
