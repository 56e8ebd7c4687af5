"""Conformal intervals around any predictor, without changing it.

    split    one predictor, fitted without the first part, which calibrates        coverage >= level
    cross    the predictor of all rows, with the residuals of every part           about level; no bound in general
    cv+      the same, each residual around what its own predictor says            coverage >= 2 level - 1, about level

Sources: Lei et al. 2018 (JASA 113:1094) for split; Vovk 2015 (Annals of Mathematics and AI 74:9) for cross;
Barber, Candes, Ramdas and Tibshirani 2021 (Annals of Statistics 49:486) for CV+, which with ``parts=0`` is jackknife+.

What may be exchanged is whole groups of the fold's own rule (lines, tissues, compounds), never rows: 286 rows of one
line rise and fall together. By treatment, a line has one row, and the bounds above hold as they stand. Over all rows
they hold with ``grouped=True`` (every line weighs alike; Lee, Barber and Willett 2023); with rows alike, only for ever
more lines. Either way it is the average over lines that is promised: one difficult line can be outside in most of
its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from workbench import predictors
from workbench.splits import Fold
from workbench.text import nearest
from workbench.trust import shift as shifted
from workbench.trust._difficulty import Difficulty, crossed
from workbench.trust._left_out import CalibrationError, LeftOut, Make, fitted, left_out, remembered
from workbench.trust._mondrian import intervals

__all__ = ["CalibrationError", "Conformal", "LeftOut", "fitted", "left_out", "remembered", "restore"]

METHODS = ("split", "cross", "cv+")
KEYS = ("treatment", "tissue", "subject")


class Conformal:
    """A predictor with conformal intervals; speaks the protocol of predictors itself.

    Parameters
    ----------
    make : gives a new predictor, not fitted
    method : "split", "cross" or "cv+"
    by : kinds that are calibrated by themselves, finest first: ("treatment",), ("tissue", "treatment"), or () for none
    fewest : groups a kind needs for that; a smaller one falls back to the next coarser kind
    normalised : divide residuals by the difficulty predicted for them
    grouped : every group weighs alike in its kind
    weighted : a subject modality; rows weigh by the density ratio of their line against the lines to be predicted.
        Where tissues are unseen, give ``hold="unseen subject"`` with it: fifteen tissues are too few to be weighed
    parts : into how many parts the training groups are dealt; 0 holds each out alone
    hold : rule of what is held out, by default that of the fold
    level : what the intervals promise. A recorded PREDICTIONS table says 0.9; ask for another only outside a run

    Raises
    ------
    CalibrationError
        An option is unknown; while fitting, too few groups are there.
    """

    def __init__(
        self,
        make: Make,
        method: str = "cross",
        *,
        by: Sequence[str] = ("treatment",),
        fewest: int = 30,
        normalised: bool = False,
        grouped: bool = False,
        weighted: str = "",
        parts: int = 5,
        hold: str = "",
        level: float = 0.9,
    ) -> None:
        if method not in METHODS:
            raise CalibrationError(f"method is one of {list(METHODS)}; found {method!r}.{nearest(method, METHODS)}")
        for key in by:
            if key not in KEYS:
                raise CalibrationError(f"by names {list(KEYS)}; found {key!r}.{nearest(key, KEYS)}")
        if not 0 < level < 1:
            raise CalibrationError(f"level lies between 0 and 1; found {level}.")
        self.make, self.method, self.by, self.fewest = make, method, tuple(by), fewest
        self.normalised, self.grouped, self.weighted = normalised, grouped, weighted
        self.parts, self.hold, self.level = parts, hold, level
        self.name = str(getattr(make(), "name", "predictor"))

    def fit(self, fold: Fold, report=None) -> Conformal:
        """Fit on ``fold.train`` alone: the one of all rows, and those of the parts.

        "cross" fits no parts where the predictor keeps left-out answers of its own (ridge does, in closed form).
        """
        if self.method == "cross" and not self.hold:
            final = fitted(self.make(), fold)
            if (kept := remembered(final, fold)) is not None:
                return self.calibrate(final, kept)
            return self.calibrate(final, left_out(self.make, fold, self.parts, report=report))
        out = left_out(self.make, fold, self.parts, only_first=self.method == "split", hold=self.hold, report=report)
        final = out.models[0] if self.method == "split" else fitted(self.make(), fold)
        return self.calibrate(final, out)

    def calibrate(self, final: Any, out: LeftOut) -> Conformal:
        """Take a fitted predictor and left-out rows that are at hand already."""
        rows = out.rows
        self.final_, self.models_ = final, out.models if self.method == "cv+" else ()
        self.difficulty_ = Difficulty.fit(rows) if self.normalised else None
        scale = crossed(rows) if self.normalised else np.ones(rows.height)
        size = (rows["observed"] - rows["predicted"]).abs().to_numpy()
        self.rows_ = rows.select(*KEYS, "group", "part").with_columns(score=pl.Series(size / scale))
        self.subjects_ = sorted(rows["subject"].unique())
        return self

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        """predicted, low, high, abstained: the predictor's own answers between conformal ends."""
        return self.explain(study, pairs).select("predicted", "low", "high", "abstained")

    def explain(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        """``predict`` and what each interval rests on: kind, groups (effective ones if weighted), difficulty."""
        answer = self.final_.predict(study, pairs)
        pairs = _with_tissue(study, pairs)
        told = [m.predict(study, pairs)["predicted"].cast(pl.Float64).fill_null(np.nan) for m in self.models_]
        centres = np.stack([t.to_numpy() for t in told], axis=1) if told else None
        weights = None
        if self.weighted:
            new = sorted(pairs["subject"].unique())
            weights = shifted.ratios(study, self.subjects_, new, self.weighted)
        return self.around(pairs, answer, centres, weights)

    def around(
        self,
        pairs: pl.DataFrame,
        answer: pl.DataFrame,
        centres: np.ndarray | None = None,
        weights: shifted.Ratios | None = None,
    ) -> pl.DataFrame:
        """Intervals around answers that are at hand already.

        Parameters
        ----------
        pairs : subject, treatment, tissue; ``answer`` : predicted, abstained
        centres : (n, parts) answers of the parts' predictors, for CV+
        weights : density ratios of the lines
        """
        spoke = answer["predicted"].is_not_null().to_numpy()
        at = np.flatnonzero(spoke)
        frame = pairs.select(*KEYS).with_columns(answer["predicted"]).filter(pl.Series(spoke))
        scale = np.ones(len(at)) if self.difficulty_ is None else self.difficulty_.of(frame)
        frame = frame.with_columns(scale=pl.Series(scale), weight=pl.lit(1.0))
        rows = self.rows_.with_columns(weight=pl.lit(1.0))
        if weights is not None:
            rows = rows.with_columns(weight=_ratio(rows["subject"], weights.training))
            frame = frame.with_columns(weight=_ratio(frame["subject"], weights.new))
        middle = frame["predicted"].to_numpy() if centres is None else centres[at]
        if not np.isfinite(middle).all():  # a part's predictor that abstains has the final one speak for it
            middle = np.where(np.isfinite(middle), middle, frame["predicted"].to_numpy()[:, None])
        ends = intervals(
            rows, frame, middle, level=self.level, by=self.by, fewest=self.fewest, grouped=self.grouped,
            weighted=weights is not None,
        )  # fmt: skip
        # the number reported is the final predictor's; it lies within, whatever those of the parts say
        low = np.minimum(ends["low"].to_numpy(), frame["predicted"].to_numpy())
        high = np.maximum(ends["high"].to_numpy(), frame["predicted"].to_numpy())
        found = pl.DataFrame({"at": at, "low": low, "high": high, "difficulty": scale}).with_columns(
            ends.select("kind", "groups")
        )
        whole = answer.select("predicted", "abstained").with_row_index("at").cast({"at": pl.Int64})
        return whole.join(found, on="at", how="left", maintain_order="left").drop("at")

    def config(self) -> dict[str, Any]:
        """What ``load`` needs beside the arrays."""
        told = {
            k: getattr(self, k)
            for k in ("method", "fewest", "normalised", "grouped", "weighted", "parts", "hold", "level")
        }
        names = {k: self.rows_[k].unique().sort().cast(pl.String).to_list() for k in (*KEYS, "group")}
        hard = self.difficulty_
        return {
            "params": told | {"by": list(self.by)},
            "predictor": self.name,
            "final": self.final_.config(),
            "models": [m.config() for m in self.models_],
            "names": names,
            "difficulty": None if hard is None else {"drugs": list(hard.drugs), "tissues": list(hard.tissues)},
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of the final predictor, of those of the parts, and the calibration rows."""
        out = {f"final.{k}": v for k, v in self.final_.arrays().items()}
        for i, model in enumerate(self.models_):
            out |= {f"model{i}.{k}": v for k, v in model.arrays().items()}
        for key in (*KEYS, "group"):
            column = self.rows_[key].cast(pl.String)
            out[f"rows.{key}"] = np.searchsorted(column.unique().sort().to_numpy(), column.to_numpy()).astype(np.int32)
        out |= {"rows.part": self.rows_["part"].to_numpy(), "rows.score": self.rows_["score"].to_numpy()}
        if self.difficulty_ is not None:
            out |= {f"difficulty.{k}": v for k, v in self.difficulty_.arrays().items()}
        return out

    def load(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Undo ``config`` and ``arrays``."""

        def inner(prefix: str) -> dict[str, np.ndarray]:
            return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

        self.final_ = predictors.restore(config["predictor"], config["final"], inner("final."))
        self.models_ = tuple(
            predictors.restore(config["predictor"], c, inner(f"model{i}.")) for i, c in enumerate(config["models"])
        )
        keys = {k: np.array(config["names"][k], dtype=object)[arrays[f"rows.{k}"]] for k in (*KEYS, "group")}
        self.rows_ = pl.DataFrame({k: pl.Series(v.tolist(), dtype=pl.String) for k, v in keys.items()}).with_columns(
            part=pl.Series(arrays["rows.part"]), score=pl.Series(arrays["rows.score"])
        )
        self.subjects_ = sorted(self.rows_["subject"].unique())
        told = config["difficulty"]
        self.difficulty_ = Difficulty.load(told, inner("difficulty.")) if told else None

    def attributions(self) -> pl.DataFrame:
        """Those of the predictor."""
        return self.final_.attributions()


def restore(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Conformal:
    """A fitted ``Conformal`` from what ``config`` and ``arrays`` gave; gives the same intervals."""
    params = config["final"].get("params", {})
    made = Conformal(lambda: predictors.make(config["predictor"], **params), **config["params"])
    made.load(config, arrays)
    return made


def _with_tissue(study, pairs: pl.DataFrame) -> pl.DataFrame:
    if "tissue" not in pairs.columns:
        tissues = study.subjects.select(pl.col("subject", "tissue").cast(pl.String))
        pairs = pairs.join(tissues, on="subject", how="left", maintain_order="left")
    return pairs.with_columns(pl.col("tissue").fill_null("unknown"))


def _ratio(subjects: pl.Series, of: dict[str, float]) -> pl.Series:
    return pl.Series([of.get(s, 1.0) for s in subjects], dtype=pl.Float64)
