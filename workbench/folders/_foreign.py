"""What the kinds of foreign folders share: files found and read, columns told by their names, tables filled in.

Nothing is guessed: a unit comes from a column's own name, from a column of units beside it, or from an option that the
caller states; every cell or row that is left out is noted with its file and place.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench import folders, tables, units
from workbench.folders import Unread
from workbench.formats import FormatError, table

if TYPE_CHECKING:
    from anndata import AnnData
Note = Callable[[Unread], None]
LARGEST = 4 * 2**30  # bytes of one file
TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
UNDECLARED = "unit not declared"

# Spellings that mean one unit whatever their case. Molar units are not among them: "mm" is no mM, "um" no uM.
SPELLINGS = {
    **{u.casefold(): u for u in units.known() if "/" in u},
    **{u: u for u in ("mm3", "cm3", "min", "h", "day", "week", "kg", "fraction", "%", "ms")},
    "mm^3": "mm3", "mm³": "mm3", "cubic mm": "mm3", "cm^3": "cm3",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "days": "day", "d": "day", "weeks": "week", "wk": "week",
    "mins": "min", "minute": "min", "minutes": "min", "sec": "s", "seconds": "s", "percent": "%", "pct": "%",
}  # fmt: skip
LABORATORY = ("IU/L", "U/L", "IU/mL", "mEq/L", "10^9/L", "10^12/L", "10^3/uL", "10^6/uL", "g/dL", "fL", "pg", "score")


def listing(folder: Path) -> list[str]:
    """Names of the plain files below ``folder``; where ``folder`` is itself a file, its name alone."""
    return [folder.name] if folder.is_file() else folders.listing(folder)


def words(name: str) -> list[str]:
    """Words of a file's name without its ending, in lower case: "liver_toxicity_gene_ID.csv" -> liver ... gene, id."""
    stem = Path(name).name.casefold()
    for ending in (".gz", ".csv", ".tsv", ".txt", ".xlsx", ".parquet"):
        stem = stem.removesuffix(ending)
    return [w for w in re.split(r"[^a-z0-9]+", stem) if w]


def is_text(name: str) -> bool:
    """Does ``name`` end like delimited text?"""
    return name.casefold().endswith(TEXT)


def content(folder: Path, name: str) -> bytes:
    """The bytes of a plain file in ``folder``.

    Raises
    ------
    FormatError
        It is no plain file, leads out of the folder, is too large, or cannot be read.
    """
    folder = folder.parent if folder.is_file() else folder
    path = folder / name
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or folder.resolve() not in path.resolve().parents:
            raise FormatError(name, "file", "expected a plain file in the folder itself; a link or device is not read")
        if facts.st_size > LARGEST:
            raise FormatError(name, "file", f"has {facts.st_size:,} bytes, at most {LARGEST:,}")
        return path.read_bytes()
    except OSError as error:
        raise FormatError(name, "file", f"cannot be read: {error.strerror or error}") from None


def pour(unread: pl.DataFrame, name: str, note: Note) -> None:
    """Hand the "/unread" frame of a reader on, with the file's name."""
    for place, reason in unread.select("place", "reason").rows():
        note(Unread(name, place, reason))


def read_table(folder: Path, name: str, note: Note) -> pl.DataFrame | None:
    """A delimited, parquet or one-sheet Excel table as text (parquet keeps its types); None, noted, where refused."""
    from workbench import caged

    try:
        data = content(folder, name)
        lower = name.casefold()
        if lower.endswith(".parquet"):
            frame: pl.DataFrame = caged.read("parquet", data, name)
            return frame
        if lower.endswith(".xlsx"):
            sheets = caged.read("xlsx", data, name)
            pour(sheets.pop("/unread"), name, note)
            first, *rest = [s for s in sheets if sheets[s].height]
            for other in rest:
                note(Unread(name, f"sheet {other!r}", "only the first sheet with cells is read here"))
            parts = table.frame(sheets[first], name, first)
        else:
            parts = table.read(data, name)
    except (FormatError, ValueError) as error:
        refuse(error, name, note)
        return None
    pour(parts["/unread"], name, note)
    return parts["table"]


