"""Ridge from sums is the ridge of one house with all rows: weights, penalties, intervals, whoever holds which rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import predict, predictors, score
from workbench.federated import sharing
from workbench.federated.exact import ridge
from workbench.federated.exact import rows as _rows
from workbench.federated.exact.gradients import NotSolved, Systems, solve
from workbench.federated.gate import outgoing as gate
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.nn import kernel_ridge
from workbench.nn.scaling import standardise
from workbench.predictors._pairs import matrix
from workbench.predictors.linear import Ridge
from workbench.splits import Fold, Split

OPEN = Policy(minimum_cell=1)
FEW = {"axes": 20}


@pytest.fixture(scope="module")
def fold():
    return Split.make(toy.write(subjects=120), "unseen subject", endpoint="ln_ic50", folds=4).fold(0)


@pytest.fixture(scope="module")
def house(fold):
    return ridge.fit(one(fold), FEW)


def one(fold: Fold, policy: Policy = OPEN) -> Inline:
    return Inline([Site("all", fold, policy)])


def unlike(fold: Fold, policy: Policy = OPEN, outgoing: Any = lambda name: ()) -> Inline:
    """Sites of unlike tissues and sizes."""
    groups = {"a": ["tissue 0", "tissue 1"], "b": ["tissue 2"], "c": ["tissue 3"]}
    dealt = sharing.by_column(fold, "tissue", groups)
    return Inline([Site(n, sharing.local(fold, own), policy, outgoing(n)) for n, own in dealt.items()])


def alike(a: Ridge, b: Ridge, off: float = 1e-8) -> bool:
    return (
        a.treatments_ == b.treatments_
        and np.abs(a.weights_ - b.weights_).max() < off
        and np.abs(a.offset_ - b.offset_).max() < off
        and np.array_equal(a.penalty_, b.penalty_)
        and np.abs(a.widths_.values - b.widths_.values).max() < off
    )


def test_unlike_sites_together_are_one_house(fold, house):
    many = ridge.fit(unlike(fold), FEW)
    assert isinstance(many, Ridge) and alike(many, house)
    told, expected = (m.predict(fold.study, fold.test) for m in (many, house))
    assert np.nanmax(np.abs((told["predicted"] - expected["predicted"]).to_numpy())) < 1e-8
    alone = ridge.fit(Inline([next(iter(unlike(fold).sites.values()))]), FEW)  # the control
    assert np.abs(alone.weights_ - house.weights_).max() > 1e-3


def pieces(fold: Fold) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Standardised features over the root mean square length of a row, as Ridge has them, and responses."""
    from workbench import modalities

    block = modalities.read(fold.study, "expression", endpoint=fold.endpoint)
    subjects = [s for s in sorted(fold.train["subject"].unique()) if s in set(block.names)]
    x = block.rows(subjects)[0].astype(np.float64)
    z = standardise(block.rows(subjects)[0], x.mean(0), x.std(0)).astype(np.float64)
    return z / np.sqrt((z**2).sum() / len(z)), matrix_of(fold, subjects), subjects


def matrix_of(fold: Fold, subjects: list[str]) -> np.ndarray:
    train = fold.train.filter(pl.col("subject").is_in(subjects))
    return matrix(train, subjects, sorted(fold.train["treatment"].unique()))


def test_with_all_axes_and_one_penalty_it_is_the_workbenchs_kernel_ridge(fold):
    z, y, _ = pieces(fold)
    for penalty in (0.1, 3.0):
        made = ridge.fit(unlike(fold, replace(OPEN, axes_per_subject=9.0)), {"axes": 40, "penalties": [penalty]})
        exact = kernel_ridge.fit(z @ z.T, y, np.array([penalty]))
        length = np.sqrt(toy.GENES)  # every feature varies and none is missing
        weights = z.T @ exact.dual / length
        assert np.abs(made.weights_ - weights).max() < 1e-8
        assert np.abs(made.offset_ - exact.intercept).max() < 1e-8


