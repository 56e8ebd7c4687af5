"""Our stream against AnnData's loader and scDataset: same files, same process, one thread each for numpy and torch.

Synthetic cells (nothing of biology), sorted by label: the worst case for a block shuffle. Every file was just written
and is read once before anything is measured, so all read from the page cache: what is compared is the work of loading,
not the disk. AnnLoader draws single rows at random. scDataset gets four settings (the paper's block 16 and fetch 256;
block = fetch = 256, as its ``suggest_parameters`` says; each with its own transform, and with a sparse window made
dense batch by batch) and counts with the quickest; the note says what the paper's setting gave. Batches are 64 rows,
dense float32 unless said. All work in this process; ours has one background thread.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from workbench.streaming import Stream, label_entropy

BATCH, LABELS, ROUNDS, SECONDS, MEMORY = 64, 20, 3, 3.0, 2**28
SETTINGS = ((16, 256), (256, 256))  # scDataset's block and fetch factor: the paper's; what it suggests


@dataclass(frozen=True)
class File:
    """A file to load: cells, genes, values per cell (0: dense), and how it is stored."""

    name: str
    cells: int
    genes: int
    values: int = 0
    stored: str = "h5ad"
    sparse: bool = False


FILES = (
    File("sparse h5ad, 2,000 genes, 5 %", 200_000, 2000, 100),
    File("the same, gzipped", 200_000, 2000, 100, "h5ad gzip"),
    File("the same, batches left sparse", 200_000, 2000, 100, sparse=True),
    File("sparse h5ad, 20,000 genes, 5 %", 40_000, 20_000, 1000),
    File("dense h5ad, 2,000 genes", 60_000, 2000),
    File("parquet, 128 columns, groups of 1,024", 300_000, 128, stored="parquet"),
)


def write(folder: Path, file: File) -> tuple[Path, np.ndarray]:
    """Write a file as its library does by default; path and labels (cells,)."""
    import polars as pl

    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, LABELS, file.cells))
    path = folder / f"{FILES.index(file) if file in FILES else 0}.{file.stored.split()[0]}"
    if file.stored == "parquet":
        x = rng.standard_normal((file.cells, file.genes), np.float32)
        frame = pl.DataFrame({f"f{j}": x[:, j] for j in range(file.genes)} | {"label": labels})
        frame.write_parquet(path, row_group_size=1024)
        return path, labels
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    if file.values:
        wide = file.genes // file.values
        steps = np.arange(file.values, dtype=np.int32) * wide
        columns = rng.integers(0, wide, (file.cells, file.values), dtype=np.int32) + steps
        counts = rng.integers(1, 6, columns.size).astype(np.float32)
        pointers = np.arange(file.cells + 1, dtype=np.int32) * file.values
        matrix: Any = csr_matrix((counts, columns.ravel(), pointers), shape=(file.cells, file.genes))
    else:
        matrix = rng.standard_normal((file.cells, file.genes), np.float32)
    obs = pd.DataFrame({"label": pd.Categorical(labels.astype(str))}, index=[f"cell{i}" for i in range(file.cells)])
    AnnData(matrix, obs=obs).write_h5ad(path, compression="gzip" if "gzip" in file.stored else None)
    return path, labels


def speed(epoch: Callable[[], Iterator[int]], seconds: float, whole: int) -> float:
    """Rows per second, over ``seconds`` and on to the end of what is read in one go, or of the epoch."""
    rows, start = 0, time.perf_counter()
    while True:
        seen = 0
        for count in epoch():
            seen += count
            if seen % whole == 0 and time.perf_counter() - start > seconds:
                break
        rows += seen
        if time.perf_counter() - start > seconds:
            return rows / (time.perf_counter() - start)


def ours(file: File, path: Path) -> tuple[Callable[[], Iterator[int]], Stream]:
    """Our stream, an epoch a call."""
    stream = Stream(path, BATCH, obs=["label"], sparse=file.sparse, memory_bytes=MEMORY)
    return (lambda: (len(batch.row) for batch in stream)), stream


def annloader(data: Any) -> Iterator[int]:
    """AnnData's loader: rows at random from the backed file."""
    from anndata.experimental import AnnLoader

    for batch in AnnLoader(data, batch_size=BATCH, shuffle=True, use_cuda=False):
        yield len(batch.X)


