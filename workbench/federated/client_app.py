"""Flower's ClientApp of a site: an Ask comes in, the site's Reply goes out; nothing else can be called.

Whatever fails here becomes a refusal that names the kind of error and no more: Flower would send the error's whole
text to the server, and it may quote a row.
"""

from __future__ import annotations

import logging

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from workbench.federated import task
from workbench.federated.messages import Reply

log = logging.getLogger(__name__)
app = ClientApp()


@app.query()
def answer(message: Message, context: Context) -> Message:
    """The site's Reply to the Ask in ``message``."""
    name = str(context.node_config.get("name", context.node_config.get("partition-id", "a site")))
    purpose, number = "unreadable", 0
    try:
        ask = task.ask_of(message.content)
        purpose, number = ask.purpose, ask.round
        site = task.site(context.run_id, context.run_config, context.node_config)
        reply = site.answer(ask)
    except Exception as error:
        log.error("%s could not answer %r: %s: %s", name, purpose, type(error).__name__, error)
        why = f"failed with {type(error).__name__} before it could answer; see the site's log."
        reply = Reply(name, purpose, number, refused=why)
    return Message(task.content(reply), reply_to=message)
