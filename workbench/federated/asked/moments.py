"""Sums of a site's features, or of its endpoint by treatment, about a value that the server names.

    count = number of values,  first = sum (v - shift),  second = sum (v - shift)^2

With the shift near the mean nothing cancels. Source: Chan, Golub and LeVeque 1983, American Statistician 37:242.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.site import SiteError

PLAIN = (
    "For each feature, or for each treatment's response: how many values there are, their sum and their sum of "
    "squares. They give means and spreads over all sites together."
)
LEAVES = Leaves(
    arrays={
        "count": "number of values of each feature or treatment",
        "subjects": "number of training subjects",
        "first": "sum of each, less a value that the server names",
        "second": "sum of squares of the same",
    },
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    """``of`` in the ask's values: "features" or "endpoint"; ``shift``: (f,) or (t,)."""
    rows = _rows.of(site, ask)
    values = _rows.matrix_of(rows, ask)
    shift = np.asarray(ask.arrays.get("shift", np.zeros(values.shape[1])), dtype=np.float64)
    if shift.shape != (values.shape[1],):
        raise SiteError(f"shift should have {values.shape[1]} numbers, found {shift.shape}.")
    there = np.isfinite(values)
    away = np.where(there, values - shift, 0.0)
    arrays = {
        "count": there.sum(0),
        "subjects": np.array([len(values)]),
        "first": away.sum(0),
        "second": (away * away).sum(0),
    }
    return Answer(rows.count, arrays, behind=rows.behind, quantity=rows.quantity)
