"""How the lines to come differ from those of the training rows: density ratios and distances, by features alone.

    w(x) = p(new | x) / p(training | x) * n_training / n_new

p: a logistic regression on the leading principal components of one modality, each line judged by a classifier that has
not seen it. No response is looked at. Lines told apart perfectly have ratios near zero on the training side: the
effective number of lines says how little of the training data speaks for the new lines.
Source: Tibshirani, Barber, Candes and Ramdas 2019 (NeurIPS 32); Kish 1965 for the effective number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench import modalities
from workbench.trust._left_out import CalibrationError
from workbench.trust._quantiles import effective

COMPONENTS = 20
FEWEST = 10  # lines on either side, below which no classifier is fitted
FOLDS = 5
MOST = 50.0  # a ratio beyond it says "nothing like this was in training", and is cut so that one line cannot rule


@dataclass(frozen=True)
class Ratios:
    """Density ratios by subject.

    Attributes
    ----------
    training, new : {subject: ratio}; subjects without the modality have ratio 1
    auc : area under the ROC curve of telling new lines from training lines; 0.5 where nothing differs
    effective : effective number of training lines
    without : subjects that lack the modality
    """

    training: dict[str, float]
    new: dict[str, float]
    auc: float
    effective: float
    without: tuple[str, ...] = ()


def components(study, subjects: list[str], fit_on: list[str], modality: str, number: int = COMPONENTS):
    """Leading principal components (fitted on ``fit_on``) of ``subjects``: (n, k); and who has them: (n,)."""
    block = modalities.read(study, modality)
    x, there = block.rows(fit_on)
    if there.sum() < 2:
        raise CalibrationError(
            f"{int(there.sum())} of {len(fit_on)} training lines have modality {modality!r}; two are needed at least."
        )
    rotation = modalities.prepare(modality, x[there], np.arange(int(there.sum())))
    keep = rotation.axes.shape[1] if not number else min(number, rotation.axes.shape[1])

    def of(matrix: np.ndarray) -> np.ndarray:
        return rotation.apply(matrix)[:, :keep].astype(np.float64)

    spread = np.maximum(of(x[there]).std(0), 1e-9)
    values, known = block.rows(subjects)
    return of(values) / spread, known


def ratios(study, training: list[str], new: list[str], modality: str = "expression", seed: int = 0) -> Ratios:
    """Density ratios of ``new`` subjects against ``training`` subjects.

    Raises
    ------
    CalibrationError
        Fewer than ten lines on a side have the modality.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    names = [*training, *new]
    x, there = components(study, names, training, modality)
    label = np.r_[np.zeros(len(training)), np.ones(len(new))].astype(int)
    for side, what in ((0, "training"), (1, "new")):
        if (n := int((there & (label == side)).sum())) < FEWEST:
            raise CalibrationError(
                f"density ratios need at least {FEWEST} {what} lines with {modality!r}; found {n}. "
                "Predict more lines at once, or leave weighting out."
            )
    rng = np.random.default_rng([20261122, seed])
    part = np.empty(len(names), dtype=int)
    for side in (0, 1):  # both sides in every part
        of = np.flatnonzero(label == side)
        part[rng.permutation(of)] = np.arange(len(of)) % FOLDS
    chance = np.full(len(names), np.nan)
    for k in range(FOLDS):
        learn, judge = there & (part != k), there & (part == k)
        if judge.any():
            # balanced classes: the prior is taken out here instead of being divided out below
            model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000).fit(x[learn], label[learn])
            chance[judge] = model.predict_proba(x[judge])[:, 1]
    w = np.ones(len(names))
    w[there] = np.clip(chance[there] / np.maximum(1 - chance[there], 1e-9), 1 / MOST, MOST)
    auc = float(roc_auc_score(label[there], chance[there]))
    return Ratios(
        dict(zip(training, w[: len(training)].tolist(), strict=True)),
        dict(zip(new, w[len(training) :].tolist(), strict=True)),
        auc,
        effective(w[: len(training)]),
        tuple(n for n, t in zip(names, there, strict=True) if not t),
    )


def distances(
    study, training: list[str], wanted: list[str], modality: str = "expression", nearest: int = 10
) -> dict[str, float]:
    """Mean distance of each wanted subject to its ``nearest`` training subjects (itself left out) by components.

    The unit is the root mean square distance between training lines; a subject without the modality is left out.
    """
    x, there = components(study, [*training, *wanted], training, modality)
    a, b = x[: len(training)][there[: len(training)]], x[len(training) :]
    mine = [n for n, t in zip(training, there[: len(training)], strict=True) if t]
    unit = float(np.sqrt(2 * a.var(0).sum())) or 1.0
    at = {n: i for i, n in enumerate(mine)}
    out = {}
    for name, row, known in zip(wanted, b, there[len(training) :], strict=True):
        if not known:
            continue
        d = np.sqrt(((a - row) ** 2).sum(1))
        if name in at:
            d = np.delete(d, at[name])
        out[name] = float(np.sort(d)[:nearest].mean()) / unit
    return out
