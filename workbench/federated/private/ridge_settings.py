"""How a private ridge is fitted: public numbers, none of which is chosen by a site's data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from workbench.federated.private.accounting import PrivacyError
from workbench.splits import Fold
from workbench.text import nearest


@dataclass(frozen=True)
class Settings:
    """How the private ridge is fitted.

    Attributes
    ----------
    epsilon, delta : what the whole training may cost a person; sites may allow less
    honest : sites of a secure sum, each one included, that share the noise; 1: each adds all of it
    modality, endpoint : inputs and output; endpoint None takes that of most sites
    public : a study of this server (a name or folder, or a Fold, of which the training rows count) that gives means,
        spreads and directions; "" has them learnt privately
    sketch : directions of the Gram matrix, d
    axes : most directions that are kept, k
    penalty : of the ridge, where rows have length 1
    feature_centre, feature_spread, feature_deviation : around where the values of all features lie, how far from there,
        and how far from their own mean; public guesses, used without ``public``
    response_centre, response_spread : where responses of all treatments lie, roughly
    residual_spread : how far responses lie from their treatment's level
    clip : length at which a row is clipped, in units of what those guesses give
    seed : of the random directions, which are public
    least, share : fewest sites; least share of the common features that a site has to have
    """

    epsilon: float = 3.0
    delta: float = 1e-5
    honest: int = 1
    modality: str = "expression"
    endpoint: str | None = None
    public: str | Fold = ""
    sketch: int = 32
    axes: int = 8
    penalty: float = 1.0
    feature_centre: float = 0.0
    feature_spread: float = 1.0
    feature_deviation: float = 1.0
    response_centre: float = 0.0
    response_spread: float = 3.0
    residual_spread: float = 1.3
    clip: float = 1.0
    seed: int = 0
    least: int = 1
    share: float = 0.8

    def __post_init__(self) -> None:
        for key, least in (("honest", 1), ("sketch", 2), ("axes", 1), ("least", 1)):
            if getattr(self, key) < least:
                raise PrivacyError(f"{key} should be at least {least}, found {getattr(self, key)}.")
        above = ("epsilon", "penalty", "feature_spread", "feature_deviation", "response_spread", "residual_spread",
                 "clip")  # fmt: skip
        for key in above:
            if not 0 < getattr(self, key) < np.inf:
                raise PrivacyError(f"{key} should be a number above 0, found {getattr(self, key)}.")
        if not 0 < self.delta < 1:
            raise PrivacyError(f"delta should be between 0 and 1, found {self.delta}.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """From a mapping; what every method gets (rounds, predictor) is passed over, anything else unknown is not."""
        known = {f.name for f in fields(cls)}
        for key in set(given) - known - {"rounds", "predictor"}:
            raise PrivacyError(f"a private ridge has no setting {key!r}.{nearest(key, sorted(known))}")
        return cls(**{k: v for k, v in given.items() if k in known})


def settings() -> dict[str, Any]:
    """The settings a federation file may give, with their defaults."""
    return {f.name: getattr(Settings(), f.name) for f in fields(Settings)}
