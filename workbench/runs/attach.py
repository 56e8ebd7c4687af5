"""Figures and tables that are about several runs: put beside a run, or into a run of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from workbench.runs import process, store
from workbench.runs.keys import KIND, RunError, slug
from workbench.runs.read import find
from workbench.runs.write import _Open

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENT = "comparisons"  # where a run of its own goes unless told otherwise


class _Beside(_Open):
    """A run that is open for further files: one that exists, or a new one."""

    def __init__(self, to: str | None, kind: str, note: str) -> None:
        store.client()
        experiment = to or EXPERIMENT
        known = {e.name for e in store.pages(store.client().search_experiments)}
        self.new = to is None or experiment in known
        if self.new:
            now = datetime.now(UTC)
            told = {KIND: kind, "mlflow.note.content": note, "mlflow.source.name": "workbench", **process.provenance()}
            self._open(store.experiment_id(experiment), f"{kind} {now:%Y%m%d-%H%M%S}", told, {})
            return
        run = find(experiment)
        self._client, self._pid, self.run_id, self.name = store.client(), os.getpid(), run.run_id, run.name
        self.experiment_id = run.experiment_id
        start = "sha256 "
        self._digests = {k: json.loads(v) for k, v in run.tags.items() if k.startswith(start)}


def attach(
    kind: str,
    figures: Mapping[str, Figure],
    frames: Mapping[str, pl.DataFrame],
    to: str | None = None,
    note: str = "",
) -> str:
    """Store figures as png and tables as csv, which MLflow's page shows; returns the id of the run that holds them.

    Parameters
    ----------
    kind
        What it is, such as "comparison": names a new run, and the files of the tables.
    figures, frames
        By name; lists within a table are joined by " | ".
    to
        A run, by id or name; or an MLflow experiment, for a new run there (default: a new run in "comparisons").
    note
        Description of a new run, in Markdown.

    Raises
    ------
    RunError
        ``to`` is neither.
    """
    if not kind.strip():
        raise RunError("kind is empty; give a word for what is attached, such as 'comparison'.")
    run = _Beside(to, kind, note[:8000])
    try:
        for name, figure in figures.items():
            run.figure(name, figure)
        for name, frame in frames.items():
            plain = frame.with_columns(
                pl.col(c).list.join(" | ") for c, t in frame.schema.items() if isinstance(t, pl.List)
            )
            run._put(f"tables/{slug(f'{kind} {name}')}.csv", plain.write_csv().encode())
    except BaseException as error:
        if run.new:
            run._end(error)
        raise
    if run.new:
        run._end(None)
    return run.run_id


def put(to: str, frames: Mapping[str, pl.DataFrame]) -> None:
    """Store tables of ``tables.TABLES`` with the existing run ``to`` (id or name); one of that name is replaced.

    Raises
    ------
    RunError
        There is no such run, or no table has that name.
    TableError
        A frame is not what its name says.
    """
    _Beside(find(to).run_id, "", "").tables(frames)
