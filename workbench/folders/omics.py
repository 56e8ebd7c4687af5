"""Tables of omics with facts of their samples: one file a modality, named for it (mrna, mirna, protein, gene ...).

A row is a sample and the first column its name. Facts of the samples stand in files named treatment, subtype, clinical
or samples; clinical chemistry, with the units in its column names (clinic, chemistry, lab), becomes OUTCOMES; a table
named gene ID describes features. Layouts: mixOmics' liver.toxicity (Bushel et al. 2007, BMC Systems Biology 1:15) and
breast.TCGA (Cancer Genome Atlas Network 2012, Nature 490:61-70) as csv.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from workbench.folders import Content, _foreign
from workbench.folders._foreign import Note, Unread
from workbench.formats import FormatError

if TYPE_CHECKING:
    from anndata import AnnData

MODALITIES = {
    "expression": {"gene", "genes", "mrna", "rna", "expression", "exp", "transcriptome", "tpm", "fpkm"},
    "mirna": {"mirna", "mir"},
    "proteomics": {"protein", "proteins", "rppa", "proteome", "proteomics"},
    "methylation": {"methylation", "meth", "rrbs"},
    "mutation": {"mutation", "mutations", "mut", "mu"},
    "copy_number": {"cnv", "cn", "cna", "copy"},
    "metabolomics": {"metabolite", "metabolites", "metabolome", "metabolomics"},
}
FACTS = {
    "treatment",
    "treatments",
    "subtype",
    "subtypes",
    "clinical",
    "samples",
    "sample",
    "phenotype",
    "metadata",
    "pheno",
}
CHEMISTRY = {"clinic", "clinchem", "chemistry", "lab", "labs", "biochemistry"}
DOSED = re.compile(r"([\d.]+)\s*([A-Za-z]+/[A-Za-z]+)\s*([\d.]+)\s*([A-Za-z]+)")  # "50 MG/KG6 HR"
HOURS = {"h": 1.0, "day": 24.0, "min": 1 / 60}


def recognises(files: list[str]) -> bool:
    """At least one omics table beside facts or chemistry of its samples, and no table of responses or growth."""
    roles = [role(f) for f in files]
    other = {w for f in files for w in _foreign.words(f)} & {"response", "responses", "synergy", "ic50"}
    grown = any(w.startswith("growth") for f in files for w in _foreign.words(f))
    named = {r for r in roles if r}
    return bool(named & set(MODALITIES)) and bool(named & {"facts", "chemistry"}) and not other and not grown


def role(name: str) -> str | None:
    """ "facts", "chemistry", "features", or the modality that a file's name says; None where it says nothing."""
    if not (_foreign.is_text(name) or name.casefold().endswith(".parquet")):
        return None
    found = _foreign.words(name)
    if "id" in found[-1:] and set(found) & {"gene", "genes", "probe", "feature", "protein"}:
        return "features"
    for word in reversed(found):
        for modality, spoken in MODALITIES.items():
            if word in spoken:
                return modality
        if word in CHEMISTRY:
            return "chemistry"
        if word in FACTS:
            return "facts"
    return None


