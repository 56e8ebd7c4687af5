"""One round of training whose change is differentially private: for every person of the site, or for the site.

    person   DP-SGD at the site (``private.person_level``): noise in every step, so the change may be seen by anybody
    site     training as in any round, the change clipped, this site's part of the noise added (``private.site_level``)

Nothing else leaves: no count, no error, no share. Every site weighs the same, so no number of rows is told by a weight.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.network import local as _network_local
from workbench.federated.network.module import set_weights, weights
from workbench.federated.network.training import seed_of, trained
from workbench.federated.private import person_level, site_level
from workbench.federated.private.accounting import Release
from workbench.federated.secure import conversation
from workbench.federated.site import SiteError

PLAIN = (
    "How the weights of the shared network change when it is trained on the site's rows, with random noise that hides "
    "whether any single person (or, where so agreed, the whole site) took part. Each such answer is charged to the "
    "site's privacy budget."
)
LEAVES = Leaves(arrays={"change.*": "change of the network's weights, clipped, with noise"}, summed=True, private=True)
ASKED = (
    "privacy",
    "clip",
    "noise",
    "rate",
    "steps",
    "learning_rate",
    "size",
    "parts",
    "only",
)  # beside those of any round


def answer(site, ask: Ask) -> Answer:
    """Arrays of the ask: ``weights.*``, offset (T,), sigma (1,).

    Values: privacy ("person" or "site"), clip (C or S), noise (z), number (of the round, from 0), rounds, only
    (prefixes of the layers that change; none: all). Of persons: rate, steps, learning_rate, size. Of the site: epochs,
    proximal, parts. An ask about the same gets the same answer.
    """
    values = _checked(ask)
    parts, most = int(values.get("parts", 1)), min(site.policy.honest, conversation.MINIMUM)
    if parts > most:
        raise SiteError(f"noise shared among {parts} sites is refused; this site counts on {most} at most.")
    local = _network_local.of(site, ask)
    digest = _network_local.asked_digest(ask) + repr([ask.values.get(k) for k in ASKED])
    if local.answered is None or local.answered[0] != digest:
        local.answered = (digest, _change(site, local, ask, values))
    return Answer(
        local.train.height, local.answered[1], behind=local.behind, releases=_releases(values), together=parts
    )


def _change(site, local, ask: Ask, values: dict[str, float]) -> dict[str, np.ndarray]:
    sigma = float(ask.arrays["sigma"][0])
    module = local.module(sigma)
    shared = {k.removeprefix("weights."): a for k, a in ask.arrays.items() if k.startswith("weights.")}
    set_weights(module, shared)
    only = tuple(_rows.texts(ask, "only"))
    changing = [k for k in shared if not only or k.startswith(only)]
    if not changing:
        raise SiteError("only: no layer of the network begins so.")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in changing)
    if ask.values["privacy"] == "person":
        persons = person_level.of(local, ask.arrays["offset"], sigma)
        module.train()
        with torch.random.fork_rng(devices=[]):  # drop-out needs no secret: the noise hides whoever it fell on
            torch.manual_seed(seed_of(int(module.params["seed"]), f"{site.name} {ask.values['number']}"))
            person_level.train(
                module, persons, clip=values["clip"], noise=values["noise"], rate=values["rate"],
                steps=int(values["steps"]), learning_rate=values["learning_rate"], size=values["size"],
            )  # fmt: skip
        after = weights(module)
        change = {k: after[k] - shared[k] for k in changing}
    else:
        trained(module, local.rows(ask.arrays["offset"], sigma), ask, site.name)
        after = weights(module)
        change = site_level.clipped({k: after[k] - shared[k] for k in changing}, values["clip"])
        change = site_level.noised(change, values["noise"] * values["clip"] / math.sqrt(values["parts"]))
    return {f"change.{k}": a.astype(np.float32) for k, a in change.items()}


def _releases(values: dict[str, float]) -> tuple[Release, ...] | None:
    """What is charged; None without noise. Where a site adds a part of the noise, that of the sum: it leaves masked."""
    if not values["noise"]:
        return None
    if "rate" in values:
        return (Release(values["noise"], values["rate"], int(values["steps"]), "person"),)
    return (Release(values["noise"], unit="site"),)


def _checked(ask: Ask) -> dict[str, float]:
    """The numbers of the ask; raises SiteError for one that cannot be."""
    unit = ask.values.get("privacy")
    if unit not in ("person", "site"):
        raise SiteError(f"the unit of privacy is 'person' or 'site'; asked for {unit!r}.")
    wanted = ("clip", "noise", *(("rate", "steps", "learning_rate", "size") if unit == "person" else ("parts",)))
    values = {k: _rows.number(ask, k) for k in wanted}
    for key, value in values.items():
        whole = key in ("steps", "parts") and value != int(value)
        if not math.isfinite(value) or value < 0 or (value == 0 and key != "noise") or whole:
            raise SiteError(f"{key} of a private round cannot be {value!r}.")
    if values.get("rate", 1.0) > 1:
        raise SiteError(f"rate is the share of persons in a step, at most 1; asked for {values['rate']!r}.")
    return values