def test_penalties_have_the_least_error_on_parts_left_out(fold):
    grid = [0.3, 1.0, 3.0, 10.0, 100.0]
    made = ridge.fit(unlike(fold), {"axes": 20, "penalties": grid, "parts": 4, "rounds_inner": 60, "rough": 1e-10})
    z, y, subjects = pieces(fold)
    part = _rows.dealt(subjects, 4, 0)
    basis = ridge_axes(made, z)
    for d in range(y.shape[1]):
        errors = []
        for penalty in grid:
            left = np.full(len(y), np.nan)
            for p in range(4):
                fit = np.isfinite(y[:, d]) & (part != p)
                level, slope = direct(basis[fit], y[fit, d], penalty)
                left[part == p] = y[part == p, d] - level - basis[part == p] @ slope
            errors.append(np.nansum(left**2))
        assert made.penalty_[d] == grid[int(np.argmin(errors))]
        level, slope = direct(basis[np.isfinite(y[:, d])], y[np.isfinite(y[:, d]), d], made.penalty_[d])
        assert abs(level - made.offset_[d]) < 1e-8
    assert len(set(made.penalty_)) > 1


def ridge_axes(made: Ridge, z: np.ndarray) -> np.ndarray:
    """Coordinates on the axes of a fit, from its weights alone would not do: iterate as it does."""
    axes = np.linalg.qr(np.random.default_rng([0, 20261122]).normal(size=(z.shape[1], 20)))[0]
    for _ in range(ridge.Settings().steps):
        axes = np.linalg.qr(z.T @ (z @ axes))[0]
    return z @ axes


