"""The same unseen lines as another study measured them: line and study are both unseen.

``predictions_elsewhere`` takes a predictor fitted on the training rows of a fold and asks it for the pairs that
another study measured: lines the fold holds out (matched by id, else by name), drugs the fold's study knows under the
same compound. Features come from the fold's own study; of the other study nothing reaches the predictor.

What "normalised" takes away there. Two screens put one drug at different levels, so one baseline for both sides would
charge that shift to every predictor. So each side loses its own study's level of the drug: the prediction that of the
fold's training rows, the observation that of the other study's rows which are not under test. It is done by moving
point, interval and baseline from the one level to the other, drug by drug (a compound that is unseen: by the
difference of the overall means),

    predicted' = predicted + level(other study, drug) - level(this study, drug),   baseline' = baseline + the same

so that RMSE, coverage and Pearson are those of someone who knows the drugs' levels in the new assay and nothing of the
lines in it: where lines are known (``unseen pair``, ``unseen treatment``) their effects stay those of this study.
``level="own"`` moves nothing: RMSE then shows the distance between the scales, and the normalised Pearson is diluted
by it. Correlations per drug are the same in both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import polars as pl

from workbench import predict, score, splits, tables
from workbench.ceiling import matching
from workbench.predictors import Predictor
from workbench.splits import Fold, Split
from workbench.study import Study

LEVELS = ("other", "own")


class NothingShared(ValueError):
    """Two studies share no line, or no compound."""


def predictions_elsewhere(
    predictor: Predictor, fold: Fold, other: Study, endpoint: str | None = None, *, level: str = "other"
) -> pl.DataFrame:
    """``tables.PREDICTIONS``, unsealed, of the pairs of ``other`` that ``fold`` holds out; score with ``evaluate``.

    Rows, subjects and treatments are those of ``other``; the split is "<rule>, in <other>". A compound known under
    several names in the fold's study is predicted under the same name where there is one, else under the first.
    Where this fold happens to hold out nothing that ``other`` measured, the table is empty.

    Parameters
    ----------
    predictor : fitted on ``fold``
    endpoint : of the other study; the fold's own when not given
    level : "other" puts predictions on the other study's drug levels (see the top), "own" leaves them

    Raises
    ------
    ValueError
        ``other`` is the fold's own study, has no such endpoint or has it in another unit, or ``level`` is unknown.
    NothingShared
        The two studies share no line, or no compound, or all of ``other`` is under test.
    """
    if level not in LEVELS:
        raise ValueError(f"level {level!r} is unknown; expected one of {', '.join(LEVELS)}.")
    there, asked, base, shift = _prepared(_Question(fold, other, endpoint or fold.endpoint))
    if there is None:
        return tables.empty(tables.PREDICTIONS)
    answer = predictor.predict(fold.study, asked)
    frame = there.test.select("row", "subject", "treatment", "tissue", "unit").with_columns(
        pl.lit(predictor.name).alias("predictor"),
        pl.lit(f"{fold.rule}, in {other.name}").alias("split"),
        pl.lit(fold.number, pl.Int32).alias("fold"),
        pl.lit(there.endpoint).alias("endpoint"),
        pl.lit(predict.LEVEL).alias("level"),
        pl.lit(None, pl.Float64).alias("observed"),
        pl.lit(None, pl.Int8).alias("censored"),
        base.alias("baseline"),
    )
    frame = pl.concat([frame, answer], how="horizontal")
    if level == "other":
        frame = frame.with_columns(pl.col("predicted", "low", "high", "baseline") + shift)
    return score.unseal(tables.check(frame, tables.PREDICTIONS), there)


@dataclass(frozen=True, eq=False)
class _Question:
    """What is asked of another study; equal where studies, endpoint and rows on both sides are."""

    fold: Fold
    other: Study
    endpoint: str

    @cached_property
    def key(self) -> tuple[object, ...]:
        fold = self.fold
        sides = hashlib.sha256(b"|".join(f["row"].to_numpy().tobytes() for f in (fold.train, fold.test))).hexdigest()
        return fold.study.digest, fold.rule, fold.number, fold.seed, fold.unit, sides, self.other.digest, self.endpoint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=8)  # all predictors of a fold ask the same
def _prepared(question: _Question) -> tuple[Fold | None, pl.DataFrame, pl.Series, pl.Series]:
    """``unseen_there``; the mean effects of the fold's study at each of its rows; how far its drug's level moves."""
    fold = question.fold
    there, asked = unseen_there(fold, question.other, question.endpoint)
    if there is None:
        return None, asked, pl.Series(), pl.Series()
    nobody = pl.lit("\x00").alias("subject")  # no line has this name, so the baseline is the level of the drug alone
    ours, theirs = (
        predict.baseline(replace(f, test=rows.with_columns(nobody))) for f, rows in ((fold, asked), (there, there.test))
    )
    return there, asked, predict.baseline(replace(fold, test=asked)), theirs - ours


def unseen_there(fold: Fold, other: Study, endpoint: str | None = None) -> tuple[Fold | None, pl.DataFrame]:
    """The fold of ``other`` that holds out the same as ``fold``, and its test rows under the names of fold's study.

    Its training rows (used for the level of its drugs alone) are those of ``other`` whose subject, compound, tissue
    or pair - what the rule holds apart - is not among the test rows; the split proves it. No fold where no row is left.
    """
    key = splits.KEPT_TOGETHER.get(fold.group, fold.group)
    if key not in fold.test.columns:
        raise ValueError(f"{fold.rule!r} is not judged in other studies; only {', '.join(splits.PLAIN)} are.")
    if other.digest == fold.study.digest:
        raise ValueError(f"{other.name!r} is the study of the fold itself; its test rows are scored there already.")
    endpoint = endpoint or fold.endpoint
    measured = splits.rows(other, endpoint)
    if (unit := measured["unit"][0]) != fold.unit:
        raise ValueError(
            f"study {other.name!r} has {endpoint!r} in {unit!r}, the fold predicts {fold.unit!r}. "
            "Convert one of the two, or choose an endpoint in the same unit."
        )
    pairs = _asked(fold, other, measured)
    if pairs.is_empty():
        return None, pairs
    test = measured.join(pairs.select("row"), on="row", how="semi")
    train = measured.join(test.select(key).unique(), on=key, how="anti")
    if train.is_empty():
        raise NothingShared(f"every row of {other.name!r} is under test; none is left to tell its drugs' levels.")
    sides = train["row"].to_list(), test["row"].to_list()
    custom = Split.custom(other, fold.rule, endpoint=endpoint, folds=[sides])
    there = replace(custom.fold(0), number=fold.number, seed=fold.seed)
    asked = there.test.select("row").join(pairs, on="row", how="left", maintain_order="left")
    return there, asked


def _asked(fold: Fold, other: Study, measured: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``other`` whose group is unseen in ``fold``, with subject, treatment, tissue ... of the fold's study."""
    known = pl.concat([fold.train.select(fold.test.columns), fold.test])
    lines = matching.lines(fold.study, other)
    drugs = matching.compounds(fold.study, other).join(known.select("treatment").unique(), on="treatment", how="semi")
    drugs = drugs.sort(pl.col("treatment") != pl.col("other_treatment"), "treatment")  # the same name first
    if lines.is_empty() or drugs.is_empty():
        what = "line" if lines.is_empty() else "compound"
        raise NothingShared(
            f"studies {fold.study.name!r} and {other.name!r} share no {what}. Lines are matched by id, "
            "else by name; compounds by structure, else by name."
        )
    drugs = drugs.unique("other_treatment", keep="first", maintain_order=True).select("treatment", "other_treatment")
    compound = known.select("treatment", "compound").unique("treatment")
    facts = known.select("subject", "tissue", "person").unique("subject")
    rows = (
        measured.select("row", "unit", other_subject="subject", other_treatment="treatment")
        .join(lines.select("subject", "other_subject"), on="other_subject", maintain_order="left")
        .join(drugs, on="other_treatment", maintain_order="left")
        .join(facts, on="subject", maintain_order="left")
        .join(compound, on="treatment", maintain_order="left")
        .with_columns(pl.concat_str("subject", "compound", separator="\x1f").alias("pair"))
    )
    key = splits.KEPT_TOGETHER.get(fold.group, fold.group)
    unseen = fold.test.select(key).unique().join(fold.train.select(key).unique(), on=key, how="anti")
    rows = rows.join(unseen, on=key, how="semi", maintain_order="left")
    return rows.select([c for c in fold.test.columns if c in rows.columns])
