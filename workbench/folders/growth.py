"""Tumour growth curves of xenografts: growthData*.csv, modelInfo.csv, mRECIST*.csv, mutation*.csv, cnv*.csv.

Layout: the PDX encyclopaedia (Gao et al. 2015, Nature Medicine 21:1318-1325) as XevaDB gives it; a row is one volume of
one tumour on one day. A model is one animal of one patient's tumour under one treatment, so patients repeat across
models: split by ``patient``, not by model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench import units
from workbench.folders import Content, _foreign
from workbench.folders._foreign import Note, Unread
from workbench.formats import FormatError

if TYPE_CHECKING:
    from anndata import AnnData

SUBJECT = ("model.id", "model", "animal", "animal_id", "mouse", "mouse_id", "subject", "id")
TREATMENT = ("drug.join.name", "drug", "treatment", "compound", "arm", "group")
TIME = ("time", "day", "days", "study_day")
VOLUME = ("volume", "tumour_volume", "tumor_volume", "tv")
PATIENT = ("patient.id", "patient", "donor")
TISSUE = ("tissue", "tumour_type", "tumor_type", "cancer")
NOT_GENES = ("ARMLEVELCNSCORE", "FOCALCNSCORE")  # scores of the whole genome that stand among the genes
MUTATED = "Mut"  # MutNovel, MutKnownFunctional, MutLikelyFunctional; Amp5, Amp8 and Del0.8 are copy numbers


def recognises(files: list[str]) -> bool:
    """A text table whose name says growth."""
    return any(_is_growth(f) for f in files)


def _is_growth(name: str) -> bool:
    return _foreign.is_text(name) and any(w.startswith("growth") for w in _foreign.words(name))


def _is_part(name: str) -> bool:
    spoken = _foreign.words(name)
    return _foreign.is_text(name) and (
        _is_growth(name) or bool({"mrecist", "mutation", "cnv"} & {*spoken}) or "info" in "".join(spoken)
    )


def read(folder: Path, note: Note, *, volume_unit: str | None = None, time_unit: str | None = None) -> Content:
    """Endpoint ``tumour_volume`` in mm3 by hours since the start of treatment.

    Parameters
    ----------
    volume_unit, time_unit : stated where the columns' names declare none ("mm3", "day")

    Raises
    ------
    FormatError
        No growth table can be read, or a unit is neither declared nor stated.
    """
    files = _foreign.listing(folder)
    _foreign.leftover(files, [f for f in files if _is_part(f)], note)
    curves, tables = [], []
    for name in [f for f in files if _is_growth(f)]:
        table = _foreign.read_table(folder, name, note)
        if table is not None:
            curves.append(_curves(table, name, note, volume_unit, time_unit))
            tables.append(table.with_columns(pl.lit(name).alias("file")))
    if not curves:
        raise FormatError(folder.name, "growth tables", "not one can be read")
    points = pl.concat(curves)
    points = points.filter(pl.col("value").is_not_null() & pl.col("time_h").is_not_null())
    info, more = _info(folder, files, note)
    known = points.select("subject").unique().sort("subject")
    subjects = known.join(info, on="subject", how="left") if info is not None else known
    if info is None:
        note(Unread("modelInfo.csv", "file", "there is no table of models: patients and tissues are not known"))
    records = {"growth": pl.concat(tables, how="diagonal")} | more
    if (calls := _calls(folder, files, note)) is not None:
        records["mrecist"] = calls
    return Content(
        outcomes=_foreign.outcomes(points, endpoint="tumour_volume", unit="mm3"),
        subjects=_foreign.subjects(subjects),
        treatments=_foreign.treatments(points["treatment"].to_list()),
        modalities=_omics(folder, files, subjects, note),
        records=records,
        provenance={
            "source": "growth",
            "stated": {"volume_unit": volume_unit, "time_unit": time_unit},
            "repeated_points": points.filter(pl.struct("subject", "time_h").is_duplicated()).height,
            "modalities": "a patient's profile stands at each of the patient's models",
        },
    )


def _curves(table: pl.DataFrame, name: str, note: Note, volume_unit: str | None, time_unit: str | None) -> pl.DataFrame:
    """subject, treatment, time_h, value, source of one table; rows without a number or a name are noted."""
    roles = {
        r: _foreign.column(table, c)
        for r, c in (("subject", SUBJECT), ("treatment", TREATMENT), ("time", TIME), ("volume", VOLUME))
    }
    if lacking := [r for r, c in roles.items() if c is None]:
        raise FormatError(name, "header", f"no column for {lacking}; found {table.columns}")
    subject, treatment, time, volume = (str(c) for c in roles.values())
    given_volume = _unit(name, volume, volume_unit, "volume_unit", "mm3")
    given_time = (
        _unit(name, time, time_unit, "time_unit", "day")
        if _foreign.plain(time) not in ("day", "days", "studyday")
        else "day"
    )
    factors = units.factor(given_volume, "mm3"), units.factor(given_time, "h")
    value = _foreign.measured(table, volume, name, note)
    hours = _foreign.measured(table, time, name, note)
    for row in np.flatnonzero((value < 0).fill_null(False).to_numpy())[:50].tolist():
        note(
            Unread(
                name,
                f"row {row + 1} below the header, column {volume!r}",
                f"a volume of {value[row]} is none: left out",
            )
        )
    empty = table.select(pl.col(subject).is_null() | pl.col(treatment).is_null()).to_series()
    for row in empty.arg_true().to_list()[:50]:
        note(Unread(name, f"row {row + 1} below the header", "lacks its model or treatment: left out"))
    return pl.DataFrame(
        {
            "subject": table[subject].cast(pl.String),
            "treatment": table[treatment].cast(pl.String),
            "time_h": hours * factors[1].numerator / factors[1].denominator,
            "value": pl.select(
                pl.when(value >= 0).then(value * factors[0].numerator / factors[0].denominator)
            ).to_series(),
            "source": [name] * table.height,
        }
    ).filter(~empty)


def _unit(file: str, column: str, stated: str | None, option: str, example: str) -> str:
    found = _foreign.declared(column)[1]
    if found is not None and stated is not None and found != _foreign.unit(stated):
        raise FormatError(file, f"column {column!r}", f"declares {found!r}, but {option}={stated!r} was stated")
    if found or stated:
        return found or _foreign.unit(str(stated)) or str(stated)
    raise FormatError(file, f"column {column!r}", f"declares no unit; state {option}= (such as {example!r})")


def _info(folder: Path, files: list[str], note: Note) -> tuple[pl.DataFrame | None, dict[str, pl.DataFrame]]:
    """Facts of the models (subject, patient, tissue, tissue_name) and the table as it was read."""
    for name in files:
        if not _foreign.is_text(name) or "info" not in "".join(_foreign.words(name)):
            continue
        table = _foreign.read_table(folder, name, note)
        subject = _foreign.column(table, SUBJECT) if table is not None else None
        if table is None or subject is None:
            continue
        facts = {"patient": _foreign.column(table, PATIENT), "tissue": _foreign.column(table, TISSUE)}
        facts["tissue_name"] = _foreign.column(table, ("tissue.name", "tissue_name"))
        chosen = table.select(
            pl.col(subject).alias("subject"), *(pl.col(c).alias(n) for n, c in facts.items() if c is not None)
        ).drop_nulls("subject")
        if chosen["subject"].is_duplicated().any():
            twice = chosen.filter(pl.col("subject").is_duplicated())["subject"][0]
            note(Unread(name, f"model {twice!r}", "stands in more than one row: the first one counts"))
        return chosen.unique("subject", keep="first", maintain_order=True), {"models": table}
    return None, {}


def _calls(folder: Path, files: list[str], note: Note) -> pl.DataFrame | None:
    """mRECIST calls, long: treatment, patient, call (as given, null where empty or "NA"), file."""
    parts = []
    for name in files:
        if _foreign.is_text(name) and "mrecist" in _foreign.words(name):
            table = _foreign.read_table(folder, name, note)
            if table is not None and table.width > 1:
                first = table.columns[0]
                long = table.unpivot(index=first, variable_name="patient", value_name="call").rename(
                    {first: "treatment"}
                )
                parts.append(long.with_columns(pl.lit(name).alias("file"), pl.col("call").replace("NA", None)))
    return pl.concat(parts) if parts else None


def _omics(folder: Path, files: list[str], subjects: pl.DataFrame, note: Note) -> dict[str, AnnData]:
    """Mutation (0/1) and copy number of the models whose patient has them; genes that every file of a kind has."""
    if "patient" not in subjects.columns:
        return {}
    out = {}
    for modality, word, unit in (("mutation", "mutation", "0/1"), ("copy_number", "cnv", "copy number, as given")):
        profiles: dict[str, np.ndarray] = {}
        genes: list[str] | None = None
        scores: dict[str, dict[str, float]] = {}
        for name in [f for f in files if _foreign.is_text(f) and word in _foreign.words(f)]:
            table = _foreign.read_table(folder, name, note)
            if table is None:
                continue
            found, columns, values = _profiles(table, name, modality, note, scores)
            if genes is None:
                genes = found
            elif genes != found:
                shared = [g for g in genes if g in set(found)]
                note(
                    Unread(
                        name, "genes", f"{len(set(genes) ^ set(found)):,} genes are not in every {word} file: left out"
                    )
                )
                at, here = {g: i for i, g in enumerate(genes)}, {g: i for i, g in enumerate(found)}
                profiles = {p: v[[at[g] for g in shared]] for p, v in profiles.items()}
                values, genes = values[[here[g] for g in shared]], shared
            profiles |= {p: values[:, i] for i, p in enumerate(columns)}
        rows = subjects.filter(pl.col("patient").is_in(list(profiles))).select("subject", "patient").rows()
        if genes is None or not rows:
            continue
        kind: Any = np.uint8 if modality == "mutation" else np.float32
        data = _foreign.anndata(
            np.stack([profiles[p] for _, p in rows]).astype(kind), [s for s, _ in rows], genes, "subject", unit
        )
        data.obs["patient"] = [p for _, p in rows]
        for score, by_patient in scores.items():
            data.obs[score] = [by_patient.get(p, np.nan) for _, p in rows]
        out[modality] = data
    return out


def _profiles(
    table: pl.DataFrame, name: str, modality: str, note: Note, scores: dict[str, dict[str, float]]
) -> tuple[list[str], list[str], np.ndarray]:
    """(genes, patients, values (genes, patients)) of one genes x patients table."""
    key, *patients = table.columns
    table = table.unique(key, keep="first", maintain_order=True)
    if modality == "mutation":
        called = table.select(pl.col(patients).cast(pl.String).str.contains(MUTATED, literal=True).fill_null(False))
        return table[key].to_list(), patients, called.to_numpy().astype(np.uint8)
    genes, columns, values = _foreign.matrix(table.select(pl.col(key), pl.col(patients)), key, name, note)
    kept = [i for i, g in enumerate(genes) if g not in NOT_GENES]
    for row, gene in enumerate(genes):
        if gene in NOT_GENES:
            scores.setdefault(gene, {}).update(zip(columns, values[row].tolist(), strict=True))
    return [genes[i] for i in kept], columns, values[kept]
