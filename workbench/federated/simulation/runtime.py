"""The parts of Flower's simulation engine put together: link state, grid, runtime thread and a backend of ours.

Flower's own entry (``run_simulation``) always starts Ray and runs the server in a thread of its own, where no signal
arrives. Here the runtime (``vce_api.run_api``) gets the thread, and the server stays where it is called.
Source: flwr 1.41, ``simulation/run_simulation.py`` and ``server/superlink/fleet/vce``, for the order of the parts.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import ClientAppException
from flwr.common.constant import RUN_ID_NUM_BYTES, SUPERLINK_NODE_ID, TASK_ID_NUM_BYTES
from flwr.compat.client.run_info_store import DeprecatedRunInfoStore, RunInfo
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.backend import Backend
from flwr.server.superlink.fleet.vce.metrics import VceMetrics
from flwr.server.superlink.linkstate import InMemoryLinkState
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.server.superlink.linkstate.utils import generate_rand_int_from_bytes
from flwr.supercore.constant import NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

from workbench.federated.server_app import LATE

END_S = 30.0  # longest wait for the runtime to end; its workers look once a second


class Told(threading.Event):
    """The runtime's stop event, whose timed wait also ends when ``tell`` is called: no polling."""

    def __init__(self) -> None:
        super().__init__()
        self._news = threading.Event()

    def tell(self) -> None:
        self._news.set()

    def set(self) -> None:
        super().set()
        self._news.set()

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._news.wait(timeout)
            self._news.clear()
        return self.is_set()


class State(InMemoryLinkState):
    """Flower's link state in memory, which says when a message or an answer has come.

    ``together``: answers are told of when none is missing: where sites answer one after the other in this process, the
    server would only take turns with them. A look in between finds what is there all the same.
    """

    together = False
    asked: Callable[[], None]
    answered: Callable[[], None]

    def store_message_ins(self, message: Message) -> str | None:
        stored = super().store_message_ins(message)
        self.asked()
        return stored

    def store_message_res(self, message: Message) -> str | None:
        stored = super().store_message_res(message)
        if not self.together or len(self.message_ins_id_to_message_res_id) >= len(self.message_ins_store):
            self.answered()
        return stored


class Here(Backend):
    """Runs the ClientApp in this process, one message after the other; ``threads``: torch's, 0 leaves them.

    ``limit_s``: an answer that took longer is none. Sites that wait for their turn are not late.
    """

    def __init__(self, threads: int = 0, limit_s: float = math.inf) -> None:
        super().__init__({})
        self.threads, self.limit_s = threads, limit_s

    def build(self, app_fn: Callable[[], ClientApp]) -> None:
        self.app = app_fn()

    @property
    def num_workers(self) -> int:
        return 1

    def is_worker_idle(self) -> bool:
        return True

    def terminate(self) -> None:
        pass

    def process_message(self, message: Message, context: Context) -> tuple[Message, Context]:
        torch = sys.modules.get("torch")
        if (
            self.threads and torch and torch.get_num_threads() != self.threads
        ):  # a thread's own: it began with all cores
            torch.set_num_threads(self.threads)
        began = time.monotonic()
        try:
            made = self.app(message=message, context=context)
            if time.monotonic() - began > self.limit_s:
                made = Message(Error(LATE, ""), reply_to=message)
            return made, context
        except Exception as error:
            raise ClientAppException(type(error).__name__) from error  # the same code as from a worker


