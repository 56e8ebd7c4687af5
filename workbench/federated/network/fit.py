"""DrugResponse trained by sites together, in rounds; what comes back is a DrugResponse as local training makes it.

    start      shared axes, closed form, structures from sums           (``_network_start``)
    round      shared weights go to every site, it trains ``local_epochs`` on its own rows, its change comes back
               weighed by its rows; the server's strategy moves the weights by the mean change          (``strategies``)
    finish     interval half-widths: a treatment's root mean square left-out error, times a quantile over all of them

No member of the ensemble learns from its part of the subjects, at any site: parts are dealt by a hash of the person.
Training subjects are named nowhere: a term of a known subject (``unseen pair``) is the site's own affair.

Unlike local training: the closed form is a ridge on one modality, along fewer axes than the smallest site has subjects;
the optimiser starts anew each round unless ``keep_optimizer`` (then a resumed server equals an uninterrupted one only
while the sites' processes live); dropout draws from a stream of each site and round. One site, one epoch a round, a
kept optimiser and no dropout is plain training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from workbench.federated.exact import ridge
from workbench.federated.exact.progress import Keep, Progress, State
from workbench.federated.exact.steady import SitesChanged
from workbench.federated.messages import Ask, Gathered, Value
from workbench.federated.network import strategies
from workbench.federated.network.ending import WithPlan, as_arrays, of_arrays
from workbench.federated.network.local import built
from workbench.federated.network.module import set_weights, weights
from workbench.federated.network.start import Start, prepare
from workbench.federated.network.training import weight_of
from workbench.federated.sites import Sites, TooFewSites, enough
from workbench.predictors._widths import HalfWidths
from workbench.predictors.drug_response import DrugResponse
from workbench.text import nearest

ROWS_OF_ITS_OWN = 30  # residuals that a half-width of its own needs, as in ``HalfWidths``
PASSED_OVER = ("predictor", "parameters", "rounds", "least", "seed", "endpoint", "combine")


class NetworkError(ValueError):
    """A setting cannot be; says which, what was found and what may be."""


@dataclass(frozen=True)
class Settings:
    """How the network is trained.

    Attributes
    ----------
    rounds, local_epochs : rounds, and epochs at each site within one
    strategy, options : a name of ``strategies.STRATEGIES`` and its options
    proximal : mu of the sites' proximal term; None takes the strategy's
    own : prefixes of layers that each site keeps to itself ("identity", "level", "shape": a local head)
    keep_optimizer : sites keep their optimiser's state between rounds
    double : changes travel as float64, twice the bytes: after many rounds training has amplified what rounding leaves
        both live in the site's process: one that took part and has lost it is refused by name, never begun anew
    modality, axes, steps : of the closed form and the shared axes (see ``ridge.Settings``)
    share : least share of the common features that a site has to have
    parameters : of the DrugResponse
    """

    rounds: int = 20
    local_epochs: int = 2
    strategy: str = "FedAvg"
    options: Mapping[str, float] = field(default_factory=dict)
    proximal: float | None = None
    own: tuple[str, ...] = ()
    keep_optimizer: bool = False
    double: bool = False
    modality: str = "expression"
    axes: int = 128
    steps: int = 4
    share: float = 0.8
    least: int = 1
    seed: int = 0
    endpoint: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, least in (("rounds", 1), ("local_epochs", 1), ("axes", 2), ("steps", 1), ("least", 1)):
            if getattr(self, key) < least:
                raise NetworkError(f"{key} should be at least {least}, found {getattr(self, key)}.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """From a mapping; an unknown key raises NetworkError with the nearest."""
        known = {f.name for f in fields(cls)}
        for key in set(given) - known - set(PASSED_OVER):
            raise NetworkError(f"a federated network has no setting {key!r}.{nearest(key, sorted(known))}")
        plain: dict[str, Any] = {k: tuple(v) if k == "own" else v for k, v in given.items() if k in known}
        return cls(**plain)

    def params(self) -> dict[str, Any]:
        """Of the DrugResponse; ``epochs`` says how often each site's rows were gone through in all."""
        for key in self.parameters:
            if key not in DrugResponse.DEFAULTS:
                raise NetworkError(f"drug_response has no parameter {key!r}.{nearest(key, DrugResponse.DEFAULTS)}")
        told = {"seed": self.seed} | dict(self.parameters) | {"epochs": self.rounds * self.local_epochs}
        made = DrugResponse(**told).params
        if self.modality not in made["modalities"]:
            raise NetworkError(f"the closed form's modality {self.modality!r} is not among {list(made['modalities'])}.")
        return made | {"modalities": list(made["modalities"])}

    def closed(self, params: Mapping[str, Any]) -> ridge.Settings:
        return ridge.Settings(
            modality=self.modality, endpoint=self.endpoint, axes=self.axes, steps=self.steps, parts=params["members"],
            seed=params["seed"], least=self.least, share=self.share,
        )  # fmt: skip


