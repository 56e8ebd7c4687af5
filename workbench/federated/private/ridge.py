"""Ridge of every treatment, trained wholly from noisy sums: all that leaves a site is charged, nothing of it is exact.

    m   = mean of clip(z_i A, .)+noise  A: d random directions, which are public; z: features on a public scale
    s_i = clip(z_i A - m, C)
    G   = sum s_i s_i' + noise          its principal axes U are the private ones (Dwork et al. 2014, STOC)
    r_i = clip(W U'(s_i - mean), C')    W makes each axis' spread 1, so that noise falls on all axes alike
    P   = sum r_i e_i' + noise          e_i: responses of a person less their levels, all treatments, clipped to B
    b_d = P_d / n_d  *  l n_d / (l n_d + penalty)       l: an axis' share of the squared length of a row

A person is the unit, with all its samples and treatments. One Gram matrix serves all treatments: one for each would
cost a person with 286 treatments sqrt(286) times as much. What a treatment lacks counts as at its level.

What is done with noisy sums costs nothing more, and the size of the noise is known, so it is used: axes no longer than
the edge of the noise's own spectrum are dropped, and the length of the others is corrected for what noise added to it
(Benaych-Georges and Nadakuditi 2011, Adv. Math. 227:494); P is a matrix of low rank under white noise, whose singular
values are shrunk as is best for squared error (Gavish and Donoho 2017, IEEE Trans. Inf. Theory 63:2137). To drop
directions that noise drowns takes the place of the penalty that AdaSSP chooses from it (Wang 2018, UAI). Where no axis
stands above the noise, or levels drown in it, the fit stops and says so: such a budget buys no predictor from so few.

Levels are learnt in two steps, since noise is as wide as the clip: from a public guess of where responses lie, then
about the first result. Half-widths are from the training persons' errors, each person counted once, made wider by
what a fit of so many degrees of freedom flatters itself (Akaike 1969, sqrt((n + p) / (n - p))); two standard deviations
of the noise on that count are taken against the model, so a small budget gives wide intervals rather than wrong ones.

With a public study, means, axes and spreads along them are its own, and neither m nor G is asked for. Without one, no
feature gets a scale of its own: moments of thousands of features are as long as all of them together, and at 6,163
features and 640 persons the noise on each mean is estimated at three times a feature's spread at epsilon = 8.

Neither the penalty nor a clip is chosen by a site's data: they are settings, public like the names of features and
treatments. Their defaults, the number of axes and directions and ``UNSURE`` were settled by looking at held-out
training persons of GDSC2 (experiments/LOG.md), so figures on that screen flatter them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from workbench.federated.exact.harmonise import Plan, agree
from workbench.federated.exact.progress import Keep, Progress, State
from workbench.federated.exact.steady import Steady
from workbench.federated.messages import Ask, Gathered
from workbench.federated.private import accounting
from workbench.federated.private.accounting import PrivacyError, Release, Spent
from workbench.federated.sites import Sites
from workbench.predictors._widths import LEVEL, HalfWidths
from workbench.predictors.linear import Ridge
from workbench.text import nearest

SHARES = {"centre": 0.05, "levels": 0.13, "gram": 0.32, "cross": 0.42, "errors": 0.08}  # of mu^2
COUNTS = 0.3  # of the levels' share
SIGMAS = 2.0  # a count no larger than so many standard deviations of its noise is taken as none
UNSURE = 0.3  # noise on a level, in residual spreads: beyond it errs more than knowing the features repays
BINS, FAR = 14, 6.0  # intervals of the errors, up to this many residual spreads


@dataclass(frozen=True)
class Settings:
    """How the private ridge is fitted.

    Attributes
    ----------
    epsilon, delta : what the whole training may cost a person; sites may allow less
    honest : sites of a secure sum, each one included, that share the noise; 1: each adds all of it
    modality, endpoint : inputs and output; endpoint None takes that of most sites
    public : a study of this server whose means, spreads and principal axes are used; "" has them learnt privately
    sketch : directions of the Gram matrix, d
    axes : most axes that are kept, k
    penalty : of the ridge, where rows have length 1
    feature_centre, feature_spread, feature_deviation : around where the values of all features lie, how far from there,
        and how far from their own mean; public guesses, used without ``public``
    response_centre, response_spread : where responses of all treatments lie, roughly
    residual_spread : how far responses lie from their treatment's level
    clip : length at which a row is clipped, in units of what those guesses give
    seed : of the random directions, which are public
    least, share : fewest sites; least share of the common features that a site has to have
    """

    epsilon: float = 3.0
    delta: float = 1e-5
    honest: int = 1
    modality: str = "expression"
    endpoint: str | None = None
    public: str = ""
    sketch: int = 32
    axes: int = 8
    penalty: float = 10.0
    feature_centre: float = 0.0
    feature_spread: float = 1.0
    feature_deviation: float = 1.0
    response_centre: float = 0.0
    response_spread: float = 3.0
    residual_spread: float = 1.3
    clip: float = 1.25
    seed: int = 0
    least: int = 1
    share: float = 0.8

    def __post_init__(self) -> None:
        above = (
            "epsilon",
            "penalty",
            "feature_spread",
            "feature_deviation",
            "response_spread",
            "residual_spread",
            "clip",
        )
        for key, least in (("honest", 1), ("sketch", 2), ("axes", 1), ("least", 1)):
            if getattr(self, key) < least:
                raise PrivacyError(f"{key} should be at least {least}, found {getattr(self, key)}.")
        for key in above:
            if not 0 < getattr(self, key) < np.inf:
                raise PrivacyError(f"{key} should be a number above 0, found {getattr(self, key)}.")
        if not 0 < self.delta < 1:
            raise PrivacyError(f"delta should be between 0 and 1, found {self.delta}.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """From a mapping; what every method gets (rounds, predictor) is passed over, anything else unknown is not."""
        known = {f.name for f in fields(cls)}
        for key in set(given) - known - {"rounds", "predictor"}:
            raise PrivacyError(f"a private ridge has no setting {key!r}.{nearest(key, sorted(known))}")
        return cls(**{k: v for k, v in given.items() if k in known})


def settings() -> dict[str, Any]:
    """The settings a federation file may give, with their defaults."""
    return {f.name: getattr(Settings(), f.name) for f in fields(Settings)}


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
        axes = once("gram", 0.6, "axes", (lambda: _given(scale)) if self.chosen.public else lambda: self._axes(scale))
        found = once("cross", 0.8, "weights", lambda: self._weights(axes, levels))
        widths = once("errors", 1.0, "intervals", lambda: self._width(axes, found))["width"]
        return self._model(axes, found, float(widths[0]))

    def noise(self, stage: str) -> float:
        """Noise of a stage against its sensitivity: all stages together are one mechanism of noise 1 / mu."""
        return float(1 / (self.mu * np.sqrt(self.shares[stage] / sum(self.shares.values()))))

    def _total(self, stage: str, purpose: str, arrays: Mapping[str, np.ndarray], **values: Any) -> dict[str, Any]:
        plain = {k: float(v) if isinstance(v, np.floating) else v for k, v in values.items()}
        told = {**self.plan.values(), "noise": self.noise(stage), "honest": self.chosen.honest, **plain}
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
        """Means, spreads and principal axes of a study whose persons need not be hidden; what it lacks is not used."""
        from workbench import modalities
        from workbench.study import Study, find

        block = modalities.read(Study.open(find(self.chosen.public)), self.plan.modality)
        at = {name: i for i, name in enumerate(block.features)}
        held = [i for i, name in enumerate(self.plan.features) if name in at]
        x = block.values[:, [at[self.plan.features[i]] for i in held]].astype(np.float64)
        f, known = len(self.plan.features), np.isfinite(x)
        if not held:
            raise PrivacyError(f"public study {self.chosen.public!r} has none of the features of the sites.")
        mean, sd, axes = np.zeros(f), np.full(f, np.inf), np.zeros((f, min(self.chosen.axes, len(x), len(held))))
        mean[held] = np.where(known, x, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        away = np.where(known, x - mean[held], 0.0)
        spread = np.sqrt((away**2).mean(0))
        sd[held] = np.where(spread > 1e-6, spread, np.inf)
        z = away / sd[held]
        length = np.sqrt((z**2).sum(1).mean())
        _, s, v = np.linalg.svd(z, full_matrices=False)
        axes[held] = v[: axes.shape[1]].T
        return {"mean": mean, "sd": sd, "axes": axes / length, "share": s[: axes.shape[1]] ** 2 / len(x) / length**2}

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
        """A first level (t,) and the number of rows (t,) of each treatment."""
        c, t = self.chosen, len(self.plan.treatments)
        long = c.clip * np.sqrt(t)
        arrays = {"shift": np.full(t, c.response_centre), "scale": np.full(t, c.response_spread)}
        told = self._total("levels", "private_moments", arrays, of="endpoint", clip=long, clip_squares=1.0,
                           share_count=COUNTS, share_first=1 - COUNTS, share_second=0.0)  # fmt: skip
        noise = self.noise("levels") * self.times
        of_count, of_first = noise * np.sqrt(t / COUNTS), noise * long / np.sqrt(1 - COUNTS)
        there = told["count"] > max(SIGMAS * of_count, 1.0)
        if not there.any():
            raise PrivacyError(self._too_small("no treatment has more rows than noise"))
        count = np.where(there, np.maximum(_shrunk(told["count"], of_count, there), 1.0), 0.0)
        rough = told["first"] / np.maximum(count, 1.0)
        level = _shrunk(rough, of_first / np.median(count[there]), there)
        typical = np.array(
            [max(float(told["count"].mean()), 1.0)]
        )  # of all: those above the noise are so by chance too
        return {
            "level": np.where(there, c.response_centre + c.response_spread * level, 0.0), "count": count,
            "typical": typical,
        }  # fmt: skip

    def _axes(self, scale: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Private axes (f, k) along which the spread is 1, their centre (k,), share of a row's squared length (k,)."""
        from workbench.federated.asked import private_gram as asked

        sketch, arrays = scale["axes"], {**self.shared, "axes": scale["axes"], "centre": scale["centre"]}
        long, d = self.chosen.clip, sketch.shape[1]
        told = self._total("gram", "private_gram", arrays, clip=long)
        noise = self.noise("gram") * self.times
        n = self._persons(told["count"], self.noise("gram") / np.sqrt(asked.COUNT))
        gram, (i, j) = np.zeros((d, d)), np.triu_indices(d)
        gram[i, j] = told["gram"] / np.where(i == j, 1.0, np.sqrt(2.0))
        gram = gram + np.triu(gram, 1).T
        mean = told["first"] / n
        values, vectors = np.linalg.eigh(gram - n * np.outer(mean, mean))
        values, vectors = values[::-1], vectors[:, ::-1]
        edge = noise * long**2 / np.sqrt(asked.GRAM) * np.sqrt(2 * d)
        k = int(min((values > max(1.05 * edge, 1e-9 * abs(values[0]))).sum(), self.chosen.axes))
        if not k:
            longest = f"the longest axis ({values[0]:.3g}) does not stand above the noise ({edge:.3g})"
            raise PrivacyError(self._too_small(longest))
        true = (values[:k] + np.sqrt(np.maximum(values[:k] ** 2 - edge**2, 0.0))) / 2
        whiten = vectors[:, :k] * np.sqrt(n / true)
        return {"axes": sketch @ whiten, "centre": (scale["centre"] + mean) @ whiten, "share": true / n}

    def _weights(self, axes: Mapping[str, np.ndarray], levels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Solution (k + 1, t) in the coordinates of the private axes, levels last."""
        from workbench.federated.asked import private_cross as asked

        c, count = self.chosen, levels["count"]
        k, t = len(axes["centre"]), len(count)
        long, wide = c.clip * np.sqrt(k), c.clip * np.sqrt(t)
        arrays = {**self.shared, "axes": axes["axes"], "centre": axes["centre"], "shift": levels["level"],
                  "scale": np.full(t, c.residual_spread)}  # fmt: skip
        noise, there, n = self.noise("cross") * self.times, count > 0, np.maximum(count, 1.0)
        of_level = noise * wide / np.sqrt(asked.RESPONSES) / float(levels["typical"][0])
        if of_level > UNSURE:  # known before it is asked for: what is left of the budget stays unspent
            raise PrivacyError(self._too_small(
                f"noise moves a treatment's level by {of_level:.2g} of the spread of its responses ({UNSURE} at most)"
            ))  # fmt: skip
        told = self._total("cross", "private_cross", arrays, clip=long, clip_responses=wide)
        mean = told["responses"] / n
        off = _shrunk(told["first"] / n.max(), noise * long / np.sqrt(asked.FIRST) / n.max(), to=0.0)
        exact, sd = told["products"] - np.outer(off, mean * n), noise * long * wide / np.sqrt(asked.PRODUCTS)
        products = np.zeros((k, t))
        products[:, there] = low_rank(exact[:, there], sd)
        lengths = axes["share"][:, None] * n
        slope = products / n * lengths / (lengths + c.penalty) * c.residual_spread
        shift = _shrunk(mean, of_level, there, 0.0) * c.residual_spread
        level = levels["level"] + np.where(there, shift, 0.0) - (axes["centre"] + off) @ slope
        free = 1 + (lengths / (lengths + c.penalty)).sum(0)[there].mean()  # degrees of freedom of a treatment's fit
        flatters = np.sqrt((n[there].mean() + free) / max(n[there].mean() - free, 1.0))
        return {"solution": np.vstack([slope, level]), "there": there, "flatters": np.array([flatters])}

    def _width(self, axes: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One half-width for all treatments: the least edge beyond which lies no more than the share it may."""
        spread = self.chosen.residual_spread
        edges = np.concatenate([[0.0], np.geomspace(0.3, FAR, BINS - 1)]) * spread
        arrays = {**self.shared, "axes": axes["axes"], "solution": found["solution"], "edges": edges}
        shares = self._total("errors", "private_errors", arrays)["shares"]
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


def _given(scale: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Axes of a public study, along which its own spread is 1."""
    return {"axes": scale["axes"] / np.sqrt(scale["share"]), "centre": np.zeros(len(scale["share"])),
            "share": scale["share"]}  # fmt: skip


def low_rank(noisy: np.ndarray, sd: float) -> np.ndarray:
    """The matrix under white noise of standard deviation ``sd``, by the best shrinkage of its singular values.

        shrunk y = sqrt((y^2 - b - 1)^2 - 4 b) / y where y > 1 + sqrt(b), else 0;   y in units of sd sqrt(n), b = m / n

    Gavish and Donoho 2017, IEEE Trans. Inf. Theory 63:2137, equation 7.
    """
    u, s, v = np.linalg.svd(noisy, full_matrices=False)
    m, n = sorted(noisy.shape)
    b, y = m / n, s / (sd * np.sqrt(n))
    above = y > 1 + np.sqrt(b)
    kept = np.zeros_like(s)
    kept[above] = sd * np.sqrt(n) * np.sqrt(np.maximum((y[above] ** 2 - b - 1) ** 2 - 4 * b, 0.0)) / y[above]
    return (u * kept) @ v


def _shrunk(noisy: np.ndarray, sd: float, there: np.ndarray | None = None, to: float | None = None) -> np.ndarray:
    """Numbers under noise of ``sd``, drawn to their mean (or ``to``) by the share of their spread that is noise."""
    some = noisy if there is None else noisy[there]
    centre = float(some.mean()) if to is None else to
    spread = float(((some - centre) ** 2).mean())
    return centre + max(0.0, 1 - sd**2 / spread if spread > 0 else 0.0) * (noisy - centre)
