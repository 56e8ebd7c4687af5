"""Scores of predictors beside the agreement of two studies, drug by drug."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np
import polars as pl

from workbench import score, tables
from workbench.ceiling._repeat import bounds

FLOOR = 0.2  # least agreement that is divided by: below it the screens share under a fifth of their variance
MOST = (
    0.9  # above it two studies are taken for one screen processed twice: GDSC1 and GDSC2 reach 0.76 for their best drug
)
SAME = 1e-6  # of two spellings of one measured value
NOT_SHARED = "measured in both studies on fewer than five lines"
UNREPEATED = "predicted here, and measured nowhere else"
NO_SCORE = "fewer than five answers in every fold"
ZERO = "the interval of the agreement includes 0"


@dataclass(frozen=True)
class _Sample:
    """Lines and drugs by number, and one set of bootstrap weights (B + 1, lines) for everything."""

    lines: dict[str, int]
    drugs: list[str]
    w: np.ndarray

    def per_drug(self, rows: pl.DataFrame, y: str, p: str) -> np.ndarray:
        """Correlation of two columns within each drug (B + 1, drugs), NaN under five rows; mean over folds."""
        total, folds = np.zeros((len(self.w), len(self.drugs))), np.zeros(len(self.drugs))
        for part, u, w in self._folds(rows):
            names, count, drawn, r = score.within_drugs(
                part["treatment"], u, part[y].to_numpy(), part[p].to_numpy(), w.shape[1], w
            )
            enough = count >= score.FEWEST
            at = np.searchsorted(self.drugs, names[enough])
            total[:, at] += np.where(drawn > 0, r, np.nan)[:, enough]
            folds[at] += 1
        with np.errstate(invalid="ignore", divide="ignore"):
            return total / folds

    def pooled(self, rows: pl.DataFrame, y: str, p: str) -> np.ndarray:
        """Correlation of two columns over all rows (B + 1, 1), mean over folds."""
        found = []
        for part, u, w in self._folds(rows):
            one = pl.repeat("all", part.height, eager=True)
            found.append(score.within_drugs(one, u, part[y].to_numpy(), part[p].to_numpy(), w.shape[1], w)[3])
        return np.mean(found, axis=0) if found else np.full((len(self.w), 1), np.nan)

    def _folds(self, rows: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, np.ndarray, np.ndarray]]:
        parts = rows.partition_by("fold", maintain_order=True) if "fold" in rows.columns else [rows]
        for part in parts:
            if part.height:
                numbers = part["subject"].replace_strict(self.lines, return_dtype=pl.Int64).to_numpy()
                used, u = np.unique(numbers, return_inverse=True)
                yield part, u, self.w[:, used]


@dataclass(frozen=True)
class _Drawn:
    """Score and agreement, and the scores on shared pairs here and in the other study: each (B + 1, k)."""

    score: np.ndarray
    agreement: np.ndarray
    here: np.ndarray
    there: np.ndarray

    def reasons(self) -> list[str | None]:
        """Why there is no corrected value; None where there is one."""
        low = bounds(self.agreement[1:])[0]
        said: list[str | None] = []
        for s, agreed, least in zip(self.score[0], self.agreement[0], low, strict=True):
            if np.isnan(agreed):
                said.append(NOT_SHARED)
            elif not least > 0:
                said.append(ZERO)
            elif agreed < FLOOR:
                said.append(f"the screens agree at {agreed:.2f}, under {FLOOR:.2f}")
            elif agreed > MOST:
                said.append(f"the studies agree at {agreed:.2f}: one screen processed twice is no repeat")
            else:
                said.append(NO_SCORE if np.isnan(s) else None)
        return said

    def over(self, chosen: np.ndarray) -> _Drawn:
        """Means over the chosen columns, as one column."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return _Drawn(*(m[:, chosen].sum(1, keepdims=True) / chosen.sum() for m in astuple(self)))

    def columns(self) -> dict[str, object]:
        """The numbers of ``tables.SHARES``."""
        reasons = self.reasons()
        silent = np.array([r is not None for r in reasons])
        with np.errstate(invalid="ignore", divide="ignore"):
            top = np.where(self.agreement > 0, np.sqrt(np.maximum(self.agreement, 0)), np.nan)
            corrected = np.where(silent, np.nan, self.score / top)
            abroad = np.where(silent, np.nan, self.there / top)
            triad = np.where(silent, np.nan, np.sqrt(np.maximum(self.here, 0) * np.maximum(self.there, 0)) / top)
        out: dict[str, object] = {"ceiling": np.where(silent, np.nan, top[0]), "reason": reasons}
        for name, values in (
            ("score", self.score), ("agreement", self.agreement), ("corrected", corrected),
            ("elsewhere", self.there), ("corrected_elsewhere", abroad), ("triad", triad),
        ):  # fmt: skip
            low, high = bounds(values[1:])
            stem = "" if name == "score" else f"{name}_"
            out |= {name: values[0], f"{stem}low": low, f"{stem}high": high}
        return out


