"""Writing a run: the experiment's own, and one nested run per predictor and fold."""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import tables
from workbench.runs import models, process, store
from workbench.runs.keys import CHILD, EXPERIMENT, KIND, RunError, flat, key, sha256, slug, table

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from mlflow.entities import Metric

NOTE = (
    "Figures and tables of the whole experiment are under Artifacts. Each nested run is one predictor on one fold, "
    "with its learning curve under Model metrics and the fitted predictor under Models."
)
SHOWN = ("METRICS", "COMPARISONS")  # small tables that are also stored as csv, which MLflow's page shows


class _Open:
    """An open run. It ends FINISHED, FAILED (an error) or KILLED (Ctrl-C, SIGTERM)."""

    run_id: str
    experiment_id: str
    name: str

    def _open(self, experiment_id: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client, self._pid = store.client(), os.getpid()
        self._dataset: tuple[str, str] | None = None
        self._model_id: str | None = None
        self._logged: list[Metric] = []
        self._digests: dict[str, dict[str, str]] = {}
        self.experiment_id, self.name = experiment_id, name
        told = {key(k): str(v)[:8000] for k, v in {**tags, **process.identity()}.items()}
        self.run_id = self._client.create_run(experiment_id, tags=told, run_name=name).info.run_id
        for part in _parts([Param(key(k), v[:6000]) for k, v in flat(params)], 100):
            self._client.log_batch(self.run_id, params=part)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(key(k), str(v)[:8000]) for k, v in tags.items()])

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics under their own names; values that are not finite are left out (the tables keep them)."""
        from mlflow.entities import Metric

        data, digest = self._dataset or (None, None)  # what it was measured on: models rank within a test set
        metrics = [
            Metric(name, value, now, step, self._model_id, data, digest, self.run_id)
            for name, value, step, now in _points((name, value, step) for name, value in values.items())
        ]
        self._logged += metrics
        self._log(metrics)

    def _log(self, metrics: list[Metric]) -> None:
        for part in _parts(metrics, 1000):  # one call per thousand: 28 times the pace of one call each
            self._client.log_batch(self.run_id, metrics=part)

    def tables(self, frames: Mapping[str, pl.DataFrame]) -> None:
        """Store tables by their name in ``tables.TABLES`` (any case) as parquet, checked first.

        Raises
        ------
        RunError
            No table has that name.
        TableError
            The frame is not what its name says.
        """
        for name, frame in frames.items():
            schema, buffer = table(name), io.BytesIO()
            frame = tables.check(frame, schema)
            frame.write_parquet(buffer)
            self._put(f"tables/{schema.name.lower()}.parquet", buffer.getvalue())
            if schema.name in SHOWN:
                self._put(f"tables/{schema.name.lower()}.csv", frame.write_csv().encode())

    def figure(self, name: str, figure: Figure) -> None:
        """Store a matplotlib Figure as ``figures/<name>.png``, which MLflow's page shows."""
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box is drawn for it
            figure.savefig(buffer, format="png", dpi=110)
        self._put(f"figures/{slug(name)}.png", buffer.getvalue())

    def _put(self, path: str, data: bytes) -> None:
        folder, _, file = path.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="workbench-") as temporary:
            local = Path(temporary, file)
            local.write_bytes(data)
            self._client.log_artifact(self.run_id, str(local), folder or None)
        digests = self._digests.setdefault(f"sha256 {folder or 'files'}", {})
        digests[file] = sha256(data)
        self.tag({f"sha256 {folder or 'files'}": json.dumps(digests)})  # last: what has a digest is whole

    def _inputs(self, study: str, data: Sequence[tuple[str, str, str, int | None]]) -> None:
        """Log dataset inputs: (name, digest, context, number of rows)."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        columns = {"subject": "string", "treatment": "string", "endpoint": "string", "value": "double"}
        schema = json.dumps({"mlflow_colspec": [{"name": n, "type": t} for n, t in columns.items()]})
        source = json.dumps({"uri": study})
        inputs = []
        for name, digest, context, rows in data:
            profile = None if rows is None else json.dumps({"num_rows": rows})
            described = Dataset(name[:500], digest[:36], "workbench study", source, schema, profile)
            inputs.append(DatasetInput(described, [InputTag("mlflow.data.context", context)]))
        self._client.log_inputs(self.run_id, inputs)

    def _end(self, error: BaseException | None) -> None:
        if os.getpid() != self._pid:
            return  # a forked worker unwinds its copy: the run belongs to the process that opened it
        status = "FINISHED" if error is None else "KILLED" if process.was_killed(error) else "FAILED"
        if error is not None:
            self.tag({"workbench.ended by": f"{type(error).__name__}: {error}"[:2000]})
        self._client.set_terminated(self.run_id, status)


class Child(_Open):
    """One predictor on one fold. Made by ``Recording.child``; use it in a ``with``."""

    def __init__(self, parent: Recording, predictor: str, fold: int, params: Mapping[str, Any]) -> None:
        self._parent, self.predictor, self.fold = parent, predictor, fold
        self._curves: list[pl.DataFrame] = []
        tags = {KIND: CHILD, "mlflow.parentRunId": parent.run_id, "predictor": predictor, "fold": str(fold)}
        tags["mlflow.source.name"] = "workbench"
        self._open(parent.experiment_id, f"{predictor}, fold {fold}", tags, {**params, "predictor": predictor})

    def curve(self, frame: pl.DataFrame) -> None:
        """Log (more of) a learning curve: CURVES rows of this predictor and fold. May be called as it grows."""
        from mlflow.entities import Metric

        frame = tables.check(frame, tables.CURVES)
        other = frame.filter((pl.col("predictor") != self.predictor) | (pl.col("fold") != self.fold))
        if len(other):
            raise RunError(
                f"this run is {self.predictor!r}, fold {self.fold}; the curve holds rows of "
                f"{other['predictor'][0]!r}, fold {other['fold'][0]}. Filter it first."
            )
        points = _points(frame.select("name", "value", "step").iter_rows())
        self._log([Metric(name, value, now, step) for name, value, step, now in points])
        self._curves.append(frame)
        self.tables({"CURVES": pl.concat(self._curves)})

    def model(
        self, name: str, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], pairs_example: pl.DataFrame
    ) -> str:
        """Store the fitted predictor as an MLflow LoggedModel of two inert files; returns the model's id.

        Parameters
        ----------
        name
            Predictor name, given to ``restore`` when it is read back.
        config
            Whatever JSON can hold.
        arrays
            Arrays of any shape, kept to the bit.
        pairs_example
            Columns subject and treatment, a few rows: the input example.
        """
        label, params = f"{name} fold {self.fold}", self._parent.experiment
        self._model_id = models.save(
            self.experiment_id, self.run_id, label, name, config, arrays, pairs_example, params
        )
        # what was logged before the model existed is told again with its id, so that models rank by it
        for metric in self._logged:
            metric._model_id = self._model_id
        self._log(self._logged)
        self.tag({"workbench.model": self._model_id})
        return self._model_id

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._end(error)
        self._parent._children.remove(self)


class Recording(_Open):
    """The run of one experiment, open for writing inside ``with record(...)``."""

    def __init__(
        self, experiment: Mapping[str, Any], study_digest: str, study_name: str, outcomes: pl.DataFrame | None
    ) -> None:
        self.experiment = dict(experiment)
        self.study, self.study_digest = study_name, study_digest
        self._outcomes = outcomes
        self._children: list[Child] = []
        self._predictors: list[str] = []
        self._signals = process.sigterm_raises()

    def __enter__(self) -> Recording:
        self._signals.__enter__()
        try:
            name, now = str(self.experiment["name"]), datetime.now(UTC)
            told = {
                KIND: EXPERIMENT, "study": self.study, "study.digest": self.study_digest, "experiment": name,
                "split": str(self.experiment.get("split", "")), "seed": str(self.experiment.get("seed", "")),
                "mlflow.note.content": NOTE, "mlflow.source.name": "workbench", **process.provenance(),
            }  # fmt: skip
            if "git.commit" in told:
                told["mlflow.source.git.commit"] = told["git.commit"]
            self._open(store.experiment_id(name), f"{name} {now:%Y%m%d-%H%M%S}", told, self.experiment)
            rows = None if self._outcomes is None else len(self._outcomes)
            self._inputs(self.study, [(self.study, self.study_digest, "study", rows)])
            self._put("experiment.json", json.dumps(self.experiment, indent=1, default=str).encode())
            if self._outcomes is not None:
                self.tables({"OUTCOMES": self._outcomes})
        except BaseException as error:
            self._close(error)
            raise
        return self

    def child(
        self,
        predictor: str,
        fold: int,
        params: Mapping[str, Any] | None = None,
        *,
        training: np.ndarray | None = None,
        test: np.ndarray | None = None,
    ) -> Child:
        """A nested run for one predictor and fold.

        Parameters
        ----------
        predictor, fold
            What it holds.
        params
            Parameters of the predictor.
        training, test
            Row numbers into the study's outcomes; their digests become the datasets by which MLflow
            ranks models. Without them the study, split, seed and fold stand for the rows.
        """
        child = Child(self, predictor, fold, params or {})
        self._children.append(child)
        split, data = str(self.experiment.get("split", "split")), []
        for context, rows in (("training", training), ("test", test)):
            if rows is None:
                told = json.dumps([self.study_digest, split, self.experiment.get("seed"), fold, context]).encode()
            else:
                told = self.study_digest.encode() + _row_bytes(rows)
            label = f"{self.study}, {split}, fold {fold}, {context}"
            data.append((label, sha256(told), context, None if rows is None else len(rows)))
        child._inputs(self.study, data)
        child._dataset = (data[1][0][:500], data[1][1][:36])
        self.names(predictor)
        return child

    def names(self, predictor: str) -> None:
        """Name a predictor among those of the run."""
        if predictor not in self._predictors:
            self._predictors.append(predictor)
            self.tag({"predictors": json.dumps(self._predictors)})

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._close(error)

    def _close(self, error: BaseException | None) -> None:
        self._signals.hold()
        try:
            for child in self._children:
                child._end(error)
            if hasattr(self, "run_id"):
                self._end(error)
        finally:
            self._signals.release(raising=error is None)


def record(
    experiment: Mapping[str, Any],
    study_digest: str,
    study_name: str | None = None,
    outcomes: pl.DataFrame | None = None,
) -> Recording:
    """Open a run, to be used in a ``with``.

    Parameters
    ----------
    experiment
        Parameters; ``name`` is required; ``study``, ``split`` and ``seed`` are also shown as tags.
    study_digest
        SHA-256 of the study's manifest.
    study_name
        Default: the experiment's ``study``.
    outcomes
        OUTCOMES frame to keep with the run (default: none is kept).

    Raises
    ------
    RunError
        The experiment has no name.
    """
    if not experiment.get("name"):
        raise RunError(f"an experiment is recorded under its 'name', and this one has none; it has {list(experiment)}.")
    return Recording(experiment, study_digest, study_name or str(experiment.get("study", "study")), outcomes)


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _points(values: Iterable[tuple[str, float | None, int]]) -> Iterator[tuple[str, float, int, int]]:
    """Key, value, step and time [ms] of the finite values."""
    now = int(time.time() * 1000)
    for name, value, step in values:
        if value is not None and math.isfinite(value):
            yield key(name), float(value), int(step), now


def _row_bytes(rows: Any) -> bytes:
    import numpy as np

    return np.sort(np.asarray(rows, dtype=np.int64)).astype("<i8").tobytes()
