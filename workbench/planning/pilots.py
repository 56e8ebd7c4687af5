"""Pilots of one study: a predictor's answers for every line, and what a few measured responses change about them.

    plan = pilots.fit(fold)                       # on the training rows of a fold; ``of`` fits a whole study, once
    after = plan.after("A549", {"Docetaxel": -5.1})          # mean and interval of every other treatment
    plan.choose(10)                               # the ten to measure, with what is expected of them
    pilots.save(plan, folder); pilots.load(folder)

A line without omics, or one the study does not know, is served by a plan on the treatments' means (``drug_mean``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from workbench import predictors
from workbench.planning import calibration, factors
from workbench.planning.kept import ARRAYS, CONFIG, VERSION, load, place, save
from workbench.planning.plan import Chosen, Plan, PlanError
from workbench.planning.residuals import unseen
from workbench.predictors._pairs import positions
from workbench.predictors._widths import LEVEL
from workbench.splits import Fold, rows
from workbench.study import Study

__all__ = [
    "ARRAYS",
    "CONFIG",
    "VERSION",
    "Chosen",
    "Plan",
    "PlanError",
    "fit",
    "load",
    "of",
    "place",
    "save",
    "whole",
]


def whole(study: Study, endpoint: str = "ln_ic50", seed: int = 0, require: Sequence[str] = ()) -> Fold:
    """Every row of the endpoint as training rows: for use, not for scores. There is no test row to open."""
    frame = rows(study, endpoint, require)
    none = frame.clear()
    targets = none.select("row", pl.col("value").alias("observed"), "censored")
    unit = frame["unit"][0]
    return Fold(
        "unseen subject", 0, endpoint, unit, seed, study.sealed(), frame, none.drop("value", "censored"), targets
    )


def fit(
    fold: Fold,
    predictor: str = "ridge",
    params: Mapping[str, Any] | None = None,
    *,
    rank: int = factors.RANK,
    shrink: float = factors.SHRINK,
    level: float = LEVEL,
    report: predictors.Report | None = None,
) -> Plan:
    """Fit a plan on the training rows of ``fold``; every line of the study gets its means."""
    fitted, seen = unseen(predictor, dict(params or {}), fold, report=report)
    model = factors.fit(seen.residual, rank, shrink)
    held = calibration.calibrate(seen.residual, level=level, seed=fold.seed, rank=rank, shrink=shrink)
    subjects = sorted(fold.study.subjects["subject"].cast(pl.String).to_list())
    t = len(seen.treatments)
    pairs = pl.DataFrame({"subject": np.repeat(subjects, t), "treatment": seen.treatments * len(subjects)})
    means = fitted.predict(fold.study, pairs)["predicted"].cast(pl.Float64).fill_null(np.nan).to_numpy(writable=True)
    means = means.reshape(len(subjects), t)
    # of a training line the fitted predictor has seen the measured cells: there it is asked as if it had not
    at = positions(pl.Series(seen.subjects), subjects)
    means[at] = np.where(np.isfinite(seen.predicted), seen.predicted, means[at])
    compound = dict(fold.train.select("treatment", "compound").unique().iter_rows())
    here = np.isfinite(seen.observed)
    count = here.sum(0)
    average = np.where(here, seen.observed, 0).sum(0) / np.maximum(count, 1)
    spread = (np.where(here, seen.observed - average, 0) ** 2).sum(0) / np.maximum(count, 1)
    facts = {
        "study": fold.study.name,
        "digest": fold.study.digest,
        "endpoint": fold.endpoint,
        "unit": fold.unit,
        "rule": fold.rule,
        "predictor": predictor,
        "params": dict(params or {}),
        "seed": fold.seed,
        "level": level,
        "lines": len(seen.subjects),
    }
    return Plan(
        facts,
        subjects,
        list(seen.treatments),
        [compound[name] for name in seen.treatments],
        means,
        average,
        spread,
        count / max(len(seen.subjects), 1),
        model,
        held,
    )


def of(
    study: Study,
    endpoint: str = "ln_ic50",
    predictor: str = "ridge",
    params: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    report: predictors.Report | None = None,
) -> Plan:
    """The plan of a whole study: loaded where it was fitted before, else fitted and saved."""
    folder = place(study, endpoint, predictor, params, seed)
    if (folder / CONFIG).is_file():
        return load(folder)
    plan = fit(whole(study, endpoint, seed), predictor, params, report=report)
    save(plan, folder, replace=True)
    return plan
