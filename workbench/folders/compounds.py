"""Compounds by structure: SDF, .smi and tables with a SMILES column, with whatever was measured on them.

A treatment is a structure: rows of one compound (the first block of its InChIKey) are one treatment, named as the
table names it where it does. The structure text that was given is kept. Tables stay whole as records; their columns
become no OUTCOMES, since no subject was tested (a property of a compound is not an outcome of an animal or a line).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import polars as pl

from workbench import molecules, tables
from workbench.folders import Content, _foreign
from workbench.folders._foreign import Note, Unread
from workbench.formats import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

STRUCTURES = (".sdf", ".sd", ".smi", ".sdf.gz", ".smi.gz")
NAMED = {
    "smiles",
    "compounds",
    "compound",
    "tox21",
    "clintox",
    "sider",
    "dilist",
    "ppb",
    "ld50",
    "ligands",
    "structures",
}
TAKEN = {"response", "synergy", "growth", "plate", "expr", "exp", "raw"}
NAME = ("name", "drug_name", "compound_name", "compound", "drug", "title", "mol_id", "id", "chembl_id", "record")


def recognises(files: list[str]) -> bool:
    """An SDF or .smi file, or a table named for compounds, and nothing that says responses, plates or cells."""
    spoken = {w for f in files for w in _foreign.words(f)}
    if spoken & TAKEN:
        return False
    return any(_is_structure(f) for f in files) or any(
        _foreign.is_text(f) and set(_foreign.words(f)) & NAMED for f in files
    )


def _is_structure(name: str) -> bool:
    return name.casefold().endswith(STRUCTURES)


def read(folder: Path, note: Note) -> Content:
    """Every structure that can be parsed as a treatment; the tables, with it, as records.

    Raises
    ------
    FormatError
        Not one structure can be read.
    """
    files = _foreign.listing(folder)
    used = [f for f in files if _is_structure(f) or _foreign.is_text(f)]
    _foreign.leftover(files, used, note)
    records, rows = {}, []
    for name in used:
        table = _table(folder, name, note)
        if table is None:
            continue
        stem = PurePosixPath(name).name.split(".")[0]
        known = dict(_identities(table["smiles_canonical"]))
        table = table.with_columns(
            pl.col("smiles_canonical").replace_strict(known, default=None, return_dtype=pl.String).alias("compound")
        )
        lost = table.filter(pl.col("smiles_canonical").is_not_null() & pl.col("compound").is_null())
        if lost.height:
            note(
                Unread(
                    name,
                    "structures",
                    f"{lost.height} have no InChIKey (first {lost['smiles_canonical'][0]!r}): no treatment",
                )
            )
        called = _foreign.column(table, NAME)
        rows.append(
            table.select(
                "compound",
                smiles="smiles_canonical",
                name=pl.col(called).cast(pl.String) if called else pl.lit(None, dtype=pl.String),
            )
        )
        records[stem if stem not in records else name.replace("/", " ")] = table
    if not rows:
        raise FormatError(folder.name, "structures", "not one table of structures can be read")
    every = pl.concat(rows).drop_nulls("compound")
    chosen = every.group_by("compound", maintain_order=True).agg(
        pl.col("smiles").first(), pl.col("name").drop_nulls().first(), pl.len().alias("rows")
    )
    repeated = chosen["name"].is_duplicated() & chosen["name"].is_not_null()
    named = pl.select(
        pl.when(repeated | chosen["name"].is_null()).then(chosen["compound"]).otherwise(chosen["name"])
    ).to_series()
    treatments = tables.check(
        chosen.select(treatment=named, compound="compound", smiles="smiles")
        .unique("treatment", maintain_order=True)
        .sort("treatment"),
        tables.TREATMENTS,
    )
    return Content(
        outcomes=_foreign.outcomes(pl.DataFrame()),
        subjects=tables.empty(tables.SUBJECTS),
        treatments=treatments,
        modalities=_foreign.structures(treatments),
        records=records,
        provenance={
            "source": "compounds",
            "rows": every.height,
            "compounds": chosen.height,
            "in_several_rows": chosen.filter(pl.col("rows") > 1).height,
        },
    )


def _table(folder: Path, name: str, note: Note) -> pl.DataFrame | None:
    from workbench import caged

    try:
        data = _foreign.content(folder, name)
        reader = "sdf" if name.casefold().removesuffix(".gz").endswith((".sdf", ".sd")) else "smiles"
        found = caged.read(reader, data, name, seconds=60 + len(data) / 2**16)
    except FormatError as error:
        _foreign.refuse(error, name, note)
        return None
    _foreign.pour(found["/unread"], name, note)
    table: pl.DataFrame = found["table"]
    return table.rename({"smiles": "smiles_canonical"}) if reader == "sdf" else table


def _identities(smiles: pl.Series) -> Iterator[tuple[str, str | None]]:
    for text in smiles.drop_nulls().unique().to_list():
        parent = molecules.parent(text)
        yield text, molecules.identity(parent) if parent is not None else None
