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
    rows : False where not even the number of training rows behind the answer is told
    """

    arrays: Mapping[str, str]
    summed: bool
    values: tuple[str, ...] = ()
    rows: bool = True


@dataclass(frozen=True)
class Answer:
    """What leaves, before policy and ledger: arrays, values, and how many training rows are behind it.

    Attributes
    ----------
    rows : number of training rows behind it
    behind : numbers (column ``row`` of the fold) of those rows, where they are not all of the site's training rows;
        the site's policy compares them with what was answered before, and they never leave
    quantity : what is summed ("expression", "ln_ic50 by treatment"), where one purpose has several: only answers about
        the same quantity can be subtracted from each other
    masked : True once secure aggregation has hidden the arrays
    """

    rows: int
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    behind: np.ndarray | None = None
    quantity: str = ""
    masked: bool = False


def described(leaves: Leaves, name: str) -> str | None:
    """What the array ``name`` is, in the words of ``leaves``; None where it may not leave."""
    near = [k for k in leaves.arrays if k == name or (k.endswith("*") and name.startswith(k[:-1]))]
    return leaves.arrays[max(near, key=lambda k: (k == name, len(k)))] if near else None
