"""Delimited text as instruments and spreadsheets write it: everything is text first, nothing is guessed in silence.

What decides (RFC 4180 where it speaks): a byte-order mark names the encoding, otherwise UTF-8; text that is not UTF-8
is read as Windows-1252 only when every byte is a printable character there, and that is noted. The delimiter is the one
that cuts the first lines into the same number of fields. A line with another number of fields is left out and noted.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from workbench.formats import FormatError, _kind

DELIMITERS = (",", ";", "\t", "|")
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", ".")
ROW_NAME = "row name"  # of a first column without a name, as R and pandas write it
CELLS = 100_000_000
SAMPLE = 200  # lines that decide the delimiter
UNREAD = {"place": pl.String, "reason": pl.String}


@dataclass
class Notes:
    """What was not read, or read under an assumption: rows of (place, reason), the first ``most`` of each kind."""

    most: int = 1000
    rows: list[tuple[str, str]] = field(default_factory=list)
    left: int = 0

    def add(self, place: str, reason: str) -> None:
        """Note one thing; beyond ``most`` only the number is kept."""
        if len(self.rows) < self.most:
            self.rows.append((place, reason))
        else:
            self.left += 1

    def frame(self) -> pl.DataFrame:
        """Columns place, reason."""
        rows = [*self.rows, ("further", f"{self.left:,} more of this kind")] if self.left else self.rows
        return pl.DataFrame(rows, schema=UNREAD, orient="row")


def decode(data: bytes, file: str, notes: Notes, encoding: str | None = None) -> str:
    """``data`` as text.

    Raises
    ------
    FormatError
        It is not text, or not in the encoding; the message names the first bad byte.
    """
    _kind.expect(data, file, "text", "delimited text")
    if encoding is None:
        encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except LookupError:
        raise FormatError(file, "encoding", f"{encoding!r} is no encoding that is known here") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        bad = data[error.start]
        if encoding != "utf-8-sig" or any(0x7F <= b < 0xA0 for b in set(data)):
            raise FormatError(
                file, f"line {line}", f"byte 0x{bad:02x} is not {encoding.removesuffix('-sig')}; give encoding="
            ) from None
        notes.add(f"line {line}", f"byte 0x{bad:02x} is not UTF-8: the file was read as Windows-1252")
        text = data.decode("cp1252")
    if "\0" in text:
        raise FormatError(
            file, f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}", "a zero byte: this is no text"
        )
    return text


def delimiter(text: str, file: str) -> str:
    """The delimiter that cuts the first lines most evenly into more than one field; "," where none does.

    Raises
    ------
    FormatError
        Two delimiters do equally well; the message says which.
    """
    lines = text[: 1 << 20].splitlines()[:SAMPLE]
    scores: dict[str, tuple[float, int]] = {}
    for mark in DELIMITERS:
        try:
            counts = [len(r) for r in csv.reader(lines, delimiter=mark) if r]
        except csv.Error:
            continue
        if not counts or max(counts) < 2:
            continue
        width, often = Counter(counts).most_common(1)[0]
        if width > 1:
            scores[mark] = (often / len(counts), width)
    if not scores:
        return ","
    ranked = sorted(scores, key=lambda m: scores[m], reverse=True)
    if len(ranked) > 1 and scores[ranked[0]] == scores[ranked[1]]:
        raise FormatError(
            file, "line 1", f"{ranked[0]!r} and {ranked[1]!r} cut the lines equally well; give delimiter="
        )
    return ranked[0]


def grid(text: str, file: str, mark: str) -> list[tuple[int, list[str]]]:
    """Every non-empty line as (line number, fields); quotes as in RFC 4180.

    Raises
    ------
    FormatError
        A quote is never closed, or there are more cells than ``CELLS``.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    rows, cells, line = [], 0, 1
    limit = csv.field_size_limit(1 << 20)
    try:
        for record in reader:
            if any(f.strip() for f in record):
                rows.append((line, record))
                cells += len(record)
                if cells > CELLS:
                    raise FormatError(file, f"line {line}", f"more than {CELLS:,} cells: refused")
            line = reader.line_num + 1
    except csv.Error as error:
        raise FormatError(file, f"line {line}", f"{error}; a quote stands where none may, or is never closed") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def names(header: list[str], place: str, notes: Notes) -> list[str]:
    """Column names, stripped; a repeated one gets " (2)", and that is noted. An empty first one is ``ROW_NAME``."""
    out: list[str] = []
    taken = Counter(h.strip() for h in header)
    used: set[str] = set()
    for index, raw in enumerate(header):
        name = raw.strip()
        if not name and not index:
            name = ROW_NAME
        elif not name:
            name = f"column {index + 1}"
            notes.add(f"{place}, column {index + 1}", f"has no name: called {name!r}")
        elif taken[name] > 1 and name in used:
            number = 2
            while f"{name} ({number})" in used or f"{name} ({number})" in taken:
                number += 1
            notes.add(f"{place}, column {index + 1}", f"the name {name!r} is used before: called '{name} ({number})'")
            name = f"{name} ({number})"
        used.add(name)
        out.append(name)
    return out


