"""What were one person's values? Worked out of what a site sends that trained on this person alone.

    linear_step    change_d = (z, 1) y_d c     the last row is the responses, each column divided by it the features
    first layer    dL/dW = x dL/dh', dL/db = dL/dh, so x = dW / db for any unit: exact, whatever the rest of the network
    matching       x, y = argmin 1 - cos(gradient of (x, y), what was sent), started at random

Sources: Phong et al. 2018, IEEE TIFS 13:1333, section III (dW / db); Zhu, Liu and Han 2019, Deep Leakage from
Gradients; Geiping et al. 2020, Inverting Gradients (cosine). A site sends what its optimiser did in a round, not a
gradient: one step of Adam is little more than the gradient's signs (Kingma and Ba 2015), and signs are what is found.

A recovery is told as deviations from the mean person, who is the guess of somebody who saw nothing: correlation 0,
relative error 1. No policy answers for one person unless it is lowered; this shows what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any

import numpy as np

from workbench.federated.attacks.figures import CORRELATION, Figure
from workbench.federated.private import site_level

DRAWS = 1000
STEPS, RATE = 400, 0.1  # of the matching: Adam's, with signs of gradients as Geiping et al. have it

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Recovered:
    """What was worked out, beside the truth and the mean person, each (values,)."""

    found: np.ndarray
    true: np.ndarray
    naive: np.ndarray

    @property
    def correlation(self) -> float:
        """Of deviations from the mean person; 0 where nothing varies."""
        a, b = self.found - self.naive, self.true - self.naive
        length = np.sqrt((a @ a) * (b @ b))
        return float(a @ b / length) if length > 0 else 0.0

    @property
    def error(self) -> float:
        """|found - true| / |naive - true|; 1: no better than the mean person."""
        return float(np.linalg.norm(self.found - self.true)) / max(float(np.linalg.norm(self.naive - self.true)), 1e-30)

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 % bootstrap of the correlation over the values."""
        rng = np.random.default_rng([seed, 2018])
        at = rng.integers(len(self.true), size=(DRAWS, len(self.true)))
        a, b = (self.found - self.naive)[at], (self.true - self.naive)[at]
        length = np.sqrt((a * a).sum(1) * (b * b).sum(1))
        low, high = np.quantile((a * b).sum(1) / np.where(length > 0, length, 1), [0.025, 0.975])
        return float(low), float(high)

    def figure(self, attack: str, knows: str, site: str | None = None) -> Figure:
        low, high = self.interval()
        return Figure(
            f"inversion, {attack}", knows, CORRELATION, self.correlation, low, high, 0.0, len(self.true), site
        )


