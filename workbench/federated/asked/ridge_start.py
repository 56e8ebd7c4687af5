"""What a ridge starts from: the Gram matrix of all training subjects on the shared axes, and responses times axes.

    gram = [R 1]'[R 1],   products[:, d, p] = sum over subjects of part p measured with d of [r 1] y,   R = Z V (n, k)

What it shows: the second moments of the site's subjects along k directions; k is below their number, so they do not
show the rows. ``products`` are weighted sums over the subjects of a part that were measured with a treatment; none is
of fewer subjects than the policy's smallest cell (``_rows``).
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.site import SiteError

PLAIN = (
    "How the subjects vary along the shared directions (one table for all of them), and for each treatment the "
    "responses summed with those directions. A regression is fitted to the sums of all sites."
)
LEAVES = Leaves(
    arrays={
        "gram": "axes by axes: sums of products over all training subjects",
        "products": "axes by treatments by parts: sums of coordinate times response",
        "count": "number of responses by treatment",
        "subjects": "number of training subjects",
    },
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    """``parts`` and ``seed`` deal the inner parts by a hash of the subject's name."""
    rows = _rows.of(site, ask)
    if rows.y is None:
        raise SiteError("no treatments are named.")
    r, parts = _rows.projected(site, rows, ask), int(_rows.number(ask, "parts"))
    part = rows.parts(parts, int(_rows.number(ask, "seed", 0)))
    there = np.isfinite(rows.y)
    y = np.where(there, rows.y, 0.0)
    products = np.stack([r.T @ (y * (part == p)[:, None]) for p in range(parts)], axis=2)
    arrays = {"gram": r.T @ r, "products": products, "count": there.sum(0), "subjects": np.array([len(r)])}
    return Answer(rows.count, arrays, behind=rows.behind, quantity=rows.quantity)
