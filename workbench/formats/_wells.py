"""Plates as matrices of letters and numbers: 96 wells are A-H x 1-12, 384 wells A-P x 1-24 (ANSI/SLAS 4-2004)."""

from __future__ import annotations

import re

import polars as pl

from workbench.formats._text import Notes

SIZES = {12: "ABCDEFGH", 24: "ABCDEFGHIJKLMNOP"}
WELL = re.compile(r"([A-Pa-p])0*([1-9]|1\d|2[0-4])")
ABOVE = 3  # rows above a block that may hold its title
WELLS = {"block": pl.String, "size": pl.Int64, "well": pl.String, "value": pl.String, "place": pl.String}

Row = tuple[int, list[str]]


def well(text: str) -> str | None:
    """ "a1", "A1" and "A01" are "A01"; None where ``text`` names no well."""
    match = WELL.fullmatch(text.strip())
    return f"{match.group(1).upper()}{int(match.group(2)):02d}" if match else None


def blocks(rows: list[Row], word: str, notes: Notes) -> pl.DataFrame:
    """Every matrix block of a grid as wells: columns block (its title), size, well, value (text), place.

    Parameters
    ----------
    rows : (row number, cells), top to bottom
    word : what a row is called in places ("line", "sheet 'x' row")

    A block is a row with 1, 2, ... 12 (or 24) in neighbouring cells over rows lettered in the cell before. Its title is
    the last text above it within three rows, else the corner, else "block <n>". A block that lacks a lettered row is
    noted and left out.
    """
    found: list[tuple[str, int, str, str | None, str]] = []
    titles: dict[str, int] = {}
    inside: set[tuple[int, int]] = set()  # (row, column) of wells: values 1, 2, ... 12 are no second header
    for index, (number, cells) in enumerate(rows):
        for start, width in _headers(cells):
            if (index, start) in inside:
                continue
            at = f"{word} {number}, column {start + 1}"
            expected = SIZES[width]
            lettered: list[Row] = []
            for below in rows[index + 1 : index + 1 + len(expected)]:
                label = below[1][start - 1].strip().upper() if start <= len(below[1]) else ""
                if label != expected[len(lettered)]:
                    break
                lettered.append(below)
            inside |= {(index + 1 + down, start + c) for down in range(len(lettered)) for c in range(width)}
            if not lettered:
                continue
            if len(lettered) < len(expected):
                missing = expected[len(lettered)]
                notes.add(at, f"a header of 1 to {width} without its row {missing!r}: the block is left out")
                continue
            title = _title(rows, index, start, width) or f"block {len(titles) + 1}"
            titles[title] = titles.get(title, 0) + 1
            if titles[title] > 1:
                notes.add(at, f"the title {title!r} stands over {titles[title]} blocks")
                title = f"{title} ({titles[title]})"
                titles[title] = 1
            for letter, (line, body) in zip(expected, lettered, strict=True):
                for column in range(width):
                    cell = body[start + column].strip() if start + column < len(body) else ""
                    place = f"{word} {line}, column {start + column + 1}"
                    found.append((title, width * len(expected), f"{letter}{column + 1:02d}", cell or None, place))
    return pl.DataFrame(found, schema=WELLS, orient="row")


def _headers(cells: list[str]) -> list[tuple[int, int]]:
    """(index of the cell "1", width) of every run 1, 2, ... 12 or 24 that has a cell before it."""
    out = []
    for start, cell in enumerate(cells):
        if start and _is(cell, 1):
            width = 1
            while start + width < len(cells) and _is(cells[start + width], width + 1):
                width += 1
            if width in SIZES:
                out.append((start, width))
    return out


def _is(cell: str, number: int) -> bool:
    return cell.strip() in (str(number), f"{number:02d}", f"{number}.0")


def _title(rows: list[Row], index: int, start: int, width: int) -> str:
    """The nearest row above with text over the block and no number in it; else the block's own corner."""
    number = rows[index][0]
    for above in range(index - 1, max(-1, index - 1 - ABOVE), -1):
        line, cells = rows[above]
        if number - line > ABOVE:
            break
        over = [c.strip() for c in cells[start - 1 : start + width] if c.strip()]
        if len(over) > 4 or (over and over[0].upper() in SIZES[24]):
            break  # a table or another block
        if over:
            return " ".join(over)
    corner = rows[index][1][start - 1].strip()
    return corner if corner not in ("<>", "", "-", "/") else ""
