"""Fourth step of a secure sum: this site's signature under the list of sites whose parts are said to have arrived.

A server that told the sites different lists could open the sum of a few of them. So each signs the one list it was
given, and opens nothing before it has seen that more than half of the sites signed the same (``secure_unmask``).
"""

from __future__ import annotations

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.secure import conversation

PLAIN = "This site's signature under the list of sites that took part in a sum, so that none is told another; no data."
LEAVES = Leaves(arrays={"signature": "this site's signature under the list it was given"}, summed=False, rows=False)


def answer(site, ask: Ask) -> Answer:
    signature = conversation.agree(
        site.memory.setdefault("secure", {}), str(ask.values["conversation"]),
        ask.arrays["survivors"].tolist(), ask.arrays["lost"].tolist(),
    )  # fmt: skip
    return Answer(site.fold.train.height, {"signature": signature})
