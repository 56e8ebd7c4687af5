"""The server's end of a deployment: Flower's SuperLink reduced to what sites need, in this process.

Only the part of it is served where SuperNodes fetch messages and bring answers (``_door``), and no app is shipped to
anybody: the run has no FAB, each site runs the code installed there. The server's side of the training runs in the same
process and reaches the sites through ``grid``.

Who may enter: TLS 1.3 with the server's certificate; every request is signed by a site's key (Flower's node
authentication), and a key that is not in the list is turned away before its request is read.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.federated.deployment.door import application
from workbench.federated.deployment.link_grid import grid
from workbench.federated.keys import Allowed
from workbench.federated.needed import need

END = "query.end"  # type of the message that tells a site that the federation has ended
HEARTBEAT_S = 10  # the shortest Flower allows; a site that misses two is gone

log = logging.getLogger(__name__)
Say = Callable[[str], None]


class LinkError(RuntimeError):
    """The server cannot listen; says where, why and what to do."""


class Link:
    """A SuperLink on ``host``:``port``, as a context.

    Parameters
    ----------
    allowed : sites let in
    config : what sites are told of the run (``task.run_config``)
    certificate, key : PEM files of the server; None for both means no TLS, which loopback alone may do
    say : hears of sites that come, go and are turned away
    silence_s : a site that is not heard of for as long is gone [s]; Flower's own way takes twice HEARTBEAT_S
    """

    def __init__(
        self,
        host: str,
        port: int,
        allowed: Sequence[Allowed],
        config: Mapping[str, Any],
        certificate: Path | None = None,
        key: Path | None = None,
        say: Say | None = None,
        silence_s: float = 20.0,
    ) -> None:
        if certificate is None and not is_loopback(host):
            raise LinkError(f"without TLS the server listens on loopback only; found host {host!r}.")
        self.host, self.port, self.allowed, self.config = host, port, list(allowed), dict(config)
        self.certificate, self.key, self.say, self.silence_s = certificate, key, say or log.info, silence_s
        self.heard: dict[int, float] = {}  # node: when it was last heard of
        self.news = threading.Event()

    def __enter__(self) -> Link:
        quiet_flower()
        self.socket = _listen(self.host, self.port)
        self.port = self.socket.getsockname()[1]
        try:
            self.state = _state()
            self.names = {self._register(a): a.name for a in self.allowed}
            self.run_id = self._run()
            self._before = _speak_for(self.run_id)
            self.server = self._server()
            self.grid = grid(self.state, self.run_id, self.names, self._silent)
            self.thread = threading.Thread(target=self.server.run, args=([self.socket],), name="SuperLink")
            self.thread.start()
            while not self.server.started:
                if not self.thread.is_alive():
                    raise LinkError(f"the server on {self.host}:{self.port} ended before it listened; see its log.")
                time.sleep(0.02)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()

    def wait(self, seconds: float) -> None:
        """Until a site has sent something, or ``seconds`` are over."""
        self.news.wait(seconds)
        self.news.clear()

    def end(self, why: str, model: tuple[str, Mapping[str, Any]] | None = None, wait_s: float = 300.0) -> None:
        """Tell every connected site that the federation has ended, and wait until they have gone.

        ``model``: what it ended with, for the sites to keep: configuration as JSON, and arrays.
        """
        from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

        there = list(self.grid.get_node_ids())
        about: dict[str, Any] = {"why": why}
        said = RecordDict({"about": ConfigRecord(about)})
        if model is not None:
            about["model"] = model[0]
            said["about"] = ConfigRecord(about)
            said["arrays"] = ArrayRecord({k: Array(v) for k, v in model[1].items()})
        self.grid.push_messages([Message(said, n, END, ttl=max(wait_s, 1.0)) for n in there])
        until = time.monotonic() + wait_s
        while time.monotonic() < until and list(self.grid.get_node_ids()):
            self.wait(0.05)

    def close(self) -> None:
        """Stop listening; sites notice, and come back to a server that is started again."""
        server: Any = getattr(self, "server", None)
        thread = getattr(self, "thread", None)
        if server is not None:
            server.should_exit = True
        if thread is not None and thread.is_alive():
            thread.join(5.0)
            if thread.is_alive():
                server.force_exit = True
                thread.join(5.0)
        self.socket.close()
        if hasattr(self, "_before"):
            _speak_for(*self._before)

    def _silent(self) -> None:
        """Count as gone who was not heard of for ``silence_s``; the next heartbeat counts him as there again."""
        now = time.monotonic()
        for node, heard in list(self.heard.items()):
            if now - heard > self.silence_s:
                del self.heard[node]
                if self.state.deactivate_node(node):
                    self.say(f"site {self.names[node]!r} was not heard of for {self.silence_s:.0f} s.")

    def _note(self, node: int, path: str) -> None:
        """Something came from ``node``, signed by its key."""
        self.heard[node] = time.monotonic()
        if path.endswith("/activate-node"):
            self.say(f"site {self.names[node]!r} is here.")
        elif path.endswith("/deactivate-node"):
            self.heard.pop(node)
            self.say(f"site {self.names[node]!r} has left.")
        if not path.endswith(("/pull-messages", "/send-node-heartbeat")):
            self.news.set()

    def _register(self, site: Allowed) -> int:
        from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID

        return self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, site.pem, 0, name=site.name)

    def _run(self) -> int:
        """A run without an app, already running; what sites are told of it is its configuration."""
        from flwr.common.constant import NOOP_FLWR_AID
        from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType

        run_id = self.state.create_run(
            None, None, None, self.config, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        task = self.state.get_run_info(run_ids=[run_id])[0].primary_task_id
        if not self.state.claim_task(task) or not self.state.activate_task(task):
            raise LinkError("Flower would not start the run; is flwr of the version this workbench was built for?")
        # its claim would lapse without heartbeats from a process of its own; here it lives as long as this one
        self.state.task_token_store.pop(task, None)
        return run_id

    def _server(self) -> Any:
        import uvicorn

        settings: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none",
                                    "server_header": False}  # fmt: skip
        if self.certificate is not None:
            settings |= {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        made = uvicorn.Config(application(self.state, self.allowed, self.say, self._note), **settings)
        made.load()
        if made.ssl is not None:
            import ssl

            made.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        return uvicorn.Server(made)


def _speak_for(run_id: int | None, node: int | None = None, task: int | None = None) -> tuple[int | None, ...]:
    """Who sends a message, which Flower looks up for the whole process; returns what stood there."""
    from flwr.common.constant import SUPERLINK_NODE_ID
    from flwr.supercore.task_identity import TaskIdentity as Who

    before = (Who._run_id, Who._node_id, Who._task_id)
    for name, value in (("_run_id", run_id), ("_node_id", node or SUPERLINK_NODE_ID), ("_task_id", task or 1)):
        setattr(Who, name, value)
    return before


def quiet_flower() -> None:
    """Import Flower, which else writes a line for every message and sends news of its use to its makers.

    Raises
    ------
    MissingError
        It is not installed.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    need("federated deployment", "flwr")
    logging.getLogger("flwr").setLevel(logging.ERROR)  # its import sets it


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine and nothing else."""
    import ipaddress

    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _state() -> Any:
    from flwr.server.superlink.linkstate import LinkStateFactory
    from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.superlink.federation import NoOpFederationManager

    store = ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME)
    return LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), store).state()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server started again need not wait for its port
    try:
        made.bind((host.strip("[]"), port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise LinkError(
            f"cannot listen on {host}:{port}: {error.strerror}. Another server may have the port; "
            "end it, or give another port here and in each site's file."
        ) from None
    made.set_inheritable(False)
    return made
