"""Noise that is the same whenever the same is asked of the same rows, and that nobody without the site's key foresees.

    bytes = SHAKE-256(key, what is asked, the exact numbers, count)      (FIPS 202)

Drawn anew each time, the noise of an answer that is asked for again, by a server that goes on after a kill say, could
be averaged out, and each answer would have to be charged. As a function of the exact numbers too, it is another noise
as soon as one number is another; so two answers never share one.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from workbench.federated.private import noise as _noise

if TYPE_CHECKING:
    from workbench.federated.site import Site

MEMORY = "noise key"  # site.memory: the key of a site without a folder; a test may put a fixed one here
GRID = 20  # binary digits of the noise's standard deviation that are kept


def key(site: Site) -> bytes:
    """The site's key: that of its budget (``gate.budget``), or one that lives as long as this process."""
    for step in site.outgoing:
        if (held := getattr(step, "noise_key", None)) is not None and MEMORY not in site.memory:
            return held()
    return site.memory.setdefault(MEMORY, secrets.token_bytes(32))


def draw(secret: bytes, *about: bytes) -> Callable[[int], bytes]:
    """A source of random bytes: the same for the same ``secret`` and ``about``; each call goes on where it was."""
    base = hashlib.shake_256(b"".join(len(part).to_bytes(8, "big") + part for part in (secret, *about)))
    at = 0

    def more(count: int) -> bytes:
        nonlocal at
        own = base.copy()
        own.update(at.to_bytes(8, "big"))
        at += 1
        return own.digest(count)

    return more


def noisy(exact: np.ndarray, sd: float, source: Callable[[int], bytes]) -> np.ndarray:
    """``exact`` plus normal noise of standard deviation ``sd``, rounded to a grid of about sd / 2^20: float64.

    Floating-point numbers between which noise can fall lie at other places for other exact numbers, and would tell them
    apart (Mironov 2012, CCS); the grid is the same for all, and rounding to it costs no privacy.
    """
    step = 2.0 ** (math.floor(math.log2(sd)) - GRID)
    return np.round((exact + _noise.gaussian(np.shape(exact), sd, source)) / step) * step
