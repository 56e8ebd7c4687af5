"""The server's end of a deployment: Flower's SuperLink reduced to what sites need, in this process.

Of the SuperLink only the Fleet API is served, where SuperNodes fetch messages and bring answers. Its Control API (which
starts runs and registers nodes, and asks for no password) and its Runtime API are not there, and no app is shipped to
anybody: the run has no FAB, each site runs the code installed at the site. The server app runs beside it and reaches
the sites through ``grid``.

Who may enter: TLS 1.3 with the server's certificate; every request is signed by a site's key (Flower's node
authentication), and a key that is not in the list is turned away before its request is read.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.federated.keys import Allowed, fingerprint
from workbench.federated.needed import need

if TYPE_CHECKING:
    from flwr.app import Message

END = "query.end"  # type of the message that tells a site that the federation has ended
FLEET = "/v1/fleet/"
OPEN = ("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run",
        "push-object", "pull-object", "confirm-message-received")  # fmt: skip
PLAIN_BYTES, OBJECT_BYTES = 4 << 20, 1 << 30  # longest request: a message's frame, and one of its arrays
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

    def end(self, why: str, model: tuple[str, Mapping[str, Any]] | None = None, wait_s: float = 30.0) -> None:
        """Tell every connected site that the federation has ended, and wait until they have gone.

        ``model``: what it ended with, for the sites to keep: configuration as JSON, and arrays.
        """
        from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

        there = list(self.grid.get_node_ids())
        said = RecordDict({"about": ConfigRecord({"why": why} | ({} if model is None else {"model": model[0]}))})
        if model is not None:
            said["arrays"] = ArrayRecord({k: Array(v) for k, v in model[1].items()})
        self.grid.push_messages([Message(said, n, END, ttl=max(wait_s, 1.0)) for n in there])
        until = time.monotonic() + wait_s
        while time.monotonic() < until and list(self.grid.get_node_ids()):
            self.wait(0.05)

    def close(self) -> None:
        """Stop listening; sites notice, and come back to a server that is started again."""
        server, thread = getattr(self, "server", None), getattr(self, "thread", None)
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


def application(state: Any, allowed: Sequence[Allowed], say: Say, note: Callable[[int, str], None]) -> Any:
    """The Fleet API alone, behind ``Door``: an ASGI application."""
    from fastapi import FastAPI
    from flwr.supercore.error import http_error_translator
    from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
    from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
    from flwr.superlink.routers.fleet.router import router
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware

    outermost_first = [
        Middleware(Door, state=state, allowed=allowed, say=say),
        Middleware(BaseHTTPMiddleware, dispatch=http_error_translator),
        Middleware(ProtobufTranslationMiddleware),
        Middleware(NodeAuthMiddleware),
        Middleware(BaseHTTPMiddleware, dispatch=_own_name_only(state, say, note)),
    ]
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, middleware=outermost_first)
    app.state.linkstate_factory = _Factory(state)
    app.state.enable_supernode_auth = True
    app.include_router(router)
    return app


class Door:
    """Turns away what is no request of an allowed site, before its body is read, with the reason in plain words."""

    def __init__(self, app: Any, state: Any, allowed: Sequence[Allowed], say: Say) -> None:
        self.app, self.state, self.say = app, state, say
        self.known = {a.pem: a.name for a in allowed}
        self.seen: dict[str, float] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, why = self._refusal(scope)
        if why is None:
            await self.app(scope, receive, send)
            return
        from starlette.responses import JSONResponse

        await JSONResponse({"detail": why}, status)(scope, receive, send)

    def _refusal(self, scope: Any) -> tuple[int, str | None]:
        from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

        path, head = scope["path"], {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if scope["method"] != "POST" or not path.startswith(FLEET) or path[len(FLEET) :] not in OPEN:
            return 404, "this server has nothing there."
        length, limit = head.get("content-length", ""), OBJECT_BYTES if path.endswith("-object") else PLAIN_BYTES
        if not length.isdigit() or int(length) > limit:
            return 413, f"a request says its length, and it is at most {limit} bytes."
        try:
            pem = base64.b64decode(head[FLEET_HTTP_PUBLIC_KEY_HEADER.lower()], validate=True)
        except (KeyError, ValueError):
            return 401, "a site signs its requests with its key; this one is not signed."
        if pem not in self.known:
            self._tell(
                f"turned away: {_from(scope)}, key {fingerprint(pem)}, which is not in the list of allowed keys."
            )
            return 403, f"the key {fingerprint(pem)} is not in the server's list of allowed keys."
        if path.endswith("/activate-node"):
            return self._twice(pem)
        return 200, None

    def _twice(self, pem: bytes) -> tuple[int, str | None]:
        """A key opens the door for one process at a time; a killed one is forgotten after two missed heartbeats."""
        from flwr.supercore.constant import NodeStatus

        node = self.state.get_node_id_by_public_key(pem)
        if any(n.status == NodeStatus.ONLINE for n in self.state.get_node_info(node_ids=[node])):
            return 409, f"a process with the key of {self.known[pem]!r} is there already, or was killed a moment ago."
        return 200, None

    def _tell(self, what: str) -> None:
        """Say it, but the same words once a minute: a site without a key may knock ten times a second."""
        now = time.monotonic()
        if now - self.seen.get(what, -60.0) >= 60.0:
            if len(self.seen) > 1000:
                self.seen.clear()
            self.seen[what] = now
            self.say(what)


def _own_name_only(state: Any, say: Say, note: Callable[[int, str], None]) -> Any:
    """The innermost check: Flower lets a signed site answer under another site's number; here it may not."""
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
    from starlette.responses import JSONResponse

    async def dispatch(request: Any, call_next: Any) -> Any:
        asked, path = request.state.protobuf_request, request.url.path
        node = state.get_node_id_by_public_key(base64.b64decode(request.headers[FLEET_HTTP_PUBLIC_KEY_HEADER]))
        if path.endswith("/push-messages"):
            others = [m for m in asked.messages_list if m.metadata.src_node_id != node]
            if others or len(asked.messages_list) != 1 or len(asked.message_object_trees) != 1:
                say(f"turned away: node {node} answered in another site's place.")
                return JSONResponse({"detail": "a site sends one answer at a time, its own."}, 403)
        response = await call_next(request)
        if response.status_code == 200:
            note(node, path)
        return response

    return dispatch


