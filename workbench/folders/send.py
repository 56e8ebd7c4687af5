"""Animal studies in the SEND standard: transport files of CDISC's nonclinical domains, with or without define.xml.

Any domain but DM may be missing. Every domain is kept as a record under its name (``study.record("MI")``), with its
supplemental qualifiers as further columns; numbers become OUTCOMES (see ``_findings``), pathology and laboratory
results also modalities (see ``_pathology``). Subjects are the animals of DM, with arm, set, planned dose, species,
strain and sex; animals whose set has a control (TCNTRL) or dose 0 have the treatment "control", all others the test
article of TS, EX or TX. Where doses change (a Latin square), dose and treatment of a row are those of its period.

Source: CDISC SEND Implementation Guide 3.0 and 3.1.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import tables, terms
from workbench.folders import _cdisc, _findings, _pathology
from workbench.folders._cdisc import Content, Domains, Note, Unread, text
from workbench.formats import FormatError

if TYPE_CHECKING:
    from anndata import AnnData

OURS = {"tx", "bw", "bg", "om", "ma", "mi", "cl", "fw", "pm", "tf", "dd", "pooldef", "cv", "ta", "te"}
THEIRS = {"ae", "cm", "mh", "qs", "adsl", "adae", "adtte"}
CONTROL = "control"


def recognises(files: list[str]) -> bool:
    """Transport files of which one is a domain that only animals have, or none that only patients have."""
    stems = {PurePosixPath(f).stem.lower() for f in files if f.lower().endswith(".xpt")}
    return bool(stems & (OURS | {"dm"})) and not stems & THEIRS


def read(folder: Path, note: Note) -> Content:
    """The study in ``folder``.

    Raises
    ------
    FormatError
        DM is missing or unreadable: without it nobody knows which animals there were.
    """
    domains = _cdisc.load(folder, note, what="SEND")
    subjects = _subjects(domains, note)
    animals = subjects["subject"].to_list()
    first = _first_days(domains)
    numbers = _findings.read(domains, first, note, animals)
    article, vehicle = _article(domains), _parameter(domains, "TRTV")
    dosed = _dosed(numbers, subjects, domains, article)
    modalities: dict[str, AnnData | Path] = {}
    for name, data in (
        ("pathology", _pathology.pathology(domains, animals, note)),
        ("clinical_chemistry", _pathology.clinical_chemistry(numbers, domains, animals)),
    ):
        if data is not None:
            modalities[name] = data
    site = (
        _parameter(domains, "TSTFNAM") or (text(domains.frames["DM"], "STUDYID").to_list() or [""])[0] or "not stated"
    )
    outcomes = dosed.with_columns(pl.lit(site).alias("site")).select(
        pl.col(name).cast(kind) for name, kind in tables.OUTCOMES.columns.items()
    )
    return Content(
        outcomes=tables.check(outcomes, tables.OUTCOMES),
        subjects=subjects,
        treatments=_treatments(domains, subjects, outcomes, article, vehicle),
        modalities=modalities,
        records=domains.records() | {"terms": _terms(domains, note)},
        provenance=_provenance(domains, folder),
    )


# ---- animals


def _subjects(domains: Domains, note: Note) -> pl.DataFrame:
    dm = domains.get("DM")
    if dm is None or "USUBJID" not in dm.columns:
        raise FormatError("dm.xpt", "DM", "the demographics are missing or unreadable: no animal of the study is known")
    twice = text(dm, "USUBJID").is_duplicated()
    if twice.any():
        note(Unread(domains.files["DM"], "DM", f"{int(twice.sum())} rows repeat an animal: the first of each counts"))
        dm = dm.unique("USUBJID", keep="first", maintain_order=True)
    sets, arms = _sets(domains), _arms(domains)
    recovery = _recovery(domains)
    rows = []
    for animal in dm.iter_rows(named=True):
        code, arm = _said(animal, "SETCD"), _said(animal, "ARMCD")
        given = sets.get(code, {})
        doses = [_dose(p) for p in given.get("TRTDOS", "").split(";")] if given.get("TRTDOS") else []
        dose = doses[0] if len(doses) == 1 else None
        title = _said(animal, "ARM") or arms.get(arm, "") or given.get("ARM", "")
        species = _said(animal, "SPECIES") or given.get("SPECIES") or _parameter(domains, "SPECIES")
        strain = _said(animal, "STRAIN") or given.get("STRAIN") or _parameter(domains, "STRAIN")
        told = " ".join((title, given.get("SET", ""), given.get("SETLBL", ""))).lower()
        crossed = len(doses) > 1
        rows.append(
            {
                "subject": _said(animal, "USUBJID"),
                "tissue": None,
                "species": terms.standard("species", species) or None,
                "species_source": species or None,
                "strain": strain or None,
                "sex": terms.standard("sex", _said(animal, "SEX")) or None,
                "sex_concept": terms.find("sex", _said(animal, "SEX")).concept,
                "arm": title or arm or None,
                "arm_code": arm or None,
                "set": given.get("SET") or None,
                "set_code": code or None,
                "group": given.get("GRPLBL") or given.get("SPGRPCD") or None,
                "arm_dose": dose,
                "arm_dose_unit": given.get("TRTDOSU") or None,
                "control": not crossed and (bool(given.get("TCNTRL")) or dose == 0),
                "crossover": crossed,
                "recovery": arm in recovery or bool(re.search(r"\brecovery\b", told)),
                "toxicokinetic": given.get("TKDESC", "").upper() == "TK" or bool(re.search(r"\btk\b(?<!non-tk)", told)),
            }
        )
    schema = dict.fromkeys(rows[0] if rows else ("subject", "tissue"), pl.String) if rows else None
    if not rows or schema is None:
        raise FormatError(domains.files["DM"], "DM", "has no rows: no animal of the study is known")
    kinds: dict[str, Any] = {"sex_concept": pl.Int64, "arm_dose": pl.Float64}
    kinds |= dict.fromkeys(("control", "crossover", "recovery", "toxicokinetic"), pl.Boolean)
    frame = pl.DataFrame(rows, schema=schema | kinds)
    return tables.check(
        _dosed_by_ex(frame, domains, sets).join(_ends(domains), on="subject", how="left"), tables.SUBJECTS
    )


def _said(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    return value.strip() if isinstance(value, str) else ""


def _dose(words: str) -> float | None:
    """A dose as written: "20.0", "1x10^11"; None for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?:[xX]\s*10\s*\^\s*(\d+))?\s*", words)
    return float(match.group(1)) * 10.0 ** int(match.group(2) or 0) if match else None


