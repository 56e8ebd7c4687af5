"""The one tracking store: connecting, experiments, ending what died, and MLflow's own page."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import home
from workbench.runs import process

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # one bar for every small file otherwise
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def client() -> MlflowClient:
    """A client of the workbench's store, which is made when it is not there (about two seconds, once)."""
    return _connect(home.tracking_uri())


@lru_cache(maxsize=8)
def _connect(uri: str) -> MlflowClient:
    os.environ.update(QUIET)  # read when mlflow is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # mlflow's own, about the database layer under it
        from mlflow import MlflowClient

        for noisy in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if not uri.startswith("sqlite:///"):
            return MlflowClient(uri)
        database = Path(uri.removeprefix("sqlite:///"))
        database.parent.mkdir(parents=True, exist_ok=True)
        with _alone(database.with_name(database.name + ".lock")):
            if not database.exists():
                _make(database)
            return MlflowClient(uri)


def _make(database: Path) -> None:
    """Make an empty store beside its place and move it there: half a store, of a killed start, is never opened."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    new = database.with_name(database.name + ".new")
    for rest in database.parent.glob(new.name + "*"):
        rest.unlink()
    engine = create_sqlalchemy_engine(f"sqlite:///{new}")
    # some fifty steps that each wait for the disk; nothing is lost if they do not, so wait once at the end
    sqlalchemy.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF").close())
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
    with open(new, "rb") as made:
        os.fsync(made.fileno())
    new.replace(database)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    import fcntl

    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def experiment_id(name: str) -> str:
    """Id of the MLflow experiment of that name, made or undeleted when needed."""
    from mlflow.exceptions import MlflowException

    store = client()
    found = store.get_experiment_by_name(name)
    if found is None:
        served = home.tracking_uri().startswith(("http:", "https:"))  # then the server says where artifacts go
        place = None if served else home.artifacts().as_uri()
        kind = {"mlflow.experimentKind": "custom_model_development"}  # else its page opens among language models
        try:
            return store.create_experiment(name, artifact_location=place, tags=kind)
        except MlflowException:
            found = store.get_experiment_by_name(name)  # another process was first
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        store.restore_experiment(found.experiment_id)
    return found.experiment_id


def pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    """Everything a paged search finds."""
    token = None
    while True:
        page = search(**arguments, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def search_runs(where: str) -> Iterator[Any]:
    """Runs of all experiments that match an MLflow filter, newest first."""
    ids = [e.experiment_id for e in pages(client().search_experiments)]
    return pages(client().search_runs, experiment_ids=ids, filter_string=where, order_by=["attributes.start_time DESC"])


def sweep() -> int:
    """Mark as KILLED the runs, nested ones too, whose process on this host is gone; returns how many.

    Runs of other hosts, and runs that this package did not open, are left alone.
    """
    me = process.identity()["process.host"]
    dead = []
    for run in search_runs("attributes.status = 'RUNNING'"):
        told = run.data.tags
        if told.get("process.host") != me or "process.pid" not in told:
            continue
        if not process.alive(int(told["process.pid"]), float(told["process.started"])):
            dead.append(run.info.run_id)
    for run_id in dead:
        client().set_tag(run_id, "workbench.ended by", "its process is gone (found at a later start)")
        client().set_terminated(run_id, "KILLED")
    return len(dead)


def server_command(port: int, host: str = "127.0.0.1", prefix: str = "") -> tuple[list[str], dict[str, str]]:
    """Command and environment that serve MLflow's own page over the store.

    Parameters
    ----------
    port, host
        Where to listen.
    prefix
        Path under which a proxy shows it, such as ``/user/mlflow`` (default: none).

    Notes
    -----
    Start it in its own process group and end the group. One worker and no job runner: a third of the
    memory and of the start-up time of MLflow's defaults.
    """
    argv = [
        sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1",
        "--backend-store-uri", home.tracking_uri(), "--default-artifact-root", home.artifacts().as_uri(),
        "--no-serve-artifacts",
    ]  # fmt: skip
    if prefix.strip("/"):
        argv += ["--static-prefix", "/" + prefix.strip("/")]
    return argv, {**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
