"""Ridge regression of many complete targets on one kernel, from one eigendecomposition, each with its own penalty.

    K = U diag(w) U',   H_a = U diag(w / (w + a)) U' + 11'/n,   dual = U diag(1 / (w + a)) U' (Y - mean)

K is centred on its rows, so that the mean is a free intercept. Left-out residual of one row: (y - H y) / (1 - diag H);
of a group g: (I - H_gg)^-1 (y - H y)_g. The penalty of each target is the one with the least left-out squared error.
Where ``kernel_ridge`` factorises once for every target and penalty because each target lacks other rows, here all
targets share one decomposition. Source: Rifkin and Lippert 2007, MIT-CSAIL-TR-2007-025.
"""

from __future__ import annotations

import numpy as np

PENALTIES = 10.0 ** np.linspace(-3.0, 2.5, 16)


def fit(
    kernel: np.ndarray, targets: np.ndarray, penalties: np.ndarray = PENALTIES, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dual weights (n, t), left-out predictions (n, t) and penalties (t,).

    Parameters
    ----------
    kernel : (n, n), centred, mean diagonal about 1
    targets : (n, t), no value missing
    groups : code of each row; rows of one code are left out together (default: each row by itself)
    """
    n = len(targets)
    mean = targets.mean(0)
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0.0)
    turned = vectors.T @ (targets - mean)
    squares = vectors**2
    blocks = None if groups is None else _blocks(groups)
    least = np.full(targets.shape[1], np.inf)
    chosen = np.full(targets.shape[1], penalties[-1])
    left_out = np.empty_like(targets)
    for penalty in penalties:
        shrink = values / (values + penalty)
        residual = targets - mean - vectors @ (shrink[:, None] * turned)
        if blocks is None:
            residual /= np.maximum(1.0 - squares @ shrink - 1.0 / n, 1e-6)[:, None]
        else:
            for block in blocks:
                rows = vectors[block]
                hat = (rows * shrink) @ rows.T + 1.0 / n
                residual[block] = np.linalg.solve(np.eye(len(block)) * (1.0 + 1e-9) - hat, residual[block])
        error = (residual**2).mean(0)
        better = error < least
        least[better], chosen[better] = error[better], penalty
        left_out[:, better] = targets[:, better] - residual[:, better]
    return vectors @ (turned / (values[:, None] + chosen)), left_out, chosen


def _blocks(groups: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each group; a single group is split in two, since something must teach."""
    _, code = np.unique(groups, return_inverse=True)
    if code.max(initial=0) == 0:
        code = np.arange(len(code)) % 2
    return [np.flatnonzero(code == g) for g in range(code.max() + 1)]