def _sets(domains: Domains) -> dict[str, dict[str, str]]:
    """Parameters of each trial set (TX), with its own title under SET."""
    tx = domains.get("TX")
    found: dict[str, dict[str, str]] = {}
    if tx is None:
        return found
    for code, title, name, value in zip(*(text(tx, c) for c in ("SETCD", "SET", "TXPARMCD", "TXVAL")), strict=True):
        found.setdefault(code, {"SET": title}).setdefault(name, value)
    return found


def _arms(domains: Domains) -> dict[str, str]:
    ta = domains.get("TA")
    return {} if ta is None else dict(zip(text(ta, "ARMCD"), text(ta, "ARM"), strict=True))


def _recovery(domains: Domains) -> set[str]:
    """Arms that have a recovery epoch (TA)."""
    ta = domains.get("TA")
    if ta is None:
        return set()
    epochs = zip(text(ta, "ARMCD"), text(ta, "EPOCH"), strict=True)
    return {arm for arm, epoch in epochs if "recovery" in epoch.lower()}


def _ends(domains: Domains) -> pl.DataFrame:
    """How and on which study day each animal left the study (DS)."""
    ds = domains.get("DS")
    schema = {"subject": pl.String, "disposition": pl.String, "disposition_day": pl.Float64}
    if ds is None:
        return pl.DataFrame(schema=schema)
    days = (
        ds["DSSTDY"].cast(pl.Float64)
        if "DSSTDY" in ds.columns and ds["DSSTDY"].dtype.is_numeric()
        else [None] * ds.height
    )
    ended = pl.DataFrame({"subject": text(ds, "USUBJID"), "disposition": text(ds, "DSDECOD"), "disposition_day": days})
    return ended.cast(schema).unique("subject", keep="last", maintain_order=True)  # type: ignore[arg-type]


