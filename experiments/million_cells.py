"""A million cells on an ordinary machine: written, made a study, laid out, trained on, within 4 GiB of memory.

    python experiments/million_cells.py                 # 1,000,000 x 2,000, 5 % of the counts above zero
    python experiments/million_cells.py --cells 50000   # the same, sooner

Synthetic counts with planted clusters (nothing of biology), sorted by subject. Each stage shows a bar with the time
that is left. Ctrl-C stops at once and the same command goes on: finished stages are not done again, and the epoch goes
on at the batch where it was stopped. The memory of this process is capped (RLIMIT_DATA) and its peak is measured. Exit
status 1 when the peak is over ``--memory``, or when the classifier does not know the cells of a subject it never saw.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from workbench import home, tables
from workbench.backed import Backed
from workbench.streaming import Stream
from workbench.streaming.pca import pca
from workbench.study import Study, write_study

SUBJECTS, CLUSTERS, PIECE, BATCH = 20, 12, 5000, 256


class Bar:
    """A progress bar told the share that is done."""

    def __init__(self, what: str) -> None:
        self._bar = tqdm(
            total=1.0,
            desc=what,
            file=sys.stderr,
            bar_format="{desc:<10}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        )

    def __call__(self, done: float) -> None:
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


def write_cells(path: Path, cells: int, genes: int, density: float, seed: int) -> None:
    """Write an h5ad of planted clusters piece by piece; it bears its name only once it is whole."""
    import anndata
    import pandas as pd

    rng = np.random.default_rng(seed)
    chance = np.full((CLUSTERS, genes), density * 0.9, np.float32)
    for cluster in range(CLUSTERS):
        chance[cluster, rng.choice(genes, genes // 40, replace=False)] = min(0.9, density * 5)
    clusters = rng.integers(0, CLUSTERS, cells)
    subjects = np.sort(rng.integers(0, SUBJECTS, cells))
    temporary = path.with_name(f".{path.name}.tmp")
    with h5py.File(temporary, "w") as file, Bar("writing") as bar:
        obs = pd.DataFrame(
            {
                "subject": pd.Categorical.from_codes(subjects, [f"subject {n}" for n in range(SUBJECTS)]),
                "cluster": pd.Categorical.from_codes(clusters, [f"cluster {n}" for n in range(CLUSTERS)]),
            },
            index=[f"cell{n}" for n in range(cells)],
        )
        anndata.io.write_elem(
            file, "/", anndata.AnnData(obs=obs, var=pd.DataFrame(index=[f"gene{n}" for n in range(genes)]))
        )
        anndata.io.write_elem(file, "uns", {"axis": "cell", "unit": "counts"})
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (cells, genes)})
        lists = {
            n: group.create_dataset(n, (0,), t, maxshape=(None,), chunks=(2**16,))
            for n, t in (("data", "f4"), ("indices", "i4"))
        }
        pointers = np.zeros(cells + 1, np.int64)
        for start in range(0, cells, PIECE):
            stop = min(start + PIECE, cells)
            there = rng.random((stop - start, genes), np.float32) < chance[clusters[start:stop]]
            rows, columns = np.nonzero(there)
            pointers[start + 1 : stop + 1] = pointers[start] + np.cumsum(np.bincount(rows, minlength=stop - start))
            counts = rng.geometric(0.6, len(columns)).astype(np.float32)
            for name, values in (("data", counts), ("indices", columns)):
                lists[name].resize((int(pointers[stop]),))
                lists[name][int(pointers[start]) :] = values
            bar(stop / cells)
        group.create_dataset("indptr", data=pointers)
    os.replace(temporary, path)


def make_study(folder: Path, path: Path) -> Study:
    """The file as the cells of a study; it is copied by pieces."""
    names = [f"subject {n}" for n in range(SUBJECTS)]
    outcomes = pl.DataFrame(
        {"subject": names, "treatment": "vehicle", "endpoint": "response", "value": 0.0}
    ).with_columns(
        site=pl.lit("synthetic"),
        dose=pl.lit(None, pl.Float64),
        dose_unit=pl.lit(None, pl.String),
        time_h=pl.lit(None, pl.Float64),
        unit=pl.lit("1"),
        censored=pl.lit(0, pl.Int8),
        source=pl.lit("synthetic"),
    )
    return write_study(
        folder,
        outcomes=outcomes.select(list(tables.OUTCOMES.columns)),
        subjects=pl.DataFrame({"subject": names, "tissue": "synthetic"}),
        treatments=pl.DataFrame(
            {"treatment": ["vehicle"], "compound": [None], "smiles": [None]}, schema=dict(tables.TREATMENTS.columns)
        ),
        modalities={"cells": path},
        provenance={"source": "synthetic numbers, planted clusters"},
        event="made by experiments/million_cells.py",
    )


def lay_out(backed: Backed) -> pl.DataFrame:
    """What an explorer draws: name, x, y and cluster of every cell, by streamed principal components."""
    with Bar("components") as bar:
        found = pca(backed, CLUSTERS - 1, normalise=True, progress=bar)
    codes, labels = backed.codes("cluster")
    centres = np.stack([found.scores[codes == n].mean(axis=0) for n in range(len(labels))])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)[np.triu_indices(len(labels), 1)].min()
    within = float(np.mean([found.scores[codes == n].std(axis=0).mean() for n in range(len(labels))]))
    print(f"  nearest clusters lie {apart / within:.1f} standard deviations apart on {CLUSTERS - 1} axes")
    return pl.DataFrame(
        {"name": backed.names(), "x": found.scores[:, 0], "y": found.scores[:, 1], "cluster": backed.column("cluster")}
    )


def explore(folder: Path) -> int:
    """Open the study in the explorer itself, coloured by cluster, and wait for its picture; the points it shows."""
    from widgets import EmbeddingExplorer
    from widgets._parts import unpack

    explorer = EmbeddingExplorer(Study.open(folder), modality="cells", colour="cluster")
    if (state := explorer.wait()) != "ready":
        raise RuntimeError(f"the explorer is {state}: {explorer.message}")
    explorer.picked = np.arange(1000)
    assert len(explorer.selected) > 0
    return len(unpack(explorer.frame_bytes)[1]["x"])


def train(backed: Backed, checkpoint: Path, memory: int) -> float:
    """One epoch of a classifier of clusters on all subjects but the last; its accuracy on the last one's cells."""
    subjects, _ = backed.codes("subject")
    torch.set_num_threads(1)  # the model is small, and the thread that reads ahead needs a core
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(backed.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, CLUSTERS))
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    options: dict[str, Any] = {"obs": ["cluster"], "normalise": "log1p(CP10k)", "memory_bytes": memory}
    stream = Stream(backed, BATCH, rows=np.flatnonzero(subjects < SUBJECTS - 1), seed=1, **options)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        stream.load_state_dict(state["stream"])
        print(f"  goes on at batch {stream.position} of {len(stream)}")

    def save() -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "stream": stream.state_dict()}
        temporary = checkpoint.with_name(f".{checkpoint.name}.tmp")
        torch.save(state, temporary)
        os.replace(temporary, checkpoint)

    if stream.epoch == 0:
        asked: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))  # a step is done or it is not
        try:
            with Bar("training") as bar:
                for batch in stream:
                    loss = torch.nn.functional.cross_entropy(model(batch.x), batch.obs["cluster"])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    bar(stream.position / len(stream))
                    if asked:
                        break
        finally:
            signal.signal(signal.SIGINT, before)
        save()
        if asked:
            raise KeyboardInterrupt
    right = total = 0
    with torch.no_grad():
        for batch in Stream(backed, BATCH, rows=np.flatnonzero(subjects == SUBJECTS - 1), **options):
            right += int((model(batch.x).argmax(1) == batch.obs["cluster"]).sum())
            total += len(batch.row)
    return right / total


