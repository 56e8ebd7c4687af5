"""One update out of many, some of which may be lies: rules of aggregation that a few bad sites cannot steer.

    mean              sum w_i u_i / sum w_i                               one bad site moves it anywhere
    clipped_mean      the mean of updates no longer than the median one   bounds how far, not in which direction
    median            by coordinate                                       n > 2f
    trimmed_mean      by coordinate, f values off either end              n > 2f
    geometric_median  min_v sum w_i |u_i - v|                             bad sites hold under half of the weight
    krum              the one update nearest to its n - f - 2 nearest     n >= 2f + 3
    multi_krum        the mean of the m best by the same score            n >= 2f + 3
    bulyan            Krum's choice, then values nearest the median       n >= 4f + 3
    spectral          without those who lie along the main difference     n > 2f
    remembering       the same, by what was seen in all rounds so far     n > 2f

A rule takes ``updates`` (what each site *changes*: its arrays less the server's), the weights sites claim, and tells
who was set aside. All but the means give every site one vote: a claimed number of rows is a lie told for free.

All of them lean on honest sites that resemble each other. Where a site has few rows its update is mostly noise, and the
rules that go coordinate by coordinate give way by a share of that noise in every coordinate: use ``mixed`` (each update
replaced by the mean of its n - f nearest) or ``remembering`` there. None sees a back door.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from workbench.federated.robust import geometry
from workbench.federated.robust.geometry import RobustError as RobustError
from workbench.federated.robust.geometry import Update

SHUT_OUT = 0.9  # of its coordinates trimmed away: then a site has in effect been set aside
FAINT = 0.1  # of an equal share: a site that weighs less than this in a geometric median has been set aside


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


@dataclass(frozen=True)
class Memoryless:
    """A rule of ``RULES`` for at most ``bad`` bad sites."""

    name: str
    bad: int = 0
    mix: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, updates: Sequence[Update], weights: np.ndarray, names: Sequence[str] | None = None, fewer: int = 0
    ) -> Combined:
        bad = _left(self.bad, fewer)
        if self.mix:  # a mixed update rests on n - f sites, so claimed rows have lost their meaning
            geometry.weights(updates, weights)
            updates, weights = mixed(updates, bad), np.ones(len(updates))
        return RULES[self.name](updates, weights, bad, **self.options)


def make(name: str, bad: int = 0, mix: bool = False, **options: Any) -> Rule:
    """Rule ``name`` for at most ``bad`` bad sites.

    Parameters
    ----------
    mix : bring the updates closer first (``mixed``)
    options : what the rule takes besides (``keep`` of multi_krum, ``longest`` of clipped_mean)
    """
    if name == "remembering":
        return Remembering(bad, **options)
    if name not in RULES:
        raise RobustError(f"no rule is called {name!r}; there are remembering, {', '.join(sorted(RULES))}.")
    return Memoryless(name, bad, mix, options)


def mean(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Weighted mean (FedAvg; McMahan et al. 2017). ``bad`` is not used: it withstands none."""
    w = geometry.weights(updates, weights)
    return Combined(geometry.by_array(updates, lambda a: np.tensordot(w / w.sum(), a, 1)))


def clipped_mean(
    updates: Sequence[Update], weights: np.ndarray, bad: int = 0, longest: float | None = None
) -> Combined:
    """Weighted mean of updates shortened to ``longest`` (Euclidean, over all arrays); None: the median length.

    Source: Sun et al. 2019, Can you really backdoor federated learning?
    """
    _enough("clipped_mean", len(updates), bad, 2 * bad + 1, "n > 2f")
    w = geometry.weights(updates, weights)
    factor = geometry.shortening(updates, longest)
    # half of them are above their median by definition: named is who was far above
    told = {int(i): f"shortened to {factor[i]:.2g} of its length" for i in np.flatnonzero(factor < 0.5)}
    return Combined(geometry.by_array(updates, lambda a: np.tensordot(w * factor / w.sum(), a, 1)), told)


