"""Replies beside each other: whose change is far longer or shorter than the others', or goes against them.

What is unlike is flagged and not dropped: sites of unlike data are honest too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.federated.messages import Ask, Reply
from workbench.federated.robust import geometry

FAR = 3.5  # modified z-score of Iglewicz and Hoaglin 1993
EVEN = 0.25  # spread of log lengths below which sites count as alike: steps go by rows, so honest lengths differ
AGAINST = -0.1  # cosine to the others' median; unlike but honest sites go a little below 0
CHANGE = "change"  # arrays whose names begin so are what a site changes; where there are none, all floats are compared
FEW = 4  # fewer replies than this have no "others" to be far from


def share_of(reply: Reply) -> float | None:
    """The share of all rows that a reply claims."""
    share = reply.arrays.get("share")
    return float(share.ravel()[0]) if share is not None and share.size == 1 else None


def changes(ask: Ask, reply: Reply) -> dict[str, np.ndarray]:
    """What a reply would change: its float arrays named ``change...`` (all floats where there are none), in float64.

    Where the ask has an array of the same name and shape, that is taken away: weights sent back whole are a change too.
    """
    floats = {k: a for k, a in reply.arrays.items() if a.dtype.kind == "f"}
    # a loss or a number of rows beside the change is in another unit, and would drown it
    floats = {k: a for k, a in floats.items() if k.startswith(CHANGE)} or floats
    return {
        k: np.asarray(a, np.float64) - (np.asarray(ask.arrays[k], np.float64) if _moves(ask, k, a) else np.float64(0))
        for k, a in floats.items()
    }


def _moves(ask: Ask, name: str, array: np.ndarray) -> bool:
    return name in ask.arrays and ask.arrays[name].shape == array.shape


def compared(ask: Ask, replies: Sequence[Reply]) -> dict[str, str]:
    """{site: reason} of replies unlike the others: in length (robust z of its logarithm), or in direction.

    A change that was sent times the site's share is compared without it: a small site is not a short one. One that
    takes fewer steps than most, one batch a round where they have two, may be told short all the same: flagged is not
    dropped.
    """
    if len(replies) < FEW:
        return {}
    moved = [{k: a / (share_of(r) or 1.0) for k, a in changes(ask, r).items()} for r in replies]
    if not moved[0] or any(set(m) != set(moved[0]) for m in moved):
        return {}
    flagged: dict[str, str] = {}
    length = geometry.norms(moved)
    log = np.log(np.maximum(length, 1e-300))
    middle = float(np.median(log))
    z = 0.6745 * (log - middle) / max(float(np.median(np.abs(log - middle))), EVEN)
    for i in np.flatnonzero(np.abs(z) > FAR).tolist():
        times = float(np.exp(min(abs(log[i] - middle), 700.0)))
        flagged[replies[i].site] = f"{times:.3g} times {'longer' if z[i] > 0 else 'shorter'} than the median update"
    names = sorted(moved[0])
    flat = np.stack([np.concatenate([m[n].ravel() for n in names]) for m in moved])
    towards = np.median(flat, axis=0)
    size = np.linalg.norm(towards) * length
    cosine = np.divide(flat @ towards, size, out=np.zeros(len(flat)), where=size > 0)
    for i in np.flatnonzero(cosine < AGAINST).tolist():
        known = f"{flagged[replies[i].site]}; " if replies[i].site in flagged else ""
        flagged[replies[i].site] = f"{known}against the others' median (cosine {cosine[i]:.2f})"
    return flagged
