"""Minibatches from files larger than memory: blocks of rows in random order, shuffled again within a window of many.

Reading single rows at random costs a seek and often a chunk a row. Reading blocks of neighbours in random order, many
at a time, and drawing minibatches from all of them is nearly as random and far quicker (scDataset, D'Ascenzo & Cultrera
di Montesano, arXiv 2506.01883). One background thread reads the next window while this one is handed out. Blocks and
windows are sized from ``memory_bytes``. The order is a function of (seed, epoch), so a stream stopped anywhere goes on
with bitwise the same batches.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from workbench.backed import Backed
from workbench.streaming._budget import Budget, plan
from workbench.streaming._order import Order, Stretch, stretch
from workbench.streaming._windows import H5ad, Rooms, Trays

__all__ = ["Rows", "Stream", "label_entropy"]

NORMALISE = "log1p(CP10k)"


class Rows(NamedTuple):
    """A minibatch.

    row (B,) int64 row number in the file; x (B, features) float32, dense or sparse CSR; obs {column: (B,)}: categories
    as int64 codes (-1 missing; ``Stream.categories`` names them), other columns as they are.
    """

    row: Tensor
    x: Tensor
    obs: dict[str, Tensor]


class Stream(IterableDataset):
    """Iterate an h5ad or a parquet file in shuffled minibatches, again and again, epoch after epoch.

    Lightning trains from it as it is; ``torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2)`` works
    too, where ``set_epoch`` has to be called before each epoch.

    Parameters
    ----------
    data : an opened ``Backed``, or the path of an h5ad or parquet file
    batch : rows per minibatch; only the last of an epoch may be smaller
    obs : columns to hand out beside the rows
    rows : row numbers to use, such as a fold's training rows; None for all
    seed : with the epoch it fixes the order
    memory_bytes : all that the stream may hold: pointers, columns, two windows and the batch in hand
    block, window : rows read side by side, rows shuffled together; None derives both from ``memory_bytes``
    normalise : "log1p(CP10k)" turns counts into ln(1 + counts per 10,000)
    sparse : hand out sparse CSR, to be made dense on the device; the file must be sparse
    features : (parquet) names of the feature columns, or of one list column; None: every numeric column not in ``obs``
    rank, ranks : of this process, where torch.distributed does not say

    Raises
    ------
    MemoryError
        ``memory_bytes`` is too small for these blocks and windows; the message says what would do.
    ValueError
        No rows, a row number out of range or repeated, or numbers that are not counts and should be normalised.
    KeyError
        ``obs`` names a column that is not there.
    """

    def __init__(
        self,
        data: Backed | Path | str,
        batch: int = 64,
        *,
        obs: Sequence[str] = (),
        rows: Any = None,
        seed: int = 0,
        memory_bytes: int = 2**29,
        block: int | None = None,
        window: int | None = None,
        normalise: str | None = None,
        sparse: bool = False,
        features: Sequence[str] | None = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError(f"a batch needs at least one row; asked for {batch}.")
        self.source = _source(data, features, obs)
        self.batch, self.seed, self.sparse = batch, seed, sparse
        self._rank, self._ranks = rank, ranks
        self.epoch = self.position = 0
        self.rows = _chosen(rows, self.source.rows)
        self._normalise = _normalising(normalise, self.source)
        if sparse:
            if not self.source.sparse:
                raise ValueError(f"{self.source.name} is dense; sparse=True needs a sparse file.")
            with warnings.catch_warnings():  # torch says once that CSR is in beta
                warnings.simplefilter("ignore")
                torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), (1, 1))
        self._spare = [(Rooms(), Rooms(), Trays())]
        self.categories: dict[str, list[str]] = {}
        self._obs: dict[str, NDArray[Any]] = {}
        for name in obs:
            values, categories = self.source.column(name)
            self._obs[name] = values
            if categories is not None:
                self.categories[name] = categories
        held = self.source.pointers + sum(v.nbytes for v in self._obs.values())
        held += 0 if self.rows is None else self.rows.nbytes
        self.budget: Budget = plan(self.source, self.rows, batch, memory_bytes, held, block, window)

    def __len__(self) -> int:
        """Minibatches of an epoch, on this rank."""
        return self._stretch(whole=True).count

    @property
    def length(self) -> int:
        """Rows of an epoch, over all ranks."""
        return self.source.rows if self.rows is None else len(self.rows)

    def _stretch(self, whole: bool = False) -> Stretch:
        rank, ranks = self._rank, self._ranks
        if ranks is None:
            here = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank, ranks = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if here else (0, 1)
        worker = None if whole else get_worker_info()
        share = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        return stretch(self.length, self.batch, rank or 0, ranks, *share)

    def __iter__(self) -> Iterator[Rows]:
        """Minibatches from ``position`` to the end of the epoch; then the epoch is the next one."""
        part, per = self._stretch(), self.budget.window // self.batch
        order = Order(self.budget.edges, self.rows, self.seed, self.epoch)
        epoch, skip = self.epoch, self.position
        self.position = skip if skip < part.last - part.first else 0
        spare = self._spare.pop() if self._spare else (Rooms(), Rooms(), Trays())
        rooms, trays = spare[:2], spare[2]
        windows = enumerate(part.windows(per, self.position))
        pool = ThreadPoolExecutor(1, "stream")
        try:
            ahead = self._submit(pool, order, part, rooms, next(windows, None))
            while ahead is not None:
                low, high, start, rows, values, window = ahead.result()
                ahead = self._submit(pool, order, part, rooms, next(windows, None))
                hand_out = window.csr if self.sparse else window.dense
                for number in range(max(low, part.first + self.position), high):
                    a, b = (edge - start for edge in part.bounds(number))
                    x = hand_out(a, b, self._normalise, trays)
                    self.position = number + 1 - part.first
                    yield Rows(rows[a:b], x, {name: v[a:b] for name, v in values.items()})
                    if self.epoch != epoch:
                        return  # told to begin another epoch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._spare.append(spare)
        self.epoch, self.position = epoch + 1, 0

    def _submit(self, pool, order, part, rooms, window) -> Future | None:
        if window is None:
            return None
        number, (low, high) = window
        return pool.submit(self._load, order, part, low, high, rooms[number % 2])

    def _load(self, order: Order, part: Stretch, low: int, high: int, rooms: Rooms) -> tuple:
        """A window of batches ``low`` to ``high``, in the order they are handed out (in the background)."""
        start, stop = part.bounds(low)[0], part.bounds(high - 1)[1]
        rows = np.sort(order.line(start, stop))
        shuffled = order.shuffle(start, len(rows))
        window = self.source.load(rows, shuffled, rooms, self.budget.most)
        rows = rows[shuffled]
        values = {name: _tensor(v[rows]) for name, v in self._obs.items()}
        return low, high, start, torch.from_numpy(rows), values, window

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process needs; it finds its own room."""
        return self.__dict__ | {"_spare": []}

    # ---- epochs and restarts

    @property
    def sampler(self) -> Stream:
        """Itself: Lightning tells samplers which epoch it is."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Make ``epoch`` the current one; begins it anew unless it is the current one already."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: plain numbers and text."""
        return {"epoch": self.epoch, "position": self.position, "order": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``: the next iteration hands out what would have come next.

        Raises
        ------
        ValueError
            The state is of another order: other rows, seed, batch, block or window.
        """
        if state["order"] != self._fingerprint():
            raise ValueError(
                f"the state was saved by a stream of another order ({state['order']}); this one is "
                f"{self._fingerprint()}. Give the same rows, seed, batch, block, window and ranks."
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        if self.position >= len(self):
            self.epoch, self.position = self.epoch + 1, 0

    def _fingerprint(self) -> str:
        part = self._stretch(whole=True)
        hashed = hashlib.sha256(repr((part.start, part.stop, self.source.rows)).encode())
        hashed.update(self.budget.edges.tobytes() + (b"" if self.rows is None else self.rows.tobytes()))
        return f"seed {self.seed}, batch {self.batch}, window {self.budget.window}, rows {hashed.hexdigest()[:16]}"


def _source(data: Backed | Path | str, features: Sequence[str] | None, obs: Sequence[str]) -> Any:
    if isinstance(data, Backed):
        return H5ad(data)
    if Path(data).suffix == ".parquet":
        from workbench.streaming._parquet import Parquet

        return Parquet(Path(data), features, obs)
    return H5ad(Backed.open(data))


def _chosen(rows: Any, total: int) -> NDArray[np.int64] | None:
    if rows is None:
        if not total:
            raise ValueError("the file has no rows.")
        return None
    wanted = np.sort(np.asarray(rows, np.int64))
    if not len(wanted):
        raise ValueError("no rows were given to stream.")
    if wanted[0] < 0 or wanted[-1] >= total:
        raise ValueError(f"rows from {wanted[0]} to {wanted[-1]} were asked of a file of {total}.")
    if (np.diff(wanted) == 0).any():
        raise ValueError(f"row {wanted[:-1][np.diff(wanted) == 0][0]} was given twice; each row is seen once an epoch.")
    return None if len(wanted) == total else wanted


def _normalising(normalise: str | None, source: Any) -> bool:
    if normalise is None:
        return False
    if normalise != NORMALISE:
        raise ValueError(f"expected normalise to be {NORMALISE!r} or None, found {normalise!r}.")
    if source.unit not in (None, "counts"):
        raise ValueError(
            f"{source.name} holds {source.unit}, not counts: normalising it again would be wrong. "
            "Open its raw counts (Backed.open(..., layer='counts')) or leave normalise out."
        )
    return True


def _tensor(values: NDArray[Any]) -> Tensor:
    kind = np.int64 if values.dtype.kind in "iu" else np.float32 if values.dtype.kind == "f" else values.dtype
    return torch.from_numpy(values.astype(kind, copy=False))


def label_entropy(batches: Any, labels: Any) -> float:
    """Mean entropy, in bits, of the labels within a minibatch: how well mixed they are.

    Parameters
    ----------
    batches : iterable of ``Rows``, or of arrays of row numbers
    labels : (rows in the file,) codes or text
    """
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    found = []
    for batch in batches:
        numbers = batch.row.numpy() if isinstance(batch, Rows) else np.asarray(batch)
        counts = np.bincount(codes[numbers])
        share = counts[counts > 0] / counts.sum()
        found.append(-float((share * np.log2(share)).sum()))
    return float(np.mean(found))
