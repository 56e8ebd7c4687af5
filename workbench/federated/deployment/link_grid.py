"""Flower's Grid for sites that are elsewhere: over the link state of a SuperLink in this process.

Flower's own grid in memory hands messages over as they are; SuperNodes fetch them part by part from an object store.
Its grid over HTTP needs a process of its own and looks for answers every three seconds.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from workbench.federated.deployment.packed import packed, unpacked

if TYPE_CHECKING:
    from flwr.app import Message

log = logging.getLogger(__name__)


class Factory:
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
            super().__init__(Factory(state), pull_interval=0.05)  # type: ignore[arg-type]
            self.set_run(state.get_run_info(run_ids=[run_id])[0])
            self.asked: dict[str, int] = {}

        def get_node_ids(self) -> Iterable[int]:
            look()
            return super().get_node_ids()

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            ids: list[str] = []
            last: tuple[Any, Any] = (None, None)
            for asked in messages:
                if asked.content is not last[0]:  # most often one content goes to all
                    last = (asked.content, packed(asked.content))
                with no_object_id_recompute():
                    message = make_message(metadata=asked.metadata, content=last[1])
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
            with state.lock:  # an answer announced between looking and fetching would be fetched before its parts came
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
                content = unpacked(message.content)
                told = content.config_records.get("about", {}).get("site", name_of(head))
                if told != name_of(head):
                    why = f"its site.toml calls it {told!r}, its key is that of {name_of(head)!r}"
                    return self._error(head.metadata.reply_to_message_id, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, why)
                return make_message(metadata=head.metadata, content=content)
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
