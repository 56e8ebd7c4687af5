"""The workbench's trainer against a bare torch loop: same model, same batches, one process, threads pinned.

Synthetic data of the size of GDSC2 (it says nothing about biology). Both sides run DrugResponse's training step with
fused AdamW and the same schedule; ours goes through Lightning, with curves, progress, stopping and random-state
bookkeeping. A checkpoint takes the same time in any trainer and is measured on its own row.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from workbench import train
from workbench.batches import Rows, SubjectLoader
from workbench.predictors import make

SUBJECTS, TREATMENTS, SIZES = 718, 286, {"expression": 512, "mutation": 256, "copy_number": 256}
EPOCHS, ROUNDS, THREADS = 4, 5, 2


def rows(subjects: int = SUBJECTS, treatments: int = TREATMENTS) -> Rows:
    """Dense synthetic rows (subjects x treatments), standard normal everything."""
    g = torch.Generator().manual_seed(0)
    n = subjects * treatments
    return Rows(
        torch.arange(n),
        torch.arange(subjects).repeat_interleave(treatments),
        torch.arange(treatments).repeat(subjects),
        {m: torch.randn(subjects, f, generator=g) for m, f in SIZES.items()},
        torch.ones(subjects, len(SIZES)),
        torch.randn(n, generator=g),
        torch.zeros(n, dtype=torch.int8),
        torch.arange(subjects).repeat_interleave(treatments) % 8,
    )


def model() -> Any:
    """An untrained DrugResponse of the benchmark's size."""
    torch.manual_seed(0)
    module: Any = make("drug_response", epochs=EPOCHS)
    module.sigma_ = 1.0
    module._build(SIZES, TREATMENTS, 128)
    module.register_buffer("structure", torch.randn(TREATMENTS, 128), persistent=False)
    return module


def ours(data: Rows) -> tuple[float, Any]:
    """Seconds and module of the workbench's trainer."""
    module = model()
    loader = SubjectLoader(data, module.params["subjects"], 0)
    survive = train.Survive(None, report=lambda done, message: None, stopped=lambda: False)
    start = time.perf_counter()
    train.run_lightning(module, loader, epochs=EPOCHS, survive=survive, accelerator="cpu")
    return time.perf_counter() - start, module


def bare(data: Rows) -> tuple[float, Any]:
    """Seconds and module of a plain loop."""
    module = model()
    p = module.params
    loader = SubjectLoader(data, p["subjects"], 0)
    start = time.perf_counter()
    optimizer = torch.optim.AdamW(module.parameters(), p["learning_rate"], weight_decay=p["weight_decay"], fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, p["learning_rate"], total_steps=EPOCHS * len(loader), pct_start=0.1
    )
    module.train()
    for epoch in range(EPOCHS):
        loader.epoch = epoch
        module.on_train_epoch_start()
        for i, batch in enumerate(loader):
            loss = module.training_step(batch, i)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return time.perf_counter() - start, module


def run() -> list[dict[str, Any]]:
    """Interleave both sides ``ROUNDS`` times after a warm-up and give medians; weights must agree."""
    torch.set_num_threads(THREADS)
    data = rows()
    mine: list[float] = []
    theirs: list[float] = []
    bar = tqdm(range(ROUNDS + 1), desc="training", unit="round", file=sys.stderr)
    ours(data), bare(data)  # warm-up
    bar.update()
    for _ in range(ROUNDS):
        seconds, a = ours(data)
        mine.append(seconds)
        seconds, b = bare(data)
        theirs.append(seconds)
        bar.update()
    bar.close()
    same = all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    first, second = statistics.median(mine), statistics.median(theirs)
    pairs = sorted(m / t for m, t in zip(mine, theirs, strict=True))
    equal = "bitwise equal" if same else "DIFFER"
    spread = f"{first / second:.3f}x the bare loop (pairs {pairs[0]:.2f} to {pairs[-1]:.2f})"
    note = f"{spread}; weights {equal}; {THREADS} threads"
    save, floor = _checkpoint(a)
    return [
        {
            "name": "training, GDSC2-sized, 4 epochs",
            "ours": first,
            "peer": second,
            "unit": "s",
            "ratio": second / first,
            "note": note,
        },
        {
            "name": "checkpoint, atomic and synced",
            "ours": save,
            "peer": floor,
            "unit": "s",
            "ratio": floor / save,
            "note": "peer: torch.save without sync or rename",
        },
    ]


def _checkpoint(module: Any) -> tuple[float, float]:
    """Median seconds to write the module's state: ours and a plain torch.save."""
    state, mine, plain = {"state_dict": module.state_dict()}, [], []
    io = train.AtomicIO()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            io.save_checkpoint(state, Path(folder) / "ours.ckpt")
            mine.append(time.perf_counter() - start)
            start = time.perf_counter()
            torch.save(state, Path(folder) / "plain.ckpt")
            plain.append(time.perf_counter() - start)
    return statistics.median(mine), statistics.median(plain)
