"""Pilot measurements: exact conditioning, choice, calibration and the verb, on numbers whose truth is planted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import score
from workbench.planning import calibration, choice, command, factors, judging, pilots
from workbench.planning.one_dose import DoseError, OneDose, slope_of
from workbench.planning.posterior import condition, remaining
from workbench.planning.residuals import unseen
from workbench.splits import Split
from workbench.study import Study

T, Q = 12, 2
BARE = "subject 89"  # of the study below: it has outcomes and no omics


def correlated(n: int = 300, seed: int = 0, holes: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (n, T) of a planted factor model with holes, and their true covariance."""
    draw = np.random.default_rng([31, seed])
    loadings, noise = draw.normal(size=(T, Q)), draw.uniform(0.1, 0.5, T)
    values = draw.normal(size=(n, Q)) @ loadings.T + draw.normal(size=(n, T)) * np.sqrt(noise) + np.arange(T) / 10
    values[draw.random(values.shape) < holes] = np.nan
    return values, loadings @ loadings.T + np.diag(noise)


# ---- conditioning


def test_conditioning_is_the_textbook_formula() -> None:
    _, covariance = correlated()
    measured, residual = np.array([7, 2, 4]), np.array([0.5, -1.0, 2.0])
    inverse = np.linalg.inv(covariance[np.ix_(measured, measured)])
    mean, variance = condition(covariance, measured, residual)
    np.testing.assert_allclose(mean, covariance[:, measured] @ inverse @ residual, atol=1e-12)
    expected = covariance - covariance[:, measured] @ inverse @ covariance[measured]
    np.testing.assert_allclose(variance, np.diag(expected), atol=1e-12)
    np.testing.assert_allclose(remaining(covariance, measured), expected, atol=1e-12)


def test_nothing_measured_changes_nothing_and_extra_noise_is_believed_less() -> None:
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    mean, variance = condition(covariance, np.array([], int), np.array([]))
    assert mean.tolist() == [0, 0] and variance.tolist() == [1, 1]
    mean, _ = condition(covariance, np.array([0]), np.array([2.0]), np.array([3.0]))
    assert mean[1] == pytest.approx(0.8 * 2 / 4)


@pytest.mark.parametrize(("measured", "residual", "told"), [([1, 1], [0.0, 0.0], "twice"), ([0], [np.nan], "finite")])
def test_conditioning_refuses_what_makes_no_sense(measured, residual, told) -> None:
    with pytest.raises(ValueError, match=told):
        condition(np.eye(3), np.array(measured), np.array(residual))


# ---- the covariance


def test_the_covariance_is_found_through_holes() -> None:
    values, truth = correlated(n=4000)
    found = factors.fit(values, rank=4, shrink=1.0)
    np.testing.assert_allclose(found.covariance, truth, rtol=0.1, atol=0.1)
    np.testing.assert_allclose(found.offset, np.arange(T) / 10, atol=0.1)
    assert np.linalg.eigvalsh(found.covariance).min() > 0


def test_values_that_depend_on_nothing_share_nothing() -> None:
    noise = np.random.default_rng(5).normal(size=(2000, T))
    found = factors.fit(noise, rank=6)
    assert np.abs(found.covariance - np.diag(np.diag(found.covariance))).max() < 0.1


def test_a_treatment_almost_never_measured_has_the_pooled_variance() -> None:
    values, _ = correlated()
    values[2:, 3] = np.nan
    found = factors.fit(values, rank=3)
    others = np.delete(np.diag(found.covariance), 3)
    assert found.covariance[3, 3] == pytest.approx(others.mean()) and not found.loadings[3].any()
    with pytest.raises(ValueError, match="needs 3 samples"):
        factors.fit(values[:2])


# ---- the choice


def test_greedy_takes_the_largest_exact_gain_each_time() -> None:
    _, covariance = correlated(seed=3)
    found = choice.greedy(covariance, 3)
    taken: list[int] = []
    for step in range(3):

        def left(j: int, taken=tuple(taken)) -> float:
            rest = [d for d in range(T) if d not in taken]  # the chosen one counts as it stands before the step
            before, after = remaining(covariance, np.array(taken, int)), remaining(covariance, np.array([*taken, j]))
            return sum(before[d, d] - after[d, d] for d in rest if d != j)

        gains = {j: left(j) for j in range(T) if j not in taken}
        best = max(gains, key=gains.__getitem__)
        assert found.order[step] == best and found.gain[step] == pytest.approx(gains[best])
        taken.append(best)
    outside = [d for d in range(T) if d not in taken]
    told = [np.diag(remaining(covariance, np.array(taken[:k], int)))[outside].sum() for k in range(4)]
    np.testing.assert_allclose(found.left, told, atol=1e-10)


