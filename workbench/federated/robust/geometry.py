"""Updates of several sites as points: lengths, distances, stacks by array; float64 throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Update = dict[str, np.ndarray]
BEYOND = 1e100  # its square still has room in a float64; no model's numbers come near


class RobustError(ValueError):
    """A rule cannot promise what it is asked to: too few sites for so many bad ones, or updates that do not match."""


def weights(updates: Sequence[Update], weights: np.ndarray) -> np.ndarray:
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
        # a Python float: float32 has no room for the bound
        if wrong := [k for k, a in update.items() if a.size and not float(np.abs(a).max()) < BEYOND]:
            raise RobustError(f"update {i} is not finite, or beyond {BEYOND:g}, in {wrong[0]!r}; check updates first.")
    return w


def norms(updates: Sequence[Update]) -> np.ndarray:
    """Euclidean length of each update over all its arrays: (n,)."""
    return np.sqrt([sum(float(np.square(np.asarray(a, np.float64)).sum()) for a in u.values()) for u in updates])


def shortening(updates: Sequence[Update], longest: float | None = None) -> np.ndarray:
    """What to multiply each update by so that none is longer than ``longest`` (the median length): (n,), at most 1."""
    length = norms(updates)
    limit = float(np.median(length)) if longest is None else float(longest)
    return np.minimum(1.0, np.divide(limit, length, out=np.ones_like(length), where=length > 0))


def products(updates: Sequence[Update]) -> np.ndarray:
    """Inner products between the updates, each less their median: (n, n). Centred, so that distances keep digits."""
    total = np.zeros((len(updates), len(updates)))
    for _, stack in stacks(updates):
        flat = (stack - np.median(stack, axis=0)).reshape(len(updates), -1)
        total += flat @ flat.T
    return total


def squares(updates: Sequence[Update]) -> np.ndarray:
    """Squared distances between the updates: (n, n), 0 on the diagonal."""
    inner = products(updates)
    own = np.diag(inner)
    out = np.maximum(own[:, None] + own[None, :] - 2 * inner, 0.0)
    np.fill_diagonal(out, 0.0)
    return out


def distances(own: np.ndarray, inner: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Distance of each update to sum a_i u_i, where sum a_i = 1: (n,)."""
    return np.sqrt(np.maximum(own - 2 * inner @ a + a @ inner @ a, 0.0))


def stacks(updates: Sequence[Update]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, (n, ...) float64) of each array, in order of names."""
    for name in sorted(updates[0]):
        yield name, np.stack([np.asarray(u[name], dtype=np.float64) for u in updates])


def by_array(updates: Sequence[Update], formula: Callable[[np.ndarray], np.ndarray]) -> Update:
    return {name: like(updates, name, formula(stack)) for name, stack in stacks(updates)}


def like(updates: Sequence[Update], name: str, value: np.ndarray) -> np.ndarray:
    """In the dtype of the updates; a mean of integers is no integer."""
    dtype = updates[0][name].dtype
    return np.asarray(value, dtype=dtype if dtype.kind == "f" else np.float64)


def main_direction(updates: Sequence[Update], factor: np.ndarray) -> tuple[np.ndarray, float]:
    """Where each update times its ``factor`` lies along their main difference, and how far that stands out.

    Returns
    -------
    (n,) unit vector over the updates; largest variance over the next, less one (0 where there is no next)
    """
    n = len(updates)
    inner = products([{k: factor[i] * a for k, a in u.items()} for i, u in enumerate(updates)])
    centre = np.eye(n) - 1.0 / n
    value, vector = np.linalg.eigh(centre @ inner @ centre)
    return vector[:, -1], float(value[-1] / value[-2] - 1.0) if n > 2 and value[-2] > 0 else 0.0
