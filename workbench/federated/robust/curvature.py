"""Who does not answer the model's moves as most do is found by name; the rest are combined against what that misses.

Along the way a model moves, an honest site's wish to move on shrinks: of a convex loss the gradient grows along every
step, s'y > 0, the curvature condition of quasi-Newton methods. A site that turns its update round answers the other
way, however short, long or late its lie, and whatever its rows are: what a site *always* sends cancels between rounds.

    d_i     u_i less its update of last round
    a_-i    the move of last round without site i's part in it that was new then: its noise would look like an answer
    r_i     <d_i, a_-i> / |a_-i|^2                                   honest: below 0, at about the same value
    g_i     (r_i - m / 4) / max(|m|, 2 s), between -1 and 1          m, s: median over sites, scaled MAD; if m < 0
    S_i     max(0, S_i + g_i); S_i >= 3 convicts, for good           CUSUM (Page 1954)

A lie that is a constant push, or an honest answer of data that lie, answers as it should. Against those the
unconvicted are mixed with their n - f nearest (Allouah et al. 2023) before a median by coordinate. Colluders near the
mean are nearer to all than all are to each other where updates are mostly noise, so distance counts more along the
main direction in which updates differ, by how far that stands out from the next: honest sites differ in many
directions, colluders from the rest in one. A small push of that kind still gets through, and sites that are unlike by
right lose part of their say.

Who is set aside need not lie. A site that is unlike most, or much larger than they are, answers their moves weakly
too: of a network by nine sites of one or more tissues each, 13 to 172 training lines, all honest, the two largest
were set aside (LOG). Sites of alike persons and sizes are what the rule is for; there it named no honest one.

Answers are judged along the rule's own result: a server that turns it (FedAdam) is judged by where it was told to go.
Where updates are mostly the noise of training (few rows, drop-out) ten or more rounds are needed to tell.

Sources: the curvature condition is in Nocedal and Wright 2006, Numerical optimization, section 6.1; using it on sites,
and the weighing of distances, is ours. Settings were chosen on another screen than the one that is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.federated.robust import geometry
from workbench.federated.robust.combined import Combined, enough, left
from workbench.federated.robust.geometry import Update

CONVICTS = 3.0  # CUSUM of steps of at most 1: three full rounds of wrong answers at the least
SHARE = 0.25  # of the median answer: less than that speaks against a site
NOISE = 2.0  # scaled MADs that make one full step where answers are mostly noise
ALONG = 3.0  # distance along the main direction, in median squared distances for each unit that it stands out
LONGEST = 3.0  # times the median length: whoever is heard at all moves the model no further
MOVE = ""  # stands among the sites; none has an empty name
SKETCH = 4096  # numbers remembered of a site's last update; smaller updates are remembered whole


class Curvature:
    """Sets aside for good who does not answer the model's moves as most do; median of mixed updates of the others.

    ``bad`` is only what the mixing has to withstand besides: convictions rest on a site's own answers, so up to a
    minority is convicted whatever was told. n > 2f.

    Attributes
    ----------
    evidence : {site: CUSUM so far}
    seen : {site: sketches (2, .) of its last update and of what was new of it in the move that followed}, the move
        itself under ``MOVE``; with ``evidence`` all that a server needs that goes on after it was killed
    """

    def __init__(self, bad: int = 0) -> None:
        self.bad = bad
        self.evidence: dict[str, float] = {}
        self.seen: dict[str, np.ndarray] = {}
        self._hash: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(
        self, updates: Sequence[Update], weights: np.ndarray, names: Sequence[str] | None = None, fewer: int = 0
    ) -> Combined:
        n, bad = len(updates), left(self.bad, fewer)
        enough("curvature", n, bad, 2 * bad + 1, "n > 2f")
        geometry.weights(updates, weights)
        if names is None:  # by position, which means nothing once somebody is missing
            if len(self.seen) != n + 1:  # all sites and the move
                self.evidence.clear()
                self.seen.clear()
            names = [str(i) for i in range(n)]
        sketches = self.sketches(updates)
        self._judge(names, sketches)
        held = np.array([self.evidence.get(name, 0.0) for name in names])
        worst = np.argsort(-held, kind="stable")[: (n - 1) // 2]
        told = {
            int(i): f"does not answer the model's moves as most do (evidence {held[i]:.2g}; {CONVICTS:g} is for good)"
            for i in worst
            if held[i] >= CONVICTS
        }
        kept = [i for i in range(n) if i not in told]
        arrays, say, unheard = median_of_mixed([updates[i] for i in kept], max(bad - len(told), 0))
        part = np.zeros(n)
        part[kept] = say
        seen: dict[str, np.ndarray] = {}
        for name, row, share in zip(names, sketches, part, strict=True):
            before = self.seen.get(name)
            seen[name] = np.stack([row, share * (row if before is None else row - before[0])])
        move = self.sketches([arrays])[0]
        self.seen = seen | {MOVE: np.stack([move, np.zeros_like(move)])}
        return Combined(arrays, told | {kept[i]: why for i, why in unheard.items()})

    def sketches(self, updates: Sequence[Update]) -> np.ndarray:
        """Each update in at most ``SKETCH`` numbers that keep inner products (count sketch): (n, .).

        Source: Charikar et al. 2002, Finding frequent items in data streams. The signs are drawn anew for each size.
        """
        flat = [np.concatenate([np.asarray(u[k], np.float64).ravel() for k in sorted(u)]) for u in updates]
        size = len(flat[0])
        if size <= SKETCH:
            return np.stack(flat)
        if self._hash is None or len(self._hash[0]) != size:
            draw = np.random.default_rng([SKETCH, size])
            place = draw.integers(0, SKETCH, size, dtype=np.int16)
            self._hash = place, draw.integers(0, 2, size, dtype=np.int8) * 2 - 1
        place, sign = self._hash
        return np.stack([np.bincount(place, f * sign, SKETCH) for f in flat])

    def _judge(self, names: Sequence[str], now: np.ndarray) -> None:
        """Add the evidence of this round."""
        if any(before.shape[1] != now.shape[1] for before in self.seen.values()):
            self.seen = {}  # another model: there is nothing to compare with
        move = self.seen.get(MOVE)
        answers: dict[str, float] = {}
        for name, sketch in zip(names, now, strict=True):
            before = self.seen.get(name)
            if before is None or move is None:
                continue
            along = move[0] - before[1]
            if (size := float(along @ along)) > 0:
                answers[name] = float((sketch - before[0]) @ along) / size
        if len(answers) < 3:
            return
        r = np.array(list(answers.values()))
        middle = float(np.median(r))
        if middle >= 0:  # nobody's wish shrinks: the model is still gathering speed, and nothing can be told
            return
        step = max(-middle, NOISE * 1.4826 * float(np.median(np.abs(r - middle))))
        for name, g in zip(answers, np.clip((r - SHARE * middle) / step, -1.0, 1.0), strict=True):
            before_this = self.evidence.get(name, 0.0)
            now_held = max(0.0, before_this + float(g))
            self.evidence[name] = max(before_this, now_held) if before_this >= CONVICTS else now_held


def median_of_mixed(updates: Sequence[Update], bad: int) -> tuple[Update, np.ndarray, dict[int, str]]:
    """Median by coordinate of each update's mean with its n - f nearest; each one's part in that; who had little say.

    Distances are squared, in units of their median, plus ``ALONG`` times the distance along the main direction.
    """
    n = len(updates)
    squares = geometry.squares(updates)
    along, stands_out = geometry.main_direction(updates, geometry.shortening(updates))
    apart = stands_out * (along[:, None] - along[None, :]) ** 2
    unit = float(np.median(squares[~np.eye(n, dtype=bool)])) if n > 1 else 0.0
    far = squares / max(unit, np.finfo(float).tiny) + ALONG * apart
    np.fill_diagonal(far, -1.0)
    near = np.argsort(far, axis=1, kind="stable")[:, : n - bad]
    share = np.zeros((n, n))
    np.put_along_axis(share, near, 1.0 / (n - bad), axis=1)
    asked = (share > 0).sum(axis=0) - 1
    told = {
        int(i): f"among the {n - bad} nearest of {asked[i]} of {n - 1} others"
        for i in np.flatnonzero(2 * asked < n - 1)
    }
    weighed = share * geometry.shortening(updates, LONGEST * float(np.median(geometry.norms(updates))))

    def middle(stack: np.ndarray) -> np.ndarray:
        return np.median(weighed @ stack.reshape(n, -1), axis=0).reshape(stack.shape[1:])

    return geometry.by_array(updates, middle), weighed.mean(axis=0), told
