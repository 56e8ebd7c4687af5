"""How large the errors of the whole predictor are on rows it has not learnt from: by treatment, and in intervals.

A residual is of a prediction that has not learnt from its row: by the member and the closed form of the row's part.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.network import local as _network_local
from workbench.federated.network.module import set_weights

PLAIN = (
    "For each treatment the number of measured pairs and the sum of squared errors of predictions that had not learnt "
    "from them; then how many errors, over all treatments together, lie in which interval. For the width of the "
    "intervals that the model promises. Treatments with few rows are left out."
)
LEAVES = Leaves(
    arrays={
        "count": "measured pairs by treatment",
        "square": "sum of squared errors by treatment",
        "held_out": "sum of squared errors of the network alone, and number of pairs",
        "counts": "number of errors in each interval, over all treatments",
    },
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    """Arrays of the ask: ``weights.*``, offset (T,), sigma (1,), solutions (parts, k + 1, T).

    With scale (T,), low and high (2,) too: counts (2, bins + 2) of |error| / scale and of |error|.
    """
    local = _network_local.of(site, ask)
    size, deep = _errors(local, ask)
    count = np.bincount(local.drug, minlength=len(local.plan.treatments))
    count[count < local.least] = 0
    told = count[local.drug] > 0
    if "scale" in ask.arrays:
        both = np.stack([size / ask.arrays["scale"][local.drug], size], axis=1)[told]
        counts = _rows.counted(both, ask.arrays["low"], ask.arrays["high"], int(_rows.number(ask, "bins")))
        arrays = {"counts": _rows.merged(counts, local.least)}
    else:
        square = np.bincount(local.drug[told], size[told] ** 2, minlength=len(count))
        held = np.array([float((deep[told] ** 2).sum()), float(told.sum())])
        arrays = {"count": count, "square": square, "held_out": held}
    return Answer(local.train.height, arrays, behind=local.behind)


def _errors(local, ask: Ask) -> tuple[np.ndarray, np.ndarray]:
    """|error| of each row in the endpoint's unit, and the network's own error; kept for the next ask about the same."""
    digest = _network_local.asked_digest(ask, "scale", "low", "high")
    if local.residual is None or local.residual[0] != digest:
        sigma, offset = float(ask.arrays["sigma"][0]), ask.arrays["offset"][local.drug]
        module = local.module(sigma)
        shared = {k.removeprefix("weights."): a for k, a in ask.arrays.items() if k.startswith("weights.")}
        set_weights(module, shared | local.own)
        deep = local.held_out(module) * sigma
        value, w = local.train["value"].to_numpy(), _rows.number(ask, "closed_form_share")
        closed = local.closed(ask.arrays["solutions"], str(ask.values["modality"]))
        blind = offset + w * (closed - offset) + (1 - w) * deep
        local.residual = (digest, np.abs(value - blind), value - offset - deep)
    return local.residual[1], local.residual[2]
