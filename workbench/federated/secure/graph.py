"""Who masks with whom: every site with every other while they are few, else a random ring of equal degree.

The graph of Bell et al. (2020): sites stand on a circle in random order, each joined to the nearest ones on both sides.
The order comes from the conversation's name, so sites compute it themselves and need not be told.

Where the lost sites cut the graph of the survivors in two, the server learns the sum of each piece. A survivor's mask
opens only if more than half of its neighbours and itself are left, so a piece has ``threshold`` sites at least: three
with 4 neighbours, which is the fewest; 12 with the 22 of ``degree`` for 33 sites.
"""

from __future__ import annotations

import hashlib
import math

COMPLETE = 32  # up to here all pairs: a mask costs milliseconds


def degree(sites: int) -> int:
    """Neighbours of each of ``sites`` sites: all, or an even number near 4 log2 of their number."""
    return sites - 1 if sites <= COMPLETE else 2 * math.ceil(2 * math.log2(sites))


def fits(sites: int, degree: int) -> bool:
    """Whether every site of ``sites`` can have ``degree`` neighbours, and no piece of the graph is too small."""
    return degree == sites - 1 >= 2 or (4 <= degree < sites - 1 and degree % 2 == 0)


def neighbours(sites: int, degree: int, conversation: str) -> list[list[int]]:
    """For each site, by number, its neighbours in order, without itself."""
    if degree >= sites - 1:
        return [[j for j in range(sites) if j != i] for i in range(sites)]
    order = sorted(range(sites), key=lambda i: hashlib.sha256(f"{conversation} {i}".encode()).digest())
    near = range(1, degree // 2 + 1)
    found: list[list[int]] = [[] for _ in range(sites)]
    for place, site in enumerate(order):
        found[site] = sorted(order[(place + side * step) % sites] for step in near for side in (1, -1))
    return found


def threshold(degree: int) -> int:
    """Shares that open a secret dealt to ``degree`` neighbours and oneself: more than half of them."""
    return (degree + 1) // 2 + 1


def signatures(sites: int, threshold: int) -> int:
    """Sites that have to sign one list of survivors before it opens: more than half of all, never fewer than three.

    Two lists need this many each, and a site signs one only; so of two lists one at most opens. With c sites on the
    server's side, which sign both, it takes more than (sites + c) / 2: a higher ``threshold``.
    """
    return max(3, sites // 2 + 1, threshold)
