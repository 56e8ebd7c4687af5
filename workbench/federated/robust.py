"""One update out of many, some of which may be lies: rules of aggregation that a few bad sites cannot steer.

    mean              sum w_i u_i / sum w_i                               one bad site moves it anywhere
    clipped_mean      the mean of updates no longer than the median one   bounds how far, not in which direction
    median            by coordinate                                       n > 2f
    trimmed_mean      by coordinate, f values off either end              n > 2f
    geometric_median  min_v sum w_i |u_i - v|                             bad sites hold under half of the weight
    krum              the one update nearest to its n - f - 2 nearest     n >= 2f + 3
    multi_krum        the mean of the m best by the same score            n >= 2f + 3, m <= n - f - 2
    spectral          without who lies along the main difference         n > 2f
    bulyan            multi_krum's choice, then values nearest the median n >= 4f + 3

A rule takes ``updates`` (what each site *changes*: its arrays less the server's), the weights sites claim, and tells who
was set aside. Median, trimmed mean and the Krum family give every site one vote: a claimed number of rows is a lie told
for free. All of them assume honest sites that resemble each other; where sites are unlike, ``mixed`` (each update
replaced by the mean of its n - f nearest) brings them closer before any of these rules. None of them sees a lie that
lies within the spread of the honest (Baruch et al. 2019), or a back door.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

Update = dict[str, np.ndarray]
SHUT_OUT = 0.9  # of its coordinates trimmed away: then a site has in effect been set aside
BEYOND = 1e100  # its square still has room in a float64; no model's numbers come near
FAINT = 0.1  # of an equal share: a site that weighs less than this in a geometric median has been set aside


class RobustError(ValueError):
    """A rule cannot promise what it is asked to: too few sites for so many bad ones, or updates that do not match."""


@dataclass(frozen=True)
class Combined:
    """One update, and who had no say (or less than its share) in it: {index in ``updates``: why}."""

    arrays: Update
    set_aside: dict[int, str] = field(default_factory=dict)


Rule = Callable[[Sequence[Update], np.ndarray], Combined]


def make(name: str, bad: int = 0, mix: bool = False, **options) -> Rule:
    """Rule ``name`` for at most ``bad`` bad sites, as a function of updates and weights alone.

    Parameters
    ----------
    mix : bring the updates closer first (``mixed``); for sites that are unlike
    options : what the rule takes besides (``keep`` of multi_krum, ``longest`` of clipped_mean)
    """
    if name not in RULES:
        raise RobustError(f"no rule is called {name!r}; there are {', '.join(sorted(RULES))}.")
    return partial(_apply, name, bad, mix, options)


def _apply(name: str, bad: int, mix: bool, options: dict, updates: Sequence[Update], weights: np.ndarray) -> Combined:
    if not mix:
        return RULES[name](updates, weights, bad, **options)
    # a mixed update rests on n - f sites alike, so claimed rows have lost their meaning
    made = RULES[name](mixed(updates, bad), np.ones(len(updates)), bad, **options)
    return Combined(made.arrays, made.set_aside)


def mean(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Weighted mean (FedAvg; McMahan et al. 2017). ``bad`` is not used: it withstands none."""
    w = _weights(updates, weights)
    return Combined(_by_array(updates, lambda a: np.tensordot(w / w.sum(), a, 1)))


def clipped_mean(
    updates: Sequence[Update], weights: np.ndarray, bad: int = 0, longest: float | None = None
) -> Combined:
    """Weighted mean of updates shortened to ``longest`` (Euclidean, over all arrays); None: the median length.

    Source: Sun et al. 2019, Can you really backdoor federated learning?
    """
    _enough("clipped_mean", len(updates), bad, 2 * bad + 1, "n > 2f")
    w = _weights(updates, weights)
    length = norms(updates)
    limit = float(np.median(length)) if longest is None else float(longest)
    factor = np.minimum(1.0, np.divide(limit, length, out=np.ones_like(length), where=length > 0))
    # half of them are above their median by definition: named is who was far above
    told = {int(i): f"shortened to {factor[i]:.2g} of its length" for i in np.flatnonzero(factor < 0.5)}
    return Combined(_by_array(updates, lambda a: np.tensordot(w * factor / w.sum(), a, 1)), told)


