"""Non-compartmental analysis: closed forms come back, rules hold, and a real study's own parameters agree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.real import shared
from workbench.assays import pharmacokinetics as pk

K, V, DOSE = 0.2, 2.0, 10.0  # 1/h, L/kg, mg/kg: CL = K V = 0.4 L/h/kg
HOURS = np.r_[0.05, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 30]


def bolus(t: np.ndarray) -> np.ndarray:
    """One compartment, intravenous bolus, ng/mL."""
    return 1000 * DOSE / V * np.exp(-K * t)


def infusion(t: np.ndarray, length: float = 2.0) -> np.ndarray:
    rate = 1000 * DOSE / length / (K * V)
    return np.where(
        t <= length, rate * (1 - np.exp(-K * t)), rate * (1 - math.exp(-K * length)) * np.exp(-K * (t - length))
    )


def oral(t: np.ndarray, ka: float = 1.5, fraction: float = 0.6) -> np.ndarray:
    return 1000 * fraction * DOSE * ka / (V * (ka - K)) * (np.exp(-K * t) - np.exp(-ka * t))


def outcomes(t: np.ndarray, c: np.ndarray, **columns: Any) -> pl.DataFrame:
    frame = {"subject": "a1", "endpoint": "concentration plasma", "unit": "ng/mL", "dose": DOSE, "dose_unit": "mg/kg"}
    return (
        pl.DataFrame({"time_h": t, "value": c})
        .with_columns(**{k: pl.lit(v) for k, v in frame.items()})
        .with_columns(**columns)
    )


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_a_bolus_gives_back_clearance_volume_and_half_life_exactly() -> None:
    found = pk.profile(HOURS, bolus(HOURS), dose=DOSE, route="iv bolus")
    assert found["c0_ng_ml"] == pytest.approx(5000)
    assert found["auc_inf_h_ng_ml"] == pytest.approx(5000 / K)
    assert found["auc_last_h_ng_ml"] == pytest.approx(5000 / K * (1 - math.exp(-K * 30)))
    assert found["aumc_inf_h2_ng_ml"] == pytest.approx(5000 / K**2)
    assert found["half_life_h"] == pytest.approx(math.log(2) / K)
    assert found["mrt_h"] == pytest.approx(1 / K)
    assert found["cl_ml_min_kg"] == pytest.approx(1000 * K * V / 60)
    assert found["vz_l_kg"] == pytest.approx(V) and found["vss_l_kg"] == pytest.approx(V)
    assert found["lambda_r2_adjusted"] == pytest.approx(1) and found["flags"] == []
    assert "cl_f_ml_min_kg" not in found


def test_an_infusion_has_half_its_length_taken_off_the_residence_time() -> None:
    t = np.r_[0, np.arange(0.1, 2, 0.1), np.linspace(2, 40, 60)]
    found = pk.profile(t, infusion(t), dose=DOSE, route="iv infusion", infusion_h=2.0)
    assert found["mrt_h"] == pytest.approx(1 / K, rel=2e-3)
    assert found["vss_l_kg"] == pytest.approx(V, rel=2e-3)
    assert found["tmax_h"] == 2


def test_an_oral_curve_gives_back_apparent_clearance() -> None:
    t = np.r_[0, np.geomspace(0.05, 48, 150)]
    found = pk.profile(t, oral(t), dose=DOSE)
    assert found["cl_f_ml_min_kg"] == pytest.approx(1000 * K * V / 0.6 / 60, rel=1e-3)
    assert found["vz_f_l_kg"] == pytest.approx(V / 0.6, rel=1e-2)
    assert found["tmax_h"] == pytest.approx(math.log(1.5 / K) / (1.5 - K), rel=0.05)
    assert found["mrt_h"] == pytest.approx(1 / K + 1 / 1.5, rel=5e-3), "absorption included"
    assert "cl_ml_min_kg" not in found and "vss_l_kg" not in found


def test_linear_trapezoids_lie_above_a_falling_curve() -> None:
    log, linear = (pk.profile(HOURS, bolus(HOURS), route="iv bolus", method=m) for m in pk.METHODS)
    by_hand = np.trapezoid(np.r_[5000, bolus(HOURS)], np.r_[0, HOURS])
    assert linear["auc_last_h_ng_ml"] == pytest.approx(by_hand)
    assert by_hand > 1.005 * log["auc_last_h_ng_ml"]


def test_areas_of_equal_and_zero_concentrations() -> None:
    t, c = np.array([0, 1, 2, 3.0]), np.array([2, 2, 1, 0.0])
    area, moment = pk.areas(t, c)
    assert area == pytest.approx(2 + 1 / math.log(2) + 0.5)
    fine = np.linspace(1, 2, 100_001)
    assert moment == pytest.approx(1 + np.trapezoid(fine * 2 * 0.5 ** (fine - 1), fine) + 7 / 6)


def test_area_to_the_end_of_the_dosing_interval() -> None:
    exact = 5000 / K * (1 - math.exp(-K * 10))
    assert pk.profile(HOURS, bolus(HOURS), route="iv bolus", tau_h=10)["auc_tau_h_ng_ml"] == pytest.approx(exact)
    short = HOURS[HOURS <= 8]
    assert pk.profile(short, bolus(short), route="iv bolus", tau_h=10)["auc_tau_h_ng_ml"] == pytest.approx(exact)


def test_the_terminal_slope_is_found_in_the_terminal_phase() -> None:
    """Two compartments: the last points tell, more of them where the fit stays as good."""
    t = np.r_[0.1, 0.25, 0.5, 1, 2, 4, 8, 12, 16, 24, 36]
    c = 4000 * np.exp(-2 * t) + 1000 * np.exp(-0.1 * t)
    found = pk.profile(t, c, route="iv bolus")
    assert found["lambda_z_per_h"] == pytest.approx(0.1, rel=1e-3)
    assert 5 <= found["n_lambda"] <= 6


# --- rules -----------------------------------------------------------------------------------------------------------


def test_blq_is_zero_before_dropped_between_and_dropped_after() -> None:
    t = np.array([0, 1, 2, 3, 4, 5, 6, 7.0])
    value = np.array([5, 5, 80, 5, 40, 20, 5, 5.0])  # 5 is the limit
    kept, c = pk.usable(t[::-1], value[::-1], (value == 5)[::-1])
    assert kept.tolist() == [0, 1, 2, 4, 5] and c.tolist() == [0, 0, 80, 40, 20]
    found = pk.profile(t, value, value == 5)
    assert (found["tlast_h"], found["n_blq"], found["n_points"]) == (5, 5, 8)


def test_nothing_quantifiable_is_said() -> None:
    found = pk.profile(HOURS, np.full(14, 20.0), np.ones(14, dtype=bool))
    assert found["flags"] == ["no quantifiable sample"] and "cmax_ng_ml" not in found
    row = pk.from_outcomes(outcomes(HOURS, np.full(14, 20.0), censored=pl.lit(-1, pl.Int8))).row(0, named=True)
    assert row["cmax_ng_ml"] is None and row["n_blq"] == 14


def test_too_much_extrapolation_is_refused_unless_asked_for() -> None:
    early = HOURS[HOURS <= 4]  # 45 % of the area lies beyond
    found = pk.profile(early, bolus(early), dose=DOSE, route="iv bolus")
    assert found["auc_extrapolated_percent"] == pytest.approx(100 * math.exp(-K * 4), rel=1e-6)
    assert "extrapolated above 20 %" in found["flags"]
    assert not {"auc_inf_h_ng_ml", "cl_ml_min_kg", "mrt_h", "vss_l_kg"} & set(found)
    assert pk.profile(early, bolus(early), dose=DOSE, route="iv bolus", extrapolation_limit=50)[
        "cl_ml_min_kg"
    ] == pytest.approx(1000 * K * V / 60)


def test_every_flag() -> None:
    rising = np.array([1, 2, 4, 8, 16.0])
    assert pk.profile(rising, rising)["flags"] == ["no terminal slope"]
    falling = pk.profile(np.array([1, 2, 3, 4, 5.0]), np.array([100, 80, 79, 50, 55.0]))
    assert "highest at the first sample" in falling["flags"]
    assert "poor terminal slope" in falling["flags"]
    assert "terminal slope over less than two half-lives" in falling["flags"]
    late = np.array([4.0, 6, 8, 10, 14, 20])
    assert "over 20 % of the area before the second sample" in pk.profile(late, bolus(late), route="iv bolus")["flags"]


def test_two_doses_in_one_profile_are_flagged() -> None:
    t = np.array([0.5, 1, 2, 4, 8, 24])
    c = 1000 * np.exp(-0.2 * t)
    both, twice = np.concatenate([t, 672 + t]), np.tile(c, 2)
    assert "rises again after 648.5 h without a sample: another dose?" in pk.profile(both, twice)["flags"]
    assert not [f for f in pk.profile(t, c)["flags"] if "rises" in f]
    depot = np.array([1, 24, 96, 168, 336])
    assert not [f for f in pk.profile(depot, 100 * np.exp(-0.005 * depot))["flags"] if "rises" in f]
    frame = pl.DataFrame({"subject": "rat", "time_h": both, "value": twice, "unit": "ng/mL"})
    assert any("rises" in f for f in pk.from_outcomes(frame)["flags"][0])
    assert not [f for fs in pk.from_outcomes(frame, dosed_at_h=(0, 672))["flags"] for f in fs if "rises" in f]


def test_what_stands_at_hour_zero_when_it_was_not_sampled() -> None:
    t, c = np.array([2.0, 4]), np.array([30.0, 10])
    assert pk.profile(t, c)["auc_last_h_ng_ml"] == pytest.approx(30 + 40 / math.log(3))  # rises from 0
    steady = pk.profile(t, c, steady_state=True)["auc_last_h_ng_ml"]
    assert steady == pytest.approx(40 + 40 / math.log(3))  # rises from the lowest seen
    assert pk.profile(t, c, route="iv bolus")["c0_ng_ml"] == pytest.approx(90)
    assert pk.profile(t, c[::-1], route="iv bolus")["c0_ng_ml"] == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": [1, math.nan, 1.0]}, "sample 1: .*found nan at 2.0 h"),
        ({"value": [1, -2, 1.0]}, "sample 1: .*0 or more; found -2.0"),
        ({"time_h": [1, 1, 2.0]}, "two samples at 1.0 h"),
        ({"route": "iv"}, "'iv' is unknown.*Known: extravascular, iv bolus, iv infusion"),
        ({"method": "log"}, "'log' is unknown"),
        ({"route": "iv infusion"}, "expected infusion_h above 0"),
        ({"blq": [True]}, "three columns of one length"),
    ],
)
def test_what_cannot_be_analysed_is_refused(change: dict[str, Any], words: str) -> None:
    given = {"time_h": [1, 2, 3.0], "value": [3, 2, 1.0]} | change
    with pytest.raises(pk.PharmacokineticsError, match=words):
        pk.profile(**given)


# --- frames ----------------------------------------------------------------------------------------------------------


def test_profiles_units_and_repeated_doses() -> None:
    one = outcomes(HOURS, bolus(HOURS) / 1000, unit=pl.lit("mg/L"), dose=pl.lit(DOSE * 1000), dose_unit=pl.lit("ug/kg"))
    two = outcomes(HOURS + 100, 2 * bolus(HOURS), subject=pl.lit("a1"), dose=pl.lit(DOSE), dose_unit=pl.lit("mg/kg"))
    molar = outcomes(HOURS, bolus(HOURS) / 400, subject=pl.lit("a0"), unit=pl.lit("uM"))
    frame = pl.concat([two, one]).sample(fraction=1, shuffle=True, seed=0)
    table = pk.from_outcomes(frame, route="iv bolus", dosed_at_h=(0, 100))
    assert table.select("subject", "dose", "dosed_at_h").rows() == [("a1", 10, 0), ("a1", 10, 100)]
    assert table["cl_ml_min_kg"].to_list() == pytest.approx([1000 * K * V / 60, 1000 * K * V / 120])
    assert table["auc_last_per_dose"][0] == pytest.approx(table["auc_last_h_ng_ml"][0] / DOSE)
    assert table["cl_f_ml_min_kg"].null_count() == 2
    by_mass = pk.from_outcomes(molar, route="iv bolus", molar_mass=400.0)
    assert by_mass["cmax_ng_ml"][0] == pytest.approx(1000 * bolus(HOURS[:1])[0] / 1000, rel=1e-9)
    whole = pk.from_outcomes(outcomes(HOURS, bolus(HOURS), dose_unit=pl.lit("mg")), route="iv bolus")
    assert whole["cl_ml_min"][0] == pytest.approx(1000 * K * V / 60) and "cl_ml_min_kg" not in whole.columns


def test_a_frame_is_refused_with_the_name_of_the_profile() -> None:
    frame = outcomes(HOURS, bolus(HOURS))
    with pytest.raises(pk.PharmacokineticsError, match=r"'subject': 'a1'.*two samples at 1\.0 h"):
        pk.from_outcomes(pl.concat([frame, frame.filter(pl.col("time_h") == 1)]))
    with pytest.raises(pk.PharmacokineticsError, match="column 'time_h' is missing"):
        pk.from_outcomes(frame.drop("time_h"))
    with pytest.raises(pk.PharmacokineticsError, match=r"no endpoint 'concentration plasma'.*concentration blood"):
        pk.from_outcomes(frame.with_columns(endpoint=pl.lit("concentration blood")))
    with pytest.raises(pk.PharmacokineticsError, match="all per body mass or all absolute"):
        pk.from_outcomes(pl.concat([frame, frame.with_columns(subject=pl.lit("b"), dose_unit=pl.lit("mg"))]))
    with pytest.raises(pk.PharmacokineticsError, match="dose_unit is missing"):
        pk.from_outcomes(frame.with_columns(dose_unit=pl.lit(None, pl.String)))


# --- real animals ----------------------------------------------------------------------------------------------------


def test_the_parameters_a_rat_study_reports_are_ours() -> None:
    """SEND PDS: 18 rats, days 1 and 29. Cmax, Tmax, Tlast, AUClast and AUCtau agree, all of them; so does AUCinf where
    we give one.

    It was reported from two terminal points (with a minus where over 25 % was extrapolated): ours needs three unless
    told otherwise. Four of its sixteen came from a slope that starts at Tmax, which ours does not do.
    """
    import pyreadstat

    folder = shared("send/PDS")
    samples, _ = pyreadstat.read_xport(str(folder / "pc.xpt"))
    reported, _ = pyreadstat.read_xport(str(folder / "pp.xpt"))
    day = np.where(samples.VISITDY >= 29, 29.0, 1.0)
    frame = pl.DataFrame(
        {
            "subject": samples.USUBJID.tolist(),
            "day": day.tolist(),
            "time_h": (samples.PCTPTNUM + (day - 1) * 24).tolist(),
            "value": samples.PCSTRESN.fillna(samples.PCLLOQ).tolist(),
            "unit": samples.PCSTRESU.tolist(),
            "censored": (-samples.PCSTRESN.isna().astype(int)).tolist(),
        }
    )
    ours = pk.from_outcomes(
        frame, by=("subject", "day"), dosed_at_h=(0, 28 * 24), tau_h=24, min_points=2, extrapolation_limit=100
    )
    wide = (
        pl.DataFrame({c: reported[c].tolist() for c in ("USUBJID", "VISITDY", "PPTESTCD", "PPSTRESN")})
        .rename({"USUBJID": "subject", "VISITDY": "day"})
        .pivot("PPTESTCD", index=["subject", "day"], values="PPSTRESN")
    )
    both = ours.join(wide, on=["subject", "day"], validate="1:1")
    assert both.height == 36
    for name, code, n in (
        ("cmax_ng_ml", "CMAX", 36), ("tmax_h", "TMAX", 36), ("tlast_h", "TLST", 36), ("auc_last_h_ng_ml", "AUCLST", 18),
        ("auc_tau_h_ng_ml", "AUCTAU", 36), ("auc_inf_h_ng_ml", "AUCIFO", 12),
    ):  # fmt: skip
        pair = both.select(name, pl.col(code).abs()).drop_nulls().filter(~pl.col(code).is_nan())
        assert pair.height == n, code
        assert pair[name].to_numpy() == pytest.approx(pair[code].to_numpy(), rel=1e-4), code


def test_published_series_are_analysed_or_say_why_not() -> None:
    """CvTdb: series of at least five samples give an area and a half-life, or a flag."""
    table = pl.read_csv(shared("pk/cvtdb_conc_time_7918.csv"), infer_schema_length=None)
    table = table.select(
        subject=pl.col("fk_series_id").cast(pl.String), time_h="time_hr", value="invivPK_conc", unit=pl.lit("ug/mL"),
        dose="invivPK_dose_level", dose_unit=pl.lit("mg/kg"), route="administration_route_normalized",
    ).drop_nulls(["time_h", "value"])  # fmt: skip
    table = table.unique(["subject", "time_h"], keep="none", maintain_order=True)  # several animals under one number
    table = table.filter(pl.len().over("subject") >= 5, pl.col("value") >= 0)
    found = []
    for route, name in (("iv", "iv bolus"), ("oral", "extravascular")):
        found.append(pk.from_outcomes(table.filter(pl.col("route") == route), by=("subject",), route=name))
    both = pl.concat(found)
    quantified = both.filter(pl.col("auc_last_h_ng_ml").is_not_null())
    assert both.height > 300 and quantified.height > 0.99 * both.height
    assert quantified["auc_last_h_ng_ml"].min() > 0  # type: ignore[operator]
    slopes = both.drop_nulls("half_life_h")
    assert slopes.height > 0.7 * both.height
    assert (slopes["half_life_h"] * slopes["lambda_z_per_h"]).to_numpy() == pytest.approx(math.log(2))
    beyond = both.filter(pl.col("auc_extrapolated_percent") > 20)
    assert beyond.height > 0 and beyond["auc_inf_h_ng_ml"].null_count() == beyond.height
    silent = both.filter(pl.col("auc_inf_h_ng_ml").is_null(), pl.col("flags").list.len() == 0)
    assert silent.height == 0, "whatever is missing, a flag says why"
