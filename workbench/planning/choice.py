"""Which treatments to measure next: greedy by expected reduction of the summed posterior variance.

    gain(j) = sum over d of w_d C_dj^2 / C_jj,     then C <- C - C_j C_j' / C_jj

``C`` is what is left of the covariance after everything measured so far, so each step is exact, not an approximation
of it. In a Gaussian model the gain does not depend on the values that will be measured, so a panel can be chosen before
the first well is filled. With costs the step takes the largest gain per cost that the budget still allows.
The sum is over treatments that stay unmeasured; with ``own`` a measured one also counts as known (for a class of
interest, whose members may be measured themselves).

Source: Krause, Singh and Guestrin 2008, J. Mach. Learn. Res. 9:235 (greedy sensor placement), with their mutual
information replaced by the summed variance, the error that is scored (A-optimality).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.planning.posterior import remaining

SMALL = 1e-9


@dataclass(frozen=True)
class Choice:
    """A panel in the order of choice.

    Attributes
    ----------
    order : numbers of the treatments (k,)
    gain : reduction of the weighted variance of the others by each, given those before it (k,)
    left : summed weighted variance of the treatments outside the whole panel after 0, 1 .. k of it (k + 1,)
    spent : cost up to each (k,)
    """

    order: np.ndarray
    gain: np.ndarray
    left: np.ndarray
    spent: np.ndarray


def greedy(
    covariance: np.ndarray,
    k: int,
    *,
    given: Sequence[int] | np.ndarray = (),
    candidates: Sequence[int] | np.ndarray | None = None,
    weights: np.ndarray | None = None,
    cost: np.ndarray | None = None,
    budget: float | None = None,
    own: bool = False,
    patterns: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> Choice:
    """The next ``k`` treatments to measure (fewer where candidates or budget end).

    Parameters
    ----------
    covariance : (t, t) of measured residuals
    given : numbers of treatments measured already
    candidates : numbers of those that can be measured (default: all not given)
    weights : how much each treatment's error matters (t,), 1 by default
    cost : of each treatment (t,), positive, 1 by default
    budget : most that all chosen ones may cost together
    own : does a measured treatment count as known?
    patterns : (p, t) bool, which treatments would give a value in each of p imagined samples; the gain is the mean
    extra : variance of the given measurements beyond their usual noise

    Raises
    ------
    ValueError
        ``k`` is negative, a cost is not positive, or a weight negative.
    """
    t = len(covariance)
    w = np.ones(t) if weights is None else np.asarray(weights, dtype=np.float64)
    price = np.ones(t) if cost is None else np.asarray(cost, dtype=np.float64)
    if k < 0 or (w < 0).any() or not (price > 0).all():
        raise ValueError("expected k of at least 0, weights of at least 0 and costs above 0.")
    known = np.asarray(given, dtype=np.int64)
    start = remaining(covariance, known, extra)
    open_ = np.ones(t, dtype=bool)
    open_[known] = False
    allowed = open_.copy()
    if candidates is not None:
        allowed[:] = False
        allowed[np.asarray(candidates, dtype=np.int64)] = True
        allowed &= open_
    worlds = np.ones((1, t), dtype=bool) if patterns is None else np.asarray(patterns, dtype=bool)
    states = [start.copy() for _ in worlds]
    order: list[int] = []
    gains: list[float] = []
    spent = 0.0
    room = np.inf if budget is None else budget
    while len(order) < k:
        fits = allowed & (price <= room - spent + SMALL)
        if not fits.any():
            break
        worth = np.mean([_worth(c, w * open_, own) * there for c, there in zip(states, worlds, strict=True)], axis=0)
        rate = np.where(fits, worth / price, -np.inf)
        j = int(np.argmax(rate))
        if rate[j] <= 0:  # nothing that is left can tell anything more
            break
        for at, there in enumerate(worlds):
            if there[j]:
                states[at] -= np.outer(states[at][:, j], states[at][j]) / max(states[at][j, j], SMALL)
        open_[j] = allowed[j] = False
        order.append(j)
        gains.append(float(worth[j]))
        spent += float(price[j])
    chosen = np.array(order, dtype=np.int64)
    return Choice(chosen, np.array(gains), left(start, chosen, w, known), np.cumsum(price[chosen]))


def _worth(c: np.ndarray, w: np.ndarray, own: bool) -> np.ndarray:
    """Gain of measuring each treatment (t,), where ``c`` is what is left of the covariance."""
    diagonal = np.diag(c)
    total = (w[:, None] * c**2).sum(0) / np.maximum(diagonal, SMALL)
    return total if own else total - w * diagonal


def left(
    start: np.ndarray, panel: np.ndarray, weights: np.ndarray, given: Sequence[int] | np.ndarray = ()
) -> np.ndarray:
    """Weighted variance of what stays outside ``panel`` after 0, 1 .. k of its treatments (k + 1,): the same ones."""
    outside = np.ones(len(start), dtype=bool)
    outside[np.asarray(panel, dtype=np.int64)] = False
    outside[np.asarray(given, dtype=np.int64)] = False
    cross, told = start[panel][:, outside], [float((weights * np.diag(start))[outside].sum())]
    inner = start[np.ix_(panel, panel)].copy()
    for at in range(len(panel)):
        pivot = max(inner[at, at], SMALL)
        told.append(told[-1] - float((weights[outside] * cross[at] ** 2).sum() / pivot))
        below = inner[at + 1 :, at] / pivot
        cross[at + 1 :] -= below[:, None] * cross[at]
        inner[at + 1 :] -= below[:, None] * inner[at]
    return np.array(told)


def at_random(
    covariance: np.ndarray,
    k: int,
    draws: int,
    seed: int,
    *,
    given: Sequence[int] | np.ndarray = (),
    candidates: Sequence[int] | np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Mean variance of a treatment left outside after 0 .. k random ones (draws, k + 1): what choosing has to beat.

    Weights of zero for the chosen panel make both judged on treatments outside both. A draw after which nothing that
    matters is left is drawn again; where that never ends, there are fewer draws than asked, or none.
    """
    t = len(covariance)
    w = np.ones(t) if weights is None else np.asarray(weights, dtype=np.float64)
    known = np.asarray(given, dtype=np.int64)
    start = remaining(covariance, known)
    free = np.setdiff1d(np.arange(t) if candidates is None else np.asarray(candidates), known)
    rng = np.random.default_rng([20261122, seed])
    out = []
    for _ in range(20 * draws):
        panel = rng.permutation(free)[:k]
        outside = np.ones(t, dtype=bool)
        outside[np.concatenate([known, panel])] = False
        if (total := w[outside].sum()) > 0:
            out.append(left(start, panel, w, known) / total)
        if len(out) == draws:
            break
    return np.array(out).reshape(len(out), k + 1 if not out else -1)
