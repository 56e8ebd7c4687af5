"""One round of learning an encoder: shared weights come, the site trains on its samples, the change leaves.

    change = share (w_site - w_shared),     share = samples of the site / rows of all

Samples without responses count as well (``pretraining.unlabelled``); responses are not looked at.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.network.local import asked_digest
from workbench.federated.network.training import seed_of
from workbench.federated.pretraining import local as _local

PLAIN = (
    "How the weights of a shared encoder change when it learns for a few epochs to tell hidden parts of the site's "
    "samples from the rest, times the site's share of all rows; and how large its errors were before, as sums. No "
    "response is used; samples without responses are, in the sums of features before it too."
)
LEAVES = Leaves(
    arrays={
        "change.*": "change of the encoder's weights, times the site's share",
        "share": "the site's share: its samples by the training rows of all",
        "learnt": "squared training error, times the share",
        "held_out": "sums of squared errors on hidden parts of samples not learnt from, and of telling the mean",
    },
    summed=True,
    moving=True,
)


def answer(site, ask: Ask) -> Answer:
    """Arrays of the ask: ``weights.*``.

    Values: number (of the round, from 0), rounds, epochs (of each), proximal, rows (of all sites), hide, hide_modality.
    """
    held = _local.of(site, ask)
    hide, whole = _rows.number(ask, "hide"), _rows.number(ask, "hide_modality")
    digest = asked_digest(ask) + repr([hide, whole])
    if held.answered is not None and held.answered[0] == digest:  # asked once more: the same answer
        return Answer(site.fold.train.height, held.answered[1])
    shared = {k.removeprefix("weights."): a for k, a in ask.arrays.items() if k.startswith("weights.")}
    module = _local.put(_local.built(held.plan, hide, whole), shared)
    number, rounds, epochs = (int(_rows.number(ask, k)) for k in ("number", "rounds", "epochs"))
    seed = seed_of(int(held.plan.params["seed"]), site.name)
    error, naive = held.held_out(module, seed_of(seed, f"held out {number}"))
    loss = held.train(module, number, rounds, epochs, seed, _rows.number(ask, "proximal"))
    after = _local.weights(module)
    share = len(held.subjects) / _rows.number(ask, "rows")
    arrays = {f"change.{k}": (after[k] - w) * np.float32(share) for k, w in shared.items()}
    arrays |= {
        "share": np.array([share]),
        "learnt": np.array([share * loss]),
        "held_out": np.array([error.sum(), naive.sum()]),
    }
    held.answered = (digest, arrays)
    return Answer(site.fold.train.height, arrays)
