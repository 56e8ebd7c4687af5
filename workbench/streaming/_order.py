"""Which row comes when: a function of (seed, epoch) alone, whoever asks.

Rows, as sorted in the file, are cut into blocks; the blocks are shuffled; laid end to end they are the epoch's line of
rows. Each rank takes an equal stretch of the line and cuts it into batches; each of its workers takes a run of those
batches, reads them a window at a time, and shuffles the rows of a window whole. A window is some whole batches, so no
row can be lost or seen twice, and only a stretch's last batches can be short.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


class Order:
    """The line of rows of one epoch.

    Parameters
    ----------
    edges : (blocks + 1,) where blocks begin and end, counted in the rows to use
    rows : sorted numbers of the rows to use, or None for all
    seed, epoch : what fixes the shuffle
    """

    def __init__(self, edges: NDArray[np.int64], rows: NDArray[np.int64] | None, seed: int, epoch: int) -> None:
        self.rows, self.seed, self.epoch = rows, seed, epoch
        chosen = np.random.default_rng([seed, epoch]).permutation(len(edges) - 1)
        self._first = edges[:-1][chosen]
        self._ends = np.cumsum(np.diff(edges)[chosen])

    def line(self, start: int, stop: int) -> NDArray[np.int64]:
        """File rows at positions ``start`` to ``stop`` of the line."""
        low, high = np.searchsorted(self._ends, [start, stop - 1], side="right")
        pieces = []
        for number in range(low, high + 1):
            end = min(int(self._ends[number]), stop)
            before = int(self._ends[number - 1]) if number else 0
            first = int(self._first[number]) + start - before
            pieces.append(np.arange(first, first + end - start, dtype=np.int64))
            start = end
        found = np.concatenate(pieces)
        return found if self.rows is None else self.rows[found]

    def shuffle(self, start: int, count: int) -> NDArray[np.int64]:
        """The order within the window that begins at position ``start``."""
        return np.random.default_rng([self.seed, self.epoch, 1, start]).permutation(count)


@dataclass(frozen=True)
class Stretch:
    """What one worker of one rank reads: batches ``first`` to ``last`` of the rank's ``count``.

    The rank's rows are ``start`` to ``stop`` of the line.
    """

    start: int
    stop: int
    count: int
    first: int
    last: int
    batch: int

    def bounds(self, number: int) -> tuple[int, int]:
        """Positions in the line where batch ``number`` begins and ends."""
        return self.start + self._begin(number), self.start + self._begin(number + 1)

    def _begin(self, number: int) -> int:
        length = self.stop - self.start
        if number == self.count:
            return length
        # a rank with a row less than the others may lack one for the last batch: it gets the row before
        return min(number * self.batch, length - 1) if number == self.count - 1 else number * self.batch

    def windows(self, per: int, position: int = 0) -> Iterator[tuple[int, int]]:
        """Runs of ``per`` batches, as batch numbers (from, to), beginning with the one that holds ``position``."""
        for low in range(self.first + position // per * per, self.last, per):
            yield low, min(low + per, self.last)


def stretch(length: int, batch: int, rank: int = 0, ranks: int = 1, worker: int = 0, workers: int = 1) -> Stretch:
    """The stretch of a line of ``length`` rows that a worker of a rank takes.

    All ranks have as many batches, so that none waits for another.

    Raises
    ------
    ValueError
        There are fewer rows than ranks.
    """
    if length < ranks:
        raise ValueError(f"{length} rows cannot be shared among {ranks} ranks. Train on fewer devices.")
    cuts = [length * r // ranks for r in range(ranks + 1)]
    count = max(-(-(b - a) // batch) for a, b in pairwise(cuts))
    first, last = count * worker // workers, count * (worker + 1) // workers
    return Stretch(cuts[rank], cuts[rank + 1], count, first, last, batch)