class Actors(Backend):
    """Runs the ClientApp in Ray's actors; a site always in the same one, a dead one is replaced."""

    def __init__(self, workers: int, nodes: int) -> None:
        super().__init__({})
        self.workers, self.nodes, self.lock = workers, nodes, threading.Lock()

    def build(self, app_fn: Callable[[], ClientApp]) -> None:
        self.app_fn = app_fn
        self.actors = [self._new() for _ in range(self.workers)]

    def _new(self) -> Any:
        from flwr.simulation.ray_transport.ray_actor import ClientAppActor

        return ClientAppActor.options(num_cpus=1).remote()  # type: ignore[attr-defined]

    @property
    def num_workers(self) -> int:
        return self.nodes  # threads that wait for an actor; each actor takes its messages one by one

    def is_worker_idle(self) -> bool:
        return True

    def terminate(self) -> None:
        import ray

        for actor in getattr(self, "actors", []):
            ray.kill(actor)

    def process_message(self, message: Message, context: Context) -> tuple[Message, Context]:
        import ray

        number = int(context.node_config["partition-id"])
        actor = self.actors[number % self.workers]
        try:
            _, answer, after = ray.get(actor.run.remote(self.app_fn, message, str(number), context))
        except ray.exceptions.RayActorError:
            with self.lock:
                if self.actors[number % self.workers] is actor:
                    self.actors[number % self.workers] = self._new()
            raise
        return answer, after


class _Factory:
    """What the runtime asks for its link state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def state(self) -> State:
        return self._state


class Runtime:
    """A running simulation: ``grid`` to send by, ``wait`` for an answer, ``end`` when done.

    Parameters
    ----------
    app : the ClientApp of every site
    config : what each site is told of the run
    nodes : number of sites; a site's number is its "partition-id"
    workers : Ray's actors; 0: this process
    limit_s : of one site's answer, without workers [s]
    """

    def __init__(
        self,
        app: ClientApp,
        config: Mapping[str, str | int],
        nodes: int,
        workers: int = 0,
        limit_s: float = math.inf,
    ) -> None:
        self.stop, self.answered = Told(), threading.Event()
        self.error: BaseException | None = None
        run = Run.create_empty(run_id=generate_rand_int_from_bytes(RUN_ID_NUM_BYTES))
        run.primary_task_id = generate_rand_int_from_bytes(TASK_ID_NUM_BYTES)
        run.federation_id = NOOP_FEDERATION_ID
        self._before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run.run_id, SUPERLINK_NODE_ID
        state = State(NoOpFederationManager(), ObjectStoreFactory().store())
        state.asked, state.answered, state.together = self.stop.tell, self.answered.set, not workers
        state.run_ids[run.run_id] = RunRecord(run=run)
        state.task_store[run.primary_task_id] = Task(task_id=run.primary_task_id, run_id=run.run_id)
        factory: Any = _Factory(state)
        self.run_id, self.grid = run.run_id, InMemoryGrid(state_factory=factory)
        self.grid.set_run(run)
        mapping = vce_api._register_nodes(nodes, factory)
        stores = {node: _store(node, number, nodes, run.run_id, dict(config)) for node, number in mapping.items()}
        torch = sys.modules.get("torch")
        threads = torch.get_num_threads() if torch else 0
        backend = (lambda: Actors(workers, nodes)) if workers else (lambda: Here(threads, limit_s))

        def runtime() -> None:
            try:
                vce_api.run_api(lambda: app, backend, mapping, factory, stores, self.stop, VceMetrics())
            except BaseException as error:
                self.error = error
                self.answered.set()

        self.thread = threading.Thread(target=runtime, name="flower", daemon=True)
        self.thread.start()

    def wait(self, seconds: float) -> None:
        """Until an answer has come, or ``seconds`` are over; raises RuntimeError where the runtime has died."""
        self.answered.wait(seconds)
        self.answered.clear()
        if self.error is not None:
            raise RuntimeError(
                f"Flower's simulation engine ended: {self.error.__cause__ or self.error}"
            ) from self.error

    def end(self) -> None:
        """End threads and actors; what is being answered is answered first."""
        self.stop.set()
        self.thread.join(END_S)
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = self._before


def _store(node: int, number: int, nodes: int, run_id: int, config: dict[str, Any]) -> DeprecatedRunInfoStore:
    place: Any = {"partition-id": number, "num-partitions": nodes}
    store = DeprecatedRunInfoStore(node_id=node, node_config=place)
    context = Context(run_id=run_id, node_id=node, node_config=place, state=RecordDict(), run_config=config)
    store.run_infos[run_id] = RunInfo(context=context, initial_run_config=dict(config))
    return store
