"""A round in which the unit is a whole site: its change is clipped, and noise is added, before it leaves.

    change_i min(1, S / |change_i|) + N(0, (z S)^2 / m)           m: sites whose parts of the noise are counted on

The sum over m sites, which is all that anybody sees of a secure sum, has noise of sd z S, and one site more or less
changes it by at most S. A part of the noise leaves within a secure sum or not at all, and a site counts on no more
parts than its policy trusts (``honest``), since sites that work with the server can take theirs away; with m = 1 each
adds all of it, and the sum over sites has more noise than was needed.

What five sites can expect: nothing of use. The mean of five changes of length S at most has noise of length
z S sqrt(d) / 5 for d weights: with z = 1 (epsilon 4.4 at delta = 1e-5, for one round) and 100,000 weights that is 63
times the longest change there can be. The guarantee is meant for hundreds of sites and more. Source: McMahan et al.
2018, Learning differentially private recurrent language models, ICLR.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_bytes

import numpy as np

from workbench.federated.private import noise as _noise

Arrays = dict[str, np.ndarray]


def clipped(change: Mapping[str, np.ndarray], most: float) -> Arrays:
    """The change as a whole at a length of at most ``most``, float64; zeros where a number of it is none."""
    wide = {k: np.asarray(a, dtype=np.float64) for k, a in change.items()}
    length = float(np.sqrt(sum(float((a * a).sum()) for a in wide.values())))
    if not np.isfinite(length):
        return {k: np.zeros(a.shape) for k, a in wide.items()}
    return {k: a * min(1.0, most / max(length, 1e-300)) for k, a in wide.items()}


def noised(change: Mapping[str, np.ndarray], sd: float, draw: _noise.Bytes = token_bytes) -> Arrays:
    """The change and noise of standard deviation ``sd`` on every number."""
    if not sd:
        return dict(change)
    return {k: a + _noise.gaussian(a.shape, sd, draw) for k, a in change.items()}
