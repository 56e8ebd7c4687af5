"""Per-drug ridge on the features of a sample: the baseline that deep models rarely beat.

    y_sd = m_d + x_s . b_d,     b_d = argmin |y - m_d - X b|^2 + a_d |b|^2

The penalty a_d is chosen per drug by closed-form leave-one-out error on the training rows. A drug without
training rows, or a sample without the modality, gets no number but a reason.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl

from workbench import modalities
from workbench.nn import kernel_ridge
from workbench.nn.scaling import standardise
from workbench.predictors import answer
from workbench.predictors._pairs import matrix, positions
from workbench.predictors._widths import HalfWidths
from workbench.splits import Fold


class Ridge:
    """Ridge of every treatment on one modality of the subject.

    Parameters
    ----------
    modality : the subject modality to use
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"modality": "expression"}

    def __init__(self, name: str = "ridge", modality: str = "expression") -> None:
        self.name = name
        self.modality = modality

    def fit(self, fold: Fold, report=None) -> Ridge:
        block = modalities.read(fold.study, self.modality, endpoint=fold.endpoint)
        there = set(block.names)
        train = fold.train.filter(pl.col("subject").is_in(list(there)))
        if not train.height:
            raise ValueError(f"no training row of {fold.rule!r} has modality {self.modality!r}; ridge cannot fit.")
        subjects = sorted(train["subject"].unique())
        self.treatments_ = sorted(train["treatment"].unique())
        x, _ = block.rows(subjects)
        rotation = modalities.prepare(self.modality, x, np.arange(len(subjects)))
        z = rotation.apply(x).astype(np.float64)
        width = np.sqrt(max(z.shape[1], 1))  # no axis is left where nothing varies
        z /= width
        say = None if report is None else (lambda done: report(done, "ridge, drug by drug"))
        # an unseen tissue is judged by leaving tissues out; an unseen line by leaving lines out
        tissue = dict(train.select("subject", "tissue").unique().iter_rows()) if fold.group == "tissue" else {}
        groups = np.array([tissue[s] for s in subjects]) if tissue else None
        fitted = kernel_ridge.fit(z @ z.T, matrix(train, subjects, self.treatments_), groups=groups, progress=say)
        self.features_ = block.features
        # one matrix from the standardised features to every treatment: (f, t)
        weights = rotation.axes @ (z.T @ fitted.dual) / (rotation.scale * width)
        self.mean_, self.sd_ = rotation.mean, rotation.sd
        self.weights_ = weights.astype(np.float32)
        self.offset_, self.penalty_ = fitted.intercept, fitted.penalty
        # what each training line would have been told had it not been there, for who needs unseen residuals: (s, t)
        self.left_out_ = (subjects, self.treatments_, fitted.left_out)
        residual = (matrix(train, subjects, self.treatments_) - fitted.left_out).ravel()
        self.widths_ = HalfWidths.fit(residual, np.tile(np.array(self.treatments_), len(subjects)))
        return self

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        block = modalities.read(study, self.modality, columns=self.features_)
        if block.features != self.features_:
            raise ValueError(f"{self.modality!r} has other columns than ridge was fitted on; use the study of the run.")
        subjects = sorted(pairs["subject"].unique())
        x, there = block.rows(subjects)
        plane = standardise(x, self.mean_, self.sd_) @ self.weights_ + self.offset_
        s, d = positions(pairs["subject"], subjects), positions(pairs["treatment"], self.treatments_)
        known = (d >= 0) & there[s]
        value = np.where(known, plane[s, np.maximum(d, 0)], np.nan)
        reason = [
            None if k else ("drug not in training" if dd < 0 else f"sample has no {self.modality}")
            for k, dd in zip(known, d, strict=True)
        ]
        return answer(value, self.widths_.of(pairs["treatment"].to_numpy()), reason)

    def config(self) -> dict[str, Any]:
        return {
            "params": {"modality": self.modality},
            "features": self.features_,
            "treatments": self.treatments_,
            "widths": self.widths_.names,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "mean": self.mean_,
            "sd": self.sd_,
            "weights": self.weights_,
            "offset": self.offset_,
            "penalty": self.penalty_,
            "widths": self.widths_.values,
            "pooled": np.array([self.widths_.pooled]),
        }

    def load(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.features_, self.treatments_ = config["features"], config["treatments"]
        self.mean_, self.sd_, self.weights_ = arrays["mean"], arrays["sd"], arrays["weights"]
        self.offset_, self.penalty_ = arrays["offset"], arrays["penalty"]
        self.widths_ = HalfWidths(config["widths"], arrays["widths"], float(arrays["pooled"][0]))

    def attributions(self, top: int = 20) -> pl.DataFrame:
        """The ``top`` strongest coefficients of each treatment: change in y per standard deviation of the feature."""
        strongest = np.argsort(-np.abs(self.weights_), axis=0)[:top]
        return pl.concat(
            pl.DataFrame(
                {
                    "treatment": name,
                    "modality": self.modality,
                    "feature": [self.features_[i] for i in strongest[:, j]],
                    "value": self.weights_[strongest[:, j], j].astype(np.float64),
                    "method": "coefficient per standard deviation",
                }
            )
            for j, name in enumerate(self.treatments_)
        )


PREDICTORS = {"ridge": Ridge}
