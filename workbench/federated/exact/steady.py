"""Sums that belong together rest on the same sites: a site that comes or goes between two of them is noticed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.federated.messages import Ask
from workbench.federated.sites import NotANumber, Sites, TooFewSites


class SitesChanged(RuntimeError):
    """Other sites answered than those the sums so far rest on; ``now`` has those that did."""

    def __init__(self, text: str, now: Sequence[str]) -> None:
        super().__init__(text)
        self.now = tuple(now)


class Steady:
    """``Sites.total`` that insists on the same sites every time.

    Parameters
    ----------
    of : sites whose sums belong together; empty takes those that answer first
    least : fewest sites
    again : how often an ask is repeated for a site that did not answer
    """

    def __init__(self, sites: Sites, of: Sequence[str] = (), least: int = 1, again: int = 2) -> None:
        self.sites, self.of, self.least, self.again = sites, tuple(sorted(of)), least, again

    def total(self, ask: Ask) -> dict[str, np.ndarray]:
        """Sums over exactly the agreed sites.

        Raises
        ------
        SitesChanged
            Others answered, also when asked again.
        NotANumber
            A sum is not finite.
        TooFewSites
            Fewer than ``least`` answered.
        """
        took: tuple[str, ...] = ()
        for k in range(2 + self.again):
            # a sum without one of them is of no use, and beside one with it would tell the server its part; the last
            # ask takes whoever is there, to name them
            least = self.least if k > self.again else max(self.least, len(self.of))
            try:
                sums, gathered = self.sites.total(ask, least)
            except TooFewSites:
                if k > self.again:
                    raise
                continue
            took = tuple(sorted(r.site for r in gathered.replies))
            self.of = self.of or took
            if took == self.of:
                self._finite(ask, sums, gathered)
                return sums
        reasons = "; ".join(f"{s}: {why}" for s, why in gathered.lost.items())
        raise SitesChanged(
            f"{ask.purpose!r}, round {ask.round}: the sums so far rest on {', '.join(self.of)}; "
            f"now {', '.join(took)} answered{f' ({reasons})' if reasons else ''}.",
            took,
        )

    def _finite(self, ask: Ask, sums, gathered) -> None:
        bad = sorted(name for name, a in sums.items() if not np.isfinite(a).all())
        if bad:
            who = [r.site for r in gathered.replies if any(not np.isfinite(a).all() for a in r.arrays.values())]
            said = ", ".join(who) or "a site whose part is hidden"
            raise NotANumber(f"{ask.purpose!r}, round {ask.round}: {bad[0]!r} of {said} is not a number.")
