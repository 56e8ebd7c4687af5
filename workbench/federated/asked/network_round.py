"""One round of training: shared weights come, the site trains on its own rows, the change of the weights leaves.

    change = weight (w_site - w_shared),     weight = rows of the site / 2^k,     2^k: not below the rows of all

so that the sum over sites, divided by the sum of the weights, is the weighted mean and no site's own change need be
seen. Divided by a power of two, a number of rows is exact: the mean of float64 changes is the mean of the weights to
the last bit. With shares of all rows in its place, a mean halfway between two float32 numbers fell to either side, and
twenty rounds of training made 2e-6 of it.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.network import local as _network_local
from workbench.federated.network.module import weights
from workbench.federated.network.training import trained, weight_of
from workbench.federated.site import SiteError

PLAIN = (
    "How the weights of the shared network change when it is trained on the site's rows for a few epochs, times the "
    "site's rows by a number that all sites share; and how large the network's errors were on the site's rows before, "
    "as sums."
)
LEAVES = Leaves(
    arrays={
        "change.*": "change of the network's weights, times the site's rows by a power of two",
        "share": "the site's share of all training rows",
        "learnt": "squared training error, times the share",
        "held_out": "sum of squared errors of predictions that had not seen their row, and number of rows",
    },
    summed=True,
    by_rows=True,
    moving=True,
)


def answer(site, ask: Ask) -> Answer:
    """Arrays of the ask: ``weights.*``, offset (T,), sigma (1,).

    Values: number (of the round, from 0), rounds, epochs (of each), proximal, own, keep_optimizer, rows (of all sites),
    double (the change leaves as float64),
    been (sites that took part in an earlier round, where own or keep_optimizer is in use).
    """
    local, asked = _network_local.of(site, ask), _network_local.Asked(ask)
    if local.answered is not None and local.answered[0] == asked:  # once more: the same answer, not two trainings
        return Answer(local.train.height, local.answered[1], behind=local.behind)
    sigma = float(ask.arrays["sigma"][0])
    shared = {k.removeprefix("weights."): a for k, a in ask.arrays.items() if k.startswith("weights.")}
    own = tuple(_rows.texts(ask, "own"))
    if local.trained < 0 and site.name in _rows.texts(ask, "been"):  # begun anew it would be another training, unsaid
        gone = "layers of its own" if own else "its optimiser's state"
        raise SiteError(
            f"this site took part before and no longer has {gone}: its process was ended. Start the "
            "training again, or without own and keep_optimizer."
        )
    module = local.network(shared, sigma)
    rows = local.rows(ask.arrays["offset"], sigma)
    miss = local.held_out(module) - rows.target.numpy()
    number = int(_rows.number(ask, "number"))
    kept = local.optimizer if ask.values["keep_optimizer"] and local.trained == number - 1 else None
    trained(module, rows, ask, site.name, kept)
    after = weights(module)
    local.own = {k: a for k, a in after.items() if k.startswith(own)} if own else {}
    local.optimizer, local.trained = (module.optimizer_.state_dict() if ask.values["keep_optimizer"] else None), number
    of = int(_rows.number(ask, "rows"))
    share, weight = local.train.height / of, weight_of(local.train.height, of)
    wide = np.float64 if ask.values.get("double") else np.float32
    arrays: dict[str, np.ndarray] = {}
    for k, w in shared.items():
        if not k.startswith(own or "\0"):
            change = arrays[f"change.{k}"] = np.subtract(after[k], w, dtype=wide)
            np.multiply(change, weight, out=change)
    seen = module.seen_.tolist()
    local.keep(module)
    arrays |= {
        "share": np.array([share]),
        "learnt": np.array([share * seen[0] / max(seen[1], 1.0)]),
        "held_out": np.array([float((miss.astype(np.float64) ** 2).sum()), float(len(miss))]),
    }
    local.answered = (asked, arrays)
    return Answer(local.train.height, arrays, behind=local.behind)
