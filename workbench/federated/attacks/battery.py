"""Every attack that a federation's own data allow, one after the other, on one fold of it.

    membership   shadow models by the federation's own method; and the recorded model itself, by its errors
    inversion    what a site sends when it has one person, as it is, and in the sum over sites
    property     which of the two most frequent tissues dominates at a site, by its update and by the sum of all

Updates are those of the closed form's first round on shared axes (``linear_step`` from 0; ``ridge_start`` sends the
same sums as ``products``). What nobody sees in this federation (one person alone, which a policy refuses; a site's own
update under secure sums; sums without their noise) is told without an interval: it shows what the protection is for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from workbench.federated.attacks import figures, inversion, membership, shadows
from workbench.federated.attacks import property as properties
from workbench.federated.attacks.figures import AUC, CORRELATION, Figure
from workbench.federated.messages import Value
from workbench.federated.robust.rehearsal import Plan, Plane
from workbench.federated.spec import Federation
from workbench.federated.state import StateFile
from workbench.nn.scaling import standardise

KINDS = ("membership", "inversion", "property")
VICTIMS = 20  # persons whose values are looked for
FEWEST = 6  # persons of a site that can be said to have a majority
Say = Callable[[float, str], None]
Keep = Callable[[int, Mapping[str, np.ndarray], Mapping[str, Value]], None]


@dataclass(frozen=True)
class Sizes:
    """How much is done: shadow models, shadow sites, axes of the updates, and the seed of all draws."""

    shadows: int = 16
    sites: int = 200
    axes: int = 64
    seed: int = 0


@dataclass
class Battery:
    """Attacks on fold ``number`` of ``federation``.

    Attributes
    ----------
    notes : what could not be done, and why
    """

    federation: Federation
    number: int
    sizes: Sizes

    def __post_init__(self) -> None:
        self.trainer = shadows.Federated(self.federation, self.number)
        self.notes: list[str] = []
        self.noisy = shadows.private(self.federation)
        self.seen = not self.federation.secure and not self.noisy  # a site's own update, by the server
        self._noise = ", without the noise that this federation adds" if self.noisy else ""
        hidden = "" if not self.federation.secure else ", which secure sums hide"
        self._more = hidden + self._noise

    def mark(self) -> str:
        """SHA-256 of all the shadow models depend on."""
        from workbench.federated.simulation import simulate

        told = [simulate.mark(self.federation, self.number), self.sizes.shadows, self.sizes.seed]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    # --- membership --------------------------------------------------------------------------------------------------

    def membership(
        self, file: StateFile | None = None, keep: Keep | None = None, say: Say | None = None
    ) -> list[Figure]:
        """Threshold and LiRA on a model of half of the persons, over all sites; LiRA at each site by itself.

        Raises
        ------
        workbench.federated.attacks.membership.NotExchangeable
            Never by these halves, which are drawn at random, but for one time in a thousand.
        """
        trainer = self.trainer
        played = shadows.run(
            trainer, len(trainer.persons), self.sizes.shadows, self.sizes.seed, trainer.site,
            None if file is None else file.load(), keep, say,
        )  # fmt: skip
        out = played.figures()
        score = membership.scores(played.errors, played.shadows)[membership.ONLINE]
        site = np.array(trainer.site)[played.kept]
        for name in trainer.dealt:
            own = site == name
            if min((own & played.member).sum(), (own & ~played.member).sum()) < 10:
                self.notes.append(f"{name} has too few persons for a membership figure of its own.")
                continue
            knows = f"{shadows.OURS}, {self.sizes.shadows} models of the attacker's own"
            out += figures.told(f"membership, {membership.ONLINE}", knows, score[own], played.member[own], name)[:1]
        return out

    def of_the_model(self, predictor: Any, predictions: pl.DataFrame) -> list[Figure]:
        """Loss threshold on the recorded model: its training persons among the test persons, who were dealt at random.

        Parameters
        ----------
        predictor : of this fold, restored
        predictions : of the test rows, unsealed: row, predicted, observed
        """
        fold = self.trainer.fold
        if fold.rule != "unseen subject":
            self.notes.append(
                f"{fold.rule!r} does not deal persons at random: the recorded model itself was not attacked."
            )
            return []
        there = fold.test.select("row", "person").join(
            predictions.select("row", error=pl.col("observed") - pl.col("predicted")).drop_nulls(), on="row"
        )
        other = there.filter(pl.col("error").is_finite()).group_by("person").agg(pl.col("error").pow(2).mean().log())
        errors = self.trainer.errors(predictor)
        mine = membership.loss(errors[np.isfinite(errors).any(1)])
        score = -np.concatenate([mine, other["error"].to_numpy()])
        member = np.arange(len(score)) < len(mine)
        has = "the recorded model; a person's features and responses"
        return figures.told(f"membership, {membership.LOSS}, recorded model", has, score, member)

    # --- single updates ----------------------------------------------------------------------------------------------

    @cached_property
    def plane(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(coordinates z (n, k), responses less the treatment's mean (n, t), site (n,), tissue (n,)) of persons."""
        t = self.trainer
        modality = str(self.federation.settings.get("modality", "expression"))
        plane = Plane.of(t.fold, Plan(modality=modality, axes=self.sizes.axes))
        from workbench import modalities

        block = modalities.read(t.fold.study, modality, endpoint=t.fold.endpoint)
        one = t.train.unique("person", keep="first").sort("person")
        x, there = block.rows(one["subject"].to_list())
        z = standardise(x, plane.mean, plane.sd).astype(np.float64) @ plane.axes
        y = t.y - np.nanmean(t.y, axis=0)
        tissue = one["tissue"].cast(pl.String).fill_null("").to_numpy()
        return z[there], y[there], np.array(t.site)[there], tissue[there]

    def inversion(self) -> list[Figure]:
        """Features of persons out of the first update: alone, at their site as it is, in the sum over all sites."""
        z, y, site, _ = self.plane
        update = properties.linear_update(z, y)
        rng = np.random.default_rng([self.sizes.seed, 2020])
        victims = rng.permutation(len(z))[:VICTIMS]
        # a person whose responses are all the mean tells nothing of its features
        victims = np.array([v for v in victims if np.nansum(y[v] ** 2) > 0])
        everybody = np.arange(len(z))
        views: list[tuple[str, Callable[[int], np.ndarray], bool]] = [
            ("one person alone; refused unless the policy is lowered", lambda v: np.array([v]), False),
            (f"the update of the person's site{self._more}", lambda v: np.flatnonzero(site == site[v]), self.seen),
            (f"the sum over all sites{self._noise}", lambda _: everybody, not self.noisy),
        ]
        out = []
        for knows, persons, seen in views:
            found = [inversion.of_linear(update(persons(v)))[0] for v in victims]
            told = inversion.joined(found, [z[v] for v in victims]).figure("first update", knows)
            out.append(_told(replace(told, n=len(victims)), seen))
        return out

    def property(self) -> list[Figure]:
        """Which of the two most frequent tissues dominates: by a site's update, and by the sum of all sites."""
        z, y, _, tissue = self.plane
        names, count = np.unique(tissue[tissue != ""], return_counts=True)
        if len(names) < 2:
            self.notes.append("subjects have fewer than two tissues: no property was looked for.")
            return []
        first, second = names[np.argsort(-count, kind="stable")][:2].tolist()
        at = np.flatnonzero(np.isin(tissue, [first, second]))
        kind = tissue[at] == first
        plan = properties.Plan(sites=self.sizes.sites)
        # halves are dealt at random, so each has about half of either kind; a few less to be safe
        size = min(plan.size, int(0.35 * min(kind.sum(), (~kind).sum()) / plan.share))
        if size < FEWEST:
            self.notes.append(
                f"{first} and {second} have too few persons for sites of them: no property was looked for."
            )
            return []
        update = properties.linear_update(z[at], y[at])
        what = f"{first} or {second} dominates"
        one, every = (
            properties.attack(update, kind, replace(plan, size=size, together=k), self.sizes.seed, what)
            for k in (1, len(self.trainer.dealt))
        )
        one = replace(one, knows=one.knows + self._more)
        return [_told(one, self.seen), _told(replace(every, knows=every.knows + self._noise), not self.noisy)]


def _told(figure: Figure, seen: bool) -> Figure:
    """Without an interval where nobody sees what it rests on: then it is no figure of this federation."""
    return figure if seen else replace(figure, low=None, high=None)


def kept(found: Sequence[Figure]) -> list[Figure]:
    """What goes into the run: AUCs and correlations, and of rates at few false alarms those of LiRA."""
    return [f for f in found if f.figure in (AUC, CORRELATION) or f.attack == f"membership, {membership.ONLINE}"]
