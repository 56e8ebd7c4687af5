"""Nested tuning: parameters chosen inside the training rows of a fold, so that its test rows have no say.

The training groups (lines, compounds, tissues, pairs: whatever the split holds apart) are divided again by the same
rule; each trial is fitted on some parts and judged by RMSE on another. A trial that is worse than the middle of those
before it after its first part is given up. Trial 0 has the defaults. Trials live in a database: one that was stopped
goes on, and with a PostgreSQL address in ``$WORKBENCH_TUNING`` several machines work on the same ones.

Source: nested cross-validation, Cawley and Talbot 2010, JMLR 11:2079; tree-structured Parzen estimators, Bergstra et
al. 2011, NeurIPS 24; median pruning, Golovin et al. 2017, KDD.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import polars as pl

from workbench import home, predict, predictors, score, tables, train
from workbench.predictors import Between, OneOf, Report
from workbench.splits import Fold, inner_parts, nested
from workbench.text import nearest

HEARTBEAT_S = 30  # a machine silent for twice as long is gone, and its trial is tried again
DONE = ("complete", "pruned")
PLAIN = "untuned"  # mark of the trial without tuning


class TuningError(ValueError):
    """Tuning was asked for what it cannot do; the message says what is known."""


@dataclass(frozen=True)
class Tuning:
    """How to tune.

    Attributes
    ----------
    trials : how many parameter sets to try, the defaults among them
    parts, use : inner parts of the training groups, and how many of them test in turn
    share : share of the inner training groups a trial learns from (the final fit learns from all)
    seconds : start no further trial after this long, 0 for no limit (the defaults are always tried)
    search : parameters to choose, all of the predictor's ``SEARCH`` when empty
    given : parameters that trials use but the final fit does not, such as fewer rounds
    """

    trials: int = 20
    parts: int = 5
    use: int = 2
    share: float = 1.0
    seconds: float = 0.0
    search: tuple[str, ...] = ()
    given: dict[str, Any] | None = None

    @classmethod
    def of(cls, predictor: str, settings: dict[str, Any]) -> Tuning:
        """Tuning of ``predictor`` from plain settings, each checked.

        Raises
        ------
        TuningError
            An unknown setting, one out of range, or a predictor without parameters to choose.
        """
        if not isinstance(settings, dict):
            raise TuningError(f"expected a table of settings, found {settings!r}.")
        known = {f.name: f for f in fields(cls)}
        for key, value in settings.items():
            if key not in known:
                raise TuningError(f"unknown setting {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")
            wanted = {"int": int, "float": (int, float), "tuple[str, ...]": (list, tuple)}.get(
                str(known[key].type), dict
            )
            if not isinstance(value, wanted) or isinstance(value, bool):  # type: ignore[arg-type]
                raise TuningError(f"{key} should be {known[key].type}, found {value!r}.")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        made = cls(**values)
        for ok, said in (
            (made.trials >= 1, f"trials should be at least 1, found {made.trials}"),
            (made.parts >= 2, f"parts should be at least 2, found {made.parts}"),
            (1 <= made.use <= made.parts, f"use should be 1 to parts ({made.parts}), found {made.use}"),
            (0 < made.share <= 1, f"share should be above 0 and at most 1, found {made.share}"),
            (made.seconds >= 0, f"seconds should not be negative, found {made.seconds}"),
        ):
            if not ok:
                raise TuningError(f"{said}.")
        space = space_of(predictor)
        if odd := [s for s in made.search if s not in space]:
            raise TuningError(
                f"{predictor!r} has no {odd[0]!r} to choose.{nearest(odd[0], space)} It has: {list(space)}."
            )
        predictors.make(predictor, **(made.given or {}))
        return made


def space_of(predictor: str) -> dict[str, Between | OneOf]:
    """What can be chosen for ``predictor``; a TuningError where that is nothing."""
    space = getattr(predictors.offered()[predictor], "SEARCH", {})
    if not space:
        able = [p for p, c in predictors.offered().items() if getattr(c, "SEARCH", {})]
        raise TuningError(f"{predictor!r} has nothing to choose. Those that have: {', '.join(able)}.")
    return space


def tune(
    name: str,
    fold: Fold,
    given: dict[str, Any],
    tuning: Tuning,
    *,
    mark: str,
    report: Report | None = None,
    stopped: Callable[[], bool] | None = None,
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Parameters of the best trial on top of ``given``, and every trial (``tables.TRIALS``).

    Parameters
    ----------
    mark : what identifies predictor, data and fold; trials under the same mark and settings are shared and go on
    report : called with (fraction done, message)
    stopped : asked before every fit; True raises ``train.Stopped``, and the trials made stay

    Raises
    ------
    TuningError
        No trial could be completed; says why the last one failed.
    """
    import optuna

    told = json.dumps([mark, name, given, vars(tuning)], sort_keys=True, default=list)
    told = hashlib.sha256(told.encode()).hexdigest()
    seed = int(told[:8], 16)
    space = {k: v for k, v in space_of(name).items() if not tuning.search or k in tuning.search}
    part = inner_parts(fold, tuning.parts, seed % 2**31)
    kept = _kept(fold, part, tuning, seed)

    def objective(trial: Any) -> float:
        chosen = {k: _suggest(trial, k, v) for k, v in space.items()}
        chosen = with_values(given | (tuning.given or {}), name, {} if PLAIN in trial.user_attrs else chosen)
        errors: list[float] = []
        for step in range(tuning.use):
            if stopped is not None and stopped():
                raise train.Stopped("tuning was stopped; the same call goes on with the trials that are left.")
            errors.append(_rmse(name, chosen, nested(fold, part, step), kept))
            trial.report(float(np.mean(errors)), step)
            if step + 1 < tuning.use and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(errors))

    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        study = optuna.create_study(
            storage=_storage(),
            study_name=told,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
            direction="minimize",
            load_if_exists=True,
        )
        began = time.monotonic()
        while (n := sum(t.state.name.lower() in DONE for t in study.trials)) < tuning.trials:
            if n and tuning.seconds and time.monotonic() - began > tuning.seconds:
                break
            if report is not None:
                report(n / tuning.trials, f"tuning, trial {n + 1} of {tuning.trials}")
            if not any(t.state.name != "FAIL" and PLAIN in t.user_attrs for t in study.trials):
                study.enqueue_trial(_defaults(name, given, space), user_attrs={PLAIN: True})
            study.sampler = optuna.samplers.TPESampler(
                seed=(seed + len(study.trials)) % 2**31, n_startup_trials=max(3, tuning.trials // 3), multivariate=True
            )
            study.optimize(objective, n_trials=1)
    return _answer(name, fold, given, space, study)


def _answer(
    name: str, fold: Fold, given: dict[str, Any], space: dict, study: Any
) -> tuple[dict[str, Any], pl.DataFrame]:
    finished = [t for t in study.trials if t.state.name.lower() in (*DONE, "fail")]
    complete = [t for t in finished if t.state.name == "COMPLETE" and np.isfinite(t.value)]
    if not complete:
        raise TuningError(f"none of {len(finished)} trials of {name!r} gave a finite RMSE; try it with its defaults.")
    best = min(complete, key=lambda t: (t.value, t.number))
    rows = [
        {
            "predictor": name,
            "fold": fold.number,
            "trial": t.number,
            "state": {"fail": "failed"}.get(t.state.name.lower(), t.state.name.lower()),
            "value": t.value if t.value is not None and np.isfinite(t.value) else None,
            "unit": fold.unit,
            "parameters": json.dumps(t.params, sort_keys=True),
            "seconds": t.duration.total_seconds() if t.duration else None,
            "chosen": t.number == best.number,
        }
        for t in finished
    ]
    frame = tables.check(pl.DataFrame(rows, schema=dict(tables.TRIALS.columns)), tables.TRIALS)
    chosen = {} if PLAIN in best.user_attrs else {k: v for k, v in best.params.items() if k in space}
    return with_values(given, name, chosen), frame


def with_values(given: dict[str, Any], name: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """``given`` parameters of ``name`` with the ``chosen`` ones put in; "a.b" sets key b of parameter a."""
    defaults: dict[str, Any] = predictors.offered()[name].DEFAULTS  # type: ignore[attr-defined]
    out = dict(given)
    for key, value in chosen.items():
        whole, _, inner = key.partition(".")
        out[whole] = out.get(whole, defaults[whole]) | {inner: value} if inner else value
    return out


def _defaults(name: str, given: dict[str, Any], space: dict[str, Between | OneOf]) -> dict[str, Any]:
    """The parameters without tuning as a point of the space, at its edge where they lie outside."""
    full: dict[str, Any] = predictors.offered()[name].DEFAULTS | given  # type: ignore[attr-defined]
    point = {}
    for key, among in space.items():
        whole, _, inner = key.partition(".")
        value = full[whole].get(inner) if inner else full[whole]
        if isinstance(among, Between) and value is not None:
            point[key] = min(max(value, among.low), among.high)
        elif isinstance(among, OneOf) and value in among.options:
            point[key] = value
    return point


def _suggest(trial: Any, key: str, among: Between | OneOf) -> Any:
    if isinstance(among, OneOf):
        return trial.suggest_categorical(key, list(among.options))
    if isinstance(among.low, int):
        return trial.suggest_int(key, among.low, int(among.high), log=among.log)
    return trial.suggest_float(key, among.low, among.high, log=among.log)


def _kept(fold: Fold, part: np.ndarray, tuning: Tuning, seed: int) -> pl.Series | None:
    """Row numbers a trial may learn from: a share of the training groups, whole; None for all of them."""
    if tuning.share >= 1:
        return None
    thousandths = inner_parts(fold, 1000, (seed + 1) % 2**31)
    few = min(1000, int(thousandths.max()) + 1)
    return fold.train.filter(pl.Series(thousandths < max(1, round(tuning.share * few))))["row"]


def _rmse(name: str, params: dict[str, Any], inner: Fold, kept: pl.Series | None) -> float:
    """RMSE of the inner test rows that were answered; infinite where none was."""
    if kept is not None and (fewer := inner.train.filter(pl.col("row").is_in(kept.implode()))).height:
        inner = replace(inner, train=fewer)
    predictor = predictors.make(name, **params)
    train.fit(predictor, inner)
    nothing = pl.Series(np.zeros(inner.test.height))  # no normalised metric is asked for
    answer = score.unseal(predict.predictions(predictor, inner, nothing), inner).drop_nulls("predicted")
    error = (answer["predicted"] - answer["observed"]).to_numpy()
    return float(np.sqrt(np.mean(error**2))) if len(error) else float("inf")


def _storage() -> Any:
    """The database of trials: ``$WORKBENCH_TUNING`` (an address of PostgreSQL, say), else sqlite in the home."""
    import optuna

    url = os.environ.get("WORKBENCH_TUNING") or f"sqlite:///{home.home() / 'tuning.db'}"
    if url.startswith("sqlite:///"):
        home.home().mkdir(parents=True, exist_ok=True)
    if url.startswith(("postgresql://", "postgres://")):
        url = "postgresql+psycopg://" + url.partition("://")[2]
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise TuningError(
                "trials in PostgreSQL need the package psycopg: pip install 'translational-workbench[postgres]'."
            ) from None
    return optuna.storages.RDBStorage(
        url,
        heartbeat_interval=HEARTBEAT_S,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=2),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's news about every trial are in the table of trials; its errors are raised all the same."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
