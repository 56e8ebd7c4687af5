"""Ridge of every treatment, trained wholly from noisy sums: all that leaves a site is charged, nothing of it is exact.

    m   = mean of clip(z_i A, .)+noise  A: d random directions, which are public; z: features on a public scale
    s_i = clip(z_i A - m, C)
    G   = sum s_i s_i' + noise          its principal axes U are the private ones (Dwork et al. 2014, STOC)
    r_i = clip(W U'(s_i - mean), C')    W makes each axis' spread 1, so that noise falls on all axes alike
    P   = sum r_i e_i' + noise          e_i: responses of a person less their levels, all treatments, clipped to B
    b   = slopes(P)                     what treatments have in common, and what they share in a few patterns
    b_d = b_d  l n_d / (l n_d + penalty)                l: an axis' share of the squared length of a row

A person is the unit, with all its samples and treatments. One Gram matrix serves all treatments: one for each would
cost a person with 286 treatments sqrt(286) times as much. What a treatment lacks counts as at its level.

What is done with noisy sums costs nothing more, and the size of the noise is known, so it is used: counts, levels and
slopes are drawn to where they most likely are (``shrinkage``), and how much of a release falls on levels and how much
on slopes is worked out beforehand from the noise to come. To drop directions that noise drowns takes the place of the
penalty that AdaSSP chooses from it (Wang 2018, UAI). Where no axis stands above the noise, or it costs more than a few
directions can tell, the fit stops and says so: such a budget buys no predictor from so few.

Levels are learnt in two steps, since noise is as wide as the clip: from a public guess of where responses lie, then
about the first result. Half-widths are from the training persons' errors, each person counted once, made wider by
what a fit of so many degrees of freedom flatters itself (Akaike 1969, sqrt((n + p) / (n - p))); two standard deviations
of the noise on that count are taken against the model, so a small budget gives wide intervals rather than wrong ones.

With a public study, means, spreads and directions are its own (``directions``), and neither m nor G is asked for. It
should not be of the same persons: what they told it is not hidden here. Without one, no feature gets a scale of its
own: moments of thousands of features are as long as all of them together, and at 6,163 features and 640 persons the
noise on each mean is estimated at three times a feature's spread at epsilon = 8.

Neither the penalty nor a clip is chosen by a site's data: they are settings, public like the names of features and
treatments. With a public study they were chosen on GDSC1; ``sketch`` and the guesses of where features lie were settled
by looking at held-out training persons of GDSC2 (experiments/LOG.md), so figures of private axes there flatter them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.federated.exact.harmonise import Plan, agree
from workbench.federated.exact.progress import Keep, Progress, State
from workbench.federated.exact.steady import Steady
from workbench.federated.messages import Ask, Gathered
from workbench.federated.private import accounting, directions, shrinkage
from workbench.federated.private.accounting import PrivacyError, Release, Spent
from workbench.federated.private.ridge_settings import Settings, settings
from workbench.federated.sites import Sites
from workbench.predictors._widths import LEVEL, HalfWidths
from workbench.predictors.linear import Ridge

__all__ = ["Settings", "fit", "settings"]

SHARES = {"centre": 0.05, "levels": 0.17, "gram": 0.31, "cross": 0.42, "errors": 0.05}  # of mu^2
COUNTS = 0.2  # of the levels' share
SIGMAS = 2.0  # a number of persons no larger than so many standard deviations of its noise is taken as none
MOST = 0.12  # of the responses' variance, that noise may cost: beyond it RMSE rose above treatment means' on GDSC1
BINS, FAR = 14, 6.0  # intervals of the errors, up to this many residual spreads


def fit(
    sites: Sites, settings: Mapping[str, Any], state: State | None = None, keep: Keep | None = None, say: Any = None
) -> Ridge:
    """Fit over all ``sites`` that agree; ``spent_`` of what comes back says what it cost, ``axes_`` how many it kept.

    Raises
    ------
    PrivacyError
        No axis stands above the noise, or no treatment: the budget is too small for so few persons.
    workbench.federated.exact.steady.SitesChanged
        A site left, or its budget was spent, on the way; beginning anew without it would cost the others once more.
    """
    chosen = Settings.of(settings)
    return _Fit(sites, chosen, Progress(state, keep, say)).run()


class _Named:
    """Sites that tell names and no counts, to whoever asks for their schema."""

    def __init__(self, sites: Sites) -> None:
        self.sites, self.names = sites, sites.names

    def ask(self, ask: Ask, of: Any = None) -> Gathered:
        heard = self.sites.ask(Ask("private_schema", ask.round, {}, ask.values), of)
        none = {"rows": np.zeros(1, dtype=np.int64), "axes": np.zeros(1, dtype=np.int64)}
        return replace(heard, replies=tuple(replace(r, arrays=none) for r in heard.replies))

    def total(self, ask: Ask, least: int = 1) -> Any:
        return self.sites.total(ask, least)


class _Fit:
    """One training, stage by stage."""

    def __init__(self, sites: Sites, chosen: Settings, progress: Progress) -> None:
        self.chosen, self.progress = chosen, progress
        self.plan: Plan = progress.agreed(
            lambda: agree(_Named(sites), chosen.modality, chosen.endpoint, chosen.least, chosen.share)
        )
        self.steady = Steady(sites, self.plan.sites, chosen.least)
        self.mu = accounting.strength(chosen.epsilon, chosen.delta)
        self.times = np.sqrt(len(self.plan.sites) / chosen.honest)  # the sum's noise against the stated
        self.shares = {k: v for k, v in SHARES.items() if k not in ("centre", "gram") or not chosen.public}
        self.shared: dict[str, np.ndarray] = {}

    def run(self) -> Ridge:
        once = self.progress.once
        scale = once("scale", 0.2, "scales of the features", self._public if self.chosen.public else self._scale)
        self.shared = {"mean": scale["mean"], "sd": scale["sd"]}
        levels = once("levels", 0.4, "levels of the treatments", self._levels)
        axes = scale if self.chosen.public else once("gram", 0.6, "axes", lambda: self._axes(scale))
        found = once("cross", 0.8, "weights", lambda: self._weights(axes, levels))
        widths = once("errors", 1.0, "intervals", lambda: self._width(axes, found))["width"]
        return self._model(axes, found, float(widths[0]))

    def noise(self, stage: str) -> float:
        """Noise of a stage against its sensitivity: all stages together are one mechanism of noise 1 / mu."""
        return float(1 / (self.mu * np.sqrt(self.shares[stage] / sum(self.shares.values()))))

    def _total(self, stage: str, purpose: str, arrays: Mapping[str, np.ndarray], **values: Any) -> dict[str, Any]:
        plain = {k: float(v) if isinstance(v, np.floating) else v for k, v in values.items()}
        told = {**self.plan.values(), "noise": self.noise(stage), "honest": self.chosen.honest} | plain
        return self.steady.total(Ask(purpose, self.progress.next(), dict(arrays), told))

    def _scale(self) -> dict[str, np.ndarray]:
        """A public scale, d random directions (the seed gives them) and the persons' mean along them (d,)."""
        c, f = self.chosen, len(self.plan.features)
        d = min(c.sketch, f)
        axes = np.eye(f) if d == f else np.linalg.qr(np.random.default_rng([c.seed, 20261122]).normal(size=(f, d)))[0]
        self.shared = {"mean": np.full(f, c.feature_centre), "sd": np.full(f, c.feature_deviation)}
        arrays = {**self.shared, "axes": axes / np.sqrt(d), "shift": np.zeros(d), "scale": np.ones(d)}
        long, of_count = c.clip * c.feature_spread / c.feature_deviation, 0.1
        told = self._total("centre", "private_moments", arrays, of="features", clip=long, clip_squares=1.0,
                           share_count=of_count, share_first=1 - of_count, share_second=0.0)  # fmt: skip
        n = self._persons(told["count"], self.noise("centre") / np.sqrt(of_count))
        return {**self.shared, "axes": arrays["axes"], "centre": told["first"] / n}

    def _public(self) -> dict[str, np.ndarray]:
        c = self.chosen
        return directions.public(c.public, self.plan.modality, self.plan.features, self.plan.endpoint, c.axes)

    def _persons(self, count: np.ndarray, noise: float) -> float:
        n, sd = float(count[0]), noise * self.times
        if n <= SIGMAS * sd:
            raise PrivacyError(self._too_small(f"{sd:.0f} persons of noise hide how many there are"))
        return n

    def _too_small(self, why: str) -> str:
        return (
            f"epsilon = {self.chosen.epsilon:g} buys no predictor from these sites: {why}. Allow a larger epsilon, "
            "bring more persons, or let sites share the noise in a secure sum (honest)."
        )

    def _levels(self) -> dict[str, np.ndarray]:
        """A first level (t,) and the number of rows (t,) of each treatment, 0 where there is none."""
        c, t = self.chosen, len(self.plan.treatments)
        long = c.clip * np.sqrt(t)
        arrays = {"shift": np.full(t, c.response_centre), "scale": np.full(t, c.response_spread)}
        told = self._total("levels", "private_moments", arrays, of="endpoint", clip=long, clip_squares=1.0,
                           share_count=COUNTS, share_first=1 - COUNTS, share_second=0.0)  # fmt: skip
        noise = self.noise("levels") * self.times
        of_count, of_first = noise * np.sqrt(t / COUNTS), noise * long / np.sqrt(1 - COUNTS)
        count, there = shrinkage.counts(told["count"], of_count)
        if not there.any():
            raise PrivacyError(self._too_small("no treatment has more rows than noise"))
        level, n = np.zeros(t), count[there]
        level[there] = c.response_centre + c.response_spread * shrinkage.drawn(told["first"][there] / n, of_first / n)
        return {"level": level, "count": count}

    def _axes(self, scale: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Private axes (f, k) along which the spread is 1, their centre (k,), share of a row's squared length (k,)."""
        from workbench.federated.asked import private_gram as asked

        sketch, arrays = scale["axes"], {**self.shared, "axes": scale["axes"], "centre": scale["centre"]}
        long, d = self.chosen.clip, sketch.shape[1]
        told = self._total("gram", "private_gram", arrays, clip=long)
        n = self._persons(told["count"], self.noise("gram") / np.sqrt(asked.COUNT))
        gram, (i, j) = np.zeros((d, d)), np.triu_indices(d)
        gram[i, j] = told["gram"] / np.where(i == j, 1.0, np.sqrt(2.0))
        gram = gram + np.triu(gram, 1).T
        noise = self.noise("gram") * self.times * long**2 / np.sqrt(asked.GRAM)
        found = directions.noisy(gram, told["first"], n, noise, self.chosen.axes)
        if not len(found["share"]):
            longest = f"the longest axis ({found['longest'][0]:.3g}) does not stand above the noise"
            raise PrivacyError(self._too_small(f"{longest} ({found['edge'][0]:.3g})"))
        whiten = found["whiten"]
        return {"axes": sketch @ whiten, "centre": (scale["centre"] + found["mean"]) @ whiten, "share": found["share"]}

    def _weights(self, axes: Mapping[str, np.ndarray], levels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Solution (k + 1, t) in the coordinates of the axes, levels last."""
        from workbench.federated.asked import private_cross as asked

        c, there = self.chosen, levels["count"] > 0
        n, first = levels["count"][there], levels["level"][there]
        k, t, typical, most = len(axes["centre"]), len(n), float(n.mean()), float(n.max())
        long, wide = c.clip * np.sqrt(k), c.clip * np.sqrt(t)
        noise = self.noise("cross") * self.times
        parts = shrinkage.divided(noise * wide / typical, noise * long * wide / typical, k, t, asked.FIRST)
        if parts.lost > MOST:  # known before it is asked for: what is left of the budget stays unspent
            raise PrivacyError(self._too_small(
                f"noise would cost {parts.lost:.2g} of the variance of responses ({MOST} at most), about as much as "
                "a few directions of the features tell"
            ))  # fmt: skip
        arrays = {**self.shared, "axes": axes["axes"], "centre": axes["centre"], "shift": first,
                  "scale": np.full(t, c.residual_spread)}  # fmt: skip
        told = self._total("cross", "private_cross", arrays, clip=long, clip_responses=wide,
                           share_responses=parts.levels, treatments=self._named(there))  # fmt: skip
        mean, lengths = told["responses"] / n, axes["share"][:, None] * n
        off = shrinkage.drawn(told["first"] / most, noise * long / np.sqrt(asked.FIRST) / most, 0.0)
        products = told["products"] - np.outer(off, mean * n)
        slope = shrinkage.slopes(products, noise * long * wide / np.sqrt(parts.products), n)
        slope = slope * lengths / (lengths + c.penalty) * c.residual_spread
        shift = shrinkage.drawn(mean, noise * wide / np.sqrt(parts.levels) / n, 0.0) * c.residual_spread
        solution = np.zeros((k + 1, len(there)))
        solution[:, there] = np.vstack([slope, first + shift - (axes["centre"] + off) @ slope])
        free = 1 + (lengths / (lengths + c.penalty)).sum(0).mean()  # degrees of freedom of a treatment's fit
        flatters = np.sqrt((typical + free) / max(typical - free, 1.0))
        return {"solution": solution, "there": there, "flatters": np.array([flatters])}

    def _named(self, there: np.ndarray) -> list[str]:
        """Treatments that have rows: what nobody measured would only widen the clip."""
        return [name for name, known in zip(self.plan.treatments, there, strict=True) if known]

    def _width(self, axes: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One half-width for all treatments: the least edge beyond which lies no more than the share it may."""
        spread = self.chosen.residual_spread
        edges = np.concatenate([[0.0], np.geomspace(0.3, FAR, BINS - 1)]) * spread
        there = found["there"].astype(bool)
        arrays = {**self.shared, "axes": axes["axes"], "solution": found["solution"][:, there], "edges": edges}
        shares = self._total("errors", "private_errors", arrays, treatments=self._named(there))["shares"]
        noise = self.noise("errors") * self.times
        beyond = np.cumsum(shares[::-1])[::-1] + SIGMAS * noise * np.sqrt(np.arange(BINS, 0, -1))
        enough = np.flatnonzero(beyond <= (1 - LEVEL) * shares.sum())
        return {"width": np.array([edges[enough[0]] if len(enough) else edges[-1]]) * found["flatters"]}

    def _model(self, axes: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], width: float) -> Ridge:
        plan, solution = self.plan, found["solution"]
        held = {n for n, there in zip(plan.treatments, found["there"], strict=True) if there}
        names = sorted([*held, *(n for n, to in plan.alias.items() if to in held)])
        at = np.array([plan.treatments.index(plan.alias.get(n, n)) for n in names], dtype=np.int64)
        model = Ridge(modality=self.chosen.modality)
        model.features_, model.treatments_ = list(plan.features), names
        model.mean_, model.sd_ = self.shared["mean"], self.shared["sd"]
        model.weights_, model.offset_ = (axes["axes"] @ solution[:-1])[:, at], solution[-1, at]
        model.penalty_ = np.full(len(names), self.chosen.penalty)
        model.widths_ = HalfWidths([], np.zeros(0), width)
        told = [Release(self.noise(stage)) for stage in self.shares]
        more: Any = model
        more.agreed_, more.axes_ = plan, len(axes["centre"])
        more.spent_ = Spent(accounting.epsilon(told, self.chosen.delta), self.chosen.delta)
        return model