def direct(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
    """Ridge with a free intercept, by the normal equations."""
    xc = x - x.mean(0)
    slope = np.linalg.solve(xc.T @ xc + penalty * np.eye(x.shape[1]), xc.T @ (y - y.mean()))
    return float(y.mean() - x.mean(0) @ slope), slope


def test_it_is_saved_and_restored_as_any_ridge(fold, house):
    back = predictors.restore("ridge", house.config(), house.arrays())
    told, again = (m.predict(fold.study, fold.test) for m in (house, back))
    assert told.equals(again) and house.attributions().equals(back.attributions())


def test_it_beats_the_naive_and_its_intervals_hold():
    split = Split.make(toy.write("many", subjects=300), "unseen subject", endpoint="ln_ic50", folds=3)
    frames = []
    for k in range(3):
        fold = split.fold(k)
        made = ridge.fit(unlike(fold), {"axes": 40})
        frames.append(score.unseal(predict.predictions(made, fold), fold))
    told = pl.concat(frames).filter(pl.col("predicted").is_not_null())
    level = told["observed"] - told["baseline"]
    assert np.corrcoef(level, told["predicted"] - told["baseline"])[0, 1] > 0.8
    inside = told.with_columns(inside=pl.col("observed").is_between("low", "high"))
    assert abs(inside["inside"].to_numpy().mean() - 0.9) < 0.03
    by = inside.group_by("treatment").agg(pl.col("inside").mean())["inside"].to_numpy()
    assert by.min() > 0.8 and by.max() < 0.98


def test_a_killed_server_goes_on_to_the_same_numbers(fold, house):
    kept: list[tuple] = []
    whole = ridge.fit(unlike(fold), FEW, keep=lambda *now: kept.append(now))
    assert [n for n, _, _ in kept] == sorted(n for n, _, _ in kept)
    inside = [k for k in kept if any(name.startswith("inside/") for name in k[1])]
    assert inside
    for state in (kept[0], kept[3], inside[2], inside[-1], kept[-1]):
        asked: list[str] = []

        def count(site, ask, made, asked=asked):
            asked.append(ask.purpose)
            return made

        again = ridge.fit(unlike(fold, outgoing=lambda name, count=count: (count,)), FEW, state=state)
        assert np.array_equal(again.weights_, whole.weights_)
        if state is kept[-1]:
            assert not asked


class Leaving(Inline):
    """Site ``who`` is gone for good once it has answered ``after`` asks."""

    def __init__(self, sites, who: str, after: int) -> None:
        super().__init__(sites)
        self.who, self.left = who, after

    def ask(self, ask, of=None):
        self.left -= 1
        there = [n for n in (self.names if of is None else of) if n != self.who or self.left >= 0]
        found = super().ask(ask, there)
        return found if self.left >= 0 else replace(found, lost={**found.lost, self.who: "no answer"})


@pytest.mark.parametrize("after", [3, 5, 9, 20])
def test_a_site_that_leaves_for_good_is_left_out_from_the_start(fold, after):
    sites = list(unlike(fold).sites.values())
    said: list[str] = []
    made = ridge.fit(Leaving(sites, "b", after), FEW, say=lambda share, what: said.append(what))
    assert "without b from the start" in said and made.agreed_.sites == ("a", "c")  # type: ignore[attr-defined]
    assert alike(made, ridge.fit(Inline([s for s in sites if s.name != "b"]), FEW), 1e-12)
    with pytest.raises(TooFewSites, match=r"2 of the 3 sites needed answered \(b: no answer\)"):
        ridge.fit(Leaving(sites, "b", after), {**FEW, "least": 3})


class Napping(Inline):
    """Site b misses every fourth ask and is back at the next."""

    asked = 0

    def ask(self, ask, of=None):
        self.asked += 1
        if self.asked > 3 and self.asked % 4 == 0:
            return super().ask(ask, [n for n in self.names if n != "b"])
        return super().ask(ask, of)


def test_a_site_that_misses_an_ask_is_asked_again(fold, house):
    sites = Napping(list(unlike(fold).sites.values()))
    assert alike(ridge.fit(sites, FEW), house) and sites.asked > 20


def test_as_many_axes_as_subjects_are_refused(fold):
    sites = unlike(fold)
    made = ridge.fit(sites, {"axes": 40})  # b and c have about twenty subjects: fewer axes for all
    fewest = min(len(_rows.of(s, Ask("x", values={"modality": "expression"})).subjects) for s in sites.sites.values())
    assert np.linalg.matrix_rank(made.weights_) <= fewest - 1 < 40
    plan = made.agreed_  # type: ignore[attr-defined]
    wide = np.zeros((toy.GENES, fewest))
    ask = Ask("axes", arrays={"axes": wide, "mean": np.zeros(40), "sd": np.ones(40)}, values=plan.values())
    assert "too much of this site's rows" in next(iter(sites.ask(ask).lost.values()))
    with pytest.raises(TooFewSites, match="number of axes it answers for"):
        ridge.fit(sites, {"axes": 40, "least_axes": 40, "least": 2})


def test_a_treatments_gram_matrix_is_not_told_in_one_ask(fold):
    site = one(fold).sites["all"]
    plan = ridge.fit(one(fold), FEW).agreed_  # type: ignore[attr-defined]
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 20)))[0]
    shared = {"mean": np.zeros(40), "sd": np.ones(40), "axes": axes}

    def asked(directions: int):
        columns = {"treatment": np.zeros(directions, dtype=int), "part": np.full(directions, -1)}
        arrays = {**shared, **columns, "directions": np.eye(21)[:, :directions]}
        return site.answer(Ask("ridge_product", arrays=arrays, values={**plan.values(), "parts": 5, "seed": 0}))

    assert asked(19).refused is None
    assert "directions for one treatment are asked at once" in str(asked(20).refused)


def test_a_treatment_with_few_rows_in_a_part_is_left_out_of_that_sites_answers(fold):
    rare = toy.TREATMENTS[0]
    few = pl.concat([fold.train.filter(pl.col("treatment") == rare).head(8),
                     fold.train.filter(pl.col("treatment") != rare)])  # fmt: skip
    made = ridge.fit(one(replace(fold, train=few), Policy(minimum_cell=5)), FEW)
    assert rare not in made.treatments_ and len(made.treatments_) == 11
    told = made.predict(fold.study, fold.test.filter(pl.col("treatment") == rare))
    assert set(told["abstained"]) == {"drug not in training"}
    assert rare in ridge.fit(one(replace(fold, train=few)), FEW).treatments_


