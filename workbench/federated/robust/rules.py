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
    curvature         without those who answer the model's moves wrongly  n > 2f; names them, whatever f was told

A rule takes ``updates`` (what each site *changes*: its arrays less the server's), the weights sites claim, and tells
who was set aside. All but the means give every site one vote: a claimed number of rows is a lie told for free.

Which one: ``curvature`` where there are ten rounds or more: of these it alone kept 0.98 or more of what honest sites
reach by themselves, under every attack of ``rehearsal`` with two to four of ten alike sites bad, liars that turn late
among them; with sites that are unlike none does, it loses least, and sets honest ones aside. ``median`` with ``mix``
where back doors are feared most: it kept one to 0.06 of the wished shift, where ``curvature`` let half of it in on
one of two screens; a short lie against the mean defeats it. ``remembering`` where rounds are few. ``trimmed_mean`` or
``median`` where each site has many rows: rules that go coordinate by coordinate give way by a share of an update's
noise in every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.federated.robust import geometry
from workbench.federated.robust.combined import Combined as Combined
from workbench.federated.robust.combined import Rule as Rule
from workbench.federated.robust.combined import enough, left
from workbench.federated.robust.curvature import Curvature as Curvature
from workbench.federated.robust.geometry import RobustError as RobustError
from workbench.federated.robust.geometry import Update
from workbench.federated.robust.remembering import Remembering as Remembering

SHUT_OUT = 0.9  # of its coordinates trimmed away: then a site has in effect been set aside
FAINT = 0.1  # of an equal share: a site that weighs less than this in a geometric median has been set aside


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
        bad = left(self.bad, fewer)
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
    if name in REMEMBERS:
        return REMEMBERS[name](bad, **options)
    if name not in RULES:
        raise RobustError(f"no rule is called {name!r}; there are {', '.join(sorted([*REMEMBERS, *RULES]))}.")
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
    enough("clipped_mean", len(updates), bad, 2 * bad + 1, "n > 2f")
    w = geometry.weights(updates, weights)
    factor = geometry.shortening(updates, longest)
    # half of them are above their median by definition: named is who was far above
    told = {int(i): f"shortened to {factor[i]:.2g} of its length" for i in np.flatnonzero(factor < 0.5)}
    return Combined(geometry.by_array(updates, lambda a: np.tensordot(w * factor / w.sum(), a, 1)), told)


def median(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Median by coordinate, each site one vote (Yin et al. 2018, option I). n > 2f."""
    enough("median", len(updates), bad, 2 * bad + 1, "n > 2f")
    geometry.weights(updates, weights)
    return Combined(geometry.by_array(updates, lambda a: np.median(a, axis=0)))


def trimmed_mean(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Mean by coordinate without the ``bad`` largest and smallest values (Yin et al. 2018, option II). n > 2f."""
    n = len(updates)
    enough("trimmed_mean", n, bad, 2 * bad + 1, "n > 2f")
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
    enough("geometric_median", n, bad, 2 * bad + 1, "n > 2f")
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
    enough(name, n, bad, 2 * bad + 3, "n >= 2f + 3")
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
    enough("bulyan", n, bad, 4 * bad + 3, "n >= 4f + 3")
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


def mixed(updates: Sequence[Update], bad: int) -> list[Update]:
    """Each update replaced by the mean of the n - f nearest to it, itself among them.

    Source: Allouah et al. 2023, Fixing by mixing (nearest-neighbour mixing).
    """
    n = len(updates)
    enough("mixed", n, bad, 2 * bad + 1, "n > 2f")
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
REMEMBERS: dict[str, Callable[..., Rule]] = {"remembering": Remembering, "curvature": Curvature}  # from round to round
