"""What a score has to beat: means of the training rows, fitted in one pass.

    global_mean        y = m
    drug_mean          y = m_d                      (m for a drug never seen)
    cell_mean          y = m_s
    tissue_mean        y = m_t
    tissue_drug_mean   y = m_td, else m_d, else m
    mean_effects       y = m + a_d + b_s            drug means, then cell means of what is left; 0 if never seen

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
    """Treatment means, then subject means of what they leave: an unseen subject gets exactly the treatment's mean."""
    left = train.with_columns(a=pl.col("value").mean().over("treatment") - mean)
    left = left.with_columns(b=pl.col("value") - mean - pl.col("a"))
    return [
        dict(left.group_by("treatment").agg(pl.col("a").first()).sort("treatment").iter_rows()),
        dict(left.group_by("subject").agg(pl.col("b").mean()).sort("subject").iter_rows()),
    ]


PREDICTORS = dict.fromkeys(Naive.FALLBACKS, Naive)
