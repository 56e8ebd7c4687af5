"""The Gram matrix of the persons' features along axes that the server names, each person's row clipped, under noise.

    s_i = clip(z_i A - centre, C),   z_i standardised by the ask's mean and sd
    gram = sum s_i s_i'     first = sum s_i     count = number of persons

Sensitivity to one person: of the upper triangle with what is off the diagonal times sqrt(2), whose length is that of
the whole matrix, |s_i s_i'| = |s_i|^2 <= C^2; C; 1. Noise is drawn for the upper triangle: the matrix stays symmetric.
Source: Dwork, Talwar, Thakurta and Zhang 2014, Analyze Gauss, STOC, algorithm 1.
"""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.private import persons as _persons

PLAIN = (
    "Second moments of the features along a few directions, in which no person counts for more than a set amount, "
    "under random noise that hides whether any one person is in them (differential privacy)."
)
LEAVES = Leaves(
    arrays={
        "gram": "second moments along the directions, the upper triangle row by row, clipped and under noise",
        "first": "sums along the directions, clipped and under noise",
        "count": "number of persons, under noise",
    },
    summed=True,
    private=True,
)
GRAM, FIRST, COUNT = 0.85, 0.1, 0.05  # shares of 1 / noise^2


def answer(site, ask: Ask) -> Answer:
    """``axes`` (f, d), ``mean``, ``sd`` (f,), ``centre`` (d,) and ``clip`` of the ask."""
    _, s, long = _persons.centred(site, ask)
    whole = s.T @ s
    i, j = np.triu_indices(len(whole))
    sums = {
        "gram": (whole[i, j] * np.where(i == j, 1.0, np.sqrt(2.0)), long**2, GRAM),
        "first": (s.sum(0), long, FIRST),
        "count": (np.array([float(len(s))]), 1.0, COUNT),
    }
    return _persons.released(site, ask, sums)
