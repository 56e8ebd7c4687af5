"""Scores against their definitions worked out with scipy, paired intervals, verdicts, and who is naive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from tests import toy
from workbench import predict, predictors, score, tables
from workbench.splits import Split
from workbench.study import SealedError

METRICS = list(score.BETTER)


def table(
    subjects: int = 12,
    drugs: int = 4,
    seed: int = 0,
    fold: int = 0,
    split: str = "unseen subject",
    few: bool = True,
    **predicted: Any,
) -> pl.DataFrame:
    """Scored PREDICTIONS of named predictors on one fold; each is a function of (observed, baseline, random draw).

    With ``few``, the last drug has four rows only: too few for a correlation of its own.
    """
    draw = np.random.default_rng([1, seed, fold])
    s, d = (i.ravel() for i in np.indices((subjects, drugs)))
    if few:
        kept = (d < drugs - 1) | (s < 4)
        s, d = s[kept], d[kept]
    n = len(s)
    baseline = np.array([0.0, 2.0, -1.0, 4.0, 1.0, -3.0])[d % 6]
    observed = baseline + draw.normal(size=subjects)[s] * 0.5 + draw.normal(size=n)
    frames = []
    for name, how in predicted.items():
        p = np.asarray(how(observed, baseline, draw), dtype=float) + np.zeros(n)
        gone = np.isnan(p)
        number = {c: pl.Series(c, v).fill_nan(None) for c, v in (("predicted", p), ("low", p - 1.5), ("high", p + 1.5))}
        frames.append(
            pl.DataFrame(
                {
                    "predictor": name,
                    "split": split,
                    "fold": pl.Series([fold] * n, dtype=pl.Int32),
                    "row": pl.Series(range(n), dtype=pl.Int64),
                    "subject": [f"s{i:03d}" for i in s],
                    "treatment": [f"drug {i}" for i in d],
                    "tissue": "lung",
                    "endpoint": "ln_ic50",
                    "unit": "ln(uM)",
                    **number,
                    "level": 0.9,
                    "abstained": ["cannot" if g else None for g in gone],
                    "baseline": baseline,
                    "observed": observed,
                    "censored": pl.Series([0] * n, dtype=pl.Int8),
                },
                schema=dict(tables.PREDICTIONS.columns),
            )
        )
    return pl.concat(frames)


def noisy(sd: float) -> Any:
    return lambda y, b, draw: y + draw.normal(0, sd, len(y))


def mean(y: np.ndarray, b: np.ndarray, draw: Any) -> np.ndarray:
    return b


def absent(y: np.ndarray, b: np.ndarray, draw: Any) -> np.ndarray:
    return np.full(len(y), np.nan)


def evaluate(frame: pl.DataFrame, naive: tuple[str, ...] = (), draws: int = 200) -> tuple[pl.DataFrame, pl.DataFrame]:
    return score.evaluate(frame, naive, draws=draws)


def cell(metrics: pl.DataFrame, predictor: str, metric: str, fold: str = "all") -> dict[str, Any]:
    mine = metrics.filter(pl.col("predictor") == predictor, pl.col("metric") == metric, pl.col("fold") == fold)
    assert mine.height == 1
    return mine.row(0, named=True)


def compared(comparisons: pl.DataFrame, one: str, other: str, metric: str) -> dict[str, Any]:
    mine = comparisons.filter(pl.col("predictor") == one, pl.col("other") == other, pl.col("metric") == metric)
    assert mine.height == 1
    return mine.row(0, named=True)


# --- the metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["unseen subject", "unseen treatment", "unseen tissue", "unseen pair"])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_numpy_and_scipy(split: str, seed: int) -> None:
    frame = table(seed=seed, split=split, ridge=noisy(0.8))
    metrics, _ = evaluate(frame)
    y, p, b, low, high = (frame[c].to_numpy() for c in ("observed", "predicted", "baseline", "low", "high"))
    drug = frame["treatment"].to_numpy()
    enough = [d for d in np.unique(drug) if (drug == d).sum() >= 5]
    assert len(enough) == 3
    want = {
        "RMSE": math.sqrt(np.mean((y - p) ** 2)),
        "MAE": np.mean(np.abs(y - p)),
        "Pearson": pearsonr(y, p)[0],
        "normalised Pearson": pearsonr(y - b, p - b)[0],
        "per-drug Pearson": np.mean([pearsonr(y[drug == d], p[drug == d])[0] for d in enough]),
        "per-drug Spearman": np.mean([spearmanr(y[drug == d], p[drug == d])[0] for d in enough]),
        "coverage": np.mean((low <= y) & (y <= high)),
        "interval width": np.mean(high - low),
    }
    assert set(want) == set(METRICS)
    for metric, number in want.items():
        got = cell(metrics, "ridge", metric)
        assert got["value"] == pytest.approx(number, abs=1e-9), metric
        assert got["low"] <= got["value"] <= got["high"] or split == "unseen treatment"
        assert got["resampled"] == ("treatment" if split == "unseen treatment" else "subject")
        assert got["unit"] == ("ln(uM)" if metric in ("RMSE", "MAE", "interval width") else "")
        assert (got["n"], got["abstained"]) == (frame.height, 0)


def test_ties_share_their_rank() -> None:
    frame = table(ridge=lambda y, b, draw: np.round(y))
    metrics, _ = evaluate(frame)
    drug = frame["treatment"].to_numpy()
    y, p = frame["observed"].to_numpy(), frame["predicted"].to_numpy()
    want = np.mean([spearmanr(y[drug == d], p[drug == d])[0] for d in ("drug 0", "drug 1", "drug 2")])
    assert cell(metrics, "ridge", "per-drug Spearman")["value"] == pytest.approx(want, abs=1e-9)


def test_a_constant_prediction_ranks_nothing() -> None:
    """Mean effects remove themselves, and a drug's mean says nothing about its lines."""
    frame = table(drug_mean=mean, constant=lambda y, b, d: 7.3, half=lambda y, b, d: np.where(b == 0.0, y, b))
    metrics, _ = evaluate(frame)
    for name in ("drug_mean", "constant"):
        for metric in ("per-drug Pearson", "per-drug Spearman"):
            got = cell(metrics, name, metric)
            assert (got["value"], got["low"], got["high"]) == (0.0, 0.0, 0.0)
    assert cell(metrics, "drug_mean", "normalised Pearson")["value"] == 0.0
    assert cell(metrics, "drug_mean", "Pearson")["value"] > 0.5
    assert cell(metrics, "constant", "Pearson")["value"] == 0.0
    # one of three drugs is perfect, the two constant ones count as nothing
    assert cell(metrics, "half", "per-drug Pearson")["value"] == pytest.approx(1 / 3, abs=1e-6)


