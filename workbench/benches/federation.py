"""Rounds of a federation against a plain FedAvg loop of the same training, in one process, threads pinned.

Synthetic studies (they say nothing about biology): a tiny one, where a site trains for less time than a message takes,
and one of GDSC2's size. Both sides train the same DrugResponse from the same weights on the same rows in the same
order. The plain loop keeps one network a site, steps a bare optimiser and takes the mean of the weights; it asks nobody
and writes nothing. Ours asks, trains and answers through the engine named, and keeps its state after each round.

"outside training" is what of our time the plain loop's gradient steps do not explain; the note splits it: the engine
(messages there and back), the site (its policy, weights in and out, predictions of held-out rows that the plain loop
does not make), the trainer (Lightning around the steps, for each site and round), the server (its step, the state on
disk). A site prepares its rows when it is first asked; that is counted too. Weights have to agree to the bit: the
change of each site is weighed so that the mean of changes is exactly the mean of weights.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

THREADS, SITES, WORKERS = 1, 5, 2
SIZES = {  # subjects, treatments, features, members of the ensemble, rounds, epochs of a round, times measured
    "tiny": (200, 20, 32, 2, 20, 1, 3),
    "GDSC2-sized": (718, 286, 512, 8, 3, 1, 1),
}


@dataclass
class Clock:
    """Seconds by part, and what the sites were asked."""

    spent: dict[str, float] = field(default_factory=dict)
    asks: list[Any] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0

    def add(self, part: str, seconds: float) -> None:
        self.spent[part] = self.spent.get(part, 0.0) + seconds


class Timed:
    """``Sites`` whose rounds of training are timed."""

    def __init__(self, sites: Any, clock: Clock) -> None:
        self.sites, self.clock = sites, clock

    @property
    def names(self) -> tuple[str, ...]:
        return self.sites.names

    def ask(self, ask: Any, of: Any = None) -> Any:
        return self.sites.ask(ask, of)

    def total(self, ask: Any, least: int = 1) -> Any:
        start = time.perf_counter()
        answer = self.sites.total(ask, least)
        if ask.purpose == "network_round":
            end = time.perf_counter()
            self.clock.first = self.clock.first or start
            self.clock.last = end
            self.clock.add("asked", end - start)
            self.clock.asks.append(ask)
        return answer


def run() -> list[dict[str, Any]]:
    """Rows for each size and engine; weights must agree with the plain loop's to 1e-6."""
    import torch

    torch.set_num_threads(THREADS)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="workbench-bench-") as folder, _home(folder):
        for size in SIZES:
            rows += compare(size)
    return rows


def compare(size: str, engines: tuple[str, ...] = ("inline", "flower", "ray")) -> list[dict[str, Any]]:
    """Rows of one size."""
    federation = _federation(size)
    *_, rounds, _, times = SIZES[size]
    start, ask, locals_ = _begin(federation)
    rows, best = [], min((plain(ask, locals_, rounds) for _ in range(times)), key=lambda found: found[0])
    seconds, training, shared = best
    sys.stderr.write(f"{size}: plain loop {1000 * seconds / rounds:.1f} ms a round\n")
    for engine in engines:
        try:
            found = min((ours(federation, engine, start) for _ in range(times)), key=lambda f: f[0])
        except ImportError as error:
            sys.stderr.write(f"{size}: {engine} left out: {error}\n")
            continue
        mine, weights, clock = found
        apart, moved = _apart(shared, weights), _apart(shared, _shared(ask))
        rows.append(_row(size, engine, mine / rounds, seconds / rounds, training / rounds, apart, moved, clock, rounds))
        sys.stderr.write(f"{size}: {engine} {1000 * mine / rounds:.1f} ms a round\n")
    return rows


def _row(
    size: str,
    engine: str,
    mine: float,
    peer: float,
    training: float,
    apart: float,
    moved: float,
    clock: Clock,
    rounds: int,
) -> dict[str, Any]:
    outside = max(0.0, 1 - training / mine)
    note = (
        f"{outside:.0%} outside training; weights within {apart:.1e} of the plain loop's, having moved by {moved:.1e}"
    )
    if engine == "ray":
        note += f"; {WORKERS} workers side by side, so part of the training overlaps; their start is not counted"
    else:
        spent = {k: 1000 * v / rounds for k, v in clock.spent.items()}
        split = {
            "engine": spent["asked"] - spent["answer"], "site": spent["answer"] - spent["trainer"],
            "trainer": spent["trainer"] - 1000 * training, "server": 1000 * mine - spent["asked"],
        }  # fmt: skip
        note += "; ms: " + ", ".join(f"{k} {v:.1f}" for k, v in split.items())
    return {
        "name": f"a round of {SITES} sites, {size}, {engine}", "ours": mine, "peer": peer, "unit": "s",
        "ratio": peer / mine, "outside": outside, "apart": apart, "moved": moved, "note": note,
    }  # fmt: skip