def read(
    folder: Path,
    note: Note,
    *,
    compound: str | None = None,
    tissue: str | None = None,
    species: str | None = None,
    unit: str | None = None,
) -> Content:
    """Subjects are the samples of any table; chemistry is OUTCOMES, every omics table a modality.

    Parameters
    ----------
    compound, tissue, species : stated where the files do not say it
    unit : of every omics matrix, stated; otherwise their unit is "unit not declared"

    Raises
    ------
    FormatError
        Not one omics table can be read.
    """
    files = _foreign.listing(folder)
    roles = {f: r for f in files if (r := role(f))}
    _foreign.leftover(files, roles, note)
    read = {f: t for f in roles if (t := _foreign.read_table(folder, f, note)) is not None}
    modalities: dict[str, AnnData] = {}
    for file, table in read.items():
        if roles[file] in MODALITIES:
            if roles[file] in modalities:
                note(Unread(file, "file", f"a second table of {roles[file]}: the first one counts"))
                continue
            names, features, values = _foreign.matrix(table, table.columns[0], file, note)
            if names and features:
                given = unit or _foreign.values_unit(values)
                modalities[roles[file]] = _foreign.anndata(values, names, features, "subject", given)
            else:
                note(Unread(file, "content", "no row of numbers: the table is left out"))
    if not modalities:
        raise FormatError(folder.name, "omics tables", "not one can be read")
    order = list(next(iter(modalities.values())).obs_names)
    facts = _facts({f: t for f, t in read.items() if roles[f] == "facts"}, order, note)
    for file, table in read.items():
        if roles[file] == "features":
            _describe(modalities, table, file, note)
    arms = _arms(facts, note)
    chemistry = [_chemistry(t, f, arms, compound, note) for f, t in read.items() if roles[f] == "chemistry"]
    outcomes = pl.concat(chemistry) if chemistry else _foreign.outcomes(pl.DataFrame())
    every = dict.fromkeys(
        [*order, *(n for d in modalities.values() for n in d.obs_names), *outcomes["subject"].to_list()]
    )
    subjects = pl.DataFrame({"subject": list(every)}, schema={"subject": pl.String})
    for frame in (facts, arms):
        if frame is not None:
            subjects = subjects.join(frame, on="subject", how="left", maintain_order="left")
    stated = {"tissue": tissue, "species": species}
    subjects = subjects.with_columns(
        pl.lit(v).alias(n) for n, v in stated.items() if v is not None and n not in subjects.columns
    )
    return Content(
        outcomes=outcomes,
        subjects=_foreign.subjects(subjects),
        treatments=_foreign.treatments(outcomes["treatment"].to_list()),
        modalities=modalities,
        records={},
        provenance={"source": "omics", "stated": {"compound": compound, "unit": unit, **stated}, "files": roles},
    )


def _facts(read: dict[str, pl.DataFrame], order: list[str], note: Note) -> pl.DataFrame | None:
    """One row a sample; a table numbered 0, 1, 2 ... instead of named is matched by order, and that is noted."""
    out: pl.DataFrame | None = None
    for file, table in read.items():
        key = table.columns[0]
        named = table.with_columns(pl.col(key).cast(pl.String))
        if named[key].to_list() == [str(i) for i in range(len(order))]:
            said = f"rows are numbered 0 to {len(order) - 1}, not named: matched by order"
            note(Unread(file, f"column {key!r}", said, "note"))
            named = named.with_columns(pl.Series(key, order))
        if not set(named[key].to_list()) & set(order):
            note(
                Unread(
                    file, f"column {key!r}", f"names no sample of the omics tables (first {named[key][0]!r}): not used"
                )
            )
            continue
        named = (
            named.rename({key: "subject"}).drop_nulls("subject").unique("subject", keep="first", maintain_order=True)
        )
        out = named if out is None else out.join(named, on="subject", how="full", coalesce=True, suffix=f" of {file}")
    return out


