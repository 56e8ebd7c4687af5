"""A ridge from noisy sums: what one person can move, what a large budget gives, and what a small one refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench.federated import methods, policy, sharing, spec
from workbench.federated.asked import private_cross, private_errors, private_gram, private_moments
from workbench.federated.gate import outgoing as gate
from workbench.federated.gate.budget import Budget
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy
from workbench.federated.private import accounting, keyed, ridge, shrinkage
from workbench.federated.private import persons as _persons
from workbench.federated.private.accounting import PrivacyError
from workbench.federated.secure.server import Secure
from workbench.federated.site import Site, SiteError
from workbench.federated.sites import Inline, TooFewSites
from workbench.federated.watched import Watched
from workbench.splits import Fold, Split

TINY = 1e-9  # noise, where the exact sums are looked at
HUGE = 1e9  # epsilon
T = len(toy.TREATMENTS)


@pytest.fixture(scope="module")
def fold(tmp_path_factory) -> Fold:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        made = Split.make(toy.write(subjects=90), "unseen subject", endpoint="ln_ic50").fold(0)
        # two samples of one person, as a real study may have them
        return replace(
            made, train=made.train.with_columns(person=pl.col("subject").str.replace("subject 0", "person "))
        )


def sites(fold: Fold, step: object = None, **rules: object) -> list[Site]:
    policy = Policy(minimum_subjects=2, **rules)  # type: ignore[arg-type]
    held = sharing.at_random(fold, 3)
    return [Site(n, sharing.local(fold, s), policy, [step or Budget()]) for n, s in held.items()]  # type: ignore[list-item]


ENDLESS = {"epsilon": 1e13, "axes": 12, "penalty": 2.0, "sketch": 40, "clip": 1.25}


def fitted(there: list[Site], **told: object):
    return ridge.fit(Inline(there), {"epsilon": HUGE, "sketch": 40, **told})


# --- what one person can move ----------------------------------------------------------------------------------------

ALONG = {"mean": np.zeros(toy.GENES), "sd": np.ones(toy.GENES), "axes": np.eye(toy.GENES)[:, :7]}
LEVEL = {"shift": np.zeros(T), "scale": np.ones(T)}
ASKS = {
    "moments of features": (private_moments, Ask(
        "private_moments", 0, {"shift": np.zeros(toy.GENES), "scale": np.ones(toy.GENES)},
        {"clip": 2.0, "clip_squares": 3.0, "share_count": 0.2, "share_first": 0.4, "share_second": 0.4})),
    "moments along axes": (private_moments, Ask(
        "private_moments", 0, {**ALONG, "shift": np.zeros(7), "scale": np.ones(7)},
        {"clip": 0.5, "clip_squares": 0.5, "share_count": 0.2, "share_first": 0.8, "share_second": 0.0})),
    "moments of responses": (private_moments, Ask(
        "private_moments", 0, LEVEL,
        {"of": "endpoint", "clip": 2.0, "clip_squares": 3.0, "share_count": 0.3, "share_first": 0.7,
         "share_second": 0.0})),
    "gram": (private_gram, Ask("private_gram", 0, {**ALONG, "centre": np.zeros(7)}, {"clip": 0.8})),
    "cross": (private_cross, Ask("private_cross", 0, {**ALONG, **LEVEL, "centre": np.zeros(7)},
                                 {"clip": 0.8, "clip_responses": 1.5, "share_responses": 0.2})),
    "errors": (private_errors, Ask("private_errors", 0, {**ALONG, "solution": np.zeros((8, T)),
                                                         "edges": np.array([0.0, 0.5, 1.0, 2.0])})),
}  # fmt: skip


def noises(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """{array: standard deviation of the noise that a site adds with noise 1}, in the order they are made; no noise."""
    heard: dict[str, float] = {}
    monkeypatch.setattr(keyed, "noisy", lambda exact, sd, source: heard.update({str(len(heard)): sd}) or exact)
    return heard


def moved(site: Site, module, ask: Ask, person: str, monkeypatch: pytest.MonkeyPatch) -> float:
    """Length of the change, each array in units of its noise, when all rows of one person go: at most 1 is charged."""
    ask = Ask(ask.purpose, 0, ask.arrays, {**ask.values, "treatments": toy.TREATMENTS, "noise": 1.0})
    sds = noises(monkeypatch)
    whole = module.answer(site, ask).arrays
    scale = dict(zip(whole, sds.values(), strict=True))
    without = sharing.local(site.fold, [])  # only for its shape
    rest = replace(without, train=site.fold.train.filter(pl.col("person") != person))
    other = module.answer(Site(site.name, rest, site.policy), ask).arrays
    return float(np.sqrt(sum(np.sum(((whole[k] - other[k]) / scale[k]) ** 2) for k in whole)))


@pytest.mark.parametrize("what", ASKS)
def test_one_person_moves_the_sums_by_no_more_than_is_charged_and_the_extreme_by_as_much(
    fold: Fold, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, (module, ask) = sites(fold)[0], ASKS[what]
    people = site.fold.train["person"].unique().sort().to_list()
    found = [moved(site, module, ask, p, monkeypatch) for p in people[:8]]
    assert max(found) <= 1 + 1e-9, found
    # one person whose length is at the clip in all of them: nothing is given away
    if what in ("gram", "cross", "moments of features"):
        assert max(found) > 0.9, found


def test_clipping_that_is_left_out_is_found(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: a sum that is charged as clipped and is not."""
    site, (module, ask) = sites(fold)[0], ASKS["gram"]
    monkeypatch.setattr(_persons, "clipped", lambda rows, length: np.where(np.isfinite(rows), rows, 0.0))
    assert moved(site, module, ask, site.fold.train["person"][0], monkeypatch) > 2


