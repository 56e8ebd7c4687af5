"""Flower's simulation engine, started and ended around a block: its link state, its grid, its runtime; our sites in it.

    with running(federation, fold) as sites: ...

``workers = 0`` runs the sites' ClientApps in this process, one after the other: for models that train in less time
than a message takes. Else as many of Ray's actors, each with the sites it was given at the start, so that what a site
remembers stays at the site. Flower looks for messages every tenth of a second; here it is told of them instead.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.federated import task
from workbench.federated.needed import need

if TYPE_CHECKING:
    from workbench.federated.server_app import FlowerSites
    from workbench.federated.spec import Federation

OBJECTS = 256 * 2**20  # bytes of Ray's object store: messages pass through it, data do not
LOOK_S = 0.05  # between two looks for answers where nobody says that there is one


@contextlib.contextmanager
def running(federation: Federation, number: int, workers: int = 0, folder: Path | None = None) -> Iterator[FlowerSites]:
    """The federation's sites behind Flower's grid, for fold ``number``; ended, and all it started, on the way out.

    Parameters
    ----------
    workers : processes of Ray; 0: none, in this process
    folder : for what Flower writes (default: a temporary one)

    Raises
    ------
    workbench.federated.needed.MissingError
        flwr, or ray where there are workers, is not installed.
    """
    task.flower()
    from workbench.federated.client_app import app
    from workbench.federated.server_app import FlowerSites
    from workbench.federated.simulation import runtime as _runtime

    _, dealt = task.opened(federation, number)  # before any worker starts: a mistake is told at once
    with contextlib.ExitStack() as ends:
        place = folder or Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="workbench-flower-")))
        ends.enter_context(_environment(FLWR_HOME=str(place), FLWR_TELEMETRY_ENABLED="0"))
        ends.enter_context(_quiet("flwr"))
        if workers:
            ends.enter_context(ray_running(workers))
        limit = federation.timeout_s
        runtime = _runtime.Runtime(app, task.run_config(federation, number), len(dealt), workers, limit)
        ends.callback(task.forget, runtime.run_id)  # once nobody answers any more
        ends.callback(runtime.end)
        # in this process sites answer one after the other, each within the limit
        whole = limit if workers else limit * len(dealt)
        yield FlowerSites(runtime.grid, len(dealt), whole, least=federation.least, pause_s=LOOK_S, wait=runtime.wait)


@contextlib.contextmanager
def ray_running(workers: int) -> Iterator[None]:
    """Ray on this machine with as many CPUs as workers, without its dashboard; ended on the way out.

    It is started from the calling thread and dies with it: its processes share the fate of that thread.
    """
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # how it will be; else it warns
    ray = need("a simulation with workers", "ray")
    if ray.is_initialized():  # the caller's, who also ends it
        yield
        return
    import psutil

    before = set(psutil.Process().children(recursive=True))
    place = tempfile.mkdtemp(prefix="wb-ray-")  # short: sockets lie in it, and their paths may not exceed 107 letters
    try:
        with _quiet("ray"):
            ray.init(
                num_cpus=workers, num_gpus=0, include_dashboard=False, log_to_driver=False, configure_logging=False,
                object_store_memory=OBJECTS, _temp_dir=place,
            )  # fmt: skip
            yield
    finally:
        ray.shutdown()
        # Ray does not wait for what it ends: a child nobody waits for stays as a zombie
        _, left = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=10)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=5)
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
