"""One way to fit a predictor, made to survive: stop anywhere, resume, end with bitwise the same weights.

A Lightning predictor gets Lightning's Trainer with an in-memory loader. At the end of an epoch (at most every
``every_s`` seconds) a checkpoint is written beside the last one, synced and renamed: weights, optimiser, schedule,
loop, loader and every random generator. Any other predictor fits itself in one go.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from workbench import tables
from workbench.batches import SubjectLoader
from workbench.durable import alive, sync_folder
from workbench.predictors import Predictor, Report
from workbench.splits import Fold


class Stopped(RuntimeError):
    """Training was asked to stop; its last checkpoint is kept, and the same call resumes it."""


class AtomicIO(TorchCheckpointIO):
    """Checkpoints, whole or absent: temp file in the same folder, synced, renamed; read without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)

    @staticmethod
    def sweep(path: Path) -> None:
        """Remove what processes that were killed while they saved ``path`` left beside it."""
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            if not alive(int(left.name.split(".")[-2])):
                left.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


class Survive(lightning.Callback):
    """Curves, progress, stopping and checkpoints at the ends of epochs; carries the random generators' states."""

    def __init__(
        self,
        path: Path | None,
        every_s: float = 10.0,
        report: Report | None = None,
        stopped: Callable[[], bool] | None = None,
        point: Callable[[int, dict[str, float]], None] | None = None,
        fingerprint: str = "",
    ) -> None:
        self.path, self.every_s, self.report, self.stopped, self.point = path, every_s, report, stopped, point
        self.fingerprint = fingerprint
        self.points: list[tuple[int, str, float]] = []
        self._random: dict[str, Any] | None = None
        self._saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"points": [list(p) for p in self.points], "random": random_state(), "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.points = [(int(a), str(b), float(c)) for a, b, c in state["points"]]
        self._random = state["random"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self._random is not None:
            set_random_state(self._random)
            self._random = None

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # Lightning tells samplers which epoch it is; our loader has none
        if isinstance(loader := trainer.train_dataloader, SubjectLoader):
            loader.epoch = trainer.current_epoch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if self.stopped is not None and self.stopped():
            raise Stopped("training was stopped; the same call resumes from its last checkpoint.")

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 1
        values = module.epoch_curve() if hasattr(module, "epoch_curve") else {}
        self.points += [(epoch, name, value) for name, value in values.items()]
        if self.point is not None:
            self.point(epoch, values)
        if self.report is not None:
            self.report(epoch / last, f"epoch {epoch} of {last}")
        if self.path is not None and epoch < last and time.monotonic() - self._saved >= self.every_s:
            trainer.save_checkpoint(self.path)
            self._saved = time.monotonic()


def random_state() -> dict[str, Any]:
    """States of Python's, numpy's and torch's generators, as plain numbers and tensors."""
    kind, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), *[float(r) for r in rest]],
        "python": [version, list(internal), gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Undo ``random_state``."""
    torch.set_rng_state(state["torch"])
    kind, keys, pos, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), int(pos), int(has_gauss), cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def run_lightning(
    module: lightning.LightningModule,
    loader: Any,
    *,
    epochs: int,
    survive: Survive,
    accelerator: str = "auto",
    devices: int | str = 1,
    strategy: str = "auto",
    num_nodes: int = 1,
) -> None:
    """Fit ``module`` on ``loader``, resuming from ``survive.path`` where it holds a checkpoint of the same fit."""
    with _quiet():
        _trainer(epochs, survive, accelerator, devices, strategy, num_nodes).fit(
            module, loader, ckpt_path=resumable(survive)
        )


def _trainer(epochs, survive, accelerator, devices, strategy, num_nodes) -> lightning.Trainer:
    """A Trainer that no fit has used. On a CPU a copy of one kept for that: making one reads the metadata of every
    installed package, 8 ms, and a round at a site of a federation may be shorter than that."""
    if (accelerator, devices, strategy, num_nodes) != ("cpu", 1, "auto", 1):
        return _made(epochs, [survive], accelerator, devices, strategy, num_nodes)
    trainer: Any = copy.deepcopy(_unused(epochs))
    trainer.callbacks = [survive, *trainer.callbacks]
    return trainer


@functools.lru_cache(maxsize=4)
def _unused(epochs: int) -> lightning.Trainer:
    return _made(epochs, [], "cpu", 1, "auto", 1)


def _made(epochs, callbacks, accelerator, devices, strategy, num_nodes) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        num_nodes=num_nodes,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        plugins=[AtomicIO()],
        callbacks=callbacks,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's tips and notes about hardware are not news to anyone here; its errors are raised all the same."""
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        log.setLevel(level)


def resumable(survive: Survive) -> str | None:
    """Path of a checkpoint that belongs to this very fit; one of another fit is left alone and not used."""
    if survive.path is None or not survive.path.is_file():
        return None
    try:
        state = torch.load(survive.path, map_location="cpu", weights_only=True, mmap=True)
        saved = state["callbacks"]["Survive"]["fingerprint"]
    except Exception as error:
        raise ValueError(
            f"{survive.path} is not a readable checkpoint ({type(error).__name__}: {error}). "
            "Delete it to train from the start."
        ) from error
    return str(survive.path) if saved == survive.fingerprint else None


def fit(
    predictor: Predictor,
    fold: Fold,
    *,
    checkpoint: Path | None = None,
    every_s: float = 10.0,
    report: Report | None = None,
    stopped: Callable[[], bool] | None = None,
    point: Callable[[int, dict[str, float]], None] | None = None,
    fingerprint: str = "",
    **trainer: Any,
) -> pl.DataFrame:
    """Fit ``predictor`` on ``fold`` and return its learning curves (``tables.CURVES``).

    Parameters
    ----------
    checkpoint : file to save to and resume from; removed once training has ended well
    every_s : least seconds between two checkpoints
    report : called with (fraction done, message)
    stopped : asked after every batch; True raises Stopped
    point : called with (epoch, {curve: value}) at the end of each epoch
    fingerprint : what identifies this fit; a checkpoint with another one is not resumed
    trainer : accelerator, devices, strategy, num_nodes for Lightning
    """
    if not isinstance(predictor, lightning.LightningModule):
        if stopped is not None and stopped():
            raise Stopped("stopped before it began.")
        predictor.fit(fold, report)
        return curves(predictor, fold, getattr(predictor, "points_", []))
    module: Any = predictor
    rows = module.prepare(fold, report)
    rest = None if report is None else (lambda done, message: report(0.3 + 0.65 * done, message))
    survive = Survive(checkpoint, every_s, rest, stopped, point, fingerprint)
    loader = SubjectLoader(rows, module.params["subjects"], module.params["seed"])
    run_lightning(module, loader, epochs=module.params["epochs"], survive=survive, **trainer)
    module.finish(fold)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
        AtomicIO.sweep(checkpoint)
    return curves(predictor, fold, survive.points)


def curves(predictor: Predictor, fold: Fold, points: list[tuple[int, str, float]]) -> pl.DataFrame:
    """``tables.CURVES`` of (step, name, value) points."""
    frame = pl.DataFrame(points, schema={"step": pl.Int64, "name": pl.String, "value": pl.Float64}, orient="row")
    return tables.check(
        frame.with_columns(
            pl.lit(predictor.name).alias("predictor"),
            pl.lit(fold.number, pl.Int32).alias("fold"),
            pl.lit(fold.unit).alias("unit"),
        ),
        tables.CURVES,
    )
