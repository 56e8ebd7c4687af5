"""Drug responses of cell lines, wide or long, with omics of the lines, structures of the drugs and annotations.

A response table is a file named response, synergy, ic50, auc or sensitivity. Long: columns for line, drug (or two
drugs) and value, perhaps a dose. Wide: the first column names lines, every other a drug. Omics tables are lines x
features, structures a table with SMILES, annotations a table with the lines' names and their tissue.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from workbench.folders import Content, _foreign
from workbench.folders._foreign import Note, Unread
from workbench.formats import FormatError
from workbench.formats.table import MISSING

if TYPE_CHECKING:
    from anndata import AnnData

RESPONSES = {"response", "responses", "synergy", "ic50", "auc", "sensitivity", "viability"}
OMICS = {
    "expression": {"exp", "expression", "expr", "mrna", "rna", "tpm"},
    "mutation": {"mu", "mut", "mutation", "mutations"},
    "copy_number": {"cn", "cnv", "cna", "copy"},
    "methylation": {"methylation", "meth", "rrbs"},
    "proteomics": {"protein", "proteomics", "rppa"},
    "mirna": {"mirna"},
}
LINE = (
    "DepMap_ID",
    "depMapID",
    "cell_line",
    "cell_line_name",
    "cell line name",
    "cell",
    "line",
    "cosmic_id",
    "model_id",
    "sample",
    "sampleid",
    "subject",
    "ccle_name",
)
DRUG = ("drug_name", "drug", "treatment", "treatmentid", "compound", "compound_name", "inhibitor", "drug_id")
PAIR = (("drug_a", "drug_b"), ("drug_row", "drug_col"), ("drug1", "drug2"), ("compound_a", "compound_b"))
DOSE = ("dose", "concentration", "conc")
TISSUE = ("tissue", "Site_Primary", "primary_tissue", "tissue_name", "lineage", "primary_site")
SITE = ("site", "laboratory", "lab", "center", "centre")
POTENCY = re.compile(r"(?:(ln|log10|log2|log|p)[ _(]*)?((?:rel|abs)?[ _]*(?:ic|ec|gi|gr)[ _]?50)", re.I)
SUMMARY = re.compile(
    r"(auc|aac|aoc|dss|activity[ _]?area|viability|inhibition|synergy|bliss|loewe|zip|hsa|growth)", re.I
)


def recognises(files: list[str]) -> bool:
    """A table named for responses; none of growth curves, no plate."""
    spoken = {w for f in files if _is_table(f) for w in _foreign.words(f)}
    return bool(spoken & RESPONSES) and not spoken & {"plate", "plates", "map", "layout"}


def _is_table(name: str) -> bool:
    return _foreign.is_text(name) or name.casefold().endswith((".parquet", ".xlsx"))


def read(folder: Path, note: Note, *, unit: str | None = None, omics_unit: str | None = None) -> Content:
    """One study of every response table, its lines' omics and its drugs' structures.

    Parameters
    ----------
    unit : of the response values, where the column's name declares none ("ln(uM)", "uM", "fraction")
    omics_unit : of every omics table, stated; otherwise what the values prove, or "unit not declared"

    Raises
    ------
    FormatError
        No response table can be read, or its unit is neither declared nor stated.
    """
    files = _foreign.listing(folder)
    omics = {f: m for f in files if _is_table(f) and (m := _omics(f))}
    heads = [f for f in files if _is_table(f) and f not in omics and set(_foreign.words(f)) & RESPONSES]
    others = [f for f in files if _foreign.is_text(f) and f not in omics and f not in heads]
    _foreign.leftover(files, [*omics, *heads, *others], note)
    tables = {f: t for f in [*heads, *others] if (t := _foreign.read_table(folder, f, note)) is not None}
    smiles, aliases = _smiles({f: tables[f] for f in others if f in tables})
    parts, refused = [], []
    for file in heads:
        if file in tables:
            try:
                parts.append(_responses(tables[file], file, note, unit, aliases))
            except FormatError as error:
                if len(heads) == 1:
                    raise
                _foreign.refuse(error, file, note)
                refused.append(str(error))
    if not parts:
        raise FormatError(folder.name, "response tables", " ".join(["not one can be read.", *refused]))
    outcomes = pl.concat(parts)
    lines = outcomes["subject"].unique().sort().to_list()
    modalities: dict[str, AnnData] = {}
    for file, kind in omics.items():
        data = _profiles(folder, file, kind, set(lines), note, omics_unit)
        if data is not None and kind in modalities:
            note(Unread(file, "file", f"a second table of {kind}: the first one counts"))
        elif data is not None:
            modalities[kind] = data
    subjects, annotated = _subjects(lines, {f: tables[f] for f in others if f in tables}, note)
    pairs = {t: t.split(" + ") for t in outcomes["treatment"].unique().to_list()}
    treatments = _foreign.treatments(pairs, {n: smiles[n] for n in pairs if n in smiles}, note)
    single = sorted({d for drugs in pairs.values() if len(drugs) == 2 for d in drugs})
    if single:
        parents = _foreign.treatments(single, {n: smiles[n] for n in single if n in smiles}, note)
        known = dict(parents.select("treatment", "compound").rows())
        drawn = dict(parents.select("treatment", "smiles").rows())
        treatments = treatments.with_columns(
            pl.Series(
                f"drug_{side}",
                [pairs[t][i] if len(pairs[t]) == 2 else None for t in treatments["treatment"]],
                dtype=pl.String,
            )
            for i, side in enumerate("ab")
        ).with_columns(
            pl.col(f"drug_{s}").replace_strict(of, default=None, return_dtype=pl.String).alias(f"{what}_{s}")
            for what, of in (("compound", known), ("smiles", drawn))
            for s in "ab"
        )
    repeats = outcomes.filter(pl.struct("subject", "treatment", "dose", "time_h", "endpoint").is_duplicated()).height
    return Content(
        outcomes=outcomes,
        subjects=subjects,
        treatments=treatments,
        modalities=modalities | _foreign.structures(treatments),
        records={},
        provenance={
            "source": "responses",
            "stated": {"unit": unit, "omics_unit": omics_unit},
            "rows_with_replicates": repeats,
            "annotations": annotated,
            "drugs_called_by_number": len(aliases),
            "without_structure": treatments.filter(pl.col("smiles").is_null())["treatment"].to_list()
            if not single
            else [],
        },
    )


def _omics(name: str) -> str | None:
    spoken = set(_foreign.words(name))
    return None if spoken & RESPONSES else next((m for m, words in OMICS.items() if spoken & words), None)


def _responses(table: pl.DataFrame, file: str, note: Note, stated: str | None, aliases: dict[str, str]) -> pl.DataFrame:
    """OUTCOMES of one long or wide table."""
    line = _foreign.column(table, LINE)
    drug = _foreign.column(table, DRUG)
    pair = next(
        ((a, b) for x, y in PAIR if (a := _foreign.column(table, (x,))) and (b := _foreign.column(table, (y,)))), None
    )
    if line is None or (drug is None and pair is None):
        return _wide(table, file, note, stated)
    roles = {line, drug, *(pair or ())} - {None}
    dose = _foreign.column(table, DOSE)
    values = [c for c in table.columns if c not in roles and c != dose and (POTENCY.search(c) or SUMMARY.search(c))]
    if not values:
        raise FormatError(
            file, "header", f"no column of responses (IC50, AUC, viability, synergy ...); found {table.columns}"
        )
    if pair is not None:
        first, second = (table[c].cast(pl.String).replace(aliases) for c in pair)
        named = pl.Series(
            [
                None if a is None or b is None else " + ".join(sorted((a, b)))
                for a, b in zip(first, second, strict=True)
            ],
            dtype=pl.String,
        )
    else:
        named = table[str(drug)].cast(pl.String).replace(aliases)
    site = _foreign.column(table, SITE)
    columns: dict[str, object] = {"subject": table[line].cast(pl.String), "treatment": named}
    if site is not None:
        columns["site"] = table[site].fill_null("not stated")
    if dose is not None:
        dose_unit = _foreign.declared(dose)[1] or _beside(table, dose)
        if dose_unit is None:
            raise FormatError(file, f"column {dose!r}", "declares no unit: name it so (such as 'dose_uM')")
        columns |= {"dose": _foreign.measured(table, dose, file, note), "dose_unit": [dose_unit] * table.height}
    parts = []
    for name in values:
        endpoint, unit = _endpoint(name, stated, file)
        frame = pl.DataFrame(columns | {"value": _foreign.measured(table, name, file, note)})
        whole = frame.drop_nulls(["subject", "treatment", "value"])
        if whole.height < frame.height:
            lacking = frame.with_row_index().filter(
                pl.any_horizontal(pl.col("subject", "treatment", "value").is_null())
            )
            note(
                Unread(
                    file,
                    f"row {lacking['index'][0] + 1} below the header and {lacking.height - 1:,} more",
                    f"lack a line, a drug or {name!r}: left out",
                )
            )
        parts.append(_foreign.outcomes(whole, endpoint=endpoint, unit=unit, source=file))
    return pl.concat(parts)


def _beside(table: pl.DataFrame, column: str) -> str | None:
    """The one unit that a column named for it gives for every row ("dose_unit")."""
    name = _foreign.column(table, (f"{column}_unit", f"{column}_units", f"{column} unit"))
    found = table[name].unique().drop_nulls().to_list() if name is not None else []
    return _foreign.unit(found[0]) if len(found) == 1 else None


def _wide(table: pl.DataFrame, file: str, note: Note, stated: str | None) -> pl.DataFrame:
    """A matrix of lines x drugs; the file's name says what was measured, ``unit`` must be stated."""
    match = POTENCY.search(Path(file).stem.replace("_", " ")) or SUMMARY.search(Path(file).stem)
    if match is None:
        raise FormatError(
            file,
            "header",
            f"no columns for line, drug and value, and the name says no measurement; found {table.columns[:8]}",
        )
    endpoint, unit = _endpoint(Path(file).stem, stated, file)
    key, *drugs = table.columns
    numbers = table.select(
        pl.col(key).cast(pl.String).alias("subject"), *(_foreign.measured(table, d, file, note).alias(d) for d in drugs)
    )
    long = numbers.unpivot(index="subject", variable_name="treatment", value_name="value").drop_nulls()
    return _foreign.outcomes(long, endpoint=endpoint, unit=unit, source=file)


