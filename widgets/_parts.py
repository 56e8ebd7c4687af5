"""What the widgets' two halves share: packed columns, and one module of JavaScript made of several files.

``pack`` lays columns out as bytes, so that 220,000 rows cross to the browser as typed arrays and not as JSON::

    4 bytes   little-endian length H of the header
    H bytes   the header, JSON in UTF-8, padded with blanks so that 4 + H is a multiple of 8
    buffers   one a column, each starting at a multiple of 8

The header's ``columns`` maps each name to ``[type, offset, length]``: ``type`` is ``f4 i4 i2 i1 u1`` (little endian),
``offset`` counts bytes from the end of the header. All other entries of the header are the widget's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_LABELS = {"ln_ic50": "ln IC50", "auc": "AUC", "activity_area": "activity area"}
_TYPES = {"f4", "i4", "i2", "i1", "u1"}
_IMPORT = re.compile(r'^import .* from "\./(_\w+)\.js";\n', re.MULTILINE)


def pack(columns: Mapping[str, np.ndarray], **header: Any) -> bytes:
    """Columns and a header of JSON values as one run of bytes (layout above).

    Raises
    ------
    TypeError
        A column's type is none of f4, i4, i2, i1, u1: the browser has no typed array for it here.
    """
    places, buffers, offset = {}, [], 0
    for name, column in columns.items():
        kind = column.dtype.newbyteorder("<").str.lstrip("<|")
        if kind not in _TYPES:
            raise TypeError(f"pack: column {name!r} is {column.dtype}, not one of {sorted(_TYPES)}. Cast it before.")
        raw = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<")).tobytes()
        places[name] = [kind, offset, len(column)]
        padded = raw + b"\0" * (-len(raw) % 8)
        buffers.append(padded)
        offset += len(padded)
    head = json.dumps({**header, "columns": places}, ensure_ascii=False, allow_nan=False).encode()
    head += b" " * (-(len(head) + 4) % 8)
    return len(head).to_bytes(4, "little") + head + b"".join(buffers)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and columns of what ``pack`` made; what the browser does, for tests and for people without one."""
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    start = 4 + length
    columns = {
        name: np.frombuffer(data, dtype=f"<{kind}", count=count, offset=start + offset)
        for name, (kind, offset, count) in header.pop("columns").items()
    }
    return header, columns


def esm(stem: str) -> str:
    """The JavaScript module of one widget as text, complete: the private files that it imports, then ``<stem>.js``.

    All files are plain modules that node can import; in the browser a module made of text has no folder to import
    from, so each line that imports a private file is replaced by that file, once.
    """
    here = Path(__file__).parent
    done: set[str] = set()

    def inline(name: str) -> str:
        done.add(name)
        text = (here / f"{name}.js").read_text(encoding="utf-8")
        needed = [inline(found) for found in _IMPORT.findall(text) if found not in done]
        return "\n".join([*needed, _IMPORT.sub("", text)])

    return inline(stem)


def readable(endpoint: str, unit: str) -> tuple[str, str]:
    """Endpoint and unit as people write them: ln_ic50 in ln(uM) is ln IC50 in ln(\u00b5M); others stay as they are."""
    return _LABELS.get(endpoint, endpoint), unit.replace("uM", "\u00b5M")
