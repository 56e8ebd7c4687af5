"""Dose-response fits: planted curves come back, intervals and p-values mean what they say, nothing is extrapolated."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from workbench.assays import dose_response as dr
from workbench.units import UnitError

ROOT = Path(__file__).resolve().parents[2]
DOSES = 10.0 ** np.linspace(-3, 1, 9)


def curve(dose: np.ndarray, top: float = 1, bottom: float = 0.1, hill: float = 1.5, ec50: float = 0.1) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return top + (bottom - top) / (1 + (ec50 / dose) ** hill)


def many(y: np.ndarray, dose: np.ndarray = DOSES, **options: Any) -> pl.DataFrame:
    """Fit the rows of y (curves, doses)."""
    return dr.fit_arrays(np.tile(dose, len(y)), y.ravel(), np.arange(len(y) + 1) * y.shape[1], **options)


def one(y: np.ndarray, dose: np.ndarray = DOSES, **options: Any) -> dict[str, Any]:
    return dr.fit_arrays(dose, y, **options).row(0, named=True)


def points(**columns: Any) -> pl.DataFrame:
    frame = {"dose": DOSES, "dose_unit": "uM", "value": curve(DOSES), "unit": "fraction"} | columns
    return pl.DataFrame(frame)


# --- truths ----------------------------------------------------------------------------------------------------------


def test_a_curve_without_noise_comes_back_exactly() -> None:
    row = one(curve(DOSES))
    assert [row[k] for k in ("top", "bottom", "hill", "ec50_um")] == pytest.approx([1, 0.1, 1.5, 0.1], rel=1e-4)
    assert row["ic50_um"] == pytest.approx(0.1 * (0.5 / 0.4) ** (1 / 1.5), rel=1e-4)
    assert row["emax"] == pytest.approx(curve(np.array([10.0]))[0], rel=1e-4)
    fine = np.linspace(-3, 1, 20001)
    assert row["auc"] == pytest.approx(np.trapezoid(curve(10**fine), fine) / 4, rel=1e-6)
    assert row["r2"] == pytest.approx(1) and row["p_flat"] < 1e-10 and row["flags"] == []
    assert (row["n_points"], row["n_doses"], row["df_residual"]) == (9, 9, 5)


def test_500_curves_without_noise_come_back() -> None:
    draw = np.random.default_rng(0)
    top, bottom = draw.uniform(0.9, 1.1, 500), draw.uniform(0.05, 0.6, 500)
    hill, ec50 = draw.uniform(0.5, 4, 500), 10 ** draw.uniform(-2.5, 0.5, 500)
    table = many(np.stack([curve(DOSES, *p) for p in zip(top, bottom, hill, ec50, strict=True)]))
    assert float(np.abs(np.log10(table["ec50_um"].to_numpy() / ec50)).max()) < 1e-3
    assert table["rss"].max() < 1e-9  # type: ignore[operator]


def test_no_search_from_other_starts_finds_a_better_fit() -> None:
    """Noise, flat curves and steps: least squares has many valleys, and the lowest one is found."""
    from scipy.optimize import least_squares

    draw = np.random.default_rng(3)
    clean = np.stack([curve(DOSES, 1, b, h, e) for b in (0.1, 0.6, 0.95) for h in (0.6, 3) for e in (0.003, 0.1, 3)])
    y = clean.repeat(4, axis=0) + draw.normal(0, 0.07, (72, 9))
    found = many(y)["rss"].to_numpy()
    x, worse = np.log10(DOSES), 0
    low, high = [0.5, 0, 0.1, -5], [1.5, 1.5, 10, 3]
    for row, rss in zip(y, found, strict=True):
        others = []
        for start in ([1, 0.2, 1, -1.0], [1, 0.5, 4, -2.0], [0.9, 0.8, 4, 0.0]):

            def residual(p: np.ndarray, row: np.ndarray = row) -> np.ndarray:
                return p[0] + (p[1] - p[0]) / (1 + 10 ** (p[2] * (p[3] - x))) - row

            others.append(2 * least_squares(residual, start, bounds=(low, high)).cost)
        worse += rss > 1.01 * min(others)
    assert worse == 0


def test_points_may_come_in_any_order_with_replicates_and_curves_of_any_length() -> None:
    draw = np.random.default_rng(1)
    a, b = DOSES.repeat(3), DOSES[:6]
    ya, yb = curve(a) + draw.normal(0, 0.02, 27), curve(b, ec50=0.02) + draw.normal(0, 0.02, 6)
    order = draw.permutation(27)
    together = dr.fit_arrays(np.r_[a[order], b[::-1]], np.r_[ya[order], yb[::-1]], np.array([0, 27, 33]))
    for row, (dose, y) in zip(together.iter_rows(named=True), ((a, ya), (b, yb)), strict=True):
        alone = one(y, dose)
        assert row["ic50_um"] == pytest.approx(alone["ic50_um"], rel=1e-6)
        assert row["n_doses"] == len(np.unique(dose))


def test_dose_zero_is_the_top_and_no_tested_dose() -> None:
    dose = np.r_[0, 0, 0, DOSES[4:]]
    y = np.r_[1.02, 0.98, 1.0, curve(DOSES[4:], ec50=0.01)]
    row, without = one(y, dose), one(y[3:], dose[3:])
    assert row["dose_min_um"] == pytest.approx(DOSES[4])
    assert row["top"] == pytest.approx(1.0, abs=0.01)
    assert row["ec50_low_um"] is None or row["ec50_censored"] == -1
    assert "no upper plateau" not in row["flags"] and "no upper plateau" in without["flags"]


# --- what intervals and p-values say ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated() -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    draw = np.random.default_rng(11)
    m = 4000
    top, bottom = draw.uniform(0.95, 1.05, m), draw.uniform(0.05, 0.4, m)
    hill, ec50 = np.exp(draw.uniform(np.log(0.7), np.log(3), m)), 10 ** draw.uniform(-2, 0, m)
    dose = DOSES.repeat(2)
    y = np.stack([curve(dose, *p) for p in zip(top, bottom, hill, ec50, strict=True)])
    ic50 = ec50 * ((top - 0.5) / (0.5 - bottom)) ** (1 / hill)
    x = np.log10(np.stack([np.geomspace(1e-3, 10, 2001)] * m))
    auc = np.trapezoid(curve(10**x, top[:, None], bottom[:, None], hill[:, None], ec50[:, None]), x, axis=1) / 4
    truth = {"top": top, "bottom": bottom, "hill": hill, "ec50": ec50, "ic50": ic50, "auc": auc}
    return many(y + draw.normal(0, 0.05, y.shape), dose), truth


@pytest.mark.parametrize("name", ["ic50", "ec50", "auc", "top", "bottom", "hill"])
def test_95_percent_intervals_hold_the_truth_95_times_in_100(
    simulated: tuple[pl.DataFrame, dict[str, np.ndarray]], name: str
) -> None:
    """Asymptotic intervals of a curved model: within 3 points of 95 % with two replicates of nine doses."""
    table, truth = simulated
    unit = "_um" if name in ("ic50", "ec50") else ""
    rows = table.with_columns(truth=pl.Series(truth[name])).drop_nulls([f"{name}_low{unit}", f"{name}_high{unit}"])
    assert rows.height > 0.9 * table.height
    held = rows.select(pl.col("truth").is_between(f"{name}_low{unit}", f"{name}_high{unit}").mean()).item()
    assert held == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("doses", [5, 7, 9, 12])
@pytest.mark.parametrize("replicates", [1, 3])
def test_p_values_of_flat_curves_are_uniform_where_it_matters(doses: int, replicates: int) -> None:
    draw = np.random.default_rng(doses)
    dose = np.geomspace(0.01, 30, doses).repeat(replicates)
    p = many(0.95 + draw.normal(0, 0.04, (6000, len(dose))), dose)["p_flat"].to_numpy()
    for level, slack in ((0.2, 0.03), (0.1, 0.02), (0.05, 0.013), (0.01, 0.006)):
        assert (p < level).mean() == pytest.approx(level, abs=slack)
    assert 0.35 < np.median(p) < 0.55


def test_degrees_of_freedom_are_stated_and_the_naive_ones_would_be_wrong() -> None:
    from scipy import stats

    draw = np.random.default_rng(5)
    table = many(0.95 + draw.normal(0, 0.04, (4000, 5)), np.geomspace(0.01, 1, 5))
    odds = (table["f_flat"] * table["df_flat_model"] / table["df_flat_residual"]).to_numpy()  # explained over the rest
    naive = stats.f.sf(odds / 3, 3, 1)  # three parameters more than flat, one point left
    assert (naive < 0.05).mean() < 0.01, "the usual degrees of freedom hide effects in short curves"
    assert (table["p_flat"].to_numpy() < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_the_band_holds_the_curve_it_draws() -> None:
    draw = np.random.default_rng(8)
    grid = np.geomspace(1e-3, 10, 7)
    held = []
    for _ in range(150):
        frame = dr.band(DOSES.repeat(2), curve(DOSES.repeat(2)) + draw.normal(0, 0.05, 18), grid)
        low, high = frame["low"].to_numpy(), frame["high"].to_numpy()
        held.append((low <= curve(grid)) & (curve(grid) <= high))
    assert np.mean(held) == pytest.approx(0.95, abs=0.035)
    table, exact = one(curve(DOSES)), dr.band(DOSES, curve(DOSES), DOSES)
    assert exact["response"].to_numpy() == pytest.approx(curve(DOSES), abs=1e-5)
    assert table["emax"] == pytest.approx(exact["response"][-1], abs=1e-9)
    with pytest.raises(dr.DoseResponseError, match="at least 4 distinct doses, found 3"):
        dr.band(DOSES[:3], curve(DOSES[:3]), grid)


# --- censoring and flags ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ec50", "bottom", "side", "bound"),
    [(100.0, 0.0, 1, 10.0), (1.0, 0.7, 1, 10.0), (1e-5, 0.0, -1, 1e-3), (0.1, 0.0, 0, 0.1)],
)
def test_an_ic50_outside_the_tested_doses_is_a_bound(ec50: float, bottom: float, side: int, bound: float) -> None:
    row = one(curve(DOSES, bottom=bottom, ec50=ec50))
    assert row["ic50_censored"] == side
    assert row["ic50_um"] == pytest.approx(bound, rel=1e-3)
    if side:
        assert row["ic50_low_um"] is None and row["ic50_high_um"] is None


def test_an_ec50_outside_the_tested_doses_is_a_bound_and_the_fitted_one_stays_to_be_seen() -> None:
    row = one(curve(DOSES, hill=1, bottom=0, ec50=50))
    assert (row["ec50_um"], row["ec50_censored"]) == (pytest.approx(10), 1)
    assert row["log10_ec50"] == pytest.approx(np.log10(50), abs=0.05)


NOISE = np.random.default_rng(2).normal(0, 0.02, 9)
FLAGGED = {
    "flat": (DOSES, 0.97 + NOISE),
    "increasing": (DOSES, curve(DOSES, 0.8, 1.3) + NOISE),
    "no lower plateau": (DOSES, curve(DOSES, hill=1, ec50=8) + NOISE),
    "no upper plateau": (DOSES, curve(DOSES, hill=1, ec50=0.002) + NOISE),
    "poor fit": (DOSES.repeat(3), curve(DOSES.repeat(3), bottom=0.5) + np.random.default_rng(4).normal(0, 0.25, 27)),
    "non-monotone": (DOSES, np.r_[1, 1, 0.95, 0.7, 0.3, 0.2, 0.3, 0.6, 0.9]),
    "few doses": (DOSES[::2], curve(DOSES[::2]) + NOISE[:5]),
    "too few doses": (DOSES[:3], curve(DOSES[:3])),
    "top at bound": (DOSES, 1.9 * curve(DOSES) + NOISE),
    "hill at bound": (DOSES, np.where(DOSES < 0.1, 1.0, 0.1) + 0.0 * NOISE),
    "no interval": (DOSES[:4], curve(DOSES[:4], ec50=0.01)),
}  # fmt: skip


@pytest.mark.parametrize("flag", list(FLAGGED))
def test_a_planted_fault_is_flagged(flag: str) -> None:
    dose, y = FLAGGED[flag]
    assert flag in one(y, dose)["flags"]


def test_an_ec50_that_runs_into_its_bound_is_flagged() -> None:
    near = dr.Bounds(ec50=(-0.1, 0.1))
    row = one(curve(DOSES, bottom=0, hill=1, ec50=30), bounds=near)
    assert "ec50 at bound" in row["flags"] and row["ec50_censored"] == 1
    assert row["log10_ec50"] == pytest.approx(1.1)


def test_a_clean_curve_has_no_flag() -> None:
    draw = np.random.default_rng(6)
    table = many(np.stack([curve(DOSES)] * 300) + draw.normal(0, 0.03, (300, 9)))
    assert table["flags"].list.len().sum() <= 3


def test_too_few_doses_give_the_effect_and_no_curve() -> None:
    table = dr.fit_arrays(np.r_[1.0, 1.0, DOSES], np.r_[0.4, 0.6, curve(DOSES)], np.array([0, 2, 11]))
    single, full = table.rows(named=True)
    assert single["emax"] == pytest.approx(0.5) and single["n_doses"] == 1
    nulls = ("ic50_um", "ec50_um", "auc", "top", "hill", "rss", "p_flat", "df_residual")
    assert [single[k] for k in nulls] == [None] * len(nulls)
    assert single["flags"] == ["too few doses"] and full["flags"] == []


def test_constant_responses_are_flat_without_a_division_by_zero() -> None:
    row = one(np.ones(9))
    assert row["p_flat"] == 1 and "flat" in row["flags"] and row["r2"] is None and row["ic50_censored"] == 1


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dose", "y", "words"),
    [
        ([1, 2, np.nan, 4], [1, 1, 1, 1], r"dose of row 2 \(curve 1, 1 such rows\).*found nan"),
        ([1, 2, -3, 4], [1, 1, 1, 1], r"dose of row 2 .*0 up, found -3"),
        ([1, 2, 3, 4], [1, np.inf, 1, 1], r"response of row 1 \(curve 0.*found inf"),
    ],
)
def test_numbers_that_are_none_are_refused_with_their_place(dose: list[float], y: list[float], words: str) -> None:
    with pytest.raises(dr.DoseResponseError, match=words):
        dr.fit_arrays(np.array(dose), np.array(y), np.array([0, 2, 4]))


def test_shapes_and_bounds_that_do_not_hold_together_are_refused() -> None:
    with pytest.raises(dr.DoseResponseError, match="offsets: expected a rise from 0 to 9"):
        dr.fit_arrays(DOSES, curve(DOSES), np.array([0, 12]))
    with pytest.raises(dr.DoseResponseError, match="of one length"):
        dr.fit_arrays(DOSES, curve(DOSES)[:5])
    with pytest.raises(dr.DoseResponseError, match="low before high"):
        one(curve(DOSES), bounds=dr.Bounds(top=(1.5, 0.5)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": pl.lit(None, pl.Float64)}, "value in row 0 .*found None"),
        ({"dose": pl.col("dose").log10()}, "dose in row 0.*found -2.*log10 doses"),
        ({"dose_unit": pl.lit(None, pl.String)}, "dose_unit in row 0 is missing"),
    ],
)
def test_a_frame_is_refused_with_the_row(change: dict[str, pl.Expr], words: str) -> None:
    with pytest.raises(dr.DoseResponseError, match=words):
        dr.fit(points(subject="s", treatment="t").with_columns(**change))


def test_a_frame_without_a_column_endpoint_or_unit_is_refused() -> None:
    with pytest.raises(dr.DoseResponseError, match=r"column 'value' is missing.*'values'"):
        dr.fit(points().rename({"value": "values"}))
    with pytest.raises(dr.DoseResponseError, match=r"no endpoint 'viabilty'\. Did you mean 'viability'"):
        dr.fit(points(endpoint="viability"), endpoint="viabilty")
    with pytest.raises(UnitError, match="molar_mass"):
        dr.fit(points(dose_unit="ug/mL"))
    with pytest.raises(dr.DoseResponseError, match="rows of dose 0"):
        dr.fit(points(subject="s"), zero="normalise")
    with pytest.raises(dr.DoseResponseError, match="expected 'top', 'drop' or 'normalise'"):
        dr.fit(points(), zero="what")  # type: ignore[arg-type]


# --- frames ----------------------------------------------------------------------------------------------------------


def test_outcomes_give_one_row_a_curve_with_units_converted() -> None:
    parts = [
        points(subject="b", treatment="x", endpoint="viability", censored=0),
        points(subject="a", treatment="y", endpoint="viability", censored=0)
        .with_columns(pl.col("dose") * 1000, pl.col("value") * 100, dose_unit=pl.lit("nM"), unit=pl.lit("%")),
        points(subject="a", treatment="x", endpoint="viability", censored=pl.Series([0] * 8 + [-1]))
        .with_columns(pl.col("dose") * 0.3, dose_unit=pl.lit("ug/mL")),
        points(subject="a", treatment="x", endpoint="ln_ic50", censored=0).with_columns(dose=pl.lit(None, pl.Float64)),
    ]  # fmt: skip
    outcomes = pl.concat([p.with_columns(pl.col("censored").cast(pl.Int8)) for p in parts], how="vertical_relaxed")
    table = dr.fit(outcomes.sample(fraction=1, shuffle=True, seed=1), molar_mass={"x": 300.0, "y": 1.0})
    assert table.select("subject", "treatment").rows() == [("a", "x"), ("a", "y"), ("b", "x")]
    assert table["ec50_um"].to_list() == pytest.approx([0.1] * 3, rel=1e-3)
    assert table["flags"].to_list() == [["censored points"], [], []]
    assert dr.from_outcomes is dr.fit
    nm = dr.fit(outcomes.filter(pl.col("subject") == "b"), dose_unit="nM")
    assert nm["ic50_nm"][0] == pytest.approx(1000 * table["ic50_um"][2])


def test_no_points_give_an_empty_table_with_the_same_columns() -> None:
    full, empty = dr.fit(points(subject="s")), dr.fit(points(subject="s").clear())
    assert empty.height == 0 and empty.schema == full.schema


def test_normalising_by_the_controls_undoes_a_scale() -> None:
    raw = points(subject="s").with_columns(pl.col("value") * 0.4)
    controls = raw.head(2).with_columns(dose=0.0, value=pl.Series([0.39, 0.41]))
    both = pl.concat([raw, controls])
    row = dr.fit(both, zero="normalise").row(0, named=True)
    assert row["ec50_um"] == pytest.approx(0.1, rel=1e-3) and row["n_points"] == 9
    assert dr.fit(both.with_columns(pl.col("value") / 0.4), zero="drop")["n_points"][0] == 9


# --- growth rate -----------------------------------------------------------------------------------------------------


def test_gr_values_are_those_of_counts() -> None:
    """Hafner et al. 2016, from cell counts: 1000 at the start, 8000 untreated at the end (three doublings)."""
    end = np.array([8000.0, 4000.0, 1000.0, 500.0, 0.0])
    by_counts = np.r_[2 ** (np.log2(end[:4] / 1000) / np.log2(8000 / 1000)) - 1, -1]
    assert dr.gr_values(end / 8000, 3.0) == pytest.approx(by_counts)
    assert dr.gr_values(np.array([1.0, 0.125, 0.0]), 3.0).tolist() == pytest.approx([1, 0, -1])  # none, static, dead
    with pytest.raises(dr.DoseResponseError, match="above 0, found 0"):
        dr.gr_values(end / 8000, 0.0)


def test_gr50_does_not_depend_on_how_fast_cells_grow() -> None:
    """One drug, three growth rates: IC50 shifts, GR50 stays (the point of the metric)."""
    gr = 0.2 + 0.8 / (1 + (DOSES / 0.1) ** 1.5)
    doublings = np.array([1.0, 2.0, 4.0])
    y = np.stack([2 ** (d * (np.log2(gr + 1) - 1)) for d in doublings])
    table = many(y, doublings=doublings)
    truth = 0.1 * ((1 - 0.5) / (0.5 - 0.2)) ** (1 / 1.5)
    assert table["gr50_um"].to_list() == pytest.approx([truth] * 3, rel=1e-3)
    assert table["h_gr"].to_list() == pytest.approx([1.5] * 3, rel=1e-3)
    assert table["gr_inf"].to_list() == pytest.approx([0.2] * 3, abs=1e-3)
    assert table["gr_max"].to_list() == pytest.approx([gr[-1]] * 3, abs=1e-3)
    fine = np.linspace(-3, 1, 20001)
    aoc = 1 - np.trapezoid(0.2 + 0.8 / (1 + (10**fine / 0.1) ** 1.5), fine) / 4
    assert table["gr_aoc"].to_list() == pytest.approx([aoc] * 3, abs=1e-4)
    assert table["ic50_censored"].to_list() == [1, 0, 0] and table["ic50_um"][1] > 1.5 * table["ic50_um"][2]  # type: ignore[operator]
    assert table["gr50_censored"].to_list() == [0, 0, 0]


def test_a_flat_curve_has_a_censored_gr50_and_no_slope() -> None:
    frame = points(subject="s", value=0.98 + NOISE)
    row = dr.fit(frame, doublings={"s": 2.0}).row(0, named=True)
    assert (row["gr50_um"], row["gr50_censored"], row["h_gr"]) == (pytest.approx(10), 1, None)
    with pytest.raises(dr.DoseResponseError, match="1 subjects are missing, first 's'"):
        dr.fit(frame, doublings={"other": 2.0})


# --- where compiled code is kept -------------------------------------------------------------------------------------


def test_an_installation_nobody_can_write_to_still_fits(tmp_path: Path) -> None:
    """Neither beside the file nor in a home: numba's cache is given up, nothing else."""
    package = tmp_path / "workbench"
    shutil.copytree(ROOT / "workbench", package, ignore=shutil.ignore_patterns("__pycache__"))
    script = (
        "import numba.core.caching as c\n"
        "def refuse(self): raise OSError(30, 'Read-only file system')\n"
        "for n in dir(c):\n"
        "    k = getattr(c, n)\n"
        "    if isinstance(k, type) and hasattr(k, 'ensure_cache_path'): k.ensure_cache_path = refuse\n"
        "from workbench.assays import _logistic\n"
        "print(type(_logistic.fit._cache).__name__, _logistic.fit.py_func.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["NullCache", "fit"]
    assert not list(package.rglob("*.nbi"))
