"""How many persons carry something: of each feature, those with a value other than 0 (a mutation, a gain or a loss).

Features that few persons carry are the leak of every later sum: along one carried by a single person it is that
person's row. They are left out before anything else is asked (``exact.carried``). A count below the policy's smallest
cell is told only where it can leave in no way but masked; else it stays here, and that it does is what is told.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.pretraining import unlabelled as _unlabelled

PLAIN = (
    "For each feature, how many persons have a value other than 0, to leave out features that only few have (a rare "
    "mutation tells of single persons). Where the server could see this site's own count, small ones are left out."
)
LEAVES = Leaves(
    arrays={
        "carriers": "number of persons with a value other than 0, by feature",
        "few": "whether the number is too small to be told, by feature",
    },
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    rows = _rows.of(site, ask)
    names, at = np.unique(_unlabelled.persons(site.fold, rows.subjects), return_inverse=True)
    carries = np.zeros((len(names), rows.x.shape[1]), dtype=bool)
    np.logical_or.at(carries, at, np.isfinite(rows.x) & (rows.x != 0))
    count = carries.sum(0)
    seen = bool(site.outgoing) and not site.policy.secure  # a rehearsal without a gate keeps every feature it can
    few = (count < site.policy.minimum_cell) & seen
    count[few] = 0
    arrays = {"carriers": count, "few": few}
    return Answer(rows.count, arrays, behind=rows.behind, quantity=rows.quantity)
