"""Who lies along the main direction in which updates differ, summed over the rounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.federated.robust import geometry
from workbench.federated.robust.combined import Combined, enough, left
from workbench.federated.robust.geometry import Update


class Remembering:
    """Mean of the sites that, over all rounds so far, lie least along the main direction in which updates differ.

    Honest sites differ from each other in many directions, colluders from the rest in one, so it sees what stays within
    the honest spread coordinate by coordinate. Updates are shortened to the median length first: length alone must not
    make a main direction. The evidence of a round is the share of each site in the main direction, times how far that
    direction stands out from the next. Institutions stay who they are, so evidence adds up, and who was told apart
    while updates were large stays aside when they have shrunk into noise. The ``bad`` with most evidence are set aside.

    Source: the main direction is that of Shejwalkar and Houmansadr 2021, Manipulating the Byzantine (divide and
    conquer), here on all coordinates; the sum over rounds follows Allen-Zhu et al. 2021, Byzantine-resilient SGD.

    Attributes
    ----------
    evidence : {site: sum so far}; put it back for a server that goes on after it was killed
    """

    def __init__(self, bad: int = 0) -> None:
        self.bad = bad
        self.evidence: dict[str, float] = {}

    def __call__(
        self, updates: Sequence[Update], weights: np.ndarray, names: Sequence[str] | None = None, fewer: int = 0
    ) -> Combined:
        n, bad = len(updates), left(self.bad, fewer)
        enough("spectral", n, bad, 2 * bad + 1, "n > 2f")
        geometry.weights(updates, weights)
        if names is None:  # by position, which means nothing once somebody is missing
            if len(self.evidence) != n:
                self.evidence.clear()
            names = [str(i) for i in range(n)]
        factor = geometry.shortening(updates)
        along, stands_out = geometry.main_direction(updates, factor)
        for name, share in zip(names, along**2, strict=True):
            self.evidence[name] = self.evidence.get(name, 0.0) + float(stands_out * share)
        held = np.array([self.evidence[name] for name in names])
        order = np.argsort(held, kind="stable")
        kept = np.sort(order[: n - bad])
        total = max(float(held.sum()), np.finfo(float).tiny)
        told = {int(i): f"{held[i] / total:.0%} of what tells sites apart" for i in order[n - bad :]}
        scale = factor[kept] / len(kept)
        return Combined(geometry.by_array(updates, lambda a: np.tensordot(scale, a[kept], 1)), told)
