"""What is a site like? Told from a single update: which of two kinds of persons dominates there.

The attacker has persons of its own with the same features and responses. It deals shadow sites out of them, most of
whose persons are of the kind or are not, computes what such a site would send, and fits a logistic regression on the
few directions in which those updates differ most. It is judged on sites dealt from persons that it does not have.

    update   Z' (y - level) / n     what ``asked.linear_step`` sends from weights that are 0, per row
    view     the update of the site, or what a secure sum shows: the mean over it and others of any mixture

Sources: Ateniese et al. 2015, IJSN 10:137 (shadow models); Melis et al. 2019, IEEE S&P (single updates). Sites that are
dealt from the same persons share some: the interval over sites is a little too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.federated.attacks import figures
from workbench.federated.attacks.figures import Figure

Update = Callable[[np.ndarray], np.ndarray]  # places of a site's persons -> what it sends, any shape


@dataclass(frozen=True)
class Plan:
    """How sites are dealt and told apart.

    Attributes
    ----------
    sites : shadow sites of the attacker, and as many to be judged on
    size : persons of a site
    share : of the kind, in a site where it dominates; 1 less that where it does not
    axes : directions of the updates that are kept
    strength : of the logistic regression's L2 penalty
    together : sites whose sum the attacker sees; 1: the site's own update
    """

    sites: int = 200
    size: int = 30
    share: float = 0.7
    axes: int = 16
    strength: float = 1.0
    together: int = 1


def linear_update(z: np.ndarray, y: np.ndarray) -> Update:
    """One step from 0 of a linear model of all treatments, per row; z (n, k) on shared axes, y (n, t) with NaN."""
    one = np.column_stack([z, np.ones(len(z))])
    there = np.isfinite(y)
    value = np.where(there, y, 0.0)

    def update(at: np.ndarray) -> np.ndarray:
        return one[at].T @ value[at] / max(int(there[at].sum()), 1)

    return update


def deal(kind: np.ndarray, of: np.ndarray, plan: Plan, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """(persons of each of ``plan.sites`` sites, does the kind dominate there?) dealt from the persons at ``of``.

    Raises
    ------
    ValueError
        There are too few persons of the kind, or of others, for one site.
    """
    some, rest = of[kind[of]], of[~kind[of]]
    most = round(plan.share * plan.size)
    if min(len(some), len(rest)) < most:
        raise ValueError(
            f"a site of {plan.size} persons, {plan.share:.0%} of one kind, needs {most} of either; the attacker's half "
            f"or the others have {len(some)} and {len(rest)}. Take smaller sites."
        )
    label = np.arange(plan.sites) % 2 == 0
    sites = [
        np.concatenate([
            rng.choice(some, most if dominates else plan.size - most, replace=False),
            rng.choice(rest, plan.size - most if dominates else most, replace=False),
        ])
        for dominates in label
    ]  # fmt: skip
    return sites, label


def views(
    update: Update, sites: Sequence[np.ndarray], of: np.ndarray, plan: Plan, rng: np.random.Generator
) -> np.ndarray:
    """What the attacker sees of each site, flat: (sites, numbers). Others of a sum are drawn from ``of``."""
    rows = []
    for persons in sites:
        seen = update(persons).ravel().astype(np.float64)
        for _ in range(plan.together - 1):
            seen = seen + update(rng.choice(of, plan.size, replace=False)).ravel()
        rows.append(seen / plan.together)
    return np.stack(rows)


def scores(train: np.ndarray, label: np.ndarray, test: np.ndarray, plan: Plan) -> np.ndarray:
    """Log odds that the kind dominates, of sites ``test`` (m, d), by what was learnt of ``train`` (n, d)."""
    from sklearn.linear_model import LogisticRegression

    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][: plan.axes].T
    a, b = (train - mean) @ axes, (test - mean) @ axes
    sd = np.maximum(a.std(0), 1e-12)
    fitted = LogisticRegression(C=1 / plan.strength, max_iter=1000).fit(a / sd, label)
    return fitted.decision_function(b / sd)


def attack(
    update: Update, kind: np.ndarray, plan: Plan | None = None, seed: int = 0, what: str = "which kind dominates"
) -> Figure:
    """AUC of telling sites where ``kind`` (n,) bool dominates, on sites of persons the attacker has not.

    Parameters
    ----------
    update : what a site of the persons at given places sends
    """
    plan = plan or Plan()
    rng = np.random.default_rng([seed, 2019])
    order = rng.permutation(len(kind))
    own, others = order[: len(kind) // 2], order[len(kind) // 2 :]
    (mine, label), (theirs, truth) = (deal(kind, half, plan, rng) for half in (own, others))
    a, b = views(update, mine, own, plan, rng), views(update, theirs, others, plan, rng)
    value, low, high = figures.auc(scores(a, label, b, plan), truth, seed=seed)
    seen = "the site's update" if plan.together == 1 else f"the sum of the updates of {plan.together} sites"
    knows = f"{seen}, and {len(own)} persons of the attacker's own"
    return Figure(f"property, {what}", knows, figures.AUC, value, low, high, 0.5, plan.sites)
