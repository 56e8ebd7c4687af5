"""Values that do not belong: far off, alone, and not explained by their subject, condition or another endpoint."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from workbench.audits import _chance
from workbench.audits._case import Case, Measured
from workbench.audits._finding import NOTE, WARNING, Check, Finding, figure

FAR = 6.0  # robust standard deviations
EXPECTED = 0.05  # values as far out that the tail of the endpoint would bring about by itself


def far(case: Case) -> Iterator[Finding]:
    """Single values far from what their subject and condition lead one to expect, beyond the endpoint's own tail."""
    for m in case.measured:
        if m.frame["value"].n_unique() < 0.2 * len(m):
            continue  # scores, counts and sampling times have no tail to judge by
        z = standardised(m)
        there = np.isfinite(z)
        if there.sum() < 30:
            continue
        expected = np.full(len(z), np.inf)
        expected[there] = _chance.improbable(z[there])
        odd = there & (np.abs(z) > FAR) & (expected < EXPECTED) & m.sound
        if not odd.any():
            continue
        backed = odd & supported(case, m, z)
        for rows, severity, more in (
            (odd & ~backed, WARNING, ""),
            (backed, NOTE, " Another endpoint of the same rows is as far out, so these look real."),
        ):
            if not rows.any():
                continue
            worst = int(np.argmax(np.where(rows, np.abs(z), 0)))
            one = m.frame.row(worst, named=True)
            yield Finding(
                severity,
                1 - float(expected[rows].max()),
                f"{int(rows.sum())} of {len(m)} values of {m.endpoint!r} are more than {FAR:g} robust standard "
                f"deviations off; the furthest, {figure(one['value'])} {m.unit} for {one['subject']!r} with "
                f"{one['treatment']!r}, is {figure(abs(float(z[worst])))} off.{more}",
                m.endpoint,
                "Look at the raw curve or record of these rows before anything is fitted; keep them only if they hold."
                if severity == WARNING
                else "Likely exceptional responders: keep them, and know that they weigh much.",
                rows=m.rows[rows],
                names=m.frame.filter(pl.Series(rows))["subject"].unique().sort(),
                n=int(rows.sum()),
            )


def standardised(m: Measured) -> np.ndarray:
    """Robust z of every value: of the residual in a screen, of the distance to the condition's median elsewhere.

    The scale is the condition's own, drawn towards that of all conditions where it has few rows; NaN where a condition
    has too few rows to say.
    """
    rest = m.residual if m.crossed else m.from_condition
    there = np.isfinite(rest)
    if there.sum() < 20:
        return np.full(len(rest), np.nan)
    common = _chance.scale(rest[there])
    if common == 0:
        return np.full(len(rest), np.nan)
    n = np.bincount(m.c[there], minlength=len(m.conditions))
    own = _chance.GAUSS * np.nan_to_num(_chance.group_medians(np.abs(rest[there]), m.c[there], len(m.conditions)))
    sd = np.sqrt((n * own**2 + 10 * common**2) / (n + 10))
    z = rest / np.maximum(sd, 0.3 * common)[m.c]
    z[n[m.c] < 5] = np.nan
    return z


def supported(case: Case, m: Measured, z: np.ndarray) -> np.ndarray:
    """Which rows have another endpoint, of the same subject and condition, that is far out as well: bool (n,)."""
    out = np.zeros(len(m), dtype=bool)
    keys = ["subject", "treatment", "dose", "time_h"]
    for other in case.measured:
        if other.endpoint == m.endpoint:
            continue
        beside = other.frame.select(keys).with_columns(pl.Series("other", np.abs(standardised(other))))
        beside = beside.filter(pl.col("other").is_finite()).group_by(keys).agg(pl.col("other").max())
        joined = m.frame.select(keys).join(beside, on=keys, how="left", nulls_equal=True, maintain_order="left")
        out |= (joined["other"].fill_null(0) > 3).to_numpy()
    return out


CHECKS = (Check("outliers", far),)
