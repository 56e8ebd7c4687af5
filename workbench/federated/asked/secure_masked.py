"""Third step of a secure sum: the answer to another ask, under masks that only the sum over all sites takes off.

The ask carries the arrays and values of the real one beside its own, which begin with ``secure_``. The real answer
passes the site's policy and every check on its way out as if it left by itself; then it is masked, and the masked
numbers are what leaves and what is written down.
"""

from __future__ import annotations

import numpy as np

from workbench import rooms
from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.secure import conversation
from workbench.federated.site import ASKED, SiteError

PLAIN = "The answer to another request hidden under random masks; the server can read only the sum over all sites."
LEAVES = Leaves(
    arrays={
        "whole *": "masked counts or whole numbers, uniform random to the server",
        "single *": "masked 32-bit numbers, uniform random to the server",
        "double *": "masked 64-bit numbers, uniform random to the server",
    },
    summed=False,
    rows=False,
    values=("purpose", "asked"),
)
OWN = "secure_"


def answer(site, ask: Ask) -> Answer:
    own = {k.removeprefix(OWN): v for k, v in ask.arrays.items() if k.startswith(OWN)}
    purpose, name = str(ask.values[OWN + "purpose"]), str(ask.values[OWN + "conversation"])
    if not rooms.load(ASKED, purpose).LEAVES.summed:
        raise SiteError(f"secure sum: {purpose!r} is not a matter of sums.")
    memory = site.memory.setdefault("secure", {})
    mine = np.flatnonzero(own["to"] == conversation.number(memory, name))
    sealed = {int(own["of"][i]): own["sealed"][i].tobytes() for i in mine}
    conversation.present(memory, name, own["dealers"].tolist(), sealed)
    arrays = {k: v for k, v in ask.arrays.items() if not k.startswith(OWN)}
    values = {k: v for k, v in ask.values.items() if not k.startswith(OWN)}
    real = Ask(purpose, ask.round, arrays, values)
    made = site.made(real, leaves=False)
    rows = made.rows if made.releases is None else 0  # an exact count beside noisy sums would not be private
    asked = conversation.fingerprint(real)
    hidden = conversation.hide(memory, name, made.arrays, rows, asked, _about(real, made, asked), ask.round)
    return Answer(made.rows, hidden, {"purpose": purpose, "asked": asked}, behind=made.behind, masked=True)


def _about(ask: Ask, made: Answer, asked: str) -> list[str]:
    """What this sum has in common with others that it must not be taken from: at least the ask to the letter.

    Sums of the same rows tell the same numbers however the ask is worded, so of these no two may differ by a few sites
    unless there is noise in them. Weights change from round to round, and a site may miss one.
    """
    if made.releases is not None or rooms.load(ASKED, ask.purpose).LEAVES.moving:
        return [asked]
    return [asked, made.quantity or f"{ask.purpose} {' '.join(sorted(made.arrays))}"]