def joined(found: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> Recovered:
    """Several persons as one recovery, each a deviation from the mean person (0) and of length 1."""

    def unit(a: np.ndarray) -> np.ndarray:
        return a / max(float(np.linalg.norm(a)), 1e-30)

    a, b = (np.concatenate([unit(v) for v in some]) for some in (found, true))
    return Recovered(a, b, np.zeros_like(a))


def of_linear(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(features (k,) on the shared axes, responses (t,) up to one factor) of one person's ``linear_step`` from 0.

    change : (k + 1, t), of weights that were 0; the last row is each treatment's level

    Every column is a copy of the features, times the response: the best one is their mean weighted by its square.
    """
    level = change[-1]
    if not (level @ level) > 0:
        raise ValueError("nothing was changed; there is nothing to work out.")
    return change[:-1] @ level / (level @ level), level


def of_first_layer(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Input (f,) of a linear layer, of the gradients of its weight (..., f, h) and bias (..., 1, h) or (..., h).

    Units with the largest |dL/db| speak most: x = sum dW db / sum db^2.
    """
    w = np.moveaxis(weight, -2, 0).reshape(weight.shape[-2], -1)
    b = bias.reshape(-1)
    if not (b @ b) > 0:
        raise ValueError("no unit of the first layer learnt anything; there is nothing to work out.")
    return w @ b / (b @ b)


def unsigned(change: np.ndarray, rate: float, before: np.ndarray, decay: float, tiny: float = 1e-8) -> np.ndarray:
    """Gradient behind the first step of AdamW, as far as its float32 change tells: signs, and sizes near ``tiny``.

    change = -rate (g / (|g| + tiny) + decay before)
    """
    u = np.clip(-(change.astype(np.float64) / rate + decay * before), -1 + 1e-6, 1 - 1e-6)
    return tiny * u / (1 - np.abs(u))


def matched(
    gradient: Callable,
    sent: Sequence[np.ndarray],
    shapes: Sequence[tuple[int, ...]],
    steps: int = STEPS,
    seed: int = 0,
    say: Callable[[float, str], None] | None = None,
) -> list[np.ndarray]:
    """Inputs whose gradient points where ``sent`` does.

    Parameters
    ----------
    gradient : (tensors of ``shapes``) -> tensors as ``sent``; differentiable
    sent : gradients as the server has them
    shapes : of what is looked for
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        looked = [torch.randn(s, requires_grad=True) for s in shapes]
    wanted = [torch.from_numpy(np.ascontiguousarray(s, dtype=np.float32)) for s in sent]
    norm = torch.linalg.vector_norm(torch.cat([w.ravel() for w in wanted]))
    optimiser = torch.optim.Adam(looked, RATE)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps * 3 // 8, steps * 5 // 8, steps * 7 // 8], 0.1)
    for step in range(steps):
        optimiser.zero_grad()
        made = gradient(*looked)
        along = torch.stack([(m * w).sum() for m, w in zip(made, wanted, strict=True)]).sum()
        length = torch.sqrt(torch.stack([(m * m).sum() for m in made]).sum() + 1e-30)
        (1 - along / (length * norm.clamp(min=1e-30))).backward()
        for tensor in looked:
            assert tensor.grad is not None
            tensor.grad.sign_()
        optimiser.step()
        schedule.step()
        if say is not None and step % 50 == 0:
            say(step / steps, "gradients are matched")
    return [tensor.detach().numpy() for tensor in looked]


def privatise(change: Arrays, clip: float, noise: float, draw: Callable[[int], bytes] = token_bytes) -> Arrays:
    """What is seen of one unit's change under differential privacy: cut to length ``clip``, noise of sd noise clip."""
    return site_level.noised(site_level.clipped(change, clip), noise * clip, draw)


def gradient_of(module: Any, presence: np.ndarray, part: int) -> Callable:
    """(x of each modality (1, f) ..., targets (t,)) -> gradients of a DrugResponse's weights, differentiable.

    One person measured with every treatment; no drop-out, whose masks nobody knows.
    """
    import torch

    module.eval()
    parameters = [p for p in module.parameters() if p.requires_grad]
    known = torch.arange(module.identity.weight.shape[1])
    there = torch.from_numpy(np.asarray(presence, dtype=np.float32).reshape(1, -1))

    def gradient(*given: Any) -> Any:
        x, target = dict(zip(module.fusion.names, given[:-1], strict=True)), given[-1]
        f = module(x, there, known, module.structure)[:, 0]
        learns = (torch.arange(len(f)) != part).float()[:, None]
        loss = ((f - target) ** 2 * learns).sum() / (learns.sum() * f.shape[1])
        return torch.autograd.grad(loss, parameters, create_graph=True)

    return gradient


def of_round(changes: Arrays, weights: Arrays, params: Mapping[str, Any], steps: int, modality: str) -> np.ndarray:
    """Input (f,) of a DrugResponse's first layer, of one person's ``network_round`` of one step.

    Parameters
    ----------
    changes : "change.*" of the reply, divided by the share
    weights : "weights.*" of the ask
    params : of the DrugResponse
    steps : of the whole training, which set the first step's rate
    """
    from workbench.federated.network.module import one_cycle

    rate = one_cycle(0, steps)[0] * params["learning_rate"]
    w, b = (f"fusion.encoders.{modality}.{k}" for k in ("weight", "bias"))
    grad = [
        unsigned(changes[f"change.{k}"], rate, weights[f"weights.{k}"].astype(np.float64), params["weight_decay"])
        for k in (w, b)
    ]
    return of_first_layer(*grad)
