"""Is the shift between lines and tumours gone? Two classifiers that were never shown a sample say.

In every fold the adaptation itself is fitted on the training samples, so that a held-out sample has not helped to make
itself look like the others; kernel ridges learn lines from tumours on them and are asked about the rest. One is linear
and sees levels; one has the squared linear kernel and sees spread and co-expression; the better of the two counts, and
so it does under shuffled labels. (A Gaussian kernel was tried: it told two random halves of one cohort apart after each
was standardised on its own.) Lines of other tissues than the tumours' help the adaptation and are not asked about, so
that a tissue does not pass for a domain.

AUROC 0.5: no telling apart. Chance is what shuffled labels reach in the same folds, and what random halves of the
tumours reach that are adapted to each other as if they were two domains: a method that estimates much from few tumours
sets even those apart, and that is not a shift. (Halves are small, so this errs towards calling a shift gone.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.translate import adapt
from workbench.translate.areas import SEED, auroc
from workbench.translate.domains import Domain

FOLDS = 5
HALVES = 10
ENOUGH = 10  # lines of the tumours' tissues; with fewer, lines of all tissues are asked about
RIDGE = 0.1
KERNELS = {"linear": 1, "squared": 2}


@dataclass(frozen=True)
class Shift:
    """AUROC of telling tumours from lines, the interval of chance, how many of each, and whether it is gone.

    ``levels`` is what the linear classifier reaches, ``spread`` the squared one (spread and co-expression).
    """

    value: float
    levels: float
    spread: float
    low: float
    high: float
    lines: int
    tumours: int

    @property
    def gone(self) -> bool:
        return self.value <= self.high


def measure(
    method: str,
    lines: Domain,
    tumours: Domain,
    *,
    folds: int = FOLDS,
    permutations: int = 200,
    halves: int = HALVES,
    seed: int = 0,
) -> Shift:
    """How well lines and tumours are told apart after ``method``."""
    rng = np.random.default_rng([SEED, 3, seed])
    same = np.isin(lines.tissue, np.unique(tumours.tissue))
    if same.sum() < ENOUGH:
        same = np.ones(len(lines.names), dtype=bool)
    asked = np.flatnonzero(same)
    each = _told_apart(method, lines, tumours, asked, folds, permutations, rng)
    best = each.max(axis=0)
    low, high = np.quantile(best[1:], [0.025, 0.975])
    m = len(tumours.names)
    for _ in range(halves if m >= 4 * folds else 0):
        first = rng.permutation(m) < m // 2
        one, other = tumours.take(first), tumours.take(~first)
        high = max(high, _told_apart(method, one, other, np.arange(len(one.names)), folds, 0, rng).max())
    levels, spread = each[:, 0].tolist()
    return Shift(max(levels, spread), levels, spread, float(low), float(high), len(asked), m)


def _told_apart(
    method: str, lines: Domain, tumours: Domain, asked: np.ndarray, folds: int, permutations: int, rng
) -> np.ndarray:
    """AUROC (classifiers, 1 + permutations): of the domains, then of shuffled labels."""
    n, m = len(asked), len(tumours.names)
    part = np.concatenate([rng.permutation(np.arange(n) % folds), rng.permutation(np.arange(m) % folds)])
    truth = np.arange(n + m) >= n
    labels = np.column_stack([truth, *(rng.permutation(truth) for _ in range(permutations))])
    found = np.empty((folds, len(KERNELS), labels.shape[1]))
    for fold in range(folds):
        keep = np.ones(len(lines.names), dtype=bool)
        keep[asked[part[:n] == fold]] = False
        fitted = adapt.fit(method, lines.take(keep), tumours.take(part[n:] != fold))
        values = np.vstack([fitted.lines(lines.values[asked]), fitted.tumours(tumours.values)])
        test = part == fold
        for k, kernel in enumerate(KERNELS):
            score = scores(values[~test], labels[~test].astype(np.float64), values[test], kernel)
            found[fold, k] = [auroc(score[:, [j]], labels[test, j])[0] for j in range(labels.shape[1])]
    return np.nanmean(found, axis=0)


def scores(train: np.ndarray, labels: np.ndarray, test: np.ndarray, kernel: str = "linear") -> np.ndarray:
    """Kernel ridge scores (t, c) of ``test`` (t, g) for every column of ``labels`` (n, c), from ``train`` (n, g)."""
    mean, sd = train.mean(axis=0), train.std(axis=0)
    alive = sd > 1e-9
    if not alive.any():
        return np.zeros((len(test), labels.shape[1]))
    a, b = (train[:, alive] - mean[alive]) / sd[alive], (test[:, alive] - mean[alive]) / sd[alive]
    power = KERNELS[kernel]
    within, across = (a @ a.T / alive.sum()) ** power, (b @ a.T / alive.sum()) ** power
    within.flat[:: len(a) + 1] += RIDGE
    return across @ np.linalg.solve(within, labels - labels.mean(axis=0))
