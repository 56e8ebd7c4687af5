"""Features that enough persons of all sites carry: the others are left out before means, axes or anything else.

A sum along a feature that one person carries is this person's row, whatever the number of persons in the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from workbench.federated.exact.harmonise import Plan
from workbench.federated.exact.steady import Steady
from workbench.federated.messages import Ask, Value

FEWEST = 5  # persons, as a site's policy has it where nothing is said


def carried(
    steady: Steady, plan: Plan, round: int = 0, fewest: int = FEWEST, also: Mapping[str, Value] | None = None
) -> Plan:
    """``plan`` with the features that at least ``fewest`` persons of the union carry.

    Where sums are not secure, a feature that some site has too few carriers of to tell their number is left out too.
    ``also`` goes into the ask: ``unlabelled``, where persons without responses count.
    """
    told = steady.total(Ask("carriers", round, values={**plan.values(), **(also or {})}))
    keep = np.flatnonzero((told["carriers"] >= fewest) & (told["few"] == 0))
    if len(keep) == len(plan.features):
        return plan
    return replace(plan, features=[plan.features[j] for j in keep], same=False)
