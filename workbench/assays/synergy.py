"""Drug combinations: is a dose matrix stronger than its two drugs explain, and by which idea of "explain"?

    HSA     the stronger of the two alone                     expected = min(yA, yB)
    Bliss   two independent ways to die                       expected = yA yB
    Loewe   one drug diluted by the other                     a / DA(y) + b / DB(y) = 1, solved for y
    ZIP     neither changes the other's curve (Yadav et al. 2015, Comput Struct Biotechnol J 13:504)

y is viability, DA(y) the dose of A alone that leaves y. An excess is expected less observed: above 0 the combination
kills more than explained. A drug combined with itself has Loewe excess 0, independent drugs Bliss and ZIP excess 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from workbench import units
from workbench.assays._curves import MIN_DOSES, Bounds, fit_sorted
from workbench.text import nearest

MODELS = ("hsa", "bliss", "loewe", "zip")
MATRIX = ("subject", "treatment", "treatment_b", "site", "time_h", "source")
ALONE = Bounds(top=(1.0, 1.0), bottom=(0.0, 1.0))  # without drug everything lives; no drug alone is counted as a help
FREE = Bounds(top=(0.0, 2.0), bottom=(0.0, 2.0))  # a line of the matrix, for the size of its noise
ROUNDING = 1e-6  # percent: what arithmetic leaves of an excess of 0
GIVEN = Bounds(top=(1.0, 1.0), bottom=(0.0, 2.0))  # A in the presence of B may also rescue


class SynergyError(ValueError):
    """A dose matrix that cannot be judged; the message says what is missing."""


class _Curves:
    """Logistic curves of R replicas (bootstrap draws), each with top 1: params (R,)."""

    def __init__(self, dose: np.ndarray, values: np.ndarray, bounds: Bounds) -> None:
        """``dose`` (P,) above 0, ``values`` (R, P); fewer than MIN_DOSES - 1 distinct doses leave NaN."""
        order = np.argsort(dose, kind="stable")
        x, y = np.log10(dose[order]), np.ascontiguousarray(values[:, order])
        replicas = len(y)
        self.bottom, self.hill, self.ec50 = np.full((3, replicas), np.nan)
        if len(np.unique(dose)) < MIN_DOSES - 1:
            return
        offsets = np.arange(replicas + 1) * len(x)
        raw, _ = fit_sorted(np.tile(x, replicas), y.ravel(), offsets, bounds, 0.5)
        self.bottom, self.hill, self.ec50 = raw["bottom"], raw["hill"], 10.0 ** raw["log10_ec50"]

    def at(self, dose: np.ndarray) -> np.ndarray:
        """(R, D) viability at doses (D,)."""
        with np.errstate(divide="ignore", over="ignore"):
            affected = 1 / (1 + (self.ec50[:, None] / dose) ** self.hill[:, None])
        return 1 + (self.bottom[:, None] - 1) * affected

    def dose_for(self, y: np.ndarray) -> np.ndarray:
        """(R, D) the dose alone that leaves viability y (R, D); infinite where no dose does."""
        bottom, hill, ec50 = self.bottom[:, None], self.hill[:, None], self.ec50[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            dose = ec50 * ((1 - y) / (y - bottom)) ** (1 / hill)
        return np.where(np.isnan(bottom), np.nan, np.where(y > bottom, dose, np.inf))


def _loewe(a: _Curves, b: _Curves, dose_a: np.ndarray, dose_b: np.ndarray) -> np.ndarray:
    """(R, C) the y at which a / DA(y) + b / DB(y) = 1: the sum falls with y from infinity to 0, so halving finds it."""
    shape = (len(a.ec50), len(dose_a))
    low = np.broadcast_to(np.minimum(a.bottom, b.bottom)[:, None], shape).copy()
    high = np.ones(shape)
    for _ in range(50):
        middle = (low + high) / 2
        with np.errstate(divide="ignore"):
            total = dose_a / a.dose_for(middle) + dose_b / b.dose_for(middle)
        low, high = np.where(total > 1, low, middle), np.where(total > 1, middle, high)
        low, high = np.where(np.isnan(total), np.nan, low), np.where(np.isnan(total), np.nan, high)
    return (low + high) / 2


def _lines(
    dose: np.ndarray, other: np.ndarray, values: np.ndarray, alone: _Curves, cells: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """(R, C) fitted curves of one drug in the presence of each dose of the other, which alone leaves their top."""
    at_dose, at_other = cells
    result = np.full((len(values), len(at_dose)), np.nan)
    for level in np.unique(at_other):
        points, wanted = (other == level) & (dose > 0), at_other == level
        left = np.maximum(alone.at(np.array([level])), 1e-2)  # (R, 1); a top to divide by: the fit's own top is 1
        line = _Curves(dose[points], values[:, points] / left, GIVEN)
        result[:, wanted] = line.at(at_dose[wanted]) * left
    return result


def combination(
    dose_a: np.ndarray,
    dose_b: np.ndarray,
    viability: np.ndarray,
    *,
    draws: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Judge one dose matrix by all four models.

    Parameters
    ----------
    dose_a, dose_b : (points,) doses in any units, 0 where a drug is absent; the drugs alone must be among them
    viability : (points,) as a fraction of the untreated; replicates are further points
    draws : bootstrap draws for the intervals. Where cells have replicates, their deviations, widened by
        sqrt(n / (n - 1)), are drawn anew; where not, normal noise of the size of the residuals of the
        curves of either drug at each dose of the other

    Returns
    -------
    cells : one row a combination of doses: ``dose_a``, ``dose_b``, ``n``, ``viability``, ``expected_<model>``,
        ``excess_<model>`` (fractions; null where a drug alone has fewer than three doses to fit). The viability of ZIP
        is that of the fitted surface, ``surface_zip``. HSA and Bliss compare with the drugs alone as measured.
    summary : one row a model: ``model``, ``mean_excess_percent`` over the cells with ``low``, ``high``,
        ``max_excess_percent`` and ``max_dose_a``, ``max_dose_b``, ``n_cells``, ``verdict`` ("synergy", "antagonism":
        the interval does not hold 0; else "none shown")

    Raises
    ------
    SynergyError
        Numbers are not finite or doses negative; a drug alone, or any combination, is missing.
    """
    a, b, y = (np.asarray(v, dtype=np.float64) for v in (dose_a, dose_b, viability))
    if not a.shape == b.shape == y.shape or a.ndim != 1:
        raise SynergyError(f"expected three columns of one length, found {a.shape}, {b.shape} and {y.shape}.")
    bad = ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(y) & (a >= 0) & (b >= 0))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise SynergyError(
            f"point {i}: expected finite numbers, doses from 0 up; found {y[i]} at ({a[i]}, {b[i]}). Drop or mend it."
        )
    alone_a, alone_b, both = (a > 0) & (b == 0), (b > 0) & (a == 0), (a > 0) & (b > 0)
    for what, there in (("drug A alone (dose_b 0)", alone_a), ("drug B alone (dose_a 0)", alone_b), ("both", both)):
        if not there.any():
            raise SynergyError(f"no point of {what}: a combination is judged against its drugs alone. Add them.")
    values = np.vstack([y, _drawn(a, b, y, draws, np.random.default_rng(seed))])
    cell = np.unique(np.stack([a[both], b[both]], axis=1), axis=0)
    at_a, at_b = cell[:, 0], cell[:, 1]
    observed = np.stack([values[:, (a == i) & (b == j)].mean(axis=1) for i, j in cell], axis=1)
    one, two = _Curves(a[alone_a], values[:, alone_a], ALONE), _Curves(b[alone_b], values[:, alone_b], ALONE)
    fit_a, fit_b = one.at(at_a), two.at(at_b)
    seen_a, seen_b = _measured(a, alone_a, values, at_a, fit_a), _measured(b, alone_b, values, at_b, fit_b)
    lines = _lines(a, b, values, two, (at_a, at_b)), _lines(b, a, values, one, (at_b, at_a))
    missing = [np.isnan(v) for v in lines]
    surface = np.where(missing[0], lines[1], np.where(missing[1], lines[0], (lines[0] + lines[1]) / 2))
    expected = {
        "hsa": np.minimum(seen_a, seen_b),
        "bliss": seen_a * seen_b,
        "loewe": _loewe(one, two, at_a, at_b),
        "zip": fit_a * fit_b,
    }
    excess = {m: e - (surface if m == "zip" else observed) for m, e in expected.items()}
    cells = {"dose_a": at_a, "dose_b": at_b, "n": [int(((a == i) & (b == j)).sum()) for i, j in cell]}
    cells |= {"viability": observed[0], "surface_zip": surface[0]}
    cells |= {f"expected_{m}": expected[m][0] for m in MODELS} | {f"excess_{m}": excess[m][0] for m in MODELS}
    rows = [_summary(m, excess[m], cell, confidence) for m in MODELS]
    schema = {"model": pl.String, "n_cells": pl.Int64, "verdict": pl.String}
    summary = pl.DataFrame(rows, schema={c: schema.get(c, pl.Float64) for c in rows[0]})
    return tuple(f.with_columns(pl.selectors.float().fill_nan(None)) for f in (pl.DataFrame(cells), summary))  # type: ignore[return-value]


