"""An encoder of samples learnt by sites together: hidden parts of a sample told from the rest, in rounds.

    start     shared axes of every modality, from sums over all samples     (``network.start.axes_of``)
    round     shared weights go to every site, it learns on its own samples, its change comes back times its share;
              a strategy of ``network.strategies`` moves the weights by the mean change
    score     share of the hidden variance explained on samples not learnt from, with an interval over persons

What comes back is a DrugResponse without a head: ``head.fit`` puts one on it at a site, from the site's own responses.
Samples without responses count in the axes as in the rounds, so an encoder may have more of them than any regression;
a model in rounds that begins from it (``fit``) gets its weights turned onto axes of its own. Only sums over sites are
needed, so all of it works under secure sums. The optimiser starts anew each round, so that a resumed server equals an
uninterrupted one to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from workbench.federated.exact.harmonise import Plan as Agreed
from workbench.federated.exact.harmonise import agree
from workbench.federated.exact.progress import Keep, Progress, State
from workbench.federated.messages import Ask, Gathered, Value
from workbench.federated.network import fit as network
from workbench.federated.network import strategies
from workbench.federated.network.ending import WithPlan, as_arrays, of_arrays
from workbench.federated.network.plan import Plan
from workbench.federated.network.start import axes_of
from workbench.federated.pretraining import head
from workbench.federated.pretraining.local import built, weights
from workbench.federated.robust.updates import HiddenFault
from workbench.federated.sites import Sites, TooFewSites, add, enough
from workbench.predictors._closed_form import STRUCTURE
from workbench.predictors.drug_response import DrugResponse

Say = Callable[[float, str], None]
ENCODER = ("fusion.", "hidden.")  # prefixes of what a DrugResponse takes over
FIRST = 0.4  # of the time, for the encoder
ENCODERS = "encoder: "  # in a state: what the encoder's training keeps, beside the network's
NORMAL = 1.959963984540054  # quantile of a two-sided 95 % interval


@dataclass(frozen=True)
class Pretraining:
    """How the encoder learns.

    Attributes
    ----------
    pretraining_rounds, pretraining_epochs : rounds, and epochs at each site within one
    pretraining_rate, pretraining_batch : peak learning rate, and samples in a step
    hide, hide_modality : probabilities that a coordinate, and that a whole modality, is hidden
    unlabelled : do samples without responses count?
    responses : share of each site's training persons that keep their responses, to rehearse a federation where few
        have any (``unlabelled.few``); of a simulation only
    """

    pretraining_rounds: int = 20
    pretraining_epochs: int = 4
    pretraining_rate: float = 2e-3
    pretraining_batch: int = 16
    hide: float = 0.3
    hide_modality: float = 0.3
    unlabelled: bool = True
    responses: float = 1.0

    def __post_init__(self) -> None:
        for key in ("pretraining_rounds", "pretraining_epochs", "pretraining_batch"):
            if getattr(self, key) < 1:
                raise network.NetworkError(f"{key} should be at least 1, found {getattr(self, key)}.")
        for key in ("hide", "hide_modality"):
            if not 0 <= getattr(self, key) < 1:
                raise network.NetworkError(f"{key} should be a probability below 1, found {getattr(self, key)}.")
        if not 0 < self.responses <= 1:
            raise network.NetworkError(f"responses should be above 0 and at most 1, found {self.responses}.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Pretraining:
        return cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})


@dataclass(frozen=True)
class Explained:
    """R^2 of hidden parts of one modality ("all": together), its 95 % interval over persons, and how many persons.

    The mean explains 0. Interval: normal, by the linearised variance of a ratio of sums (Cochran 1977, section 6.3).
    """

    modality: str
    value: float
    low: float
    high: float
    persons: int


def settings() -> dict[str, Any]:
    """The settings a federation file may give, with their defaults."""
    return {f.name: getattr(Pretraining(), f.name) for f in fields(Pretraining)}


def encoder(
    sites: Sites,
    settings: Mapping[str, Any],
    state: State | None = None,
    keep: Keep | None = None,
    say: Say | None = None,
) -> DrugResponse:
    """Learn an encoder over all ``sites`` and nothing else.

    Parameters
    ----------
    settings : of ``Pretraining`` and of ``network.Settings``, whose strategy and parameters hold
    state, keep, say : as in ``network.fit``

    Returns
    -------
    DrugResponse without a head; ``explained_`` has an ``Explained`` for each modality and for all

    Raises
    ------
    workbench.federated.sites.TooFewSites
        Fewer than ``least`` sites answered.
    """
    own = {k: v for k, v in settings.items() if k not in Pretraining.__dataclass_fields__}
    chosen = network.Settings.of(own)
    params = chosen.params()
    progress = Progress(state, keep, say)
    closed = chosen.closed(params)
    agreed = progress.agreed(lambda: agree(sites, chosen.modality, chosen.endpoint, chosen.least, chosen.share))
    also: dict[str, Value] = {"unlabelled": True} if Pretraining.of(settings).unlabelled else {}
    limit = progress.once("limit", 0.01, "sizes of the sites", lambda: _sizes(sites, chosen, agreed, also, progress))
    most, columns, rotations = max(min(chosen.axes, int(limit["axes"][0])), 2), {}, {}
    for m in params["modalities"]:
        if (found := axes_of(sites, m, closed, most, progress, also)) is not None:
            columns[m], rotations[m] = found
    if not columns:
        raise TooFewSites(str(progress.values[f"without {chosen.modality}"]))
    plan = Plan(
        params, agreed.treatments, columns, rotations,
        np.zeros((len(agreed.treatments), 1), np.float32), agreed.endpoint, agreed.unit, agreed.alias,
    )  # fmt: skip
    return learnt(sites, plan, Pretraining.of(settings), chosen, sum(agreed.rows.values()), progress, say)


def _sizes(sites: Sites, chosen: network.Settings, agreed: Agreed, also: Mapping[str, Value], progress: Progress):
    """Most axes, one fewer than the smallest site has subjects; how many samples each site has is kept too."""
    ask = Ask("schema", values={"modality": chosen.modality, **also})
    told = sites.ask(ask, of=list(agreed.sites))
    enough(ask, told, 1)
    samples = {r.site: int(r.arrays["samples"].sum()) for r in told.replies if "samples" in r.arrays}
    progress.values["samples"] = json.dumps(samples or dict(agreed.rows))  # a subject has a row, where it has to
    return {"axes": np.array([min(int(r.arrays["subjects"].sum()) for r in told.replies) - 1])}


def fit(
    sites: Sites,
    settings: Mapping[str, Any],
    state: State | None = None,
    keep: Keep | None = None,
    say: Say | None = None,
) -> DrugResponse:
    """An encoder learnt over all ``sites``, then a DrugResponse trained by them in rounds (``network``) from it.

    Parameters
    ----------
    settings : of ``Pretraining`` and of ``network.Settings``; ``rounds`` are those of the response model
    state, keep, say : as in ``network.fit``

    Returns
    -------
    DrugResponse, fitted; ``encoder_`` is what ``encoder`` returns, for heads of the sites' own (``head.fit``)
    """
    own = {k: v for k, v in settings.items() if k not in Pretraining.__dataclass_fields__}
    first, second = _apart(state)
    done: dict[str, Any] = {}

    def keep_first(number: int, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        done.update(number=number, arrays={ENCODERS + k: a for k, a in arrays.items()}, values=dict(values))
        if keep is not None:  # what the rest of the house looks for stands where it always does
            keep(number, done["arrays"], done["values"] | {ENCODERS: done["values"]})

    if first is not None:
        done.update(number=first[0], arrays={ENCODERS + k: a for k, a in first[1].items()}, values=dict(first[2]))
    begun: Any = encoder(sites, settings, first, keep_first if second is None else None, _part(say, 0.0, FIRST))
    if second is None:
        second = (done["number"], {}, {})

    def keep_second(number: int, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        if keep is not None:
            keep(number, {**done["arrays"], **arrays}, {**values, ENCODERS: done["values"]})

    made: Any = network.fit(
        sites, own, second, keep_second, _part(say, FIRST, 1.0), begin=lambda start, _: head.turned(begun, start.plan)
    )
    made.encoder_, made.points_ = begun, [*begun.points_, *made.points_]
    made.left_out_, made.rounds_ = made.left_out_ | begun.left_out_, [*begun.rounds_, *made.rounds_]
    return made


def _part(say: Say | None, low: float, high: float) -> Say | None:
    """``say`` for a part of the whole, which goes from ``low`` to ``high``."""
    return None if say is None else lambda done, what: say(low + (high - low) * done, what)


def _apart(state: State | None) -> tuple[State | None, State | None]:
    """The encoder's state and the network's; the latter None while the encoder is learnt."""
    if state is None:
        return None, None
    number, arrays, values = state
    first = {k.removeprefix(ENCODERS): a for k, a in arrays.items() if k.startswith(ENCODERS)}
    rest = {k: a for k, a in arrays.items() if not k.startswith(ENCODERS)}
    told = {k: v for k, v in values.items() if k != ENCODERS}
    kept: Any = values[ENCODERS]
    return (number, first, dict(kept)), ((number, rest, told) if rest else None)


def learnt(
    sites: Sites, plan: Plan, own: Pretraining, chosen: network.Settings, rows: int, progress: Progress, say: Say | None
) -> DrugResponse:
    """The encoder on a plan's axes; its stages are read from ``progress`` where they are done."""
    kept = [m for m in plan.columns if m != STRUCTURE]
    told = {"structure": False, "learning_rate": own.pretraining_rate, "subjects": own.pretraining_batch}
    plan = replace(
        plan, columns={m: plan.columns[m] for m in kept}, rotations={m: plan.rotations[m] for m in kept},
        params=dict(plan.params) | told, structure=np.zeros((len(plan.treatments), 1), np.float32),
    )  # fmt: skip
    rounds = _Rounds(sites, plan, own, chosen, rows, progress)
    found = progress.once("pretrained", 1.0, "pretrained", lambda: rounds.run(say))
    shared = {k.removeprefix("w/"): a for k, a in found.items() if k.startswith("w/")}
    made: Any = head.empty(plan, {k: a for k, a in shared.items() if k.startswith(ENCODER)})
    made.explained_ = _explained(plan.names, found["count"], found["sums"])
    aside = json.loads(str(progress.values.get("left out", "{}")))
    made.left_out_ = {f"{site} in pretraining": why for site, (_, why) in aside.items()}
    made.rounds_ = [{"round": at, "set_aside": {site: why}} for site, (at, why) in aside.items()]
    made.points_ = [
        (i + 1, name, value) for i, told in enumerate(found["curve"]) for name, value in _figures(told).items()
    ]
    return made


