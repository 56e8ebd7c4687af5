"""A rehearsal before real institutions meet: which rule withstands which liar, on this study, dealt out this way?

A linear model of all treatments on shared axes (``asked.linear_step``) is trained once for every attack, number of bad
sites and rule. The score is told beside that of the clean plain mean and of the honest sites alone: what is lost to
there being fewer sites is no fault of a rule.

The axes are those of the training rows together, as exact federated statistics give them; in a rehearsal they are
computed in one place, and attackers spoil the training alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from workbench import modalities, predict, score
from workbench.federated.asked import linear_step
from workbench.federated.messages import Ask, Value
from workbench.federated.robust import rules as robust
from workbench.federated.robust import updates
from workbench.federated.robust.faults import BadSite, Colluders, mirrored
from workbench.federated.sharing import local
from workbench.federated.site import Site
from workbench.federated.sites import Inline, Sites, TooFewSites
from workbench.nn.scaling import standardise
from workbench.predictors import answer
from workbench.splits import Fold

METRIC = "normalised Pearson"
DIVERGED = 1e6  # no weight of a model of ln(uM) comes near; training that gets there is over

Keep = Callable[[int, dict[str, np.ndarray], dict[str, float]], None]


@dataclass(frozen=True)
class Plan:
    """How the linear model is trained; chosen on another screen than the one it is rehearsed on.

    Attributes
    ----------
    axes : principal axes kept
    penalty : ridge penalty, as a share of the mean variance of an axis
    rounds, steps, step : rounds, local steps in each, and their size (1: Newton's on complete data)
    """

    modality: str = "expression"
    axes: int = 100
    penalty: float = 1.0
    rounds: int = 20
    steps: int = 1
    step: float = 0.5


@dataclass(frozen=True)
class Plane:
    """What all sites share: mean and sd (f,), axes (f, k), decay (k,), features (f), treatments (t)."""

    mean: np.ndarray
    sd: np.ndarray
    axes: np.ndarray
    decay: np.ndarray
    features: list[str]
    treatments: list[str]

    @classmethod
    def of(cls, fold: Fold, plan: Plan) -> Plane:
        """From the training subjects of ``fold`` alone."""
        block = modalities.read(fold.study, plan.modality, endpoint=fold.endpoint)
        there = set(block.names)
        x, _ = block.rows([s for s in sorted(fold.train["subject"].unique()) if s in there])
        rotation = modalities.prepare(plan.modality, x, np.arange(len(x)))
        axes = rotation.axes[:, : plan.axes].astype(np.float64) / rotation.scale
        variance = (standardise(x, rotation.mean, rotation.sd) @ axes).var(axis=0)
        penalty = plan.penalty * float(variance.mean())
        return cls(
            rotation.mean,
            rotation.sd,
            axes / np.sqrt(variance + penalty),
            penalty / (variance + penalty),
            block.features,
            sorted(fold.train["treatment"].unique()),
        )

    @cached_property
    def name(self) -> str:
        """A digest that tells these axes from others."""
        return hashlib.sha256(np.ascontiguousarray(self.axes).tobytes()).hexdigest()[:16]


class Linear:
    """The fitted model behind the protocol of predictors: weights (k + 1, t) on a plane."""

    def __init__(self, plane: Plane, weights: np.ndarray, modality: str, name: str = "linear, federated") -> None:
        self.plane, self.weights, self.modality, self.name = plane, weights, modality, name

    def values(self, x: np.ndarray) -> np.ndarray:
        """Predictions (n, t) of features (n, f)."""
        z = standardise(x, self.plane.mean, self.plane.sd).astype(np.float64) @ self.plane.axes
        return z @ self.weights[:-1] + self.weights[-1]

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        block = modalities.read(study, self.modality, columns=self.plane.features)
        subjects = sorted(pairs["subject"].unique())
        x, there = block.rows(subjects)
        row, column = ({n: i for i, n in enumerate(names)} for names in (subjects, self.plane.treatments))
        s = pairs["subject"].replace_strict(row, return_dtype=pl.Int64).to_numpy()
        d = pairs["treatment"].replace_strict(column, default=-1, return_dtype=pl.Int64).to_numpy()
        known = (d >= 0) & there[s]
        value = np.where(known, self.values(x)[s, np.maximum(d, 0)], np.nan)
        silent = [None if k else "drug or sample not known" for k in known]
        said = answer(value, np.full(len(s), np.nan), silent)  # no interval is claimed
        return said.with_columns(pl.col("low", "high").fill_nan(None))


def fit(
    sites: Sites,
    fold_schema: str,
    plane: Plane,
    plan: Plan,
    rule: robust.Rule,
    most: float = 1.0,
    state: tuple[int, dict[str, np.ndarray]] | None = None,
    keep: Keep | None = None,
) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Weights (k + 1, t) after ``plan.rounds`` rounds, and who was set aside in each, by site name.

    Parameters
    ----------
    most : largest share of the weight that one site may claim
    state, keep : (round, arrays) to go on from, and what is called after each round
    """
    first, w = 0, np.zeros((len(plane.decay) + 1, len(plane.treatments)))
    if state is not None:
        first, w = state[0] + 1, state[1]["weights"]
    aside: list[dict[str, str]] = []
    for number in range(first, plan.rounds):
        arrays = {"weights": w, "axes": plane.axes, "mean": plane.mean, "sd": plane.sd, "decay": plane.decay}
        values: dict[str, Value] = {
            "treatments": plane.treatments,
            "modality": plan.modality,
            "plane": plane.name,
            "steps": plan.steps,
            "step": plan.step,
            "schema": fold_schema,
        }
        gathered = sites.ask(Ask("linear_step", number, arrays, values))
        names = [r.site for r in gathered.replies]
        weights = updates.shares([r.rows for r in gathered.replies], max(most, 1 / len(names)))
        moved = [{"change": r.arrays["change"]} for r in gathered.replies]
        out = len(sites.flagged(number)) if isinstance(sites, updates.Checked) and sites.checks.drop_flagged else 0
        made = rule(moved, weights, names, out)
        w = w + made.arrays["change"]
        aside.append({names[i]: why for i, why in made.set_aside.items()})
        if keep is not None:
            keep(number, {"weights": w}, {"sites": float(len(names))})
        if not np.abs(w).max() < DIVERGED:
            break
    return w, aside


@dataclass(frozen=True)
class Attack:
    """What the bad sites do: ``fault`` of a BadSite, ``data`` that lie, or ``together`` as Colluders.

    Attributes
    ----------
    name, plain : its name, and in words what is sent
    after, every : rounds of honest work before the first lie, and a lie in every so many from there
    """

    name: str
    plain: str
    fault: str = ""
    together: str = ""
    options: Mapping[str, float] = field(default_factory=dict)
    data: bool = False
    after: int = 0
    every: int = 1


ATTACKS = (
    Attack("sign flip", "the change, turned round", fault="sign"),
    Attack("reversed x10", "the change, turned round and ten times as long", fault="reversed"),
    Attack("scaled x100", "the change, a hundred times as long", fault="scaled"),
    Attack("noise x10", "random numbers, ten times as long as the change", fault="noise"),
    Attack("labels flipped", "honest work on values mirrored at each drug's mean", data=True),
    Attack(
        "little is enough",
        "the mean less 1.5 sd of all honest changes",
        together="little is enough",
        options={"z": 1.5},
    ),
    Attack("inner product", "minus half the mean of all honest changes", together="inner product"),
    Attack(
        "rows x1000", "the change, turned round, for a thousand times the rows", fault="reversed, many rows claimed"
    ),
    Attack("late", "honest for ten rounds, then turned round and ten times as long", fault="reversed", after=10),
)

ADAPTIVE = (  # those that know the rule: what speaks against them is kept small
    Attack("alternating", "turned round and ten times as long, every second round", fault="reversed", after=1, every=2),
    Attack("late, short", "honest for ten rounds, then turned round", fault="sign", after=10),
    Attack(
        "near the mean", "the mean less 1 sd of all honest changes", together="little is enough", options={"z": 1.0}
    ),
    Attack(
        "nearer the mean", "the mean less half a sd of all honest changes", together="little is enough",
        options={"z": 0.5},
    ),
    Attack("faint", "minus a tenth of the mean of all honest", together="inner product", options={"times": 0.1}),
)  # fmt: skip


@dataclass(frozen=True)
class Contestant:
    """A way to combine: a rule of ``robust``, on updates brought closer or not, after dropping the flagged or not."""

    name: str
    rule: str
    mix: bool = False
    drop: bool = False


CONTESTANTS = (
    Contestant("mean", "mean"),
    Contestant("clipped mean", "clipped_mean"),
    Contestant("median", "median"),
    Contestant("trimmed mean", "trimmed_mean"),
    Contestant("geometric median", "geometric_median"),
    Contestant("Krum", "krum"),
    Contestant("multi-Krum", "multi_krum"),
    Contestant("median, mixed", "median", mix=True),
    Contestant("remembering", "remembering"),
    Contestant("curvature", "curvature"),
    Contestant("mean, flagged dropped", "mean", drop=True),
    Contestant("remembering, flagged dropped", "remembering", drop=True),
)


@dataclass
class Rehearsal:
    """One fold dealt out to sites; ``cell`` trains once and scores once.

    Parameters
    ----------
    fold, shared : the fold, and {site: its subjects}
    plan : how the linear model is trained
    draws : bootstrap draws over test subjects, the same for every cell
    """

    fold: Fold
    shared: Mapping[str, Sequence[str]]
    plan: Plan = field(default_factory=Plan)
    draws: int = 500

    def __post_init__(self) -> None:
        self.plane = Plane.of(self.fold, self.plan)
        self.honest = {name: Site(name, local(self.fold, held)) for name, held in self.shared.items()}
        self.schema = linear_step.schema(self.plane.features, self.fold.endpoint, self.fold.unit)
        self.subjects = sorted(self.fold.test["subject"].unique())
        self._flipped: dict[str, Site] = {}
        self._alone: dict[frozenset[str], np.ndarray] = {}
        self._base = predict.baseline(self.fold)
        self._w = score.weights(len(self.subjects), self.draws, self.fold.seed)
        at = {n: i for i, n in enumerate(self.subjects)}
        self._unit = self.fold.test["subject"].replace_strict(at, return_dtype=pl.Int64).to_numpy()

    def sites(self, attack: Attack | None, bad: Collection[str]) -> Sites:
        """The federation with ``bad`` sites of one kind in it."""
        made: list[Any] = []
        for name, site in self.honest.items():
            if attack is None or name not in bad or attack.together:
                made.append(site)
            elif attack.data:
                if name not in self._flipped:  # kept, so that its features are turned once
                    self._flipped[name] = mirrored(site)
                made.append(self._flipped[name])
            else:
                lies = range(attack.after, self.plan.rounds, attack.every)
                made.append(BadSite(site, attack.fault, attack.options, rounds=lies))
        inline = Inline(made)
        if attack is None or not attack.together:
            return inline
        return Colluders(inline, bad, attack.together, **attack.options)

    def score(self, weights: np.ndarray) -> np.ndarray:
        """The metric, and its draws over test subjects: (draws + 1,). 0 where training ran away."""
        if not np.abs(weights).max() < DIVERGED:
            return np.zeros(self.draws + 1)
        model: Any = Linear(self.plane, weights, self.plan.modality)  # all of a predictor that scoring needs
        made = predict.predictions(model, self.fold, self._base)
        told = score.measure(score.unseal(made, self.fold), self._unit, len(self.subjects), self._w, (METRIC,))
        return np.append(told.value[METRIC], told.draws[METRIC])

    def train(
        self, rule: robust.Rule, sites: Sites, checks: updates.Checks | None = None, most: float = 1.0
    ) -> tuple[np.ndarray, list[dict[str, str]], list[updates.Noted]]:
        """Weights, who was set aside round by round, and what the checks noted."""
        checked = updates.Checked(sites, checks or updates.Checks(compare=False))
        w, aside = fit(checked, self.schema, self.plane, self.plan, rule, most)
        return w, aside, checked.noted

    def without(self, bad: Collection[str]) -> np.ndarray:
        """Score of the plain mean over the honest sites alone; ``bad`` empty: the clean score of all."""
        key = frozenset(bad)
        if key not in self._alone:
            left = Inline([site for name, site in self.honest.items() if name not in key])
            self._alone[key] = self.score(self.train(robust.make("mean"), left)[0])
        return self._alone[key]

    def cell(self, attack: Attack | None, bad: Sequence[str], by: Contestant, told: int | None = None) -> dict:
        """One row of the table.

        Parameters
        ----------
        told : how many bad sites the rule is told of; None: as many as there are
        """
        told = len(bad) if told is None else told
        row: dict[str, Any] = {
            "attack": "none" if attack is None else attack.name,
            "bad": len(bad),
            "told": told,
            "rule": by.name,
            "who": list(bad),
            "clean": float(self.without(())[0]),
            "honest_alone": float(self.without(bad)[0]),
        }
        checks = updates.Checks(compare=by.drop, drop_flagged=by.drop)
        try:
            rule = robust.make(by.rule, told, by.mix)
            w, aside, noted = self.train(rule, self.sites(attack, bad), checks)
        except (robust.RobustError, TooFewSites) as error:
            return row | {"refused": str(error)}
        got = self.score(w)
        row["score"] = float(got[0])
        for name, reference in (("of_clean", self.without(())), ("of_honest", self.without(bad))):
            share = got / reference
            low, high = np.quantile(share[1:], [0.025, 0.975])
            row |= {name: float(share[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
        seen = [(number, site) for number, names in enumerate(aside) for site in names]
        seen += [(n.round, n.site) for n in noted]
        rounds = max(len(aside), 1)
        row["caught"] = len({x for x in seen if x[1] in bad}) / (rounds * max(len(bad), 1))
        row["wronged"] = len({x for x in seen if x[1] not in bad}) / (rounds * (len(self.honest) - len(bad)))
        return row