def scdataset(file: File, path: Path, data: Any, block: int, fetch: int, own: bool) -> Any:
    """scDataset with one setting; ``own``: with its own transform for AnnData."""
    from scdataset import BlockShuffling, scDataset
    from scdataset.transforms import adata_to_mindex

    options: dict[str, Any] = {"strategy": BlockShuffling(block), "batch_size": BATCH, "fetch_factor": fetch, "seed": 0}
    if file.stored == "parquet":
        options |= {"fetch_callback": _take(path, file), "batch_transform": torch.from_numpy}
        return scDataset(range(file.cells), **options)
    if own:
        options |= {"fetch_transform": lambda chunk: adata_to_mindex(chunk, columns=["label"])}
        return scDataset(data, **options, batch_transform=lambda batch: torch.from_numpy(batch["X"]))
    options |= {"fetch_transform": lambda chunk: chunk.to_memory().X}
    return scDataset(data, **options, batch_transform=_csr if file.sparse else _dense)


def _take(path: Path, file: File) -> Callable[[Any, Any], Any]:
    import pyarrow as pa
    import pyarrow.dataset as arrow

    table, names = arrow.dataset(path), [f"f{j}" for j in range(file.genes)]

    def take(_: Any, rows: np.ndarray) -> np.ndarray:
        found = table.take(pa.array(rows), columns=[*names, "label"])
        return np.column_stack([found.column(name).to_numpy() for name in names])

    return take


def _csr(x: Any) -> Any:
    pointers, columns, values = (torch.from_numpy(part) for part in (x.indptr, x.indices, x.data))
    return torch.sparse_csr_tensor(pointers, columns, values, x.shape, check_invariants=False)


def _dense(x: Any) -> Any:
    return torch.from_numpy(x if isinstance(x, np.ndarray) else x.toarray())


def run(files: tuple[File, ...] = FILES, rounds: int = ROUNDS, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Measure every file, loaders in turn, ``rounds`` times; each loader counts with its quickest round."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    bar = tqdm(total=len(files) * rounds, desc="loader", unit="round", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the peers warn of is not our news
            for file in files:
                rows += _rows(file, *write(Path(folder), file), rounds, seconds, bar)
                for left in Path(folder).iterdir():
                    left.unlink()
    finally:
        bar.close()
        torch.set_num_threads(threads)
    return rows


def _rows(file: File, path: Path, labels: np.ndarray, rounds: int, seconds: float, bar: Any) -> list[dict[str, Any]]:
    import anndata

    data = anndata.read_h5ad(path, backed="r") if file.stored != "parquet" else None
    mine, stream = ours(file, path)
    random = np.array_split(np.random.default_rng(0).permutation(file.cells), max(1, file.cells // BATCH))
    mixed = label_entropy(stream, labels) / label_entropy(random, labels)  # an epoch: warms us up and the page cache
    kinds = (True, False) if data is not None and not file.sparse else (False,)
    peers: dict[str, tuple[Callable[[], Iterator[int]], int]] = {}
    for block, fetch in SETTINGS:
        for own in kinds:
            loader = scdataset(file, path, data, block, fetch, own)
            peers[f"scDataset {block}/{fetch}{' own transform' if own else ''}"] = _counting(loader), BATCH * fetch
    if data is not None and not file.sparse:
        peers["AnnLoader"] = (lambda: annloader(data)), 1
    best = dict.fromkeys(["ours", *peers], 0.0)
    for _ in range(rounds):
        best["ours"] = max(best["ours"], speed(mine, seconds, stream.budget.window))
        for name, (peer, whole) in peers.items():
            best[name] = max(best[name], speed(peer, seconds, whole))
        bar.update()
    if data is not None:
        data.file.close()
    told = f"label entropy {mixed:.3f} of random; {stream.budget.bytes / 2**20:.0f} MiB"
    rest = {name: value for name, value in best.items() if name.startswith("scDataset")}
    fastest = max(rest, key=lambda name: rest[name])
    paper = next(name for name in rest if name.startswith("scDataset 16/256"))
    against = [(fastest, f"{told}; peer's quickest of {len(rest)}; {paper} {rest[paper]:.4g}")]
    against += [("AnnLoader", told)] if "AnnLoader" in best else []
    return [
        {
            "name": f"{file.name}: {peer}",
            "ours": best["ours"],
            "peer": best[peer],
            "unit": "rows/s",
            "ratio": best["ours"] / best[peer],
            "note": note,
        }
        for peer, note in against
    ]


def _counting(loader: Any) -> Callable[[], Iterator[int]]:
    return lambda: (int(batch.shape[0]) for batch in loader)
