"""Who may enter a server of a federation, and where: Flower's Fleet API alone, for keys on the list.

Of the SuperLink only the Fleet API is served, where SuperNodes fetch messages and bring answers. Its Control API (which
starts runs and registers nodes, and asks for no password) and its Runtime API are not there.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any

from workbench.federated.deployment.link_grid import Factory
from workbench.federated.keys import Allowed, fingerprint

FLEET = "/v1/fleet/"
OPEN = ("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run",
        "push-object", "pull-object", "confirm-message-received")  # fmt: skip
PLAIN_BYTES, OBJECT_BYTES = 4 << 20, 1 << 30  # longest request: a message's frame, and one of its arrays

Say = Callable[[str], None]


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
    app.state.linkstate_factory = Factory(state)
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


def _from(scope: Any) -> str:
    return (scope.get("client") or ("someone",))[0]