def test_given_candidates_and_interest_are_kept_to() -> None:
    covariance = np.eye(5)
    covariance[0, 1] = covariance[1, 0] = 0.9
    covariance[2, 3] = covariance[3, 2] = 0.6
    covariance[2, 4] = covariance[4, 2] = 0.6
    assert choice.greedy(covariance, 1).order.tolist() in ([0], [1])
    assert choice.greedy(covariance, 1, given=[0]).order.tolist() == [2]
    assert choice.greedy(covariance, 9, candidates=[3]).order.tolist() == [3]
    only = choice.greedy(covariance, 5, weights=np.array([1.0, 0, 0, 0, 0]), candidates=[1, 2, 3, 4])
    assert only.order.tolist() == [1]  # no other says anything of treatment 0
    assert only.left.tolist() == pytest.approx([1, 1 - 0.81])


def test_costs_and_budget() -> None:
    covariance = np.array([[1, 0.9, 0.0, 0.0], [0.9, 1, 0, 0], [0, 0, 1, 0.8], [0, 0, 0.8, 1]])
    dear = np.array([10.0, 10.0, 1.0, 1.0])
    assert choice.greedy(covariance, 1, cost=dear).order.tolist() == [2]
    found = choice.greedy(covariance, 4, cost=dear, budget=3.0)
    assert found.order.tolist() == [2] and found.spent.tolist() == [1.0]
    with pytest.raises(ValueError, match="costs above 0"):
        choice.greedy(covariance, 1, cost=np.zeros(4))


def test_a_panel_hedges_against_treatments_that_often_fail() -> None:
    covariance = np.array([[1, 0.9, 0.9], [0.9, 1, 0.7], [0.9, 0.7, 1]])
    fails = np.ones((10, 3), bool)
    fails[:8, 0] = False
    assert choice.greedy(covariance, 1).order.tolist() == [0]
    assert choice.greedy(covariance, 1, patterns=fails).order.tolist()[0] != 0


def test_chosen_beats_random_and_own_counts_a_measured_member() -> None:
    _, covariance = correlated(seed=8)
    found = choice.greedy(covariance, 3)
    chance = choice.at_random(covariance, 3, 50, seed=0)
    assert chance.shape == (50, 4) and found.left[-1] / (T - 3) < chance[:, -1].mean()
    # judged on what is outside both
    weights = np.ones(T)
    weights[found.order] = 0.0
    both = choice.at_random(covariance, 3, 2000, seed=0, weights=weights)
    assert both.shape == (2000, 4) and found.left[-1] / (T - 3) < both[:, -1].mean()
    assert not len(choice.at_random(covariance, T, 5, seed=0)), "nothing is left outside"
    lone = np.diag([5.0, 1.0, 1.0])
    assert not len(choice.greedy(lone, 1).order)  # nothing tells anything of another
    assert choice.greedy(lone, 1, own=True).order.tolist() == [0]


# ---- calibration


def test_intervals_cover_what_they_say_on_new_lines() -> None:
    values, _ = correlated(n=500, holes=0.0)
    values *= np.random.default_rng(2).choice([0.6, 1.6], size=(500, 1))  # heavier tails than a Gaussian
    new, _ = correlated(n=500, holes=0.0)
    new = values[400:]
    fitted = factors.fit(values[:400], 4)
    held = calibration.calibrate(values[:400], level=0.9, rank=4, shrink=10.0, ks=(0, 3))
    for k in (0, 3):
        inside = []
        for row in new - fitted.offset:
            mean, variance = condition(fitted.covariance, np.arange(k), row[:k])
            inside.append((np.abs(row - mean) <= held.half(variance, k))[k:])
        assert np.mean(inside) == pytest.approx(0.9, abs=0.03), k
    assert held.between(0)[0] < 1 < held.between(0)[1]


# ---- a study


@pytest.fixture(scope="module")
def study() -> Study:
    """Lines whose responses share two hidden factors that no omics shows."""

    def hidden(outcomes: pl.DataFrame) -> pl.DataFrame:
        draw = np.random.default_rng(77)
        lines = {f"subject {i:02d}": draw.normal(size=2) for i in range(90)}
        drugs = {name: draw.normal(size=2) for name in toy.TREATMENTS}
        added = [
            float(lines[s] @ drugs[t]) for s, t in outcomes.select("subject", "treatment").iter_rows()
        ]  # the same for ln_ic50 and auc, which stays as it is: nothing here reads it
        return outcomes.with_columns(value=pl.col("value") + pl.Series(added))

    return toy.write("hidden", subjects=90, outcomes=hidden, censored=0.0)


