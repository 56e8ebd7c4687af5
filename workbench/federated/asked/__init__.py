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
from workbench.federated.private.accounting import Release


@dataclass(frozen=True)
class Leaves:
    """What the Replies to one purpose may hold.

    Attributes
    ----------
    arrays : {name or prefix ending in "*": what it is, in a few words}
    summed : True where the server needs nothing but the sum over sites, so that secure aggregation may hide each part
    values : names of plain values that may leave
    rows : False where not even the number of training rows behind the answer is told
    unlike : names of arrays whose shape is each site's own, so that another shape than the others' is no fault
    by_rows : True where the array ``share`` is the rows behind the answer by the ask's ``rows``, and can be checked
    private : True where all of it is under noise, so that the rows behind it are not told either
    moving : True where it answers to weights that change from round to round, so that a site may miss a round of secure
        sums; all other sums are of the same rows whatever is asked, and two of them must not differ by a few sites
    """

    arrays: Mapping[str, str]
    summed: bool
    values: tuple[str, ...] = ()
    rows: bool = True
    unlike: tuple[str, ...] = ()
    by_rows: bool = False
    private: bool = False
    moving: bool = False


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
    releases : the noise in it, against the unit's sensitivity (``private.accounting``); None where it is not private.
        How many rows are behind a private answer is not told
    together : sites of a sum among which that noise is shared; with more than 1 it leaves masked, or not at all
    """

    rows: int
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    behind: np.ndarray | None = None
    quantity: str = ""
    masked: bool = False
    releases: tuple[Release, ...] | None = None
    together: int = 1


def described(leaves: Leaves, name: str) -> str | None:
    """What the array ``name`` is, in the words of ``leaves``; None where it may not leave."""
    near = [k for k in leaves.arrays if k == name or (k.endswith("*") and name.startswith(k[:-1]))]
    return leaves.arrays[max(near, key=lambda k: (k == name, len(k)))] if near else None
