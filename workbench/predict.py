"""One way to apply: a fitted predictor on the test rows of a fold gives PREDICTIONS, targets still sealed."""

from __future__ import annotations

from typing import Any

import polars as pl

from workbench import predictors, tables
from workbench.predictors._members import Effects
from workbench.predictors._widths import LEVEL
from workbench.splits import Fold


def baseline(fold: Fold) -> pl.Series:
    """Mean effects of the training rows at each test row: what normalised metrics take away.

    In a study of drug pairs the effects are those of both drugs, of the line, and of the pair where it was seen.
    """
    if "member_b" in fold.train.columns:
        of_pairs = Effects.fit(fold.train, fold.train["value"].to_numpy(), pairs=True)
        return pl.Series("baseline", of_pairs.of(fold.test))
    effects: Any = predictors.make("mean_effects")
    effects.learn(fold.train)
    return pl.Series("baseline", effects.mean_of(fold.test))


def predictions(predictor: predictors.Predictor, fold: Fold, base: pl.Series | None = None) -> pl.DataFrame:
    """``tables.PREDICTIONS`` of every test row; ``observed`` and ``censored`` stay empty until ``score`` opens them.

    Parameters
    ----------
    base : the fold's ``baseline`` where it is at hand already
    """
    answer = predictor.predict(fold.study, fold.test)
    if answer.height != fold.test.height:
        raise ValueError(
            f"{predictor.name} answered {answer.height} of {fold.test.height} test rows; one answer a row."
        )
    frame = fold.test.select("row", "subject", "treatment", "tissue", "unit").with_columns(
        pl.lit(predictor.name).alias("predictor"),
        pl.lit(fold.rule).alias("split"),
        pl.lit(fold.number, pl.Int32).alias("fold"),
        pl.lit(fold.endpoint).alias("endpoint"),
        pl.lit(LEVEL).alias("level"),
        (baseline(fold) if base is None else base).alias("baseline"),
        pl.lit(None, pl.Float64).alias("observed"),
        pl.lit(None, pl.Int8).alias("censored"),
    )
    return tables.check(pl.concat([frame, answer], how="horizontal"), tables.PREDICTIONS)
