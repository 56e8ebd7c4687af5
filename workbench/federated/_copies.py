"""Copies of measured values in a message, to the last digit or scaled and shifted, of any length from two dozen values.

``exact``  values that stand in the site's files to the bit, in any order, close together.
``echoes`` stretches whose steps go together as those of a stretch of a row do:

    angle_k = atan2(v_k+2 - v_k+1, v_k+1 - v_k) mod pi

does not change when v is scaled and shifted. Three angles in a row make a key; keys of own rows stand in a table of
bits, and two dozen keys in a row that all stand there are no chance (each does by chance in one case of fifty).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BITS = 26  # the tables have 2^26 cells
EXACT, EXACT_OF = 14, 16  # so many of so many neighbours are own values
ECHO, ECHO_OF = 26, 32
MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4)


@dataclass(frozen=True)
class Table:
    """A set of keys as a table of bits: ``has`` may be wrong by chance where it says yes, never where it says no."""

    cells: np.ndarray  # 8 to a byte

    @classmethod
    def of(cls, keys: np.ndarray) -> Table:
        """The table in which all of ``keys`` (n,) stand."""
        cells = np.zeros(1 << BITS, dtype=bool)
        cells[_cell(keys)] = True
        return cls(np.packbits(cells))

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Which of ``keys`` (n,) stand there."""
        at = _cell(keys)
        return (self.cells[at >> 3] >> (7 - (at & 7)).astype(np.uint8) & 1).astype(bool)


def _cell(keys: np.ndarray) -> np.ndarray:
    return ((keys.astype(np.uint64) * MIX) >> np.uint64(64 - BITS)).astype(np.int64)


def value_keys(values: np.ndarray) -> np.ndarray:
    """The bits of float32 or float64 values, as whole numbers."""
    return values.view(np.uint32 if values.dtype == np.float32 else np.uint64)


def exact(flat: np.ndarray, table: Table) -> bool:
    """Whether 14 of 16 neighbours in ``flat`` (N,) are own values; in short arrays 4 in 5 of at least 4 different."""
    with np.errstate(all="ignore"):  # bytes read as floats may be anything
        hit = table.has(value_keys(flat)) & (flat != np.rint(flat))
    if not hit.any():
        return False
    if len(flat) < EXACT_OF:
        return len(np.unique(flat[hit])) >= 4 and hit.mean() >= 0.8
    return any(len(np.unique(flat[at : at + EXACT_OF])) >= EXACT_OF // 2 for at in _dense(hit, EXACT, EXACT_OF))


def echo_keys(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of every three angles in a row along the last axis, and which of them mean something (no value repeated)."""
    with np.errstate(all="ignore"):
        step = np.diff(rows.astype(np.float64), axis=-1)
        angle = np.arctan2(step[..., 1:], step[..., :-1]) / np.pi
        angle -= np.floor(angle)
        cell = (np.where(np.isfinite(angle), angle, 0.0) * 511.999).astype(np.uint64)
        keys = (cell[..., 2:] << np.uint64(18)) | (cell[..., 1:-1] << np.uint64(9)) | cell[..., :-2]
        moved = (step != 0) & np.isfinite(step)
    return keys, moved[..., :-3] & moved[..., 1:-2] & moved[..., 2:-1] & moved[..., 3:]


def echoes(flat: np.ndarray, table: Table) -> bool:
    """Whether 26 of 32 keys in a row of ``flat`` (N,) are those of own rows."""
    if len(flat) < ECHO_OF + 4:
        return False
    for start in range(0, len(flat), 1 << 18):
        part = flat[start : start + (1 << 18) + ECHO_OF + 4]
        if len(part) < ECHO_OF + 4:
            break
        keys, told = echo_keys(part)
        hit = table.has(keys) & told
        for at in _dense(hit, ECHO, ECHO_OF):
            if len(np.unique(keys[at : at + ECHO_OF])) >= ECHO_OF // 2:
                return True
    return False


def _dense(hit: np.ndarray, least: int, of: int) -> np.ndarray:
    """First numbers of windows of ``of`` neighbours with ``least`` hits."""
    total = np.concatenate([[0], np.cumsum(hit)])
    return np.flatnonzero(total[of:] - total[:-of] >= least)[:4096]
