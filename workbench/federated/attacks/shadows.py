"""The game that membership is measured by: one model of half of the persons, shadow models of other halves.

    target    trained on a random half of the persons; the other half was left out
    shadows   in pairs: a random half, and its complement, so that each person is in half of them

Halves are drawn within groups (sites), so that each site keeps half of its persons. A trainer is a function of who is
seen: ``ClosedRidge`` of plain tables, or ``Federated``: the federation's own method over its own sites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from workbench.federated import policy as policies
from workbench.federated import sharing, task
from workbench.federated.attacks import membership
from workbench.federated.attacks.figures import Figure
from workbench.federated.messages import Value
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.federated.spec import Federation
from workbench.federated.state import State
from workbench.nn import kernel_ridge
from workbench.nn.scaling import fit_rotation
from workbench.predictors._pairs import matrix
from workbench.splits import Fold

Trainer = Callable[[np.ndarray], np.ndarray]  # seen (persons,) bool -> errors (persons, treatments), NaN: no value
Keep = Callable[[int, Mapping[str, np.ndarray], Mapping[str, Value]], None]
Say = Callable[[float, str], None]

NOISY = ("privacy", "epsilon", "noise")  # settings of methods under differential privacy
OURS = "the model of half of the persons, trained anew by the same method; the person's features and responses"


def halves(persons: int, models: int, seed: int = 0, groups: Sequence[Any] | None = None) -> np.ndarray:
    """Who is seen by the target (first row) and by each of ``models`` shadows: bool (models + 1, persons).

    Raises
    ------
    ValueError
        ``models`` is odd, or below 4: each person has to be in two of them, and out of two.
    """
    if models < 4 or models % 2:
        raise ValueError(f"shadows come in pairs, at least 4 of them; found {models}.")
    group = np.zeros(persons, int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    rng = np.random.default_rng([seed, 2022])

    def half() -> np.ndarray:
        seen = np.zeros(persons, dtype=bool)
        for g in range(group.max(initial=0) + 1):
            own = np.flatnonzero(group == g)
            seen[rng.permutation(own)[: len(own) // 2 + int(len(own) % 2 and rng.random() < 0.5)]] = True
        return seen

    target, firsts = half(), [half() for _ in range(models // 2)]
    return np.stack([target, *(s for one in firsts for s in (one, ~one))])


def private(federation: Federation) -> bool:
    """Is noise added to what its sites send?"""
    return federation.method.startswith("private") or any(bool(federation.settings.get(key)) for key in NOISY)


@dataclass(frozen=True)
class Played:
    """The game's end: errors of the target (n, t), who was in it (n,), and the shadows."""

    errors: np.ndarray
    member: np.ndarray
    shadows: membership.Shadows
    kept: np.ndarray  # persons who have an error in every model: bool (all persons,)

    def figures(self, knows: str = OURS) -> list[Figure]:
        """Every membership attack on the target."""
        return membership.attack(self.errors, self.member, self.shadows, knows)


def run(
    train: Trainer,
    persons: int,
    models: int = 16,
    seed: int = 0,
    groups: Sequence[Any] | None = None,
    state: State | None = None,
    keep: Keep | None = None,
    say: Say | None = None,
) -> Played:
    """Train the target and the shadows, one after the other.

    Parameters
    ----------
    state : what ``keep`` last got, as (number, arrays, values): models that are there are not trained again
    keep : called with (number of models trained, {"errors": (models, n, t)}, {}) after each
    say : called with (share done, what is done)
    """
    seen = halves(persons, models, seed, groups)
    made = [] if state is None else list(state[1]["errors"])
    for number in range(len(made), len(seen)):
        if say is not None:
            say(number / len(seen), f"model {number + 1} of {len(seen)}")
        made.append(np.asarray(train(seen[number]), dtype=np.float32))
        if keep is not None:
            keep(number + 1, {"errors": np.stack(made)}, {})
    errors = np.stack(made).astype(np.float64)
    errors[:, ~np.isfinite(errors).all(0)] = np.nan  # a value counts where every model has it
    kept = np.isfinite(errors[0]).any(1)
    errors, seen = errors[:, kept], seen[:, kept]
    return Played(errors[0], seen[0], membership.Shadows(errors[1:], seen[1:]), kept)


