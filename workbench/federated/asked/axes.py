"""One step of block power iteration: the site's standardised features, times the server's axes, times themselves again.

    step = Z' (Z V),   Z (n, f) standardised by the shared mean and sd,   V (f, k)

What it shows: k combinations of the site's rows. With k at or above the number of rows they span all of them, and
whether a known profile is among the rows could be seen; so a site with no more subjects than axes refuses.
Source: Halko, Martinsson and Tropp 2011, SIAM Review 53:217, section 4.5.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.site import SiteError

PLAIN = (
    "Mixtures of the features of all training subjects, fewer than there are subjects, from which the sites find the "
    "directions in which samples differ most. No mixture is of one subject alone."
)
LEAVES = Leaves(arrays={"step": "features by axes: weighted sums over all training subjects"}, summed=True)


def answer(site, ask: Ask) -> Answer:
    """``axes`` (f, k), ``mean`` and ``sd`` (f,) of the ask."""
    rows = _rows.of(site, ask)
    axes = np.asarray(ask.arrays["axes"], dtype=np.float64)
    if axes.ndim != 2 or len(axes) != rows.x.shape[1]:
        raise SiteError(f"axes should be ({rows.x.shape[1]}, k), found {axes.shape}.")
    _rows.enough_subjects(site, rows, axes.shape[1])
    z = _rows.standardised(rows, ask)
    return Answer(rows.count, {"step": z.T @ (z @ axes)}, behind=rows.behind, quantity=rows.quantity)
