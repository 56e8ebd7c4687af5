"""Values in another unit than they claim: a thousandfold off their own history, or a logarithm to another base.

All is compared in decades (log10), against what the same subject, condition and other sources lead one to expect.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl

from workbench import units
from workbench.audits import _chance
from workbench.audits._case import Case, Measured, codes
from workbench.audits._finding import ERROR, Check, Finding, figure

SLIPS = {3.0: "a thousandfold", 6.0: "a millionfold"}
BASES = {math.log(10): "ln given as log10", 1 / math.log(10): "log10 given as ln"}


def decades(m: Measured) -> tuple[np.ndarray, float] | None:
    """The endpoint's values in log10 of their linear unit, and decades per unit of ``work``; None where it has none."""
    if m.log:
        return m.work, 1.0
    try:
        unit = units.parse(m.unit)
    except units.UnitError:
        return None
    if unit.log is None:
        return None
    per = {"ln": 1 / math.log(10), "log10": 1.0, "log2": math.log10(2)}[unit.log] * unit.sign
    return m.work * per, per


def slips(case: Case) -> Iterator[Finding]:
    """Single values a thousandfold or a millionfold off their history, which fit once divided back."""
    for m in case.measured:
        told = decades(m)
        if told is None or len(m) < 30:
            continue
        own, other = _deviations(m, told[1])
        # a subject with a history of its own is compared with that, any other with its condition
        rest = np.where(np.isfinite(own), own, other)
        there = np.isfinite(rest)
        sd = _chance.scale(rest[there]) if there.sum() >= 30 else 0.0
        if sd == 0:
            continue
        size = np.abs(np.where(there, rest, 0.0))
        step = np.where(np.abs(size - 6) < np.abs(size - 3), 6.0, 3.0)
        back = np.abs(size - step)
        slipped = there & (back < 0.7) & (size > 5 * sd) & m.sound
        for k in SLIPS:  # a tail of honest values has more a decade short of the step than at it
            short = ((size > k - 1.5) & (size < k - back[slipped & (step == k)].max(initial=0.3) - 0.05)).sum()
            if short > 0.34 * (slipped & (step == k)).sum():
                slipped &= step != k
        if not slipped.any() or slipped.mean() > 0.2:
            continue
        worst = int(np.argmax(np.where(slipped, -back, -np.inf)))
        one = m.frame.row(worst, named=True)
        fold = SLIPS[float(step[worst])]
        yield Finding(
            ERROR,
            0.95,
            f"{int(slipped.sum())} values of {m.endpoint!r} are {fold} off their history, such as "
            f"{figure(one['value'])} {m.unit} for {one['subject']!r} with {one['treatment']!r} "
            f"({figure(float(rest[worst]))} decades from expected, where the usual spread is {figure(sd)}).",
            m.endpoint,
            "Check the unit of these rows at their source (nM for uM? g for kg?) and convert them.",
            rows=m.rows[slipped],
            names=m.frame.filter(pl.Series(slipped))["subject"].unique().sort(),
            n=int(slipped.sum()),
        )


def _deviations(m: Measured, per: float) -> tuple[np.ndarray, np.ndarray]:
    """Decades from the subject's level under its condition, and from the condition's median; NaN where few rows."""
    many = np.bincount(m.s)[m.s] >= 4
    own = np.where(many & (np.bincount(m.c)[m.c] >= 5), m.residual * per, np.nan)
    if not m.crossed:  # one arm each: where no other shares the condition, the history is the subject's own values
        alone = (m.work - _chance.group_medians(m.work, m.s, len(m.subjects))[m.s]) * per
        own = np.where(np.isnan(own) & many, alone, own)
    t, names = codes(m.frame["treatment"])
    enough = (
        np.bincount(t)[t] >= 20
    )  # where few share a condition, all doses and times of the treatment are the history
    whole = np.where(enough, m.work - _chance.group_medians(m.work, t, len(names))[t], np.nan)
    return own, np.where(np.isnan(m.from_condition), whole, m.from_condition) * per


def blocks(case: Case) -> Iterator[Finding]:
    """A whole subject or treatment in one source that is a thousandfold off, or a logarithm to another base."""
    for m in case.measured:
        told = decades(m)
        if told is None:
            continue
        yield from _subjects(m, told[1])
        for column in ("source", "site"):
            yield from _between(m, column, *told)


