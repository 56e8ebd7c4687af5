"""Copies of measured values in a message, to the last digit or scaled and shifted, of any length from two dozen values.

``exact``  values that stand in the site's files to the bit, in any order, close together.
``echoes`` stretches whose steps go together as those of a stretch of a row do:

    angle_k = atan2(v_k+2 - v_k+1, v_k+1 - v_k) mod pi

does not change when v is scaled and shifted. Three angles in a row make a key; keys of own rows stand in a table of
bits, where another stands by chance in one case of fifty. Kinds of steps that are common among own rows (up and down by
the same) prove nothing; of the others in a stretch nearly all have to stand there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPARSE = 64  # cells of a table for each key
EXACT, EXACT_OF = 14, 16  # so many of so many neighbours are own values
ECHO, ECHO_OF = 18, 32  # fewest keys that prove something in a stretch of so many values
MISSED = 0.2  # share of them that need not stand in the table: rounding moves some to the next cell
COMMON = 0.1  # share of the cells of a kind of steps from which the kind proves nothing
MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4)


@dataclass(frozen=True)
class Table:
    """A set of keys as a table of bits: ``has`` may be wrong by chance where it says yes, never where it says no."""

    cells: np.ndarray  # 8 to a byte
    bits: int  # there are 2^bits of them

    @classmethod
    def of(cls, keys: np.ndarray) -> Table:
        """The table in which all of ``keys`` (n,) stand."""
        bits = int(np.clip(np.ceil(np.log2(SPARSE * max(len(keys), 1))), 16, 26))
        cells = np.zeros(1 << bits, dtype=bool)
        cells[_cell(keys, bits)] = True
        return cls(np.packbits(cells), bits)

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Which of ``keys`` (n,) stand there."""
        at = _cell(keys, self.bits)
        place = at.astype(np.uint8)
        np.bitwise_and(np.invert(place, out=place), 7, out=place)  # 7 - at % 8: the first cell is the highest bit
        at >>= 3
        return (self.cells[at] >> place & 1).view(bool)


@dataclass(frozen=True)
class Steps:
    """Keys of own rows, and which kinds of steps (2^15 of 4,096 cells each) are too common to prove anything."""

    table: Table
    common: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray) -> Steps:
        kinds = np.bincount(_kind(np.unique(keys)), minlength=1 << 15)
        return cls(Table.of(keys), kinds > COMMON * (1 << 12))


def _kind(keys: np.ndarray) -> np.ndarray:
    """The five highest bits of each of a key's three angles."""
    parts = [(keys >> np.uint64(9 * k + 4)) & np.uint64(31) for k in range(3)]
    return (parts[0] | (parts[1] << np.uint64(5)) | (parts[2] << np.uint64(10))).astype(np.int64)


def _cell(keys: np.ndarray, bits: int) -> np.ndarray:
    mixed = keys.astype(np.uint64)
    mixed *= MIX
    mixed >>= np.uint64(64 - bits)
    return mixed.view(np.int64)


def value_keys(values: np.ndarray) -> np.ndarray:
    """The bits of float32 or float64 values, as whole numbers."""
    return values.view(np.uint32 if values.dtype == np.float32 else np.uint64)


def exact(flat: np.ndarray, table: Table) -> bool:
    """Whether 14 of 16 neighbours in ``flat`` (N,) are own values; in short arrays 4 in 5 of at least 4 different."""
    with np.errstate(all="ignore"):  # bytes read as floats may be anything
        hit = table.has(value_keys(flat))
        if len(flat) >= EXACT_OF and not _crowded(hit, EXACT):
            return False
        hit &= flat != np.rint(flat)
    if not hit.any():
        return False
    if len(flat) < EXACT_OF:
        return len(np.unique(flat[hit])) >= 4 and hit.mean() >= 0.8
    return any(len(np.unique(flat[at : at + EXACT_OF])) >= EXACT_OF // 2 for at in _dense(hit, EXACT, EXACT_OF))


def echo_keys(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of every three angles in a row along the last axis, and which mean something (no value repeated near)."""
    with np.errstate(all="ignore"):
        step = np.diff(rows.astype(np.float64), axis=-1)
        angle = np.arctan2(step[..., 1:], step[..., :-1]) / np.pi
        angle -= np.floor(angle)
        cell = (np.where(np.isfinite(angle), angle, 0.0) * 511.999).astype(np.uint64)
        keys = (cell[..., 2:] << np.uint64(18)) | (cell[..., 1:-1] << np.uint64(9)) | cell[..., :-2]
        moved = (step != 0) & np.isfinite(step)
        moved = moved[..., 1:] & moved[..., :-1] & (step[..., 1:] != -step[..., :-1])
    return keys, moved[..., :-2] & moved[..., 1:-1] & moved[..., 2:]


def echoes(flat: np.ndarray, own: Steps) -> bool:
    """Whether in a stretch of ``flat`` (N,) nearly all keys that prove something are those of own rows."""
    if len(flat) < ECHO_OF + 4:
        return False
    for start in range(0, len(flat), 1 << 18):
        part = flat[start : start + (1 << 18) + ECHO_OF + 4]
        if len(part) < ECHO_OF + 4:
            break
        keys, told = echo_keys(part)
        hit = own.table.has(keys)
        hit &= told
        if not _crowded(hit, ECHO):
            continue
        proof = told & ~own.common[_kind(keys)]
        hit &= proof
        hits, proofs = (np.concatenate([[0], np.cumsum(v)]) for v in (hit, proof))
        hits, proofs = hits[ECHO_OF:] - hits[:-ECHO_OF], proofs[ECHO_OF:] - proofs[:-ECHO_OF]
        for at in np.flatnonzero((hits >= ECHO) & (hits >= (1 - MISSED) * proofs))[:4096]:
            if len(np.unique(keys[at : at + ECHO_OF])) >= ECHO:
                return True
    return False


def _crowded(hit: np.ndarray, least: int) -> bool:
    """Whether ``least`` hits can stand among 32 neighbours: some 16 of those that begin a multiple of 16 hold a third.

    Quick, and never wrong where it says no: 32 neighbours touch three such groups at most.
    """
    packed = np.packbits(hit)
    packed = np.concatenate([packed, np.zeros(len(packed) % 2, dtype=np.uint8)])
    return bool((np.bitwise_count(packed.view(np.uint16)) >= -(-least // 3)).any())


def _dense(hit: np.ndarray, least: int, of: int) -> np.ndarray:
    """First numbers of windows of ``of`` neighbours with ``least`` hits."""
    total = np.concatenate([[0], np.cumsum(hit)])
    return np.flatnonzero(total[of:] - total[:-of] >= least)[:4096]
