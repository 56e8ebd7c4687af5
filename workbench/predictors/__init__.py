"""One file = one question; every predictor speaks the same protocol.

    predictor = make("ridge", components=0)        # constructors only store
    predictor.fit(fold)                            # sees fold.train and features, never a test target
    predictor.predict(study, pairs)                # frame predicted, low, high, abstained; one row a pair
    restore(name, predictor.config(), predictor.arrays())   # the same numbers again

A file lists what it offers in ``PREDICTORS``: {name: class}. ``naive`` predictors are those of naive.py. A class may
have ``SEARCH``: {parameter: Between or OneOf}, what ``workbench.tuning`` may choose; "a.b" is key b of parameter a.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl

from workbench import rooms
from workbench.splits import Fold
from workbench.text import nearest

Report = Callable[[float, str], None]  # (fraction done 0..1, message)

ANSWER = {"predicted": pl.Float64, "low": pl.Float64, "high": pl.Float64, "abstained": pl.String}


@dataclass(frozen=True)
class Between:
    """Numbers from ``low`` to ``high``, whole ones where ``low`` is; by powers where ``log``."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    options: tuple[Any, ...]


@runtime_checkable
class Predictor(Protocol):
    """What train, predict and runs need of a predictor."""

    name: str

    def fit(self, fold: Fold, report: Report | None = None) -> Predictor: ...
    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame: ...
    def config(self) -> dict[str, Any]: ...
    def arrays(self) -> dict[str, np.ndarray]: ...
    def attributions(self) -> pl.DataFrame: ...


def offered() -> dict[str, type]:
    """Every predictor's name and class, from the files of this room."""
    found: dict[str, type] = {}
    for name in rooms.names(__name__):
        found |= rooms.load(__name__, name).PREDICTORS
    return found


def naive_names() -> list[str]:
    """Names of the naive family: what a score has to beat."""
    return list(rooms.load(__name__, "naive").PREDICTORS)


def make(name: str, **params) -> Predictor:
    """A new predictor; unknown names and parameters raise with the nearest known one."""
    known = offered()
    if name not in known:
        raise ValueError(f"unknown predictor {name!r}.{nearest(name, known)} Known: {', '.join(known)}.")
    cls: Any = known[name]
    allowed = list(cls.DEFAULTS)
    for key in params:
        if key not in allowed:
            raise ValueError(f"predictor {name!r} has no parameter {key!r}.{nearest(key, allowed)} It has: {allowed}.")
    return cls(name=name, **params)


def restore(name: str, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Predictor:
    """A fitted predictor from what ``config`` and ``arrays`` gave; predicts the same numbers."""
    predictor: Any = make(name, **config["params"])
    predictor.load(config, arrays)
    return predictor


def answer(predicted: np.ndarray, half: np.ndarray, abstained: list[str | None] | None = None) -> pl.DataFrame:
    """The frame ``predict`` returns; a row with a reason to abstain carries no number."""
    frame = pl.DataFrame(
        {
            "predicted": np.asarray(predicted, dtype=np.float64),
            "low": np.asarray(predicted - half, dtype=np.float64),
            "high": np.asarray(predicted + half, dtype=np.float64),
            "abstained": pl.Series(abstained if abstained is not None else [None] * len(predicted), dtype=pl.String),
        }
    )
    silent = pl.col("abstained").is_not_null()
    return frame.with_columns(
        pl.when(silent).then(None).otherwise(pl.col(c)).alias(c) for c in ("predicted", "low", "high")
    )
