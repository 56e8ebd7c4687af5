"""Ridge of every treatment on the rows of all sites, exact, from sums: what one house with all rows would fit.

    y_sd = m_d + r_s . b_d,   b_d = argmin sum over sites |y - m_d - R b|^2 + a_d |b|^2,   R = Z V / c

Z: features standardised by the moments of all sites (``statistics``); V: their first k principal axes, by block power
iteration on sums; c: the root mean square length of a row of Z, so that penalties mean what they mean in
``predictors.linear.Ridge``. Missing responses, free intercepts and a penalty of its own for every treatment come out as
the pooled ridge's on the measured rows: conjugate gradients on summed products, preconditioned with the one Gram matrix
of all subjects (``_gradients``). Penalties have the least squared error on inner parts left out, dealt at each site by
a hash of the subject's name. Interval half-widths are the root mean square of a treatment's errors on those parts times
a quantile over all treatments, from one histogram: quantiles by treatment would need counts of single subjects. What is
returned is a ``Ridge``: predict, save and restore as after local training. Pooled is the same with one site that has
all rows.

What the messages show the server, of each site, or with secure sums of all sites together:

    schema            names, units, counts
    moments           count, mean and variance of every feature
    axes              k mixtures of the subjects a step (k is below their number)
    ridge_start       second moments along k axes; response times coordinate, by treatment and inner part
    ridge_product     weighted sums over the measured subjects, a direction for each treatment, penalty and part a round
    ridge_errors      squared errors by treatment, candidate and inner part
    ridge_residuals   how many errors lie in which interval, all treatments together

A Gram matrix of fewer rows than columns shows the span of the rows, and with it whether a known profile is among them:
so a site refuses as many axes as it has subjects, unless its policy says otherwise. Gram matrices by treatment are
never asked for: two of them differ by the subjects that were measured with one treatment only, often a single one. The
products narrow them down all the same, round by round, for a server that keeps them all: with sums that are not
secure, that is what a site shows at most.

What nobody can see, as no names and no values are told: a subject that two sites have counts twice, at the weight of
two (always in the same inner part, which its name deals; but sites that split their own studies may test at one what
was trained on at the other), and values in another unit than they are said to be in (half-widths and a site's own
errors grow). Where the level of the endpoint is many times its spread, residuals are those of the level: of a million
spreads, weights are right to 1e-4 only; of a thousand, to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from workbench.federated.exact import statistics
from workbench.federated.exact.gradients import Systems, solve
from workbench.federated.exact.harmonise import Plan, agree
from workbench.federated.exact.progress import Keep, Progress, State
from workbench.federated.exact.steady import SitesChanged, Steady
from workbench.federated.messages import Ask, Value
from workbench.federated.sites import Sites, TooFewSites
from workbench.predictors._widths import LEVEL, HalfWidths
from workbench.predictors.linear import Ridge
from workbench.text import nearest

RESIDUAL = "log10 of the largest residual"  # relative, of the systems being solved: what is drawn by round
FEW = 3  # a treatment with fewer rows keeps its mean, as in ``nn.kernel_ridge``
ROWS_OF_ITS_OWN = 30  # errors that a half-width of its own needs, as in ``HalfWidths``
BINS, FAR = 256, 8.0  # intervals of the errors' histogram, from 0 to this many root mean squares
NORMAL = 1.6448536269514722  # the same quantile of a normal error


class RidgeError(ValueError):
    """A setting cannot be; says which, what was found and what may be."""


@dataclass(frozen=True)
class Settings:
    """How the ridge is fitted.

    Attributes
    ----------
    modality, endpoint : inputs and output; endpoint None takes that of most sites
    axes : principal axes, k; fewer where a site answers for fewer
    least_axes : a site that answers for fewer than these takes no part
    steps : steps of power iteration
    penalties : candidates, one is chosen for each treatment
    parts, seed : inner parts that are left out in turn, and what deals them
    rough, rounds_inner : residual to which candidates are solved, and after how many rounds they are good enough
    fine : residual to which the chosen systems are solved
    least : fewest sites
    share : least share of the common features that a site has to have
    """

    modality: str = "expression"
    endpoint: str | None = None
    axes: int = 128
    least_axes: int = 16
    steps: int = 3
    penalties: tuple[float, ...] = tuple(float(a) for a in 10.0 ** np.linspace(-1.0, 2.0, 9))
    parts: int = 5
    seed: int = 0
    rough: float = 1e-4
    rounds_inner: int = 6
    fine: float = 1e-10
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
        """From a mapping; what every method gets (rounds, predictor) is passed over, anything else unknown is not."""
        known = {f.name for f in fields(cls)}
        for key in set(given) - known - {"rounds", "predictor"}:
            raise RidgeError(f"a federated ridge has no setting {key!r}.{nearest(key, sorted(known))}")
        plain: dict[str, Any] = {k: tuple(v) if k == "penalties" else v for k, v in given.items() if k in known}
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
            return Fit(sites, chosen, progress, gone).run()
        except SitesChanged as changed:
            plan = progress.plan()
            lost = {s: str(changed) for s in plan.sites if s not in changed.now}
            if not lost:
                raise
            gone |= lost
            if len(changed.now) < chosen.least:
                raise TooFewSites(str(changed)) from changed
            progress.restart(f"without {', '.join(lost)} from the start")


class Fit:
    """One attempt on a fixed set of sites; its stages stay in ``progress`` (``network.start`` goes on from them).

    Attributes
    ----------
    plan : what the sites agreed on; ``steady`` asks just those for sums, ``inner`` goes along with every ask
    shared : arrays that go along: mean, sd and, once they are known, axes
    intervals : False leaves half-widths at 0 and does not ask for them
    """

    def __init__(
        self, sites: Sites, chosen: Settings, progress: Progress, gone: Mapping[str, str], intervals: bool = True
    ) -> None:
        self.chosen, self.progress, self.intervals = chosen, progress, intervals
        self.plan = progress.agreed(
            lambda: agree(
                sites,
                chosen.modality,
                chosen.endpoint,
                chosen.least,
                chosen.share,
                gone,
                min(chosen.least_axes, chosen.axes),
            )
        )
        self.steady = Steady(sites, self.plan.sites, chosen.least)
        self.inner: dict[str, Value] = {
            "parts": chosen.parts,
            "seed": chosen.seed,
        }  # which rows there are enough of depends on them
        self.shared: dict[str, np.ndarray] = {}

    def run(self) -> Ridge:
        once, plan = self.progress.once, self.plan
        scale = once("scale", 0.05, "means and spreads", self._scale)
        self.shared = {"mean": scale["mean"], "sd": scale["sd"]}
        axes = self._axes(scale)
        self.shared = {"mean": scale["mean"], "sd": scale["sd"], "axes": axes}
        start = once("start", 0.35, "one Gram matrix of all subjects", lambda: self._total("ridge_start", {}))
        inner = once("inner", 0.75, "penalties", lambda: self._penalties(start))
        weights = once("weights", 0.9, "weights", lambda: self._weights(start, inner["penalty"]))["weights"]
        widths = once("widths", 1.0, "intervals", lambda: self._widths(start, inner))["widths"]
        return _model(plan, self.chosen, self.shared, start, inner["penalty"], weights, widths)

    def _total(self, purpose: str, arrays: Mapping[str, np.ndarray], **values: Any) -> dict[str, np.ndarray]:
        ask = Ask(
            purpose, self.progress.next(), {**self.shared, **arrays}, {**self.plan.values(), **self.inner, **values}
        )
        return self.steady.total(ask)

    def _scale(self) -> dict[str, np.ndarray]:
        told = statistics.moments(self.steady, self.plan, round=self.progress.next(2), also=self.inner)
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
        k = min(self.chosen.axes, f, subjects, *self.plan.axes.values())
        axes = np.linalg.qr(np.random.default_rng([self.chosen.seed, 20261122]).normal(size=(f, k)))[0]
        for step in range(self.chosen.steps):
            share = 0.05 + 0.25 * (step + 1) / self.chosen.steps
            make = partial(self._step, axes)
            axes = self.progress.once(f"axes {step}", share, "principal axes", make)["axes"]
        return axes / scale["length"][0]

    def _step(self, axes: np.ndarray) -> dict[str, np.ndarray]:
        return {"axes": np.linalg.qr(self._total("axes", {"axes": axes})["step"])[0]}

    def _solve(self, start, treatment, part, penalty, name: str, inner: bool) -> np.ndarray:
        """Solutions (k + 1, c); a treatment with fewer than ``FEW`` rows has the mean and no weights."""
        products, count = start["products"], start["count"][treatment]
        whole = products.sum(2)[:, treatment]
        rhs = whole - np.where(part >= 0, products[:, treatment, np.maximum(part, 0)], 0.0)
        solution = np.zeros_like(rhs)
        solution[-1] = whole[-1] / np.maximum(count, 1)
        # a part that has all rows of a treatment leaves nothing to learn from: its mean stands in
        taught = np.abs(rhs).max(0) > 1e-9 * np.abs(whole).max(0)
        at_all = np.flatnonzero((count >= FEW) & taught)
        if not len(at_all):
            return solution
        share = 1 - 1 / products.shape[2] if inner else 1.0  # rows by part are not told; the preconditioner may guess
        systems = Systems(
            start["gram"], int(start["subjects"][0]), count[at_all] * share, penalty[at_all], rhs[:, at_all]
        )

        def product(directions: np.ndarray, at: np.ndarray) -> np.ndarray:
            arrays = {"directions": directions, "treatment": treatment[at_all][at], "part": part[at_all][at]}
            return self._total("ridge_product", arrays)["products"]

        tolerance, most = (self.chosen.rough, self.chosen.rounds_inner) if inner else (self.chosen.fine, 500)
        kept, inside = self.progress.inner(name), self.progress.inside(name)

        def keep(arrays: Mapping[str, np.ndarray]) -> None:
            left = float(np.sqrt(np.max(arrays["rz"] / arrays["first"])))
            self.progress.values[RESIDUAL] = float(np.log10(max(left, 1e-17)))
            inside(arrays)

        solution[:, at_all] = solve(systems, product, tolerance, most, strict=not inner, state=kept, keep=keep)
        return solution

    def _penalties(self, start: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Of each treatment: penalty (t,), solutions with each part left out (parts, k + 1, t), squared errors (t,)."""
        axes, t, parts = start["products"].shape
        grid = np.array(self.chosen.penalties)
        # directions of one treatment and part in one ask stay below the number of axes: else candidates take turns
        size = max(axes - 2, 1)
        solutions, squares = [], []
        for low in range(0, len(grid), size):
            some = np.arange(low, min(low + size, len(grid)))
            d, p, q = (a.ravel() for a in np.meshgrid(np.arange(t), np.arange(parts), some, indexing="ij"))
            found = self._solve(start, d, p, grid[q], f"penalties {low}", inner=True)
            told = self._total("ridge_errors", {"solutions": found, "treatment": d, "part": p})
            solutions.append(found.reshape(axes, t, parts, len(some)))
            squares.append(told["squares"].reshape(t, parts, len(some)).sum(1))
        every, errors = np.concatenate(solutions, axis=3), np.concatenate(squares, axis=1)
        best = errors.argmin(1)
        inner = np.stack([every[:, np.arange(t), p, best] for p in range(parts)])
        return {"penalty": grid[best], "solutions": inner, "squares": errors[np.arange(t), best]}

    def _weights(self, start: Mapping[str, np.ndarray], penalty: np.ndarray) -> dict[str, np.ndarray]:
        t = np.arange(len(penalty))
        return {"weights": self._solve(start, t, np.full(len(t), -1), penalty, "weights", inner=False)}

    def _widths(self, start: Mapping[str, np.ndarray], inner: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Half-widths by treatment, and of all together last: (t + 1,)."""
        count, squares = start["count"], inner["squares"]
        whole = np.sqrt(squares.sum() / max(count.sum(), 1))
        own = np.sqrt(squares / np.maximum(count, 1))
        scale = np.where((count >= ROWS_OF_ITS_OWN) & (own > 1e-9 * whole), own, whole)
        if not self.intervals or not whole > 0:
            return {"widths": np.zeros(len(count) + 1)}
        arrays = {
            "solutions": inner["solutions"], "scale": scale, "low": np.zeros(2), "high": FAR * np.array([1.0, whole]),
        }  # fmt: skip
        counts = self._total("ridge_residuals", arrays, bins=BINS)["counts"]
        times, together = (_quantile(c, FAR / BINS) for c in counts)
        own_width = np.where(count >= ROWS_OF_ITS_OWN, times * scale, together * whole)
        return {"widths": np.append(own_width, together * whole)}


def _quantile(counts: np.ndarray, width: float) -> float:
    """The ceil((n + 1) level)-th smallest of binned values, as if they lay evenly within their bin of ``width``."""
    cumulative = np.cumsum(counts)  # below 0 there is nothing
    n = int(cumulative[-1])
    if not n:  # too few errors at every site for any count to be told
        return NORMAL
    rank = min(np.ceil((n + 1) * LEVEL), n)
    at = int((cumulative < rank).sum())
    before = cumulative[at - 1] if at else 0
    return width * (at - 1 + (rank - before) / max(counts[at], 1))


def _model(plan: Plan, chosen: Settings, shared, start, penalty, weights, widths) -> Ridge:
    """The same object that local training makes. A treatment's other names get its numbers."""
    count = start["count"]
    measured = [n for n, c in zip(plan.treatments, count, strict=True) if c]
    names = sorted([*measured, *(n for n, to in plan.alias.items() if to in measured)])
    at = np.array([plan.treatments.index(plan.alias.get(n, n)) for n in names], dtype=np.int64)
    model = Ridge(modality=chosen.modality)
    model.features_, model.treatments_ = list(plan.features), names
    model.mean_, model.sd_ = shared["mean"], shared["sd"]
    model.weights_, model.offset_ = (shared["axes"] @ weights[:-1])[:, at], weights[-1, at]
    model.penalty_ = np.where(count >= FEW, penalty, np.nan)[at]
    model.widths_ = HalfWidths(names, widths[at], float(widths[-1]))
    model.agreed_ = plan  # type: ignore[attr-defined]
    return model