class _Factory:
    """What Flower's routes ask for their state."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def state(self) -> Any:
        return self._state


def grid(state: Any, run_id: int, names: Mapping[int, str], look: Callable[[], None]) -> Any:
    """Flower's Grid over the state of a SuperLink in this process, for sites that are elsewhere.

    ``names``: {node: site}, by key; ``look`` is called before it looks who is there.

    """
    from flwr.app import Error, Metadata
    from flwr.app.message import make_message, remove_content_from_message
    from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
    from flwr.supercore.date import now
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        iterate_object_tree,
        no_object_id_recompute,
    )
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
    from flwr.supercore.object_store import NoObjectInStoreError
    from flwr.superlink.grid import InMemoryGrid

    def name_of(message: Message) -> str | None:
        return names.get(message.metadata.src_node_id)

    class LinkGrid(InMemoryGrid):
        """Messages go through the object store, where SuperNodes fetch them, not from hand to hand."""

        def __init__(self) -> None:
            super().__init__(_Factory(state), pull_interval=0.05)  # type: ignore[arg-type]
            self.set_run(state.get_run_info(run_ids=[run_id])[0])
            self.asked: dict[str, int] = {}

        def get_node_ids(self) -> Iterable[int]:
            look()
            return super().get_node_ids()

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            ids = []
            for message in messages:
                with no_object_id_recompute():
                    message.metadata.__dict__["_message_id"] = message.object_id
                    session, tree = state.start_session(run_id), get_object_tree(message)
                    parts = get_all_nested_objects(message)
                    stored, missing = state.store_message_and_object_tree(
                        remove_content_from_message(message), tree, session
                    )
                    for part in missing:
                        state.store_object(run_id, session, part, parts[part].deflate())
                ids.append(message.metadata.message_id if stored else "")
                if stored:
                    self.asked[ids[-1]] = message.metadata.dst_node_id
            return ids

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            """Answers that are there whole, and an error for each that will not come any more."""
            look()
            wanted = set(message_ids)
            missed = {m for m in wanted if self._missed(m)}
            ready = {m for m in wanted - missed if not self._on_its_way(m)}
            found = state.get_message_res(message_ids=set(ready), run_id=run_id) if ready else []
            out = [self._whole(m) for m in found]
            out += [self._error(m, ErrorCode.NODE_UNAVAILABLE, "started anew after it was asked") for m in missed]
            state.delete_messages(message_ins_ids={m.metadata.reply_to_message_id for m in out})
            return out

        def _missed(self, asked: str) -> bool:
            """Whether the site took the question and was then started anew: nobody works on it."""
            message, node = state.message_ins_store.get(asked), state.nodes.get(self.asked.get(asked))
            if message is None or node is None or not message.metadata.delivered_at or not node.last_activated_at:
                return False
            gone = node.last_activated_at > message.metadata.delivered_at
            return gone and asked not in state.message_ins_id_to_message_res_id

        def _on_its_way(self, asked: str) -> bool:
            """Whether an answer is announced whose parts have not all come; a slow one holds up nobody else's."""
            answer = state.message_ins_id_to_message_res_id.get(asked)
            if answer is None:
                return False
            try:
                tree = state.object_store.get_object_tree(answer)
            except NoObjectInStoreError:
                return False
            return any(state.get_object(run_id, t.object_id) == b"" for t in iterate_object_tree(tree))

        def _whole(self, head: Message) -> Message:
            if head.has_error():
                return self._error(head.metadata.reply_to_message_id, head.error.code, head.error.reason or "")
            name = head.metadata.message_id
            try:
                tree = state.object_store.get_object_tree(name)
                parts = {t.object_id: self._part(t.object_id) for t in iterate_object_tree(tree)}
                message: Any = inflate_object_from_contents(name, parts)
                state.object_store.delete(name)
                if message.has_error():
                    return self._error(head.metadata.reply_to_message_id, message.error.code, "")
                told = message.content.config_records.get("about", {}).get("site", name_of(head))
                if told != name_of(head):
                    why = f"its site.toml calls it {told!r}, its key is that of {name_of(head)!r}"
                    return self._error(head.metadata.reply_to_message_id, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, why)
                return make_message(metadata=head.metadata, content=message.content)
            except Exception as error:  # whatever a site may have sent, one site's nonsense is that site's loss
                log.warning("an answer of node %s was not whole", head.metadata.src_node_id, exc_info=error)
                why = f"its answer could not be put together ({type(error).__name__})"
                return self._error(head.metadata.reply_to_message_id, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, why)

        def _part(self, part: str) -> bytes:
            content = state.get_object(run_id, part)
            if not content or hashlib.sha256(content).hexdigest() != part:
                raise ValueError("a part is missing, or not the one announced")
            return content

        def _error(self, asked: str, code: int, why: str) -> Message:
            """An error that says which site it is about; Flower's own come from the server's number."""
            node = self.asked.get(asked, SUPERLINK_NODE_ID)
            about = Metadata(run_id, "", node, SUPERLINK_NODE_ID, asked, "", now().timestamp(), 1.0, "query")
            return make_message(metadata=about, error=Error(code, why))

    return LinkGrid()


def _speak_for(run_id: int | None, node: int | None = None, task: int | None = None) -> tuple[int | None, ...]:
    """Who sends a message, which Flower looks up for the whole process; returns what stood there."""
    from flwr.common.constant import SUPERLINK_NODE_ID
    from flwr.supercore.task_identity import TaskIdentity as Who

    before = (Who._run_id, Who._node_id, Who._task_id)
    Who._run_id, Who._node_id, Who._task_id = run_id, node or SUPERLINK_NODE_ID, task or 1
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


def _from(scope: Any) -> str:
    return (scope.get("client") or ("someone",))[0]
