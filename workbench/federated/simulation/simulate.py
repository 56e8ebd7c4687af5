"""Sites that are parts of one study, on this machine: the whole federation rehearsed before anybody installs it.

    run = simulate(spec.read("experiments/federations/gdsc2_random.toml"))     # recorded as any run
    predictor = fitted(federation, number=0).predictor                        # nothing recorded

Engines: "flower" (Flower's simulation engine, sites in this process), "ray" (the same, sites in Ray's workers) and
"inline" (no Flower). All give the same numbers. What ends between two rounds goes on from its last state.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workbench
from workbench import home
from workbench.federated import methods, task
from workbench.federated.journal import Journal
from workbench.federated.messages import Value
from workbench.federated.robust.updates import Checked, Checks, Noted
from workbench.federated.sites import Inline, Sites
from workbench.federated.spec import Federation, FederationError
from workbench.federated.state import State, StateFile, figures, keeper
from workbench.federated.watched import LEFT_OUT, Watched
from workbench.splits import Fold
from workbench.text import nearest

ENGINES = ("flower", "ray", "inline")
PACKAGE = Path(str(workbench.__file__)).resolve().parent
CODE = ("federated/**/*.py", "predictors/*.py", "nn/*.py", "modalities/*.py", "splits/**/*.py",
        "batches.py", "train.py", "predict.py")  # fmt: skip
WORKERS = 2
Say = Callable[[float, str], None]
Point = Callable[[int, Mapping[str, Value]], None]


@dataclass(frozen=True)
class Fitted:
    """What a simulation of one fold gave: the predictor, and what was asked and answered on the way."""

    predictor: Any
    fold: Fold
    dealt: Mapping[str, list[str]]
    watched: Watched


def simulate(
    federation: Federation,
    engine: str = "flower",
    *,
    workers: int = WORKERS,
    say: Say | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Any:
    """Train on every fold, score, and record as one MLflow run; returns the ``runs.Run``.

    Parameters
    ----------
    engine : one of ``ENGINES``
    workers : Ray's, with engine "ray"
    say : progress of the whole: (fraction, what is going on)
    stopped : True ends the run as KILLED between two rounds (raises ``state.Stopped``); the same call goes on
    """
    from workbench.federated.simulation import recording

    with _kept_up(engine, workers):
        return recording.run(
            federation,
            lambda number, told, point: fitted(
                federation, number, engine, workers=workers, say=told, stopped=stopped, point=point
            ),
            engine,
            say,
        )


def fitted(
    federation: Federation,
    number: int = 0,
    engine: str = "flower",
    *,
    workers: int = WORKERS,
    say: Say | None = None,
    stopped: Callable[[], bool] | None = None,
    point: Point | None = None,
    folder: Path | None = None,
) -> Fitted:
    """Train on fold ``number`` and record nothing; a state that a stopped training of the same left is gone on with.

    Parameters
    ----------
    point : called with (round, {figure: value}) after each round
    folder : for states (default: among the checkpoints of the home)
    """
    fold, dealt = task.opened(federation, number)
    file = StateFile(place(federation, number, folder), mark(federation, number))
    last = file.load()
    if last is None:  # a training begun anew has told nobody anything yet
        _forget_budgets(federation, number)
    journal = Journal(file.path.with_suffix(".jsonl"), file.mark, last)

    def pointed(step: int, values: Mapping[str, Value]) -> None:
        journal.point(step, found := figures(values))
        if point is not None:
            point(step, found)

    try:
        with sites(federation, number, engine, workers) as there:
            watched = Watched(there, journal.add)
            journal.watch(watched)
            if point is not None:
                for step, found in journal.points:
                    point(step, found)
            predictor = train(federation, watched, file, say, stopped, pointed)
    except BaseException:
        if not file.path.exists():  # nothing to go on from
            journal.drop()
        raise
    file.drop()
    journal.drop()
    _forget_budgets(federation, number)
    return Fitted(predictor, fold, dealt, watched)


def _forget_budgets(federation: Federation, number: int) -> None:
    """What sites without a gate were charged lasts as long as their training; a gated site's book stays."""
    import shutil

    shutil.rmtree(task.budgets(federation, number), ignore_errors=True)