def _dosed_by_ex(frame: pl.DataFrame, domains: Domains, sets: dict[str, dict[str, str]]) -> pl.DataFrame:
    """Where TX does not state doses, that of EX, if each animal has one alone."""
    ex = domains.get("EX")
    if ex is None or any("TRTDOS" in s for s in sets.values()):
        return frame
    given = pl.DataFrame({"subject": text(ex, "USUBJID"), "#dose": _amounts(ex), "#unit": text(ex, "EXDOSU")})
    each = given.group_by("subject").agg(pl.col("#dose").unique(), pl.col("#unit").unique())
    one = each.filter((pl.col("#dose").list.len() == 1) & (pl.col("#unit").list.len() == 1))
    many = each.filter(pl.col("#dose").list.len() > 1)["subject"].to_list()
    one = one.with_columns(pl.col("#dose").list.first(), pl.col("#unit").list.first())
    joined = frame.join(one, on="subject", how="left", maintain_order="left")
    return joined.with_columns(
        pl.coalesce("arm_dose", "#dose").alias("arm_dose"),
        pl.coalesce("arm_dose_unit", "#unit").alias("arm_dose_unit"),
        (pl.col("control") | (pl.col("#dose") == 0).fill_null(False)).alias("control"),
        pl.col("subject").is_in(many).alias("crossover"),
    ).drop("#dose", "#unit")


def _amounts(ex: pl.DataFrame) -> pl.Series:
    """EXDOSE, or the number in EXDOSTXT where that is all there is."""
    dose = ex["EXDOSE"].cast(pl.Float64) if "EXDOSE" in ex.columns and ex["EXDOSE"].dtype.is_numeric() else None
    written = pl.Series([_dose(w) for w in text(ex, "EXDOSTXT")], dtype=pl.Float64)
    return written if dose is None else pl.select(pl.coalesce(dose, written)).to_series()


def _first_days(domains: Domains) -> dict[str, str]:
    dm = domains.frames["DM"]
    return dict(zip(text(dm, "USUBJID"), text(dm, "RFSTDTC"), strict=True))


# ---- treatments and doses


def _parameter(domains: Domains, name: str) -> str:
    """Value of a trial summary parameter (TS), "" where there is none."""
    ts = domains.get("TS")
    if ts is None:
        return ""
    return next((v for p, v in zip(text(ts, "TSPARMCD"), text(ts, "TSVAL"), strict=True) if p == name and v), "")


def _article(domains: Domains) -> str:
    """The test article: TS, else the treatment most often given (EX), else TX."""
    if named := _parameter(domains, "TRT"):
        return named
    ex = domains.get("EX")
    given = Counter(t for t in text(ex, "EXTRT") if t) if ex is not None else Counter()
    if given:
        return given.most_common(1)[0][0]
    return next((s["TRT"] for s in _sets(domains).values() if s.get("TRT")), "test article")


def _dosed(numbers: pl.DataFrame, subjects: pl.DataFrame, domains: Domains, article: str) -> pl.DataFrame:
    """``numbers`` with treatment, dose and dose_unit: the arm's, or the period's where doses change."""
    arms = subjects.select("subject", "arm_dose", "arm_dose_unit", "control", "crossover")
    joined = numbers.join(arms, on="subject", how="left", maintain_order="left").with_columns(
        pl.when("control").then(pl.lit(CONTROL)).otherwise(pl.lit(article)).alias("treatment"),
        pl.when("control").then(pl.coalesce("arm_dose", 0.0)).otherwise("arm_dose").alias("dose"),
        pl.col("arm_dose_unit").alias("dose_unit"),
    )
    ex = domains.get("EX")
    if ex is None or not joined["crossover"].any():
        return joined
    given: dict[str, list[tuple[float, str, float | None, str]]] = {}
    days = ex["EXSTDY"].cast(pl.Float64) if "EXSTDY" in ex.columns else pl.Series([None] * ex.height, dtype=pl.Float64)
    for animal, day, at, dose, unit in zip(
        text(ex, "USUBJID"), days, text(ex, "EXSTDTC"), _amounts(ex), text(ex, "EXDOSU"), strict=True
    ):
        given.setdefault(animal, []).append((math.inf if day is None else day, at, dose, unit))
    rows = []
    for animal, crossed, day, reference in joined.select("subject", "crossover", "day", "reference").rows():
        rows.append(_period(given.get(animal, []), day, reference) if crossed else None)
    dose = [r[2] if r else None for r in rows]
    unit = [r[3] if r else None for r in rows]
    name = [None if not r or r[2] is None else CONTROL if r[2] == 0 else article for r in rows]
    return joined.with_columns(
        pl.coalesce(pl.Series(name, dtype=pl.String), "treatment").alias("treatment"),
        pl.coalesce(pl.Series(dose, dtype=pl.Float64), "dose").alias("dose"),
        pl.coalesce(pl.Series(unit, dtype=pl.String), "dose_unit").alias("dose_unit"),
    )