def test_another_unit_and_another_name_at_one_site_change_nothing(fold, house):
    sites = unlike(fold)
    own = sites.sites["b"]
    train = own.fold.train.with_columns(
        pl.col("value") + np.log(1000.0), pl.col("treatment").replace({"caffeine": "guaranine"})
    )
    own.fold = replace(own.fold, unit="ln(nM)", train=train)
    made = ridge.fit(sites, FEW)
    assert made.treatments_ == sorted([*house.treatments_, "guaranine"])
    at, of = made.treatments_.index("guaranine"), house.treatments_.index("caffeine")
    assert np.abs(made.weights_[:, at] - house.weights_[:, of]).max() < 1e-8  # either name gets a number
    assert abs(made.offset_[at] - house.offset_[of]) < 1e-8


def test_all_rounds_pass_a_strict_sites_gate_and_no_small_count_leaves(tmp_path):
    fold = Split.make(toy.write("larger", subjects=160), "unseen subject", endpoint="ln_ic50", folds=4).fold(0)
    seen: list[np.ndarray] = []

    def look(site, ask, made):
        seen.extend(a for a in made.arrays.values() if a.dtype.kind in "iu")
        return made

    dealt = sharing.at_random(fold, 2)
    sites = [
        Site(n, sharing.local(fold, own), Policy(minimum_cell=3), [*gate.steps(tmp_path / n), look])
        for n, own in dealt.items()
    ]
    made = ridge.fit(Inline(sites), {"axes": 12, "parts": 3, "penalties": [1.0, 3.0]})
    assert made.agreed_.sites == ("site 1", "site 2") and len(made.treatments_) == 12  # type: ignore[attr-defined]
    assert seen and not any(((a > 0) & (a < 3)).any() for a in seen)


def test_secure_sums_give_the_same_model(fold, house):
    from workbench.federated.secure.server import Secure

    made = ridge.fit(Secure(unlike(fold)), {**FEW, "penalties": [1.0]})
    assert alike(made, ridge.fit(one(fold), {**FEW, "penalties": [1.0]}))


def test_a_quantile_is_that_of_the_binned_values():
    draw = np.abs(np.random.default_rng(0).normal(size=4000))
    counts = _rows.counted(draw[:, None], np.zeros(1), np.full(1, ridge.FAR), ridge.BINS)[0]
    exact = np.sort(draw)[int(np.ceil(4001 * 0.9)) - 1]
    assert abs(ridge._quantile(counts, ridge.FAR / ridge.BINS) - exact) < 0.5 * ridge.FAR / ridge.BINS
    assert ridge._quantile(np.zeros(ridge.BINS + 2, dtype=int), 1.0) == ridge.NORMAL
    few = _rows.merged(np.array([[0, 3, 1, 0, 9, 2, 0], [1, 1, 0, 0, 1, 0, 0]]), 5)
    assert np.array_equal(few, [[0, 0, 0, 0, 15, 0, 0], [0] * 7])


def test_settings_that_cannot_be_are_named():
    with pytest.raises(ridge.RidgeError, match=r"no setting 'axis'.*axes"):
        ridge.fit(Inline([]), {"axis": 3})
    with pytest.raises(ridge.RidgeError, match="penalties should be numbers above 0"):
        ridge.fit(Inline([]), {"penalties": [0.0]})


def test_conjugate_gradients_solve_what_they_are_asked_or_say_so():
    draw = np.random.default_rng(0)
    x = np.column_stack([draw.normal(size=(60, 8)), np.ones(60)])
    there = draw.random((60, 5)) < 0.7
    y, penalty = draw.normal(size=(60, 5)), np.array([1e-3, 0.1, 1.0, 10.0, 1e3])
    systems = Systems(x.T @ x, 60, there.sum(0), penalty, x.T @ np.where(there, y, 0.0))
    found = solve(systems, lambda v, at: x.T @ np.where(there[:, at], x @ v, 0.0), 1e-13)
    for c in range(5):
        own = x[there[:, c]]
        exact = np.linalg.solve(own.T @ own + penalty[c] * np.diag([1.0] * 8 + [0]), own.T @ y[there[:, c], c])
        assert np.abs(found[:, c] - exact).max() < 1e-10
    with pytest.raises(NotSolved, match="of 5 systems are"):
        solve(systems, lambda v, at: x.T @ np.where(there[:, at], x @ v, 0.0), 1e-13, most=2)