def _endpoint(name: str, stated: str | None, file: str) -> tuple[str, str]:
    """(endpoint, unit) that a column's name declares, completed by the stated unit and checked against it."""
    potency, summary = POTENCY.search(name), SUMMARY.search(name)
    declared = _foreign.declared(name)[1]
    if potency is not None:
        log, what = (potency.group(1) or "").lower(), re.sub(r"[ _]", "", potency.group(2)).lower()
        if log == "p":
            return f"p{what}", f"p{what.upper()}"
        kind = "log10" if log == "log10" else log
        if kind == "log" and stated is None:
            raise FormatError(file, f"column {name!r}", "log of which base? State unit= (such as 'log10(uM)')")
        given = f"{kind}({declared})" if kind and declared else declared
        unit = _agree(given, stated, name, file, f"{kind or ''}({'uM'})" if kind else "uM")
        if kind in ("ln", "log10", "log2") and not unit.startswith(f"{kind}("):
            raise FormatError(file, f"column {name!r}", f"is a {kind}, but unit={unit!r} was stated")
        prefix = unit.split("(")[0] + "_" if "(" in unit else ""
        return f"{prefix}{what}", unit
    assert summary is not None
    what = re.sub(r"[ _]+", "_", summary.group(1).lower())
    if what in ("synergy", "bliss", "loewe", "zip", "hsa"):
        return what, declared or stated or "score"
    return what, _agree(declared, stated, name, file, "fraction")