def _period(
    given: list[tuple[float, str, float | None, str]], day: float, reference: str
) -> tuple[float, str, float | None, str] | None:
    """The dose a row refers to: that given at its reference time, else the last one up to its study day."""
    for dose in given:
        if reference and dose[1] == reference:
            return dose
    before = [g for g in given if g[0] <= day]
    return max(before, key=lambda g: g[0], default=None)


def _treatments(
    domains: Domains, subjects: pl.DataFrame, outcomes: pl.DataFrame, article: str, vehicle: str
) -> pl.DataFrame:
    ex = domains.get("EX")
    routes = Counter(r for r in text(ex, "EXROUTE") if r) if ex is not None else Counter()
    route = routes.most_common(1)[0][0] if routes else _parameter(domains, "ROUTE")
    if not vehicle and ex is not None:
        vehicle = next((v for v in text(ex, "EXTRTV") if v), "")
    control = next((s["TCNTRL"] for s in _sets(domains).values() if s.get("TCNTRL")), "")
    cas = _parameter(domains, "TRTCAS")
    shared = {
        "compound": None,
        "smiles": None,
        "vehicle": vehicle or None,
        "route": terms.standard("route", route) or None,
    }
    rows = [{"treatment": article, "role": "test article", "source_term": article, "cas": cas or None} | shared]
    if subjects["control"].any() or CONTROL in outcomes["treatment"].unique().to_list():
        rows.append({"treatment": CONTROL, "role": "control", "source_term": control or None, "cas": None} | shared)
    columns = ("treatment", "compound", "smiles", "role", "source_term", "vehicle", "route", "cas")
    return tables.check(pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String)), tables.TREATMENTS)


def _terms(domains: Domains, note: Note) -> pl.DataFrame:
    """Every source term of the controlled lists, mapped or not."""
    wanted = {"species": "SPECIES", "strain": "STRAIN", "sex": "SEX"}
    sources: dict[str, list[str]] = {k: text(domains.frames["DM"], c).to_list() for k, c in wanted.items()}
    sources["species"] += [_parameter(domains, "SPECIES")]
    sources["strain"] += [_parameter(domains, "STRAIN")]
    sources |= {"specimen": [], "route": [], "finding": [], "severity": []}
    for name, frame in domains.frames.items():
        sources["specimen"] += text(frame, f"{name}SPEC").to_list()
        sources["route"] += text(frame, f"{name}ROUTE").to_list()
        if name in ("MI", "MA"):
            sources["finding"] += text(frame, f"{name}STRESC").to_list()
            sources["severity"] += text(frame, f"{name}SEV").to_list()
    found = terms.table(sources)
    for (kind,), part in found.filter(pl.col("term").is_null()).group_by("kind", maintain_order=True):
        listed = ", ".join(part["source"].head(8).to_list()) + (" ..." if part.height > 8 else "")
        note(
            Unread(
                "terms",
                str(kind),
                f"{part.height} terms are in no controlled list and kept as they are: {listed}",
                "note",
            )
        )
    return found


def _provenance(domains: Domains, folder: Path) -> dict[str, Any]:
    named = ("STITLE", "SPREFID", "SSTYP", "SNDIGVER", "SNDCTVER", "SSPONSOR", "TSTFNAM")
    return {
        "standard": "SEND",
        "trial_summary": {n: v for n in named if (v := _parameter(domains, n))},
        "domains": dict(sorted(domains.rows.items())),
    }