def _subjects(m: Measured, per: float) -> Iterator[Finding]:
    rest = m.from_condition * per
    there = np.isfinite(rest) & (np.bincount(m.s)[m.s] >= 5) & m.sound
    if not there.any() or len(m.subjects) < 8:
        return
    shift = _chance.group_medians(rest[there], m.s[there], len(m.subjects))
    seen = np.isfinite(shift)
    sd = _chance.scale(shift[seen])
    for code in np.flatnonzero(seen):
        near = min(SLIPS, key=lambda k: abs(abs(shift[code]) - k))
        if abs(abs(shift[code]) - near) > 0.5 or abs(shift[code]) < 6 * sd:
            continue
        # a tumour that melts away is a thousandth of the others in the end; a unit is off from the first value on
        if (np.abs(np.abs(rest[there & (m.s == code)]) - near) < 0.7).mean() > 0.8:
            yield _block(m, m.s == code, m.subjects[code], f"{SLIPS[near]} off", float(shift[code]))
    if m.log:  # no logarithm that could have another base
        return
    level = m.work - m.from_condition  # median of each row's condition
    fitted = {
        int(code): _slope(level[rows], m.work[rows])
        for code in np.flatnonzero(seen)
        if (rows := there & (m.s == code)).sum() >= 8
    }
    if len(fitted) < 8:
        return
    logs = np.log([max(slope, 1e-6) for slope, _ in fitted.values()])
    usual, spread = float(np.median(logs)), _chance.scale(logs)
    for (one, (slope, wrong)), log in zip(fitted.items(), logs, strict=True):
        base = next((b for b in BASES if abs(slope / b - 1) < 0.1 and wrong < 0.05 * b), None)
        if base is not None and abs(log - usual) > 6 * spread:
            yield _block(m, m.s == one, m.subjects[one], f"{BASES[base]} (slope {figure(slope)})", None)


def _between(m: Measured, column: str, values: np.ndarray, per: float) -> Iterator[Finding]:
    """Each treatment of one source against the others, by medians of the conditions both have."""
    names = m.frame[column].unique().sort().to_list()
    if len(names) < 2 or len(names) > 40:
        return
    frame = m.frame.select("treatment", "dose", "time_h", pl.col(column).alias("block")).with_columns(
        pl.Series("v", m.work * per)
    )
    by = ("treatment", "dose", "time_h")
    each = frame.group_by(*by, "block").agg(pl.col("v").median(), pl.len()).filter(pl.col("len") >= 3)
    for name in names:
        rest = each.filter(pl.col("block") != name).group_by(*by).agg(pl.col("v").median().alias("other"))
        both = each.filter(pl.col("block") == name).join(rest, on=by, nulls_equal=True)
        off = both.group_by("treatment").agg((pl.col("v") - pl.col("other")).median().alias("shift"), pl.len())
        if off.is_empty():
            continue
        usual = float(np.median(np.abs(off["shift"].to_numpy()))) if off.height > 4 else 0.3
        for treatment, shift in off.select("treatment", "shift").sort("treatment").rows():
            near = min(SLIPS, key=lambda k: abs(abs(shift) - k))
            # with two sources either may be the one that slipped: speak once, of the smaller
            smaller = _rows(m, column, name, treatment).sum() <= 0.5 * (m.frame["treatment"] == treatment).sum()
            if abs(abs(shift) - near) < 0.5 and abs(shift) > 4 * min(usual, 0.5) and smaller:
                rows = _rows(m, column, name, treatment)
                yield _block(m, rows, f"{treatment} from {column} {name}", f"{SLIPS[near]} off", shift)
        if not m.log and both.height >= 8 and both["len"].sum() <= 0.5 * len(m):
            slope, wrong = _slope(both["other"].to_numpy(), both["v"].to_numpy())
            base = next((b for b in BASES if abs(slope / b - 1) < 0.1 and wrong < 0.12 * b), None)
            if base is not None:
                rows = (m.frame[column] == name).to_numpy()
                yield _block(m, rows, f"{column} {name}", f"{BASES[base]} (slope {figure(slope)})", None)


def _rows(m: Measured, column: str, name: str, treatment: str) -> np.ndarray:
    return ((m.frame[column] == name) & (m.frame["treatment"] == treatment)).to_numpy()


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Robust slope through the origin of the logarithm (0 in the unit), and its standard error.

    ``ln x = 2.303 log10 x`` holds about 0, not about the mean: a line through the origin tells it from a shift.
    """
    used = np.abs(x) > 1e-9
    if used.sum() < 5 or np.abs(x[used]).max() < 0.5:
        return 1.0, np.inf
    x, y = x[used], y[used]
    weight = np.ones(len(x))
    slope = 1.0
    for _ in range(5):
        slope = float((weight * x * y).sum() / (weight * x * x).sum())
        rest = y - slope * x
        weight = 1 / np.maximum(np.abs(rest), 0.1 * (_chance.scale(rest) or 1))  # least absolute deviations
    error = _chance.scale(y - slope * x) / math.sqrt(float((x * x).sum()))
    return slope, error


def _block(m: Measured, rows: np.ndarray, name: str, how: str, shift: float | None) -> Finding:
    figures = "" if shift is None else f" ({figure(shift)} decades on the median)"
    return Finding(
        ERROR,
        0.95,
        f"All {int(rows.sum())} values of {m.endpoint!r} for {name!r} look {how} against the others{figures}.",
        m.endpoint,
        "Check the unit these rows came in, and convert them (workbench.units).",
        rows=m.rows[rows],
        names=[name],
        n=int(rows.sum()),
    )


CHECKS = (Check("thousandfold values", slips), Check("another unit inside an endpoint", blocks))