def beside(predictions: pl.DataFrame, pairs: pl.DataFrame, *, draws: int = 1000, seed: int = 0) -> pl.DataFrame:
    """``tables.SHARES`` of unsealed PREDICTIONS (one split, any predictors) beside ``shared_pairs`` of their study.

    A drug's score is its Pearson within each fold, averaged over folds, as in METRICS. Over all drugs with a corrected
    value, "per-drug Pearson" has means over drugs, and ``corrected`` and ``triad`` are ratios of those means.
    "normalised Pearson" is over the rows of drugs in both studies: predictions and observations lose the baseline, the
    other study's values their own drug means; it is left out where the compound is unseen. Lines are resampled, the
    same ones for score and agreement.

    Raises
    ------
    ValueError
        The predictions hold no observations, or those of another study than ``pairs``.
    """
    if predictions["split"].n_unique() != 1:
        raise ValueError(f"one split at a time; found {predictions['split'].unique().sort().to_list()}.")
    predictions = predictions.with_columns(pl.col("predictor", "split", "subject", "treatment").cast(pl.String))
    answered = predictions.filter(pl.col("predicted").is_not_null())
    both = _joined(answered, pairs)
    drugs = sorted(predictions["treatment"].unique())
    kept = pairs.filter(pl.col("treatment").is_in(drugs))
    names = sorted({*answered["subject"], *kept["subject"]})
    sample = _Sample(dict(zip(names, range(len(names)), strict=True)), drugs, score.weights(len(names), draws, seed))
    agreed = sample.per_drug(kept, "value", "other_value")
    pooled = sample.pooled(_centred(kept, "value", "other_value"), "value", "other_value")
    frames = []
    for name in predictions["predictor"].unique(maintain_order=True):
        mine, joint = (f.filter(pl.col("predictor") == name) for f in (answered, both))
        drawn = _Drawn(
            sample.per_drug(mine, "observed", "predicted"),
            agreed,
            sample.per_drug(joint, "observed", "predicted"),
            sample.per_drug(joint, "other_value", "predicted"),
        )
        counts = [dict(f.group_by("treatment").len().iter_rows()) for f in (mine, kept)]
        n, shared = ([c.get(d, 0) for d in drugs] for c in counts)
        found = [("Pearson", drugs, n, shared, drawn)]
        good = np.array([r is None for r in drawn.reasons()])
        total = [int(np.array(c)[good].sum()) for c in (n, shared)]
        found.append(("per-drug Pearson", [None], total[:1], total[1:], drawn.over(good)))
        if score.resampled(predictions["split"][0]) == "subject":
            less = [
                f.with_columns(pl.col("observed", "predicted") - pl.col("baseline"))
                for f in (mine.filter(pl.col("treatment").is_in(kept["treatment"].unique().implode())), joint)
            ]
            less[1] = _centred(less[1], "other_value")
            whole = _Drawn(
                sample.pooled(less[0], "observed", "predicted"),
                pooled,
                sample.pooled(less[1], "observed", "predicted"),
                sample.pooled(less[1], "other_value", "predicted"),
            )
            found.append(("normalised Pearson", [None], [less[0].height], [kept.height], whole))
        none = {"per-drug Pearson": {"reason": ["no drug has a ceiling"]}} if not good.any() else {}
        frames += [
            pl.DataFrame(
                {"predictor": name, "metric": metric, "treatment": d, "n": rows, "shared": s}
                | values.columns()
                | none.get(metric, {}),
                schema_overrides={"treatment": pl.String, "reason": pl.String, "n": pl.Int64, "shared": pl.Int64},
            )
            for metric, d, rows, s, values in found
        ]
    told = {"study": pairs["study"][0], "other": pairs["other"][0], "split": predictions["split"][0]}
    frame = pl.concat(frames, how="diagonal").with_columns(pl.lit(v).alias(k) for k, v in told.items())
    numbers = [c for c, kind in tables.SHARES.columns.items() if kind == pl.Float64()]
    return tables.check(
        frame.with_columns(pl.col(numbers).fill_nan(None)).select(list(tables.SHARES.columns)), tables.SHARES
    )


