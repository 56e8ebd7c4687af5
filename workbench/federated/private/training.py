"""DrugResponse trained by sites together under differential privacy: a public start, private rounds, and what it cost.

    w <- strategy( w, mean over sites of their private changes )

What leaves a site is ``network_private_round`` and nothing else, so a site whose policy sets a budget lets all of it
pass, and refuses once the budget is spent. A site that refuses is left out of the round, by name; with fewer than
``least`` left for that reason the training ends with the model of the rounds done, and says so.

The epsilon told is that of a site that took part in every round once. A site that was started anew in the middle of a
round trains that round twice; its own book has the truth about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from workbench.federated.exact.progress import Keep, Progress, State
from workbench.federated.messages import Value
from workbench.federated.network import fit as network
from workbench.federated.network import strategies
from workbench.federated.network.ending import WithPlan, as_arrays, of_arrays
from workbench.federated.private import accounting, public_start
from workbench.federated.private.accounting import Release, Spent
from workbench.federated.sites import Sites, TooFewSites
from workbench.predictors.drug_response import DrugResponse
from workbench.splits import Fold

PURPOSE = "network_private_round"
UNITS = ("person", "site")
REFUSED = {
    "own": (),
    "keep_optimizer": False,
    "double": False,
}  # settings of exact rounds that a private one has no place for


class PrivacyError(ValueError):
    """A setting of a private training cannot be; says which, what was found and what may be."""


@dataclass(frozen=True)
class Privacy:
    """How private, and by what means.

    Attributes
    ----------
    privacy : "person" (DP-SGD at the sites), "site" (whole changes clipped), or "" (none)
    epsilon, delta : what all rounds together may cost; ``noise`` then follows
    noise : sd of the noise over ``clip``; ``epsilon`` then follows. One of the two is given
    clip : longest gradient of a person, or change of a site
    rate : of persons, the share of them in a step (each by itself)
    local_steps : of persons, steps within one round (``steps`` are those of an exact training's power iteration)
    persons : of persons, the number that stands for a site's persons in the step's size; public, never counted
    learning_rate : of persons, of a step
    honest : of sites, those of a secure sum that each counts on to add their part of the noise; 1: each adds all of it
    public : the server's own public study (name or folder), or its Fold; start, closed form and intervals come from it
    warm : epochs on the public rows before the first round
    only : prefixes of the layers that the rounds change ("hidden", "identity", "level"); () all. Noise is added to each
        number that changes, so fewer of them are less noise in all; the others stay as the public rows left them
    """

    privacy: str = ""
    epsilon: float = 0.0
    delta: float = 1e-5
    noise: float = 0.0
    clip: float = 1.0
    rate: float = 0.1
    local_steps: int = 10
    persons: int = 0
    learning_rate: float = 0.1
    honest: int = 1
    public: str | Fold = ""
    warm: int = 10
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.privacy not in UNITS:
            raise PrivacyError(f'privacy should be "person" or "site", found {self.privacy!r}.')
        for key in ("epsilon", "delta", "noise", "clip", "rate", "learning_rate"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise PrivacyError(f"{key} should be a number, at least 0; found {value!r}.")
        for key, least in (("local_steps", 1), ("persons", 0), ("honest", 1), ("warm", 0)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise PrivacyError(f"{key} should be a whole number from {least}; found {value!r}.")
        if bool(self.epsilon) == bool(self.noise):
            raise PrivacyError(
                f"give epsilon or noise, and the other follows; found epsilon = {self.epsilon}, noise = {self.noise}."
            )
        if not 0 < self.delta < 1 or not self.clip or not self.learning_rate:
            raise PrivacyError("delta should be between 0 and 1, clip and learning_rate above 0.")
        if not 0 < self.rate <= 1:
            raise PrivacyError(f"rate should be above 0 and at most 1, found {self.rate}.")
        if self.privacy == "person" and not self.persons:
            raise PrivacyError("persons is missing: about how many a site has, as is publicly known (say 200).")
        if not self.public:
            raise PrivacyError("public is missing: a study that the server may look at, to start from.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> tuple[Privacy, dict[str, Any]]:
        """From a mapping, and what is left of it."""
        if "steps" in given:
            raise PrivacyError("steps within a private round are called local_steps; steps are of an exact training.")
        mine = {f.name for f in fields(cls)}
        own: dict[str, Any] = {k: v for k, v in given.items() if k in mine}
        if isinstance(only := own.get("only", ()), str) or not all(isinstance(name, str) for name in only):
            raise PrivacyError(f"only should be a list of the beginnings of layers' names, found {only!r}.")
        own["only"] = tuple(only)
        return cls(**own), {k: v for k, v in given.items() if k not in mine}

    def releases(self, noise: float, rounds: int) -> tuple[Release, ...]:
        """What ``rounds`` rounds tell, as the accountant reads it."""
        if not rounds or not noise:
            return ()
        if self.privacy == "person":
            return (Release(noise, self.rate, rounds * self.local_steps, "person"),)
        return (Release(noise, 1.0, rounds, "site"),)

    def noise_over(self, rounds: int) -> float:
        """The noise itself, or the least that costs at most epsilon over all rounds."""
        if self.noise:
            return self.noise
        person = self.privacy == "person"
        return accounting.noise_for(
            self.epsilon, self.delta, self.rate if person else 1.0, rounds * (self.local_steps if person else 1)
        )


def settings() -> dict[str, Any]:
    """The settings a federation file may give, with their defaults."""
    return {f.name: f.default for f in fields(Privacy)}


def fit(
    sites: Sites,
    settings: Mapping[str, Any],
    state: State | None = None,
    keep: Keep | None = None,
    say: Callable[[float, str], None] | None = None,
) -> DrugResponse:
    """Train on the rows of all ``sites``, none of whose persons (or which of whom) can be told from what they send.

    Parameters
    ----------
    settings : see ``Privacy`` and ``network.fit.Settings``; ``local_epochs`` is of privacy "site"
    state, keep, say : as in ``network.fit.fit``; values hold epsilon so far, and ``ended`` where budgets ran out

    Returns
    -------
    DrugResponse, fitted; ``spent_`` what it cost, ``ended_`` why it ended early ("" where it did not), ``rounds_`` who
    took part or was lost in each round

    Raises
    ------
    PrivacyError
        A setting that cannot be.
    workbench.federated.sites.TooFewSites
        Fewer than ``least`` sites answered, and not because of spent budgets; or no round was done.
    """
    privacy, rest = Privacy.of(settings)
    chosen = network.Settings.of(rest)
    for key, usual in REFUSED.items():
        if getattr(chosen, key) != usual:
            raise PrivacyError(f"{key} has no place in a private training; found {getattr(chosen, key)!r}.")
    return _Training(sites, chosen, privacy, Progress(state, keep, say), say).run()


class _Training:
    """The rounds; everything it needs to go on stands in ``progress``."""

    def __init__(self, sites: Sites, chosen: network.Settings, privacy: Privacy, progress: Progress, say: Any) -> None:
        self.sites, self.chosen, self.privacy, self.progress, self.say = sites, chosen, privacy, progress, say
        self.strategy = strategies.make(chosen.strategy, **chosen.options)
        fold = privacy.public
        if not isinstance(fold, Fold):
            if chosen.endpoint is None:
                raise PrivacyError("endpoint is missing: which one of the public study is meant.")
            fold = public_start.opened(fold, chosen.endpoint, chosen.seed)
        self.start = public_start.prepared(fold, chosen.params())
        self.noise = privacy.noise_over(chosen.rounds)
        self.ask = WithPlan(self.start.plan, lambda ask: sites.total(ask, chosen.least))
        self.who: list[dict[str, Any]] = []

    def run(self) -> DrugResponse:
        rounds, progress = self.chosen.rounds, self.progress
        held = progress.inner("private") or {}
        if held:
            shared, moments = of_arrays(held)
        else:
            shared = self.start.begun(self.privacy.warm)
            moments = self.strategy.start(self._changing(shared))
        done = int(held["done"][0]) if held else 0
        while done < rounds and not progress.values.get("ended"):
            try:
                change = self._round(done, shared)
            except TooFewSites as few:
                if not done or not _spent(few):
                    raise
                progress.values["ended"] = f"after {done} of {rounds} rounds: {few}"
                progress.save()
                break
            moved, moments = self.strategy.step(self._changing(shared), change, moments)
            shared = shared | moved
            done += 1
            progress.values |= self._figures(done)
            progress.inside("private")(as_arrays(shared, moments, done=np.array([done])))
            if self.say is not None:
                self.say(0.1 + 0.85 * done / rounds, f"round {done} of {rounds}")
        made = self.start.finished(shared)
        told: Any = made
        told.rounds_, told.ended_, told.left_out_ = self.who, str(progress.values.get("ended", "")), {}
        told.noise_ = self.noise
        told.spent_ = Spent(self._epsilon(done), self.privacy.delta, self.privacy.privacy)
        return made

    def _changing(self, shared: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weights that rounds change."""
        found = {k: a for k, a in shared.items() if not self.privacy.only or k.startswith(self.privacy.only)}
        if not found:
            raise PrivacyError(f"only = {list(self.privacy.only)} names no layer; the network has {sorted(shared)}.")
        return found

    def _epsilon(self, done: int) -> float:
        return accounting.epsilon(self.privacy.releases(self.noise, done), self.privacy.delta)

    def _figures(self, done: int) -> dict[str, Value]:
        return {"epsilon": self._epsilon(done), "delta": self.privacy.delta, "noise": self.noise}

    def _round(self, number: int, shared: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Mean change of the sites that took part, each the same weight."""
        c, p = self.chosen, self.privacy
        arrays = {f"weights.{k}": a for k, a in shared.items()}
        arrays |= {"offset": self.start.offset, "sigma": np.array([self.start.model.sigma_])}
        values: dict[str, Value] = {
            "number": number, "rounds": c.rounds, "privacy": p.privacy, "clip": float(p.clip),
            "noise": float(self.noise), "only": list(p.only),
        }  # fmt: skip
        if p.privacy == "person":
            values |= {"rate": float(p.rate), "steps": p.local_steps, "learning_rate": float(p.learning_rate)}
            values["size"] = p.persons
        else:
            values |= {"epochs": c.local_epochs, "parts": p.honest}
            values["proximal"] = float(self.strategy.proximal if c.proximal is None else c.proximal)
        _, sums, gathered = self.ask(PURPOSE, self.progress.next(), arrays, values)
        took = [r.site for r in gathered.replies]
        self.who.append({"round": number + 1, "took": took, "lost": dict(gathered.lost), "set_aside": {}})
        return {k: sums[f"change.{k}"] / len(took) for k in self._changing(shared)}


def _spent(few: TooFewSites) -> bool:
    """Whether a site was lost because its privacy budget does not allow another round."""
    return "budget spent" in str(few)
