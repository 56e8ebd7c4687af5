"""Sums of a site's features, or of its endpoint by treatment, under noise: the noisy form of ``moments``.

    first  = sum over persons of clip(v, C),  v = (value - shift) / scale, 0 where there is none      sensitivity C
    second = sum of clip(v^2, D), v^2 value by value                                                  sensitivity D
    count  = sum of which of t values there are, a vector no longer than sqrt(t)                sensitivity sqrt(t)

With ``axes`` in the ask the values are coordinates along them: a row of thousands of features is as long as all of them
together, and so is its noise; along a few dozen directions it is not.

Each moves by one person's part when that person leaves. Of features the number of persons is counted instead of every
feature's values: sensitivity 1; a feature that a person lacks counts as the shift.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.private import persons as _persons
from workbench.federated.site import SiteError

PLAIN = (
    "Sums and sums of squares of each feature, or of each treatment's response, in which no person counts for more "
    "than a set amount, under random noise that hides whether any one person is in them (differential privacy)."
)
LEAVES = Leaves(
    arrays={
        "count": "number of persons, or of values of each treatment, under noise",
        "first": "sum of each, less a value that the server names, clipped and under noise",
        "second": "sum of squares of the same, clipped and under noise",
    },
    summed=True,
    private=True,
)


def answer(site, ask: Ask) -> Answer:
    """``of`` "features" or "endpoint"; ``shift``, ``scale`` (f,) or (t,); ``clip``, ``clip_squares``, ``share_*``."""
    persons = _persons.of(site, ask)
    endpoint = ask.values.get("of", "features") == "endpoint"
    values = persons.y if endpoint else _persons.along(persons, ask) if "axes" in ask.arrays else persons.x
    shift, scale = (np.asarray(ask.arrays[k], dtype=np.float64) for k in ("shift", "scale"))
    if shift.shape != (values.shape[1],) or scale.shape != shift.shape or not (scale > 0).all():
        raise SiteError(f"shift and scale should have {values.shape[1]} numbers, scales above 0.")
    away = (values - shift) / scale
    long, squares = _persons.length(ask, "clip"), _persons.length(ask, "clip_squares")
    share = [_rows.number(ask, k) for k in ("share_count", "share_first", "share_second")]
    if endpoint:
        count, most = np.isfinite(values).sum(0).astype(np.float64), float(np.sqrt(values.shape[1]))
    else:
        count, most = np.array([float(len(values))]), 1.0
    sums = {
        "count": (count, most, share[0]),
        "first": (_persons.clipped(away, long).sum(0), long, share[1]),
        "second": (_persons.clipped(away**2, squares).sum(0), squares, share[2]),
    }
    return _persons.released(site, ask, {k: v for k, v in sums.items() if v[2] > 0})
