"""Zip archives looked at before anything is inflated: no bomb, no slip, no overlap, no secret."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections import Counter

from workbench.formats import FormatError, _kind

MEMBERS = 10_000
INFLATED = 512 * 2**20
RATIO = 200  # office files stay below 50; deflate can reach 1032
SLACK = 2**20  # bytes any member may inflate to, whatever its ratio


def members(data: bytes, file: str, reader: str) -> dict[str, bytes]:
    """Every file of the zip ``data``, inflated under a cap: name -> bytes.

    Raises
    ------
    FormatError
        Not a zip, damaged, encrypted, a name that leads out of a folder (zip slip), a name twice, members that share
        bytes, or more inflated bytes than declared or allowed (zip bomb).
    """
    _kind.expect(data, file, "a zip archive", reader)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        listed = archive.infolist()
    except Exception as error:  # zipfile raises many kinds on damaged directories
        raise FormatError(file, "zip directory", f"cannot be read: {type(error).__name__}: {error}") from None
    if len(listed) > MEMBERS:
        raise FormatError(file, "zip directory", f"{len(listed):,} members, at most {MEMBERS:,}: refused as a bomb")
    total, end = 0, 0
    seen = Counter(info.filename.casefold() for info in listed)
    for info in sorted(listed, key=lambda i: i.header_offset):
        place = f"member {info.filename!r}"
        if _leads_out(info.filename):
            raise FormatError(file, place, "its name leads out of the archive's folder (zip slip): refused")
        if seen[info.filename.casefold()] > 1:
            raise FormatError(file, place, "the name stands twice: refused, readers would disagree on which counts")
        if info.flag_bits & 1:
            raise FormatError(file, place, "is encrypted: remove the password and save again")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(
                file, place, f"compression method {info.compress_type} is refused: stored or deflate only"
            )
        if info.header_offset < end:
            raise FormatError(file, place, "shares its bytes with another member (overlap): refused as a bomb")
        end = info.header_offset + 30 + info.compress_size
        if info.file_size > SLACK + RATIO * info.compress_size:
            raise FormatError(
                file, place, f"declares {info.file_size:,} bytes from {info.compress_size:,}: refused as a bomb"
            )
        total += info.file_size
        if total > INFLATED:
            raise FormatError(file, place, f"over {INFLATED:,} bytes inflated: refused as a bomb")
    return {i.filename: _inflate(archive, i, file) for i in listed if not i.is_dir()}


def _leads_out(name: str) -> bool:
    parts = re.split(r"[/\\]", name)
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: str) -> bytes:
    """No more than it declares: a stream that gives more is lying."""
    try:
        with archive.open(info) as stream:
            content = stream.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise FormatError(file, f"member {info.filename!r}", f"is damaged: {error}") from None
    if len(content) != info.file_size:
        raise FormatError(
            file, f"member {info.filename!r}", f"declares {info.file_size:,} bytes and holds {len(content):,}"
        )
    return content
