"""A deployed training as one MLflow run: every round, every exchange, every site, the trained predictor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench import runs, tables
from workbench.federated.journal import Journal
from workbench.federated.keys import Allowed
from workbench.federated.output import TimeLeft
from workbench.federated.robust.updates import Noted
from workbench.federated.simulation import simulate
from workbench.federated.sites import Sites
from workbench.federated.spec import Federation
from workbench.federated.state import StateFile, figures
from workbench.federated.watched import Exchange, Watched

HEAD = "ledger head of"  # tag of the run: what each site's book must contain from now on

Say = Callable[[str], None]
Model = tuple[str, dict[str, np.ndarray]]  # configuration as JSON, and arrays


def prepare(say: Say) -> None:
    """Open the store of runs, and mark those KILLED that ended processes left open."""
    if swept := runs.sweep():
        say(f"{swept} runs of ended processes were marked KILLED.")


def record(
    federation: Federation, sites: Sites, allowed: Sequence[Allowed], folder: Path, say: Say
) -> tuple[runs.Run, Model]:
    """Train over ``sites`` and record; goes on from the state in ``folder`` where there is one of this training."""
    plan, name, mark = federation.experiment, federation.predictor, _mark(federation, allowed)
    state = StateFile(folder / "state.safetensors", mark)
    last = state.load()
    journal = Journal(folder / "rounds.jsonl", mark, last)
    if last is not None:
        say(f"going on after round {last[0]}.")
    told = plan.flat() | {"federation": federation.plain()["federation"], "allowed": [a.name for a in allowed]}
    digest = hashlib.sha256(b"".join(sorted(a.pem for a in allowed))).hexdigest()
    with runs.record(told, digest, "studies of the sites") as parent:
        parent.tag({"federation.engine": "deployed", "federation.method": federation.method})
        parameters = dict(plan.parameters.get(name, {})) | {"method": federation.method, "seed": plan.seed}
        with parent.child(name, plan.numbers[0], parameters) as child:

            def heard(what: Exchange | Noted) -> None:
                journal.add(what)
                say(
                    _said(what)
                    if isinstance(what, Exchange)
                    else f"round {what.round}, {what.site} {what.kind}: {what.why}"
                )

            watched = Watched(sites, heard)
            journal.watch(watched)
            for step, values in journal.points:
                child.metrics(values, step)

            def point(step: int, values: Mapping[str, Any]) -> None:
                journal.point(step, found := figures(values))
                child.metrics(found, step)
                say(f"round {step} is kept.")

            left = TimeLeft()

            def told_done(done: float, what: str) -> None:
                say(f"{done:4.0%} {what}{left(done)}")

            predictor = simulate.train(federation, watched, state, told_done, None, point)
            config, arrays = predictor.config(), dict(predictor.arrays())
            # what is asked of the model looks like this; rows of a site are not known here
            child.model(name, config, arrays, pl.DataFrame({"subject": ["a subject"], "treatment": ["a treatment"]}))
            rounds = watched.rounds()
            child.tables({"FEDERATION_ROUNDS": rounds})
        parent.tables(
            {"FEDERATION_ROUNDS": rounds, "FEDERATION_COSTS": _costs(watched, getattr(predictor, "spent_", None))}
        )
        for site, head in sorted(watched.heads().items()):
            parent.tag({f"{HEAD} {site}": head})
            say(f"newest fingerprint of {site}'s book: {head}")
        run_id = parent.run_id
    state.drop()
    journal.drop()
    return runs.find(run_id), (json.dumps({"predictor": name, "config": config}, sort_keys=True), arrays)


def _mark(federation: Federation, allowed: Sequence[Allowed]) -> str:
    """SHA-256 of what a state depends on: what is trained, by whom, and the code."""
    told = [federation.plain(), sorted(a.fingerprint for a in allowed), simulate.code()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _said(e: Exchange) -> str:
    lost = "".join(f"; {site}: {why}" for site, why in sorted(e.lost.items()))
    return f"round {e.round}, {e.purpose}: {len(e.nbytes)} sites, {e.seconds:.2f} s{lost}"


def _costs(watched: Watched, spent: Any = None) -> pl.DataFrame:
    """``tables.FEDERATION_COSTS`` of all that passed; what a site brought is known to the site."""
    by: dict[str, list[Exchange]] = {}
    for e in watched.exchanges:
        for site in {*e.nbytes, *e.lost}:
            by.setdefault(site, []).append(e)
    dropped = {(n.site, n.round, n.purpose) for n in watched.noted if n.kind == "dropped"}
    cost = (None, None) if spent is None else (spent.epsilon, spent.delta)
    rows = [
        (
            site, None, *cost, sum(e.nbytes.get(site, 0) for e in part), sum(site in e.nbytes for e in part),
            len({e.round for e in part if site in e.nbytes}),
            sum(site in e.lost for e in part) + sum(s == site for s, _, _ in dropped),
        )
        for site, part in sorted(by.items())
    ]  # fmt: skip
    schema = dict(tables.FEDERATION_COSTS.columns)
    return tables.check(pl.DataFrame(rows, schema=schema, orient="row"), tables.FEDERATION_COSTS)
