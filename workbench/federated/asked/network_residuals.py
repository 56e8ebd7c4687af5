"""How many left-out residuals of the network lie below thresholds the server gives: intervals without a residual.

A residual is of a prediction that has not learnt from its row: by the member and the closed form of the row's part. A
count that would tell of 1 to minimum_cell - 1 pairs, below or above a threshold, is rounded at random to 0 or to
minimum_cell so that its mean is right (as statistical offices do; Fellegi 1975). Differences of two counts may be
small.
"""

from __future__ import annotations

import hashlib

import numpy as np

from workbench.federated import _network_local, _rows
from workbench.federated._response_module import set_weights
from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask

PLAIN = (
    "For each treatment, how many of the site's measured pairs the network misses by less than a threshold, having "
    "not learnt from them; for the width of its intervals. Small counts are rounded at random."
)
LEAVES = Leaves(
    arrays={
        "count": "measured pairs by treatment, and of all",
        "square": "sum of squared residuals by treatment, and of all",
        "below": "residuals no larger than each threshold, by treatment, and of all",
        "held_out": "sum of squared errors of the network alone, and number of pairs",
    },
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    """Arrays of the ask: ``weights.*``, offset (T,), sigma (1,), solutions (parts, k + 1, T), thresholds (T + 1, m)."""
    local, limits = _network_local.of(site, ask), ask.arrays["thresholds"]
    size, deep = _residuals(local, ask)
    count, square, below = np.zeros(len(limits), np.int64), np.zeros(len(limits)), np.zeros(limits.shape, np.int64)
    for t in range(len(limits)):
        own = size if t == len(limits) - 1 else size[local.drug == t]
        own = own[np.isfinite(own)]
        if len(own) >= local.least:
            count[t], square[t] = len(own), (own**2).sum()
            below[t] = _rounded((own[:, None] <= limits[t]).sum(0), len(own), local.least, own)
    held = np.array([float((deep**2).sum()), float(len(deep)) + 0.0])
    arrays = {"count": count, "square": square, "below": below, "held_out": held}
    return Answer(local.train.height, arrays, behind=local.behind)


def _residuals(local, ask: Ask) -> tuple[np.ndarray, np.ndarray]:
    """|residual| of each row in the endpoint's unit, NaN where there is none, and the network's own error."""
    h = hashlib.blake2b(digest_size=16)
    for name in sorted(set(ask.arrays) - {"thresholds"}):
        h.update(name.encode() + np.ascontiguousarray(ask.arrays[name]).tobytes())
    if local.residual is None or local.residual[0] != h.hexdigest():
        sigma, offset = float(ask.arrays["sigma"][0]), ask.arrays["offset"][local.drug]
        module = local.module(sigma)
        shared = {k.removeprefix("weights."): a for k, a in ask.arrays.items() if k.startswith("weights.")}
        set_weights(module, shared | local.own)
        deep = local.held_out(module) * sigma
        value, w = local.train["value"].to_numpy(), _rows.number(ask, "closed_form_share")
        closed = local.closed(ask.arrays["solutions"], str(ask.values["modality"]))
        blind = offset + w * (closed - offset) + (1 - w) * deep
        local.residual = (h.hexdigest(), np.abs(value - blind), value - offset - deep)
    return local.residual[1], local.residual[2]


def _rounded(below: np.ndarray, count: int, least: int, secret: np.ndarray) -> np.ndarray:
    """Counts ``below`` of ``count`` (>= least) with what is small on either side rounded at random.

    The draw comes from the residuals themselves, which nobody else has: the same ask gets the same answer.
    """
    seed = hashlib.blake2b(np.ascontiguousarray(secret).tobytes() + below.tobytes(), digest_size=8).digest()
    draw = np.random.default_rng(int.from_bytes(seed, "big")).random(len(below))
    above = count - below
    few, most = (below > 0) & (below < least), (above > 0) & (above < least)
    out = np.where(few, np.where(draw < below / least, least, 0), below)
    return np.where(most & ~few, count - np.where(draw < above / least, least, 0), out)