def settings() -> dict[str, Any]:
    """The settings a federation file may give, with their defaults."""
    return {f.name: getattr(Settings(), f.name) for f in fields(Settings) if f.name not in PASSED_OVER}


def fit(
    sites: Sites,
    settings: Mapping[str, Any],
    state: State | None = None,
    keep: Keep | None = None,
    say: Callable[[float, str], None] | None = None,
    combine: strategies.Combine | None = None,
    begin: Callable[[Start, Progress], Mapping[str, np.ndarray]] | None = None,
) -> DrugResponse:
    """Train on the rows of all ``sites``; a site that is gone in a round has no part in that round.

    Parameters
    ----------
    settings : see ``Settings``
    state : what ``keep`` last got, as (round, arrays, values): a killed server goes on from there, bitwise
    keep : called with (round, arrays, values) after each round; values hold the round's figures
    say : called with (share done, what is done)
    combine : in place of the weighted mean, (changes, weights, names of the sites, how many bad ones the checks have
        dropped) -> object with ``arrays`` and ``set_aside``; it has to see each site's change, so no secure sum is
        possible then. What it remembers of the sites in ``evidence`` and ``seen`` is kept with the state
    begin : (start, progress) -> weights to begin with in place of random ones (``pretraining``)

    Returns
    -------
    DrugResponse, fitted; ``points_`` its curve, ``rounds_`` who took part or was lost in each round,
    ``left_out_`` {modality, or "rare <modality> features": why they are not used}

    Raises
    ------
    workbench.federated.sites.TooFewSites
        Fewer than ``least`` sites answered.
    """
    chosen = Settings.of(settings)
    params = chosen.params()
    strategy = strategies.make(chosen.strategy, **chosen.options)
    progress = Progress(state, keep, None if say is None else say)
    gone: dict[str, str] = {}
    while True:
        try:
            start = prepare(sites, params, chosen.closed(params), progress, gone)
            break
        except SitesChanged as changed:
            lost = {s: str(changed) for s in progress.plan().sites if s not in changed.now}
            if not lost:
                raise
            gone |= lost
            if len(changed.now) < chosen.least:
                raise TooFewSites(str(changed)) from changed
            progress.restart(f"without {', '.join(lost)} from the start")
    training = _Training(sites, chosen, start, strategy, progress, combine)
    training.begun = {} if begin is None else begin(start, progress)
    shared = training.run(say)
    widths, squares = training.widths(shared)
    return _model(training, shared, widths, squares)


