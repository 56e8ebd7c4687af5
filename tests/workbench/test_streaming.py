"""Shuffled minibatches from disk: nothing lost, nothing twice, well mixed, within memory, restarted exactly."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix
from torch.utils.data import DataLoader

from tests.toy import lightning_warnings
from workbench.backed import Backed
from workbench.formats import FormatError
from workbench.streaming import Rows, Stream, label_entropy
from workbench.streaming.pca import pca

ROOT = Path(__file__).resolve().parents[2]
CELLS, GENES, LABELS = 5000, 30, 10
KINDS = ("csr", "gzip", "dense", "parquet", "lists")


def matrix() -> tuple[np.ndarray, np.ndarray]:
    """Counts (CELLS, GENES) whose first column is the row's number, and labels in order: the worst to shuffle."""
    rng = np.random.default_rng(11)
    x = (rng.poisson(3, (CELLS, GENES)) * (rng.random((CELLS, GENES)) < 0.3)).astype(np.float32)
    x[:, 0] = np.arange(CELLS)
    labels = np.sort(rng.integers(0, LABELS, CELLS))
    x[np.arange(CELLS), 1 + labels] += 15
    return x, labels


def stored(folder: Path, kind: str, unit: str = "counts") -> Path:
    x, labels = matrix()
    path = folder / f"{kind} {unit}.{'parquet' if kind in ('parquet', 'lists') else 'h5ad'}"
    if path.exists():
        return path
    if kind == "parquet":
        frame = pl.DataFrame({f"f{j}": x[:, j] for j in range(GENES)})
    elif kind == "lists":
        frame = pl.DataFrame({"f": pl.Series(x, dtype=pl.Array(pl.Float32, GENES))})
    else:
        obs = pd.DataFrame(
            {"label": pd.Categorical([f"type {n}" for n in labels]), "depth": x.sum(axis=1)},
            index=[f"c{i}" for i in range(CELLS)],
        )
        data = AnnData(x if kind == "dense" else csr_matrix(x), obs=obs, uns={"unit": unit, "axis": "cell"})
        data.write_h5ad(path, compression="gzip" if kind == "gzip" else None)
        return path
    more = {"label": pl.Series([f"type {n}" for n in labels]), "depth": x.sum(axis=1)}
    frame.with_columns(**more).write_parquet(path, row_group_size=25)
    return path


def stream(path: Path, **options: Any) -> Stream:
    return Stream(path, **({"batch": 64, "obs": ["label", "depth"], "block": 25, "window": 1280} | options))


def features(kind: str) -> dict[str, Any]:
    return {"features": ["f"]} if kind == "lists" else {}


def same(a: Rows, b: Rows) -> bool:
    return torch.equal(a.row, b.row) and torch.equal(a.x, b.x) and all(torch.equal(a.obs[n], b.obs[n]) for n in a.obs)


