"""Who was trained on? Somebody who has a person's features and responses, and the model, guesses.

Everything rests on one table of errors, observed less predicted: (persons, treatments), NaN where not measured. The
unit is the person: one line with 286 measurements is one guess.

    loss threshold      - log mean e^2 of the person                     Yeom et al. 2018, IEEE CSF 31:268
    LiRA, offline       (mean log loss of models without the person - log loss) / sd
    LiRA, online        log N(log loss; models with) - log N(log loss; models without)
    LiRA, by treatment  the sum over treatments of log N(e_t; with) - log N(e_t; without)

LiRA (Carlini et al. 2022, IEEE S&P, 1897-1914) compares with shadow models of the attacker, each trained on half of the
persons; where fewer than ``MANY`` of them are on a side, one sd serves all persons, as there.

An AUC says something only if members and others come from one pool: else it tells a hospital from another, and nothing
of the model. With shadows that is tested: the losses under models that saw neither must not tell them apart. Source:
Das, Zhang and Tramer 2024, Blind Baselines Beat Membership Inference Attacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from workbench.federated.attacks import figures
from workbench.federated.attacks.figures import Figure

MANY = 32  # shadows on a side from which on each person has an sd of its own
UNLIKE = 1e-3  # p value below which members and others are held to be of two pools
LOSS, OFFLINE, ONLINE, BY_TREATMENT = "loss threshold", "LiRA, offline", "LiRA, online", "LiRA, by treatment"
HAS = "the model, the person's features and responses"
TINY = 1e-12


class NotExchangeable(ValueError):
    """Members and others differ before any model saw one of them: a figure would be of that, not of the model."""


@dataclass(frozen=True)
class Shadows:
    """Errors of models trained by the attacker.

    Attributes
    ----------
    errors : (models, persons, treatments), NaN where not measured
    seen : was the person in the model's training? bool (models, persons)
    """

    errors: np.ndarray
    seen: np.ndarray

    def __post_init__(self) -> None:
        if self.errors.ndim != 3 or self.seen.shape != self.errors.shape[:2]:
            raise ValueError(
                f"shadows: errors (models, persons, treatments) and seen (models, persons) do not fit: "
                f"{self.errors.shape}, {self.seen.shape}."
            )
        models, persons = self.seen.shape
        if not persons:
            raise ValueError("shadows: they have no person in common that they answer for; nothing can be attacked.")
        few = min(int(self.seen.sum(0).min()), int((~self.seen).sum(0).min()))
        if few < 2:
            raise ValueError(
                f"shadows: every person has to be in at least two of them, and out of at least two; of {models} models "
                f"some person is in or out of {few} only. Train more."
            )


def loss(errors: np.ndarray) -> np.ndarray:
    """Log of the mean squared error of each person, (..., persons) of (..., persons, treatments).

    Raises
    ------
    ValueError
        A person has no measured treatment.
    """
    there = np.isfinite(errors)
    count = there.sum(-1)
    if not count.all():
        raise ValueError(f"{int((count == 0).sum())} persons have no error at all; leave them out.")
    square = np.where(there, np.nan_to_num(errors) ** 2, 0.0).sum(-1) / count
    return np.log(square + TINY)


def scores(errors: np.ndarray, shadows: Shadows | None) -> dict[str, np.ndarray]:
    """{attack: score of each person (n,)}; a higher score says member."""
    one = loss(errors)
    out = {LOSS: -one}
    if shadows is None:
        return out
    every = loss(shadows.errors)
    inside, outside = _moments(every, shadows.seen), _moments(every, ~shadows.seen)
    out[OFFLINE] = (outside.mean - one) / outside.sd
    out[ONLINE] = inside.log(one) - outside.log(one)
    with_, without = (_moments(shadows.errors, s) for s in (shadows.seen, ~shadows.seen))
    out[BY_TREATMENT] = np.nansum(with_.log(errors) - without.log(errors), axis=-1)
    return out


def attack(
    errors: np.ndarray,
    member: np.ndarray,
    shadows: Shadows | None = None,
    knows: str = HAS,
    site: str | None = None,
) -> list[Figure]:
    """Figures of every attack that is possible.

    Parameters
    ----------
    errors : of the attacked model (n, t), NaN where not measured
    member : was the person in its training? bool (n,)
    shadows : over the same persons and treatments; None: the loss threshold alone, and no test of exchangeability
    knows : what the attacker has, in words
    site : whose persons they are; None: of all sites

    Raises
    ------
    NotExchangeable
        Members and others can be told apart by models that saw neither.
    """
    member = np.asarray(member, dtype=bool)
    if errors.ndim != 2 or member.shape != errors.shape[:1]:
        raise ValueError(f"errors (persons, treatments) and member (persons,) do not fit: {errors.shape}.")
    if shadows is not None:
        if shadows.errors.shape[1:] != errors.shape:
            raise ValueError(f"shadows are of {shadows.errors.shape[1:]} persons and treatments, not {errors.shape}.")
        exchangeable(blind(shadows), member)
    out: list[Figure] = []
    for name, score in scores(errors, shadows).items():
        has = knows if name == LOSS or shadows is None else f"{knows}, {len(shadows.seen)} models of the attacker's own"
        out += figures.told(f"membership, {name}", has, score, member, site)
    return out


def blind(shadows: Shadows) -> np.ndarray:
    """Mean log loss of each person under the models that did not see it (n,)."""
    return _moments(loss(shadows.errors), ~shadows.seen).mean


def exchangeable(statistic: np.ndarray, member: np.ndarray) -> float:
    """p value of members and others being of one pool, by a statistic that no membership can have moved.

    Rank-sum test (Mann and Whitney 1947), two-sided.

    Raises
    ------
    NotExchangeable
        p is below ``UNLIKE``.
    """
    p = float(stats.mannwhitneyu(statistic[member], statistic[~member]).pvalue)
    if p < UNLIKE:
        at = float(figures.beats(-statistic[member], -statistic[~member]).mean())
        raise NotExchangeable(
            f"members and others are told apart by models that saw neither (AUC {at:.3f}, p {p:.1g}): they are not of "
            "one pool. Draw both at random from the same persons."
        )
    return p


@dataclass(frozen=True)
class _Normal:
    """A normal distribution for each person, or person and treatment."""

    mean: np.ndarray
    sd: np.ndarray

    def log(self, x: np.ndarray) -> np.ndarray:
        return -0.5 * ((x - self.mean) / self.sd) ** 2 - np.log(self.sd)


def _moments(x: np.ndarray, which: np.ndarray) -> _Normal:
    """Of the models ``which`` (m, n): mean (n, ...) and sd (n, ...), one sd for all persons where models are few."""
    w = which.reshape(*which.shape, *(1,) * (x.ndim - 2)) & np.isfinite(x)
    count = w.sum(0)
    value = np.where(w, np.nan_to_num(x), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, value.sum(0) / np.maximum(count, 1), np.nan)
        square = np.where(w, (np.nan_to_num(x) - np.nan_to_num(mean)) ** 2, 0.0).sum(0)
        if which.sum(0).min() < MANY:
            # degrees of freedom are what is left after each person's own mean
            free = np.maximum(count - 1, 0).sum(0)
            sd = np.broadcast_to(np.sqrt(square.sum(0) / np.maximum(free, 1)), mean.shape)
        else:
            sd = np.sqrt(square / np.maximum(count - 1, 1))
    return _Normal(mean, np.maximum(sd, TINY))