@dataclass(frozen=True)
class ClosedRidge:
    """Ridge of every treatment on principal axes of the persons seen, in closed form.

    Attributes
    ----------
    x, y : features (n, f); responses (n, t), NaN where not measured
    axes : principal axes kept; 0: all
    penalties : candidates, chosen by leave-one-out as ``predictors.linear.Ridge`` does
    """

    x: np.ndarray
    y: np.ndarray
    axes: int = 0
    penalties: tuple[float, ...] = tuple(float(a) for a in kernel_ridge.PENALTIES)

    def __call__(self, seen: np.ndarray) -> np.ndarray:
        rotation = fit_rotation(self.x, np.flatnonzero(seen), self.axes)
        z = rotation.apply(self.x).astype(np.float64)
        z /= np.sqrt(max(z.shape[1], 1))
        fitted = kernel_ridge.fit(z[seen] @ z[seen].T, self.y[seen], np.array(self.penalties))
        return self.y - (z @ (z[seen].T @ fitted.dual) + fitted.intercept)


class Federated:
    """The federation's own method over its own sites, each with those of its persons who are seen.

    Parameters
    ----------
    treatments : of these alone; None: all

    Attributes
    ----------
    persons, site : every training person of the fold, and the site that has them
    y : responses (persons, treatments), NaN where not measured; several subjects of a person are averaged
    """

    def __init__(self, federation: Federation, number: int, treatments: Sequence[str] | None = None) -> None:
        self.fold, self.dealt = task.opened(federation, number)
        if treatments is not None:
            self.fold = replace(self.fold, train=self.fold.train.filter(pl.col("treatment").is_in(list(treatments))))
        # exact sums are the same without masks, and private ones are not: what is noise enough depends on who sees it;
        # the book is of what leaves a site, and here nothing does
        self.federation = replace(federation, secure=federation.secure and private(federation), gated=False)
        owner = {s: name for name, held in self.dealt.items() for s in held}
        train = self.fold.train.filter(pl.col("subject").is_in(pl.Series(list(owner), dtype=pl.String).implode()))
        self.train = train
        people = train.select("person", "subject").unique("person", keep="first").sort("person")
        self.persons = people["person"].to_list()
        self.site = [owner[s] for s in people.sort("person")["subject"]]
        self.treatments = sorted(train["treatment"].unique())
        self.y = self._matrix(train["value"])

    def __call__(self, seen: np.ndarray) -> np.ndarray:
        """Errors of the model trained on ``seen`` (n,), for all persons."""
        return self.errors(self.fitted(seen))

    def fitted(self, seen: np.ndarray) -> Any:
        """The predictor of the persons ``seen``."""
        from workbench.federated.simulation import simulate

        names = pl.Series([p for p, s in zip(self.persons, seen, strict=True) if s], dtype=pl.String).implode()
        return simulate.train(self.federation, Inline(self.sites(self._cut(names)), self.federation.least))

    def errors(self, predictor: Any) -> np.ndarray:
        """Observed less predicted of a fitted predictor (persons, treatments), NaN where it says nothing."""
        told = predictor.predict(self.fold.study, self.train.select("subject", "treatment", "tissue"))["predicted"]
        return self.y - self._matrix(told.cast(pl.Float64).fill_null(float("nan")))

    def sites(self, fold: Fold) -> list[Site]:
        """The federation's sites, holding the rows of ``fold``."""
        rules = policies.of(self.federation.policy)
        return [Site(name, sharing.local(fold, held), rules) for name, held in self.dealt.items()]

    def _cut(self, names: pl.Expr | pl.Series) -> Fold:
        return replace(self.fold, train=self.fold.train.filter(pl.col("person").is_in(names)))

    def _matrix(self, value: pl.Series) -> np.ndarray:
        pairs = self.train.select(pl.col("person").alias("subject"), "treatment").with_columns(value.alias("value"))
        return matrix(pairs, self.persons, self.treatments)