def copies(batches: Any) -> list[Rows]:
    return [Rows(b.row.clone(), b.x.clone(), dict(b.obs)) for b in batches]


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_is_every_row_once_with_its_own_numbers(tmp_path: Path, kind: str) -> None:
    x, labels = matrix()
    loader = stream(stored(tmp_path, kind), **features(kind))
    batches = copies(loader)
    assert len(batches) == len(loader) == 79 and [len(b.row) for b in batches] == [64] * 78 + [8]
    rows = torch.cat([b.row for b in batches])
    assert sorted(rows.tolist()) == list(range(CELLS)) and rows[:64].tolist() != sorted(rows[:64].tolist())
    for batch in batches:
        np.testing.assert_array_equal(batch.x.numpy(), x[batch.row.numpy()])
        np.testing.assert_array_equal(batch.obs["label"].numpy(), labels[batch.row.numpy()])
        np.testing.assert_array_equal(batch.obs["depth"].numpy(), x.sum(axis=1)[batch.row.numpy()])
    assert loader.categories == {"label": [f"type {n}" for n in range(LABELS)]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fold_s_rows_and_no_others(tmp_path: Path, kind: str) -> None:
    x, _ = matrix()
    rng = np.random.default_rng(5)
    rows = np.concatenate([np.arange(100, 900), rng.choice(np.arange(1000, CELLS), 777, replace=False)])
    loader = stream(stored(tmp_path, kind), rows=rng.permutation(rows), **features(kind))
    batches = copies(loader)
    assert sorted(torch.cat([b.row for b in batches]).tolist()) == sorted(rows.tolist())
    assert len(batches[-1].row) == len(rows) % 64
    assert all(np.array_equal(b.x.numpy(), x[b.row.numpy()]) for b in batches)


def test_the_order_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    path = stored(tmp_path, "csr")
    first, again, other = stream(path), stream(path), stream(path, seed=1)
    one, two = copies(first), copies(first)
    assert first.epoch == 2
    assert all(map(same, one, again)) and not any(map(same, one, two))
    again.set_epoch(1)
    assert all(map(same, two, again)) and not any(map(same, one, other))


@pytest.mark.parametrize("kind", ["csr", "dense", "parquet"])
@pytest.mark.parametrize("at", [0, 19, 20, 21, 79])
def test_a_stream_stopped_anywhere_goes_on_with_the_same_batches(tmp_path: Path, kind: str, at: int) -> None:
    path = stored(tmp_path, kind)
    whole = stream(path, **features(kind))
    expected = copies(whole) + copies(whole)
    part, state = stream(path, **features(kind)), {}
    iterator = iter(part)
    for _ in range(at):
        next(iterator)
    state = part.state_dict()
    iterator.close()
    fresh = stream(path, **features(kind))
    fresh.load_state_dict(state)
    rest = copies(fresh)
    if at == 79:  # all handed out, though the loop was never left: the next epoch is due
        assert all(same(a, b) for a, b in zip(expected[79:], rest, strict=True))
        return
    assert len(rest) == 79 - at and all(same(a, b) for a, b in zip(expected[at:79], rest, strict=True))
    assert all(same(a, b) for a, b in zip(expected[79:], copies(fresh), strict=True))


def test_the_state_of_another_order_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path, "csr")
    state = stream(path).state_dict()
    for other in (stream(path, seed=1), stream(path, batch=32), stream(path, rows=range(99)), stream(path, block=26)):
        with pytest.raises(ValueError, match="another order"):
            other.load_state_dict(state)


@pytest.mark.parametrize("ranks", [2, 3, 7])
@pytest.mark.parametrize("count", [CELLS, 1281, 129, 7])
def test_ranks_share_the_rows_in_as_many_batches_each(tmp_path: Path, ranks: int, count: int) -> None:
    path = stored(tmp_path, "csr")
    seen, lengths = [], set()
    for rank in range(ranks):
        loader = stream(path, rows=range(count), rank=rank, ranks=ranks)
        batches = copies(loader)
        assert len(batches) == len(loader) and all(len(b.row) for b in batches)
        lengths.add(len(batches))
        seen += torch.cat([b.row for b in batches]).tolist()
    assert sorted(seen) == list(range(count)) and len(lengths) == 1
    with pytest.raises(ValueError, match="fewer devices"):
        len(stream(path, rows=[1], rank=0, ranks=2))


