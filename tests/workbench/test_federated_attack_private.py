"""Membership of a ridge of the same sites with and without noise: the attack works without, and noise takes it away."""

from __future__ import annotations

from typing import Any

import pytest

from tests import toy
from workbench.federated import spec
from workbench.federated.attacks import membership, shadows
from workbench.federated.attacks.figures import AUC, Figure


def attacked(method: str, **settings: Any) -> dict[str, Figure]:
    """{attack: its AUC}, on models trained by three sites in secure sums."""
    policy = {"minimum_rows": 5, "minimum_cell": 1, "honest": 3}
    federation = spec.of({
        "name": "private", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 5,
        "only": [0], "predictors": ["ridge"],
        "federation": {"method": method, "secure": True, "least": 3, "sites": {"random": 3}, "settings": settings,
                       "policy": policy},
    })  # fmt: skip
    trainer = shadows.Federated(federation, 0)
    found = shadows.run(trainer, len(trainer.persons), 4, groups=trainer.site).figures()
    return {f.attack.removeprefix("membership, "): f for f in found if f.figure == AUC}


@pytest.mark.slow
def test_noise_takes_away_what_an_exact_ridge_gives_away() -> None:
    toy.write(subjects=400)
    exact, private = attacked("ridge", axes=32, parts=2), attacked("private_ridge", epsilon=10.0, honest=3)
    for attack in (membership.LOSS, membership.ONLINE):
        assert exact[attack].low > 0.58, exact[attack]  # type: ignore[operator]
        assert private[attack].value < exact[attack].value - 0.04, private[attack]  # its noise comes from no seed
        assert private[attack].low < 0.56  # type: ignore[operator]
