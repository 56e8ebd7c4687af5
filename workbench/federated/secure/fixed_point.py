"""Numbers as elements of the ring of integers modulo 2^64, so that masks can hide them perfectly and sums stay exact.

Three kinds, by dtype alone, so that no site has to tell how large its numbers are (an agreed scale would):

    whole    ints, bools     x itself                                      exact while n max|x| < 2^63
    single   float16, 32     x 2^32, rounded                               to 2^-33 a site, while n max|x| < 2^31
    double   float64         two limbs: h = x 2^6 rounded, and             to 2^-61 a site, while n max|x| < 2^57
                             (x 2^6 - h) 2^54 rounded

Limbs are summed apart, each in its own ring: no carry passes between them while n <= 1023 sites (n 2^53 < 2^63).
A number too large for n sites is an error at the site that holds it, never a sum that wrapped round.
"""

from __future__ import annotations

import numpy as np

WHOLE, SINGLE, DOUBLE = "whole", "single", "double"
LIMBS = {WHOLE: 1, SINGLE: 1, DOUBLE: 2}
SITES = 1023  # most sites of one sum
_SINGLE, _HIGH, _LOW = 32, 6, 54  # bits behind the point; of the double kind 6 in the high limb and 54 more in the low


class FixedPointError(ValueError):
    """Numbers that cannot be summed exactly: not finite, or too large; names the array and the bound."""


def kind(dtype: np.dtype) -> str:
    """Which of the three kinds an array of ``dtype`` becomes."""
    if dtype.kind in "biu":
        return WHOLE
    return SINGLE if dtype.itemsize <= 4 else DOUBLE


def encode(name: str, array: np.ndarray, sites: int) -> np.ndarray:
    """``array`` (any shape) as uint64 (limbs, *shape), for a sum over at most ``sites`` sites.

    Raises FixedPointError for NaN, infinity, or a magnitude with which the sum might wrap round.
    """
    if not 1 <= sites <= SITES:
        raise FixedPointError(f"one secure sum takes 1 to {SITES} sites; found {sites}.")
    form = kind(array.dtype)
    bound = 2 ** {WHOLE: 63, SINGLE: 63 - _SINGLE, DOUBLE: 63 - _HIGH}[form] // sites
    if array.size:
        low, high = array.min(), array.max()
        if form != WHOLE and not (np.isfinite(low) and np.isfinite(high)):
            raise FixedPointError(f"array {name!r} has values that are not finite; a sum would have none either.")
        if max(-int(low), int(high)) + 1 > bound:
            wider = "; float64 reaches further" if form == SINGLE else ""
            raise FixedPointError(
                f"array {name!r} has magnitudes beyond 2^{bound.bit_length() - 1}, too large for a sum over "
                f"{sites} sites{wider}."
            )
    limbs = np.empty((LIMBS[form], *array.shape), dtype=np.int64)
    if form == WHOLE:
        limbs[0] = array
    elif form == SINGLE:
        limbs[0] = np.rint(np.ldexp(array.astype(np.float64), _SINGLE))
    else:
        scaled = np.ldexp(array.astype(np.float64), _HIGH)
        limbs[0] = whole = np.rint(scaled)
        limbs[1] = np.rint(np.ldexp(scaled - whole, _LOW))  # the difference is exact
    return limbs.view(np.uint64)


def decode(form: str, total: np.ndarray) -> np.ndarray:
    """The sum (limbs, *shape) uint64 of encoded arrays, as int64 (whole) or float64 (*shape)."""
    limbs = total.view(np.int64)
    if form == WHOLE:
        return limbs[0].copy()
    if form == SINGLE:
        return np.ldexp(limbs[0].astype(np.float64), -_SINGLE)
    return np.ldexp(limbs[0].astype(np.float64), -_HIGH) + np.ldexp(limbs[1].astype(np.float64), -_HIGH - _LOW)
