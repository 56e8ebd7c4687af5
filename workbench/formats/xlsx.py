"""Excel workbooks (xlsx): every sheet as a grid of text, after the package was looked at.

Source: ECMA-376 (Office Open XML). The sheets' own XML says how far they reach and which cells are errors; the values
come from calamine (through fastexcel). A formula gives the value that was saved with it; nothing is calculated and no
link is followed. Macros are refused; links, embedded objects and hidden sheets are noted.
"""

from __future__ import annotations

import re

import polars as pl

from workbench.formats import FormatError, _archive
from workbench.formats._text import Notes

PRELOAD = ("fastexcel",)  # imported once by `workbench.caged`, before it forks
SHEETS = 256
CELLS = 20_000_000  # of the rectangle from A1 to the last cell of one sheet
CELL = re.compile(rb'<(?:\w+:)?c\s[^>]*?r="([A-Z]{1,3})(\d{1,7})"')
ERROR = re.compile(
    rb'<(?:\w+:)?c\s(?=[^>]*\bt="e")[^>]*?r="([A-Z]{1,3}\d{1,7})"[^>]*>(?:(?!</(?:\w+:)?c>).)*?<(?:\w+:)?v>([^<]*)<',
    re.S,
)
NOTED = (
    ("xl/externalLinks/", "a link to another workbook is not followed: the values saved with it are used"),
    ("xl/embeddings/", "an embedded object is ignored"),
    ("xl/activeX/", "an ActiveX control is ignored"),
    ("xl/connections.xml", "a data connection is not followed"),
    ("xl/charts/", "a chart is ignored"),
    ("xl/media/", "a picture is ignored"),
)


def read(data: bytes, file: str, *, sheet: str | None = None) -> dict[str, pl.DataFrame]:
    """Grid of every sheet (or of ``sheet``) by name, and "/unread" (place, reason).

    A grid has the column "row" (Int64, as Excel counts) and one text column per sheet column ("1", "2", ... counted
    from the first one used); empty cells are null, and rows without any cell are left out.

    Raises
    ------
    FormatError
        Not a workbook, macros, a bomb, a slip, a declaration of entities, more cells than ``CELLS``, no such sheet.
    """
    parts = _archive.members(data, file, "an Excel workbook")
    for needed in ("[Content_Types].xml", "xl/workbook.xml"):
        if needed not in parts:
            raise FormatError(file, f"member {needed!r}", "is missing: a zip archive, but no Excel workbook")
    notes = Notes()
    _look(parts, file, notes)
    import fastexcel

    try:
        book = fastexcel.read_excel(data)
        names = list(book.sheet_names)
    except BaseException as error:  # a panic in Rust is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise FormatError(file, "workbook", f"cannot be read: {error}") from None
    if sheet is not None and sheet not in names:
        raise FormatError(file, f"sheet {sheet!r}", f"is not there; the sheets are {names}")
    if len(names) > SHEETS:
        raise FormatError(file, "xl/workbook.xml", f"{len(names)} sheets, at most {SHEETS}")
    out = {}
    for name in [sheet] if sheet is not None else names:
        try:
            out[name] = _grid(book, name, notes)
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            notes.add(f"sheet {name!r}", f"cannot be read: {error}")
    if not out:
        raise FormatError(file, "sheets", f"none can be read: {notes.rows}")
    return out | {"/unread": notes.frame()}


def _look(parts: dict[str, bytes], file: str, notes: Notes) -> None:
    """Refuse macros, entities and sheets that reach too far; note what is ignored."""
    for name, content in parts.items():
        if name.casefold().endswith(("vbaproject.bin", "vbadata.xml")):
            raise FormatError(
                file, f"member {name!r}", "holds macros: refused. Save as a workbook without them (.xlsx)"
            )
        for start, reason in NOTED:
            if name.startswith(start) and "/_rels/" not in name:
                notes.add(f"member {name!r}", reason)
        if not name.casefold().endswith((".xml", ".rels")):
            continue
        if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:256]:
            raise FormatError(file, f"member {name!r}", "expected XML in UTF-8, found UTF-16: refused")
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise FormatError(file, f"member {name!r}", "declares a document type or entities: refused")
        if name.startswith("xl/worksheets/"):
            _extent(content, file, name)
            for cell, value in ERROR.findall(content):
                notes.add(f"member {name!r}, cell {cell.decode()}", f"holds the error {value.decode(errors='replace')}")


def _extent(content: bytes, file: str, name: str) -> None:
    columns = rows = 0
    for letters, number in set(CELL.findall(content)):
        columns, rows = max(columns, _index(letters.decode())), max(rows, int(number))
    for number in re.findall(rb'<(?:\w+:)?row\s[^>]*?\br="(\d{1,9})"', content):
        rows = max(rows, int(number))
    count = max(len(re.findall(rb"<(?:\w+:)?c[\s/>]", content)), columns * rows)
    if count > CELLS:
        raise FormatError(
            file, f"member {name!r}", f"reaches over {columns} columns x {rows} rows, at most {CELLS:,} cells"
        )


def _index(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def _grid(book: object, name: str, notes: Notes) -> pl.DataFrame:
    """One sheet as text. Calamine writes few digits of a small number: where digits are lost, the float says them."""
    load = book.load_sheet  # type: ignore[attr-defined]
    options = {"header_row": None, "skip_rows": 0}  # 0: rows are counted from the top, not from the first used one
    sheet = load(name, dtypes="string", **options)
    if sheet.visible != "visible":
        notes.add(f"sheet {name!r}", f"is {sheet.visible}; it was read")
    text = sheet.to_polars()
    if not text.width or not text.height:
        notes.add(f"sheet {name!r}", "is empty")
        return pl.DataFrame(schema={"row": pl.Int64})
    exact = load(name, dtypes="float", **options).to_polars()
    columns = {}
    for index, (given, value) in enumerate(zip(text.columns, exact.columns, strict=True)):
        shown, number = text[given].cast(pl.String), exact[value].cast(pl.Float64, strict=False)
        lost = shown.cast(pl.Float64, strict=False) != number
        lost &= shown.str.contains(r"^-?\d+\.\d+$|^-?0$")
        fixed = {i: repr(number[i]) for i in lost.fill_null(False).arg_true().to_list()}
        cells = [fixed.get(i, c) for i, c in enumerate(shown.to_list())] if fixed else shown.to_list()
        columns[str(index + 1)] = [c if c is not None and c.strip() else None for c in cells]
    out = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).with_row_index("row", 1)
    return out.with_columns(pl.col("row").cast(pl.Int64)).filter(pl.any_horizontal(pl.exclude("row").is_not_null()))
