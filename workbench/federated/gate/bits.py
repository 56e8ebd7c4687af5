"""What is hidden in bits: names as bytes, and messages in the last digits of numbers.

The last bits of honest results are as good as random where they are used at all: of the numbers whose very last bit is
1, the seven bits before it are uniform. Text or values put there are not, unless they are compressed or encrypted.
"""

from __future__ import annotations

import numpy as np

BLOCK = 4096  # numbers whose last bits are judged together
FEWEST = 1024  # with the last bit set, in a block, to judge it
UNEVEN = 12.0  # standard deviations of chi square (127 degrees of freedom) that are no chance


def names_in(data: bytes, names: list[str]) -> list[str]:
    """Own names that stand in ``data`` as text, more of them than chance explains.

    A name of k bytes turns up in random bytes by chance len(data) / 256^k times. Names of fewer than four bytes are not
    looked for.
    """
    found: list[str] = []
    stream = np.frombuffer(data, dtype=np.uint8)
    by: dict[int, list[bytes]] = {}
    for name in names:
        if len(coded := name.encode()) >= 4:
            by.setdefault(len(coded), []).append(coded)
    if not by or len(stream) < 4:
        return []
    firsts = np.array(sorted({int.from_bytes(n[:4], "little") for ns in by.values() for n in ns}), dtype=np.uint32)
    ends = np.zeros(1 << 16, dtype=bool)
    ends[firsts >> 16] = True
    at = []
    for k in range(4):
        words = stream[k : k + (len(stream) - k) // 4 * 4].view(np.uint32) if (len(stream) - k) >= 4 else firsts[:0]
        near = np.flatnonzero(ends[words >> 16])  # few as a rule
        words = words[near]
        place = np.minimum(np.searchsorted(firsts, words), len(firsts) - 1)
        at.append(near[firsts[place] == words] * 4 + k)
    starts = np.concatenate(at)
    for length, of in by.items():
        wanted, here = set(of), set()
        for i in starts.tolist():
            if (piece := data[i : i + length]) in wanted:
                here.add(piece)
        chance = len(data) * len(wanted) / 256.0**length
        if len(here) > chance + 6 * chance**0.5 + (0 if chance < 1e-6 else 1):
            found += sorted(p.decode(errors="replace") for p in here)
    return found


def streams(array: np.ndarray) -> list[bytes]:
    """The ways in which bytes can stand in an array: its own, whole numbers as characters, last bytes, last bits."""
    a = np.ascontiguousarray(array)
    out = [a.tobytes()]
    with np.errstate(all="ignore"):
        if a.dtype.itemsize > 1 and a.size:
            wide = a.ravel().astype(np.float64)
            if bool((np.isfinite(wide) & (wide == np.round(wide)) & (wide >= 0) & (wide < 256)).all()):
                out.append(wide.astype(np.uint8).tobytes())
    if a.dtype.itemsize > 1:
        raw = np.frombuffer(out[0], dtype=np.uint8).reshape(-1, a.dtype.itemsize)
        low = np.ascontiguousarray(raw[:, 0])
        out += [low.tobytes(), np.ascontiguousarray(raw[:, :2]).tobytes()]
    else:
        low = np.frombuffer(out[0], dtype=np.uint8)
    for bit_order in ("big", "little"):
        out.append(np.packbits(low & 1, bitorder=bit_order).tobytes())
    return out


def uneven(array: np.ndarray, largest: int = 1000) -> float:
    """How far from uniform the last byte of the numbers is [standard deviations of chi square], worst of the blocks.

    Only floats are judged, only those with the last bit set, and each value once in a block: numbers that were shorter
    before (16-bit values, whole ones) end in zeros and say nothing. Means of up to ``largest`` rows say nothing either:
    a short number divided by 23, say, has one of 22 periods in its last bits.
    """
    if array.dtype.kind != "f" or array.dtype.itemsize < 4 or array.size < FEWEST:
        return 0.0
    flat = np.ascontiguousarray(array).ravel()
    bits: np.ndarray = flat.view(np.uint32) if flat.dtype.itemsize == 4 else flat.view(np.uint64)
    size = len(bits) // max(1, len(bits) // BLOCK)
    worst = 0.0
    for start in range(0, len(bits) - size + 1, size):
        block = bits[start : start + size]
        odd = block[(block & 1).astype(bool)]
        if len(odd) < FEWEST // 2:
            continue
        counts = np.bincount(((odd >> 1) & 127).astype(np.int64), minlength=128)
        score = _chi(counts)
        if score > UNEVEN:  # seldom; values that repeat count once, and means of a few rows not
            once = np.unique(odd)
            score = _chi(np.bincount(((once >> 1) & 127).astype(np.int64), minlength=128))
            if score > UNEVEN and flat.dtype.itemsize == 8:
                once = once[~_shares(once.view(np.float64), largest)]
                score = _chi(np.bincount(((once >> 1) & 127).astype(np.int64), minlength=128))
        worst = max(worst, score)
    return worst


def _shares(values: np.ndarray, largest: int) -> np.ndarray:
    """Which float64 values are short numbers (of at most 42 bits) divided by a whole number up to ``largest``."""
    found = np.zeros(len(values), dtype=bool)
    for n in range(3, largest + 1, 2):
        mantissa, _ = np.frexp(values * n)
        long = mantissa * 2.0**42
        hit = np.abs(long - np.rint(long)) < 2.0**-8  # by chance one in a hundred
        if hit.mean() > 0.1:
            found |= hit
    return found


def _chi(counts: np.ndarray) -> float:
    """(chi square - 127) / sqrt(2 * 127) of 128 counts against even ones; 0 where they are too few."""
    total = int(counts.sum())
    if total < 512:
        return 0.0
    expected = total / 128
    return float((((counts - expected) ** 2).sum() / expected - 127) / np.sqrt(254.0))
