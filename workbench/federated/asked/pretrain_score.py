"""How well an encoder tells hidden parts of samples that it has not learnt from: six sums for each kind of data.

    count,  E = sum e,  N = sum n,  sum e^2,  sum e n,  sum n^2          e, n: squared errors of one person

e is the encoder's on the hidden part, n that of telling the mean. They give R^2 = 1 - E / N with an interval over
persons, and nobody's own figure.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.network.training import seed_of
from workbench.federated.pretraining import local as _local

PLAIN = (
    "How wrong the shared encoder is on hidden parts of samples that it has not learnt from, and how wrong the mean "
    "would be: sums and sums of squares over persons, for each kind of data. Kinds of data that few have are left out."
)
LEAVES = Leaves(
    arrays={
        "count": "number of persons with hidden parts, by kind of data, and in all",
        "sums": "kinds of data, and all, by five: sums of the errors, of the mean's, of squares and products",
    },
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    """Arrays of the ask: ``weights.*``; values: hide, hide_modality, draw (what is hidden is drawn by it)."""
    held = _local.of(site, ask)
    shared = {k.removeprefix("weights."): a for k, a in ask.arrays.items() if k.startswith("weights.")}
    module = _local.put(_local.built(held.plan, _rows.number(ask, "hide"), _rows.number(ask, "hide_modality")), shared)
    seed = seed_of(int(held.plan.params["seed"]), f"{site.name}\x1f{int(_rows.number(ask, 'draw'))}")
    error, naive = (np.column_stack([a, a.sum(1)]) for a in held.held_out(module, seed))
    _, code = np.unique(held.person, return_inverse=True)
    e, n = (np.stack([np.bincount(code, a) for a in table.T], axis=1) for table in (error, naive))
    count = (n > 0).sum(0)
    sums = np.stack([e.sum(0), n.sum(0), (e * e).sum(0), (e * n).sum(0), (n * n).sum(0)], axis=1)
    few = count < held.least
    count[few], sums[few] = 0, 0.0
    return Answer(site.fold.train.height, {"count": count, "sums": sums})
