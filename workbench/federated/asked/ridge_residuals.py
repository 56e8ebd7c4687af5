"""How large the errors on subjects not learnt from are: counts in intervals, for each treatment and for all together."""

from __future__ import annotations

import numpy as np

from workbench.federated import _rows
from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.site import SiteError

PLAIN = (
    "For each treatment, how many predictions for subjects that the model was not fitted to are wrong by how much, in a "
    "few intervals. They give the width of the intervals that the model promises."
)
LEAVES = Leaves(
    arrays={"counts": "number of errors below, in each interval, and above, by treatment, all together last"},
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    """``solutions`` (parts, k + 1, t); ``low``, ``high`` (t + 1,) and ``bins``: counts (t + 1, bins + 2) of |error|."""
    rows = _rows.of(site, ask)
    r = _rows.projected(site, rows, ask)
    solutions = np.asarray(ask.arrays["solutions"], dtype=np.float64)
    parts = int(_rows.number(ask, "parts"))
    if rows.y is None or solutions.shape != (parts, r.shape[1], rows.y.shape[1]):
        raise SiteError(f"solutions should be parts by axes by treatments, found {solutions.shape}.")
    part = rows.parts(parts, int(_rows.number(ask, "seed", 0)))
    size = np.full(rows.y.shape, np.nan)
    for p in range(parts):
        own = part == p
        size[own] = np.abs(rows.y[own] - r[own] @ solutions[p])
    low, high, bins = ask.arrays["low"], ask.arrays["high"], int(_rows.number(ask, "bins"))
    by = _rows.counted(size, low[:-1], high[:-1], bins)
    together = _rows.counted(size.reshape(-1, 1), low[-1:], high[-1:], bins)
    return Answer(rows.count, {"counts": np.concatenate([by, together])}, behind=rows.behind)
