"""What a score has to beat: means of the training rows, fitted in one pass.

    global_mean        y = m
    drug_mean          y = m_d                      (m for a drug never seen)
    cell_mean          y = m_s
    tissue_mean        y = m_t
    tissue_drug_mean   y = m_td, else m_d, else m
    mean_effects       y = m + a_d + b_s            drug effects, then line effects of what is left; shrunk, 0 if new

Source: the baselines of Bernett et al., DrEval (Nature Communications 2026), which few deep models beat.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl

from workbench.predictors import answer
from workbench.predictors._widths import HalfWidths
from workbench.splits import Fold, inner_parts
from workbench.tables import ATTRIBUTIONS, empty


class Naive:
    """Means of the training rows by ``keys`` (columns of the pairs frame), falling back key by key."""

    DEFAULTS: ClassVar[dict[str, Any]] = {}
    FALLBACKS: ClassVar[dict[str, list[list[str]]]] = {
        "global_mean": [],
        "drug_mean": [["treatment"]],
        "cell_mean": [["subject"]],
        "tissue_mean": [["tissue"]],
        "tissue_drug_mean": [["tissue", "treatment"], ["treatment"]],
        "mean_effects": [["treatment"], ["subject"]],
    }

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, fold: Fold, report=None) -> Naive:
        """Means of ``fold.train``; interval widths from eighths of its groups, each held out by the fold's own rule."""
        part = inner_parts(fold, 8, fold.seed)
        residuals = np.full(fold.train.height, np.nan)
        for p in np.unique(part):
            held = part == p
            self.learn(fold.train.filter(pl.Series(~held)))
            check = fold.train.filter(pl.Series(held))
            residuals[held] = check["value"].to_numpy() - self.mean_of(check)
        self.widths_ = HalfWidths.fit(residuals, fold.train["treatment"].to_numpy())
        self.learn(fold.train)
        return self

    def learn(self, train: pl.DataFrame) -> None:
        """The means alone, without the widths of their intervals."""
        self.mean_ = float(train["value"].mean())  # type: ignore[arg-type]
        self.tables_: list[dict[str, float]] = []
        if self.name == "mean_effects":
            self.tables_ = _effects(train, self.mean_)
            return
        for keys in self.FALLBACKS[self.name]:
            means = train.group_by(keys).agg(pl.col("value").mean()).sort(keys)
            self.tables_.append(dict(zip(_key(means, keys), means["value"].to_list(), strict=True)))

    def mean_of(self, pairs: pl.DataFrame) -> np.ndarray:
        """Predicted mean of each pair, float64 (n,); ``pairs`` has subject, treatment and tissue."""
        out = np.full(pairs.height, self.mean_)
        if self.name == "mean_effects":
            for table, keys in zip(self.tables_, self.FALLBACKS[self.name], strict=True):
                out += np.array([table.get(k, 0.0) for k in _key(pairs, keys)])
            return out
        for table, keys in zip(reversed(self.tables_), reversed(self.FALLBACKS[self.name]), strict=True):
            found = np.array([table.get(k, np.nan) for k in _key(pairs, keys)])
            out = np.where(np.isnan(found), out, found)
        return out

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        if "tissue" not in pairs.columns:
            tissues = study.subjects.select(pl.col("subject", "tissue").cast(pl.String))
            pairs = pairs.join(tissues, on="subject", how="left", maintain_order="left")
        pairs = pairs.with_columns(pl.col("tissue").fill_null("unknown"))
        return answer(self.mean_of(pairs), self.widths_.of(pairs["treatment"].to_numpy()))

    def config(self) -> dict[str, Any]:
        return {"params": {}, "keys": [list(t) for t in self.tables_], "widths": self.widths_.names}

    def arrays(self) -> dict[str, np.ndarray]:
        out = {f"table{i}": np.array(list(t.values())) for i, t in enumerate(self.tables_)}
        return out | {
            "mean": np.array([self.mean_]),
            "widths": self.widths_.values,
            "pooled": np.array([self.widths_.pooled]),
        }

    def load(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.mean_ = float(arrays["mean"][0])
        self.tables_ = [dict(zip(k, arrays[f"table{i}"].tolist(), strict=True)) for i, k in enumerate(config["keys"])]
        self.widths_ = HalfWidths(config["widths"], arrays["widths"], float(arrays["pooled"][0]))

    def attributions(self) -> pl.DataFrame:
        return empty(ATTRIBUTIONS)


def _key(frame: pl.DataFrame, keys: list[str]) -> list[str]:
    return frame.select(pl.concat_str(keys, separator="\x1f"))[keys[0]].to_list()


def _effects(train: pl.DataFrame, mean: float) -> list[dict[str, float]]:
    """Treatment effects, then subject effects of what they leave, each shrunk; an unseen subject gets the treatment's.

    An effect is its group's mean times n v / (n v + w), v the variance between groups and w within them (by moments;
    Searle, Casella and McCulloch 1992, Variance Components). Without that the error of a mean over few rows would
    stand on both sides of every normalised metric, and a constant would correlate with pure noise.
    """
    left = train.with_columns(left=pl.col("value") - mean)
    found = []
    for key in ("treatment", "subject"):
        effect = _shrunk(left, key)
        found.append(dict(effect.iter_rows()))
        left = left.join(effect, on=key, how="left", maintain_order="left")
        left = left.with_columns(left=pl.col("left") - pl.col("effect")).drop("effect")
    return found


def _shrunk(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """Columns ``key`` and effect: the group means of ``left`` towards 0, as far as chance alone would explain them."""
    groups = frame.group_by(key).agg(n=pl.len(), m=pl.col("left").mean()).sort(key)
    n, m = groups["n"].to_numpy().astype(np.float64), groups["m"].to_numpy()
    spare = n.sum() - len(n)
    rest = float((frame["left"].to_numpy() ** 2).sum() - (n * m**2).sum())
    within = max(rest, 0.0) / spare if spare > 0 else 0.0
    centred = m - (n * m).sum() / n.sum()
    even = n.sum() - (n**2).sum() / n.sum()
    between = max(0.0, float((n * centred**2).sum()) - (len(n) - 1) * within) / even if even > 0 else 0.0
    total = n * between + within
    share = np.divide(n * between, total, out=np.zeros_like(n), where=total > 0)
    return groups.select(key).with_columns(effect=pl.Series(m * share))


PREDICTORS = dict.fromkeys(Naive.FALLBACKS, Naive)
