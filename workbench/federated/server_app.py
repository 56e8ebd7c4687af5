"""Flower's side of the server: its Grid as ``Sites``, for whatever trains over them (``simulate``, ``deploy``).

A node is known by the name its site gives, never by Flower's number. One that does not answer in time, fails, answers
something else or takes another's name is in ``Gathered.lost`` with the reason; one that comes back is found again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.federated import task
from workbench.federated.messages import Ask, Gathered, MessageError, Reply
from workbench.federated.sites import TooFewSites, add, enough, finite, sort

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

HELLO = Ask("hello")
LATE = 108  # ours, beside Flower's codes
LOST = {  # Flower's codes; its texts are left out, for they may quote what the site holds
    0: "its process ended or could not be reached",
    1: "its app could not be loaded",
    2: "its app failed",
    3: "the ask expired before it was fetched",
    4: "the answer expired before it was fetched",
    5: "its node is not connected",
    7: "its app is not the one that was sent",
    8: "its app ended before it answered",
    LATE: "its answer took longer than timeout_s allows",
}


class FlowerSites:
    """The sites behind Flower's Grid.

    Parameters
    ----------
    grid : of a simulation or a deployment
    expected : sites to wait for before the first round
    timeout_s : longest wait for an answer [s]
    patience_s : longest wait for the expected sites to come [s]; then whoever is there is enough if ``least`` are
    least : fewest sites a sum may rest on
    pause_s : between two looks for answers [s]; None leaves the wait to the grid
    wait : called in place of a pause between two looks, with ``pause_s``
    """

    def __init__(
        self,
        grid: Grid,
        expected: int,
        timeout_s: float = 600.0,
        patience_s: float = 120.0,
        least: int = 1,
        pause_s: float | None = None,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.grid, self.timeout_s, self.least, self.pause_s, self.wait = grid, timeout_s, least, pause_s, wait
        self.node: dict[str, int] = {}
        self.refused: dict[int, str] = {}  # nodes without a name of their own
        self._silent: dict[int, float] = {}
        self.bytes_sent: dict[str, int] = {}
        self.bytes_received: dict[str, int] = {}
        self._meet(expected, patience_s)

    @property
    def names(self) -> tuple[str, ...]:
        """Every site that ever said hello, sorted."""
        return tuple(sorted(self.node))

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        self._greet()
        here = set(self.grid.get_node_ids())
        wanted = self.names if of is None else tuple(of)
        lost = {n: "unknown site" for n in wanted if n not in self.node}
        lost |= {n: "not connected" for n in wanted if n in self.node and self.node[n] not in here}
        replies, gone = self._send(ask, {self.node[n]: n for n in wanted if n not in lost})
        return sort(ask, replies, lost | gone)

    def total(self, ask: Ask, least: int = 1) -> tuple[dict[str, np.ndarray], Gathered]:
        gathered = self.ask(ask)
        enough(ask, gathered, max(least, self.least))
        finite(ask, gathered)
        return add(ask, gathered), gathered

    def _meet(self, expected: int, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        while True:
            self._greet()
            if len(self.node) >= expected:
                return
            if time.monotonic() >= until:
                break
            self.wait(self.pause_s or 1.0)
        if len(self.node) < max(self.least, 1):
            why = "; ".join(sorted(self.refused.values())) or "no other node is connected"
            raise TooFewSites(
                f"{len(self.node)} of {expected} sites came within {patience_s:.0f} s "
                f"({', '.join(self.names) or 'none'}), and at least {self.least} are needed: {why}."
            )

    def _greet(self) -> None:
        """Say hello to nodes not met yet, and learn the names of their sites."""
        here, now = set(self.grid.get_node_ids()), time.monotonic()
        met = set(self.node.values())
        new = {n: f"node {n}" for n in here - met if now - self._silent.get(n, -math.inf) >= self.timeout_s}
        self.refused = {n: why for n, why in self.refused.items() if n in here}
        for node, reply in sorted(self._exchange(HELLO, new).items()):
            if isinstance(reply, str):  # it may only be slow to start: greeted again, but not before every ask
                self._silent[node] = time.monotonic()
                self.refused[node] = f"node {node}: {reply}"
            elif self.node.get(reply.site, node) in here - {node}:
                self.refused[node] = f"node {node}: another node that is connected is called {reply.site!r} too"
            else:  # a refusal bears the name as well; what it does answer is the site's own business
                self.node[reply.site] = node
                self.refused.pop(node, None)

    def _send(self, ask: Ask, nodes: dict[int, str]) -> tuple[list[Reply], dict[str, str]]:
        replies, lost = [], {}
        for node, reply in self._exchange(ask, nodes).items():
            name = nodes[node]
            if isinstance(reply, str):
                lost[name] = reply
            elif reply.site != name and reply.refused is None:
                lost[name] = f"answered under another name, {reply.site!r}"
            elif (reply.purpose, reply.round) != (ask.purpose, ask.round) and reply.refused is None:
                lost[name] = f"answered {reply.purpose!r} of round {reply.round}"
            elif reply.refused is not None:
                lost[name] = reply.refused
            else:
                replies.append(reply)
        return replies, lost

    def _exchange(self, ask: Ask, nodes: dict[int, str]) -> dict[int, Reply | str]:
        """{node: its Reply, or why there is none}."""
        from flwr.app import Message

        if not nodes:
            return {}
        record = task.content(ask)
        sent = task.size(record)
        out: dict[int, Reply | str] = dict.fromkeys(nodes, f"no answer within {self.timeout_s:g} s")
        # one record for all: arrays are read, never written, on their way out
        messages = [
            Message(record, n, task.MESSAGE_TYPE, ttl=max(self.timeout_s, 1.0), group_id=str(ask.round)) for n in nodes
        ]
        for name in nodes.values():
            self.bytes_sent[name] = self.bytes_sent.get(name, 0) + sent
        for message in self._wait(messages):
            node = message.metadata.src_node_id
            if node in nodes:
                out[node] = self._read(message, nodes[node])
        return out

    def _wait(self, messages: list[Message]) -> Iterable[Message]:
        if self.pause_s is None:
            yield from self.grid.send_and_receive(messages, timeout=self.timeout_s)
            return
        left = {str(m) for m in self.grid.push_messages(messages) if m}
        until = time.monotonic() + self.timeout_s
        while left and time.monotonic() < until:
            found = list(self.grid.pull_messages(left))
            left -= {m.metadata.reply_to_message_id for m in found}
            yield from found
            if left:
                self.wait(self.pause_s)

    def _read(self, message: Message, name: str) -> Reply | str:
        if message.has_error():
            return LOST.get(message.error.code, f"Flower could not run it (error {message.error.code})")
        self.bytes_received[name] = self.bytes_received.get(name, 0) + task.size(message.content)
        try:
            return task.reply_of(message.content)
        except MessageError as error:
            return f"sent what is no reply: {error}"
