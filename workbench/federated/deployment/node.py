"""A site's end of a deployment: a SuperNode that runs the workbench installed at the site, and nothing it is sent.

It speaks Flower's Fleet protocol (``flwr.supernode``'s client and request signing) and hands each message to a Flower
ClientApp in this process. Flower's own SuperNode fetches an app from the server and runs that, which would make the
site's policy and ledger a matter of the server's good will; this one has no way to fetch one.

It only ever calls out: nothing at the site listens. Where the server is gone it waits, and comes back under its key.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import durable
from workbench.federated.deployment.link import END, HEARTBEAT_S, is_loopback, quiet_flower
from workbench.federated.deployment.packed import packed, unpacked
from workbench.federated.keys import fingerprint, public_pem

if TYPE_CHECKING:
    from flwr.app import Context, Message

App = Callable[["Message", "Context"], "Message"]
LOOK_S = (0.05, 2.0)  # between two looks for messages: a tenth of the time since the last one, within these
AGAIN_S = (0.5, 10.0)  # between two attempts to reach a server that is gone
BEAT_S = 1.5  # between two heartbeats; three of them fit into the shortest silence a server counts as gone
SAY_S = 60.0  # between two words on how far it has come: the server alone knows how long it takes
TWICE_S = 60.0  # how long to wait for an earlier process with the same key to be forgotten


class NodeError(RuntimeError):
    """The site cannot take part; says why and what to do."""


class _Again(Exception):
    """The connection is lost, or the server knows this site no more; another attempt may do."""


class _Twice(_Again):
    """The server still counts another process with this key as there."""


@dataclass
class Node:
    """A site behind a connection.

    Attributes
    ----------
    server : "host:port"
    key : the site's private key (``keys.private``)
    app : answers messages, a ClientApp
    config : what the app is told of the site (``Context.node_config``)
    authority : certificate of the authority that signed the server's; None: no TLS, which loopback alone may do
    patience_s : how long to wait for a server that is gone [s]
    say : hears what happens
    model : folder for the predictor the federation ends with
    """

    server: str
    key: Any
    app: App
    config: Mapping[str, Any]
    authority: Path | None = None
    patience_s: float = 1800.0
    say: Callable[[str], None] = print
    model: Path | None = None
    answered: int = 0
    _number: int = field(default=0, repr=False)  # what the server calls this site, 0 before it is let in
    _told: dict[int, Any] = field(default_factory=dict, repr=False)  # run: its Context

    def run(self) -> str:
        """Take part until the federation ends; returns the reason it ended with.

        Raises
        ------
        NodeError
            Turned away, the server's certificate is not right, or the server stays gone.
        """
        quiet_flower()
        if self.authority is None and not is_loopback(self.server.rpartition(":")[0]):
            raise NodeError(f"without TLS a site speaks to loopback only; found server {self.server!r}.")
        last, pause, twice, met = time.monotonic(), AGAIN_S[0], 0.0, False
        while True:
            try:
                with self._client() as client:
                    self._enter(client)
                    self.say(f"connected to {self.server}.")
                    pause, twice, met = AGAIN_S[0], 0.0, True
                    with self._heartbeat():
                        return self._serve(client)
            except _Twice as error:
                twice = twice or time.monotonic()
                if time.monotonic() - twice > TWICE_S:
                    raise NodeError(f"{error} End the other one; a key is for one process.") from None
                self.say(f"{error} Trying again.")
            except _Again as error:
                if self._number:
                    last, self._number = time.monotonic(), 0
                if time.monotonic() - last > self.patience_s:
                    words = "has been gone" if met else "could not be reached"
                    raise NodeError(
                        f"the server {self.server} {words} for {self.patience_s:.0f} s ({error})."
                    ) from None
                self.say(f"{error}; trying again in {pause:.1f} s.")
            time.sleep(pause)
            pause = min(2 * pause, AGAIN_S[1])

    # --- the connection ----------------------------------------------------------------------------------------------

    def _client(self) -> Any:
        from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
        from flwr.supernode.fleet_http_client import FleetHttpClient
        from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

        verify: ssl.SSLContext | bool = False
        if self.authority is not None:
            verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the name and the chain
            verify.minimum_version = ssl.TLSVersion.TLSv1_3
            verify.load_verify_locations(str(self.authority))
        signs: list[Any] = [
            RuntimeVersionHttpInterceptor("SuperNode"),
            NodeAuthHttpInterceptor(self.key, self.key.public_key()),
        ]
        scheme = "http" if self.authority is None else "https"
        return FleetHttpClient(f"{scheme}://{self.server}", interceptors=signs, verify=verify, timeout=60.0)

    def _enter(self, client: Any) -> None:
        from flwr.proto.fleet_pb2 import ActivateNodeRequest

        pem = public_pem(self.key)
        asked = ActivateNodeRequest(public_key=pem, heartbeat_interval=HEARTBEAT_S)
        self._number = self._call(client.ActivateNode, asked, entering=True).node_id

    def _call(self, what: Callable[[Any], Any], asked: Any, entering: bool = False) -> Any:
        """One request; what went wrong becomes NodeError where trying again is of no use, else ``_Again``."""
        import httpx

        try:
            return what(asked)
        except httpx.HTTPStatusError as error:
            status, why = error.response.status_code, _detail(error.response)
            if status == 409:
                raise _Twice(f"the server says: {why}") from None
            if entering and status in (401, 403):
                raise NodeError(self._turned_away(why)) from None
            if entering and status == 404:
                raise NodeError(f"{self.server} is no server of a federation of the workbench.") from None
            raise _Again(f"the server answered {status} ({why})") from None
        except httpx.TransportError as error:
            if entering and (wrong := _wrong(str(error), self.server, self.authority)):
                raise NodeError(wrong) from None
            raise _Again(f"the server {self.server} cannot be reached ({str(error) or type(error).__name__})") from None

    def _turned_away(self, why: str) -> str:
        return (
            f"the server turned this site away: {why} This site's key is {fingerprint(public_pem(self.key))}. Whoever "
            "runs the server adds the line of the site's .pub file to allowed.txt and starts it again; clocks that "
            "differ by more than 5 minutes are another reason."
        )

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Tell the server from a thread that the site is there, also while it computes; then take leave."""
        import httpx
        from flwr.proto.fleet_pb2 import DeactivateNodeRequest
        from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
        from flwr.proto.node_pb2 import Node as Number

        stop, number = threading.Event(), self._number
        asked = SendNodeHeartbeatRequest(node=Number(node_id=number), heartbeat_interval=HEARTBEAT_S)

        def beat() -> None:
            with self._client() as client:
                while not stop.wait(BEAT_S):
                    with contextlib.suppress(httpx.HTTPError):  # the next message will tell
                        client.SendNodeHeartbeat(asked)
                with contextlib.suppress(httpx.HTTPError):
                    client.DeactivateNode(DeactivateNodeRequest(node_id=number))

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(5.0)

    # --- messages ----------------------------------------------------------------------------------------------------

    def _serve(self, client: Any) -> str:
        from flwr.proto.fleet_pb2 import PullMessagesRequest
        from flwr.proto.node_pb2 import Node as Number

        heard = said = time.monotonic()
        while True:
            if self.answered and time.monotonic() - said > SAY_S:
                said = time.monotonic()
                self.say(f"answered {self.answered} times so far.")
            found = self._call(client.PullMessages, PullMessagesRequest(node=Number(node_id=self._number)))
            if not found.messages_list:
                time.sleep(min(max(0.1 * (time.monotonic() - heard), LOOK_S[0]), LOOK_S[1]))
                continue
            message = self._receive(client, found.messages_list[0], found.message_object_trees[0])
            if message.metadata.message_type == END:
                return self._ended(message.content)
            began = time.monotonic()
            reply = self._answer(message, self._context(client, message.metadata.run_id))
            self._send(client, reply, time.monotonic() - began)
            self.answered, heard = self.answered + 1, time.monotonic()

    def _ended(self, content: Any) -> str:
        """Keep the predictor that came with the end, as the two inert files a run has; returns why it ended."""
        about = content["about"]
        if self.model is not None and "model" in about:
            from safetensors.numpy import save

            self.model.parent.mkdir(parents=True, exist_ok=True)
            with durable.beside(self.model) as made:
                durable.write_synced(made / "config.json", str(about["model"]).encode())
                # row by row: safetensors writes memory as it lies, and a transposed matrix would come back scrambled
                arrays = {k: np.asarray(a.numpy(), order="C") for k, a in content["arrays"].items()}
                durable.write_synced(made / "arrays.safetensors", save(arrays))
                durable.put(made, self.model, replace=True)
            self.say(f"the predictor is in {self.model}.")
        return str(about["why"])

    def _receive(self, client: Any, head: Any, tree: Any) -> Message:
        from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest
        from flwr.proto.node_pb2 import Node as Number
        from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
        from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

        me, run, parts = Number(node_id=self._number), head.metadata.run_id, dict[str, bytes]()
        for part in iterate_object_tree(tree):
            asked = PullObjectRequest(node=me, run_id=run, object_id=part.object_id)
            found = self._call(client.PullObject, asked)
            if not found.object_available:  # the server stores a message's parts before it offers it
                raise _Again("a part of a message is not there")
            parts[part.object_id] = found.object_content
        name = tree.object_id
        confirmed = ConfirmMessageReceivedRequest(node=me, run_id=run, message_object_id=name)
        self._call(client.ConfirmMessageReceived, confirmed)
        message: Any = inflate_object_from_contents(name, parts)
        message.metadata.__dict__["_message_id"] = name
        try:
            message.content = unpacked(message.content)
        except (KeyError, ValueError) as error:
            raise NodeError(f"the server sends what this version does not read ({error}); are the two alike?") from None
        return message

    def _answer(self, message: Message, context: Context) -> Message:
        """The app's reply; of an error that it lets through the server hears that there was one, and no more."""
        from flwr.app import Error
        from flwr.app.message import Message as New
        from flwr.common.constant import ErrorCode

        try:
            return self.app(message, context)
        except Exception as error:
            self.say(f"could not answer: {type(error).__name__}: {error}")
            return New(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION), reply_to=message)

    def _send(self, client: Any, reply: Message, seconds: float) -> None:
        from flwr.app.message import make_message, remove_content_from_message
        from flwr.common.serde import message_to_proto
        from flwr.proto.fleet_pb2 import PushMessagesRequest
        from flwr.proto.message_pb2 import PushObjectRequest
        from flwr.proto.node_pb2 import Node as Number
        from flwr.supercore.inflatable.inflatable_object import (
            get_all_nested_objects,
            get_object_tree,
            no_object_id_recompute,
        )

        me, run = Number(node_id=self._number), reply.metadata.run_id
        if reply.has_content():
            reply = make_message(metadata=reply.metadata, content=packed(reply.content))
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            tree, parts = get_object_tree(reply), get_all_nested_objects(reply)
            asked = PushMessagesRequest(
                node=me, messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[tree], clientapp_runtime_list=[seconds],
            )  # fmt: skip
            wanted = self._call(client.PushMessages, asked)
            for name in wanted.objects_to_push:
                part = PushObjectRequest(
                    node=me, run_id=run, object_id=name, object_content=parts[name].deflate(),
                    session_id=wanted.session_id,
                )  # fmt: skip
                self._call(client.PushObject, part)

    def _context(self, client: Any, run: int) -> Context:
        if run not in self._told:
            from flwr.app import Context, RecordDict
            from flwr.common.serde import run_from_proto
            from flwr.proto.node_pb2 import Node as Number
            from flwr.proto.run_pb2 import GetRunRequest

            asked = GetRunRequest(node=Number(node_id=self._number), run_id=run)
            config = run_from_proto(self._call(client.GetRun, asked).run).override_config
            self._told = {
                run: Context(run_id=run, node_id=self._number, node_config=dict(self.config), state=RecordDict(),
                             run_config=config)
            }  # fmt: skip
        return self._told[run]


