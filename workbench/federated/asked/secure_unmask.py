"""Last step of a secure sum: of each neighbour one share, of its self-mask where it took part, else of its mask key."""

from __future__ import annotations

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.secure import conversation

PLAIN = "Shares of other sites' secrets, which together take the masks off the sum and off nothing smaller; no data."
LEAVES = Leaves(
    arrays={"owners": "numbers of the sites the shares belong to", "shares": "shares of secrets, random numbers each"},
    summed=False,
    rows=False,
)


def answer(site, ask: Ask) -> Answer:
    owners, shares = conversation.reveal(
        site.memory.setdefault("secure", {}), str(ask.values["conversation"]),
        ask.arrays["signers"].tolist(), ask.arrays["signatures"],
    )  # fmt: skip
    return Answer(site.fold.train.height, {"owners": owners, "shares": shares})