def train(
    federation: Federation,
    there: Sites,
    file: StateFile | None = None,
    say: Say | None = None,
    stopped: Callable[[], bool] | None = None,
    point: Point | None = None,
) -> Any:
    """The federation's predictor, fitted over any ``Sites``; goes on from ``file`` where it holds a state of this.

    Whatever comes in passes ``robust.updates.Checked`` first; what that noted is told to ``there`` where it is Watched.
    """
    state = None if file is None else file.load()
    if state is not None and say is not None:
        say(0.0, f"going on after round {state[0]}")
    note = there.note if isinstance(there, Watched) else None
    if federation.secure:
        there = secured(there, federation)
    checks = Checks(said=_said(state), most_share=federation.most_share)
    # how few are enough is the method's to say: an ask that everyone may refuse is one too
    sites = Checked(there, checks, least=0, hidden=federation.secure, heard=note)
    kept, noted = keeper(file, point, stopped), set[Noted]()

    def keep(number: int, arrays: Mapping[str, Any], values: Mapping[str, Value]) -> None:
        new = set() if note is None else set(_left_out(values)) - noted
        for left in sorted(new, key=lambda n: n.site):
            note(left)  # type: ignore[misc]
        noted.update(new)
        kept(number, arrays, values)

    return methods.METHODS[federation.method].fit(sites, settings(federation), state, keep, say)


def _left_out(values: Mapping[str, Value]) -> list[Noted]:
    """Sites that speak of other things than most (``exact.harmonise``), of the plan in a state's values."""
    plan = json.loads(str(values["plan"])) if "plan" in values else {}
    told = plan.get("refused", {})
    return [
        Noted("schema", 0, site, LEFT_OUT, why.removeprefix(f"{site}: ").rstrip("."))
        for site, why in told.items()
        if any(d["site"] == site and d["done"] == "refused" for d in plan.get("differences", []))
    ]


def _said(state: State | None) -> dict[str, int]:
    """Rows of each site as it said before round one, of a training that is gone on with."""
    if state is None or not (plan := state[2].get("plan")):
        return {}
    return {str(s): int(n) for s, n in json.loads(str(plan))["rows"].items()}


def settings(federation: Federation) -> dict[str, Any]:
    """What the method is told: the file's settings, and what the rest of the file says."""
    plan = federation.experiment
    return dict(federation.settings) | {
        "predictor": federation.predictor, "parameters": dict(plan.parameters.get(federation.predictor, {})),
        "rounds": federation.rounds, "least": federation.least, "seed": plan.seed, "endpoint": plan.endpoint,
    }  # fmt: skip


def secured(there: Sites, federation: Federation) -> Sites:
    """The same sites, whose sums are formed by secure aggregation."""
    from workbench.federated.secure import server

    return server.Secure(there, least=federation.least)


@contextlib.contextmanager
def sites(federation: Federation, number: int = 0, engine: str = "flower", workers: int = WORKERS) -> Iterator[Sites]:
    """The federation's sites for fold ``number``, by ``engine``; ended on the way out."""
    if engine == "inline":
        yield Inline(task.simulated(federation, number), federation.least)
        return
    from workbench.federated.simulation.engine import running

    with running(federation, number, _workers(engine, workers)) as there:
        yield there


def _workers(engine: str, workers: int) -> int:
    if engine not in ENGINES:
        raise FederationError(f"unknown engine {engine!r}.{nearest(engine, ENGINES)} Known: {', '.join(ENGINES)}.")
    if workers < 1:
        raise FederationError(f"workers should be at least 1, found {workers}.")
    return workers if engine == "ray" else 0


@contextlib.contextmanager
def _kept_up(engine: str, workers: int) -> Iterator[None]:
    """Ray once for all folds: its start takes longer than many a training."""
    if engine == "inline" or not _workers(engine, workers):
        yield
        return
    from workbench.federated.simulation.engine import ray_running

    with ray_running(workers):
        yield


def place(federation: Federation, number: int, folder: Path | None = None) -> Path:
    """The state file of fold ``number``."""
    return (folder or home.checkpoints()) / f"federation-{mark(federation, number)[:24]}.safetensors"


def mark(federation: Federation, number: int) -> str:
    """SHA-256 of all a training depends on: rows, sites, settings, and the code that asks, answers and fits."""
    fold, dealt = task.opened(federation, number)
    told = [fold.study.digest, fold.rule, fold.number, fold.train["row"].to_list(), federation.plain(), dict(dealt)]
    return hashlib.sha256(json.dumps([*told, code()], sort_keys=True, default=list).encode()).hexdigest()


def code(package: Path = PACKAGE) -> str:
    """SHA-256 of the files that ask, answer and fit: a state is gone on with by the same ones only."""
    files = [file for pattern in CODE for file in package.glob(pattern)]
    h = hashlib.sha256()
    for file in sorted(files):
        h.update(file.relative_to(package).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return h.hexdigest()
