"""What a predictor gets wrong about lines it has not seen, from training rows only.

A predictor that knows its own left-out answers in closed form says so by ``left_out_`` (subjects, treatments, matrix),
as ridge does; a treatment's mean without one line is a matter of arithmetic. Any other is fitted on parts of the
training rows and asked about the part it did not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from workbench import predictors, splits, train
from workbench.predictors._pairs import matrix
from workbench.splits import Fold

RULES = ("unseen subject", "unseen tissue")


@dataclass(frozen=True)
class Unseen:
    """Training rows as matrices: ``observed`` and ``predicted`` (s, t), NaN where not measured or not answered."""

    subjects: list[str]
    treatments: list[str]
    observed: np.ndarray
    predicted: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        return self.observed - self.predicted


def unseen(
    name: str, params: dict[str, Any], fold: Fold, *, parts: int = 5, report: predictors.Report | None = None
) -> tuple[predictors.Predictor, Unseen]:
    """The predictor fitted on all training rows of ``fold``, and what it says of each line without that line.

    Raises
    ------
    ValueError
        The fold keeps neither lines nor tissues apart: pilots are for new samples.
    """
    if fold.rule not in RULES:
        raise ValueError(
            f"pilots are for samples that are new: expected a split by {' or '.join(RULES)}, not {fold.rule!r}."
        )
    whole = predictors.make(name, **params)
    train.fit(whole, fold, report=report)
    known = getattr(whole, "left_out_", None)
    # where several subjects are one patient, an answer without one of them has seen the others
    if known is not None and (fold.train["person"] == fold.train["subject"]).all():
        subjects, treatments, answers = known
        own = fold.train.filter(pl.col("subject").is_in(list(subjects)))
        return whole, Unseen(list(subjects), list(treatments), matrix(own, subjects, treatments), answers)
    if name == "drug_mean":
        return whole, _means(fold)
    part = splits.inner_parts(fold, parts, fold.seed)
    asked = []
    for number in np.unique(part):
        inner = splits.nested(fold, part, int(number))
        once = predictors.make(name, **params)
        train.fit(once, inner)
        said = once.predict(inner.study, inner.test)["predicted"]
        asked.append(inner.test.select("subject", "treatment").with_columns(value=said))
        if report is not None:
            report((int(number) + 1) / len(np.unique(part)), f"{name} without part {int(number) + 1}")
    answers = pl.concat(asked).filter(pl.col("value").is_finite())
    if not answers.height:
        raise ValueError(f"{name!r} answered none of the training rows it had not seen; pilots cannot build on it.")
    subjects, treatments = sorted(answers["subject"].unique()), sorted(fold.train["treatment"].unique())
    train_rows = fold.train.filter(pl.col("subject").is_in(subjects))
    return whole, Unseen(
        subjects, treatments, matrix(train_rows, subjects, treatments), matrix(answers, subjects, treatments)
    )


def _means(fold: Fold) -> Unseen:
    """Each treatment's mean without the line in question, in closed form: (n m - y) / (n - 1)."""
    subjects, treatments = (sorted(fold.train[c].unique()) for c in ("subject", "treatment"))
    observed = matrix(fold.train, subjects, treatments)
    here = np.isfinite(observed)
    count, total = here.sum(0), np.where(here, observed, 0.0).sum(0)
    overall = float(np.nanmean(observed))
    others = np.where(count > 1, (total - observed) / np.maximum(count - 1, 1), overall)
    return Unseen(subjects, treatments, observed, np.where(here, others, np.nan))
