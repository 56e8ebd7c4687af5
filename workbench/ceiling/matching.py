"""Which lines and which compounds two studies share, by identifiers and structures first, by names where safe.

    lines       the same COSMIC or DepMap id; without ids the same name by ``cell_lines.LineNames``
    compounds   the same structure (first InChIKey block, ``compound_key``); without a structure the same name

Nothing is guessed: a name that fits two lines fits none (TT and T-T, KM-H2 and KMH-2 are four different lines), and
a name whose identifiers or structures contradict each other is not a match.
"""

from __future__ import annotations

import polars as pl

from workbench import molecules
from workbench.cell_lines import LineNames, key
from workbench.study import Study

IDS = (("cosmic_id", "COSMIC_ID"), ("depmap_id", "depMapID", "DepMap_ID"))  # spellings of one identifier
NAMES = ("subject", "name", "cell_line_name", "stripped_cell_line_name", "ccle_name", "ccle_id")
ID_COLUMNS = {"subject": pl.String, "id": pl.String}
NO_STRUCTURE = "name:"  # what a source writes into compound_key where it knows no structure


def lines(study: Study, other: Study) -> pl.DataFrame:
    """Lines in both studies: subject (as ``study`` calls it), other_subject, by ("cosmic_id", "name" ...).

    A line is matched at most once; where several columns of names could serve, the pair that matches most lines does.
    """
    a, b = study.subjects, other.subjects
    found, facts = [], []
    for spellings in IDS:
        mine, theirs = (
            next((_ids(f, c) for c in spellings if c in f.columns), pl.DataFrame(schema=ID_COLUMNS)) for f in (a, b)
        )
        facts.append((dict(mine.iter_rows()), dict(theirs.iter_rows())))
        same = mine.join(theirs.rename({"subject": "other_subject"}), on="id")
        found.append(same.select("subject", "other_subject", by=pl.lit(spellings[0])))
    named = _by_name(a, b)
    denied = [
        any(s in mine and o in theirs and mine[s] != theirs[o] for mine, theirs in facts)
        for s, o in named.select("subject", "other_subject").iter_rows()
    ]
    found.append(named.filter(~pl.Series(denied, dtype=pl.Boolean)))
    matched = pl.concat(found).unique("subject", keep="first", maintain_order=True)
    return matched.unique("other_subject", keep="first", maintain_order=True).sort("subject")


def _ids(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Subject and id where the id is known and is that of one subject only."""
    ids = frame.select(pl.col("subject").cast(pl.String), pl.col(column).cast(pl.String).alias("id")).drop_nulls()
    return ids.filter(~pl.col("id").is_duplicated())


def _by_name(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    best = pl.DataFrame(schema={"subject": pl.String, "other_subject": pl.String, "by": pl.String})
    for mine in _columns(a):
        for theirs in _columns(b):
            left, right = _spelt(a, mine), _spelt(b, theirs)
            names = LineNames(left.values(), right.values())
            there: dict[str, str] = {}
            for subject, name in right.items():
                if (k := names.match(name)) is not None:
                    there.setdefault(k, subject)
            pairs = [(s, there[k]) for s, name in left.items() if (k := names.match(name)) in there]
            if len(pairs) > best.height:
                by = "name" if mine == theirs == "subject" else f"name ({mine}, {theirs})"
                best = pl.DataFrame([(*p, by) for p in pairs], schema=best.schema, orient="row")
    return best


def _columns(frame: pl.DataFrame) -> list[str]:
    return sorted((c for c in frame.columns if c.casefold() in NAMES), key=lambda c: NAMES.index(c.casefold()))


def _spelt(frame: pl.DataFrame, column: str) -> dict[str, str]:
    """Subject -> its name in ``column``; CCLE's ids end in the tissue, which is no part of the name."""
    rows = frame.select(pl.col("subject").cast(pl.String), pl.col(column).cast(pl.String).alias("name")).drop_nulls()
    ccle = column.casefold() in ("ccle_name", "ccle_id")
    return {s: n.split("_")[0] if ccle else n for s, n in rows.iter_rows()}


def compounds(study: Study, other: Study) -> pl.DataFrame:
    """Treatments of both studies that are one compound: treatment, other_treatment, compound, by.

    One compound may stand under several names on either side: every combination is a row. Under different names the
    stereochemistry must agree too, since the first block is that of the skeleton: epirubicin is not doxorubicin.
    """
    a, b = (_structures(s.treatments) for s in (study, other))
    renamed = {c: f"other_{c}" for c in a.columns}
    structure = a.drop_nulls("compound").join(b.rename(renamed), left_on="compound", right_on="other_compound")
    structure = structure.with_columns(by=pl.lit("structure"))
    if (differing := structure.filter(pl.col("key") != pl.col("other_key"))).height:
        isomers = [_full(x) != _full(y) for x, y in differing.select("smiles", "other_smiles").iter_rows()]
        wrong = differing.filter(pl.Series(isomers)).select("treatment", "other_treatment")
        structure = structure.join(wrong, on=["treatment", "other_treatment"], how="anti")
    named = a.join(b.rename(renamed), left_on="key", right_on="other_key").filter(
        pl.col("compound").is_null() | pl.col("other_compound").is_null()
    )  # two known structures under one name were compared above
    named = named.with_columns(
        compound=pl.coalesce("compound", "other_compound", pl.lit(NO_STRUCTURE) + pl.col("treatment")),
        by=pl.lit("name"),
    )
    chosen = ("treatment", "other_treatment", "compound", "by")
    return pl.concat([structure.select(chosen), named.select(chosen)]).sort("treatment", "other_treatment")


def _structures(treatments: pl.DataFrame) -> pl.DataFrame:
    """Treatment, compound (null without structure), SMILES and the name's key."""
    known = pl.coalesce(pl.col(c).cast(pl.String) for c in ("compound_key", "compound") if c in treatments.columns)
    frame = treatments.select(pl.col("treatment").cast(pl.String), known.alias("compound"), pl.col("smiles"))
    return frame.with_columns(
        compound=pl.when(~pl.col("compound").str.starts_with(NO_STRUCTURE)).then("compound"),
        key=pl.Series([key(n) for n in frame["treatment"]], dtype=pl.String),
    )


def _full(smiles: str | None) -> str | None:
    """InChIKey of the parent with its stereochemistry; null where there is no readable structure."""
    from rdkit import Chem

    molecule = molecules.parent(smiles) if smiles else None
    return "-".join(Chem.MolToInchiKey(molecule).split("-")[:2]) if molecule is not None else None
