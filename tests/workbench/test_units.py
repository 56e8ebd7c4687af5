"""Unit conversions: exact, round trips, and refusals that say what is missing."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.units import LINEAR, UnitError, convert, factor, parse

BY_DIMENSION: dict[str, list[str]] = {}
for _name, (_dimension, _) in LINEAR.items():
    BY_DIMENSION.setdefault(_dimension, []).append(_name)
PAIRS = [pair for names in BY_DIMENSION.values() for pair in product(names, repeat=2)]
MOLAR = ["M", "mM", "uM", "nM", "pM"]
LOGS = ["ln(uM)", "ln(M)", "log10(M)", "log10(nM)", "log2(uM)", "pIC50", "pEC50"]


@pytest.mark.parametrize(
    ("value", "a", "b", "expected"),
    [
        (1.0, "uM", "nM", 1000.0),
        (0.1, "mM", "uM", 100.0),
        (3.0, "mg/mL", "g/L", 3.0),
        (250.0, "ng/mL", "ug/L", 250.0),
        (90.0, "min", "h", 1.5),
        (2.0, "day", "h", 48.0),
        (12.5, "%", "fraction", 0.125),
        (1.5, "cm3", "mm3", 1500.0),
        (1.0, "mL", "mm3", 1000.0),
        (5.0, "mg/kg", "ug/kg", 5000.0),
        (1.0, "uM", "pIC50", 6.0),
        (9.0, "pIC50", "nM", 1.0),
        (0.0, "ln(uM)", "uM", 1.0),
        (0.0, "ln(uM)", "log10(M)", -6.0),
        (-7.0, "log10(M)", "pIC50", 7.0),
        (math.log(8), "ln(uM)", "nM", 8000.0),
        (1.0, "\u00b5M", "nM", 1000.0),
        (1.0, "\u03bcM", "nM", 1000.0),
        (2.0, "h*ng/mL", "min*ug/L", 120.0),
        (1.0, "day*uM", "h*nM", 24000.0),
        (10.0, "mL/min/kg", "L/h/kg", 0.6),
        (3.0, "mg/kg/day", "g/kg/day", 0.003),
        (45.0, "U/L", "mIU/mL", 45.0),
        (7.2, "10^9/L", "10^3/uL", 7.2),
        (96.0, "/uL", "10^6/L", 96.0),
        (350.0, "beats/min", "1/h", 21000.0),
        (120.0, "mmHg", "kPa", 15.9986864898),
        (0.44, "L/L", "%", 44.0),
        (250.0, "msec", "sec", 0.25),
        (90.0, "fL", "mm3", 9e-8),
    ],
)
def test_known_values(value, a, b, expected):
    assert convert(value, a, b) == pytest.approx(expected, rel=1e-14, abs=1e-14)


def test_one_tenth_is_rounded_once():
    """0.1 * 1e-3 is 0.0001 exactly rounded, where two float products give 0.00010000000000000002 in places."""
    assert convert(0.3, "uM", "M") == 3e-7
    assert convert(Fraction(1, 3), "h", "min") == 20
    assert isinstance(convert(Fraction(1, 3), "h", "min"), Fraction)


@given(st.sampled_from(PAIRS), st.fractions(min_value=-(10**9), max_value=10**9))
def test_plain_round_trips_are_exact(pair, value):
    a, b = pair
    assert convert(convert(value, a, b), b, a) == value
    assert factor(a, b) * factor(b, a) == 1


@given(st.sampled_from(PAIRS), st.floats(min_value=1e-100, max_value=1e100))
def test_a_float_is_the_nearest_float_of_the_exact_result(pair, value):
    a, b = pair
    assert convert(value, a, b) == float(Fraction(value) * factor(a, b))
    np.testing.assert_allclose(convert(np.array([value]), a, b), [float(Fraction(value) * factor(a, b))], rtol=5e-16)


@given(st.sampled_from(LOGS), st.sampled_from(MOLAR + LOGS), st.floats(min_value=-20, max_value=20))
def test_log_round_trips(a, b, value):
    assert convert(convert(value, a, b), b, a) == pytest.approx(value, rel=1e-12, abs=1e-11)


@given(
    st.sampled_from(MOLAR),
    st.sampled_from(BY_DIMENSION["mass concentration"]),
    st.fractions(min_value=Fraction(1, 1000), max_value=1000),
    st.fractions(min_value=1, max_value=2000),
)
def test_mass_and_molar_round_trips_are_exact_with_a_molar_mass(molar, mass, value, grams):
    there = convert(value, molar, mass, molar_mass=grams)
    assert convert(there, mass, molar, molar_mass=grams) == value


def test_molar_mass_by_hand():
    """Aspirin, 180.158 g/mol: 1 mM is 180.158 mg/L."""
    assert convert(1.0, "mM", "mg/L", molar_mass=180.158) == pytest.approx(180.158, rel=1e-15)
    assert convert(180.158, "ng/mL", "nM", molar_mass=180.158) == pytest.approx(1000.0, rel=1e-15)
    assert convert(2.0, "g", "mmol", molar_mass=100) == 20.0


def test_arrays_keep_their_shape_and_their_source():
    value = np.array([[0.0, math.log(2.0)], [math.log(8.0), -1.0]])
    kept = value.copy()
    np.testing.assert_allclose(convert(value, "ln(uM)", "uM"), np.exp(kept), rtol=1e-15)
    np.testing.assert_array_equal(value, kept)
    np.testing.assert_array_equal(convert(np.array([1, 2]), "h", "min"), [60.0, 120.0])


def test_log_to_log_never_leaves_log_space():
    """exp(800) has no float; its logarithm in another unit has."""
    assert convert(800.0, "ln(uM)", "ln(nM)") == pytest.approx(800 + math.log(1000))
    with pytest.raises(UnitError, match="no finite number of uM"):
        convert(800.0, "ln(uM)", "uM")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("um", "nM", r"unknown unit 'um'.*Did you mean 'uM'"),
        ("Um", "nM", "unknown unit 'Um'"),
        ("MM", "nM", "unknown unit 'MM'.*Did you mean 'mM'"),
        ("hours", "min", "unknown unit 'hours'"),
        ("ln(furlong)", "uM", r"unknown unit 'ln\(furlong\)'"),
        ("", "uM", "unknown unit ''"),
        ("mg/mL", "uM", r"Missing: molar_mass \(g/mol\)"),
        ("uM", "ng/mL", r"Missing: molar_mass \(g/mol\)"),
        ("mg/mL", "pIC50", r"Missing: molar_mass"),
        ("mg/kg", "mg", "Missing: the body mass"),
        ("h", "uM", "'h' is a time, 'uM' is a molar concentration: they do not convert"),
        ("%", "h", "fraction"),
        ("h*ng/mL", "h*uM", r"Missing: molar_mass \(g/mol\)"),
        ("mg/kg/day", "mg/kg", "is a dose rate per body mass, 'mg/kg' is a dose per body mass"),
        ("mEq/L", "mM", "unknown unit 'mEq/L'"),
        ("C", "K", "unknown unit 'C'"),
        ("ug/g", "ng/mL", "Missing: the density of the tissue"),
        ("umol/kg", "mg/kg", "they do not convert"),
    ],
)
def test_refusals_say_what_is_missing(a, b, message):
    with pytest.raises(UnitError, match=message):
        convert(1.0, a, b)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_no_logarithm_of_what_has_none(value):
    with pytest.raises(UnitError, match=r"expected values above 0, found .*flat index 1"):
        convert(np.array([1.0, value]), "uM", "ln(uM)")


def test_molar_mass_is_refused_where_it_has_no_part_and_where_it_is_senseless():
    with pytest.raises(UnitError, match="needs no molar_mass"):
        convert(1.0, "uM", "nM", molar_mass=180)
    with pytest.raises(UnitError, match="expected a positive number"):
        convert(1.0, "uM", "ng/mL", molar_mass=0)
    with pytest.raises(UnitError, match="logarithm"):
        factor("ln(uM)", "uM")


def test_parse_keeps_the_name_it_was_given():
    unit = parse("\u00b5M")
    assert (unit.name, unit.dimension, unit.scale) == ("\u00b5M", "molar concentration", Fraction(1, 10**6))
