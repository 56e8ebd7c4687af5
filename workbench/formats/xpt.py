"""SAS transport files, version 5 (XPORT): SEND, SDTM and ADaM come in these.

The layout is SAS Institute's technical note TS-140, "The record layout of a data set in SAS transport (XPORT)
format": records of 80 bytes, a library header, then members; a member is its header, one 140-byte NAMESTR a
column, and rows of fixed length padded with blanks to a full record. Numbers are IBM System/360 floating point:
a sign bit, seven bits of exponent to base 16 in excess of 64, and a fraction of up to 56 bits. A number of fewer
than eight bytes has lost its last ones. The missing values ``.``, ``._`` and ``.A`` to ``.Z`` all become null.

Whether a row of blanks at the very end is a row or padding the format cannot say; as everywhere, it is padding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import polars as pl

from workbench.formats import FormatError

RECORD = 80
LIBRARY = b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!"
LONG_NAMES = b"HEADER RECORD*******LIBV8   HEADER RECORD!!!!!!!"
MEMBER = b"HEADER RECORD*******MEMBER  HEADER RECORD!!!!!!!"
DESCRIPTOR = b"HEADER RECORD*******DSCRPTR HEADER RECORD!!!!!!!"
NAMESTRS = b"HEADER RECORD*******NAMESTR HEADER RECORD!!!!!!!"
ROWS = b"HEADER RECORD*******OBS     HEADER RECORD!!!!!!!"
NAMESTR = struct.Struct(">hhhh8s40s8shhh2x8shhl")  # type, hash, length, number, name, label, format ..., offset
NAMESTR_BYTES = (140, 136)  # the shorter one comes from VAX/VMS
COLUMNS = ("member", "column", "label", "format", "kind", "width")


class Transport(TypedDict):
    """What a transport file holds, in plain parts.

    Attributes
    ----------
    members : data set name -> frame; text columns are String (empty where blank), numbers Float64 with nulls
    labels : data set name -> its label
    columns : one row a column: member, column, label, format (such as ``DATE9.``), kind ("text", "number"), width in
        bytes
    """

    members: dict[str, pl.DataFrame]
    labels: dict[str, str]
    columns: pl.DataFrame


@dataclass(frozen=True)
class _Column:
    name: str
    label: str
    format: str
    number: bool
    width: int
    offset: int


def read(data: bytes, file: str) -> Transport:
    """Every data set in ``data``.

    Text is UTF-8 where a column is valid UTF-8, else Windows-1252 (Latin-1 with printable marks), the two that
    occur; blanks at its end are cut.

    Raises
    ------
    FormatError
        Not a version 5 transport file, or cut, or any length or offset in it leads outside of what it describes.
    """
    if data[: len(LONG_NAMES)] == LONG_NAMES:
        raise FormatError(file, "byte 0", "expected SAS transport version 5, found version 8. Write it with version 5.")
    if data[: len(LIBRARY)] != LIBRARY:
        found = bytes(data[:20])
        raise FormatError(file, "byte 0", f"expected the header of a SAS transport file, version 5, found {found!r}")
    if len(data) % RECORD:
        reason = f"expected whole records of {RECORD} bytes, found {len(data):,} bytes: the file is cut or spliced"
        raise FormatError(file, "end", reason)
    result: Transport = {"members": {}, "labels": {}, "columns": pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))}
    described: list[tuple[str, str, str, str, str, int]] = []
    at = 3 * RECORD
    while at < len(data):
        name, label, columns, start = _member(data, file, at)
        at = _end(data, start)
        if name in result["members"]:
            raise FormatError(file, f"byte {start}", f"data set {name!r} stands in the file twice")
        result["members"][name] = _frame(data[start:at], columns, file, name)
        result["labels"][name] = label
        described += [(name, c.name, c.label, c.format, "number" if c.number else "text", c.width) for c in columns]
    if not result["members"]:
        raise FormatError(file, f"byte {at}", "expected a data set, found the end of the file")
    schema = dict.fromkeys(COLUMNS[:-1], pl.String) | {"width": pl.Int64}
    result["columns"] = pl.DataFrame(described, schema=schema, orient="row")
    return result


def _expect(data: bytes, at: int, header: bytes, file: str) -> bytes:
    """The record at ``at``, which must begin with ``header``."""
    record = data[at : at + RECORD]
    if record[: len(header)] != header:
        what = header[20:27].decode().strip()
        raise FormatError(file, f"byte {at}", f"expected the {what} header, found {bytes(record[:28])!r}")
    return record


def _member(data: bytes, file: str, at: int) -> tuple[str, str, list[_Column], int]:
    """Name, label, columns and first data byte of the member whose header stands at ``at``."""
    size = _digits(_expect(data, at, MEMBER, file)[74:78], file, f"byte {at + 74}", "bytes of a column's description")
    if size not in NAMESTR_BYTES:
        raise FormatError(file, f"byte {at + 74}", f"expected column descriptions of 140 bytes, found {size}")
    _expect(data, at + RECORD, DESCRIPTOR, file)
    name = _text(data[at + 2 * RECORD + 8 : at + 2 * RECORD + 16])
    label = _text(data[at + 3 * RECORD + 32 : at + 3 * RECORD + 72])
    if not name:
        raise FormatError(file, f"byte {at + 2 * RECORD + 8}", "expected the name of a data set, found blanks")
    at += 4 * RECORD
    count = _digits(_expect(data, at, NAMESTRS, file)[54:58], file, f"byte {at + 54}", "columns")
    at += RECORD
    if not count:
        raise FormatError(file, f"byte {at}", f"data set {name!r} has no columns")
    if at + count * size > len(data):
        raise FormatError(file, f"byte {at}", f"{count} columns are announced, and the file ends before their headers")
    columns = [_column(data[at + i * size : at + (i + 1) * size], file, at + i * size) for i in range(count)]
    _check(columns, file, at, name)
    at += -(-count * size // RECORD) * RECORD
    _expect(data, at, ROWS, file)
    return name, label, columns, at + RECORD


def _column(raw: bytes, file: str, at: int) -> _Column:
    fields = NAMESTR.unpack(raw[: NAMESTR.size])
    kind, _, width, _, name, label, form, form_width, decimals, _, _, _, _, offset = fields
    place = f"column description at byte {at}"
    if kind not in (1, 2):
        raise FormatError(file, place, f"expected type 1 (number) or 2 (text), found {kind}")
    if kind == 1 and not 2 <= width <= 8:
        raise FormatError(file, place, f"expected a number of 2 to 8 bytes, found {width}")
    if width < 1 or offset < 0:
        raise FormatError(file, place, f"expected a width and an offset that are not negative, found {width}, {offset}")
    if not (text := _text(name)):
        raise FormatError(file, place, "expected the name of a column, found blanks")
    shown = _text(form)
    if shown:
        shown += f"{form_width or ''}." + (f"{decimals}" if decimals else "")
    return _Column(text, _text(label), shown, kind == 1, width, offset)


def _check(columns: list[_Column], file: str, at: int, name: str) -> None:
    """Names must differ, and the columns must fill a row without gap or overlap."""
    place = f"data set {name!r}"
    names = [c.name for c in columns]
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise FormatError(file, place, f"column {twice!r} is described twice")
    expected = 0
    for column in sorted(columns, key=lambda c: c.offset):
        if column.offset != expected:
            reason = f"column {column.name!r} should begin at byte {expected} of a row, found {column.offset}"
            raise FormatError(file, f"{place}, descriptions at byte {at}", reason)
        expected += column.width


def _digits(raw: bytes, file: str, place: str, what: str) -> int:
    if not raw.isdigit():
        raise FormatError(file, place, f"expected the number of {what}, found {bytes(raw)!r}")
    return int(raw)


def _end(data: bytes, start: int) -> int:
    """Where the rows that begin at ``start`` end: at the next member's header, on a record, or the file's end."""
    at = data.find(MEMBER, start)
    while at >= 0 and at % RECORD:
        at = data.find(MEMBER, at + 1)
    return at if at >= 0 else len(data)


def _frame(raw: bytes, columns: list[_Column], file: str, name: str) -> pl.DataFrame:
    length = sum(c.width for c in columns)
    count = len(raw) // length
    while count and len(raw) - (count - 1) * length < RECORD and not raw[(count - 1) * length :].strip(b" "):
        count -= 1
    left = raw[count * length :]
    if len(left) >= RECORD or left.strip(b" \0"):
        row = f"data set {name!r}, row {count + 1}"
        raise FormatError(file, row, f"expected {length} bytes, found {len(left)}: the file is cut")
    grid = np.frombuffer(raw, np.uint8, count * length).reshape(count, length)
    series = []
    for c in columns:
        cells = np.ascontiguousarray(grid[:, c.offset : c.offset + c.width])
        series.append(_numbers(cells, c.name) if c.number else _strings(cells, c, file))
    return pl.DataFrame(series)


def _numbers(cells: np.ndarray, name: str) -> pl.Series:
    """IBM floating point, (n, width) bytes, as Float64."""
    full = np.zeros((len(cells), 8), np.uint8)
    full[:, : cells.shape[1]] = cells
    bits = full.view(">u8").reshape(-1).astype(np.uint64)
    fraction = bits & np.uint64(0x00FF_FFFF_FFFF_FFFF)
    power = 4 * ((bits >> np.uint64(56)).astype(np.int32) & 0x7F) - 4 * 64 - 56
    value = np.ldexp(fraction.astype(np.float64), power)
    value[full[:, 0] >= 0x80] *= -1
    first = full[:, 0]
    letter = (first == 0x2E) | (first == 0x5F) | ((first >= 0x41) & (first <= 0x5A))
    missing = letter & (fraction == 0)
    return pl.Series(name, value).set(pl.Series(missing), None) if missing.any() else pl.Series(name, value)


def _strings(cells: np.ndarray, column: _Column, file: str) -> pl.Series:
    """Fixed-width text, (n, width) bytes, without the blanks at its end."""
    used = cells if cells.any() else cells[:0]
    if len(used) and not (used >= 0x80).any():
        return _trimmed(cells.tobytes().decode("ascii"), column)
    rows = [bytes(r).rstrip(b" \0") for r in cells]
    for encoding in ("utf-8", "cp1252", "latin-1"):
        try:
            return pl.Series(column.name, [r.decode(encoding) for r in rows], dtype=pl.String)
        except UnicodeDecodeError:
            continue
    raise AssertionError("Latin-1 reads every byte")


def _trimmed(text: str, column: _Column) -> pl.Series:
    w = column.width
    return pl.Series(column.name, [text[i : i + w].rstrip(" \0") for i in range(0, len(text), w)], dtype=pl.String)


def _text(raw: bytes) -> str:
    return raw.rstrip(b" \0").decode("latin-1").strip()
