"""How large the errors on subjects not learnt from are: counts in intervals, over all treatments together.

A count below the policy's smallest cell is told together with the next ones above it.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.site import SiteError

PLAIN = (
    "How many predictions for subjects that the model was not fitted to are wrong by how much, in a few intervals, "
    "over all treatments together. They give the width of the intervals that the model promises."
)
LEAVES = Leaves(arrays={"counts": "number of errors below, in each interval, and above"}, summed=True)


def answer(site, ask: Ask) -> Answer:
    """``solutions`` (parts, k + 1, t), ``scale`` (t,), ``low`` and ``high`` (2,), ``bins``: counts (2, bins + 2).

    First those of |error| / scale, then those of |error|.
    """
    rows = _rows.of(site, ask)
    r = _rows.projected(site, rows, ask)
    solutions, scale = (np.asarray(ask.arrays[k], dtype=np.float64) for k in ("solutions", "scale"))
    parts = int(_rows.number(ask, "parts"))
    if rows.y is None or solutions.shape != (parts, r.shape[1], rows.y.shape[1]) or len(scale) != rows.y.shape[1]:
        raise SiteError(f"solutions should be parts by axes by treatments, found {solutions.shape}.")
    part = rows.parts(parts, int(_rows.number(ask, "seed", 0)))
    size = np.full(rows.y.shape, np.nan)
    for p in range(parts):
        own = part == p
        size[own] = np.abs(rows.y[own] - r[own] @ solutions[p])
    both = np.stack([(size / scale).ravel(), size.ravel()], axis=1)
    counts = _rows.counted(both, ask.arrays["low"], ask.arrays["high"], int(_rows.number(ask, "bins")))
    counts = _rows.merged(counts, site.policy.minimum_cell)
    return Answer(rows.count, {"counts": counts}, behind=rows.behind, quantity=rows.quantity)
