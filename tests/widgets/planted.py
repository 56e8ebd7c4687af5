"""Small frames with known answers for the widgets' tests; the hostile name is one that would run if it were markup."""

from __future__ import annotations

import numpy as np
import polars as pl

from workbench.tables import PREDICTIONS

HOSTILE = "<img src=x onerror=\"window.__pwned=1;alert('x')\">"
TISSUES = ["lung", "breast", "skin"]


def predictions(lines: int = 30, drugs: tuple[str, ...] = ("Erlotinib", "Gefitinib", "Paclitaxel")) -> pl.DataFrame:
    """Scored PREDICTIONS of ``ridge`` and ``drug_mean``: ridge knows half of the truth, drug_mean each drug's mean."""
    draw = np.random.default_rng(3)
    truth = draw.normal(0, 1.5, (lines, len(drugs))) + np.arange(len(drugs)) * 2
    i, j = (index.ravel() for index in np.indices(truth.shape))
    observed, mean = truth[i, j], truth.mean(axis=0)[j]
    frames = []
    for name, predicted in {"ridge": (observed + mean) / 2 + draw.normal(0, 0.2, len(i)), "drug_mean": mean}.items():
        frames.append(
            pl.DataFrame(
                {
                    "predictor": name,
                    "split": "unseen subject",
                    "fold": pl.Series(i % 5, dtype=pl.Int32),
                    "row": pl.Series(np.arange(len(i)), dtype=pl.Int64),
                    "subject": [f"line {k}" for k in i],
                    "treatment": [drugs[k] for k in j],
                    "tissue": [TISSUES[k % 3] for k in i],
                    "endpoint": "ln_ic50",
                    "unit": "ln(uM)",
                    "predicted": predicted,
                    "low": predicted - 1.0,
                    "high": predicted + 1.0,
                    "level": 0.9,
                    "abstained": pl.Series([None] * len(i), dtype=pl.String),
                    "baseline": mean,
                    "observed": observed,
                    "censored": pl.Series(np.zeros(len(i)), dtype=pl.Int8),
                }
            )
        )
    return pl.concat(frames).select(list(PREDICTIONS.columns))


def presence() -> pl.DataFrame:
    """Twelve subjects of three tissues; every third lacks expression, the first two lack mutation."""
    return pl.DataFrame(
        {
            "subject": [f"line {i}" for i in range(12)],
            "tissue": [None if i == 11 else TISSUES[i % 3] for i in range(12)],
            "expression": [i % 3 != 2 for i in range(12)],
            "mutation": [i >= 2 for i in range(12)],
            "n_outcomes": list(range(12)),
        }
    )