def _agree(declared: str | None, stated: str | None, name: str, file: str, example: str) -> str:
    if declared is not None and stated is not None and declared != stated:
        raise FormatError(file, f"column {name!r}", f"declares {declared!r}, but unit={stated!r} was stated")
    if declared or stated:
        return str(declared or stated)
    raise FormatError(file, f"column {name!r}", f"declares no unit; state unit= (such as {example!r})")


def _profiles(folder: Path, file: str, kind: str, lines: set[str], note: Note, stated: str | None) -> AnnData | None:
    table = _foreign.read_table(folder, file, note)
    if table is None:
        return None
    texts = [c for c in table.columns if table[c].dtype == pl.String]
    key = _foreign.column(table, (*LINE, "sample_name", "row name")) or (texts[0] if texts else table.columns[0])
    names, features, values = _foreign.matrix(table, key, file, note)
    keep = [i for i, n in enumerate(names) if n in lines]
    if len(keep) < len(names):
        note(Unread(file, f"{len(names) - len(keep):,} rows", "name no line of the responses: left out"))
    if not keep or not features:
        return None
    return _foreign.anndata(
        values[keep], [names[i] for i in keep], features, "subject", stated or _foreign.values_unit(values)
    )


def _smiles(tables: dict[str, pl.DataFrame]) -> tuple[dict[str, str], dict[str, str]]:
    """Name -> SMILES, and PubChem CID -> name, of every table with a SMILES column."""
    from workbench.formats import smiles as reader

    out: dict[str, str] = {}
    numbers: dict[str, str] = {}
    for table in tables.values():
        column, name = (
            reader.smiles_column(table.columns),
            _foreign.column(table, ("drug_name", "name", "drug", "compound", "treatment")),
        )
        if column is None or name is None:
            continue
        out |= {n: s for n, s in table.select(name, column).rows() if n is not None and s is not None}
        cid = _foreign.column(table, ("CID", "pubchemid", "pubchem_cid"))
        if cid is not None:
            found = table.select(cid, name).drop_nulls().rows()
            numbers |= {str(c): n for c, n in found if sum(o == c for o, _ in found) == 1}
    return out, numbers


