"""The forest: its answers are those of its trees, out of bag means out of bag, and it finds what was planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import predict, predictors, score
from workbench.predictors.forest import _Grown
from workbench.splits import Split
from workbench.study import Study

SMALL = {"trees": 40, "features": 0.5, "smallest_leaf": 2, "seed": 1}


def made(n: int = 60, t: int = 3) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    x = draw.normal(size=(n, 6)).astype(np.float32)
    return x, np.stack([np.sign(x[:, 0]), x[:, 1], np.zeros(n)], axis=1)[:, :t] + draw.normal(0, 0.1, (n, t))


def test_complete_responses_are_answered_as_by_scikit_learn() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    x, y = made()
    spread = np.nanstd(y, axis=0)
    model = ExtraTreesRegressor(
        40, max_features=0.5, min_samples_leaf=2, bootstrap=True, oob_score=True, random_state=1
    )
    model.fit(x, y / spread)
    new = np.random.default_rng(6).normal(size=(20, 6)).astype(np.float32)
    grown = _Grown(x, y, SMALL)
    np.testing.assert_allclose(grown.answer(new), model.predict(new) * spread, atol=1e-10)
    np.testing.assert_allclose(grown.out_of_bag(), model.oob_prediction_ * spread, atol=1e-10)
    assert grown.importance()[:2].sum() > grown.importance()[2:].sum() and grown.importance().sum() == pytest.approx(1)


def test_a_leaf_answers_with_what_was_measured_in_it() -> None:
    """A response that is missing is no vote for the mean: ten samples decide as if they were alone."""
    x, y = made(t=1)
    y = np.repeat(y, 2, axis=1)
    y[10:, 1] = np.nan
    grown = _Grown(x, y, SMALL | {"smallest_leaf": 60})  # one leaf: everyone
    drawn = grown.drawn.astype(float)
    alone = np.mean([(d[:10] @ y[:10, 1]) / d[:10].sum() for d in drawn])
    whole = np.mean([(d @ y[:, 0]) / d.sum() for d in drawn])
    np.testing.assert_allclose(grown.answer(x[:3]), [[whole, alone]] * 3, atol=1e-12)


def test_out_of_bag_answers_have_not_seen_the_sample() -> None:
    x, y = made()
    before = _Grown(x, y, SMALL).out_of_bag()
    moved = y.copy()
    moved[7] += 100.0
    grown = _Grown(x, moved, SMALL)
    out = grown.drawn[:, 7] == 0
    own = [grown._means(t)[grown.leaf[t, 7] - grown.start[t]] for t in np.flatnonzero(out)]
    assert np.abs(np.mean(own, axis=0) - grown.out_of_bag()[7]).max() < 1e-12
    assert np.abs(grown.out_of_bag()[7] - before[7]).max() < 2.0, "its own response of 100 is in no tree that answers"


@pytest.mark.parametrize("rule", ["unseen subject", "unseen tissue"])
def test_it_beats_the_naive_family_on_planted_effects(rule: str) -> None:
    study: Study = toy.write(subjects=150, censored=0.0)
    fold = Split.make(study, rule, endpoint="ln_ic50", folds=3, seed=0).fold(0)
    tables = []
    for name in ("mean_effects", "tissue_drug_mean", "forest"):
        fitted: Any = predictors.make(name).fit(fold)
        tables.append(score.unseal(predict.predictions(fitted, fold), fold))
    metrics, _ = score.evaluate(pl.concat(tables), predictors.naive_names(), draws=50)
    mine = metrics.filter(pl.col("predictor") == "forest", pl.col("fold") == "all")
    value = dict(mine.select("metric", "value").iter_rows())
    assert value["normalised Pearson"] > mine.filter(pl.col("metric") == "normalised Pearson")["naive"].item() + 0.1
    assert 0.8 < value["coverage"] < 0.97
