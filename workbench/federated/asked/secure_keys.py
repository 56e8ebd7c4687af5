"""First step of a secure sum: two public keys, made for this sum alone."""

from __future__ import annotations

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.secure import conversation

PLAIN = "Two freshly made public keys, so that sites can hide their parts of a sum from the server; no data."
LEAVES = Leaves(
    arrays={"keys": "public keys, random numbers to anyone else", "signature": "this site's signature under them"},
    summed=False,
    rows=False,
)


def answer(site, ask: Ask) -> Answer:
    memory = site.memory.setdefault("secure", {})
    keys, signature = conversation.begin(memory, str(ask.values.get("conversation", "")))
    return Answer(site.fold.train.height, {"keys": keys, "signature": signature})