def test_clipping_by_sample_in_place_of_by_person_is_found(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    site, (module, ask) = sites(fold)[0], ASKS["gram"]
    twin = site.fold.train["subject"].unique().sort().to_list()[:3]  # three samples of one person
    train = site.fold.train.with_columns(person=pl.when(pl.col("subject").is_in(twin)).then(pl.lit("twin"))
                                         .otherwise(pl.col("person")))  # fmt: skip
    site = Site(site.name, replace(site.fold, train=train), site.policy)
    assert moved(site, module, ask, "twin", monkeypatch) <= 1 + 1e-9
    by_sample = site.fold.train.with_columns(person=pl.col("subject"))
    sds = noises(monkeypatch)
    full = Ask(ask.purpose, 0, ask.arrays, {**ask.values, "treatments": toy.TREATMENTS, "noise": 1.0})
    wrong = Site(site.name, replace(site.fold, train=by_sample), site.policy)
    without = replace(site.fold, train=by_sample.filter(~pl.col("subject").is_in(twin)))
    a, b = module.answer(wrong, full).arrays, module.answer(Site(site.name, without, site.policy), full).arrays
    size = np.sqrt(sum(np.sum(((a[k] - b[k]) / s) ** 2) for k, s in zip(a, sds.values(), strict=False)))
    assert size > 1.5


def test_the_noise_that_is_added_is_the_noise_that_is_charged(fold: Fold) -> None:
    site, (module, ask) = sites(fold)[0], ASKS["cross"]
    told = {**ask.values, "treatments": toy.TREATMENTS}
    drawn = []
    for k in range(60):
        arrays = {**ask.arrays, "centre": np.full(7, 1e-9 * k)}  # another question: other noise
        both = [module.answer(site, Ask(ask.purpose, 0, arrays, {**told, "noise": n})) for n in (3.0, TINY)]
        drawn.append(both[0].arrays["products"] - both[1].arrays["products"])
        assert both[0].releases[0].noise == 3.0
    expected = 3.0 * 0.8 * 1.5 / np.sqrt(1 - 0.2 - private_cross.FIRST)
    assert np.std(drawn) == pytest.approx(expected, rel=0.03)  # 5,040 numbers: 1 % is one standard error
    assert abs(np.mean(drawn)) < 4 * expected / np.sqrt(np.size(drawn))


@pytest.mark.parametrize("share", [0.0, 0.95, 3.0])
def test_a_share_that_leaves_nothing_for_the_products_is_refused(fold: Fold, share: float) -> None:
    site, (module, ask) = sites(fold)[0], ASKS["cross"]
    told = {**ask.values, "treatments": toy.TREATMENTS, "noise": 1.0, "share_responses": share}
    with pytest.raises(SiteError, match="share_responses"):
        module.answer(site, replace(ask, values=told))


# --- the predictor ---------------------------------------------------------------------------------------------------


def reference(there: list[Site], fold: Fold, model, penalty: float, clip: float, spread: float) -> np.ndarray:
    """Weights (f, t) of the clipped ridge without noise, from the rows of all persons in one table."""
    ask = Ask("private_gram", values={"treatments": toy.TREATMENTS})
    every = _persons._read(Site("all", fold, Policy()), ask)
    z = np.nan_to_num(every.x) / np.sqrt(every.x.shape[1])
    z = z - (z * np.minimum(1, clip / np.linalg.norm(z, axis=1))[:, None]).mean(0)
    s = z * np.minimum(1, clip / np.linalg.norm(z, axis=1))[:, None]
    n, centre = len(s), s.mean(0)
    share, u = np.linalg.eigh((s - centre).T @ (s - centre) / n)
    share, u = share[::-1][: model.axes_], u[:, ::-1][:, : model.axes_]
    whiten = u / np.sqrt(share)
    r = (z - centre) @ whiten
    r *= np.minimum(1, clip * np.sqrt(model.axes_) / np.linalg.norm(r, axis=1))[:, None]
    there_ = np.isfinite(every.y)
    known = there_.sum(0)
    y0 = np.where(there_, every.y, 0.0) / 3.0
    y0 *= np.minimum(1, clip * np.sqrt(T) / np.linalg.norm(y0, axis=1))[:, None]
    level = 3.0 * y0.sum(0) / known
    e = np.where(there_, every.y - level, 0.0) / spread
    e *= np.minimum(1, clip * np.sqrt(T) / np.linalg.norm(e, axis=1))[:, None]
    product = r.T @ e - np.outer(r.sum(0) / known.max(), e.sum(0))
    length = share[:, None] * known
    return whiten @ (product / known * length / (length + penalty) * spread) / np.sqrt(every.x.shape[1])


def test_with_a_budget_without_end_it_is_the_clipped_ridge_of_all_rows(fold: Fold) -> None:
    there = sites(fold)
    model = fitted(there, **ENDLESS)
    assert model.axes_ == 12 and model.treatments_ == toy.TREATMENTS
    expected = reference(there, fold, model, 2.0, 1.25, 1.3)
    assert np.abs(model.weights_ - expected).max() < 1e-4 * np.abs(expected).max()
    again = fitted(sites(fold), **ENDLESS)
    assert np.abs(again.weights_ - model.weights_).max() < 1e-4 * np.abs(expected).max()  # other noise, as good as none


def test_it_predicts_better_than_levels_and_its_intervals_hold(fold: Fold) -> None:
    model = fitted(sites(fold), axes=40, penalty=0.5, residual_spread=2.0)
    test = fold.test.select("subject", "treatment")
    truth, _, _ = toy.planted(90)
    at = [truth.subjects.index(s) for s in test["subject"]], [toy.TREATMENTS.index(t) for t in test["treatment"]]
    answer = model.predict(fold.study, test).with_columns(true=pl.Series(truth.mean[at])).drop_nulls("predicted")
    level = pl.Series(model.offset_[[model.treatments_.index(t) for t in test["treatment"]]])
    naive = float(np.std(truth.mean[at] - level.to_numpy()))
    assert float((answer["predicted"] - answer["true"]).std()) < 0.85 * naive  # type: ignore[arg-type]
    inside = ((answer["true"] >= answer["low"]) & (answer["true"] <= answer["high"])).mean()
    assert 0.8 < inside <= 1.0


def test_what_it_cost_is_what_was_asked_for_and_what_every_site_has_in_its_book(fold: Fold) -> None:
    there = sites(fold, epsilon=HUGE)
    model = fitted(there, epsilon=2e4)
    assert model.spent_.epsilon == pytest.approx(2e4, rel=1e-3) and model.spent_.epsilon <= 2e4
    for site in there:
        assert site.outgoing[0].spent(site.policy).epsilon == pytest.approx(2e4, rel=1e-3)  # type: ignore[attr-defined]


def test_too_small_a_budget_abstains_in_plain_words(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PrivacyError, match=r"epsilon = 0\.1 buys no predictor from these sites"):
        fitted(sites(fold), epsilon=0.1)
    there = sites(fold)
    monkeypatch.setattr(ridge, "MOST", 1e-4)  # so few features have no axis above the noise where levels drown
    with pytest.raises(PrivacyError, match=r"noise would cost .* of the variance of responses"):
        fitted(there, epsilon=60.0)
    spent = there[0].outgoing[0].spent(there[0].policy).epsilon  # type: ignore[attr-defined]
    assert 0 < spent < 0.9 * 60  # it stopped before the last two were asked for


def test_a_site_whose_budget_is_smaller_is_named(fold: Fold) -> None:
    with pytest.raises(TooFewSites, match="budget spent"):
        ridge.fit(Inline(sites(fold, epsilon=1.0)), {"epsilon": 50.0, "least": 3})


def test_secure_sums_need_a_part_of_the_noise_of_each_and_sum_to_the_stated(fold: Fold) -> None:
    there = sites(fold, honest=3)
    said = Ask(
        "private_gram",
        0,
        {**ALONG, "centre": np.zeros(7)},
        {"clip": 0.8, "treatments": toy.TREATMENTS, "noise": 5.0, "honest": 3},
    )
    drawn = []
    for k in range(40):
        ask = replace(said, arrays={**said.arrays, "mean": np.full(toy.GENES, 1e-9 * k)})
        exact = replace(ask, values={**said.values, "noise": TINY, "honest": 1})
        drawn.append(sum(s.made(ask, leaves=False).arrays["gram"] - s.made(exact).arrays["gram"] for s in there))
    assert np.std(drawn) == pytest.approx(5.0 * 0.64 / np.sqrt(private_gram.GRAM), rel=0.1)
    one = there[0].made(said, leaves=False)
    assert one.together == 3 and one.releases[0].noise == 5.0
    with pytest.raises(SiteError, match="counts on 3 at most"):
        there[0].made(replace(said, values={**said.values, "honest": 4}), leaves=False)


def test_it_trains_by_secure_sums_through_the_whole_gate(fold: Fold, tmp_path) -> None:
    there = [replace(s, outgoing=gate.steps(tmp_path / s.name), policy=Policy(
        minimum_subjects=2, secure=True, alone=False, honest=2, epsilon=HUGE)) for s in sites(fold)]  # fmt: skip
    seen = Watched(Secure(Inline(there), least=3))
    model = ridge.fit(seen, {"epsilon": 1e5, "honest": 2, "sketch": 40, "axes": 12, "penalty": 2.0, "least": 3})
    plain = fitted(sites(fold), axes=12, penalty=2.0)
    assert np.abs(model.weights_ - plain.weights_).max() < 0.05 * np.abs(plain.weights_).max()


def test_a_killed_server_goes_on_without_paying_twice(fold: Fold) -> None:
    class Killed(Exception):
        pass

    kept: list = []

    def keep(*state: object) -> None:
        kept.append(state)
        if len(kept) == 4:
            raise Killed

    there = sites(fold, epsilon=2e4 * (1 + 1e-6))
    with pytest.raises(Killed):
        ridge.fit(Inline(there), {"epsilon": 2e4}, keep=keep)
    on = ridge.fit(Inline(there), {"epsilon": 2e4}, state=kept[-2])  # one stage back: it is asked for once more
    again = ridge.fit(Inline(there), {"epsilon": 2e4})  # all of it once more: the same numbers, nothing to pay
    assert np.array_equal(on.weights_, again.weights_)


def test_treatments_of_the_catalogue_that_nobody_measured_are_left_out_of_the_dear_stages(fold: Fold) -> None:
    measured, asked = toy.TREATMENTS[::2], {}

    class Noted(Inline):
        def total(self, ask: Ask, least: int = 1) -> tuple:
            asked[ask.purpose] = ask.values["treatments"]
            return super().total(ask, least)

    some = replace(fold, train=fold.train.filter(pl.col("treatment").is_in(measured)))
    model = ridge.fit(Noted(sites(some)), {"epsilon": HUGE, "sketch": 40})
    assert model.treatments_ == measured and asked["private_moments"] == toy.TREATMENTS
    assert asked["private_cross"] == asked["private_errors"] == measured
    assert model.weights_.shape == (toy.GENES, len(measured)) and np.isfinite(model.offset_).all()


def test_a_file_names_the_method_and_its_settings_are_read_strictly() -> None:
    told = {"name": "private", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject",
            "predictors": ["ridge"]}  # fmt: skip
    own = {"method": "private_ridge", "sites": {"random": 3}, "settings": {"epsilon": 3.0, "public": "other"},
           "policy": {"epsilon": 3.0, "delta": 1e-6}}  # fmt: skip
    made = spec.of({**told, "federation": own})
    assert made.method == "private_ridge" and policy.of(made.policy).epsilon == 3.0
    assert methods.of("ridge") == "ridge"  # private only where it is asked for
    with pytest.raises(spec.FederationError, match="epsilom"):
        spec.of({**told, "federation": {**own, "settings": {"epsilom": 3.0}}})
    with pytest.raises(PrivacyError, match="delta"):
        ridge.Settings.of({"delta": 0.0})


def test_singular_values_are_shrunk_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    true = 30.0 * np.outer(np.ones(20) / np.sqrt(20), np.ones(200) / np.sqrt(200))
    noisy = true + 0.5 * rng.normal(size=(20, 200))
    made = shrinkage.low_rank(noisy, 0.5)
    assert np.linalg.matrix_rank(made, tol=1e-6) == 1
    assert np.linalg.norm(made - true) < 0.4 * np.linalg.norm(noisy - true)
    assert np.allclose(shrinkage.low_rank(noisy, 1e-12), noisy)  # without noise nothing is taken away
    assert not shrinkage.low_rank(noisy - true, 0.5).any()  # noise alone leaves nothing


def test_noise_is_rounded_to_one_grid_and_foreseen_by_nobody_without_the_key() -> None:
    exact = np.linspace(0, 1, 1000)
    a, b = (keyed.noisy(exact, 0.3, keyed.draw(k, b"asked")) for k in (b"one", b"two"))
    assert np.array_equal(a, keyed.noisy(exact, 0.3, keyed.draw(b"one", b"asked"))) and not np.isclose(a, b).any()
    step = 2.0 ** (-2 - keyed.GRID)
    assert np.array_equal(a / step, np.round(a / step))
    assert np.std(a - exact) == pytest.approx(0.3, rel=0.1)
    assert accounting.epsilon([accounting.Release(1.0)], 1e-5) > 4
