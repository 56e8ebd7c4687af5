"""Values that cannot be: impossible for their unit, repeated, copied, constant, or not what they are said to be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from workbench import molecules, units
from workbench.audits._case import CONTROL, Case, Measured
from workbench.audits._finding import ERROR, NOTE, WARNING, Check, Finding, figure, some

# What a unit's dimension allows: least, most. Noise of a plate reader takes viability a little over its ends.
FRACTION = (0.0, 1.0)
VIABILITY = (-0.25, 2.0)
SIGNED = ("change", "gain", "difference", "balance", "delta")
RATIOS = ("owbr", "owbw", "ratio", "relative", " per ", "/")
LOOSE = (*SIGNED, "viab", "inhib", "tgi", "growth", "effect", "kill", "relative", "synerg", "gr_", "gr ", "control")
MOLAR = (1e-16, 1e2)  # mol/L: below a molecule per well, above any solution
PLAUSIBLE_P = (-1.0, 15.0)  # pIC50 and its kin


def impossible(case: Case) -> Iterator[Finding]:
    """Values their unit cannot take: negative concentrations and masses, fractions outside 0 to 1, absurd pIC50."""
    for m in case.measured:
        low, high, why = bounds(m)
        value, name = m.frame["value"].to_numpy(), m.endpoint.casefold()
        bad = (value < low) | (value > high)
        if name.replace("_", " ") in ("body weight", "weight", "organ weight") and low == 0:
            bad |= value == 0
        if m.unit == "%" and (bad.mean() > 0.2 or any(word in name for word in RATIOS)):
            continue  # percent of something else than a whole: an organ against the brain
        if not bad.any():
            continue
        percent = high in (1.0, VIABILITY[1]) and value[bad].min() >= 0 and 5 < np.median(value[bad]) <= 200
        hint = " They look like percent." if percent else ""
        yield Finding(
            ERROR,
            1.0,
            f"{int(bad.sum())} of {len(m)} values of {m.endpoint!r} are outside {figure(low)} to {figure(high)} "
            f"{m.unit} ({why}): from {figure(value[bad].min())} to {figure(value[bad].max())}.{hint}",
            m.endpoint,
            "Look these rows up in the source; correct the value or its unit, or drop them.",
            rows=m.rows[bad],
            names=m.frame.filter(pl.Series(bad))["subject"].unique().sort(),
            n=int(bad.sum()),
        )


def bounds(m: Measured) -> tuple[float, float, str]:
    """Least and most that an endpoint may be in its unit, and why; infinite where nothing is known."""
    inf = float("inf")
    name = m.endpoint.casefold()
    if any(word in name for word in ("probab", "p-value", "p_value", "pvalue")) and m.unit in ("", "1", "fraction"):
        return 0.0, 1.0, "a probability"
    try:
        unit = units.parse(m.unit)
    except units.UnitError:
        return -inf, inf, ""
    if unit.dimension == "fraction":
        scale = 1.0 if m.unit == "fraction" else 100.0
        if any(word in name for word in LOOSE):
            if "viab" not in name:
                return -inf, inf, ""
            return VIABILITY[0] * scale, VIABILITY[1] * scale, "viability with the noise of a reader"
        return FRACTION[0] * scale, FRACTION[1] * scale, "a fraction"
    if unit.sign == -1:
        return *PLAUSIBLE_P, "a negative logarithm of mol/L"
    if unit.log is not None:
        if unit.dimension != "molar concentration":
            return -inf, inf, ""
        low, high = (float(units.convert(limit, "M", m.unit)) for limit in MOLAR)
        return low, high, "no solution is that thin or that strong"
    if any(word in name for word in SIGNED) or unit.dimension == "time":
        return -inf, inf, ""
    return 0.0, inf, f"a {unit.dimension} is not negative"


def doses(case: Case) -> Iterator[Finding]:
    """Doses that cannot be: negative, without a unit, in two units, zero throughout for a drug, or against the arm."""
    frame = case.outcomes.filter(pl.col("dose").is_not_null())
    if frame.is_empty():
        return
    for bad, what, do in (
        (pl.col("dose") < 0, "a negative dose", "Correct the dose at its source."),
        (pl.col("dose_unit").is_null(), "a dose without a unit", "Give the unit; a bare number is not a dose."),
    ):
        found = frame.filter(bad)
        if found.height:
            yield Finding(
                ERROR,
                1.0,
                f"{found.height} rows have {what}, first {figure(found['dose'][0])} of {found['treatment'][0]!r}.",
                "outcomes, dose",
                do,
                rows=found["row"],
                names=found["treatment"].unique().sort(),
            )
    mixed = frame.group_by("treatment", "endpoint").agg(pl.col("dose_unit").drop_nulls().unique().sort())
    for treatment, endpoint, found_units in mixed.filter(pl.col("dose_unit").list.len() > 1).sort("treatment").rows():
        rows = frame.filter(pl.col("treatment") == treatment, pl.col("endpoint") == endpoint)
        yield Finding(
            WARNING,
            1.0,
            f"Doses of {treatment!r} for {endpoint!r} are given in {len(found_units)} units: {', '.join(found_units)}.",
            "outcomes, dose_unit",
            "Convert to one unit (workbench.units) before curves are fitted.",
            rows=rows["row"],
            names=[treatment],
        )
    zero = frame.group_by("treatment").agg(pl.col("dose").max(), pl.len())
    for treatment, n in zero.filter(pl.col("dose") == 0).sort("treatment").select("treatment", "len").rows():
        if CONTROL.search(treatment) or zero.height == 1:
            continue
        yield Finding(
            WARNING,
            0.8,
            f"All {n} rows of {treatment!r} have dose 0, though it is not named as a control.",
            "outcomes, dose",
            "Give its dose, or name the treatment as the vehicle or control it is.",
            rows=frame.filter(pl.col("treatment") == treatment)["row"],
            names=[treatment],
        )
    yield from _against_arm(case, frame)


def _against_arm(case: Case, frame: pl.DataFrame) -> Iterator[Finding]:
    if not {"arm_dose", "arm_dose_unit"} <= set(case.subjects.columns):
        return
    planned = case.subjects.select(
        "subject", pl.col("arm_dose").cast(pl.Float64, strict=False), pl.col("arm_dose_unit").cast(pl.String)
    ).drop_nulls()
    both = frame.join(planned, on="subject").filter(pl.col("dose_unit") == pl.col("arm_dose_unit"))
    off = both.filter((pl.col("dose") - pl.col("arm_dose")).abs() > 1e-6 * pl.col("arm_dose").abs() + 1e-12)
    if 0 < off.height <= 0.5 * both.height:  # more than that: doses are given otherwise than by arm
        yield Finding(
            ERROR,
            0.9,
            f"{off.height} rows have another dose than the arm of their subject: {off['subject'][0]!r} got "
            f"{figure(off['dose'][0])}, its arm {figure(off['arm_dose'][0])} {off['dose_unit'][0]}.",
            "outcomes, dose",
            "Find out which is right: the row's dose or the subject's arm.",
            rows=off["row"],
            names=off["subject"].unique().sort(),
        )


def repeated(case: Case) -> Iterator[Finding]:
    """Rows that stand twice, value and all, more often than rounding explains."""
    keys = ["subject", "treatment", "site", "dose", "time_h", "endpoint", "source"]
    for m in case.measured:
        groups = m.frame.group_by(keys).agg(pl.len(), pl.col("value").n_unique().alias("different"))
        replicates = groups.filter(pl.col("len") > 1)
        if replicates.is_empty():
            continue
        pairs = int((replicates["len"] * (replicates["len"] - 1) // 2).sum())
        counts = m.frame["value"].value_counts()["count"].to_numpy() / len(m)
        same = float((counts**2).sum()) * 10  # replicates are ten times likelier to round alike than strangers
        twice = m.frame.filter(pl.struct([*keys, "value"]).is_duplicated(), pl.col("censored") == 0)
        extra = twice.height - twice.select([*keys, "value"]).n_unique()
        if extra > 3 * pairs * same + 1 or (extra and pairs * same < 0.01):
            yield Finding(
                WARNING,
                0.95,
                f"{extra} rows of {m.endpoint!r} repeat another row exactly, value included; of {pairs} pairs of "
                f"replicates {figure(pairs * same)} would do so by rounding.",
                m.endpoint,
                "Drop the repeats: they are one measurement counted twice, and can stand on both sides of a split.",
                rows=twice["row"],
                names=twice["subject"].unique().sort(),
                n=twice.height,
            )


def copied(case: Case) -> Iterator[Finding]:
    """Two subjects with the same values throughout: one was pasted over the other."""
    for m in case.measured:
        if len(m.subjects) < 3:
            continue
        spread = m.frame["value"].n_unique() / len(m)
        if spread < 0.3:  # scores and counts repeat by nature
            continue
        at = pl.DataFrame({"s": m.s, "c": m.c, "v": m.frame["value"], "censored": m.frame["censored"]})
        at = at.filter(pl.col("censored") == 0)
        groups = at.group_by("c", "v").agg(pl.col("s").unique().sort()).filter(pl.col("s").list.len().is_between(2, 4))
        if groups.is_empty():
            continue
        first = groups.select("c", pl.col("s").list.get(0).alias("a"), pl.col("s").list.slice(1).alias("b")).explode(
            "b"
        )
        pairs = first.group_by("a", "b").agg(pl.col("c").n_unique().alias("len")).filter(pl.col("len") >= 5)
        for a, b, n in pairs.sort("len", descending=True).rows():
            of_a, of_b = (at.filter(pl.col("s") == x).select("c").unique() for x in (a, b))
            shared = of_a.join(of_b, on="c").height
            if n < 0.8 * shared:
                continue
            names = [m.subjects[a], m.subjects[b]]
            yield Finding(
                ERROR,
                0.99,
                f"{names[0]!r} and {names[1]!r} have the same value of {m.endpoint!r} in {n} of {shared} conditions "
                "they share, to the last digit.",
                m.endpoint,
                "One of them was copied over the other, or they are one subject: find the source and drop one.",
                rows=m.rows[(m.s == a) | (m.s == b)],
                names=names,
            )


def structures(case: Case) -> Iterator[Finding]:
    """Structures that cannot be read, or are not the compound they are listed under."""
    frame = case.treatments.filter(pl.col("smiles").is_not_null())
    broken, other = [], []
    for treatment, compound, smiles in frame.select("treatment", "compound", "smiles").rows():
        molecule = molecules.parent(smiles)
        if molecule is None:
            broken.append(treatment)
        elif compound is not None and len(compound) == 14 and molecules.identity(molecule) != compound:
            other.append(treatment)
    if broken:
        yield Finding(
            WARNING,
            1.0,
            f"{len(broken)} structures cannot be read as SMILES: {some(broken)}.",
            "treatments, smiles",
            "Correct the SMILES; without it these treatments have no structure.",
            names=broken,
        )
    if other:
        yield Finding(
            ERROR,
            0.95,
            f"{len(other)} structures are not the compound (InChIKey) they are listed under: {some(other)}.",
            "treatments, smiles",
            "Find out which is right; a split by compound goes by the listed one.",
            names=other,
        )


LIMITS = {  # words in a modality's unit -> least, most, whole numbers only
    "0/1": (0.0, 1.0, True),
    "-1/0/1": (-1.0, 1.0, True),
    "count": (0.0, float("inf"), True),
    "beta": (0.0, 1.0, False),
    "fraction": (0.0, 1.0, False),
}


def modality_values(case: Case) -> Iterator[Finding]:
    """Modality values that their unit cannot take: counts that are not whole, calls other than 0 and 1, infinities."""
    for profile in case.profiles.values():
        x = profile.raw
        strange = np.isinf(x)
        why = "infinite"
        word = next((w for w in ("-1/0/1", *LIMITS) if w in profile.unit.casefold()), None)
        if word is not None:
            low, high, whole = LIMITS[word]
            with np.errstate(invalid="ignore"):
                strange = strange | (x < low) | (x > high) | ((x != np.round(x)) if whole else False)
            strange &= ~np.isnan(x)
            why = f"not what {profile.unit!r} can be"
        if strange.any():
            n = int(strange.sum())
            rows, columns = strange.any(axis=1), strange.any(axis=0)
            yield Finding(
                ERROR,
                1.0,
                f"{n} of {x.size} cells of {profile.modality!r} are {why}, in {int(rows.sum())} subjects and "
                f"{int(columns.sum())} features, first {figure(float(x[strange][0]))}.",
                profile.modality,
                "Correct the values, or the unit they are said to be in (were they normalised on the way?).",
                names=[profile.names[i] for i in np.flatnonzero(rows)],
                n=n,
            )


def redundant(case: Case) -> Iterator[Finding]:
    """Features that say nothing (constant) or nothing new (the same as another)."""
    for profile in case.profiles.values():
        x = np.nan_to_num(profile.raw, nan=-9e9)
        constant = np.ptp(x, axis=0) == 0
        if constant.any():
            names = [profile.features[i] for i in np.flatnonzero(constant)]
            yield Finding(
                NOTE,
                1.0,
                f"{len(names)} of {x.shape[1]} features of {profile.modality!r} have one value in all {len(x)} "
                f"subjects: {some(names)}.",
                profile.modality,
                "They tell no subject from another; leave them out.",
                names=names,
            )
        first: dict[bytes, int] = {}
        twins = []
        z = np.ascontiguousarray(np.round(profile.z.T, 3) + 0.0)
        for i in np.flatnonzero(~constant):
            j = first.setdefault(z[i].tobytes(), int(i))
            if j != i:
                twins.append((j, int(i)))
        if twins:
            names = [profile.features[i] for i in sorted({i for pair in twins for i in pair})]
            a, b = (profile.features[i] for i in twins[0])
            yield Finding(
                NOTE,
                1.0,
                f"{len(twins)} of {x.shape[1]} features of {profile.modality!r} repeat another one, but for scale: "
                f"{b!r} is {a!r}.",
                profile.modality,
                "Keep one of each; weights and attributions are otherwise shared out among them by accident.",
                names=names,
                n=len(twins),
            )


CHECKS = (
    Check("impossible values", impossible),
    Check("impossible doses", doses),
    Check("repeated rows", repeated),
    Check("copied subjects", copied),
    Check("unreadable or wrong structures", structures),
    Check("impossible modality values", modality_values),
    Check("constant or repeated features", redundant),
)