class _Training:
    """The rounds; everything it needs to go on stands in ``progress``."""

    def __init__(self, sites, chosen: Settings, start: Start, strategy, progress: Progress, combine) -> None:
        self.sites, self.chosen, self.start, self.strategy = sites, chosen, start, strategy
        self.progress, self.combine = progress, combine
        self.ask = WithPlan(start.plan, self._told)
        self.points: list[tuple[int, str, float]] = []
        self.who: list[dict[str, Any]] = []
        self.begun: Mapping[str, np.ndarray] = {}

    def run(self, say: Callable[[float, str], None] | None) -> dict[str, np.ndarray]:
        """Shared weights after the last round."""
        held = self.progress.inner("network") or {}
        if held:
            shared, moments = of_arrays(held)
            first, curve = int(held["done"][0]), held["curve"]
            self._remember(held)
        else:
            begun = weights(built(self.start.plan, self.start.sigma)) | dict(self.begun)
            shared = {k: a for k, a in begun.items() if not k.startswith(self.chosen.own or "\0")}
            moments, first, curve = self.strategy.start(shared), 0, np.zeros((0, 2))
        for number in range(first, self.chosen.rounds):
            change, told = self._round(number, shared)
            shared, moments = self.strategy.step(shared, change, moments)
            curve = np.concatenate([curve, told[None]])
            arrays = as_arrays(shared, moments, done=np.array([number + 1]), curve=curve)
            if seen := getattr(self.combine, "seen", {}):
                arrays["seen"] = np.stack(list(seen.values()))
            self.progress.values |= self._figures(*told) | self._memory()
            self.progress.inside("network")(arrays)
            if say is not None:
                done = 0.2 + 0.75 * (number + 1) / self.chosen.rounds
                say(done, f"round {number + 1} of {self.chosen.rounds}")
        for number, told in enumerate(curve):
            self.points += [(number + 1, name, value) for name, value in self._figures(*told).items()]
        return shared

    def _memory(self) -> dict[str, Value]:
        """Who took part in each round, and what a rule that remembers holds against whom: plain values."""
        evidence: Mapping[str, float] = getattr(self.combine, "evidence", {})
        told: dict[str, Value] = {"evidence of": list(evidence), "evidence": list(evidence.values())}
        told |= {"seen of": list(getattr(self.combine, "seen", {}))}
        return (told if hasattr(self.combine, "evidence") else {}) | {"who": json.dumps(self.who)}

    def _remember(self, held: Mapping[str, np.ndarray]) -> None:
        """Put back what ``_memory`` kept, and the updates that a rule compares with the next."""
        values = self.progress.values
        self.who = json.loads(values.get("who", "[]"))
        if hasattr(self.combine, "evidence"):
            self.combine.evidence = dict(zip(values.get("evidence of", []), values.get("evidence", []), strict=True))
        if hasattr(self.combine, "seen"):
            self.combine.seen = dict(zip(values.get("seen of", []), held.get("seen", ()), strict=True))

    def _figures(self, learnt: float, held: float) -> dict[str, float]:
        """In the endpoint's unit: errors of rows learnt from, and of rows held out, before the round."""
        s = self.start.sigma
        return {"training RMSE": s * float(np.sqrt(learnt)), "held-out RMSE": s * float(np.sqrt(held))}

    def _round(self, number: int, shared: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The sites' mean change, and (squared training error, squared held-out error)."""
        c = self.chosen
        arrays = {f"weights.{k}": a for k, a in shared.items()}
        arrays |= {"offset": self.start.offset, "sigma": np.array([self.start.sigma])}
        values: dict[str, Value] = {
            "number": number, "rounds": c.rounds, "epochs": c.local_epochs, "own": list(c.own), "rows": self.start.rows,
            "proximal": float(self.strategy.proximal if c.proximal is None else c.proximal),
            "keep_optimizer": c.keep_optimizer, "double": c.double,
        }  # fmt: skip
        if c.own or c.keep_optimizer:
            values["been"] = sorted({site for told in self.who for site in told["took"]})
        aside: dict[int, str] = {}
        ask, sums, gathered = self.ask("network_round", self.progress.next(), arrays, values)
        if self.combine is None:
            share = float(sums["share"][0])
            change = {k: sums[f"change.{k}"] / self._weight(share) for k in shared}
        else:
            enough(ask, gathered, c.least)
            own = [float(r.arrays["share"][0]) for r in gathered.replies]
            changes = [
                {k: r.arrays[f"change.{k}"].astype(np.float64) / self._weight(s) for k in shared}
                for r, s in zip(gathered.replies, own, strict=True)
            ]
            combined = self.combine(changes, np.array(own), [r.site for r in gathered.replies], len(gathered.dropped))
            change, aside = combined.arrays, dict(combined.set_aside)
            sums = {k: np.sum([r.arrays[k] for r in gathered.replies], axis=0) for k in ("share", "learnt", "held_out")}
            share = float(sums["share"][0])
        self.who.append({
            "round": number + 1, "took": [r.site for r in gathered.replies], "lost": dict(gathered.lost),
            "set_aside": {gathered.replies[i].site: why for i, why in aside.items()},
        })  # fmt: skip
        held = sums["held_out"]
        return change, np.array([float(sums["learnt"][0]) / share, float(held[0]) / max(float(held[1]), 1.0)])

    def _weight(self, share: float) -> float:
        """What changes of that share of all rows were multiplied by, exactly: shares are of whole rows."""
        return weight_of(round(share * self.start.rows) or share * self.start.rows, self.start.rows)

    def _told(self, ask: Ask) -> tuple[dict[str, np.ndarray], Gathered]:
        """Sums over the sites and their replies; no sums where a rule looks at each reply."""
        return self.sites.total(ask, self.chosen.least) if self.combine is None else ({}, self.sites.ask(ask))

    def widths(self, shared: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float]:
        """Half-widths by treatment and of all together last (T + 1,); the network's own held-out mean square."""
        start = self.start
        arrays = {f"weights.{k}": a for k, a in shared.items()}
        arrays |= {"offset": start.offset, "sigma": np.array([start.sigma]), "solutions": start.solutions}
        values: dict[str, Value] = {
            "modality": start.modality,
            "closed_form_share": float(start.plan.params["closed_form_share"]),
        }

        def asked(more: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            ask = start.plan.ask(
                "network_residuals", self.progress.next(), arrays | more, values | {"bins": ridge.BINS}, carry=not more
            )
            return self.sites.total(ask, self.chosen.least)[0]

        told = asked({})
        count, square = told["count"], told["square"]
        whole = float(np.sqrt(square.sum() / max(count.sum(), 1)))
        own = count >= ROWS_OF_ITS_OWN
        scale = np.where(own & (square > 0), np.sqrt(square / np.maximum(count, 1)), whole or 1.0)
        high = ridge.FAR * np.array([1.0, whole or 1.0])
        counts = asked({"scale": scale, "low": np.zeros(2), "high": high})["counts"]
        times, together = (ridge._quantile(c, h / ridge.BINS) for c, h in zip(counts, high, strict=True))
        widths = np.append(np.where(own, times * scale, together), together)
        return widths, float(np.sqrt(told["held_out"][0] / max(told["held_out"][1], 1.0)))


def _model(training: _Training, shared: Mapping[str, np.ndarray], widths: np.ndarray, held_out: float) -> DrugResponse:
    """The same object that local training makes; a treatment's other names at some sites get its numbers."""
    start, plan = training.start, training.start.plan
    names = [*plan.treatments, *plan.alias]
    at = np.array([plan.treatments.index(plan.alias.get(n, n)) for n in names])
    form = start.closed_form()
    form.treatments = names
    for name, array, axis in (("offset", form.offset, 0), ("weights", form.weights, 1), ("bits", form.bits, 0)):
        form._buffer(name, np.take(array.numpy(force=True), at, axis))
    form.structure = form._structure(form.bits.numpy())
    made = DrugResponse(**plan.params)
    made.closed_, made.sigma_ = form, start.sigma
    sizes = {m: plan.rotations[m].axes.shape[1] for m in plan.names}
    whole = weights(built(plan, start.sigma)) | dict(shared)
    made._build(sizes, len(names), form.structure_size)
    by_treatment = ("identity.weight", "level.weight")
    set_weights(made, {k: a[:, at] if k in by_treatment else a for k, a in whole.items()})
    made.subject_term_ = np.zeros(1)  # training subjects are known to their sites only
    made.widths_ = HalfWidths(names, widths[:-1][at], float(widths[-1]))
    made.eval()
    told: Any = made
    told.points_ = [*training.points, (training.chosen.rounds + 1, "held-out RMSE", held_out)]
    told.rounds_ = training.who
    without = {k: v for k, v in training.progress.values.items() if k.startswith("without ")}
    told.left_out_ = {k.removeprefix("without "): v for k, v in without.items()}
    rare = {k: v for k, v in training.progress.values.items() if k.startswith("rare ") and v}
    told.left_out_ |= {f"{k} features": f"{v}: too few persons carry them" for k, v in rare.items()}
    return made
