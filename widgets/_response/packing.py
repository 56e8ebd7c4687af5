"""Predictions in a tenth of the room: what a report carries so that the explorer runs in it without a server.

``squeeze`` takes the bytes of ``pack_predictions`` and gives base64 text of a gzip stream; ``report.js`` undoes it to
the same layout. Fractional columns become 16-bit steps between their extremes (an interval's ends as distances from
the prediction, which repeat and so cost next to nothing), indices become differences, and bytes are laid out plane by
plane, high bytes first, where they resemble each other. Layout of the stream: 4 bytes little-endian length of the
header, the header in JSON, then the columns in the order of its list
``squeezed``: ``[name, type, coding, low, step, from]``.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np

from widgets._parts import unpack

GAP = 65535  # stands for NaN


def squeeze(packed: bytes, **extra: Any) -> tuple[str, float]:
    """Base64 text of the packed predictions, and the largest rounding of a value (in the endpoint's unit).

    ``extra`` joins the header. An interval without a prediction is left out: nothing could draw it.
    """
    header, columns = unpack(packed)
    listed: list[list[Any]] = []
    planes: list[bytes] = []
    rounding: dict[str, float] = {}
    for name, column in columns.items():
        kind = column.dtype.newbyteorder("<").str.lstrip("<|")
        stem, _, k = name.partition(".")
        if kind == "f4":
            origin = f"predicted.{k}" if stem in ("low", "high") else None
            # distances from the exact prediction: from the rounded one they would no longer repeat
            values = column.astype(np.float64) - (columns[origin].astype(np.float64) if origin else 0.0)
            finite = np.isfinite(values)
            low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
            step = (high - low) / (GAP - 1) or 1.0
            steps = np.where(finite, np.round((np.where(finite, values, low) - low) / step), GAP).astype("<u2")
            planes.append(_planes(steps))
            listed.append([name, kind, "steps", low, step, origin])
            rounding[name] = step / 2 + (rounding[origin] if origin else 0.0)
        elif name in ("start", "subject"):
            planes.append(_planes(np.diff(column, prepend=np.zeros(1, column.dtype)).astype("<i4")))
            listed.append([name, kind, "differences", 0, 0, None])
        else:
            planes.append(_planes(column))
            listed.append([name, kind, "plain", 0, 0, None])
    counts = {name: len(column) for name, column in columns.items()}
    head = json.dumps({**header, **extra, "squeezed": listed, "counts": counts}, allow_nan=False).encode()
    stream = len(head).to_bytes(4, "little") + head + b"".join(planes)
    return base64.b64encode(gzip.compress(stream, compresslevel=6, mtime=0)).decode(), max(rounding.values())


def _planes(column: np.ndarray) -> bytes:
    raw = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), column.dtype.itemsize)
    return np.ascontiguousarray(raw[:, ::-1].T).tobytes()
