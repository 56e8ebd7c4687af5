"""How many values of each feature, or of the endpoint by treatment, lie in each of equal bins that the server names.

A count below the policy's smallest cell is told together with the next ones above it.
"""

from __future__ import annotations

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask

PLAIN = (
    "For each feature, or for each treatment's response: how many values lie in each of a few intervals. They give "
    "histograms and quantiles over all sites together."
)
LEAVES = Leaves(
    arrays={"counts": "number of values below, in each interval, and above, for each feature or treatment"},
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    """``low`` and ``high`` (f,) or (t,) and ``bins`` of the ask: counts (f or t, bins + 2), first below, last above."""
    rows = _rows.of(site, ask)
    values = _rows.matrix_of(rows, ask)
    counts = _rows.counted(values, ask.arrays["low"], ask.arrays["high"], int(_rows.number(ask, "bins")))
    return Answer(
        rows.count,
        {"counts": _rows.merged(counts, site.policy.minimum_cell)},
        behind=rows.behind,
        quantity=rows.quantity,
    )
