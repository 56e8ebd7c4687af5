"""The stacked kernels: what each of their steps must find, and leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import modalities, predict, predictors, score
from workbench.nn import completion, fixed_effects, spectral_ridge
from workbench.splits import Split
from workbench.study import Study

pytestmark = pytest.mark.shared_home


@pytest.fixture(scope="module", autouse=True)
def clean(_module_home: object) -> Study:
    return toy.write()


def centred(n: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 2 * n))
    x -= x.mean(0)
    kernel = x @ x.T
    return kernel * n / np.trace(kernel)


# --- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, np.arange(24) % 5])
def test_left_out_predictions_are_those_of_a_refit(groups: np.ndarray | None) -> None:
    kernel, y = centred(24), np.random.default_rng(1).normal(size=(24, 3))
    _, out, chosen = spectral_ridge.fit(kernel, y, np.array([0.3]), groups)
    assert chosen.tolist() == [0.3] * 3
    of = np.arange(24) if groups is None else groups
    for g in np.unique(of):
        here, rest = of == g, of != g
        # kernel ridge with a free intercept: [K + aI, 1; 1', 0] [b; m] = [y; 0]
        n = int(rest.sum())
        system = np.ones((n + 1, n + 1))
        system[:n, :n] = kernel[np.ix_(rest, rest)] + 0.3 * np.eye(n)
        system[n, n] = 0.0
        solved = np.linalg.solve(system, np.concatenate([y[rest], np.zeros((1, 3))]))
        np.testing.assert_allclose(out[here], kernel[np.ix_(here, rest)] @ solved[:n] + solved[n], atol=1e-7)


def test_the_penalty_follows_the_noise() -> None:
    kernel, draw = centred(60), np.random.default_rng(2)
    signal = np.linalg.cholesky(kernel + 1e-9 * np.eye(60)) @ draw.normal(size=(60, 2))
    penalty = spectral_ridge.fit(kernel, np.concatenate([signal, draw.normal(size=(60, 2))], axis=1))[2]
    assert penalty[:2].max() < 0.3 < 1.0 < penalty[2:].min()


def test_gaps_of_a_low_rank_matrix_are_filled_and_what_is_there_stays() -> None:
    draw = np.random.default_rng(3)
    whole = draw.normal(size=(80, 3)) @ draw.normal(size=(3, 40))
    gap = draw.random(whole.shape) < 0.15
    filled, low = completion.complete(np.where(gap, np.nan, whole))
    np.testing.assert_array_equal(filled[~gap], whole[~gap])
    np.testing.assert_array_equal(filled[gap], low[gap])
    assert np.sqrt(np.mean((filled - whole)[gap] ** 2)) < 0.25 * whole.std()
    noise = np.where(gap, np.nan, draw.normal(size=whole.shape))
    assert completion.complete(noise)[0][gap].std() < 0.5, "noise has nothing to tell of its gaps"


def test_a_strong_single_feature_is_chosen_and_noise_is_not() -> None:
    draw = np.random.default_rng(4)
    x = draw.normal(size=(200, 500))
    kernel = centred(200)
    y = draw.normal(size=(200, 30))
    y[:, 0] += 1.2 * x[:, 7]
    y[:, 1] += x[:, 3] - x[:, 4]
    above = fixed_effects.threshold(500, 30)
    assert above == pytest.approx(3.99, abs=0.01)  # two-sided, 1 in 15,000
    effects = fixed_effects.select(kernel, x, y, np.full(30, 1.0), above)
    assert np.flatnonzero(effects[:, 0]).tolist() == [7]
    assert np.flatnonzero(effects[:, 1]).tolist() == [3, 4]
    assert effects[7, 0] == pytest.approx(1.2, abs=0.25)
    assert np.count_nonzero(effects[:, 2:]) <= 3
    assert fixed_effects.select(kernel, x[:, :0], y, np.full(30, 1.0), above).shape == (0, 30)


# --- the predictor ---------------------------------------------------------------------------------------------------


def fitted(study: Study, rule: str = "unseen subject", **params: Any) -> tuple[Any, Any]:
    fold = Split.make(study, rule, endpoint="ln_ic50", folds=4).fold(0)
    made: Any = predictors.make("stacked_kernels", **params)
    return made.fit(fold), fold


def metrics(made: Any, fold: Any) -> dict[str, float]:
    scored = score.unseal(predict.predictions(made, fold), fold)
    frame, _ = score.evaluate(scored, [], draws=1)
    return dict(frame.filter(pl.col("fold") == "all").select("metric", "value").iter_rows())


def test_it_finds_what_was_planted(clean: Study) -> None:
    made, fold = fitted(clean)
    found = metrics(made, fold)
    assert found["normalised Pearson"] > 0.5
    assert found["coverage"] >= 0.75


def test_a_planted_gene_is_named_as_a_single_effect() -> None:
    effect = 3.0

    def planted(frame: pl.DataFrame) -> pl.DataFrame:
        _, x, _ = toy.planted()
        of = {f"subject {i:02d}": float(x[i, 30]) for i in range(60)}
        mark = pl.col("treatment") == "caffeine"
        gene = pl.col("subject").replace_strict(of, return_dtype=pl.Float64)
        return frame.with_columns(pl.when(mark).then(pl.col("value") + effect * gene).otherwise("value").alias("value"))

    study = toy.write("one gene", outcomes=planted)
    made, fold = fitted(study)
    told = made.attributions().filter(pl.col("method").str.starts_with("effect of a single feature"))
    mine = told.filter(pl.col("treatment") == "caffeine")
    assert (mine["modality"][0], mine["feature"][0]) == ("expression", "gene30")
    assert mine["value"][0] == pytest.approx(effect, rel=0.4)
    without, _ = fitted(study, false_markers=0.0)
    assert not without.markers_
    assert metrics(made, fold)["RMSE"] < metrics(without, fold)["RMSE"]


def test_a_known_line_is_completed_from_its_other_drugs(clean: Study) -> None:
    made, fold = fitted(clean, "unseen pair")
    assert made.plane_.shape == (60, 12)
    found = metrics(made, fold)
    assert found["normalised Pearson"] > 0.4
    assert 0.8 <= found["coverage"] <= 1.0


def test_any_subset_of_modalities_will_do(clean: Study) -> None:
    made, fold = fitted(clean)
    names = [*fold.study.subjects["subject"]]
    asked = pl.DataFrame({"subject": names, "treatment": ["caffeine"] * len(names)})
    there = fold.study.presence().select("expression", "mutation", "copy_number").to_numpy()
    told = made.predict(fold.study, asked)
    assert told["abstained"].to_list() == [None if any(r) else "sample has no modality" for r in there]
    some = made.predict(fold.study, asked, without=("expression",))
    assert (some["predicted"] - told["predicted"]).abs().max() > 1e-3
    unknown = made.predict(fold.study, asked.with_columns(pl.lit("unheard of").alias("treatment")))
    assert unknown["abstained"].to_list() == ["drug not in training"] * len(names)
    lean, _ = fitted(toy.write("only genes", leave_out=("mutation", "copy_number", "drug_structure")))
    assert lean.kernels_.names == ["expression"]


def test_a_study_without_its_modalities_and_a_wrong_name_are_refused() -> None:
    bare = toy.write("nothing at all", leave_out=("copy_number", "drug_structure", "expression", "mutation"))
    with pytest.raises(ValueError, match=r"study 'nothing at all' has none of the modalities .*; it has \[\]"):
        fitted(bare)
    with pytest.raises(ValueError, match=r"no kernel for modality 'proteomics'; it has \['expression'"):
        predictors.make("stacked_kernels", modalities=("proteomics",))


def test_modalities_that_never_vary_leave_each_drug_its_mean() -> None:
    def still(kind: str, names: list[str], values: np.ndarray) -> np.ndarray:
        return np.zeros_like(values)

    study = toy.write("all still", values=still, leave_out=("drug_structure",))
    made, fold = fitted(study, modalities=("mutation", "copy_number"))
    answer = made.predict(fold.study, fold.test).filter(pl.col("abstained").is_null())
    assert answer.height and answer["predicted"].is_finite().all()


def test_other_columns_than_those_of_the_fit_are_refused(clean: Study) -> None:
    made, fold = fitted(clean)
    block = modalities.read(fold.study, "expression")

    class Renamed:
        """The study, its genes renamed."""

        modalities = fold.study.modalities
        subjects = fold.study.subjects

        def modality(self, kind: str) -> Any:
            data = fold.study.modality(kind).copy()
            data.var_names = [f"other{i}" for i in range(data.n_vars)]
            return data

    assert block.features[0] == "gene0"
    with pytest.raises(ValueError, match=r"has other columns than"):
        made.predict(Renamed(), fold.test)


def test_what_it_keeps_as_left_out_has_not_seen_the_line() -> None:
    """On noise nothing must come out; on a planted signal left-out errors are those of lines really unseen."""

    def noise(outcomes: pl.DataFrame) -> pl.DataFrame:
        return outcomes.with_columns(value=pl.Series(np.random.default_rng(8).normal(size=outcomes.height)))

    for name, changes in (("left out noise", {"outcomes": noise}), ("left out signal", {})):
        made = toy.write(name, subjects=160, censored=0.0, **changes)  # type: ignore[arg-type]
        fold = Split.make(made, "unseen subject", endpoint="ln_ic50", folds=3, seed=0).fold(0)
        fitted: Any = predictors.make("stacked_kernels").fit(fold)
        subjects, treatments, told = fitted.left_out_
        seen = fold.train.select("subject", "treatment", "value")
        at = pl.DataFrame({"subject": np.repeat(subjects, len(treatments)), "treatment": treatments * len(subjects)})
        both = seen.join(at.with_columns(told=pl.Series(told.ravel())), on=["subject", "treatment"])
        blind = float(((both["value"] - both["told"]) ** 2).mean() ** 0.5)  # type: ignore[operator]
        answer = score.unseal(predict.predictions(fitted, fold), fold)
        unseen = float(((answer["observed"] - answer["predicted"]) ** 2).mean() ** 0.5)  # type: ignore[operator]
        spread = float(seen.with_columns(pl.col("value") - pl.col("value").mean().over("treatment"))["value"].std())
        # genes are chosen on four fifths of the lines there: left-out errors may be larger than true ones, not smaller
        assert 0.97 * unseen < blind < 1.25 * unseen
        if "noise" in name:
            # the drug's own mean and the stack's weights have seen the line; they may not gain more than that
            assert blind > 0.985 * spread, "left-out answers that beat the mean on noise have seen the line"
        else:
            assert blind < 0.8 * spread


@pytest.mark.parametrize("missing", [0.5, 0.8])
def test_intervals_hold_where_most_responses_are_missing(missing: float) -> None:
    """Completed responses of other lines tell of the line left out: errors that heed them cover 0.76 at 80 %."""

    def thinned(outcomes: pl.DataFrame) -> pl.DataFrame:
        return outcomes.filter(pl.Series(np.random.default_rng(1).random(outcomes.height) > missing))

    made = toy.write(f"thinned {missing}", subjects=200, seed=1, censored=0.0, outcomes=thinned)
    inside = []
    for k in range(3):
        fold = Split.make(made, "unseen subject", endpoint="ln_ic50", folds=3, seed=0).fold(k)
        answer = score.unseal(predict.predictions(predictors.make("stacked_kernels").fit(fold), fold), fold)
        answer = answer.filter(pl.col("predicted").is_finite())
        inside.append(answer["observed"].is_between(answer["low"], answer["high"]).mean())
    assert 0.87 <= float(np.mean(inside)) <= 0.97