def median(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Median by coordinate, each site one vote (Yin et al. 2018, option I). n > 2f."""
    _enough("median", len(updates), bad, 2 * bad + 1, "n > 2f")
    geometry.weights(updates, weights)
    return Combined(geometry.by_array(updates, lambda a: np.median(a, axis=0)))


def trimmed_mean(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Mean by coordinate without the ``bad`` largest and smallest values (Yin et al. 2018, option II). n > 2f."""
    n = len(updates)
    _enough("trimmed_mean", n, bad, 2 * bad + 1, "n > 2f")
    geometry.weights(updates, weights)
    out, size, made = np.zeros(n), 0, {}
    for name, stack in geometry.stacks(updates):
        order = np.argsort(stack, axis=0, kind="stable")
        kept = order[bad : n - bad]
        made[name] = geometry.like(updates, name, np.take_along_axis(stack, kept, axis=0).mean(axis=0))
        inside = np.bincount(kept.ravel(), minlength=n)
        size += stack[0].size
        out += stack[0].size - inside
    share = out / max(size, 1)
    told = {int(i): f"trimmed in {share[i]:.0%} of coordinates" for i in np.flatnonzero(share >= SHUT_OUT)}
    return Combined(made, told)


def geometric_median(
    updates: Sequence[Update],
    weights: np.ndarray,
    bad: int = 0,
    weighted: bool = False,
    rounds: int = 200,
    near: float = 1e-8,
) -> Combined:
    """The point nearest to all updates in summed distance, by Weiszfeld's steps (RFA; Pillutla et al. 2022).

    Breaks down where the bad hold half of the *weight*, so the ``bad`` heaviest together must hold less.

    Parameters
    ----------
    weighted : weigh by what sites claim; else each site has one vote
    rounds, near : stop after so many steps, or when none moves further than ``near`` of the median distance
    """
    n = len(updates)
    _enough("geometric_median", n, bad, 2 * bad + 1, "n > 2f")
    w = geometry.weights(updates, weights)
    w = w / w.sum() if weighted else np.full(n, 1.0 / n)
    heaviest = float(np.sort(w)[n - bad :].sum())
    if bad and heaviest >= 0.5:
        raise RobustError(
            f"geometric_median: the {bad} heaviest of {n} sites hold {heaviest:.0%} of the weight, half or more. "
            "Cap a site's share (updates.shares) or leave every site one vote."
        )
    # distances between n points and a weighted mean of them need nothing but the n x n products
    products = geometry.products(updates)
    own = np.diag(products)
    between = np.sqrt(geometry.squares(updates))
    # from the update nearest to all: started at their mean, one at 1e30 would set the scale of everything
    a = np.zeros(n)
    a[np.argmin(between @ w)] = 1.0
    spread = float(np.median(geometry.distances(own, products, a)))
    floor = 1e-6 * spread  # RFA's smoothing: a point that sits on an update would divide by zero
    for _ in range(rounds):
        if spread == 0:
            break
        pull = w / np.maximum(geometry.distances(own, products, a), floor)
        new = pull / pull.sum()
        step = np.sqrt(max(float((new - a) @ products @ (new - a)), 0.0))
        a = new
        if step <= near * spread:
            break
    told = {int(i): f"weighs {a[i]:.2%} where it claims {w[i]:.2%}" for i in np.flatnonzero(a < FAINT * w)}
    return Combined(geometry.by_array(updates, lambda s: np.tensordot(a, s, 1)), told)


def krum(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """The update with the least summed squared distance to its n - f - 2 nearest (Blanchard et al. 2017)."""
    return _best("krum", updates, weights, bad, 1)


def multi_krum(updates: Sequence[Update], weights: np.ndarray, bad: int = 0, keep: int | None = None) -> Combined:
    """Mean of the ``keep`` updates with the best Krum scores, each site one vote (Blanchard et al. 2017).

    ``keep`` is n - f - 2 unless told: the most that the bound of El Mhamdi et al. 2018 covers. Up to n - f is taken.
    """
    return _best("multi_krum", updates, weights, bad, len(updates) - bad - 2 if keep is None else keep)


def _best(name: str, updates: Sequence[Update], weights: np.ndarray, bad: int, keep: int) -> Combined:
    n = len(updates)
    _enough(name, n, bad, 2 * bad + 3, "n >= 2f + 3")
    geometry.weights(updates, weights)
    if not 1 <= keep <= n - bad:
        raise RobustError(f"{name}: may keep 1 to {n - bad} of {n} sites, {bad} of them bad; asked to keep {keep}.")
    score = krum_scores(updates, bad)
    order = np.argsort(score, kind="stable")
    kept = np.sort(order[:keep])
    place = {int(i): r + 1 for r, i in enumerate(order)}
    told = {i: f"Krum score {score[i]:.3g}, {place[i]} of {n}" for i in range(n) if i not in set(kept.tolist())}
    return Combined(geometry.by_array(updates, lambda a: a[kept].mean(axis=0)), told)


def bulyan(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """n - 2f sites chosen by Krum one after the other; of those, by coordinate, the n - 4f values nearest the median.

    Source: El Mhamdi et al. 2018, The hidden vulnerability of distributed learning in Byzantium. n >= 4f + 3.
    """
    n = len(updates)
    _enough("bulyan", n, bad, 4 * bad + 3, "n >= 4f + 3")
    geometry.weights(updates, weights)
    squares = geometry.squares(updates)
    left = list(range(n))
    chosen: list[int] = []
    while len(chosen) < n - 2 * bad:
        here = squares[np.ix_(left, left)]
        chosen.append(left.pop(int(np.argmin(_scores(here, bad)))))
    beta = n - 4 * bad

    def middle(stack: np.ndarray) -> np.ndarray:
        of = stack[chosen]
        near = np.argsort(np.abs(of - np.median(of, axis=0)), axis=0, kind="stable")[:beta]
        return np.take_along_axis(of, near, axis=0).mean(axis=0)

    told = dict.fromkeys(left, "not among those Krum chose")
    return Combined(geometry.by_array(updates, middle), told)


def spectral(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """``Remembering`` without a memory: judged by this one round. n > 2f."""
    return Remembering(bad)(updates, weights)


class Remembering:
    """Mean of the sites that, over all rounds so far, lie least along the main direction in which updates differ.

    Honest sites differ from each other in many directions, colluders from the rest in one, so it sees what stays within
    the honest spread coordinate by coordinate. Updates are shortened to the median length first: length alone must not
    make a main direction. The evidence of a round is the share of each site in the main direction, times how far that
    direction stands out from the next. Institutions stay who they are, so evidence adds up, and who was told apart
    while updates were large stays aside when they have shrunk into noise. The ``bad`` with most evidence are set aside.

    Source: the main direction is that of Shejwalkar and Houmansadr 2021, Manipulating the Byzantine (divide and
    conquer), here on all coordinates; the sum over rounds follows Allen-Zhu et al. 2021, Byzantine-resilient SGD.

    Attributes
    ----------
    evidence : {site: sum so far}; put it back for a server that goes on after it was killed
    """

    def __init__(self, bad: int = 0) -> None:
        self.bad = bad
        self.evidence: dict[str, float] = {}

    def __call__(
        self, updates: Sequence[Update], weights: np.ndarray, names: Sequence[str] | None = None, fewer: int = 0
    ) -> Combined:
        n, bad = len(updates), _left(self.bad, fewer)
        _enough("spectral", n, bad, 2 * bad + 1, "n > 2f")
        geometry.weights(updates, weights)
        if names is None:  # by position, which means nothing once somebody is missing
            if len(self.evidence) != n:
                self.evidence.clear()
            names = [str(i) for i in range(n)]
        factor = geometry.shortening(updates)
        products = geometry.products([{k: factor[i] * a for k, a in u.items()} for i, u in enumerate(updates)])
        centre = np.eye(n) - 1.0 / n
        value, vector = np.linalg.eigh(centre @ products @ centre)
        stands_out = value[-1] / value[-2] - 1.0 if n > 2 and value[-2] > 0 else 0.0
        for name, share in zip(names, vector[:, -1] ** 2, strict=True):
            self.evidence[name] = self.evidence.get(name, 0.0) + float(stands_out * share)
        held = np.array([self.evidence[name] for name in names])
        order = np.argsort(held, kind="stable")
        kept = np.sort(order[: n - bad])
        total = max(float(held.sum()), np.finfo(float).tiny)
        told = {int(i): f"{held[i] / total:.0%} of what tells sites apart" for i in order[n - bad :]}
        scale = factor[kept] / len(kept)
        return Combined(geometry.by_array(updates, lambda a: np.tensordot(scale, a[kept], 1)), told)


def mixed(updates: Sequence[Update], bad: int) -> list[Update]:
    """Each update replaced by the mean of the n - f nearest to it, itself among them.

    Source: Allouah et al. 2023, Fixing by mixing (nearest-neighbour mixing).
    """
    n = len(updates)
    _enough("mixed", n, bad, 2 * bad + 1, "n > 2f")
    near = np.argsort(geometry.squares(updates), axis=1, kind="stable")[:, : n - bad]
    share = np.zeros((n, n))
    np.put_along_axis(share, near, 1.0 / (n - bad), axis=1)
    new: list[Update] = [{} for _ in range(n)]
    for name, stack in geometry.stacks(updates):
        flat = share @ stack.reshape(n, -1)
        for i in range(n):
            new[i][name] = flat[i].reshape(stack.shape[1:])
    return new


def krum_scores(updates: Sequence[Update], bad: int) -> np.ndarray:
    """Summed squared distance of each update to its n - f - 2 nearest others (at least one): (n,)."""
    return _scores(geometry.squares(updates), bad)


def _scores(squares: np.ndarray, bad: int) -> np.ndarray:
    n = len(squares)
    others = np.sort(squares + np.diag(np.full(n, np.inf)), axis=1)[:, : max(1, n - bad - 2)]
    return np.where(np.isfinite(others), others, 0.0).sum(axis=1)


def _left(bad: int, fewer: int) -> int:
    return bad - fewer if bad > fewer else min(bad, 0)


def _enough(rule: str, n: int, bad: int, needed: int, formula: str) -> None:
    if bad < 0:
        raise RobustError(f"{rule}: the number of bad sites is {bad}; 0 or more was expected.")
    if n < needed:
        raise RobustError(
            f"{rule}: {n} sites cannot outvote {bad} bad ones; it needs {formula}, {needed} here. "
            "Ask more sites, or another rule (median, trimmed_mean, geometric_median: n > 2f)."
        )


RULES: dict[str, Callable[..., Combined]] = {
    "mean": mean,
    "clipped_mean": clipped_mean,
    "median": median,
    "trimmed_mean": trimmed_mean,
    "geometric_median": geometric_median,
    "krum": krum,
    "multi_krum": multi_krum,
    "bulyan": bulyan,
    "spectral": spectral,
}
