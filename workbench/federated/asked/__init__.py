"""One file = one thing a site can be asked; the file's name is the purpose.

Every file has ``PLAIN`` (one sentence that a data officer understands: what leaves, and what it is for), ``LEAVES``
(what a Reply may hold: see ``Leaves``) and ``answer(site, ask) -> Answer``. ``answer`` sees the site's rows; what
it returns still has to pass the site's policy and is written into its ledger before it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from workbench.federated.messages import Value


@dataclass(frozen=True)
class Leaves:
    """What the Replies to one purpose may hold.

    Attributes
    ----------
    arrays : {name or prefix ending in "*": what it is, in a few words}
    summed : True where the server needs nothing but the sum over sites, so that secure aggregation may hide each part
    values : names of plain values that may leave
    """

    arrays: Mapping[str, str]
    summed: bool
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What leaves, before policy and ledger: arrays, values, and how many training rows are behind it.

    Attributes
    ----------
    rows : number of training rows behind it
    behind : numbers (column ``row`` of the fold) of those rows, where they are not all of the site's training rows;
        the site's policy compares them with what was answered before, and they never leave
    masked : True once secure aggregation has hidden the arrays
    """

    rows: int
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    behind: np.ndarray | None = None
    masked: bool = False
