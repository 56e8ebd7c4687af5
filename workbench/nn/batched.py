"""Layers that hold E members of an ensemble in one tensor, so that one pass trains them all.

y[e] = x[e] W[e] + b[e]          e = 1..E
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class BatchedLinear(nn.Module):
    """E linear maps at once: (E, N, i) -> (E, N, o), by one batched product.

    Parameters
    ----------
    members, n_in, n_out : E, i, o
    gain : initial weights are normal with standard deviation gain / sqrt(i); 0 starts at zero
    """

    def __init__(self, members: int, n_in: int, n_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, n_in, n_out) * (gain / math.sqrt(max(n_in, 1))))
        self.bias = nn.Parameter(torch.zeros(members, 1, n_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class BatchedEmbedding(nn.Module):
    """E tables of vectors: index (N,) -> (E, N, o). They start at zero, so an entry never trained adds nothing."""

    def __init__(self, members: int, entries: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, max(entries, 1), n_out))

    def forward(self, index: Tensor) -> Tensor:
        """``index`` of -1 (unknown) gives zeros."""
        known = (index >= 0).to(self.weight.dtype)[None, :, None]
        return self.weight[:, index.clamp(min=0)] * known
