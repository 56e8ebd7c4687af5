"""Learn what goes with what: hide a part of every sample, and tell it from the rest (a masked autoencoder).

    z_e   = gelu(H_e gelu(fusion_e(y, q))),   x^_em = z_e D_em                   e: member, m: modality
    y_m   = ((x_m Q_m) * (1 - c_m)) Q_m' / (1 - hide),    q_m = p_m (1 - d_m)
    L_e   = sum_smi w_smi (((x^_em - x_m) Q_m)_si)^2 / sum_smi w_smi,   w_smi = p_sm max(d_sm, c_smi)

p_sm: is modality m of sample s there? d_sm: is all of it hidden (never the last one)? c_smi: is coordinate i hidden?
Only what is hidden and there costs. x: scores on principal axes, mean 0, so that telling 0 is telling the mean, and

    R^2 = 1 - sum w ((x^ - x) Q)^2 / sum w (x Q)^2

is the share of the hidden variance that is explained; the mean's is 0. Principal scores are uncorrelated: none says
anything of another, and hiding one would teach nothing within a modality. So coordinates are hidden in a basis Q_m, a
fixed orthogonal matrix drawn at random, in which they lean on each other as the features themselves do.

Source: Vincent et al. 2008, ICML (denoising autoencoders); He et al. 2022, CVPR (masked ones).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.nn.batched import BatchedLinear
from workbench.nn.fusion import SubsetFusion


class Hidden(NamedTuple):
    """What is hidden of N samples: ``coordinates`` {m: (N, f) bool} c, ``whole`` (N, M) bool d."""

    coordinates: dict[str, Tensor]
    whole: Tensor


class MaskedAutoencoder(nn.Module):
    """E members at once; ``fusion`` and ``hidden`` are the encoder, as ``predictors.drug_response`` has it.

    Parameters
    ----------
    members : E
    sizes : {modality: f_m}
    width, rank : of the two hidden layers; z has ``rank`` numbers
    gains : how loudly each modality speaks in the fusion
    hide : probability that a coordinate is hidden, in [0, 1)
    hide_modality : probability that a whole modality is hidden, in [0, 1)
    seed : of Q
    """

    def __init__(
        self,
        members: int,
        sizes: Mapping[str, int],
        width: int,
        rank: int,
        gains: Mapping[str, float] | None = None,
        hide: float = 0.3,
        hide_modality: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (0 <= hide < 1 and 0 <= hide_modality < 1 and hide + hide_modality > 0):
            raise ValueError(
                f"hide and hide_modality are probabilities below 1, not both 0; found {hide} and {hide_modality}."
            )
        self.names, self.sizes, self.hide, self.hide_modality = list(sizes), dict(sizes), hide, hide_modality
        self.fusion = SubsetFusion(members, sizes, width, gains, noise=0.0, drop=0.0)
        self.hidden = BatchedLinear(members, width, rank)
        self.decoders = nn.ModuleDict({m: BatchedLinear(members, rank, size) for m, size in sizes.items()})
        for i, (m, size) in enumerate(sizes.items()):
            draw = np.random.default_rng([seed, i, size]).normal(size=(size, size))
            self.register_buffer(f"turn_{m}", torch.from_numpy(np.linalg.qr(draw)[0].astype(np.float32)))

    def draw(self, presence: Tensor, generator: torch.Generator) -> Hidden:
        """What to hide of samples with ``presence`` (N, M)."""
        there = presence > 0
        whole = there & (torch.rand(presence.shape, generator=generator) < self.hide_modality)
        left = (there & ~whole).any(1, keepdim=True)
        whole = whole & left  # one modality stays to tell the others from
        coordinates = {
            m: torch.rand(len(presence), size, generator=generator) < self.hide for m, size in self.sizes.items()
        }
        return Hidden(coordinates, whole)

    def encode(self, x: Mapping[str, Tensor], presence: Tensor) -> Tensor:
        """z (E, N, rank) of samples of which nothing is hidden."""
        return F.gelu(self.hidden(F.gelu(self.fusion(x, presence))))

    def errors(self, x: Mapping[str, Tensor], presence: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Tensor]:
        """Squared errors of what is hidden and there (E, N, M), those of telling the mean (N, M), and how many."""
        turned = {m: x[m] @ getattr(self, f"turn_{m}") for m in self.names}
        seen = {
            m: (turned[m] * ~hidden.coordinates[m]) @ getattr(self, f"turn_{m}").T / (1.0 - self.hide)
            for m in self.names
        }
        z = self.encode(seen, presence * ~hidden.whole)
        error, naive, count = [], [], []
        for i, m in enumerate(self.names):
            w = (hidden.coordinates[m] | hidden.whole[:, i, None]) & (presence[:, i, None] > 0)
            away = self.decoders[m](z) @ getattr(self, f"turn_{m}") - turned[m]
            error.append((away.square() * w).sum(2))
            naive.append((turned[m].square() * w).sum(1))
            count.append(w.sum(1))
        return torch.stack(error, 2), torch.stack(naive, 1), torch.stack(count, 1)

    def loss(self, x: Mapping[str, Tensor], presence: Tensor, hidden: Hidden, learns: Tensor) -> Tensor:
        """Mean squared error of what is hidden and there; ``learns`` (E, N): does member e learn from sample s?"""
        error, _, count = self.errors(x, presence, hidden)
        weighed = learns.to(error.dtype)
        return (error.sum(2) * weighed).sum() / (weighed * count.sum(1)).sum().clamp(min=1.0)
