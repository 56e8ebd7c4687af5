"""Second step of a secure sum: shares of two secrets, sealed so that only the neighbour they are for can read them."""

from __future__ import annotations

from typing import Any

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.secure import conversation

PLAIN = "Encrypted shares of the secrets behind this site's masks, one for each neighbour, so that others can finish."
LEAVES = Leaves(
    arrays={
        "holders": "numbers of the sites the shares are for",
        "sealed": "encrypted shares, random numbers to the server",
        "commitment": "fingerprint of the self-mask seed",
    },
    summed=False,
    rows=False,
)


def answer(site, ask: Ask) -> Answer:
    values: dict[str, Any] = dict(ask.values)
    holders, sealed, commitment = conversation.deal(
        site.memory.setdefault("secure", {}), site.name, str(values["conversation"]), list(values["sites"]),
        ask.arrays["keys"], ask.arrays["signatures"], int(values["threshold"]), int(values["degree"]),
    )  # fmt: skip
    return Answer(site.fold.train.height, {"holders": holders, "sealed": sealed, "commitment": commitment})