def ours(federation: Any, engine: str, start: Any) -> tuple[float, dict[str, np.ndarray], Clock]:
    """Seconds of all rounds, shared weights after the last, and where the time went; from the state ``start``."""
    from workbench import train
    from workbench.federated.simulation import simulate
    from workbench.federated.site import Site
    from workbench.federated.state import StateFile

    clock, last = Clock(), dict[str, np.ndarray]()
    with tempfile.TemporaryDirectory() as folder, simulate.sites(federation, 0, engine, WORKERS) as sites:
        file = StateFile(Path(folder) / "state.safetensors", "bench")

        def keep(number: int, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
            file.keep(number, arrays, values)
            if len(clock.asks) == federation.rounds and not last:
                clock.last = time.perf_counter()
                last.update(_weights(arrays))
                raise _Enough  # what comes after the last round is no round

        with _timing(Site, "answer", clock, "answer"), _timing(train, "run_lightning", clock, "trainer"):
            _fit(federation, Timed(sites, clock), start, keep)
    return clock.last - clock.first, last, clock


def plain(ask: Any, locals_: Mapping[str, Any], rounds: int) -> tuple[float, float, dict[str, np.ndarray]]:
    """Seconds of all rounds, of their gradient steps alone, and the weights, of FedAvg as a textbook has it."""
    import torch

    from workbench.federated.network.module import RoundLoader, one_cycle, set_weights, weights
    from workbench.federated.network.training import seed_of

    sigma, offset = float(ask.arrays["sigma"][0]), ask.arrays["offset"]
    shared = _shared(ask)
    epochs, all_rounds = int(ask.values["epochs"]), int(ask.values["rounds"])
    made = {}
    for name, local in locals_.items():
        module, rows = local.module(sigma), local.rows(offset, sigma)
        seed = seed_of(int(module.params["seed"]), name)
        made[name] = (module, RoundLoader(rows, module.params["subjects"], seed, first=0), seed, local.train.height)
    training, began = 0.0, time.perf_counter()
    for number in range(rounds):
        total, n = {k: np.zeros(a.shape) for k, a in shared.items()}, 0
        for module, loader, seed, size in made.values():
            set_weights(module, shared)
            module.train()
            p = module.params
            loader.first, steps = number * epochs, len(loader) * epochs
            module.begin(number * steps, all_rounds * steps)
            begun = time.perf_counter()
            optimizer = torch.optim.AdamW(
                module.parameters(), p["learning_rate"], weight_decay=p["weight_decay"], fused=True
            )
            torch.manual_seed(seed_of(seed, str(number)))
            step = number * steps
            for epoch in range(epochs):
                loader.epoch = epoch
                module.on_train_epoch_start()
                for i, batch in enumerate(loader):
                    share, beta = one_cycle(step, all_rounds * steps)
                    for group in optimizer.param_groups:
                        group["lr"], group["betas"] = share * p["learning_rate"], (beta, group["betas"][1])
                    loss = module.training_step(batch, i)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    step += 1
            training += time.perf_counter() - begun
            for k, w in weights(module).items():
                total[k] += size * w.astype(np.float64)
            n += size
        shared = {k: (a / n).astype(np.float32) for k, a in total.items()}
    return time.perf_counter() - began, training, shared


class _Enough(Exception):
    """The first round was asked for: what comes before it is prepared."""


def _begin(federation: Any) -> tuple[Any, Any, dict[str, Any]]:
    """State before the first round, the first round's ask, and what each site trains on ({site: Local})."""
    from workbench.federated import task
    from workbench.federated.network import local as _network_local
    from workbench.federated.sites import Inline

    states: list[Any] = []
    sites = task.simulated(federation, 0)
    clock = Clock()

    class First(Timed):
        def total(self, ask: Any, least: int = 1) -> Any:
            if ask.purpose == "network_round":
                self.clock.asks.append(ask)
                raise _Enough
            return super().total(ask, least)

    with contextlib.suppress(_Enough):
        _fit(federation, First(Inline(sites), clock), None, lambda *state: states.append(state))
    number, arrays, values = states[-1]
    (ask,) = clock.asks
    return (number, dict(arrays), dict(values)), ask, {s.name: _network_local.of(s, ask) for s in sites}


def _fit(federation: Any, sites: Any, state: Any, keep: Any) -> None:
    from workbench.federated import methods
    from workbench.federated.simulation import simulate

    with contextlib.suppress(_Enough):
        methods.METHODS["network"].fit(sites, simulate.settings(federation), state, keep, None)


def _shared(ask: Any) -> dict[str, np.ndarray]:
    """The weights that an ask for a round brings."""
    return {k.removeprefix("weights."): a for k, a in ask.arrays.items() if k.startswith("weights.")}


def _apart(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    return max(float(np.abs(a[k].astype(np.float64) - b[k]).max()) for k in a)


def _weights(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Shared weights in a state of ``network``."""
    return {k.rpartition("w/")[2]: a for k, a in arrays.items() if "w/" in k}


def _federation(size: str) -> Any:
    from workbench.federated import spec

    subjects, treatments, features, members, rounds, epochs, _ = SIZES[size]
    study = f"bench-{size}"
    _write(study, subjects, treatments, features)
    return spec.of(
        {
            "name": study, "study": study, "endpoint": "ln_ic50", "split": "unseen subject", "folds": 5, "only": [0],
            "predictors": ["drug_response"], "parameters": {"drug_response": {"members": members}},
            "federation": {
                "sites": {"random": SITES}, "rounds": rounds, "policy": {"minimum_cell": 1, "minimum_rows": 1},
                "settings": {"local_epochs": epochs, "axes": 16, "double": True},
            },
        }
    )  # fmt: skip


def _write(name: str, subjects: int, treatments: int, features: int) -> None:
    """A dense study: values with a planted line effect, three modalities of random numbers."""
    from anndata import AnnData

    from workbench import home, tables
    from workbench.study import write_study

    g = np.random.default_rng([20261122, subjects])
    names, drugs = [f"s{i:04d}" for i in range(subjects)], [f"d{j:03d}" for j in range(treatments)]
    x = g.standard_normal((subjects, features)).astype(np.float32)
    value = x[:, :8] @ g.standard_normal((8, treatments)) + g.standard_normal((subjects, treatments))
    told: dict[str, Any] = {
        "subject": np.repeat(names, treatments), "treatment": drugs * subjects, "value": value.ravel()
    }  # fmt: skip
    fixed = {"site": "nowhere", "dose": None, "dose_unit": None, "time_h": None, "endpoint": "ln_ic50",
             "unit": "ln(uM)", "censored": 0, "source": "synthetic"}  # fmt: skip
    frame = pl.DataFrame(told).with_columns(pl.lit(v).alias(k) for k, v in fixed.items())
    outcomes = frame.select(pl.col(c).cast(t) for c, t in tables.OUTCOMES.columns.items())
    modalities = {}
    for kind, matrix, unit in (
        ("expression", x, "z-score"),
        ("mutation", (g.random((subjects, features // 2)) < 0.1).astype(np.uint8), "mutated (0/1)"),
        ("copy_number", g.integers(-1, 2, (subjects, features // 2)).astype(np.int8), "copy-number call (-1/0/1)"),
    ):
        data = AnnData(matrix)
        data.obs_names, data.var_names = names, [f"g{i}" for i in range(matrix.shape[1])]
        data.uns["axis"], data.uns["unit"] = "subject", unit
        modalities[kind] = data
    write_study(
        home.studies() / name,
        outcomes=outcomes.sort("treatment", "subject", "endpoint"),
        subjects=pl.DataFrame({"subject": names, "tissue": ["t"] * subjects}),
        treatments=pl.DataFrame(
            {"treatment": drugs, "compound": [None] * treatments, "smiles": [None] * treatments},
            schema=dict(tables.TREATMENTS.columns),
        ),
        modalities=modalities,
        provenance={"source": "synthetic numbers for a benchmark"},
        event="made for a benchmark",
    )


@contextlib.contextmanager
def _timing(owner: Any, name: str, clock: Clock, part: str) -> Iterator[None]:
    """Time every call of ``owner.name`` within, where the clock has seen or sees a round of training."""
    real = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        asked = args[1] if part == "answer" else None
        start = time.perf_counter()
        try:
            return real(*args, **kwargs)
        finally:
            if asked is None or asked.purpose == "network_round":
                clock.add(part, time.perf_counter() - start)

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextlib.contextmanager
def _home(folder: str) -> Iterator[None]:
    before = os.environ.get("WORKBENCH_HOME")
    os.environ["WORKBENCH_HOME"] = folder
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("WORKBENCH_HOME", None)
        else:
            os.environ["WORKBENCH_HOME"] = before
