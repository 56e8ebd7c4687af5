"""Structures of compounds the site has, as fingerprints: facts about compounds, not about anybody."""

from __future__ import annotations

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.network import local as _network_local

PLAIN = (
    "The chemical structures (fingerprint bits) of treatments that the sites named. A site with secret compounds "
    "leaves this purpose out of what it allows."
)
LEAVES = Leaves(
    arrays={"bits": "fingerprint bits by treatment (T, b)", "known": "is the structure known? (T,)"},
    summed=False,
    values=("bits",),
    unlike=("bits",),  # a site without structures has no columns
)


def answer(site, ask: Ask) -> Answer:
    _network_local.check_rule(site)  # the first ask of a network that tells it apart from a ridge
    bits, known, names = _network_local.structure_of(site, _rows.texts(ask, "treatments"))
    return Answer(site.fold.train.height, {"bits": bits, "known": known}, {"bits": names})
