"""How many rows lie side by side and how many are shuffled together, from a cap on memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW = 96  # bytes of bookkeeping per row of a window: numbers, order, places, columns
WINDOW = 2**17  # rows; more make no better shuffle
ROOMY = 2**25  # bytes; a larger window no longer fits into a processor's cache
MIXED = 128  # blocks in a window from which minibatches of 64 are as mixed as random ones, to 3 %
PIECE = 2**16  # bytes of a block from which reading is no longer a matter of seeks


@dataclass(frozen=True)
class Budget:
    """Rows of a block and of a window, where blocks begin and end; bytes that a window, and all of it, can take."""

    block: int
    window: int
    edges: NDArray[np.int64]
    most: int
    bytes: int


def plan(
    source: Any,
    rows: NDArray[np.int64] | None,
    batch: int,
    cap: int,
    held: int,
    block: int | None,
    window: int | None,
) -> Budget:
    """Blocks and windows that fit into ``cap`` bytes.

    Parameters
    ----------
    held : bytes that the stream holds anyway
    block, window : rows, where given

    Raises
    ------
    MemoryError
        They do not fit; the message names the bytes that would do.
    """
    length = source.rows if rows is None else len(rows)
    batch_bytes = 2 * batch * source.features * 4
    row = source.row_bytes + ROW
    fixed = window is not None
    least = max(1, round(PIECE / source.row_bytes), source.together)  # rows that are worth a reading
    if window is None:
        fits = int((cap - held - batch_bytes) / (2.2 * row))
        roomy = max(ROOMY // int(source.row_bytes), MIXED * source.together, 16 * batch)
        window = min(max(fits, batch), WINDOW, roomy, length)
    per = max(1, -(-window // batch) if window >= length else window // batch)
    window = per * batch
    if block is None:
        block = max(1, min(window // MIXED, 4 * least))
    while True:
        edges = source.edges(rows, block)
        most = _most(source.costs(rows, edges), edges, window)
        needed = held + batch_bytes + 2 * most + 2 * ROW * window
        if needed <= cap:
            return Budget(block, window, edges, most, int(needed))
        if fixed or per <= 1:
            break
        per = max(1, int(per * min(0.9, cap / needed)))
        window = per * batch
    raise MemoryError(
        f"streaming {source.name} in batches of {batch} and blocks of {block} rows needs {int(needed):,} bytes, "
        f"memory_bytes allows {cap:,}. Give at least that, or smaller batches or blocks."
    )


def _most(costs: NDArray[np.int64], edges: NDArray[np.int64], window: int) -> int:
    """Bytes of the largest window there can be: its rows may come from the heaviest blocks, two of them cut."""
    sizes = np.diff(edges)
    blocks = min(len(costs), -(-window // max(1, int(np.median(sizes)))) + 2)
    return int(np.partition(costs, len(costs) - blocks)[len(costs) - blocks :].sum())