def test_a_drug_with_four_rows_has_no_correlation_of_its_own() -> None:
    backwards = table(ridge=lambda y, b, d: np.where(b == 4.0, -y, y))
    metrics, _ = evaluate(backwards)
    assert cell(metrics, "ridge", "per-drug Pearson")["value"] == pytest.approx(1.0, abs=1e-9)
    lonely = table(drugs=1, subjects=4, few=False, ridge=noisy(0.1))
    assert cell(evaluate(lonely)[0], "ridge", "per-drug Pearson")["value"] == 0.0


def test_all_is_the_mean_over_folds() -> None:
    frame = pl.concat([table(seed=5, fold=k, ridge=noisy(0.5 + k), drug_mean=mean) for k in range(3)])
    metrics, _ = evaluate(frame, ("drug_mean",))
    for name in ("ridge", "drug_mean"):
        for metric in METRICS:
            whole = cell(metrics, name, metric)
            each = [cell(metrics, name, metric, str(k)) for k in range(3)]
            assert whole["value"] == pytest.approx(np.mean([e["value"] for e in each]), abs=1e-12)
            assert whole["n"] == sum(e["n"] for e in each)
    assert metrics.height == 2 * len(METRICS) * 4


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    frame = pl.concat([table(fold=k, ridge=noisy(0.8), drug_mean=mean) for k in range(2)])
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    first, second = (evaluate(f, ("drug_mean",), draws=30) for f in (frame, mixed))
    both = first[0].join(second[0], on=["predictor", "metric", "fold"], suffix="_mixed")
    assert both.height == first[0].height
    for column in ("value", "low", "high", "naive"):
        assert (both[column] - both[f"{column}_mixed"]).abs().max() < 1e-9  # type: ignore[operator]
    assert both["naive_predictor"].equals(both["naive_predictor_mixed"])
    pair = first[1].join(second[1], on="metric", suffix="_mixed")  # who stands first may have changed
    assert (pair["difference"].abs() - pair["difference_mixed"].abs()).abs().max() < 1e-9  # type: ignore[operator]


