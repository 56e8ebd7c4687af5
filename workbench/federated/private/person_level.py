"""DP-SGD in which the unit is a person, with all of the person's samples and treatments.

    g_i = grad L_i(w),   L_i = mean loss over the rows of person i and the members that learn from them
    w  <- w - eta / (q N) ( sum_{i in B} g_i min(1, C / |g_i|) + noise ),   noise ~ N(0, (z C)^2)

B: a Poisson sample, each person in it with probability q. N: a public number that stands for the site's persons; were
it their count, the size of the step would tell it. Taking a person away changes the sum by at most C, so a step is a
Gaussian mechanism of noise z on a Poisson sample of rate q. A person whose gradient is no number counts as zero.
Source: Abadi et al. 2016, Deep learning with differential privacy, CCS. Weight decay and momentum are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from workbench.federated.needed import need
from workbench.federated.private import noise as _noise
from workbench.nn.losses import squared, tobit

if TYPE_CHECKING:
    from workbench.federated.network.local import Local
    from workbench.predictors.drug_response import DrugResponse

NUMBERS = 2**24  # of gradients held at once
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Persons:
    """P persons with up to K samples and up to R rows each, filled up with nothing.

    ``x`` {modality: (P, K, f)}, ``presence`` (P, K, M); of each row ``sample`` (its place among K), ``drug``,
    ``target``, ``censored`` and ``there`` (is it a row?), all (P, R); ``part`` (P,): the member not to learn from them.
    """

    x: dict[str, Tensor]
    presence: Tensor
    sample: Tensor
    drug: Tensor
    target: Tensor
    censored: Tensor
    there: Tensor
    part: Tensor

    def __len__(self) -> int:
        return len(self.part)

    def at(self, chosen: np.ndarray) -> Persons:
        """Those at the places ``chosen``."""
        i = torch.from_numpy(np.asarray(chosen, dtype=np.int64))
        x = {m: v[i] for m, v in self.x.items()}
        return Persons(x, *(getattr(self, f.name)[i] for f in fields(self)[1:]))


def of(local: Local, offset: np.ndarray, sigma: float) -> Persons:
    """The training rows of ``local`` by person; targets as ``Local.rows`` has them."""
    rows = local.rows(offset, sigma)
    who, person = np.unique(local.train["person"].to_numpy(), return_inverse=True)
    order = np.argsort(person, kind="stable")
    first = np.searchsorted(person[order], np.arange(len(who) + 1))
    mine = [order[a:b] for a, b in pairwise(first)]
    samples = [np.unique(local.subject[i], return_inverse=True) for i in mine]
    table = np.zeros((len(who), max(len(i) for i in mine)), dtype=np.int64)  # number of each row
    place, there = table.copy(), np.zeros(table.shape, dtype=np.float32)
    held = np.zeros((len(who), max(len(s) for s, _ in samples)), dtype=np.int64)
    for p, (i, (own, at)) in enumerate(zip(mine, samples, strict=True)):
        table[p, : len(i)], place[p, : len(i)], there[p, : len(i)], held[p, : len(own)] = i, at, 1.0, own
    pick = torch.from_numpy(table)
    return Persons(
        {m: v[torch.from_numpy(held)] for m, v in rows.x.items()},
        rows.presence[torch.from_numpy(held)],
        torch.from_numpy(place),
        rows.treatment[pick],
        rows.target[pick],
        rows.censored[pick],
        torch.from_numpy(there),
        rows.part[torch.from_numpy(table[:, 0])],
    )


def gradients(module: DrugResponse, persons: Persons) -> Gradients:
    """{weight: (P, *shape)}: gradient of each person's mean loss at the module's weights; of those that may change."""
    weights = {k: v.detach() for k, v in module.named_parameters() if v.requires_grad}
    if not len(persons):
        return {k: torch.zeros(0, *v.shape) for k, v in weights.items()}
    known = torch.arange(module.identity.weight.shape[1])
    members = torch.arange(int(module.params["members"]))
    tobits = module.params["loss"] == "tobit"

    def loss(weights, x, presence, sample, drug, target, censored, there, part) -> Tensor:
        plane = functional_call(module, weights, (x, presence, known, module.structure))
        f = plane[:, sample, drug]
        size = tobit(f, target, censored, 1.0) if tobits else squared(f, target, censored)
        learns = (members != part).to(f.dtype)[:, None] * there
        return (size * learns).sum() / learns.sum().clamp(min=1)

    each: Callable[..., Gradients] = vmap(grad(loss), in_dims=(None, *([0] * 8)), randomness="different")
    return each(weights, *(getattr(persons, f.name) for f in fields(persons)))


def train(
    module: DrugResponse,
    persons: Persons,
    *,
    clip: float,
    noise: float,
    rate: float,
    steps: int,
    learning_rate: float,
    size: float,
    draw: _noise.Bytes = token_bytes,
) -> None:
    """``steps`` of the formula above on the module's weights.

    Parameters
    ----------
    clip, noise, rate, learning_rate, size : C, z, q, eta, N
    draw : gives random bytes; only tests give another than the operating system's
    """
    optimizer = _optimizer(module, clip, noise, rate * size, learning_rate, draw)
    named = {k: w for k, w in module.named_parameters() if w.requires_grad}
    at_once = max(NUMBERS // sum(w.numel() for w in named.values()), 1)
    for _ in range(steps):
        chosen = _noise.sampled(len(persons), rate, draw)
        pieces = [chosen[i : i + at_once] for i in range(0, len(chosen), at_once)] or [chosen]
        for last, piece in zip([*[False] * (len(pieces) - 1), True], pieces, strict=True):
            found = gradients(module, persons.at(piece))
            for k, g in _finite(found).items():
                named[k].grad_sample = g  # type: ignore[attr-defined]
            optimizer.signal_skip_step(do_skip=not last)
            optimizer.step()
            optimizer.zero_grad()


def _finite(found: Gradients) -> Gradients:
    """Zeros for a person of whose gradient any number is none: it would tell that the person is there."""
    good = torch.stack([torch.isfinite(g.flatten(1)).all(1) for g in found.values()]).all(0)
    if bool(good.all()):
        return found
    return {k: torch.where(good.view(-1, *([1] * (g.dim() - 1))), g, torch.zeros(())) for k, g in found.items()}


def _optimizer(
    module: DrugResponse, clip: float, noise: float, expected: float, learning_rate: float, draw: _noise.Bytes
) -> Any:
    """Opacus' optimiser, which clips and adds; its noise is drawn by us (its own secure mode needs torchcsprng)."""
    optimizers: Any = need("differential privacy of a network", "opacus.optimizers")

    class Noised(optimizers.DPOptimizer):
        def add_noise(self) -> None:
            sd = self.noise_multiplier * self.max_grad_norm
            for p in self.params:
                drawn = torch.from_numpy(_noise.gaussian(tuple(p.shape), sd, draw)) if sd > 0 else 0.0
                p.grad = (p.summed_grad + drawn).view_as(p).to(p.dtype)

    return Noised(
        torch.optim.SGD([w for w in module.parameters() if w.requires_grad], learning_rate),
        noise_multiplier=noise,
        max_grad_norm=clip,
        expected_batch_size=expected,
    )
