"""What a site learns an encoder from, and one round of it: all its training subjects, with responses or without.

Test subjects have no part in it. Member e never learns from part e of the persons, dealt as in ``network``: so each
subject has a member that has not seen it, and errors of that one are honest. Kept in the site's memory by the plan's
digest; never sent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench import modalities
from workbench.federated.messages import Ask
from workbench.federated.network.local import check_rule, features, part_of
from workbench.federated.network.module import one_cycle
from workbench.federated.network.plan import Plan, carried
from workbench.federated.pretraining.unlabelled import everyone, persons
from workbench.federated.site import Site, SiteError
from workbench.nn.masked import MaskedAutoencoder

MEMORY = "pretraining"


class Held:
    """Subjects of one site under one plan: n of them, S with responses first."""

    def __init__(self, site: Site, plan: Plan) -> None:
        check_rule(site)
        self.plan, self.digest, self.least = plan, plan.digest, site.policy.minimum_cell
        subjects = everyone(site)
        x, presence = features(site, plan, subjects)
        some = np.asarray(presence.any(1))
        if not some.any():
            raise SiteError("no training subject of this site has any of the modalities asked for.")
        self.subjects = [s for s, t in zip(subjects, some, strict=True) if t]
        self.labelled = int(np.isin(self.subjects, site.subjects).sum())
        self.x = {m: torch.from_numpy(v[some]) for m, v in x.items()}
        self.presence = torch.from_numpy(presence[some])
        self.person = persons(site.fold, self.subjects)
        self.part = torch.from_numpy(part_of(self.person, int(plan.params["members"]), int(plan.params["seed"])))
        self.answered: tuple[str, dict[str, np.ndarray]] | None = None
        views = site.memory.setdefault("views", {})
        views |= {f"encoder's {m}": v.numpy() for m, v in self.x.items()}  # what a check for rows compares with

    @property
    def learns(self) -> Tensor:
        """Does member e learn from subject s? Bool (E, n)."""
        return torch.arange(int(self.plan.params["members"]))[:, None] != self.part

    def held_out(self, module: MaskedAutoencoder, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Errors of the member that has not seen the subject, and of telling the mean: (n, M) each, float64."""
        with torch.no_grad():
            hidden = module.draw(self.presence, torch.Generator().manual_seed(seed))
            error, naive, _ = module.errors(self.x, self.presence, hidden)
        own = error[self.part, torch.arange(len(self.part))]
        return own.numpy().astype(np.float64), naive.numpy().astype(np.float64)

    def train(
        self, module: MaskedAutoencoder, number: int, rounds: int, epochs: int, seed: int, proximal: float = 0.0
    ) -> float:
        """Train ``module`` in place for round ``number`` of ``rounds``, ``epochs`` each; returns the mean loss.

        Parameters
        ----------
        proximal : mu of a pull towards the weights that the round began with
        """
        p, n = self.plan.params, len(self.subjects)
        learns, begun = self.learns, [w.detach().clone() for w in module.parameters()] if proximal else []
        optimizer = torch.optim.AdamW(
            module.parameters(), p["learning_rate"], weight_decay=p["weight_decay"], fused=True
        )
        hides = torch.Generator().manual_seed(seed + 1_000_003 * number)
        batches = -(-n // int(p["subjects"]))
        step, losses = number * epochs * batches, []
        for epoch in range(number * epochs, (number + 1) * epochs):
            order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n))
            for at in order.split(int(p["subjects"])):
                share, beta = one_cycle(step, rounds * epochs * batches)
                for group in optimizer.param_groups:
                    group["lr"], group["betas"] = share * p["learning_rate"], (beta, group["betas"][1])
                x, presence = {m: v[at] for m, v in self.x.items()}, self.presence[at]
                loss = module.loss(x, presence, module.draw(presence, hides), learns[:, at])
                losses.append(float(loss.detach()))
                if proximal:
                    away = [(w - b).square().sum() for w, b in zip(module.parameters(), begun, strict=True)]
                    loss = loss + 0.5 * proximal * torch.stack(away).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                step += 1
        return float(np.mean(losses))


def of(site: Site, ask: Ask) -> Held:
    """The site's Held for the ask's plan: the one it has, or made of the plan that came along.

    Raises
    ------
    SiteError
        It has none and none came (the text starts with ``plan.NEEDS``), or the site has not what the plan speaks of.
    """
    held = site.memory.get(MEMORY)
    if held is None or held.digest != ask.values.get("plan"):
        held = site.memory[MEMORY] = Held(site, carried(ask))
    return held


def built(plan: Plan, hide: float, hide_modality: float) -> MaskedAutoencoder:
    """An autoencoder of the plan's shape with the first weights of its seed; leaves the random generator as it was."""
    p = plan.params
    sizes = {m: plan.rotations[m].axes.shape[1] for m in plan.names}
    gains = {m: float(modalities.rooms.load("workbench.modalities", m).GAIN) for m in sizes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(p["seed"]))
        return MaskedAutoencoder(
            int(p["members"]), sizes, int(p["width"]), int(p["rank"]), gains, hide, hide_modality, int(p["seed"])
        )


def weights(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Everything that is trained, by name: float32, copies."""
    return {k: v.detach().numpy().copy() for k, v in module.named_parameters()}


@torch.no_grad()
def put(module: MaskedAutoencoder, values: dict[str, np.ndarray]) -> MaskedAutoencoder:
    """``module`` with these weights; a name or shape that is not its own raises SiteError."""
    known: dict[str, Any] = dict(module.named_parameters())
    for k, v in values.items():
        if k not in known or tuple(known[k].shape) != v.shape:
            raise SiteError(f"no weights of shape {v.shape} under the name that was asked with.")
        known[k].copy_(torch.from_numpy(np.ascontiguousarray(v)))
    return module
