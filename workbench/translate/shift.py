"""Is the shift between lines and tumours gone? A classifier that was never shown a sample says.

In every fold the adaptation itself is fitted on the training samples, so that a held-out sample has not helped to make
itself look like the others; the classifier (kernel ridge on a linear and a Gaussian kernel, which also sees differences
of spread and shape) learns lines from tumours on them and is asked about the rest. Lines of other tissues than the
tumours' help the adaptation and are not asked about, so that a tissue does not pass for a domain.

AUROC 0.5: no telling apart. The interval of chance comes from shuffled labels in the same folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.translate import adapt
from workbench.translate.areas import SEED, auroc
from workbench.translate.domains import Domain

FOLDS = 5
ENOUGH = 10  # lines of the tumours' tissues; with fewer, lines of all tissues are asked about
RIDGE = 0.1


@dataclass(frozen=True)
class Shift:
    """AUROC of telling tumours from lines, the 95 % interval of chance, how many of each, and whether it is gone."""

    value: float
    low: float
    high: float
    lines: int
    tumours: int

    @property
    def gone(self) -> bool:
        return self.value <= self.high


def measure(
    method: str, lines: Domain, tumours: Domain, *, folds: int = FOLDS, permutations: int = 200, seed: int = 0
) -> Shift:
    """How well lines and tumours are told apart after ``method``."""
    rng = np.random.default_rng([SEED, 3, seed])
    same = np.isin(lines.tissue, np.unique(tumours.tissue))
    if same.sum() < ENOUGH:
        same = np.ones(len(lines.names), dtype=bool)
    asked = np.flatnonzero(same)
    n, m = len(asked), len(tumours.names)
    part = np.concatenate([rng.permutation(np.arange(n) % folds), rng.permutation(np.arange(m) % folds)])
    truth = np.arange(n + m) >= n
    labels = np.column_stack([truth, *(rng.permutation(truth) for _ in range(permutations))])
    found = []
    for fold in range(folds):
        keep = np.ones(len(lines.names), dtype=bool)
        keep[asked[part[:n] == fold]] = False
        fitted = adapt.fit(method, lines.take(keep), tumours.take(part[n:] != fold))
        values = np.vstack([fitted.lines(lines.values[asked]), fitted.tumours(tumours.values)])
        test = part == fold
        score = scores(values[~test], labels[~test].astype(np.float64), values[test])
        found.append([auroc(score[:, [j]], labels[test, j])[0] for j in range(labels.shape[1])])
    mean = np.nanmean(np.array(found), axis=0)
    low, high = np.quantile(mean[1:], [0.025, 0.975])
    return Shift(float(mean[0]), float(low), float(high), n, m)


def scores(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Kernel ridge scores (t, c) of ``test`` (t, g) for every column of ``labels`` (n, c), from ``train`` (n, g)."""
    mean, sd = train.mean(axis=0), train.std(axis=0)
    alive = sd > 1e-9
    if not alive.any():
        return np.zeros((len(test), labels.shape[1]))
    a, b = (train[:, alive] - mean[alive]) / sd[alive], (test[:, alive] - mean[alive]) / sd[alive]
    within, across = a @ a.T, b @ a.T
    own, others = (a**2).sum(axis=1), (b**2).sum(axis=1)
    far, away = own[:, None] + own - 2 * within, others[:, None] + own - 2 * across
    width = max(float(np.median(far[np.triu_indices(len(a), 1)])), 1e-9)
    g = alive.sum()
    kernel = within / g + np.exp(-np.maximum(far, 0) / width)
    kernel.flat[:: len(a) + 1] += RIDGE
    weights = np.linalg.solve(kernel, labels - labels.mean(axis=0))
    return (across / g + np.exp(-np.maximum(away, 0) / width)) @ weights
