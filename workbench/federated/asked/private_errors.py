"""How large a model's errors are: shares of each person's errors in a few intervals, under noise.

    shares = sum over persons of (share of the person's errors in each interval)

A person's shares add up to 1, so their length is 1 at most: sensitivity 1, with however many treatments.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.private import persons as _persons
from workbench.federated.site import SiteError

PLAIN = (
    "How wrong the model's predictions are, as shares in a few intervals in which each person counts once, under "
    "random noise that hides whether any one person is in them (differential privacy)."
)
LEAVES = Leaves(
    arrays={"shares": "sum over persons of the share of errors in each interval, under noise"},
    summed=True,
    private=True,
)


def answer(site, ask: Ask) -> Answer:
    """``axes`` (f, k), ``mean``, ``sd`` (f,), ``solution`` (k + 1, t), levels last, ``edges`` (b,) ascending from 0."""
    persons = _persons.of(site, ask)
    r, edges = _persons.along(persons, ask), np.asarray(ask.arrays["edges"], dtype=np.float64)
    solution = np.asarray(ask.arrays["solution"], dtype=np.float64)
    if solution.shape != (r.shape[1] + 1, persons.y.shape[1]) or edges.ndim != 1 or not (np.diff(edges) > 0).all():
        raise SiteError(f"solution should be axes and 1 by treatments, found {solution.shape}; edges should ascend.")
    size = np.abs(persons.y - r @ solution[:-1] - solution[-1])
    there = np.isfinite(size)
    at = np.searchsorted(edges, np.where(there, size, 0.0), side="right") - 1
    counts = np.zeros((len(size), len(edges)))
    np.add.at(counts, (np.nonzero(there)[0], np.maximum(at, 0)[there]), 1.0)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
    return _persons.released(site, ask, {"shares": (shares.sum(0), 1.0, 1.0)})
