"""Very many runs, read fast: plain SQL where the tracking store is a sqlite file, MLflow's client where it is not.

``MlflowClient.search_runs`` builds an object for every metric, parameter and tag of every run. A comparison wants
columns, and only some of them. Values are those of the client: the latest step of each metric, NaN as NaN, infinity as
the largest double (so MLflow keeps it), deleted runs and runs of deleted experiments left out, newest first.

>>> top = best("normalised Pearson", 100)                        # doctest: +SKIP
>>> history_params(top["run_id"])                                # doctest: +SKIP
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from workbench import home
from workbench.runs import store
from workbench.runs.keys import KIND, RunError, key, name_of

HISTORY = {
    "run_id": pl.String(),
    "parent": pl.String(),  # of a nested run
    "name": pl.String(),
    "experiment": pl.String(),
    "study": pl.String(),  # study, split and seed of a nested run are those of its parent
    "split": pl.String(),
    "predictor": pl.String(),
    "fold": pl.Int64(),
    "seed": pl.Int64(),
    "status": pl.String(),
    "started": pl.Datetime("ms", "UTC"),
    "duration_s": pl.Float64(),  # null while it runs
    "kind": pl.String(),  # "experiment", "predictor and fold"; null where the workbench did not record it
    "study_digest": pl.String(),
    "experiment_id": pl.String(),
}
METRICS = {"run_id": pl.String(), "metric": pl.String(), "value": pl.Float64()}
PARAMS = {"run_id": pl.String(), "param": pl.String(), "value": pl.String()}
TAGS = {
    "mlflow.parentRunId": "parent", "study": "study", "split": "split", "predictor": "predictor", "fold": "fold",
    "seed": "seed", KIND: "kind", "study.digest": "study_digest",
}  # fmt: skip
INHERITED = ("study", "split", "seed", "study_digest")
RAW = ["run_id", "name", "experiment", "experiment_id", "status", "start_ms", "end_ms"]
FEW = 2000  # up to so many runs each is looked up; beyond, reading the whole table is faster
ACTIVE = "r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"


def history(
    experiments: Sequence[str] | None = None, limit: int | None = None, run_ids: Iterable[str] | None = None
) -> pl.DataFrame:
    """One row a run, nested runs too, newest first; columns are ``HISTORY``.

    Parameters
    ----------
    experiments
        Names of MLflow experiments (default: all).
    limit
        Only the newest so many.
    run_ids
        Only these; those that are deleted or unknown are left out.
    """
    ids = None if run_ids is None else list(dict.fromkeys(run_ids))
    with _database() as database:
        if database is None:
            rows, tags = _served_history(experiments, limit, ids)
        else:
            rows = _runs(database, experiments, limit, ids)
            known = rows["run_id"] if ids is not None or limit is not None else None
            tags = _tags(database, known)
            if known is not None:
                parents = tags.filter(pl.col("key") == "mlflow.parentRunId")["value"]
                tags = pl.concat([tags, _tags(database, parents.filter(~parents.is_in(known.implode())))])
    return _shaped(rows, tags)


def history_metrics(
    run_ids: Iterable[str] | None = None, metrics: Sequence[str] | None = None, named: bool = False
) -> pl.DataFrame:
    """Latest value of each metric: columns run_id, metric, value; sorted by neither.

    Parameters
    ----------
    run_ids
        Default: all runs that are not deleted.
    metrics
        Only these, by their own names or as MLflow keys (default: all).
    named
        Give metrics their own names back (``R² (a/b)`` rather than MLflow's ``R:b2: :28:a:2f:b:29:``).
    """
    keys = None if metrics is None else list({k for m in metrics for k in (m, key(m))})
    found = _long("latest_metrics", "CASE WHEN t.is_nan THEN NULL ELSE t.value END", METRICS, run_ids, keys)
    return _named(found, "metric", named).with_columns(pl.col("value").fill_null(float("nan")))


def history_params(
    run_ids: Iterable[str] | None = None, params: Sequence[str] | None = None, named: bool = False
) -> pl.DataFrame:
    """Parameters as text: columns run_id, param, value; arguments as in ``history_metrics``."""
    keys = None if params is None else list({k for p in params for k in (p, key(p))})
    return _named(_long("params", "t.value", PARAMS, run_ids, keys), "param", named)


def best(metric: str, n: int, *, ascending: bool = False, experiments: Sequence[str] | None = None) -> pl.DataFrame:
    """The ``n`` runs with the largest (or smallest) value of a metric, best first: columns run_id, value.

    Runs without the metric, or where it is NaN, are left out. Ties: the newest run, then the smallest id, as MLflow's
    own ordering has it.

    Raises
    ------
    RunError
        ``n`` is not positive.
    """
    if n < 1:
        raise RunError(f"n should be at least 1, found {n}.")
    keys = list(dict.fromkeys((key(metric), metric)))
    with _database() as database:
        if database is None:
            values = history_metrics(metrics=[metric]).filter(pl.col("value").is_not_nan())
            when = history(experiments).select("run_id", "started")
            joined = values.join(when, on="run_id").sort(
                "value", "started", "run_id", descending=[not ascending, True, False]
            )
            return joined.select("run_id", "value").head(n)
        named, given = _among("e.name", experiments)
        sql = (
            "SELECT t.run_uuid, t.value FROM latest_metrics t JOIN runs r ON r.run_uuid = t.run_uuid "
            f"JOIN experiments e ON e.experiment_id = r.experiment_id WHERE t.key IN ({', '.join('?' * len(keys))}) "
            f"AND t.is_nan = 0 AND {ACTIVE}{named} "
            f"ORDER BY t.value {'ASC' if ascending else 'DESC'}, r.start_time DESC, r.run_uuid LIMIT ?"
        )
        return _columns(database.execute(sql, [*keys, *given, n]), {"run_id": pl.String(), "value": pl.Float64()})


def places(run_ids: Iterable[str], tag: str) -> pl.DataFrame:
    """Where runs keep their files, and one of their tags (else null): columns run_id, artifact_uri, value."""
    ids = list(dict.fromkeys(run_ids))
    schema = {"run_id": pl.String(), "artifact_uri": pl.String(), "value": pl.String()}
    with _database() as database:
        if database is None:
            experiments = [e.experiment_id for e in store.pages(store.client().search_experiments)]
            rows = [(r.info.run_id, r.info.artifact_uri, r.data.tags.get(key(tag))) for r in _served(experiments, ids)]
            return pl.DataFrame(rows, schema=schema, orient="row")
        chosen, wanted = _among("r.run_uuid", ids)
        sql = (
            "SELECT r.run_uuid, r.artifact_uri, t.value FROM runs r LEFT JOIN tags t ON t.run_uuid = r.run_uuid "
            f"AND t.key = ? WHERE r.lifecycle_stage = 'active'{chosen}"
        )
        return _columns(database.execute(sql, [key(tag), *wanted]), schema)


# ---- sqlite


@contextmanager
def _database() -> Iterator[sqlite3.Connection | None]:
    """The store opened for reading, or None where it is no sqlite file of a schema known here."""
    uri = home.tracking_uri()
    if not uri.startswith("sqlite:///"):
        yield None
        return
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if not path.is_file():
        store.client()  # makes an empty one
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30)) as database:
        database.execute(f"PRAGMA mmap_size = {1 << 30}")  # a new connection has no pages: spares a call for each
        yield database if _known(database) else None


def _known(database: sqlite3.Connection) -> bool:
    """Are the tables and columns there that this file asks for? A later MLflow may have moved them."""
    wanted = {
        "runs": {
            "run_uuid", "name", "status", "start_time", "end_time", "lifecycle_stage", "experiment_id", "artifact_uri",
        },
        "experiments": {"experiment_id", "name", "lifecycle_stage"},
        "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
        "params": {"run_uuid", "key", "value"},
        "tags": {"run_uuid", "key", "value"},
    }  # fmt: skip
    there = {t: {c[1] for c in database.execute(f"PRAGMA table_info({t})")} for t in wanted}
    return all(columns <= there[table] for table, columns in wanted.items())


def _columns(cursor: sqlite3.Cursor, schema: dict[str, Any]) -> pl.DataFrame:
    """A query's answer as a frame: flattened at once, which is four times the pace of a list of tuples."""
    flat = list(chain.from_iterable(cursor))
    width = len(schema)
    return pl.DataFrame({name: flat[i::width] for i, name in enumerate(schema)}, schema=schema)


def _among(column: str, values: Sequence[str] | pl.Series | None) -> tuple[str, list[str]]:
    """SQL and its argument: the column is one of the values, any number of them."""
    if values is None:
        return "", []
    return f" AND {column} IN (SELECT value FROM json_each(?))", [json.dumps(list(values))]


def _runs(
    database: sqlite3.Connection, experiments: Sequence[str] | None, limit: int | None, ids: list[str] | None
) -> pl.DataFrame:
    named, given = _among("e.name", experiments)
    chosen, wanted = _among("r.run_uuid", ids)
    sql = (
        "SELECT r.run_uuid, r.name, e.name, CAST(r.experiment_id AS TEXT), r.status, r.start_time, r.end_time "
        "FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
        f"WHERE {ACTIVE}{named}{chosen} ORDER BY r.start_time DESC, r.run_uuid"
    )
    if limit is not None:
        sql += f" LIMIT {int(limit)}"
    schema = {c: pl.Int64() if c.endswith("_ms") else pl.String() for c in RAW}
    return _columns(database.execute(sql, [*given, *wanted]), schema)


def _tags(database: sqlite3.Connection, ids: pl.Series | None) -> pl.DataFrame:
    """The tags that ``history`` shows: run_id, key, value."""
    few = ids is not None and len(ids) <= FEW
    chosen, wanted = _among("run_uuid", ids if few else None)
    sql = f"SELECT run_uuid, key, value FROM tags WHERE key IN ({', '.join('?' * len(TAGS))}){chosen}"
    schema = {"run_id": pl.String(), "key": pl.String(), "value": pl.String()}
    return _columns(database.execute(sql, [*TAGS, *wanted]), schema)


def _long(
    table: str, value: str, schema: dict[str, Any], run_ids: Iterable[str] | None, keys: list[str] | None
) -> pl.DataFrame:
    ids = None if run_ids is None else list(dict.fromkeys(run_ids))
    with _database() as database:
        if database is None:
            return _served_long(table, schema, ids, keys)
        few = ids is not None and len(ids) <= FEW
        chosen, wanted = _among("t.run_uuid", ids if few else None)
        named, given = _among("t.key", keys)
        sql = f"SELECT t.run_uuid, t.key, {value} FROM {table} t WHERE 1{chosen}{named}"
        found = _columns(database.execute(sql, [*wanted, *given]), schema)
        there = _columns(database.execute(*_active(ids if few else None)), {"run_id": pl.String()})
    if ids is not None and not few:
        there = there.join(pl.DataFrame({"run_id": ids}), on="run_id", how="semi")
    return found.join(there, on="run_id", how="semi", maintain_order="left")


def _active(ids: list[str] | None) -> tuple[str, list[str]]:
    chosen, wanted = _among("r.run_uuid", ids)
    joined = "runs r JOIN experiments e ON e.experiment_id = r.experiment_id"
    return f"SELECT r.run_uuid FROM {joined} WHERE {ACTIVE}{chosen}", wanted


# ---- any other store, through MLflow's client


def _served_history(
    experiments: Sequence[str] | None, limit: int | None, ids: list[str] | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    names = {e.experiment_id: e.name for e in store.pages(store.client().search_experiments)}
    chosen = [i for i, name in names.items() if experiments is None or name in experiments]
    rows, tags, parents = [], [], {}
    for run in _served(chosen, ids):
        info = run.info
        rows.append((info.run_id, info.run_name, names[info.experiment_id], str(info.experiment_id), info.status,
                     info.start_time, info.end_time))  # fmt: skip
        tags += [(info.run_id, k, v) for k, v in run.data.tags.items() if k in TAGS]
        parents[info.run_id] = run.data.tags.get("mlflow.parentRunId")
        if limit is not None and len(rows) >= limit:
            break
    if missing := sorted({p for p in parents.values() if p} - {*parents}):
        tags += [(r.info.run_id, k, v) for r in _served([*names], missing) for k, v in r.data.tags.items() if k in TAGS]
    schema = {c: pl.Int64() if c.endswith("_ms") else pl.String() for c in RAW}
    told = pl.DataFrame(tags, schema={"run_id": pl.String(), "key": pl.String(), "value": pl.String()}, orient="row")
    return pl.DataFrame(rows, schema=schema, orient="row"), told


def _served(experiment_ids: list[str], ids: list[str] | None) -> Iterator[Any]:
    """MLflow's runs, newest first; a few by their ids, more by reading all and leaving out the others."""
    if not experiment_ids or ids == []:
        return
    asked: dict[str, Any] = {"experiment_ids": experiment_ids, "order_by": ["attributes.start_time DESC"]}
    if ids is not None and len(ids) <= 100:
        asked["filter_string"] = "attributes.run_id IN (" + ", ".join(f"'{i}'" for i in ids) + ")"
    wanted = None if ids is None else {*ids}
    for run in store.pages(store.client().search_runs, **asked):
        if wanted is None or run.info.run_id in wanted:
            yield run


def _served_long(table: str, schema: dict[str, Any], ids: list[str] | None, keys: list[str] | None) -> pl.DataFrame:
    experiments = [e.experiment_id for e in store.pages(store.client().search_experiments)]
    rows = []
    for run in _served(experiments, ids):
        told = run.data.params if table == "params" else run.data.metrics
        rows += [(run.info.run_id, k, v) for k, v in told.items() if keys is None or k in keys]
    return pl.DataFrame(rows, schema=schema, orient="row")


# ---- both


def _named(frame: pl.DataFrame, column: str, named: bool) -> pl.DataFrame:
    if not named or frame.is_empty():
        return frame
    keys = frame[column].unique().to_list()
    return frame.with_columns(pl.col(column).replace_strict(keys, [name_of(k) for k in keys]))


def _shaped(rows: pl.DataFrame, tags: pl.DataFrame) -> pl.DataFrame:
    """Runs and their tags as ``HISTORY``; what a nested run does not say, its parent says."""
    told = tags.select("run_id", pl.col("key").replace_strict(TAGS), "value").pivot("key", index="run_id")
    told = told.with_columns(pl.lit(None, pl.String).alias(c) for c in TAGS.values() if c not in told.columns)
    above = told.select(pl.col("run_id").alias("parent"), *(pl.col(c).alias(f"{c} above") for c in INHERITED))
    frame = rows.join(told, on="run_id", how="left", maintain_order="left")
    frame = frame.join(above, on="parent", how="left", maintain_order="left")
    frame = frame.with_columns(pl.coalesce(c, f"{c} above").alias(c) for c in INHERITED)
    return frame.with_columns(
        pl.col("fold", "seed").cast(pl.Int64, strict=False),
        pl.col("start_ms").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC").alias("started"),
        ((pl.col("end_ms") - pl.col("start_ms")) / 1000).alias("duration_s"),
    ).select(*HISTORY)