def _detail(response: Any) -> str:
    try:
        found = response.json()
        return str(found.get("detail", found))[:500] if isinstance(found, dict) else str(found)[:500]
    except ValueError:
        return response.reason_phrase or "no reason given"


def _wrong(text: str, server: str, authority: Path | None) -> str | None:
    """What is wrong with the server's TLS where trying again is of no use; None where it may just be gone."""
    host, low = server.rpartition(":")[0], text.lower()
    if "certificate has expired" in low:
        return (
            f"the certificate of {server} has expired; whoever runs it makes a new one: workbench federate keys --renew"
        )
    if "certificate is not yet valid" in low:
        return f"the certificate of {server} is not valid yet; is one of the clocks wrong?"
    if "mismatch" in low:
        return (
            f"the certificate of {server} is for another host than {host!r}; use one it is for, or have one made for "
            f"this name: workbench federate keys DIR --renew --host {host}"
        )
    if "certificate verify failed" in low:
        return f"the certificate of {server} was not signed by {authority}: another server, or another federation's."
    if "ssl" in low and ("wrong_version" in low or "wrong version" in low or "record layer" in low):
        return f"{server} does not speak TLS; nothing is sent in the open."
    if authority is None and "disconnected without sending a response" in low:
        return f'{server} seems to speak TLS, and the site\'s file says insecure = true; give it ca = "ca.crt" instead.'
    return None
