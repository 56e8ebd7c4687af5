"""The server's view of all sites: ask them, or ask for nothing but the sum of their answers.

``Inline`` runs sites in this process, one after the other: what tests, the plain loop of the benchmark and tiny models
use. Flower's transports (``simulate``, ``deploy``) have the same three methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from workbench import rooms
from workbench.federated.messages import Ask, Gathered, Reply
from workbench.federated.site import ASKED, Site


class TooFewSites(RuntimeError):
    """Fewer sites answered than the federation needs; names each that did not, and why."""


class NotANumber(RuntimeError):
    """A sum is not finite; names the sites that sent it, where their parts can be seen."""


class Sites(Protocol):
    """What every transport offers."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every site known so far."""
        ...

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        """Replies of the sites ``of`` (all). A site that is gone, refuses or answers nonsense is in ``lost``."""
        ...

    def total(self, ask: Ask, least: int = 1) -> tuple[dict[str, np.ndarray], Gathered]:
        """Sums over sites of each array, and who took part; with secure aggregation nobody's part is ever seen."""
        ...


class Inline:
    """Sites in this very process."""

    def __init__(self, sites: Sequence[Site], least: int = 1) -> None:
        self.sites = {s.name: s for s in sites}
        self.names, self.least = tuple(self.sites), least

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        return sort(ask, [self.sites[n].answer(ask) for n in (self.names if of is None else of)])

    def total(self, ask: Ask, least: int = 1) -> tuple[dict[str, np.ndarray], Gathered]:
        gathered = self.ask(ask)
        enough(ask, gathered, max(least, self.least))
        finite(ask, gathered)
        return add(ask, gathered), gathered


def sort(ask: Ask, replies: Sequence[Reply], lost: Mapping[str, str] | None = None) -> Gathered:
    """Replies with numbers by site name, and the reasons of the others."""
    gone = dict(lost or {}) | {r.site: r.refused for r in replies if r.refused is not None}
    return Gathered(tuple(sorted((r for r in replies if r.refused is None), key=lambda r: r.site)), gone)


def enough(ask: Ask, gathered: Gathered, least: int) -> None:
    """Raise TooFewSites where fewer than ``least`` answered."""
    if len(gathered.replies) < least:
        lost = [f"{site}: {reason.rstrip('.')}" for site, reason in sorted(gathered.lost.items())]
        why = "; ".join(lost) or "no other was there"
        raise TooFewSites(
            f"{ask.purpose!r}, round {ask.round}: {len(gathered.replies)} of the {least} sites needed answered ({why})."
        )


def finite(ask: Ask, gathered: Gathered) -> None:
    """Raise NotANumber where a reply holds what is no number: it is never summed in silence."""
    for reply in gathered.replies:
        for name, array in reply.arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise NotANumber(f"{ask.purpose!r}, round {ask.round}: {name!r} of {reply.site} is not a number.")


def add(ask: Ask, gathered: Gathered) -> dict[str, np.ndarray]:
    """Sum of each array over the replies, in float64 or int64, in order of the sites' names: the same each time."""
    if not rooms.load(ASKED, ask.purpose).LEAVES.summed:
        raise ValueError(f"{ask.purpose!r} is not a matter of sums; ask for the replies.")
    total: dict[str, np.ndarray] = {}
    for reply in gathered.replies:
        for name, array in reply.arrays.items():
            wide = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
            if name in total and total[name].shape != wide.shape:
                raise ValueError(f"{reply.site!r} sent {name!r} of shape {wide.shape}, others {total[name].shape}.")
            if name in total:
                total[name] += wide  # a copy of its own: ``astype`` makes one
            else:
                total[name] = wide
    return total
