"""Concordance of predictions with a response: pairs of patients under one treatment, drawn again for intervals."""

from __future__ import annotations

import numpy as np

from workbench.translate.areas import SEED


def pairs(y: np.ndarray, rows: np.ndarray, told: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pairs (p, 2) of a responder and another under one treatment, and for each predictor 1, 0.5 or 0 (p,)."""
    at: list[np.ndarray] = []
    wins: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] for name in told}
    for j in range(y.shape[1]):
        yes, no = (np.flatnonzero(y[rows, j] == v) for v in (1.0, 0.0))
        a, b = (m.ravel() for m in np.meshgrid(yes, no, indexing="ij"))
        at.append(np.column_stack([rows[a], rows[b]]))
        for name, plane in told.items():
            gap = plane[a, j] - plane[b, j]
            wins[name].append(np.where(np.abs(gap) < 1e-12, 0.5, (gap > 0).astype(float)))
    return np.concatenate(at), {name: np.concatenate(parts) for name, parts in wins.items()}


def bootstrap(
    at: np.ndarray, won: dict[str, np.ndarray], patients: int, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Concordance (1 + draws,) of each: the sample itself, then patients drawn with replacement, the same for all."""
    rng = np.random.default_rng([SEED, 7, seed])
    out: dict[str, list[float]] = {name: [] for name in won}
    for draw in range(draws + 1):
        w = np.ones(patients) if draw == 0 else rng.multinomial(patients, np.full(patients, 1 / patients)).astype(float)
        pair = w[at[:, 0]] * w[at[:, 1]]
        total = max(pair.sum(), 1e-12)
        for name, wins in won.items():
            out[name].append(float(pair @ wins / total))
    return {name: np.array(v) for name, v in out.items()}