def median(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Median by coordinate, each site one vote (Yin et al. 2018, option I). n > 2f."""
    _enough("median", len(updates), bad, 2 * bad + 1, "n > 2f")
    _weights(updates, weights)
    return Combined(_by_array(updates, lambda a: np.median(a, axis=0)))


def trimmed_mean(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Mean by coordinate without the ``bad`` largest and smallest values (Yin et al. 2018, option II). n > 2f."""
    n = len(updates)
    _enough("trimmed_mean", n, bad, 2 * bad + 1, "n > 2f")
    _weights(updates, weights)
    out, size, made = np.zeros(n), 0, {}
    for name, stack in _stacks(updates):
        order = np.argsort(stack, axis=0, kind="stable")
        kept = order[bad : n - bad]
        made[name] = _like(updates, name, np.take_along_axis(stack, kept, axis=0).mean(axis=0))
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
    w = _weights(updates, weights)
    w = w / w.sum() if weighted else np.full(n, 1.0 / n)
    heaviest = float(np.sort(w)[n - bad :].sum())
    if bad and heaviest >= 0.5:
        raise RobustError(
            f"geometric_median: the {bad} heaviest of {n} sites hold {heaviest:.0%} of the weight; under half is needed. "
            "Cap a site's share (updates.shares) or leave every site one vote."
        )
    # distances between n points and a weighted mean of them need nothing but the n x n products
    products = _products(updates)
    own = np.diag(products)
    a = w.copy()  # the median is sum a_i u_i
    spread = float(np.median(_distances(own, products, a)))
    floor = 1e-6 * spread  # RFA's smoothing: a point that sits on an update would divide by zero
    for _ in range(rounds):
        if spread == 0:
            break
        pull = w / np.maximum(_distances(own, products, a), floor)
        new = pull / pull.sum()
        step = np.sqrt(max(float((new - a) @ products @ (new - a)), 0.0))
        a = new
        if step <= near * spread:
            break
    told = {int(i): f"weighs {a[i]:.2%} where it claims {w[i]:.2%}" for i in np.flatnonzero(a < FAINT * w)}
    return Combined(_by_array(updates, lambda s: np.tensordot(a, s, 1)), told)


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
    _weights(updates, weights)
    if not 1 <= keep <= n - bad:
        raise RobustError(f"{name}: may keep 1 to {n - bad} of {n} sites, {bad} of them bad; asked to keep {keep}.")
    score = krum_scores(updates, bad)
    order = np.argsort(score, kind="stable")
    kept = np.sort(order[:keep])
    place = {int(i): r + 1 for r, i in enumerate(order)}
    told = {i: f"Krum score {score[i]:.3g}, {place[i]} of {n}" for i in range(n) if i not in set(kept.tolist())}
    return Combined(_by_array(updates, lambda a: a[kept].mean(axis=0)), told)


def bulyan(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """n - 2f sites chosen by Krum one after the other; of those, by coordinate, the n - 4f values nearest the median.

    Source: El Mhamdi et al. 2018, The hidden vulnerability of distributed learning in Byzantium. n >= 4f + 3.
    """
    n = len(updates)
    _enough("bulyan", n, bad, 4 * bad + 3, "n >= 4f + 3")
    _weights(updates, weights)
    squares = _squares(updates)
    left, chosen = list(range(n)), []
    while len(chosen) < n - 2 * bad:
        here = squares[np.ix_(left, left)]
        chosen.append(left.pop(int(np.argmin(_scores(here, bad)))))
    beta = n - 4 * bad

    def middle(stack: np.ndarray) -> np.ndarray:
        of = stack[chosen]
        near = np.argsort(np.abs(of - np.median(of, axis=0)), axis=0, kind="stable")[:beta]
        return np.take_along_axis(of, near, axis=0).mean(axis=0)

    told = {i: "not among those Krum chose" for i in left}
    return Combined(_by_array(updates, middle), told)


def spectral(updates: Sequence[Update], weights: np.ndarray, bad: int = 0) -> Combined:
    """Mean of the sites that lie least along the main direction in which updates differ; ``bad`` are set aside. n > 2f.

    Honest sites differ in many directions, colluders from the rest in one: it sees what stays within the honest spread
    coordinate by coordinate. Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine (divide and conquer),
    on all coordinates at once.
    """
    n = len(updates)
    _enough("spectral", n, bad, 2 * bad + 1, "n > 2f")
    _weights(updates, weights)
    products = _products(updates)
    centre = np.eye(n) - 1.0 / n
    value, vector = np.linalg.eigh(centre @ products @ centre)
    score = value[-1] * vector[:, -1] ** 2
    order = np.argsort(score, kind="stable")
    kept = np.sort(order[: n - bad])
    total = max(float(score.sum()), np.finfo(float).tiny)
    told = {int(i): f"{score[i] / total:.0%} of the main difference between sites" for i in order[n - bad :]}
    return Combined(_by_array(updates, lambda a: a[kept].mean(axis=0)), told)


def mixed(updates: Sequence[Update], bad: int) -> list[Update]:
    """Each update replaced by the mean of the n - f nearest to it, itself among them.

    Source: Allouah et al. 2023, Fixing by mixing (nearest-neighbour mixing).
    """
    n = len(updates)
    _enough("mixed", n, bad, 2 * bad + 1, "n > 2f")
    near = np.argsort(_squares(updates), axis=1, kind="stable")[:, : n - bad]
    share = np.zeros((n, n))
    np.put_along_axis(share, near, 1.0 / (n - bad), axis=1)
    new: list[Update] = [{} for _ in range(n)]
    for name, stack in _stacks(updates):
        flat = share @ stack.reshape(n, -1)
        for i in range(n):
            new[i][name] = flat[i].reshape(stack.shape[1:])
    return new


def krum_scores(updates: Sequence[Update], bad: int) -> np.ndarray:
    """Summed squared distance of each update to its n - f - 2 nearest others (at least one): (n,)."""
    return _scores(_squares(updates), bad)


def norms(updates: Sequence[Update]) -> np.ndarray:
    """Euclidean length of each update over all its arrays: (n,)."""
    return np.sqrt([sum(float(np.square(np.asarray(a, np.float64)).sum()) for a in u.values()) for u in updates])


def _scores(squares: np.ndarray, bad: int) -> np.ndarray:
    n = len(squares)
    others = np.sort(squares + np.diag(np.full(n, np.inf)), axis=1)[:, : max(1, n - bad - 2)]
    return np.where(np.isfinite(others), others, 0.0).sum(axis=1)


def _products(updates: Sequence[Update]) -> np.ndarray:
    """Inner products between the updates, each less their median: (n, n). Centred, so that distances keep digits."""
    total = np.zeros((len(updates), len(updates)))
    for _, stack in _stacks(updates):
        flat = (stack - np.median(stack, axis=0)).reshape(len(updates), -1)
        total += flat @ flat.T
    return total


def _squares(updates: Sequence[Update]) -> np.ndarray:
    products = _products(updates)
    own = np.diag(products)
    squares = np.maximum(own[:, None] + own[None, :] - 2 * products, 0.0)
    np.fill_diagonal(squares, 0.0)
    return squares


def _distances(own: np.ndarray, products: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Distance of each update to sum a_i u_i, where sum a_i = 1: (n,)."""
    return np.sqrt(np.maximum(own - 2 * products @ a + a @ products @ a, 0.0))


def _stacks(updates: Sequence[Update]):
    """(name, (n, ...) float64) of each array, in order of names."""
    for name in sorted(updates[0]):
        yield name, np.stack([np.asarray(u[name], dtype=np.float64) for u in updates])


def _by_array(updates: Sequence[Update], formula: Callable[[np.ndarray], np.ndarray]) -> Update:
    return {name: _like(updates, name, formula(stack)) for name, stack in _stacks(updates)}


def _like(updates: Sequence[Update], name: str, value: np.ndarray) -> np.ndarray:
    """In the dtype of the updates; a mean of integers is no integer."""
    dtype = updates[0][name].dtype
    return np.asarray(value, dtype=dtype if dtype.kind == "f" else np.float64)


def _enough(rule: str, n: int, bad: int, needed: int, formula: str) -> None:
    if bad < 0:
        raise RobustError(f"{rule}: the number of bad sites is {bad}; 0 or more was expected.")
    if n < needed:
        raise RobustError(
            f"{rule}: {n} sites cannot outvote {bad} bad ones; it needs {formula}, {needed} here. "
            "Ask more sites, or another rule (median, trimmed_mean, geometric_median: n > 2f)."
        )


def _weights(updates: Sequence[Update], weights: np.ndarray) -> np.ndarray:
    """Checked weights (n,) float64; raises RobustError where updates do not match or a number is not finite."""
    w = np.asarray(weights, dtype=np.float64)
    if not len(updates) or w.shape != (len(updates),):
        raise RobustError(f"{len(updates)} updates and weights of shape {w.shape}; one weight an update, at least one.")
    if not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise RobustError("weights are finite, 0 or more, and not all 0.")
    shapes = {k: a.shape for k, a in updates[0].items()}
    for i, update in enumerate(updates):
        if {k: a.shape for k, a in update.items()} != shapes:
            raise RobustError(f"update {i} has other arrays or shapes than update 0; check updates before combining.")
        if wrong := [k for k, a in update.items() if not (np.isfinite(a).all() and np.all(np.abs(a) < BEYOND))]:
            raise RobustError(f"update {i} is not finite, or beyond {BEYOND:g}, in {wrong[0]!r}; check updates first.")
    return w


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
