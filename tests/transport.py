"""SAS transport files, version 5, written for the tests: what the reader is checked on where no real file has it."""

from __future__ import annotations

import math
import struct
from typing import Any

Column = tuple[str, str, int, list[Any]]  # name, label, width (negative: a number of that many bytes), values


def ibm(value: float | str | None, width: int = 8) -> bytes:
    """IBM System/360 floating point; text is the letter of a special missing value, None the plain one."""
    if value is None or isinstance(value, str):
        return (value or ".").encode() + bytes(width - 1)
    if value == 0:
        return bytes(width)
    mantissa, power = math.frexp(abs(value))
    hexes = -(-power // 4)
    fraction = int(math.ldexp(mantissa, 56 + power - 4 * hexes))
    sign = 0x80 if value < 0 else 0
    return struct.pack(">Q", ((sign | (hexes + 64)) << 56) | fraction)[:width]


def padded(data: bytes) -> bytes:
    return data + b" " * (-len(data) % 80)


def header(what: str, tail: str = "0" * 30) -> bytes:
    return f"HEADER RECORD*******{what:<8}HEADER RECORD!!!!!!!{tail}  ".encode()


def write(members: dict[str, list[Column]], label: str = "made for a test") -> bytes:
    """The file with ``members``; a text value may be bytes."""
    stamp = b"01JAN26:00:00:00"
    out = [header("LIBRARY")]
    out.append(b"SAS     SAS     SASLIB  9.4     X64     " + b" " * 24 + stamp)
    out.append(padded(stamp))
    for name, columns in members.items():
        out.append(header("MEMBER", "0" * 17 + "16" + "0" * 8 + "140"))
        out.append(header("DSCRPTR"))
        out.append(b"SAS     " + name.encode().ljust(8) + b"SASDATA 9.4     X64     " + b" " * 24 + stamp)
        out.append(stamp + b" " * 16 + label.encode().ljust(40) + b" " * 8)
        out.append(header("NAMESTR", f"000000{len(columns):04d}" + "0" * 20))
        described, offset = b"", 0
        for number, (column, title, width, _) in enumerate(columns, 1):
            kind = 1 if width < 0 else 2
            described += struct.pack(">hhhh", kind, 0, abs(width), number) + column.encode().ljust(8)
            described += title.encode("latin-1").ljust(40) + b" " * 8 + bytes(8) + b" " * 8 + bytes(4)
            described += struct.pack(">l", offset) + bytes(52)
            offset += abs(width)
        out.append(padded(described))
        out.append(header("OBS"))
        rows = zip(*([_cell(v, width) for v in values] for _, _, width, values in columns), strict=True)
        out.append(padded(b"".join(b"".join(row) for row in rows)))
    return b"".join(out)


def _cell(value: Any, width: int) -> bytes:
    if width < 0:
        return ibm(value, -width)
    return (value if isinstance(value, bytes) else value.encode()).ljust(width)
