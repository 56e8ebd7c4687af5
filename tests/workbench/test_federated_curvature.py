"""The rule that watches how sites answer the model's moves: planted liars named, honest sites left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.network import fit as network
from workbench.federated.robust import rules as robust
from workbench.federated.robust.curvature import CONVICTS, MOVE, SKETCH, Curvature, median_of_mixed
from workbench.federated.robust.faults import mirrored
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.splits import Split

pytestmark = pytest.mark.shared_home

NAMES = [f"site {i}" for i in range(10)]
Lie = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


class Quadratic:
    """Ten sites that pull the model to optima of their own, which differ more than they have in common.

    u_i = H_i (w_i - w) / 2, H_i diagonal and positive, w_i = 1 + 3 noise; liars are the last ones.
    """

    def __init__(self, seed: int = 0, size: int = 400, unlike: float = 3.0) -> None:
        draw = np.random.default_rng(seed)
        self.slope = draw.uniform(0.4, 1.0, (10, size))
        self.optimum = 1 + unlike * draw.normal(size=(10, size))
        self.noise = draw.normal(size=(60, 10, size))

    def best(self, bad: int) -> np.ndarray:
        """Where the honest alone would end."""
        h, o = self.slope[: 10 - bad], self.optimum[: 10 - bad]
        return (h * o).sum(axis=0) / h.sum(axis=0)

    def run(
        self, rule: Any, bad: int = 0, lie: Lie | None = None, rounds: int = 20, noise: float = 0.0, w: Any = None,
        first: int = 0, names: Sequence[str] = NAMES,
    ) -> tuple[np.ndarray, list[set[str]]]:  # fmt: skip
        """The model after the rounds, and who had been convicted in each."""
        w = np.zeros(self.optimum.shape[1]) if w is None else w
        told = []
        for number in range(first, first + rounds):
            u = 0.5 * self.slope * (self.optimum - w) + noise * self.noise[number]
            if lie is not None:
                u[10 - bad :] = lie(number, u[10 - bad :], u[: 10 - bad])
            made = rule([{"w": x} for x in u], np.ones(10), list(names))
            w = w + made.arrays["w"]
            told.append({names[i] for i, why in made.set_aside.items() if "for good" in why})
        return w, told


LIES: dict[str, Lie] = {
    "sign": lambda number, own, honest: -own,
    "late": lambda number, own, honest: -10 * own if number >= 10 else own,
    "inner product": lambda number, own, honest: np.tile(-0.5 * honest.mean(axis=0), (len(own), 1)),
    "drift": lambda number, own, honest: (1 - number / 5) * own,
}


def alternating(number: int, own: np.ndarray, honest: np.ndarray) -> np.ndarray:
    return -10 * own if number % 2 else own


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("how", [*LIES, "alternating"])
@pytest.mark.parametrize("bad", [1, 4])
def test_who_answers_the_wrong_way_is_named_and_has_no_say(how: str, bad: int, seed: int) -> None:
    problem, lie = Quadratic(seed), (LIES | {"alternating": alternating})[how]
    w, told = problem.run(robust.make("curvature", bad), bad, lie, rounds=30)
    liars = set(NAMES[10 - bad :])
    assert all(names <= liars for names in told)
    assert told[-1] == liars or how == "alternating"  # every second round it is far off, and not heard
    astray = np.abs(w - problem.best(bad)).mean()
    assert astray < (0.3 if how == "alternating" else 0.01)
    if bad == 4:
        swayed, _ = problem.run(robust.make("mean"), bad, lie, rounds=30)
        assert np.abs(swayed - problem.best(bad)).mean() > 10 * astray


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_honest_sites_are_left_alone(noise: float) -> None:
    for seed in range(6):
        rule = Curvature(2)
        _, told = Quadratic(seed).run(rule, rounds=30, noise=noise)
        assert not set().union(*told), seed
        assert max(rule.evidence.values()) < CONVICTS


def test_a_liar_that_turns_honest_stays_aside_and_it_needs_no_number_told() -> None:
    rule = Curvature(0)
    _, told = Quadratic().run(rule, 2, lambda number, own, honest: -own if number < 8 else own, rounds=20)
    assert told[7] == told[-1] == {"site 8", "site 9"} and told[0] == set()


def test_never_more_than_a_minority_is_convicted() -> None:
    rule = Curvature(1)
    rule.evidence = dict.fromkeys(NAMES, 9.0)
    _, told = Quadratic().run(rule, rounds=1)
    assert len(told[0]) == 4


def test_what_was_put_back_goes_on_as_if_never_stopped() -> None:
    problem, lie = Quadratic(), LIES["late"]
    whole = Curvature(2)
    w, told = problem.run(whole, 2, lie, rounds=16)
    before = Curvature(2)
    half, _ = problem.run(before, 2, lie, rounds=12)
    again = Curvature(2)
    again.evidence, again.seen = dict(before.evidence), {k: a.copy() for k, a in before.seen.items()}
    on, later = problem.run(again, 2, lie, rounds=4, w=half, first=12)
    np.testing.assert_array_equal(on, w)
    assert later == told[12:] and again.evidence == whole.evidence and set(again.seen) == {*NAMES, MOVE}
    fresh = Curvature(2)
    problem.run(fresh, 2, lie, rounds=4, w=half, first=12)
    assert fresh.evidence != whole.evidence  # the memory does matter


def test_large_updates_are_remembered_in_few_numbers() -> None:
    rule, draw = Curvature(), np.random.default_rng(0)
    base = draw.normal(size=30_000)
    updates = [{"a": base + draw.normal(size=30_000)} for _ in range(4)]
    sketch = rule.sketches(updates)
    assert sketch.shape == (4, SKETCH)
    exact = np.array([[float(u["a"] @ v["a"]) for v in updates] for u in updates])
    np.testing.assert_allclose(sketch @ sketch.T, exact, atol=5 * 60_000 / np.sqrt(SKETCH))
    np.testing.assert_array_equal(sketch, Curvature().sketches(updates))  # the same in every process
    problem = Quadratic(size=3 * SKETCH)
    _, told = problem.run(robust.make("curvature", 2), 2, LIES["late"], rounds=16)
    assert told[-1] == {"site 8", "site 9"} and not told[9]


def test_names_not_places_are_held_against() -> None:
    rule, problem = Curvature(1), Quadratic()
    problem.run(rule, 1, LIES["sign"], rounds=8)
    u = [{"w": 0.5 * h * o} for h, o in zip(problem.slope, problem.optimum, strict=True)]
    assert 0 in rule(u[::-1], np.ones(10), NAMES[::-1]).set_aside
    gone = rule(u[:9], np.ones(9), NAMES[:9])  # the convicted one is away, and nobody takes its place
    assert not [why for why in gone.set_aside.values() if "for good" in why]
    assert set(rule.seen) == {*NAMES[:9], MOVE} and rule.evidence["site 9"] >= CONVICTS
    rule(u[:8], np.ones(8))  # without names, what was seen by name means nothing
    assert set(rule.seen) == {*map(str, range(8)), MOVE} and not rule.evidence
    bare = Curvature(1)  # by position, for as long as nobody is missing
    for number in range(12):
        told = bare([{"w": (-1 if i == 9 else 1) * 0.9**number * x["w"]} for i, x in enumerate(u)], np.ones(10))
    assert [i for i, why in told.set_aside.items() if "for good" in why] == [9]


def test_another_model_is_not_compared_with_the_last() -> None:
    rule = Curvature(1)
    Quadratic().run(rule, 1, LIES["sign"], rounds=3)
    held = dict(rule.evidence)
    Quadratic(size=50).run(rule, rounds=1)
    assert rule.evidence == held


def test_colluders_near_the_mean_are_left_out_of_the_mixes() -> None:
    """One lie within the spread of the honest: nearer to each than they are to each other, where all is noise."""
    draw = np.random.default_rng(0)
    honest = 0.1 + draw.normal(size=(6, 2000))
    lie = honest.mean(axis=0) - honest.std(axis=0)
    updates = [{"a": x} for x in (*honest, *[lie] * 4)]
    made, part, told = median_of_mixed(updates, 4)
    np.testing.assert_allclose(made["a"], honest.mean(axis=0), atol=1e-12)
    assert set(told) == {6, 7, 8, 9} and part[:6].min() > part[6:].max()
    assert robust.make("median", 4, mix=True)(updates, np.ones(10)).arrays["a"].mean() < -0.1


def test_what_cannot_be_is_refused() -> None:
    updates = [{"a": np.ones(3)} for _ in range(4)]
    with pytest.raises(robust.RobustError, match="curvature: 4 sites cannot outvote 2"):
        robust.make("curvature", 2)(updates, np.ones(4))
    with pytest.raises(robust.RobustError, match="-1"):
        robust.make("curvature", -1)(updates, np.ones(4))
    updates[2] = {"a": np.array([1.0, np.nan, 1.0])}
    with pytest.raises(robust.RobustError, match="update 2 is not finite"):
        robust.make("curvature", 1)(updates, np.ones(4))
    with pytest.raises(robust.RobustError, match=r"there are bulyan, .*curvature"):
        robust.make("curvatur")
    same = [{"a": np.ones(3)} for _ in range(4)]
    rule = robust.make("curvature", 1)
    for _ in range(3):
        np.testing.assert_allclose(rule(same, np.ones(4)).arrays["a"], 1)


@pytest.mark.slow
@toy.lightning_warnings
def test_a_network_names_who_turns_labels_round_and_nobody_else(_module_home: object) -> None:
    """In one round cosines overlap with the honest ones'; over many rounds some of the liars are told, not all."""
    study = toy.write(subjects=300)
    fold = Split.make(study, "unseen subject", endpoint="ln_ic50", folds=5, seed=1).fold(0)
    parameters = {"members": 2, "width": 16, "rank": 4, "subjects": 8, "learning_rate": 1e-2,
                  "modalities": ["expression"], "structure": False}  # fmt: skip
    settings = {"rounds": 16, "local_epochs": 2, "axes": 12, "least": 2, "parameters": parameters}
    liars = {"site 2", "site 3", "site 4"}

    def named(lie: bool) -> set[str]:
        sites: list[Any] = [Site(n, sharing.local(fold, s)) for n, s in sharing.at_random(fold, 10).items()]
        if lie:
            sites = [mirrored(s) if s.name in liars else s for s in sites]
        model = network.fit(Inline(sites), settings, combine=robust.make("curvature", 3))
        return {n for told in model.rounds_ for n, why in told["set_aside"].items() if "for good" in why}

    assert named(lie=False) == set()
    found = named(lie=True)
    assert found and found <= liars