def _subjects(lines: list[str], tables: dict[str, pl.DataFrame], note: Note) -> tuple[pl.DataFrame, str | None]:
    """SUBJECTS with the annotations of the table that names most of the lines, and that file's name."""
    frame = pl.DataFrame({"subject": lines}, schema={"subject": pl.String})
    best: tuple[int, str, str] | None = None
    for file, table in tables.items():
        for column in table.columns[:10]:
            hits = len(set(table[column].cast(pl.String).drop_nulls().to_list()) & set(lines))
            if hits and (best is None or hits > best[0]):
                best = (hits, file, column)
    if best is None:
        note(Unread("annotations", "file", "no table names the lines: their tissues are not known", "note"))
        return _foreign.subjects(frame), None
    hits, file, key = best
    chosen = tables[file].with_columns(pl.col(key).cast(pl.String)).drop_nulls(key)
    if (twice := chosen.filter(pl.col(key).is_in(lines) & pl.col(key).is_duplicated())).height:
        note(Unread(file, f"line {twice[key][0]!r}", "stands in more than one row: the first one counts"))
    tissue = _foreign.column(chosen, TISSUE)
    texts = pl.col(pl.String).exclude(key)
    chosen = chosen.with_columns(pl.when(texts.is_in(MISSING)).then(None).otherwise(texts).name.keep())
    facts = chosen.unique(key, keep="first", maintain_order=True).rename({key: "subject"})
    if tissue is not None and tissue != "tissue":
        facts = facts.rename({tissue: "tissue"})
    return _foreign.subjects(frame.join(facts, on="subject", how="left", maintain_order="left")), file
