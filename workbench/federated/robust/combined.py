"""What a rule of aggregation is: updates and weights in, one update out, and who had no say in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from workbench.federated.robust.geometry import RobustError, Update


@dataclass(frozen=True)
class Combined:
    """One update, and who had no say (or less than its share) in it: {index in ``updates``: why}."""

    arrays: Update
    set_aside: dict[int, str] = field(default_factory=dict)


class Rule(Protocol):
    """What ``make`` gives: updates and weights in, one update out."""

    def __call__(
        self, updates: Sequence[Update], weights: np.ndarray, names: Sequence[str] | None = None, fewer: int = 0
    ) -> Combined:
        """Combine one round.

        Parameters
        ----------
        names : of the sites, for a rule that remembers them; None: by position
        fewer : bad sites that the checks have dropped already; that many less are left to withstand
        """
        ...


def left(bad: int, fewer: int) -> int:
    """Bad sites left to withstand of ``bad``, when the checks have dropped ``fewer`` already."""
    return bad - fewer if bad > fewer else min(bad, 0)


def enough(rule: str, n: int, bad: int, needed: int, formula: str) -> None:
    """Raises RobustError where ``n`` sites cannot outvote ``bad``: ``needed`` is what ``formula`` asks for."""
    if bad < 0:
        raise RobustError(f"{rule}: the number of bad sites is {bad}; 0 or more was expected.")
    if n < needed:
        raise RobustError(
            f"{rule}: {n} sites cannot outvote {bad} bad ones; it needs {formula}, {needed} here. "
            "Ask more sites, or another rule (median, trimmed_mean, geometric_median: n > 2f)."
        )
