"""Labels that are pure noise, through the whole pipeline, tuning included: nothing may come out on any split."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import experiment, predictors
from workbench.splits import RULES

pytestmark = [pytest.mark.slow, toy.lightning_warnings]

SMALL = {
    "trees": {"rounds": 40},
    "drug_response": {"members": 2, "width": 16, "rank": 8, "epochs": 3},
}
HOW = {"trials": 2, "parts": 3, "use": 1, "search": ["dropout", "closed_form_share"]}
LEARNT = ["ridge", "trees", "drug_response"]
SPLITS = ["unseen pair", "unseen subject", "unseen treatment", "unseen tissue"]


def noise(outcomes: pl.DataFrame) -> pl.DataFrame:
    return outcomes.with_columns(value=pl.Series(np.random.default_rng(20261122).normal(size=outcomes.height)))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("split", SPLITS)
def test_noise_is_not_predicted(split: str) -> None:
    toy.write("noise", subjects=400, tissues=8, outcomes=noise, censored=0.0)
    told = experiment.run(
        experiment.of(
            {
                "name": "noise", "study": "noise", "endpoint": "ln_ic50", "split": split, "folds": 3, "draws": 20,
                "predictors": [*predictors.naive_names(), *LEARNT], "parameters": SMALL,
                "tuning": {"trees": {"trials": 3, "parts": 3}, "drug_response": HOW},
            }
        ),
        accelerator="cpu",
    )  # fmt: skip
    whole = told.metrics.filter(pl.col("fold") == "all", pl.col("metric") == "normalised Pearson")
    value = {p: v for p, v in whole.select("predictor", "value").iter_rows() if v is not None}
    assert {"trees", "drug_response", "mean_effects", "global_mean"} <= set(value) and split in RULES
    assert max(abs(v) for v in value.values()) < 0.05, value