def frame(rows: list[tuple[int, list[str]]], file: str, notes: Notes, row_word: str = "line") -> pl.DataFrame:
    """The first row as header, the others as text; empty cells are null; ragged rows are noted and left out.

    A header one shorter than every row is R's way of writing row names: the first column is then named ``ROW_NAME``.
    """
    if not rows:
        raise FormatError(file, "content", "no rows: the file is empty")
    (at, header), body = rows[0], rows[1:]
    if body and all(len(r) == len(header) + 1 for _, r in body):
        header = ["", *header]
    columns = names(header, f"{row_word} {at}", notes)
    good = []
    for number, fields in body:
        if len(fields) > len(columns) and not any(f.strip() for f in fields[len(columns) :]):
            fields = fields[: len(columns)]
        if len(fields) == len(columns):
            good.append(fields)
        else:
            notes.add(f"{row_word} {number}", f"expected {len(columns)} fields, found {len(fields)}: left out")
    if not good:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    by_column = list(zip(*good, strict=True))
    out = pl.DataFrame([pl.Series(n, c, dtype=pl.String) for n, c in zip(columns, by_column, strict=True)])
    stripped = out.select(pl.all().str.strip_chars())
    return stripped.select(pl.when(pl.all() == "").then(None).otherwise(pl.all()).name.keep())


NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")


def decimal(columns: list[pl.Series], file: str) -> str:
    """ "." or ",": the decimal mark that the cells themselves show.

    Raises
    ------
    FormatError
        Both are used, or every comma could as well separate thousands (1,234).
    """
    comma = point = False
    sure = False
    for series in columns:
        for cell in series.drop_nulls().unique().to_list():
            if COMMA.fullmatch(cell):
                comma = True
                sure |= not re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", cell)
            elif "." in cell and NUMBER.fullmatch(cell):
                point = True
    if not comma:
        return "."
    if point:
        raise FormatError(file, "numbers", "decimal points and decimal commas are mixed; give decimal='.' or ','")
    if not sure:
        raise FormatError(file, "numbers", "a comma here may be decimal or thousands (1,234); give decimal='.' or ','")
    return ","


def numbers(series: pl.Series, mark: str = ".") -> tuple[pl.Series, list[int]]:
    """``series`` of text as Float64, and the rows that held text but no number; words for missing become null."""
    text = series.cast(pl.String).str.strip_chars()
    missing = text.is_null() | text.is_in(MISSING)
    plain = text.str.replace(",", ".", literal=True) if mark == "," else text
    value = plain.cast(pl.Float64, strict=False)
    shape = plain.str.contains(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$").fill_null(False)
    if mark == ",":
        shape &= ~text.str.contains(".", literal=True).fill_null(False)
    good = shape & value.is_finite().fill_null(False)
    out = pl.select(pl.when(good & ~missing).then(value).otherwise(None)).to_series().rename(series.name)
    return out.cast(pl.Float64), np.flatnonzero((~missing & ~good).to_numpy()).tolist()