def _arms(facts: pl.DataFrame | None, note: Note) -> pl.DataFrame | None:
    """subject, arm, arm_dose, arm_dose_unit, time_h: told by an arm's own text ("50 MG/KG6 HR"), and only by that.

    Columns of plain numbers for dose and time must agree with the text. Where the text is cut ("1500MG/K6 HR") but
    agrees with them, the row takes the one unit that the same column's other rows declare, and that is noted; any other
    disagreement leaves the row without an arm.
    """
    column = _foreign.column(facts, ("Treatment.Group", "arm", "group", "treatment")) if facts is not None else None
    if facts is None or column is None:
        return None
    dose, time = _foreign.column(facts, ("Dose.Group", "dose")), _foreign.column(facts, ("Time.Group", "time"))
    rows, cut = [], []
    for subject, text, *check in facts.select("subject", column, *(c for c in (dose, time) if c)).rows():
        match = DOSED.fullmatch((text or "").strip())
        unit, hours = (
            (_foreign.unit(match.group(2)), HOURS.get(str(_foreign.unit(match.group(4))))) if match else ("", None)
        )
        if match is None or hours is None:
            note(Unread("facts", f"{subject}, column {column!r}", f"{text!r} is no dose and time with units"))
            continue
        amount, after = float(match.group(1)), float(match.group(3))
        if dose and time and [float(c) for c in check] != [amount, after]:
            note(Unread("facts", str(subject), f"{text!r} disagrees with {dose}={check[0]} and {time}={check[1]}"))
        elif unit is None and not (dose and time):
            note(Unread("facts", f"{subject}, column {column!r}", f"{match.group(2)!r} is no unit of a dose"))
        else:
            if unit is None:
                cut.append((text, match.group(2).casefold()))
            rows.append((subject, text, amount, unit, after * hours))
    known = {r[3] for r in rows} - {None}
    whole = next(iter(known)) if len(known) == 1 else None
    if cut and whole is not None and all(whole.startswith(spelled) for _, spelled in cut):
        note(
            Unread(
                "facts",
                f"column {column!r}",
                f"the unit is cut in {len(cut)} rows (first {cut[0][0]!r}): {whole} as in the others",
                "note",
            )
        )
        rows = [(s, t, a, whole, h) for s, t, a, _, h in rows]
    elif cut:
        note(
            Unread(
                "facts",
                f"column {column!r}",
                f"{len(cut)} rows declare no unit that is known (first {cut[0][0]!r}): left out",
            )
        )
        rows = [r for r in rows if r[3] is not None]
    schema = {
        "subject": pl.String,
        "arm": pl.String,
        "arm_dose": pl.Float64,
        "arm_dose_unit": pl.String,
        "time_h": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row") if rows else None


def _chemistry(
    table: pl.DataFrame, file: str, arms: pl.DataFrame | None, compound: str | None, note: Note
) -> pl.DataFrame:
    """OUTCOMES of a samples x analytes table; a column whose name declares no unit is noted and left out."""
    key = table.columns[0]
    parts = []
    for name in table.columns[1:]:
        endpoint, unit = _foreign.declared(name)
        if unit is None:
            note(Unread(file, f"column {name!r}", "declares no unit in its name: left out"))
            continue
        values = _foreign.measured(table, name, file, note)
        parts.append(
            pl.DataFrame(
                {
                    "subject": table[key],
                    "endpoint": [endpoint] * table.height,
                    "unit": [unit] * table.height,
                    "value": values,
                }
            )
        )
    if not parts:
        return _foreign.outcomes(pl.DataFrame())
    long = (
        pl.concat(parts)
        .drop_nulls(["subject", "value"])
        .with_columns(pl.lit(compound or "compound not stated").alias("treatment"))
    )
    if arms is not None:
        long = long.join(
            arms.select("subject", "time_h", dose="arm_dose", dose_unit="arm_dose_unit"), on="subject", how="left"
        )
    return _foreign.outcomes(long, source=file)


def _describe(modalities: dict[str, AnnData], table: pl.DataFrame, file: str, note: Note) -> None:
    """Facts of features into ``var`` of the modality whose features they name."""
    key = table.columns[0]
    rows = table.unique(key, keep="first", maintain_order=True)
    for data in modalities.values():
        if set(data.var_names) & set(rows[key].to_list()):
            found = pl.DataFrame({key: list(data.var_names)}).join(rows, on=key, how="left", maintain_order="left")
            for name in rows.columns[1:]:
                data.var[name] = found[name].fill_null("").to_list()
            return
    note(Unread(file, f"column {key!r}", "names no feature of any table: not used"))
