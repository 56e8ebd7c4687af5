"""What a site is like, told from one update: works where kinds of persons respond unlike, not where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.attacks import property as properties
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy
from workbench.federated.robust.rehearsal import Plan, Plane
from workbench.federated.site import Site
from workbench.nn.scaling import standardise
from workbench.predictors._pairs import matrix
from workbench.splits import Split

SMALL = properties.Plan(sites=60, size=20)


def screen(unlike: float, persons: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, responses, and kinds whose features and responses differ by ``unlike`` standard deviations."""
    draw = np.random.default_rng([13, seed])
    kind = draw.random(persons) < 0.5
    z = draw.normal(size=(persons, 12)) + unlike * kind[:, None] * draw.normal(size=12)
    y = draw.normal(size=(persons, 6)) + unlike * kind[:, None] * draw.normal(size=6)
    y[draw.random(y.shape) < 0.2] = np.nan
    return z, y, kind


def test_a_site_of_mostly_one_kind_is_told_and_chance_is_not_beaten_without_a_difference() -> None:
    z, y, kind = screen(1.5)
    told = properties.attack(properties.linear_update(z, y), kind, SMALL)
    assert told.low > 0.9 and told.works and told.n == 60 and told.chance == 0.5  # type: ignore[operator]
    assert told.knows == "the site's update, and 150 persons of the attacker's own"
    z, y, kind = screen(0.0)
    none = properties.attack(properties.linear_update(z, y), kind, SMALL)
    assert none.low < 0.5 < none.high and not none.works  # type: ignore[operator]


def test_a_sum_over_sites_tells_less_than_the_sites_own_update() -> None:
    z, y, kind = screen(1.0)
    update = properties.linear_update(z, y)
    own, of_five, of_twenty = (
        properties.attack(update, kind, replace(SMALL, sites=120, together=k)) for k in (1, 5, 20)
    )
    assert own.low > 0.8 and own.value > of_five.value + 0.05 and of_five.value > of_twenty.value  # type: ignore[operator]
    assert "sum of the updates of 5 sites" in of_five.knows


def test_the_update_is_what_a_site_sends() -> None:
    fold = Split.make(toy.write(), "unseen subject", endpoint="ln_ic50", folds=5).fold(0)
    plane = Plane.of(fold, Plan(axes=8))
    arrays = {"weights": np.zeros((9, len(plane.treatments))), "axes": plane.axes, "mean": plane.mean,
              "sd": plane.sd, "decay": plane.decay}  # fmt: skip
    ask = Ask("linear_step", 0, arrays, {"treatments": plane.treatments, "modality": "expression",
                                         "plane": plane.name})  # fmt: skip
    name, held = next(iter(sharing.at_random(fold, 3).items()))
    site = Site(name, sharing.local(fold, held), Policy(minimum_rows=1, minimum_cell=1))
    sent = site.answer(ask).arrays["change"]
    x, there, _ = site.block("expression", site.subjects)
    subjects = [s for s, t in zip(site.subjects, there, strict=True) if t]
    z = standardise(x[there], plane.mean, plane.sd).astype(np.float64) @ plane.axes
    made = properties.linear_update(z, matrix(site.fold.train, subjects, plane.treatments))
    # the site divides by rows for each treatment, this by rows
    assert np.allclose(made(np.arange(len(z))) * len(plane.treatments), sent, rtol=1e-9)


def test_sites_are_dealt_as_said_and_from_persons_the_attacker_has_not() -> None:
    kind = np.arange(100) < 50
    sites, label = properties.deal(kind, np.arange(100), SMALL, np.random.default_rng(0))
    assert [int(kind[s].sum()) for s in sites] == [14 if d else 6 for d in label]
    assert label.sum() == 30 and all(len(set(s)) == 20 for s in sites)
    with pytest.raises(ValueError, match=r"needs 14 of either.*smaller sites"):
        properties.deal(kind, np.arange(45, 100), SMALL, np.random.default_rng(0))