# --- intervals and verdicts ------------------------------------------------------------------------------------------


def test_twins_differ_by_exactly_nothing() -> None:
    frame = table(one=lambda y, b, d: y * 0.7, two=lambda y, b, d: y * 0.7)
    _, comparisons = evaluate(frame)
    assert set(comparisons["verdict"]) == {"no difference shown"}
    for column in ("difference", "low", "high"):
        assert set(comparisons[column]) == {0.0}


def test_the_better_one_is_better_and_the_other_worse() -> None:
    frame = pl.concat([table(subjects=40, fold=k, good=noisy(0.3), bad=noisy(1.5)) for k in range(2)])
    mirrored = pl.concat([frame.filter(pl.col("predictor") == p) for p in ("bad", "good")])
    _, comparisons = evaluate(frame)
    _, swapped = evaluate(mirrored)
    for metric in METRICS:
        if metric in ("coverage", "interval width"):
            assert comparisons.filter(pl.col("metric") == metric).is_empty(), "there is no better in these"
            continue
        one, other = compared(comparisons, "bad", "good", metric), compared(swapped, "good", "bad", metric)
        assert (one["verdict"], other["verdict"]) == ("worse", "better")
        assert one["difference"] == pytest.approx(-other["difference"], abs=1e-12)
        assert one["low"] == pytest.approx(-other["high"], abs=1e-9)
        sign = -1 if metric in ("RMSE", "MAE") else 1
        assert other["difference"] * sign > 0


def test_two_equally_good_ones_show_no_difference() -> None:
    verdicts = []
    for seed in range(20):
        _, comparisons = evaluate(table(subjects=30, seed=seed, one=noisy(0.8), two=noisy(0.8)))
        verdicts.append(compared(comparisons, "two", "one", "RMSE")["verdict"])
    assert verdicts.count("no difference shown") >= 16


def test_a_paired_interval_is_narrower_than_two_alone() -> None:
    def shared(extra: float) -> Any:
        return lambda y, b, d: y + np.random.default_rng(9).normal(0, 1, len(y)) + extra * np.sign(y)

    metrics, comparisons = evaluate(table(subjects=40, one=shared(0.0), two=shared(0.01)))
    alone = cell(metrics, "one", "RMSE")
    paired = compared(comparisons, "two", "one", "RMSE")
    assert paired["high"] - paired["low"] < 0.2 * (alone["high"] - alone["low"])


