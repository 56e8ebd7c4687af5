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
FIRST = 0.05  # share of 1 / noise^2; that of the responses is asked for, the products have the rest


def answer(site, ask: Ask) -> Answer:
    """``axes`` (f, k); ``mean``, ``sd`` (f,), ``centre`` (k,), ``shift``, ``scale`` (t,); ``clip``, ``clip_responses``,
    ``share_responses``.
    """
    persons, r, long = _persons.centred(site, ask)
    wide, share = _persons.length(ask, "clip_responses"), _persons.length(ask, "share_responses")
    if share >= 1 - FIRST:
        raise SiteError(f"share_responses should be below {1 - FIRST}, found {share}.")
    shift, scale = (np.asarray(ask.arrays[k], dtype=np.float64) for k in ("shift", "scale"))
    if shift.shape != (persons.y.shape[1],) or scale.shape != shift.shape or not (scale > 0).all():
        raise SiteError(f"shift and scale should have {persons.y.shape[1]} numbers, scales above 0.")
    e = _persons.clipped((persons.y - shift) / scale, wide)
    sums = {
        "products": (r.T @ e, long * wide, 1 - FIRST - share),
        "responses": (e.sum(0), wide, share),
        "first": (r.sum(0), long, FIRST),
    }
    return _persons.released(site, ask, sums)
