"""Tables of compounds with a SMILES column (csv, tsv), and plain .smi files; what cannot be parsed is listed.

Source: Weininger 1988, J. Chem. Inf. Comput. Sci. 28:31-36, as RDKit parses it. The text that was given is kept; beside
it stands RDKit's canonical isomeric SMILES. Salts and tautomers are left as they are: that is for `molecules`.
"""

from __future__ import annotations

import polars as pl

from workbench.formats import FormatError, _kind, _text

PRELOAD = ("rdkit.Chem",)  # imported once by `workbench.caged`, before it forks
PREFERRED = ("isomeric", "canonical", "")  # which SMILES column counts where there are several
LONGEST = 5000  # characters; parsing longer ones takes minutes


def read(
    data: bytes, file: str, *, column: str | None = None, delimiter: str | None = None, encoding: str | None = None
) -> dict[str, pl.DataFrame]:
    """``{"table": every column as text, and "smiles_canonical" (null where it failed), "/unread"}``.

    Parameters
    ----------
    column : the one that holds SMILES; otherwise the one whose name says so (isomeric before canonical before others)

    Raises
    ------
    FormatError
        Not text, no SMILES column, or not one SMILES in it can be parsed.
    """
    notes = _text.Notes()
    text = _text.decode(_kind.gunzip(data, file), file, notes, encoding)
    rows = _text.grid(text, file, delimiter or _text.delimiter(text, file))
    table = _text.frame(rows, file, notes)
    if column is None:
        column = smiles_column(table.columns)
    if column is None and rows and canonical(rows[0][1][0].split()[0] if rows[0][1][0].split() else ""):
        plain = [(n, [*" ".join(r).split(maxsplit=1), ""][:2]) for n, r in rows]  # .smi: no header, SMILES then a name
        table, column = _text.frame([(0, ["smiles", "name"]), *plain], file, notes), "smiles"
    if column is None or column not in table.columns:
        raise FormatError(file, "header", f"expected a column of SMILES, found {table.columns[:20]}; give column=")
    unique = {s: canonical(s) for s in table[column].drop_nulls().unique().to_list()}
    parsed = [unique.get(s) if s is not None else None for s in table[column].to_list()]
    for index, (given, result) in enumerate(zip(table[column].to_list(), parsed, strict=True)):
        if result is None:
            reason = "is empty" if given is None else f"cannot be parsed: {given[:80]!r}"
            notes.add(f"row {index + 1} below the header, column {column!r}", f"SMILES {reason}")
    if not any(parsed):
        raise FormatError(file, f"column {column!r}", "not one SMILES in it can be parsed")
    added = pl.Series("smiles_canonical", parsed, dtype=pl.String)
    return {"table": table.with_columns(added), "/unread": notes.frame()}


def smiles_column(names: list[str]) -> str | None:
    """The column whose name says SMILES."""
    named = [n for n in names if "smiles" in n.casefold()]
    for word in PREFERRED:
        for name in named:
            if word in name.casefold():
                return name
    return None


def canonical(smiles: str) -> str | None:
    """RDKit's canonical isomeric SMILES, or None where it cannot be parsed."""
    from rdkit import Chem, rdBase

    if not smiles or len(smiles) > LONGEST:
        return None
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or molecule.GetNumAtoms() == 0:
            return None
        text: str = Chem.MolToSmiles(molecule)
    return text