def _measured(
    dose: np.ndarray, alone: np.ndarray, values: np.ndarray, at: np.ndarray, fitted: np.ndarray
) -> np.ndarray:
    """(R, C) mean response of a drug alone at the doses of the cells; the fitted one where it was not measured."""
    result = fitted.copy()
    for level in np.unique(at):
        points = alone & (dose == level)
        if points.any():
            result[:, at == level] = values[:, points].mean(axis=1, keepdims=True)
    return result


def _drawn(a: np.ndarray, b: np.ndarray, y: np.ndarray, draws: int, draw: np.random.Generator) -> np.ndarray:
    """(draws, points) bootstrap replicas of the responses."""
    cell = np.unique(np.stack([a, b], axis=1), axis=0, return_inverse=True)[1].ravel()
    count, mean = np.bincount(cell), np.bincount(cell, y) / np.bincount(cell)
    repeated = count[cell] > 1
    if repeated.sum() >= 4:
        pool = ((y - mean[cell]) * np.sqrt(count[cell] / np.maximum(count[cell] - 1, 1)))[repeated]
        return mean[cell] + draw.choice(pool, (draws, len(y)))
    return y + draw.normal(0, _noise(a, b, y), (draws, len(y)))


def _noise(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> float:
    """Standard deviation of points around curves of one drug at each dose of the other; NaN where all are short."""
    rss, left = 0.0, 0
    for dose, other in ((a, b), (b, a)):
        for level in np.unique(other):
            points = (other == level) & (dose > 0)
            order = np.argsort(dose[points], kind="stable")
            if len(order) > MIN_DOSES:
                x, line = np.log10(dose[points][order]), y[points][order]
                raw, _ = fit_sorted(x, line, np.array([0, len(x)]), FREE, 0.5)
                rss, left = rss + float(raw["rss"][0]), left + len(x) - MIN_DOSES
    return float(np.sqrt(rss / left)) if left else np.nan


def _summary(model: str, excess: np.ndarray, cell: np.ndarray, confidence: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": model,
        "mean_excess_percent": 100 * float(excess[0].mean()),
        "low": np.nan,
        "high": np.nan,
    }
    row |= {"max_excess_percent": np.nan, "max_dose_a": np.nan, "max_dose_b": np.nan, "n_cells": len(cell)}
    row["verdict"] = "none shown"
    if np.isnan(excess[0]).any():
        row["verdict"] = "cannot be said"
        return row
    best = int(np.argmax(excess[0]))
    row |= {
        "max_excess_percent": 100 * float(excess[0, best]),
        "max_dose_a": cell[best, 0],
        "max_dose_b": cell[best, 1],
    }
    means = 100 * excess[1:].mean(axis=1)
    if len(means) and np.isfinite(means).all():
        # basic bootstrap: draws lie around the estimate as estimates do around the truth
        low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
        row["low"], row["high"] = 2 * row["mean_excess_percent"] - high, 2 * row["mean_excess_percent"] - low
        if row["low"] > ROUNDING or row["high"] < -ROUNDING:
            row["verdict"] = "synergy" if row["low"] > 0 else "antagonism"
    return row


def from_outcomes(
    outcomes: pl.DataFrame,
    *,
    endpoint: str = "viability",
    by: Sequence[str] = MATRIX,
    dose_unit: str = "uM",
    **options: Any,
) -> pl.DataFrame:
    """The summary of every dose matrix of a frame, four rows a matrix (one a model), under its names.

    Parameters
    ----------
    outcomes : OUTCOMES with the second drug in three more columns, ``treatment_b``, ``dose_b`` and ``dose_b_unit`` (a
        study keeps such a table among its records); both doses 0 where a drug is absent, and both names on every row
    dose_unit : of ``max_dose_a`` and ``max_dose_b`` in the answer
    **options : as ``combination`` takes them

    Raises
    ------
    SynergyError
        A column is missing; as ``combination``, naming the matrix.
    """
    for column in ("dose", "dose_unit", "dose_b", "dose_b_unit", "value", "unit"):
        if column not in outcomes.columns:
            hint = nearest(column, outcomes.columns)
            raise SynergyError(f"column {column!r} is missing; found {outcomes.columns}.{hint}")
    points = outcomes.filter(pl.col("endpoint") == endpoint) if "endpoint" in outcomes.columns else outcomes
    keys = [c for c in by if c in points.columns]
    frames = []
    for key, part in points.sort(keys, maintain_order=True).group_by(keys, maintain_order=True):
        names = dict(zip(keys, key, strict=True))
        try:
            a, b, y = (
                _converted(part, v, u, w)
                for v, u, w in (
                    ("dose", "dose_unit", dose_unit),
                    ("dose_b", "dose_b_unit", dose_unit),
                    ("value", "unit", "fraction"),
                )
            )
            summary = combination(a, b, y, **options)[1]
        except SynergyError as error:
            raise SynergyError(f"matrix {names}: {error}") from None
        frames.append(summary.select(*(pl.lit(v, dtype=points.schema[k]).alias(k) for k, v in names.items()), pl.all()))
    if not frames:
        raise SynergyError(f"no row of endpoint {endpoint!r}: there is no matrix to judge.")
    return pl.concat(frames)


def _converted(part: pl.DataFrame, value: str, unit: str, wanted: str) -> np.ndarray:
    """A column in one unit."""
    numbers = part[value].to_numpy().astype(np.float64)
    for given in part[unit].unique().to_list():
        if given is None:
            raise SynergyError(
                f"{unit} is missing in {part[unit].null_count()} rows: name the unit, it is not guessed."
            )
        here = (part[unit] == given).to_numpy()
        numbers[here] = units.convert(numbers[here], given, wanted)
    return numbers
