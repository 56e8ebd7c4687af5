"""What a file is, by its bytes: a name is a claim, the first bytes are evidence.

A pickle is found by its grammar (``pickletools`` parses, nothing runs), in any protocol; a zip that holds one is still
a zip, and no reader here takes a pickle out of it.
"""

from __future__ import annotations

import pickletools
import zlib

from workbench.formats import FormatError

MARKS = (
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "gzip"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "an Arrow file"),
    (b"HEADER RECORD*******LIBRARY HEADER RECORD", "SAS transport"),
    (b"HEADER RECORD*******LIBV8", "SAS transport v8"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file (OLE)"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%PDF-", "PDF"),
    (b"\x7fELF", "an executable (ELF)"),
    (b"MZ\x90", "an executable (PE)"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"RDX2\n", "R data"),
    (b"RDX3\n", "R data"),
)
BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
PICKLED = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
SAMPLE = 1 << 16
INFLATED = 2**30  # bytes a gzip member may become


def kind(data: bytes) -> str:
    """What ``data`` is: one of ``MARKS``, "a pickle", "HTML", "XML", "text", "nothing (empty)" or "binary"."""
    if not data:
        return "nothing (empty)"
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    if _is_pickle(data):
        return "a pickle"
    if len(data) > 262 and data[257:262] == b"ustar":
        return "a tar archive"
    if data.startswith(BOMS[1:]):
        return "text"
    head = data[:SAMPLE]
    if b"\0" in head:
        return "binary"
    start = head.removeprefix(BOMS[0]).lstrip()[:256].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    if start.startswith(b"<?xml"):
        return "XML"
    control = sum(head.count(c) for c in range(32) if c not in b"\t\n\r\f")
    return "binary" if control else "text"


def expect(data: bytes, file: str, wanted: str, reader: str) -> None:
    """Refuse ``data`` unless it is ``wanted`` (a word of ``kind``).

    Raises
    ------
    FormatError
        It is something else; the message says what.
    """
    found = kind(data)
    if found != wanted:
        raise FormatError(
            file, "start", f"expected {wanted} ({reader}), found {found}: the content does not match the name"
        )


def _is_pickle(data: bytes) -> bool:
    """Does ``data`` parse as a pickle that builds objects (or as any pickle of protocol 2 and later)?"""
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    stop = data.rfind(b".")
    if stop < 0 or len(data) - stop > 64 or data[:1] not in b"(]}cilIVSF\x8c\x8e\x80":
        return False
    seen = set()
    try:
        for opcode, _, _ in pickletools.genops(data):
            seen.add(opcode.name)
    except Exception:  # not a pickle: the parser may fail in any way on other content
        return False
    return bool(seen & PICKLED)


def gunzip(data: bytes, file: str, limit: int = INFLATED) -> bytes:
    """``data`` inflated where it is gzip, unchanged where it is not.

    Raises
    ------
    FormatError
        Damaged, cut, followed by rubbish, or larger than ``limit`` bytes once inflated (a bomb).
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    parts, size, rest = [], 0, data
    while rest:
        if not rest.startswith(b"\x1f\x8b"):
            if rest.strip(b"\0"):
                raise FormatError(file, f"byte {len(data) - len(rest)}", "something else follows the gzip stream")
            break
        reader = zlib.decompressobj(wbits=31)
        while not reader.eof:
            try:
                piece = reader.decompress(rest, 1 << 22)
            except zlib.error as error:
                raise FormatError(file, f"about byte {len(data) - len(rest)}", f"gzip is damaged: {error}") from None
            rest = reader.unconsumed_tail
            size += len(piece)
            if size > limit:
                raise FormatError(
                    file, "gzip", f"inflates from {len(data):,} to over {limit:,} bytes: refused as a bomb"
                )
            parts.append(piece)
            if not piece and not rest and not reader.eof:
                raise FormatError(file, "end", "the gzip stream is cut")
        rest = reader.unused_data
    return b"".join(parts)