def refuse(error: Exception, name: str, note: Note) -> None:
    """Note a file that cannot be read."""
    if isinstance(error, FormatError):
        note(Unread(name, error.place, error.reason))
    else:
        note(Unread(name, "content", str(error)))


def leftover(files: Iterable[str], used: Iterable[str], note: Note) -> None:
    """Note every file that no part of a kind took up: nothing is dropped in silence."""
    taken = set(used)
    for name in files:
        if name not in taken:
            note(Unread(name, "file", "is no part of this kind of folder by its name: not read"))


def plain(name: str) -> str:
    """A column's name without case and punctuation, for comparison with known ones."""
    return "".join(c for c in name.casefold() if c.isalnum())


def column(frame: pl.DataFrame, names: Iterable[str]) -> str | None:
    """The first of ``names`` that is a column, whatever its case and punctuation, with or without a unit behind it."""
    given = {plain(c): c for c in reversed(frame.columns)}
    bare = {plain(declared(c)[0]): c for c in reversed(frame.columns)}
    for name in names:
        if (key := plain(name)) in given:
            return given[key]
        if key in bare:
            return bare[key]
    return None


def unit(text: str) -> str | None:
    """The workbench's spelling of a unit, None where it is none or could mean two things."""
    text = text.strip().replace("\u00b5", "u").replace("\u03bc", "u")
    try:
        return units.parse(text).name
    except units.UnitError:
        pass
    return SPELLINGS.get(text.casefold()) or next((u for u in LABORATORY if u.casefold() == text.casefold()), None)


def declared(name: str) -> tuple[str, str | None]:
    """(name without its unit, the unit that a column's name declares, or None).

    Read are "volume (mm3)", "dose [uM]", "volume_mm3", "auc_ng_mL" and R's "BUN.mg.dL.".
    """
    bracketed = re.fullmatch(r"(.*?)\s*[\(\[]([^()\[\]]+)[\)\]]\s*", name)
    if bracketed and (found := unit(bracketed.group(2))):
        return bracketed.group(1).strip(" _."), found
    parts = [p for p in re.split(r"[_. ]+", name) if p]
    for length in (2, 1):
        if len(parts) > length and (found := unit("/".join(parts[-length:]))):
            if length == 1 and len(parts[-1]) == 1 and not re.search(r"[_.]", name):
                continue  # "vitamin d" is no vitamin in days
            return "_".join(parts[:-length]), found
    return name, None


def measured(
    frame: pl.DataFrame, name: str, file: str, note: Note, missing: str | None = "holds no number"
) -> pl.Series:
    """Column ``name`` as Float64; text that is no number is noted row by row and null."""
    series = frame[name]
    if series.dtype.is_numeric():
        return series.cast(pl.Float64)
    values, bad = table.numbers(series)
    if bad and missing is not None:
        for row in bad[:50]:
            note(Unread(file, f"row {row + 1} below the header, column {name!r}", f"{series[row]!r} is no number"))
        if len(bad) > 50:
            note(Unread(file, f"column {name!r}", f"{len(bad) - 50:,} more cells that are no number"))
    return values


def outcomes(frame: pl.DataFrame, **constants: Any) -> pl.DataFrame:
    """OUTCOMES out of the columns that are there and ``constants``; what is missing is null, ``censored`` 0."""
    if not frame.width:
        return tables.empty(tables.OUTCOMES)
    given = {"censored": 0, "site": "not stated"} | constants
    columns = []
    for name, kind in tables.OUTCOMES.columns.items():
        if name in frame.columns and name not in constants:
            columns.append(pl.col(name).cast(kind))
        else:
            columns.append(pl.lit(given.get(name), dtype=kind).alias(name))
    return tables.check(frame.select(columns), tables.OUTCOMES)


def subjects(frame: pl.DataFrame) -> pl.DataFrame:
    """SUBJECTS with ``subject`` and ``tissue`` first."""
    if "tissue" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("tissue"))
    return tables.check(frame, tables.SUBJECTS)


