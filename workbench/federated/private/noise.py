"""Gaussian noise and coin tosses that nobody can foresee: from the operating system's generator, never from a seed.

    noise = sd (g_1 + g_2 + g_3 + g_4) / 2          g: standard normal by Box and Muller, of 53 random bits each

A generator with a seed would give the noise back to whoever learns or guesses it, and the Mersenne twister's state can
be told from its output. Of a single normal number the last digits tell what was added to it (Mironov 2012, CCS); the
sum of four closes that (Holohan and Braghin 2021, ESORICS).
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes

import numpy as np

Bytes = Callable[[int], bytes]  # gives as many random bytes as asked for
AT_ONCE = 2**18  # normal numbers made together


def uniform(count: int, draw: Bytes = token_bytes) -> np.ndarray:
    """``count`` float64 in (0, 1], each of 53 random bits."""
    words = np.frombuffer(draw(8 * count), dtype="<u8") >> np.uint64(11)
    return (words + np.uint64(1)) * 2.0**-53


def gaussian(shape: tuple[int, ...], sd: float, draw: Bytes = token_bytes) -> np.ndarray:
    """Normal noise of mean 0 and standard deviation ``sd``: float64 of ``shape``."""
    out = np.empty(int(np.prod(shape, dtype=np.int64)))
    for start in range(0, len(out), AT_ONCE):
        n = min(AT_ONCE, len(out) - start)
        far, turn = uniform(4 * n, draw).reshape(2, 2 * n)
        far = np.sqrt(-2.0 * np.log(far))
        turn *= 2.0 * np.pi
        four = np.concatenate([far * np.cos(turn), far * np.sin(turn)]).reshape(4, n)
        out[start : start + n] = sd * four.sum(0) / 2.0
    return out.reshape(shape)


def sampled(count: int, rate: float, draw: Bytes = token_bytes) -> np.ndarray:
    """Which of ``count`` units are in a Poisson sample: each by itself with probability ``rate``; whole numbers."""
    return np.flatnonzero(uniform(count, draw) <= rate)