@pytest.mark.parametrize("kind", ["csr", "parquet"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_share_the_batches(tmp_path: Path, kind: str) -> None:
    loader = DataLoader(stream(stored(tmp_path, kind)), batch_size=None, num_workers=2)
    batches = copies(loader)
    assert len(batches) == len(loader) == 79
    assert sorted(torch.cat([b.row for b in batches]).tolist()) == list(range(CELLS))
    x, _ = matrix()
    assert all(np.array_equal(b.x.numpy(), x[b.row.numpy()]) for b in batches)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_mixed_as_by_a_random_reader(tmp_path: Path, kind: str) -> None:
    _, labels = matrix()
    loader = Stream(stored(tmp_path, kind), 64, obs=["label"], **features(kind))
    random = np.array_split(np.random.default_rng(0).permutation(CELLS), 78)
    reference = label_entropy(random, labels)
    assert 3.1 < reference < np.log2(LABELS)
    assert label_entropy(loader, labels) > 0.95 * reference
    assert label_entropy(np.array_split(np.arange(CELLS), 78), labels) < 0.1 * reference  # a reader in order
    assert label_entropy([np.arange(4)], np.array([0, 0, 1, 1])) == 1.0


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_normalised_on_the_way(tmp_path: Path, kind: str) -> None:
    x, _ = matrix()
    expected = np.log1p(x.astype(np.float64) / np.maximum(x.sum(axis=1, keepdims=True), 1) * 1e4)
    for batch in stream(stored(tmp_path, kind), normalise="log1p(CP10k)"):
        np.testing.assert_allclose(batch.x.numpy(), expected[batch.row.numpy()], rtol=2e-6, atol=1e-7)
    with pytest.raises(ValueError, match="not counts"):
        stream(stored(tmp_path, kind, unit="log1p(CP10k)"), normalise="log1p(CP10k)")
    with pytest.raises(ValueError, match="expected normalise"):
        stream(stored(tmp_path, kind), normalise="log")


@pytest.mark.parametrize("normalise", [None, "log1p(CP10k)"])
def test_sparse_batches_are_the_dense_ones(tmp_path: Path, normalise: str | None) -> None:
    path = stored(tmp_path, "csr")
    dense = copies(stream(path, normalise=normalise))
    for a, b in zip(dense, stream(path, sparse=True, normalise=normalise), strict=True):
        assert b.x.layout == torch.sparse_csr and torch.equal(a.row, b.row) and torch.equal(a.x, b.x.to_dense())
    with pytest.raises(ValueError, match="dense"):
        stream(stored(tmp_path, "dense"), sparse=True)


def test_a_batch_that_is_kept_is_never_written_over(tmp_path: Path) -> None:
    x, _ = matrix()
    kept = [(b.row, b.x[3:5]) for b in stream(stored(tmp_path, "csr"))]
    assert all(np.array_equal(part.numpy(), x[row[3:5].numpy()]) for row, part in kept)
    loader = stream(stored(tmp_path, "csr"))
    assert all(same(a, b) for a, b in zip(copies(stream(stored(tmp_path, "csr"))), loader, strict=True))


def test_two_iterations_side_by_side_do_not_share_room(tmp_path: Path) -> None:
    x, _ = matrix()
    loader = stream(stored(tmp_path, "dense"))
    for a, b in zip(loader, iter(loader), strict=False):
        assert np.array_equal(a.x.numpy(), x[a.row.numpy()]) and np.array_equal(b.x.numpy(), x[b.row.numpy()])


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_kept_or_refused_with_the_number_needed(tmp_path: Path, kind: str) -> None:
    path = stored(tmp_path, kind)
    cap = 600_000
    loader = Stream(path, 64, memory_bytes=cap, **features(kind))
    assert loader.budget.bytes <= cap and loader.budget.window < CELLS
    rows = [row for batch in loader for row in batch.row.tolist()]
    assert sorted(rows) == list(range(CELLS))
    (first, second, _), held = loader._spare[0], 0
    held = sum(a.nbytes for rooms in (first, second) for a in rooms._arrays.values())
    assert held + loader.source.pointers <= cap
    with pytest.raises(MemoryError, match="needs") as refused:
        Stream(path, 64, memory_bytes=20_000, **features(kind))
    needed = int(str(refused.value).split("needs ")[1].split(" bytes")[0].replace(",", ""))
    Stream(path, 64, memory_bytes=needed, **features(kind))
    with pytest.raises(MemoryError):
        Stream(path, 64, memory_bytes=cap, block=100, window=CELLS, **features(kind))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "at least one row"),
        ({"rows": []}, "no rows"),
        ({"rows": [1, 1]}, "row 1 was given twice"),
        ({"rows": [CELLS]}, "of a file of 5000"),
        ({"rows": [-1]}, "of a file of 5000"),
        ({"obs": ["labell"]}, "Did you mean 'label'"),
    ],
)
def test_what_cannot_be_streamed_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, KeyError), match=words):
        stream(stored(tmp_path, "csr"), **options)


def test_a_column_outside_the_matrix_never_reaches_memory(tmp_path: Path) -> None:
    path = stored(tmp_path, "csr")
    with h5py.File(path, "r+") as file:
        file["X/indices"][9] = 10**6
    for sparse in (False, True):
        with pytest.raises(FormatError, match="outside"):
            list(stream(path, sparse=sparse))


def test_parquet_refusals(tmp_path: Path) -> None:
    path = stored(tmp_path, "parquet")
    with pytest.raises(KeyError, match="Did you mean 'f1'"):
        Stream(path, features=["f1x"])
    with pytest.raises(FormatError, match="expected numbers"):
        Stream(path, features=["f1", "label"])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FormatError, match="cannot be read"):
        Stream(path)


