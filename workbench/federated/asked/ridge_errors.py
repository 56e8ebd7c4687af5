"""How wrong each candidate is on the subjects it has not learnt from: squared errors summed over those of its part."""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.site import SiteError

PLAIN = "For each treatment and candidate model, the sum of its squared errors on subjects that it was not fitted to."
LEAVES = Leaves(arrays={"squares": "sum of squared errors of each candidate"}, summed=True)


def answer(site, ask: Ask) -> Answer:
    """``solutions`` (k + 1, c), ``treatment`` (c,), ``part`` (c,) of the ask: sums over the subjects of each part."""
    rows = _rows.of(site, ask)
    r = _rows.projected(site, rows, ask)
    solutions = np.asarray(ask.arrays["solutions"], dtype=np.float64)
    columns = _rows.Columns.of(ask, rows, most=max(r.shape[1] - 2, 1))
    if solutions.shape != (r.shape[1], len(columns.treatment)) or rows.y is None:
        raise SiteError(f"solutions should be {(r.shape[1], len(columns.treatment))}, found {solutions.shape}.")
    part = rows.parts(int(_rows.number(ask, "parts")), int(_rows.number(ask, "seed", 0)))
    squares = np.empty(solutions.shape[1])
    for at in columns.slices():
        own = columns.left_out(rows, part, at)
        error = np.where(own, rows.y[:, columns.treatment[at]] - r @ solutions[:, at], 0.0)
        squares[at] = (error * error).sum(0)
    return Answer(rows.count, {"squares": squares}, behind=rows.behind, quantity=rows.quantity)
