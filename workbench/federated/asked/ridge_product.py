"""One product of conjugate gradients: what the measured subjects make of each direction that the server sends.

    products[:, c] = sum over subjects measured with the treatment of c, outside the part left out, of r (r . v_c)

What it shows: one weighted sum of subjects a direction. Enough directions of one treatment would give its Gram matrix,
and two treatments' Gram matrices differ by the few subjects that were measured with one of them only; so a site answers
fewer directions of a treatment than there are axes in one ask, and where sums are secure, nobody sees its part.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.site import SiteError

PLAIN = "For each treatment, one weighted sum over the measured subjects along the shared directions, each round anew."
LEAVES = Leaves(arrays={"products": "axes by columns: weighted sums over subjects"}, summed=True)


def answer(site, ask: Ask) -> Answer:
    """``directions`` (k + 1, c), ``treatment`` (c,), ``part`` (c,) of the ask."""
    rows = _rows.of(site, ask)
    r = _rows.projected(site, rows, ask)
    directions = np.asarray(ask.arrays["directions"], dtype=np.float64)
    columns = _rows.Columns.of(ask, rows, most=max(r.shape[1] - 2, 1))
    if directions.shape != (r.shape[1], len(columns.treatment)):
        raise SiteError(f"directions should be {(r.shape[1], len(columns.treatment))}, found {directions.shape}.")
    part = rows.parts(int(_rows.number(ask, "parts")), int(_rows.number(ask, "seed", 0)))
    out = np.empty_like(directions)
    for at in columns.slices():
        out[:, at] = r.T @ np.where(columns.teaching(rows, part, at), r @ directions[:, at], 0.0)
    return Answer(rows.count, {"products": out}, behind=rows.behind, quantity=rows.quantity)