def treatments(names: Iterable[str], smiles: dict[str, str] | None = None, note: Note | None = None) -> pl.DataFrame:
    """TREATMENTS of sorted, distinct ``names``; structures are parsed, and one that cannot be is noted and null."""
    from workbench import molecules

    known, compound, kept = sorted(set(names)), [], []
    for name in known:
        text = (smiles or {}).get(name)
        molecule = molecules.parent(text) if text else None
        if text and molecule is None and note is not None:
            note(Unread("structures", name, f"SMILES cannot be parsed: {text[:80]!r}"))
        compound.append(molecules.identity(molecule) if molecule is not None else None)
        kept.append(text if molecule is not None else None)
    return tables.check(
        pl.DataFrame(
            {"treatment": known, "compound": compound, "smiles": kept}, schema=dict(tables.TREATMENTS.columns)
        ),
        tables.TREATMENTS,
    )


def structures(frame: pl.DataFrame) -> dict[str, AnnData]:
    """``{"drug_structure": ...}`` of the treatments with a structure; empty where there is none."""
    from workbench import molecules

    named = {n: molecules.parent(s) for n, s in frame.drop_nulls("smiles").select("treatment", "smiles").rows()}
    known = {n: m for n, m in named.items() if m is not None}
    if not known:
        return {}
    bits = molecules.fingerprints(list(known.values()))
    columns = [f"morgan_{i:04d}" for i in range(molecules.BITS)]
    return {"drug_structure": anndata(bits, list(known), columns, "treatment", "Morgan bit (0/1)")}


def anndata(values: Any, names: list[str], features: list[str], axis: str, unit: str) -> AnnData:
    """AnnData of ``values`` (names, features) with its axis and unit."""
    import pandas as pd
    from anndata import AnnData

    data = AnnData(
        values,
        obs=pd.DataFrame(index=pd.Index(names, dtype=object)),
        var=pd.DataFrame(index=pd.Index(features, dtype=object)),
    )
    data.uns = {"axis": axis, "unit": unit}
    return data


def matrix(frame: pl.DataFrame, key: str, file: str, note: Note) -> tuple[list[str], list[str], np.ndarray]:
    """(row names, features, values float32) of a table with one column of names and numbers in all others.

    A column with text in it, and a row that lacks a name, a number or repeats a name, is noted and left out.
    """
    names = frame[key].cast(pl.String).to_list()
    columns, kept = [], []
    for name in frame.columns:
        if name == key:
            continue
        series = frame[name]
        values, bad = (series.cast(pl.Float64), []) if series.dtype.is_numeric() else table.numbers(series)
        if bad:
            note(
                Unread(
                    file,
                    f"column {name!r}, row {bad[0] + 1} below the header",
                    f"{series[bad[0]]!r} is no number: column left out",
                )
            )
            continue
        columns.append(values.to_numpy())
        kept.append(name)
    values_out = np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(names), 0), np.float32)
    good, seen = [], set()
    for row, name in enumerate(names):
        place = f"row {row + 1} below the header"
        if name is None:
            note(Unread(file, place, "has no name: left out"))
        elif name in seen:
            note(Unread(file, place, f"{name!r} stands twice: the first one counts"))
        elif not np.isfinite(values_out[row]).all():
            hole = kept[int((~np.isfinite(values_out[row])).argmax())]
            note(Unread(file, f"{place}, column {hole!r}", f"{name!r} lacks a number: left out"))
        else:
            good.append(row)
            seen.add(name)
    return [str(names[r]) for r in good], kept, values_out[good]


def values_unit(values: np.ndarray) -> str:
    """What the values themselves prove: "0/1" or "class" of small whole numbers, else that no unit is declared."""
    found = np.unique(values[:: max(1, len(values) // 200)])
    if set(found.tolist()) <= {0.0, 1.0} and set(np.unique(values).tolist()) <= {0.0, 1.0}:
        return "0/1"
    return UNDECLARED
