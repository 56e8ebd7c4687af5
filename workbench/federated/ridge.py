"""Ridge of every treatment on the rows of all sites, exact, from sums: the model that one house with all rows would fit.

    y_sd = m_d + r_s . b_d,   b_d = argmin sum over sites |y - m_d - R b|^2 + a_d |b|^2,   R = Z V / c

Z: features standardised by the moments of all sites (``statistics``); V: their first k principal axes, by block power
iteration on sums; c: the root mean square length of a row of Z, so that penalties mean what they mean in
``predictors.linear.Ridge``. Missing responses, free intercepts and a penalty of its own for every treatment come out as
the pooled ridge's on the measured rows: conjugate gradients on summed products, preconditioned with the one Gram matrix
of all subjects (``_gradients``). Penalties have the least squared error on inner parts left out, dealt at each site by a
hash of the subject's name; interval half-widths are quantiles of those errors, from histograms. What is returned is a
``Ridge``: predict, save and restore as after local training. Pooled is the same with one site that has all rows.

What the messages show the server, of each site, or with secure sums of all sites together:

    schema            names, units, counts
    moments           count, mean and variance of every feature
    axes              k mixtures of the subjects a step (k is below their number)
    ridge_start       second moments along k axes; response times coordinate, by treatment and inner part
    ridge_product     weighted sums over the measured subjects, a direction for each treatment, penalty and part a round
    ridge_errors      squared errors by treatment and candidate
    ridge_residuals   how many errors lie in which interval, by treatment

A Gram matrix of fewer rows than columns shows the span of the rows, and with it whether a known profile is among them:
so a site refuses as many axes as it has subjects. Gram matrices by treatment are never asked for: two of them differ by
the subjects that were measured with one treatment only, often a single one. The products narrow them down all the same,
round by round, for a server that keeps them all: with sums that are not secure, that is what a site shows at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from workbench.federated import statistics
from workbench.federated._gradients import Systems, solve
from workbench.federated._progress import Keep, Progress, State
from workbench.federated._steady import SitesChanged, Steady
from workbench.federated.harmonise import Plan, agree
from workbench.federated.messages import Ask
from workbench.federated.sites import Sites, TooFewSites
from workbench.predictors._widths import LEVEL, HalfWidths
from workbench.predictors.linear import Ridge
from workbench.text import nearest

FEW = 3  # a treatment with fewer rows keeps its mean, as in ``nn.kernel_ridge``
ROWS_OF_ITS_OWN = 30  # errors that a half-width of its own needs, as in ``HalfWidths``


class RidgeError(ValueError):
    """A setting cannot be; says which, what was found and what may be."""


@dataclass(frozen=True)
class Settings:
    """How the ridge is fitted.

    Attributes
    ----------
    modality, endpoint : inputs and output; endpoint None takes that of most sites
    axes : principal axes, k
    steps : steps of power iteration
    penalties : candidates, one is chosen for each treatment
    parts, seed : inner parts that are left out in turn, and what deals them
    rough, fine : residuals to which candidates and the final systems are solved
    resolution : of the half-widths, in root mean squares of the errors
    least : fewest sites
    share : least share of the common features that a site has to have
    """

    modality: str = "expression"
    endpoint: str | None = None
    axes: int = 128
    steps: int = 4
    penalties: tuple[float, ...] = tuple(float(a) for a in 10.0 ** np.linspace(-1.0, 2.0, 9))
    parts: int = 5
    seed: int = 0
    rough: float = 1e-4
    fine: float = 1e-11
    resolution: float = 1e-3
    least: int = 1
    share: float = 0.8

    def __post_init__(self) -> None:
        for key, least in (("axes", 2), ("steps", 1), ("parts", 2), ("least", 1)):
            if getattr(self, key) < least:
                raise RidgeError(f"{key} should be at least {least}, found {getattr(self, key)}.")
        if not self.penalties or min(self.penalties) <= 0:
            raise RidgeError(f"penalties should be numbers above 0, found {list(self.penalties)}.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """From a mapping; what belongs to every method (rounds, predictor) is passed over, anything else unknown not."""
        known = {f.name for f in fields(cls)}
        for key in set(given) - known - {"rounds", "predictor"}:
            raise RidgeError(f"a federated ridge has no setting {key!r}.{nearest(key, sorted(known))}")
        plain = {k: tuple(v) if k == "penalties" else v for k, v in given.items() if k in known}
        return cls(**plain)


def settings() -> dict[str, Any]:
    """The settings a federation file may give, with their defaults."""
    return {f.name: getattr(Settings(), f.name) for f in fields(Settings)}


def fit(
    sites: Sites,
    settings: Mapping[str, Any],
    state: State | None = None,
    keep: Keep | None = None,
    say: Callable[[float, str], None] | None = None,
) -> Ridge:
    """Fit on the rows of all ``sites`` that agree and take part to the end; without them it begins anew.

    Parameters
    ----------
    settings : see ``Settings``
    state : what ``keep`` last got, as (round, arrays, values): a killed server goes on from there
    keep : called with (round, arrays, values) after each round
    say : called with (share done, what is done)

    Returns
    -------
    Ridge, fitted; ``agreed_`` is the ``Plan`` with every site and difference

    Raises
    ------
    workbench.federated.sites.TooFewSites
        Fewer than ``least`` sites took part to the end.
    """
    chosen = Settings.of(settings)
    progress = Progress(state, keep, say)
    gone: dict[str, str] = {}
    while True:
        try:
            return _Fit(sites, chosen, progress, gone).run()
        except SitesChanged as changed:
            plan = progress.plan()
            lost = {s: str(changed) for s in plan.sites if s not in changed.now}
            if not lost:
                raise
            gone |= lost
            if len(changed.now) < chosen.least:
                raise TooFewSites(str(changed)) from changed
            progress.restart(f"without {', '.join(lost)} from the start")


class _Fit:
    """One attempt on a fixed set of sites."""

    def __init__(self, sites: Sites, chosen: Settings, progress: Progress, gone: Mapping[str, str]) -> None:
        self.chosen, self.progress = chosen, progress
        self.plan = progress.agreed(
            lambda: agree(sites, chosen.modality, chosen.endpoint, chosen.least, chosen.share, gone)
        )
        self.steady = Steady(sites, self.plan.sites, chosen.least)
        self.said = {**self.plan.values(), "parts": chosen.parts, "seed": chosen.seed}

    def run(self) -> Ridge:
        once, plan = self.progress.once, self.plan
        scale = once("scale", 0.05, "means and spreads", self._scale)
        axes = self._axes(scale)
        self.shared = {"mean": scale["mean"], "sd": scale["sd"], "axes": axes}
        start = once("start", 0.35, "one Gram matrix of all subjects", lambda: self._total("ridge_start", {}))
        inner = once("inner", 0.75, "penalties", lambda: self._penalties(start))
        weights = once("weights", 0.9, "weights", lambda: self._weights(start, inner["penalty"]))["weights"]
        widths = once("widths", 1.0, "intervals", lambda: self._widths(start, inner))["widths"]
        return _model(plan, self.chosen, self.shared, start, inner["penalty"], weights, widths)

    def _total(self, purpose: str, arrays: Mapping[str, np.ndarray], **values: Any) -> dict[str, np.ndarray]:
        ask = Ask(purpose, self.progress.next(), {**self.shared, **arrays}, {**self.said, **values})
        return self.steady.total(ask)

    def _scale(self) -> dict[str, np.ndarray]:
        told = statistics.moments(self.steady, self.plan, round=self.progress.next())
        self.progress.next()  # two rounds
        varies = (told.sd >= 1e-6) & (told.count > 0)
        if not varies.any():
            raise RidgeError(f"no feature of {self.plan.modality!r} varies over the sites' training subjects.")
        subjects = int((told.count + told.missing)[0])
        length = np.sqrt(told.count[varies].sum() / subjects)
        return {
            "mean": told.mean, "sd": np.where(varies, told.sd, np.inf), "length": np.array([length]),
            "subjects": np.array([subjects]),
        }  # fmt: skip

    def _axes(self, scale: Mapping[str, np.ndarray]) -> np.ndarray:
        f, subjects = len(scale["mean"]), int(scale["subjects"][0])
        k = min(self.chosen.axes, f, subjects)
        axes = np.linalg.qr(np.random.default_rng([self.chosen.seed, 20261122]).normal(size=(f, k)))[0]
        self.shared = {"mean": scale["mean"], "sd": scale["sd"]}
        for step in range(self.chosen.steps):
            last = axes
            axes = self.progress.once(
                f"axes {step}", 0.05 + 0.25 * (step + 1) / self.chosen.steps, "principal axes",
                lambda last=last: {"axes": np.linalg.qr(self._total("axes", {"axes": last})["step"])[0]},
            )["axes"]  # fmt: skip
        return axes / scale["length"][0]

    def _solve(self, start, treatment, part, penalty, tolerance: float, name: str) -> np.ndarray:
        """Solutions (k + 1, c); a column with fewer than ``FEW`` rows has the mean and no weights."""
        products, count = start["products"], start["count"]
        left = np.maximum(part, 0)
        out = part >= 0
        rhs = products.sum(2)[:, treatment] - np.where(out, products[:, treatment, left], 0.0)
        n = count.sum(1)[treatment] - np.where(out, count[treatment, left], 0)
        solution = np.zeros_like(rhs)
        solution[-1] = rhs[-1] / np.maximum(n, 1)
        enough = np.flatnonzero(n >= FEW)
        if len(enough):
            systems = Systems(start["gram"], int(start["subjects"][0]), n[enough], penalty[enough], rhs[:, enough])

            def product(directions: np.ndarray, at: np.ndarray) -> np.ndarray:
                arrays = {"directions": directions, "treatment": treatment[enough][at], "part": part[enough][at]}
                return self._total("ridge_product", arrays)["products"]

            solution[:, enough] = solve(
                systems, product, tolerance, state=self.progress.inner(name), keep=self.progress.inside(name)
            )
        return solution

    def _penalties(self, start: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The penalty of each treatment (t,), and the solutions with each part left out at it (parts, k + 1, t)."""
        t, parts = start["count"].shape
        grid = np.array(self.chosen.penalties)
        # directions of one treatment and part in one ask stay below the number of axes: candidates in turn where need be
        size = max(start["gram"].shape[0] - 2, 1)
        solutions, squares = [], []
        for low in range(0, len(grid), size):
            some = np.arange(low, min(low + size, len(grid)))
            d, p, q = (a.ravel() for a in np.meshgrid(np.arange(t), np.arange(parts), some, indexing="ij"))
            found = self._solve(start, d, p, grid[q], self.chosen.rough, f"penalties {low}")
            told = self._total("ridge_errors", {"solutions": found, "treatment": d, "part": p})
            shape = (t, parts, len(some))
            solutions.append(found.reshape(-1, *shape))
            squares.append(told["squares"].reshape(shape))
        every, errors = np.concatenate(solutions, axis=3), np.concatenate(squares, axis=2)
        judged = (start["count"].sum(1, keepdims=True) - start["count"] >= FEW) & (start["count"] > 0)
        by = np.where(judged[:, :, None], errors, 0.0).sum(1)
        best = np.where(judged.any(1), by.argmin(1), by.sum(0).argmin())
        inner = np.stack([every[:, np.arange(t), p, best] for p in range(parts)])
        count = np.where(judged, start["count"], 0).sum(1)
        return {"penalty": grid[best], "solutions": inner, "squares": by[np.arange(t), best], "judged": count}

    def _weights(self, start: Mapping[str, np.ndarray], penalty: np.ndarray) -> dict[str, np.ndarray]:
        t = np.arange(len(penalty))
        return {"weights": self._solve(start, t, np.full(len(t), -1), penalty, self.chosen.fine, "weights")}

    def _widths(self, start: Mapping[str, np.ndarray], inner: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Half-widths by treatment, and of all together last: (t + 1,)."""
        count = start["count"].sum(1)
        count = np.append(count, count.sum())
        spread = np.sqrt(np.maximum(inner["squares"].sum() / max(inner["judged"].sum(), 1), 1e-300))
        arrays = {"solutions": inner["solutions"]}

        def counts(low: np.ndarray, high: np.ndarray) -> np.ndarray:
            told = self._total("ridge_residuals", {**arrays, "low": low, "high": high}, bins=statistics.BINS)
            return told["counts"]

        rank = np.minimum(np.ceil((count + 1) * LEVEL), count)
        begin = np.zeros(len(count))
        found = statistics.ranked(
            counts, rank, count, begin, begin + 4 * spread, begin + self.chosen.resolution * spread
        )
        return {"widths": found}


def _model(plan: Plan, chosen: Settings, shared, start, penalty, weights, widths) -> Ridge:
    """The same object that local training makes. A treatment's other names get its numbers."""
    names = [*plan.treatments, *plan.alias]
    at = np.array([plan.treatments.index(plan.alias.get(n, n)) for n in names])
    order = np.argsort(names)
    names, at = [names[i] for i in order], at[order]
    count = start["count"].sum(1)
    some = count > 0
    model = Ridge(modality=chosen.modality)
    model.features_, model.treatments_ = list(plan.features), names
    model.mean_, model.sd_ = shared["mean"], shared["sd"]
    model.weights_ = (shared["axes"] @ weights[:-1])[:, at]
    model.offset_ = np.where(some, weights[-1], np.nan)[at]
    model.penalty_ = np.where(count >= FEW, penalty, np.nan)[at]
    own = np.where(count >= ROWS_OF_ITS_OWN, widths[:-1], widths[-1])[at]
    kept = some[at]
    model.widths_ = HalfWidths([n for n, k in zip(names, kept, strict=True) if k], own[kept], float(widths[-1]))
    model.agreed_ = replace(plan)  # type: ignore[attr-defined]
    return model
