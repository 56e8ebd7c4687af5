"""Fusion that takes any subset of modalities, chosen sample by sample.

    h = (1 / sqrt(sum_m p_m g_m^2)) * sum_m p_m g_m encoder_m(x_m)        p_m in {0, 1}: is modality m there?

Samples without any modality get h = 0. During training each present modality is dropped with
probability ``drop`` (never the last one), so that every subset has been seen before it is met.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.nn.batched import BatchedLinear


class SubsetFusion(nn.Module):
    """Encode each modality linearly and add those that are there: {name: (N, f)} -> (E, N, width).

    Parameters
    ----------
    members : E
    sizes : features of each modality
    width : width of the fused vector
    gains : how loudly each modality speaks at the start (default 1)
    noise : drop-out on the inputs
    drop : probability of dropping a whole modality of a sample in training
    """

    gain: Tensor

    def __init__(
        self,
        members: int,
        sizes: Mapping[str, int],
        width: int,
        gains: Mapping[str, float] | None = None,
        noise: float = 0.1,
        drop: float = 0.1,
    ) -> None:
        super().__init__()
        self.names = list(sizes)
        self.members, self.width, self.noise, self.drop = members, width, noise, drop
        self.encoders = nn.ModuleDict({name: BatchedLinear(members, size, width) for name, size in sizes.items()})
        gain = torch.tensor([(gains or {}).get(name, 1.0) for name in self.names])
        self.register_buffer("gain", gain)

    def forward(self, x: Mapping[str, Tensor], presence: Tensor) -> Tensor:
        """``presence`` is (N, M) in the order of ``names``."""
        presence = presence.to(self.gain.dtype)
        if self.training and self.drop > 0 and len(self.names) > 1:
            kept = presence * (torch.rand_like(presence) >= self.drop)
            presence = torch.where(kept.sum(1, keepdim=True) > 0, kept, presence)
        weight = presence * self.gain
        weight = weight / weight.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)
        total = torch.zeros(self.members, len(presence), self.width, dtype=weight.dtype, device=weight.device)
        for m, name in enumerate(self.names):
            value = x[name].expand(self.members, -1, -1)
            total = total + weight[:, m, None] * self.encoders[name](F.dropout(value, self.noise, self.training))
        return total