@pytest.fixture(scope="module")
def split(study: Study) -> Split:
    return Split.make(study, "unseen subject", endpoint="ln_ic50", folds=3, seed=1)


@pytest.fixture(scope="module")
def plan(split: Split) -> pilots.Plan:
    return pilots.fit(split.fold(0), rank=4)


@pytest.mark.shared_home
def test_two_subjects_of_one_patient_are_left_out_together() -> None:
    """Twins share their omics and what no omics shows: with one at hand the other is no news."""
    draw = np.random.default_rng(0)
    noise = {(i, t): draw.normal() for i in range(30) for t in toy.TREATMENTS}

    def shared(outcomes: pl.DataFrame) -> pl.DataFrame:
        keys = [(int(s.split()[1]) // 2, t) for s, t in outcomes.select("subject", "treatment").iter_rows()]
        return outcomes.with_columns(value=pl.Series([noise[k] for k in keys]))

    def twins(kind: str, names: list[str], x: np.ndarray) -> np.ndarray:
        return x[[i - i % 2 for i in range(len(x))]] if kind == "expression" else x

    fold = Split.make(toy.write("twins", outcomes=shared, values=twins), "unseen subject", endpoint="ln_ic50", folds=5)
    alone = fold.fold(0)
    patient = pl.format("patient {}", pl.col("subject").str.slice(8).cast(pl.Int64) // 2)
    paired = replace(alone, train=alone.train.with_columns(person=patient))
    told = [np.nanstd(unseen("ridge", {}, f)[1].residual) for f in (alone, paired)]
    assert told[0] < 0.9 < 0.97 < told[1], "noise cannot be predicted"


@pytest.mark.shared_home
def test_left_out_answers_are_those_of_inner_folds(split: Split) -> None:
    fold = split.fold(0)
    _, closed = unseen("ridge", {}, fold)
    _, means = unseen("drug_mean", {}, fold)
    assert set(closed.subjects) == set(fold.train["subject"]) - {BARE}
    one = means.subjects[0]
    drug = next(i for i in range(len(means.treatments)) if np.isfinite(means.observed[0, i]))
    own = fold.train.filter(pl.col("treatment") == means.treatments[drug])
    others = own.filter(pl.col("subject") != one)["value"].mean()
    assert means.predicted[0, drug] == pytest.approx(others)  # the line itself is not in it
    _, cells = unseen("tissue_drug_mean", {}, fold)  # by parts of the training rows
    both = np.isfinite(cells.residual)
    assert both.sum() == np.isfinite(cells.observed).sum() and np.std(cells.residual[both]) > 0.3
    assert np.nanstd(closed.residual) < np.nanstd(closed.observed)


def test_a_split_that_does_not_keep_lines_apart_is_refused(study: Study) -> None:
    with pytest.raises(ValueError, match="samples that are new"):
        unseen("ridge", {}, Split.make(study, "unseen pair", endpoint="ln_ic50", folds=3).fold(0))


@pytest.mark.shared_home
def test_pilots_help_where_responses_share_what_omics_does_not_show(split: Split, plan: pilots.Plan) -> None:
    fold = split.fold(0)
    scored = judging.opened(plan, fold)
    tables = judging.table(plan, scored, ks=(2,), seed=0)
    metrics, _ = score.evaluate(tables[2], [], draws=20)
    told = {
        r["predictor"]: r["value"]
        for r in metrics.filter(metric="normalised Pearson", fold="all").iter_rows(named=True)
    }
    assert told["ridge, 2 chosen"] > told["ridge"] + 0.15
    assert told["ridge, 2 random"] > told["ridge"] + 0.05
    rows = {p: tables[2].filter(predictor=p)["row"].sort().to_list() for p in told}
    assert len({tuple(r) for r in rows.values()}) == 1, "all are scored on the same rows"


@pytest.mark.shared_home
def test_no_row_is_predicted_from_itself_or_its_other_name(split: Split, plan: pilots.Plan) -> None:
    scored = judging.opened(plan, split.fold(0))
    aspirin = plan.at(["aspirin"])
    lines = scored.filter((pl.col("treatment") == "aspirin") & (pl.col("subject") != BARE))["subject"].to_list()
    told = judging.with_pilots(plan, scored, dict.fromkeys(lines, aspirin), "p")
    assert not {"aspirin", "acetylsalicylic acid"} & set(told["treatment"]) and "caffeine" in set(told["treatment"])


@pytest.mark.shared_home
def test_training_lines_get_answers_that_have_not_seen_them(split: Split, plan: pilots.Plan) -> None:
    fold = split.fold(0)
    _, seen = unseen("ridge", {}, fold)
    row = plan.subjects.index(seen.subjects[0])
    there = np.isfinite(seen.predicted[0])
    np.testing.assert_array_equal(plan.means[row][there], seen.predicted[0][there])
    assert np.isfinite(plan.means[row]).all()  # and the pairs that were never measured are filled in
    with pytest.raises(pilots.PlanError, match="nothing of 'subject 89'"):
        plan.mean("subject 89")  # the one without omics


@pytest.mark.shared_home
def test_a_test_target_changes_nothing_in_the_plan(split: Split, plan: pilots.Plan, tmp_path: Path) -> None:
    fold = split.fold(0)
    test = set(fold.test["row"].to_list())

    def broken(outcomes: pl.DataFrame) -> pl.DataFrame:
        return outcomes.with_row_index("r").with_columns(
            value=pl.when(pl.col("r").cast(pl.Int64).is_in(list(test))).then(99.0).otherwise(pl.col("value"))
        ).drop("r")  # fmt: skip

    again = broken(fold.study.__class__.open(fold.study.path).outcomes)
    poisoned = toy.write("poisoned", subjects=90, outcomes=lambda _: again, censored=0.0)
    other = pilots.fit(Split.make(poisoned, "unseen subject", endpoint="ln_ic50", folds=3, seed=1).fold(0), rank=4)
    np.testing.assert_array_equal(other.covariance, plan.covariance)
    np.testing.assert_array_equal(other.calibration.scale, plan.calibration.scale)


@pytest.mark.shared_home
def test_saved_and_loaded_it_says_the_same(plan: pilots.Plan, tmp_path: Path) -> None:
    folder = pilots.save(plan, tmp_path / "plan")
    back = pilots.load(folder)
    before, after = (p.after("subject 01", {"aspirin": 1.0, "caffeine": -2.0}) for p in (plan, back))
    np.testing.assert_allclose(before["predicted"].to_numpy(), after["predicted"].to_numpy(), atol=1e-5)
    assert back.choose(3).names == plan.choose(3).names
    data = bytearray((folder / pilots.ARRAYS).read_bytes())
    data[-1] ^= 1
    (folder / pilots.ARRAYS).write_bytes(bytes(data))
    with pytest.raises(pilots.PlanError, match="changed or damaged"):
        pilots.load(folder)


@pytest.mark.shared_home
def test_what_is_expected_of_a_panel(plan: pilots.Plan) -> None:
    chosen = plan.choose(3, measured=["caffeine"], without=["nicotine"], interest=["aspirin"])
    assert not {"caffeine", "nicotine", "aspirin"} & set(chosen.names)
    curve = plan.choose(4).curve
    assert curve["k"].to_list() == [0, 1, 2, 3, 4] and (curve["rmse"].diff().drop_nulls() < 0).all()
    assert curve["rmse"][-1] < curve["random_rmse"][-1]
    assert curve["correlation"][-1] > curve["correlation"][0]
    assert curve["low"].null_count() == 5  # too few treatments matter here for a spread from line to line
    nearly = plan.choose(2, measured=plan.treatments[:-4]).curve
    assert nearly["random_rmse"].is_finite().all()
    assert nearly["random_rmse"][0] == pytest.approx(nearly["rmse"][0], rel=0.1)  # before any: the same, but for two
    with pytest.raises(pilots.PlanError, match="Did you mean 'aspirin'"):
        plan.choose(2, interest=["asprin"])
    with pytest.raises(pilots.PlanError, match="no treatment is left"):
        plan.choose(2, candidates=["aspirin"], measured=["aspirin"])


# ---- one dose


def test_a_viability_at_one_dose_gives_back_a_simulated_ic50() -> None:
    draw = np.random.default_rng(9)
    truth, dose, slope = draw.normal(0, 1, 4000), 1.0, draw.normal(1.0, 0.15, 4000).clip(0.5, 2)
    viability = 1 / (1 + (dose / np.exp(truth)) ** slope) + draw.normal(0, 0.05, 4000)
    model = OneDose(slope=1.0, slope_sd=0.15, viability_sd=0.05)
    use = (viability > model.low) & (viability < model.high)
    told = np.array([model.ln_ic50(v, dose) for v in viability[use]])
    error = (told[:, 0] - truth[use]) / np.sqrt(told[:, 1])
    assert abs(np.mean(told[:, 0] - truth[use])) < 0.05
    assert np.mean(np.abs(error) < 1.645) == pytest.approx(0.9, abs=0.03)  # the stated doubt is the real one
    found, spread = slope_of(truth, np.full(4000, dose), 1 / (1 + (dose / np.exp(truth)) ** slope))
    assert found == pytest.approx(1.0, abs=0.03) and spread == pytest.approx(0.15, abs=0.04)


@pytest.mark.parametrize(
    ("viability", "dose", "told"),
    [(0.5, None, "needs its dose"), (0.5, 0.0, "needs its dose"), (0.99, 1.0, "lies above"), (0.01, 1.0, "lies below")],
)
def test_one_dose_refuses_what_it_cannot_know(viability, dose, told) -> None:
    with pytest.raises(DoseError, match=told):
        OneDose().ln_ic50(viability, dose)


# ---- the verb


@pytest.mark.shared_home
def test_the_verb_chooses_predicts_and_writes(study: Study, tmp_path: Path, capsys) -> None:
    out = tmp_path / "f.json"
    assert command.main(["hidden", "--line", "subject 03", "--as-new", "--k", "3", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "measure next" in shown and "at random" in shown and "ln(uM)" in shown
    told = json.loads(out.read_text())
    assert len(told["panel"]) == 4 and len(told["predictions"]) == len(toy.TREATMENTS) and told["measured"] == {}
    values = tmp_path / "m.csv"
    values.write_text(
        "treatment,value,unit,dose_um\naspirin,-1.5,ln(uM),\ncaffeine,250,nM,\nnaproxen,0.4,viability,2\n"
    )
    assert command.main(["hidden", "--measured", str(values), "--k", "2", "--json", str(out)]) == 0
    told = json.loads(out.read_text())
    assert told["measured"]["aspirin"] == -1.5
    assert told["measured"]["caffeine"] == pytest.approx(np.log(0.25))
    assert told["measured"]["naproxen"] == pytest.approx(np.log(2) + np.log(0.4 / 0.6))
    assert "simulated curves only" in capsys.readouterr().out
    cost = tmp_path / "cost.csv"
    cost.write_text("treatment,cost\naspirin,1\ncaffeine,5\nnicotine,2\n")
    assert command.main(["hidden", "--panel", "--cost", str(cost), "--budget", "3", "--json", str(out)]) == 0
    told = json.loads(out.read_text())
    assert {r["treatment"] for r in told["panel"][1:]} <= {"aspirin", "nicotine"} and told["panel"][-1]["cost"] <= 3


@pytest.mark.shared_home
@pytest.mark.parametrize(
    ("words", "file", "told"),
    [
        (["--line", "subject 3"], None, "Did you mean 'subject"),
        (["--line", "subject 03", "--interest", "asprin"], None, "Did you mean 'aspirin'"),
        (["--measured", "FILE"], "treatment,value,unit\naspirine,1,ln(uM)\n", "Did you mean 'aspirin'"),
        (["--measured", "FILE"], "treatment,value,unit\naspirin,1,mg/kg\n", "does not become 'ln(uM)'"),
        (["--measured", "FILE"], "treatment,value,unit\naspirin,high,ln(uM)\n", "expected a number"),
        (["--measured", "FILE"], "treatment,value\naspirin,1\n", "column 'unit' is missing"),
        (["--measured", "FILE"], "treatment,value,unit\naspirin,0.5,viability\n", "needs its dose"),
        (["--class", "MEK"], None, "tells no class"),
        (["--k", "0"], None, "at least 1"),
    ],
)
def test_the_verb_says_what_is_wrong(study: Study, tmp_path: Path, capsys, words, file, told) -> None:
    values = tmp_path / "given.csv"
    if file:
        values.write_text(file)
    assert command.main(["hidden", *[str(values) if w == "FILE" else w for w in words]]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.shared_home
def test_bad_usage_is_2(study: Study, capsys) -> None:
    assert command.main(["hidden", "--panel", "--line", "subject 03"]) == 2
    assert command.main(["hidden", "--as-new"]) == 2
    assert command.main(["--help"]) == 0
