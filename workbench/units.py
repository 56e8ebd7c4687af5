"""Exact unit conversions that refuse to guess.

Every unit is a rational multiple of its dimension's base (``fractions.Fraction``), so a factor carries
no rounding. Logarithms are written ``ln(uM)``, ``log10(M)``, ``log2(nM)``; ``pIC50`` (and pEC50, pKi ...)
is ``-log10`` of a molar concentration in M. Spelling and case count: ``mM`` is not ``MM``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np

from workbench.text import nearest

Value = TypeVar("Value", float, Fraction, np.ndarray)


class UnitError(ValueError):
    """A unit is unknown, two units do not fit, or a value has no meaning in its unit."""


PREFIXES = {"": 0, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15}


def _ten(power: int) -> Fraction:
    return Fraction(10) ** power


def _linear() -> dict[str, tuple[str, Fraction]]:
    table: dict[str, tuple[str, Fraction]] = {}
    for prefix, power in PREFIXES.items():
        table[f"{prefix}M"] = ("molar concentration", _ten(power))  # base: mol/L
        for volume, per_litre in (("L", 0), ("dL", 1), ("mL", 3)):
            table[f"{prefix}g/{volume}"] = ("mass concentration", _ten(power + per_litre))  # base: g/L
        table[f"{prefix}g/kg"] = ("dose per body mass", _ten(power + 3))  # base: mg/kg
        table[f"{prefix}g"] = ("mass", _ten(power))
        table[f"{prefix}mol"] = ("amount", _ten(power))
    table["kg"] = ("mass", _ten(3))
    table |= {"mol/L": table["M"], "mmol/L": table["mM"], "umol/L": table["uM"], "nmol/L": table["nM"]}
    table["ms"] = ("time", Fraction(1, 1000))
    seconds = {"s": 1, "min": 60, "h": 3600, "day": 86400, "week": 604800}
    table |= {name: ("time", Fraction(length)) for name, length in seconds.items()}
    table |= {"fraction": ("fraction", Fraction(1)), "%": ("fraction", Fraction(1, 100))}
    volumes = {"mm3": 0, "cm3": 3, "fL": -9, "pL": -6, "nL": -3, "uL": 0, "mL": 3, "L": 6}
    table |= {name: ("volume", _ten(power)) for name, power in volumes.items()}  # base: mm3
    return table | _compound(table)


def _compound(simple: dict[str, tuple[str, Fraction]]) -> dict[str, tuple[str, Fraction]]:
    """What clinical chemistry, haematology, pharmacokinetics and physiology count in."""
    table: dict[str, tuple[str, Fraction]] = {}
    spans = {name: simple[name][1] for name in ("min", "h", "day")}
    for prefix, power in PREFIXES.items():
        table[f"{prefix}g/g"] = ("mass per mass", _ten(power))  # of tissue; base: g/g
        table[f"{prefix}mol/kg"] = ("molar dose per body mass", _ten(power))
        table[f"{prefix}g/day"] = ("mass per time", _ten(power))
        table[f"{prefix}g/kg/day"] = ("dose rate per body mass", _ten(power + 3))  # base: mg/kg/day
        table[f"{prefix}U/L"] = table[f"{prefix}IU/L"] = ("enzyme activity", _ten(power))
        table[f"{prefix}U/mL"] = table[f"{prefix}IU/mL"] = ("enzyme activity", _ten(power + 3))
    for span, seconds in spans.items():
        hours = seconds / 3600
        for name, (dimension, scale) in simple.items():
            if dimension.endswith("concentration"):  # an area under the curve: h*ng/mL
                table[f"{span}*{name}"] = (f"{dimension.removesuffix('concentration')}exposure", hours * scale)
        for volume, litres in (("mL", Fraction(1, 1000)), ("L", Fraction(1))):
            table[f"{volume}/{span}"] = ("clearance", litres / hours)  # base: L/h
            table[f"{volume}/{span}/kg"] = ("clearance per body mass", litres / hours)
            table[f"{volume}/kg"] = ("volume per body mass", litres)
        table[f"1/{span}"] = ("rate", 1 / hours)
    for power in (3, 6, 9, 12):
        table[f"10^{power}/L"] = ("number concentration", _ten(power))  # base: 1/L
        table[f"10^{power}/uL"] = ("number concentration", _ten(power + 6))
    table |= {"1/L": ("number concentration", Fraction(1)), "/uL": ("number concentration", _ten(6))}
    table |= {"L/L": ("fraction", Fraction(1)), "mm": ("length", Fraction(1)), "cm": ("length", Fraction(10))}
    table |= {"beats/min": table["1/min"], "breaths/min": table["1/min"], "Hz": ("rate", Fraction(3600))}
    table |= {"msec": simple["ms"], "sec": simple["s"]}  # as the CDISC code lists write them
    # 1 mmHg is 133.322387415 Pa by convention (BS 350-2004)
    table |= {"kPa": ("pressure", _ten(3)), "mmHg": ("pressure", Fraction(133_322_387_415, 10**9))}
    return table


LINEAR = _linear()
LOG = {"ln": math.e, "log10": 10.0, "log2": 2.0}
SOME = "uM, nM, ng/mL, mg/kg, h, min, day, %, fraction, mm3, h*ng/mL, mL/min/kg, U/L, 10^9/L"
NEGATIVE_LOG = ("pIC50", "pEC50", "pKi", "pKd", "pGI50")
MISSING = {
    frozenset(("molar concentration", "mass concentration")): "molar_mass (g/mol)",
    frozenset(("mass", "amount")): "molar_mass (g/mol)",
    frozenset(("molar exposure", "mass exposure")): "molar_mass (g/mol)",
    frozenset(("mass per mass", "mass concentration")): "the density of the tissue",
    frozenset(("dose per body mass", "mass")): "the body mass (multiply by it first)",
}


@dataclass(frozen=True)
class Unit:
    """A parsed unit: value_in_base = scale * value, or scale * base**(sign * value) where ``log`` is set."""

    name: str
    dimension: str
    scale: Fraction
    log: str | None = None
    sign: int = 1


def known() -> list[str]:
    """All plain units and the p-scales, sorted; ``ln``, ``log10`` and ``log2`` take any plain one in brackets."""
    return sorted([*LINEAR, *NEGATIVE_LOG])


def parse(name: str) -> Unit:
    """The unit called ``name``; both micro signs count as ``u``.

    Raises
    ------
    UnitError
        The unit is unknown; the message names the nearest one.
    """
    plain = name.replace("\u00b5", "u").replace("\u03bc", "u")
    if plain in LINEAR:
        return Unit(name, *LINEAR[plain])
    if plain in NEGATIVE_LOG:
        return Unit(name, "molar concentration", Fraction(1), "log10", -1)
    match = re.fullmatch(r"(ln|log10|log2)\((.+)\)", plain)
    if match and match.group(2) in LINEAR:
        return Unit(name, *LINEAR[match.group(2)], match.group(1))
    candidates = [*known(), *(f"{log}({u})" for log in LOG for u in ("M", "uM", "nM"))]
    cased = [c for c in candidates if c.casefold() == plain.casefold()]  # the likeliest slip
    hint = f" Did you mean {cased[0]!r}?" if cased else nearest(plain, candidates)
    raise UnitError(
        f"unknown unit {name!r}.{hint} Units are such as {SOME}; ln(), log10(), log2() of these; all: units.known()."
    )


def factor(given: str, wanted: str, molar_mass: float | Fraction | None = None) -> Fraction:
    """The exact factor from one plain unit to another: ``value[wanted] = factor * value[given]``.

    Parameters
    ----------
    molar_mass : g/mol, needed between mass and molar units and refused anywhere else

    Raises
    ------
    UnitError
        The units measure different things, or what links them is missing; the message says what.
    """
    a, b = parse(given), parse(wanted)
    if a.log or b.log:
        raise UnitError(f"{given!r} to {wanted!r} is no factor: one of them is a logarithm. Use convert().")
    return _scale(a, b, molar_mass)


def _scale(a: Unit, b: Unit, molar_mass: float | Fraction | None) -> Fraction:
    if a.dimension == b.dimension:
        if molar_mass is not None:
            raise UnitError(f"{a.name!r} to {b.name!r} needs no molar_mass, found {molar_mass}. Leave it out.")
        return a.scale / b.scale
    both = frozenset((a.dimension, b.dimension))
    missing = MISSING.get(both)
    if missing is None or not missing.startswith("molar_mass"):
        need = f" Missing: {missing}." if missing else ""
        raise UnitError(f"{a.name!r} is a {a.dimension}, {b.name!r} is a {b.dimension}: they do not convert.{need}")
    if molar_mass is None:
        raise UnitError(f"{a.name!r} is a {a.dimension}, {b.name!r} is a {b.dimension}. Missing: {missing}.")
    if not (math.isfinite(molar_mass) and molar_mass > 0):
        raise UnitError(f"molar_mass: expected a positive number of g/mol, found {molar_mass}.")
    mass = Fraction(molar_mass)
    return a.scale / b.scale / mass if a.dimension.startswith("mass") else a.scale / b.scale * mass


def convert(value: Value, given: str, wanted: str, molar_mass: float | Fraction | None = None) -> Value:
    """``value`` in unit ``wanted``: a float is rounded once, an array keeps its shape, a ``Fraction`` stays exact.

    A logarithm is always a float.

    Examples
    --------
    >>> convert(5.0, "uM", "nM")
    5000.0
    >>> convert(1.0, "uM", "pIC50")
    6.0
    >>> convert(180.0, "mg/L", "uM", molar_mass=180)
    1000.0

    Raises
    ------
    UnitError
        As ``factor``; also where a logarithm of a number that is not positive would be needed, and
        where a result is too large for a float.
    """
    a, b = parse(given), parse(wanted)
    scale = _scale(a, b, molar_mass)
    if isinstance(value, np.ndarray):
        return _array(value.astype(np.float64), a, b, scale)
    if a.log is not None or b.log is not None or not math.isfinite(value):
        return float(_array(np.asarray([float(value)]), a, b, scale)[0])  # type: ignore[return-value]  # logs are floats
    exact = Fraction(value) * scale
    return exact if isinstance(value, Fraction) else float(exact)


def _array(value: np.ndarray, a: Unit, b: Unit, scale: Fraction) -> np.ndarray:
    if a.log is None and b.log is None:
        return value * scale.numerator / scale.denominator
    if a.log is not None and b.log is not None:
        # log to log never leaves log space, so no value is too small or too large
        change = 1.0 if a.log == b.log else math.log(LOG[a.log]) / math.log(LOG[b.log])
        return b.sign * (value * a.sign * change + _log(scale, b.log))
    if a.log is None:
        assert b.log is not None
        bad = ~(value > 0)
        if bad.any():
            where = f"{value[bad][0]} {a.name} (flat index {_first(bad)})"
            raise UnitError(f"{b.name!r} is a logarithm: expected values above 0, found {where}.")
        return b.sign * (_logs(value, b.log) + _log(scale, b.log))
    with np.errstate(over="ignore"):
        power = np.exp(a.sign * value) if a.log == "ln" else LOG[a.log] ** (a.sign * value)
        result = power * scale.numerator / scale.denominator
    bad = ~np.isfinite(result)
    if bad.any():
        raise UnitError(f"{value[bad][0]} {a.name} (flat index {_first(bad)}) is no finite number of {b.name}.")
    return result


def _logs(value: np.ndarray, log: str) -> np.ndarray:
    return {"ln": np.log, "log10": np.log10, "log2": np.log2}[log](value)


def _log(scale: Fraction, log: str) -> float:
    """Logarithm of an exact number; of numerator and denominator apart, so that powers of ten come out whole."""
    function = {"ln": math.log, "log10": math.log10, "log2": math.log2}[log]
    return function(scale.numerator) - function(scale.denominator)


def _first(bad: np.ndarray) -> int:
    return int(np.flatnonzero(bad)[0])
