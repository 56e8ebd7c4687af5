"""What a predictor says of training rows that it has not learnt from: the raw material of every interval here.

The training rows are dealt into parts, whole groups (lines, tissues, compounds) together; for each part one predictor
is fitted without it and answers it. The test rows of the fold are in none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from workbench.predictors import Predictor, Report
from workbench.splits import KEPT_TOGETHER, RULES, Fold, inner_parts, nested
from workbench.text import nearest

Make = Callable[[], Predictor]
KEYS = ("row", "subject", "treatment", "tissue")


class CalibrationError(ValueError):
    """Intervals cannot be made of what is there; the message says what is missing and what to do."""


@dataclass(frozen=True)
class LeftOut:
    """Training rows with the answers of predictors that had not seen them.

    Attributes
    ----------
    rows : frame row, subject, treatment, tissue, group (what was held out whole), part, observed, predicted; rows on
        which the predictor abstained are left out
    models : the predictor of each part, fitted without it; part k of ``rows`` was answered by ``models[k]``
    """

    rows: pl.DataFrame
    models: tuple[Any, ...]

    def answers(self, study, pairs: pl.DataFrame) -> np.ndarray:
        """What each part's predictor says of new pairs: float64 (n, parts), NaN where it abstains."""
        told = [m.predict(study, pairs)["predicted"].cast(pl.Float64).fill_null(float("nan")) for m in self.models]
        return np.stack([t.to_numpy() for t in told], axis=1) if told else np.empty((pairs.height, 0))


def left_out(
    make: Make, fold: Fold, parts: int = 5, *, only_first: bool = False, hold: str = "", report: Report | None = None
) -> LeftOut:
    """Fit one predictor for each part of ``fold.train`` and let it answer the part it has not seen.

    Parameters
    ----------
    make : gives a new predictor, not fitted
    parts : into how many parts the groups are dealt; 0 holds every group out alone (jackknife+)
    only_first : fit for the first part only, which then is the calibration set of split conformal
    hold : the rule that says what is held out whole, by default the fold's own. Another one is for showing what goes
        wrong: lines held out where whole tissues will be unseen

    Raises
    ------
    CalibrationError
        The rule is unknown, there are fewer than two groups, or the predictor abstained on every row held out.
    """
    if hold and hold not in RULES:
        raise CalibrationError(f"hold is one of {list(RULES)}; found {hold!r}.{nearest(hold, RULES)}")
    apart = replace(fold, rule=hold) if hold else fold
    key = next((k for k in (held(apart.group), "person", "subject") if fold.train[k].n_unique() > 1), "pair")
    groups = fold.train[key].n_unique()
    if groups < 2:
        raise CalibrationError(
            f"calibration holds whole {key}s out and needs two at least; training rows have {groups}."
        )
    part = inner_parts(apart, min(parts or groups, groups), fold.seed)
    numbers = np.unique(part)[: 1 if only_first else None]
    models, told = [], []
    for i, k in enumerate(numbers):
        if report is not None:
            report(i / len(numbers), f"calibration, part {i + 1} of {len(numbers)}")
        inner = nested(fold, part, int(k))
        model = fitted(make(), inner)
        keys = fold.train.filter(pl.Series(part == k)).select(*KEYS, pl.col(key).alias("group"), "value")
        answer = model.predict(fold.study, inner.test)["predicted"].cast(pl.Float64)
        told.append(keys.rename({"value": "observed"}).with_columns(pl.lit(i, pl.Int32).alias("part"), answer))
        models.append(model)
    rows = pl.concat(told).filter(pl.col("predicted").is_finite())
    if rows.is_empty():
        raise CalibrationError(
            f"{models[0].name} abstained on every training row held out ({key} by {key}), so there is no residual to "
            "make an interval of. Use a predictor that answers this split."
        )
    return LeftOut(rows, tuple(models))


def remembered(predictor: Any, fold: Fold, parts: int = 5) -> LeftOut | None:
    """Left-out answers that a predictor keeps itself, as ``left_out_`` (subjects, treatments, matrix); else None.

    Ridge has them in closed form, whole groups of the fold's rule left out, at no further cost. Where several subjects
    are one patient, leaving out one of them is not leaving out the group, and nothing is returned.
    """
    kept = getattr(predictor, "left_out_", None)
    if kept is None or fold.group not in ("subject", "tissue") or (fold.train["person"] != fold.train["subject"]).any():
        return None
    subjects, treatments, matrix = kept
    told = pl.DataFrame(
        {
            "subject": np.repeat(np.asarray(subjects, dtype=object), len(treatments)).tolist(),
            "treatment": list(treatments) * len(subjects),
            "predicted": np.asarray(matrix, dtype=np.float64).ravel(),
        }
    )
    part = pl.Series("part", inner_parts(fold, parts, fold.seed).astype(np.int32))
    keys = fold.train.with_columns(part).select(*KEYS, pl.col(fold.group).alias("group"), "part", observed="value")
    rows = keys.join(told, on=["subject", "treatment"], how="left", maintain_order="left")
    return LeftOut(rows.filter(pl.col("predicted").is_finite()), ())


def held(group: str) -> str:
    """The column that a rule really holds apart: subjects of one patient are never parted."""
    return KEPT_TOGETHER.get(group, group)


def fitted(predictor: Any, fold: Fold) -> Any:
    """The predictor fitted on the fold, by Lightning where it is one of its modules."""
    if hasattr(predictor, "training_step"):
        from workbench import train

        train.fit(predictor, fold)
    else:
        predictor.fit(fold)
    return predictor