@pytest.mark.parametrize(("metric", "truth"), [("RMSE", 1.0), ("normalised Pearson", None), ("per-drug Pearson", None)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(metric: str, truth: float | None) -> None:
    """300 small studies of 40 lines; 95 % intervals hold the truth in at least 85 % of them (percentile, small n)."""

    def half(y: np.ndarray, b: np.ndarray, draw: Any) -> np.ndarray:
        return y + draw.normal(0, 1, len(y))

    # the true correlation: var(y - b) = 0.25 + 1 within and between lines, noise of 1 on the prediction
    within = math.sqrt(1.25 / 2.25)
    truth = within if truth is None else truth
    hits = []
    for seed in range(300):
        frame = table(subjects=40, seed=seed, few=False, ridge=half)
        metrics, _ = score.evaluate(frame, [], draws=200)
        got = cell(metrics, "ridge", metric)
        hits.append(got["low"] <= truth <= got["high"])
    assert 0.85 <= np.mean(hits) <= 1.0


@pytest.mark.parametrize(
    ("low", "high", "sign", "words"),
    [
        (0.1, 0.2, 1, "better"),
        (0.1, 0.2, -1, "worse"),
        (-0.2, -0.1, 1, "worse"),
        (-0.2, -0.1, -1, "better"),
        (-0.1, 0.2, 1, "no difference shown"),
        (0.0, 0.2, 1, "no difference shown"),
        (math.nan, math.nan, 1, "no difference shown"),
    ],
)
def test_verdicts_in_words(low: float, high: float, sign: int, words: str) -> None:
    assert score.verdict(low, high, sign) == words


# --- naive, abstaining -----------------------------------------------------------------------------------------------


def test_the_naive_value_is_the_best_of_the_family_metric_by_metric() -> None:
    frame = table(
        subjects=40,
        ridge=noisy(0.5),
        drug_mean=mean,
        cell_mean=lambda y, b, draw: y + 30,  # ranks everything, and is far off
        global_mean=lambda y, b, draw: 0.0,
    )
    metrics, _ = evaluate(frame, ("drug_mean", "cell_mean", "global_mean", "not here"))
    for name in ("ridge", "drug_mean", "cell_mean"):
        rmse, pearson = cell(metrics, name, "RMSE"), cell(metrics, name, "normalised Pearson")
        assert rmse["naive_predictor"] == "drug_mean"
        assert rmse["naive"] == cell(metrics, "drug_mean", "RMSE")["value"]
        assert pearson["naive_predictor"] == "cell_mean" and pearson["naive"] == pytest.approx(1.0)
    assert evaluate(frame)[0]["naive"].null_count() == metrics.height


def test_rows_without_an_answer_are_counted_and_left_out() -> None:
    def silent(y: np.ndarray, b: np.ndarray, draw: Any) -> np.ndarray:
        return np.where(b == 2.0, np.nan, y + 0.5)

    frame = table(ridge=silent, drug_mean=mean, nothing=absent)
    metrics, comparisons = evaluate(frame, ("drug_mean",))
    n = table(ridge=mean).height
    got = cell(metrics, "ridge", "RMSE")
    assert (got["n"], got["abstained"]) == (n - 12, 12)
    assert got["value"] == pytest.approx(0.5)
    empty = cell(metrics, "nothing", "RMSE")
    assert (empty["n"], empty["abstained"], empty["value"], empty["low"]) == (0, n, None, None)
    assert empty["naive"] == cell(metrics, "drug_mean", "RMSE")["value"]
    for metric in ("RMSE", "normalised Pearson"):
        one = compared(comparisons, "nothing", "ridge", metric)
        assert one["verdict"] == score.NOT_PAIRED
        assert one["difference"] is one["low"] is one["high"] is None


def test_two_that_answered_different_rows_are_compared_on_the_shared_ones() -> None:
    frame = table(
        subjects=20,
        one=lambda y, b, draw: np.where(np.arange(len(y)) == 0, np.nan, y + draw.normal(0, 1, len(y))),
        two=lambda y, b, draw: np.where(np.arange(len(y)) == 0, 1e6, np.where(b == 2.0, np.nan, y + 0.1)),
        nothing=absent,
    )
    metrics, comparisons = evaluate(frame)
    assert cell(metrics, "two", "RMSE")["value"] > 1e4, "it is far off in row 0, which only it answered"
    rows = [
        frame.filter(pl.col("predictor") == p, pl.col("row") != 0, pl.col("baseline") != 2.0) for p in ("one", "two")
    ]
    rmse = [math.sqrt(((f["predicted"] - f["observed"]) ** 2).mean()) for f in rows]  # type: ignore[arg-type]
    got = compared(comparisons, "two", "one", "RMSE")
    assert got["difference"] == pytest.approx(rmse[1] - rmse[0], rel=1e-9)
    assert got["verdict"] == "better", "what only one of them said does not count"
    none = compared(comparisons, "nothing", "one", "RMSE")
    assert none["verdict"] == score.NOT_PAIRED and none["difference"] is none["low"] is none["high"] is None


def test_a_naive_predictor_that_abstains_is_not_the_best() -> None:
    frame = table(ridge=noisy(0.5), drug_mean=absent, global_mean=lambda y, b, d: 0.0)
    metrics, _ = evaluate(frame, ("drug_mean", "global_mean"))
    assert cell(metrics, "ridge", "RMSE")["naive_predictor"] == "global_mean"


# --- opening the seal ------------------------------------------------------------------------------------------------


def test_the_targets_come_in_by_row_and_only_for_whole_predictions() -> None:
    study = toy.write()
    fold = Split.make(study, "unseen subject", endpoint="ln_ic50", folds=5).fold(2)
    made = predict.predictions(predictors.make("drug_mean").fit(fold), fold)
    mixed = made.sample(fraction=1.0, shuffle=True, seed=0)
    opened = score.unseal(mixed, fold)
    assert opened["row"].equals(mixed["row"])
    truth = study.outcomes["value"].to_numpy()
    np.testing.assert_array_equal(opened["observed"].to_numpy(), truth[opened["row"].to_numpy()])
    with pytest.raises(SealedError, match=r"1 of \d+ test rows have neither"):
        score.unseal(made.tail(-1), fold)


def test_the_baseline_is_what_mean_effects_would_say() -> None:
    fold = Split.make(toy.write(), "unseen pair", endpoint="ln_ic50", folds=5).fold(0)
    effects = predictors.make("mean_effects").fit(fold)
    made = predict.predictions(effects, fold)
    np.testing.assert_allclose(made["baseline"], made["predicted"])
    given_base = predict.predictions(effects, fold, made["baseline"] + 1)
    np.testing.assert_allclose(given_base["baseline"], made["predicted"] + 1)


def test_a_predictor_that_answers_too_few_rows_is_named() -> None:
    fold = Split.make(toy.write(), "unseen pair", endpoint="ln_ic50", folds=5).fold(0)

    class Short:
        name = "short"

        def predict(self, study: Any, pairs: pl.DataFrame) -> pl.DataFrame:
            return predictors.make("global_mean").fit(fold).predict(study, pairs.head(3))

    with pytest.raises(ValueError, match=r"short answered 3 of \d+ test rows; one answer a row"):
        predict.predictions(Short(), fold)  # type: ignore[arg-type]


@pytest.mark.parametrize("split", ["unseen pair", "unseen subject"])
def test_a_line_with_rows_in_several_folds_counts_as_one(split: str) -> None:
    """Errors that a whole line shares: dealing its rows to five folds makes no more lines of it."""
    draw = np.random.default_rng(3)
    shared = np.repeat(draw.normal(size=100), 10)

    def hard(y: np.ndarray, b: np.ndarray, d: np.random.Generator) -> np.ndarray:
        return y + 2 * shared + 0.1 * d.normal(size=len(y))

    one = table(100, 10, split=split, few=False, a=hard, b=lambda y, b, d: y + d.normal(size=len(y)))
    pair = (pl.col("row") * 7) % 5 if split == "unseen pair" else pl.col("row") // 10 % 5
    five = one.with_columns(fold=pair.cast(pl.Int32))
    for metric in ("RMSE", "MAE"):
        width = []
        for frame in (one, five):
            metrics, comparisons = score.evaluate(frame, [], draws=400)
            chosen = metrics.filter(pl.col("fold") == "all", pl.col("metric") == metric, pl.col("predictor") == "a")
            apart = comparisons.filter(pl.col("metric") == metric)
            width.append([(f["high"] - f["low"]).item() for f in (chosen, apart)])
        np.testing.assert_allclose(width[1], width[0], rtol=0.25)