def peak() -> float:
    """Most memory that was resident at once since this program started, in GiB.

    From the kernel's high-water mark: ``ru_maxrss`` would also count the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--memory", type=float, default=4.0, help="GiB that may be resident (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=home.home() / "million_cells")
    parser.add_argument("--keep", action="store_true", help="keep the study; else it is deleted at the end")
    given = parser.parse_args()
    size = int(given.cells * given.genes * given.density * 8 * 1.2)
    given.folder.mkdir(parents=True, exist_ok=True)
    study_folder, file = given.folder / "study", given.folder / "cells.h5ad"
    free = shutil.disk_usage(given.folder).free
    if not study_folder.exists() and free < 2.2 * size:
        print(
            f"needs {2.2 * size / 1e9:.1f} GB in {given.folder}, which has {free / 1e9:.1f} GB. Give another --folder."
        )
        return 1
    resource.setrlimit(resource.RLIMIT_DATA, (int(given.memory * 2**30),) * 2)
    rows: list[tuple[str, float, float]] = []

    def stage(name: str, start: float) -> None:
        rows.append((name, time.perf_counter() - start, peak()))
        print(f"{name:<44} {rows[-1][1]:8.1f} s   peak {rows[-1][2]:.2f} GiB", flush=True)

    try:
        start = time.perf_counter()
        if not study_folder.exists():
            if not file.exists():
                write_cells(file, given.cells, given.genes, given.density, given.seed)
                stage("written by pieces", start)
                start = time.perf_counter()
            make_study(study_folder, file)
            file.unlink()
            stage("made a study", start)
        start = time.perf_counter()
        with Bar("checking") as bar:
            backed = Study.open(study_folder).backed("cells", progress=bar)
        stage(f"opened and checked, {backed.shape[0]:,} cells", start)
        start, drawn = time.perf_counter(), given.folder / "layout.parquet"
        if not drawn.exists():
            lay_out(backed).write_parquet(drawn)
        frame = pl.read_parquet(drawn)
        assert frame.height == backed.shape[0]
        stage(f"laid out, {frame.height:,} points, {frame.estimated_size('mb'):.0f} MB", start)
        start = time.perf_counter()
        shown = explore(study_folder)
        stage(f"explorer open, {shown:,} points drawn from disk", start)
        start = time.perf_counter()
        accuracy = train(backed, given.folder / "epoch.pt", 2**28)
        stage("one epoch trained and judged", start)
        backed.close()
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here.", file=sys.stderr)
        return 130
    print(f"accuracy on a subject never seen: {accuracy:.3f} ({1 / CLUSTERS:.3f} by chance)")
    print(f"peak resident {peak():.2f} GiB of {given.memory:.2f} GiB allowed")
    if not given.keep:
        shutil.rmtree(given.folder)
    return 0 if peak() <= given.memory and accuracy > 0.5 else 1


if __name__ == "__main__":
    sys.exit(main())
