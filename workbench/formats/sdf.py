"""SDF (MDL molfiles V2000 and V3000): structures and their data items; a molecule that cannot be read is listed.

Source: BIOVIA, CTfile Formats (2020). The file is cut at its "$$$$" lines here, so one bad record leaves the others
readable and its place is known; RDKit reads each molfile. SMILES are canonical and isomeric.
"""

from __future__ import annotations

import re

import polars as pl

from workbench.formats import FormatError, _kind, _text

PRELOAD = ("rdkit.Chem",)  # imported once by `workbench.caged`, before it forks
RECORDS = 1_000_000
LONGEST = 4 * 2**20  # characters of one record
ITEM = re.compile(r"^>.*?<([^<>]*)>")


def read(data: bytes, file: str, *, encoding: str | None = None) -> dict[str, pl.DataFrame]:
    """``{"table": record (from 1), line, name, smiles, version, then every data item as text, "/unread"}``.

    Raises
    ------
    FormatError
        Not text, no molfile in it, or not one molecule can be read.
    """
    notes = _text.Notes()
    text = _text.decode(_kind.gunzip(data, file), file, notes, encoding)
    if "M  END" not in text:
        raise FormatError(file, "content", "expected molfiles with 'M  END' lines, found none")
    rows: list[dict[str, object]] = []
    for number, (line, lines) in enumerate(_records(text), 1):
        place = f"record {number}, line {line}"
        if number > RECORDS:
            raise FormatError(file, place, f"more than {RECORDS:,} records: refused")
        found = _molecule(lines)
        if isinstance(found, str):
            notes.add(place, found)
            continue
        items = _items(lines, place, notes)
        first = lines[0].strip()
        rows.append({"record": number, "line": line, "name": first or None, **found, **items})
    if not rows:
        raise FormatError(file, "content", f"not one molecule can be read; first: {notes.rows[:1]}")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    kinds = {n: pl.Int64 if n in ("record", "line") else pl.String for n in columns}
    return {"table": pl.DataFrame(rows, schema=kinds), "/unread": notes.frame()}


def _records(text: str) -> list[tuple[int, list[str]]]:
    """(first line number, lines) of every record; a tail of blank lines is none."""
    out: list[tuple[int, list[str]]] = []
    start = 1
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("$$$$"):
            out.append((start, lines))
            start, lines = number + 1, []
        else:
            lines.append(line)
    if any(line.strip() for line in lines):
        out.append((start, lines))
    return out


def _molecule(lines: list[str]) -> dict[str, str] | str:
    """``{"smiles", "version"}``, or why there is none."""
    from rdkit import Chem, rdBase

    end = next((i for i, line in enumerate(lines) if line.startswith("M  END")), None)
    if end is None:
        return "no 'M  END': the record is cut"
    if len(lines) < 4:
        return "shorter than a molfile's four header lines"
    version = lines[3][33:39].strip() or "V2000"
    if version not in ("V2000", "V3000"):
        return f"expected V2000 or V3000 in the counts line, found {version!r}"
    block = "\n".join(lines[: end + 1]) + "\n"
    if len(block) > LONGEST:
        return f"longer than {LONGEST:,} characters"
    try:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromMolBlock(block, sanitize=True, removeHs=True, strictParsing=True)
            if molecule is None:
                return "RDKit cannot make a molecule of it (a bad atom, bond or valence)"
            if molecule.GetNumAtoms() == 0:
                return "holds no atoms"
            return {"smiles": Chem.MolToSmiles(molecule), "version": version}
    except Exception as error:  # RDKit raises C++ exceptions of many kinds on bad blocks
        return f"cannot be read: {type(error).__name__}: {error}"


def _items(lines: list[str], place: str, notes: _text.Notes) -> dict[str, str | None]:
    """Data items below "M  END": name -> lines joined; a name used twice keeps the first and is noted."""
    out: dict[str, str | None] = {}
    name: str | None = None
    value: list[str] = []
    end = next(i for i, line in enumerate(lines) if line.startswith("M  END"))
    for line in [*lines[end + 1 :], "> <>"]:
        match = ITEM.match(line)
        if match is None:
            if name is not None:
                value.append(line)
            continue
        if name is not None:
            key = f"{name} (item)" if name in ("record", "line", "name", "smiles", "version") else name
            if key in out:
                notes.add(place, f"data item {name!r} stands twice: the first one counts")
            else:
                out[key] = "\n".join(value).strip() or None
        name, value = match.group(1).strip() or None, []
    return out