class _Rounds:
    """The rounds; everything they need to go on stands in ``progress``."""

    def __init__(
        self, sites: Sites, plan: Plan, own: Pretraining, chosen: network.Settings, rows: int, progress: Progress
    ) -> None:
        self.sites, self.plan, self.own, self.chosen, self.rows = sites, plan, own, chosen, rows
        self.progress, self.ask = progress, WithPlan(plan, self._total)
        self.strategy = strategies.make(chosen.strategy, **chosen.options)

    def run(self, say: Say | None) -> dict[str, np.ndarray]:
        """Weights ``w/*``, the curve, and the sums of the score."""
        held = self.progress.inner("pretraining") or {}
        if held:
            shared, moments = of_arrays(held)
            first, curve = int(held["done"][0]), held["curve"]
        else:
            shared = weights(built(self.plan, self.own.hide, self.own.hide_modality))
            moments, first, curve = self.strategy.start(shared), 0, np.zeros((0, 2))
        for number in range(first, self.own.pretraining_rounds):
            change, told = self._round(number, shared)
            shared, moments = self.strategy.step(shared, change, moments)
            curve = np.concatenate([curve, told[None]])
            self.progress.values |= _figures(told)
            self.progress.inside("pretraining")(as_arrays(shared, moments, done=np.array([number + 1]), curve=curve))
            if say is not None:
                many = self.own.pretraining_rounds
                say(1.0 - 0.8 * (many - number - 1) / many, f"pretraining, round {number + 1} of {many}")
        sums = self._asked("pretrain_score", shared, {"draw": self.own.pretraining_rounds})
        for name in _figures(np.ones(2)):  # of rounds, so not of what comes after
            self.progress.values.pop(name, None)
        made = {f"w/{k}": a for k, a in shared.items()}
        return made | {"curve": curve, "count": sums["count"], "sums": sums["sums"]}

    def _round(self, number: int, shared: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The sites' mean change; (squared training error, R^2 of hidden parts not learnt from) before the round."""
        proximal = self.strategy.proximal if self.chosen.proximal is None else self.chosen.proximal
        values: dict[str, Value] = {
            "number": number, "rounds": self.own.pretraining_rounds, "epochs": self.own.pretraining_epochs,
            "proximal": float(proximal), "rows": self.rows,
        }  # fmt: skip
        sums = self._asked("pretrain_round", shared, values)
        share, (error, naive) = float(sums["share"][0]), sums["held_out"]
        change = {k: sums[f"change.{k}"] / share for k in shared}
        return change, np.array([float(sums["learnt"][0]) / share, 1.0 - float(error) / max(float(naive), 1e-12)])

    def _asked(self, purpose: str, shared: Mapping[str, np.ndarray], values: dict[str, Value]) -> dict[str, np.ndarray]:
        """Sums over the sites; whoever does not hold the plan gets it, and the others repeat their answer."""
        arrays = {f"weights.{k}": a for k, a in shared.items()}
        values = values | {"hide": float(self.own.hide), "hide_modality": float(self.own.hide_modality)}
        return self.ask(purpose, self.progress.next(), arrays, values)[1]

    def _total(self, ask: Ask) -> tuple[dict[str, np.ndarray], Gathered]:
        """Sums over sites, without those that claim more samples than they said they have: these are named.

        Raises
        ------
        workbench.federated.robust.updates.HiddenFault
            Parts are hidden, and all together claim more than was said.
        """
        sums, gathered = self.sites.total(ask, self.chosen.least)
        if "share" not in sums:
            return sums, gathered
        said = json.loads(str(self.progress.values["samples"]))
        parts = {r.site: float(r.arrays["share"].sum()) * self.rows for r in gathered.replies if "share" in r.arrays}
        took, whole = [r.site for r in gathered.replies], float(sums["share"].sum()) * self.rows
        if not parts and set(took) <= set(said) and whole > (most := sum(said[s] for s in took)) + 0.5:
            raise HiddenFault(
                f"{ask.purpose!r}, round {ask.round}: {', '.join(took)} claim {whole:.0f} samples together and said "
                f"{most}. Whose claim is wrong cannot be told: their parts are hidden. The round is given up."
            )
        most_of = {s: said.get(s, 0) + 0.5 for s in parts}
        over = {
            s: f"claims {n:.0f} samples, and said {said.get(s, 'nothing of them')}"
            for s, n in parts.items()
            if n > most_of[s]
        }
        if not over:
            return sums, gathered
        left = Gathered(tuple(r for r in gathered.replies if r.site not in over), {**gathered.lost, **over})
        enough(ask, left, self.chosen.least)
        known = json.loads(str(self.progress.values.get("left out", "{}")))
        at = int(ask.values["number"]) + 1  # type: ignore[arg-type]
        self.progress.values["left out"] = json.dumps({s: [at, why] for s, why in over.items()} | known)
        return add(ask, left), left


def _figures(told: np.ndarray) -> dict[str, float]:
    return {"pretraining loss": float(told[0]), "pretraining R2 held out": float(told[1])}


def _explained(names: list[str], count: np.ndarray, sums: np.ndarray) -> tuple[Explained, ...]:
    out = []
    for name, n, (e, base, ee, en, nn) in zip([*names, "all"], count, sums, strict=True):
        if n < 2 or base <= 0:
            out.append(Explained(name, np.nan, np.nan, np.nan, int(n)))
            continue
        ratio = e / base
        spread = max(ee - 2 * ratio * en + ratio**2 * nn, 0.0) * n / (n - 1)
        far = NORMAL * float(np.sqrt(spread)) / base
        out.append(Explained(name, float(1 - ratio), float(1 - ratio - far), float(1 - ratio + far), int(n)))
    return tuple(out)
