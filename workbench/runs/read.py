"""Reading runs back: the list, one run by id or name, its tables and its models."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import tables
from workbench.runs import models, store
from workbench.runs.keys import EXPERIMENT, KIND, RunError, name_of, table
from workbench.text import nearest

if TYPE_CHECKING:
    import numpy as np

TIME = pl.Datetime("ms", "UTC")
COLUMNS = {
    "run_id": pl.String(), "name": pl.String(), "experiment": pl.String(), "study": pl.String(),
    "split": pl.String(), "status": pl.String(), "started": TIME, "ended": TIME,
    "predictors": pl.List(pl.String()), "seed": pl.String(), "study_digest": pl.String(),
}  # fmt: skip


def runs() -> pl.DataFrame:
    """All experiment runs, newest first: run_id, name, experiment, study, split, status, started, ended, predictors."""
    rows = []
    for run in store.search_runs(f"tags.`{KIND}` = '{EXPERIMENT}'"):
        told, info = run.data.tags, run.info
        rows.append(
            (
                info.run_id, info.run_name, told.get("experiment"), told.get("study"), told.get("split"), info.status,
                info.start_time, info.end_time, json.loads(told.get("predictors", "[]")), told.get("seed"),
                told.get("study.digest"),
            )
        )  # fmt: skip
    numbers = {**COLUMNS, "started": pl.Int64(), "ended": pl.Int64()}
    return pl.DataFrame(rows, schema=numbers, orient="row").cast({"started": TIME, "ended": TIME})


def find(id_or_name: str) -> Run:
    """The run with this id, unique start of an id, run name, or experiment name (then its newest finished run).

    ``latest`` is the newest run. The id of a nested run finds the run it belongs to.

    Raises
    ------
    RunError
        Nothing, or more than one id, fits; names the nearest.
    """
    known = runs()
    wanted = known.filter(pl.col("run_id") == id_or_name)
    if id_or_name == "latest":
        wanted = known
    if wanted.is_empty():
        wanted = known.filter(pl.col("name") == id_or_name)
    if wanted.is_empty():
        wanted = known.filter(pl.col("experiment") == id_or_name)
        finished = wanted.filter(pl.col("status") == "FINISHED")
        wanted = wanted if finished.is_empty() else finished
    if wanted.is_empty() and id_or_name:
        wanted = known.filter(pl.col("run_id").str.starts_with(id_or_name))
        if len(wanted) > 1:
            shown = ", ".join(f"{i[:12]} ({n})" for i, n in wanted.select("run_id", "name").head(3).iter_rows())
            raise RunError(f"{len(wanted)} run ids start with {id_or_name!r}: {shown} ... Give more of it.")
    if not wanted.is_empty():
        return Run(store.client().get_run(wanted["run_id"][0]))
    if len(id_or_name) == 32 and (parent := _parent(id_or_name)):
        return Run(store.client().get_run(parent))
    if known.is_empty():
        raise RunError(f"no run {id_or_name!r}: nothing was recorded yet in {store.client().tracking_uri}.")
    hint = nearest(id_or_name, [*known["name"], *known["experiment"].drop_nulls().unique(), *known["run_id"]])
    raise RunError(f"no run {id_or_name!r} among {len(known)}.{hint} `workbench runs` shows them all.")


def _parent(run_id: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return store.client().get_run(run_id).data.tags.get("mlflow.parentRunId")
    except MlflowException:
        return None


class Run:
    """One recorded run, read lazily. Tables are polars frames with the schemas of ``tables.py``."""

    def __init__(self, entity: Any) -> None:
        self._entity = entity
        self.run_id: str = entity.info.run_id
        self.experiment_id: str = entity.info.experiment_id
        self.name: str = entity.info.run_name
        self.status: str = entity.info.status
        self.tags: dict[str, str] = dict(entity.data.tags)
        self.study: str = self.tags.get("study", "")
        self.split: str = self.tags.get("split", "")
        self.study_digest: str = self.tags.get("study.digest", "")

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.run_id[:12]}, {self.status}, study={self.study!r}, split={self.split!r})"

    @cached_property
    def params(self) -> dict[str, Any]:
        """The experiment's parameters with their types."""
        return json.loads(self._bytes(self._entity, "experiment.json"))

    @cached_property
    def scores(self) -> dict[str, float]:
        """Metrics logged on the run itself, by name."""
        return {name_of(k): v for k, v in self._entity.data.metrics.items()}

    @cached_property
    def children(self) -> list[Any]:
        """MLflow's nested runs, oldest first."""
        return list(store.search_runs(f"tags.`mlflow.parentRunId` = '{self.run_id}'"))[::-1]

    @property
    def predictions(self) -> pl.DataFrame:
        """PREDICTIONS."""
        return self.table("PREDICTIONS")

    @property
    def metrics(self) -> pl.DataFrame:
        """METRICS."""
        return self.table("METRICS")

    @property
    def comparisons(self) -> pl.DataFrame:
        """COMPARISONS."""
        return self.table("COMPARISONS")

    @property
    def attributions(self) -> pl.DataFrame:
        """ATTRIBUTIONS."""
        return self.table("ATTRIBUTIONS")

    @property
    def curves(self) -> pl.DataFrame:
        """CURVES."""
        return self.table("CURVES")

    @property
    def findings(self) -> pl.DataFrame:
        """FINDINGS of the audit of study and split; empty where nothing was found."""
        return self.table("FINDINGS")

    @property
    def outcomes(self) -> pl.DataFrame:
        """OUTCOMES, when they were kept with the run; else empty."""
        return self.table("OUTCOMES")

    def table(self, name: str) -> pl.DataFrame:
        """A table of the run; when it has none, those of its nested runs together; else empty.

        Raises
        ------
        RunError
            A file's SHA-256 is not the recorded one: it was not opened.
        """
        schema = table(name)
        if schema.name not in self._tables:
            path = f"tables/{schema.name.lower()}.parquet"
            owners = [self._entity] if _digest(self._entity, path) else [c for c in self.children if _digest(c, path)]
            frames = [tables.check(pl.read_parquet(io.BytesIO(self._bytes(e, path))), schema) for e in owners]
            if len(frames) > 1:  # one may hold categorical names, another strings
                frames = [f.cast(pl.Schema(schema.columns)) for f in frames]
            self._tables[schema.name] = pl.concat(frames) if frames else tables.empty(schema)
        return self._tables[schema.name]

    @cached_property
    def _tables(self) -> dict[str, pl.DataFrame]:
        return {}

    def _bytes(self, entity: Any, path: str) -> bytes:
        run_id = entity.info.run_id
        expected = _digest(entity, path)
        if expected is None:
            raise RunError(f"run {self.name!r} ({run_id}, {self.status}) holds no {path}: it ended before writing it.")
        return models.checked(entity.info.artifact_uri, path, expected, f"run {self.name!r}")

    def weights(self, predictor: str, fold: int = 0) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Config and arrays of a fitted predictor.

        Raises
        ------
        RunError
            The run has no such model, or its files are not those that were stored.
        """
        stored = {
            (c.data.tags.get("predictor", ""), int(c.data.tags.get("fold", -1))): c.data.tags["workbench.model"]
            for c in self.children
            if "workbench.model" in c.data.tags
        }
        if (predictor, fold) not in stored:
            names = sorted({p for p, _ in stored})
            folds = sorted(f for p, f in stored if p == predictor)
            there = f"It has folds {folds} of {predictor!r}." if folds else f"It has models of {names or 'nothing'}."
            hint = "" if folds else nearest(predictor, names)
            raise RunError(f"run {self.name!r} has no model of {predictor!r}, fold {fold}.{hint} {there}")
        _, config, arrays = models.load(stored[predictor, fold])
        return config, arrays

    def model(
        self, predictor: str, fold: int, restore: Callable[[str, dict[str, Any], dict[str, np.ndarray]], Any]
    ) -> Any:
        """The fitted predictor: ``restore(predictor, config, arrays)`` with what was stored."""
        return restore(predictor, *self.weights(predictor, fold))

    def ui_url(self, base: str = "http://127.0.0.1:5000") -> str:
        """Address of this run on MLflow's page served at ``base`` (which opens among language models unless told)."""
        page = f"#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"{base.rstrip('/')}/{page}?workflowType=machine_learning"


def _digest(entity: Any, path: str) -> str | None:
    """SHA-256 recorded for a file of a run; a file without one was never finished."""
    folder, _, file = path.rpartition("/")
    return json.loads(entity.data.tags.get(f"sha256 {folder or 'files'}", "{}")).get(file)
