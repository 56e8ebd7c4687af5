"""How a round ends: every site holds the plan, and what the next round needs is kept as plain arrays.

A site that is new, or came back, does not hold the plan: then the ask goes out once more with the plan, and sites that
have answered already repeat their answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from workbench.federated.messages import Ask, Gathered, Value
from workbench.federated.network.plan import NEEDS, Plan
from workbench.federated.sites import TooFewSites

Arrays = Mapping[str, np.ndarray]
Sums = dict[str, np.ndarray]
Told = Callable[[Ask], tuple[Sums, Gathered]]


class WithPlan:
    """Asks that rest on a plan: the first brings it along, later ones where a site does not hold it.

    Parameters
    ----------
    told : what is done with an ask, as ``Sites.total``; sums may be empty where replies are wanted
    """

    def __init__(self, plan: Plan, told: Told) -> None:
        self.plan, self.told = plan, told
        self.carry = True  # sites have not seen the plan yet, or may have forgotten it

    def __call__(
        self, purpose: str, number: int, arrays: Arrays, values: Mapping[str, Value]
    ) -> tuple[Ask, Sums, Gathered]:
        """The ask that everybody could answer, its sums and replies.

        Raises
        ------
        workbench.federated.sites.TooFewSites
            Too few answered, though they were given the plan.
        """
        while True:
            ask = self.plan.ask(purpose, number, dict(arrays), dict(values), carry=self.carry)
            try:
                sums, gathered = self.told(ask)
                missing = any(NEEDS in why for why in gathered.lost.values())
            except TooFewSites as few:
                if self.carry or NEEDS not in str(few):
                    raise
                missing = True
            if self.carry or not missing:
                self.carry = False
                return ask, sums, gathered
            self.carry = True


def as_arrays(shared: Arrays, moments: Arrays, **more: Any) -> Sums:
    """Shared weights and the strategy's moments as one set of arrays, with ``more``."""
    return {f"w/{k}": a for k, a in shared.items()} | {f"s/{k}": a for k, a in moments.items()} | more


def of_arrays(held: Arrays) -> tuple[Sums, Sums]:
    """(shared weights, moments) of what ``as_arrays`` made."""
    return tuple({k[2:]: a for k, a in held.items() if k.startswith(p)} for p in ("w/", "s/"))  # type: ignore[return-value]