def _centred(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return rows.with_columns(pl.col(c) - pl.col(c).mean().over("treatment") for c in columns)


def _joined(answered: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """The predictions of shared pairs with ``other_value``."""
    both = answered.join(pairs.select("row", "value", "other_value"), on="row", how="inner", maintain_order="left")
    apart = (both["observed"] - both["value"]).abs().max()
    if not isinstance(apart, float) or not apart < SAME:
        found = f"observed and measured values {apart:.3g} apart" if isinstance(apart, float) else "no shared pair"
        raise ValueError(
            f"predictions and pairs are not of the same rows: found {found}. The pairs are of {pairs['study'][0]!r}, "
            f"{pairs['endpoint'][0]!r}: give unsealed predictions of that study and endpoint."
        )
    return both


def verdicts(shares: pl.DataFrame) -> pl.DataFrame:
    """One row a drug: does anyone predict it, here and in the other study; do the screens agree on it; who does best?

    "Nobody predicts it": no predictor's interval lies above 0. "The screens do not agree on it": their agreement's
    interval includes 0, or it is under ``FLOOR``. The two are different failures, of the models and of the assay. What
    is predicted here though the screens do not agree, or though nobody predicts it there, may be the screen.

    Returns
    -------
    frame treatment, verdict, predicted (Boolean), there and agree (Boolean, null where the other study has too few of
    its lines), predictor, score, low, high and elsewhere of the one with the highest score, agreement, agreement_low,
    agreement_high
    """
    drugs = shares.filter(pl.col("treatment").is_not_null())
    best = drugs.sort("score", descending=True, nulls_last=True).unique("treatment", keep="first", maintain_order=True)
    judged = pl.col("elsewhere").is_not_null()
    anyone = drugs.group_by("treatment").agg(
        (pl.col("low") > 0).fill_null(False).any().alias("predicted"),
        pl.when(judged.any()).then(((pl.col("elsewhere_low") > 0) & judged).fill_null(False).any()).alias("there"),
    )
    agree = pl.when(pl.col("agreement").is_not_null()).then(
        (pl.col("agreement_low") > 0).fill_null(False) & (pl.col("agreement") >= FLOOR)
    )
    said, apart = pl.col("predicted"), ~pl.col("agree").fill_null(True)
    return (
        best.join(anyone, on="treatment")
        .with_columns(agree.alias("agree"))
        .with_columns(
            pl.when(said & apart).then(pl.lit("predicted here, but the screens do not agree on it"))
            .when(said & ~pl.col("there").fill_null(True)).then(pl.lit("predicted here, but not in the other study"))
            .when(said & pl.col("agree").is_null()).then(pl.lit(UNREPEATED))
            .when(said).then(pl.lit("predicted"))
            .when(apart).then(pl.lit("nobody predicts it, and the screens do not agree on it"))
            .otherwise(pl.lit("nobody predicts it"))
            .alias("verdict")
        )
        .select("treatment", "verdict", "predicted", "there", "agree", "predictor", "score", "low", "high", "elsewhere",
                "agreement", "agreement_low", "agreement_high")
        .sort("treatment")
    )  # fmt: skip
