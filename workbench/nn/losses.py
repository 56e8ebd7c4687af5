"""Losses for measurements of which some are only bounds.

Squared:  (y - m)^2 where y is exact; for a right-censored y (the truth lies above) only a prediction below it
          costs, for a left-censored y only one above it.
Tobit:    -log N(y | m, s) where y is exact, -log P(Y > y) or -log P(Y < y) where it is a bound
          (Tobin 1958, Econometrica 26:24-36).
"""

from __future__ import annotations

import torch
from torch import Tensor


def squared(prediction: Tensor, target: Tensor, censored: Tensor) -> Tensor:
    """Element-wise one-sided squared error. ``censored``: 0 exact, +1 truth above, -1 truth below."""
    error = prediction - target
    inside = ((censored > 0) & (error > 0)) | ((censored < 0) & (error < 0))
    return torch.where(inside, torch.zeros_like(error), error).square()


def tobit(prediction: Tensor, target: Tensor, censored: Tensor, sigma: Tensor | float) -> Tensor:
    """Element-wise negative log likelihood of a censored normal with standard deviation ``sigma``."""
    sigma = torch.as_tensor(sigma, dtype=prediction.dtype, device=prediction.device)
    z = (target - prediction) / sigma
    exact = 0.5 * z.square() + torch.log(sigma)
    sign = censored.to(z.dtype)
    # log of the normal tail beyond the bound: P(Y > y) = Phi(-z) for +1, P(Y < y) = Phi(z) for -1
    bound = -torch.special.log_ndtr(-z * sign)
    return torch.where(censored == 0, exact, bound)
