"""How well a compound would be told from compounds of similar structure: squared errors, by smoothing."""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.network import local as _network_local

PLAIN = (
    "The sum of squared errors over all measured pairs of the site, had each compound been predicted from similar "
    "ones; one number for each way of weighing similarity, to choose it."
)
LEAVES = Leaves(arrays={"errors": "sum of squared errors by smoothing (L,)", "pairs": "number of pairs"}, summed=True)


def answer(site, ask: Ask) -> Answer:
    """Arrays of the ask: solution (k + 1, T) on the axes of ``modality``, guesses (L, T, T)."""
    local, modality = _network_local.of(site, ask), str(ask.values["modality"])
    value, solution = local.train["value"].to_numpy(), ask.arrays["solution"]
    errors = [((local.closed((solution @ g.T)[None], modality) - value) ** 2).sum() for g in ask.arrays["guesses"]]
    arrays = {"errors": np.array(errors), "pairs": np.array([local.train.height])}
    return Answer(local.train.height, arrays, behind=local.behind)
