"""Products of features and responses of all treatments at once, each person's two rows clipped, under noise.

    r_i = clip(z_i A - centre, C)      e_i = clip((y_i - shift) / scale, B), 0 where nothing was measured
    products = sum r_i e_i'            responses = sum e_i

Sensitivity to one person: |r_i e_i'| = |r_i| |e_i| <= C B; B. However many treatments a person was measured with, up to
all of them, e_i is one row of length B at most: all that is known of a person is hidden as one.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.private import persons as _persons
from workbench.federated.site import SiteError

PLAIN = (
    "How responses go with a few directions of the features, for all treatments, in which no person counts for more "
    "than a set amount, under random noise that hides whether any one person is in them (differential privacy)."
)
LEAVES = Leaves(
    arrays={
        "products": "response times coordinate, directions by treatments, clipped and under noise",
        "first": "sums along the directions, clipped and under noise",
        "responses": "sum of each treatment's responses, less a value that the server names, clipped and under noise",
    },
    summed=True,
    private=True,
)
PRODUCTS, RESPONSES, FIRST = 0.75, 0.2, 0.05  # shares of 1 / noise^2


def answer(site, ask: Ask) -> Answer:
    """``axes`` (f, k); ``mean``, ``sd`` (f,), ``centre`` (k,), ``shift``, ``scale`` (t,); both clips."""
    persons, long = _persons.of(site, ask), _persons.length(ask, "clip")
    wide = _persons.length(ask, "clip_responses")
    shift, scale = (np.asarray(ask.arrays[k], dtype=np.float64) for k in ("shift", "scale"))
    if shift.shape != (persons.y.shape[1],) or scale.shape != shift.shape or not (scale > 0).all():
        raise SiteError(f"shift and scale should have {persons.y.shape[1]} numbers, scales above 0.")
    centre = np.asarray(ask.arrays["centre"], dtype=np.float64)
    r = _persons.clipped(_persons.along(persons, ask) - centre, long)
    e = _persons.clipped((persons.y - shift) / scale, wide)
    sums = {
        "products": (r.T @ e, long * wide, PRODUCTS),
        "responses": (e.sum(0), wide, RESPONSES),
        "first": (r.sum(0), long, FIRST),
    }
    return _persons.released(site, ask, sums)
