"""Conjugate gradients for many ridge systems at once, whose matrices nobody has: only sums over sites of products.

    (A_c + a_c D) x_c = b_c,   A_c = sum over the rows of column c of [r 1][r 1]',   D = diag(1, ..., 1, 0)

Preconditioner: A_c as if the rows of c were a fair part of all rows, whose Gram matrix is known:
(n_c / n) Gram + a_c D. The better that holds the fewer rounds; what is found is exact either way.
Source: Hestenes and Stiefel 1952, J. Res. Nat. Bur. Stand. 49:409.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]  # directions (k + 1, m), columns (m,) -> A_c directions


class NotSolved(RuntimeError):
    """The systems were not solved within the rounds allowed; says how many and how near they are."""


@dataclass(frozen=True)
class Systems:
    """c systems in k axes and an intercept.

    Attributes
    ----------
    gram, subjects : of all subjects (k + 1, k + 1), and how many
    count : rows of each system (c,), at least 1
    penalty : a_c (c,), above 0
    rhs : b (k + 1, c)
    """

    gram: np.ndarray
    subjects: int
    count: np.ndarray
    penalty: np.ndarray
    rhs: np.ndarray

    def preconditioned(self, r: np.ndarray, at: np.ndarray) -> np.ndarray:
        """About the inverse times ``r`` (k + 1, m), for the columns ``at``; the intercept is taken as uncorrelated."""
        values, vectors = self._eigen
        share = self.count[at] / self.subjects
        scaled = (vectors.T @ r[:-1]) / (np.outer(values, share) + self.penalty[at])
        return np.concatenate([vectors @ scaled, r[-1:] / self.count[at]])

    @property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        kept = self.__dict__.get("_kept")
        if kept is None:
            values, vectors = np.linalg.eigh(self.gram[:-1, :-1])
            kept = self.__dict__["_kept"] = (np.maximum(values, 0.0), vectors)
        return kept


def solve(
    systems: Systems,
    product: Product,
    tolerance: float,
    most: int = 200,
    strict: bool = True,
    state: Mapping[str, np.ndarray] | None = None,
    keep: Callable[[Mapping[str, np.ndarray]], None] | None = None,
) -> np.ndarray:
    """Solutions (k + 1, c), each to a residual of ``tolerance`` of its right-hand side in the preconditioner's norm.

    Parameters
    ----------
    most, strict : rounds after which what is not solved is an error, or (not strict) good enough
    state, keep : what ``keep`` got after the last round, to go on from it with the same numbers
    """
    if state is None:
        x = np.zeros_like(systems.rhs)
        r = systems.rhs.astype(np.float64)
        every = np.arange(r.shape[1])
        p = systems.preconditioned(r, every)
        rz = (r * p).sum(0)
        state = {"x": x, "r": r, "p": p, "rz": rz, "first": rz.copy(), "asked": np.array([0])}
    x, r, p, rz, first, asked = (np.array(state[k]) for k in ("x", "r", "p", "rz", "first", "asked"))
    while len(at := np.flatnonzero(rz > tolerance**2 * first)):
        if asked[0] >= most and not strict:
            break
        if asked[0] >= most:
            worst = float(np.sqrt((rz[at] / first[at]).max()))
            raise NotSolved(f"{len(at)} of {len(rz)} systems are {worst:.1e} off after {most} rounds.")
        asked[0] += 1
        direction = p[:, at]
        image = product(direction, at)
        image[:-1] += systems.penalty[at] * direction[:-1]
        step = rz[at] / (direction * image).sum(0)
        x[:, at] += step * direction
        r[:, at] -= step * image
        z = systems.preconditioned(r[:, at], at)
        now = (r[:, at] * z).sum(0)
        p[:, at] = z + (now / rz[at]) * direction
        rz[at] = now
        if keep is not None:
            keep({"x": x, "r": r, "p": p, "rz": rz, "first": first, "asked": asked})
    return x