@pytest.mark.parametrize("kind", ["csr", "gzip", "dense"])
def test_streamed_components_are_those_of_the_whole_matrix(tmp_path: Path, kind: str, monkeypatch) -> None:
    monkeypatch.setattr("workbench.streaming.pca.PIECE", 2**14)  # many pieces
    x, _ = matrix()
    wide = np.log1p(x / x.sum(axis=1, keepdims=True) * 1e4)
    for normalise, whole in ((False, x), (True, wide)):
        with Backed.open(stored(tmp_path, kind)) as backed:
            told: list[float] = []
            found = pca(backed, 5, normalise=normalise, progress=told.append)
        centred = whole.astype(np.float64) - whole.mean(axis=0)
        _, values, axes = np.linalg.svd(centred, full_matrices=False)
        np.testing.assert_allclose(found.variance, values[:5] ** 2 / (CELLS - 1), rtol=1e-5)
        np.testing.assert_allclose(np.abs(found.axes.T @ axes[:5].T), np.eye(5), atol=1e-4)
        tolerance = 2e-6 * np.abs(centred).max()
        np.testing.assert_allclose(found.scores, centred @ found.axes, rtol=1e-4, atol=max(tolerance, 1e-4))
        assert told[-1] == 1.0 and sorted(told) == told
    with Backed.open(stored(tmp_path, kind, unit="log1p(CP10k)")) as backed, pytest.raises(ValueError, match="counts"):
        pca(backed, 5, normalise=True)


# ---- training


def classifier() -> Any:
    """Labels from log-normalised counts: one layer, seeded."""
    import pytorch_lightning as lightning

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(GENES - 1, LABELS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x[:, 1:])

        def training_step(self, batch: Rows, index: int) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(self(batch.x), batch.obs["label"])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 0.03)

    return Classifier()


def training(path: Path) -> Stream:
    return Stream(path, 64, obs=["label"], rows=np.arange(0, CELLS, 2), seed=3, block=25, window=640)


@lightning_warnings
def test_the_workbench_s_trainer_learns_from_a_stream(tmp_path: Path) -> None:
    from workbench import train

    path, module = stored(tmp_path, "csr"), classifier()
    loader = training(path)
    train.run_lightning(module, loader, epochs=6, survive=train.Survive(None), accelerator="cpu")
    assert loader.epoch in (5, 6)
    x, labels = matrix()
    with torch.no_grad():
        right = (module(torch.from_numpy(x[1::2])).argmax(1).numpy() == labels[1::2]).mean()
    assert right > 0.9  # on rows it never saw; one in ten by chance


@lightning_warnings
@pytest.mark.parametrize("step", [13, 40, 41, 60])
def test_training_stopped_within_an_epoch_ends_with_bitwise_the_same_weights(tmp_path: Path, step: int) -> None:
    import pytorch_lightning as lightning

    from workbench import train

    path, checkpoint = stored(tmp_path, "csr"), tmp_path / "fit.ckpt"
    straight = classifier()
    train.run_lightning(straight, training(path), epochs=3, survive=train.Survive(None), accelerator="cpu")

    class Stop(train.Survive):
        def on_train_batch_end(self, trainer: lightning.Trainer, *rest: Any) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(checkpoint)
                raise train.Stopped("stopped for the test")

    with pytest.raises(train.Stopped):
        train.run_lightning(classifier(), training(path), epochs=3, survive=Stop(None), accelerator="cpu")
    resumed = classifier()
    _fit_from(resumed, training(path), checkpoint)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def _fit_from(module: Any, loader: Stream, checkpoint: Path) -> None:
    from workbench import train

    trainer = train._trainer(3, train.Survive(None), "cpu", 1, "auto", 1)
    with train._quiet():
        trainer.fit(module, loader, ckpt_path=str(checkpoint))


@pytest.mark.slow
def test_the_million_cells_experiment_stops_and_goes_on(tmp_path: Path) -> None:
    """A thirtieth of experiments/million_cells.py: stopped within its epoch, it goes on there and ends well."""
    words = ["experiments/million_cells.py", "--cells", "30000", "--genes", "500", "--memory", "2"]
    command = [sys.executable, *words, "--folder", str(tmp_path / "cells")]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = b""
    try:
        while not re.search(rb"training +[1-9][0-9]?%", said):
            said += running.stderr.read1()  # type: ignore[union-attr]
            assert running.poll() is None, said.decode()
        running.send_signal(signal.SIGINT)
        _, rest = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130 and b"the same command goes on" in rest
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    place = re.search(r"goes on at batch (\d+) of (\d+)", again.stdout)
    assert place is not None and 0 < int(place[1]) < int(place[2]) and "written by pieces" not in again.stdout
    accuracy = re.search(r"never seen: ([0-9.]+)", again.stdout)
    assert accuracy is not None and float(accuracy[1]) > 0.6
    assert not (tmp_path / "cells").exists()
