"""Directions of the features along which slopes are learnt: of a public study, or out of a noisy Gram matrix.

    public     half of them tell responses there, the others are its principal axes

        W = argmin |E - Z W|^2 + a |W|^2          every public treatment at once, a by leaving one out
        R = predictions of those left out          their principal axes V over treatments: directions W V

Responses to other treatments tell which directions matter to any: four such directions are worth eight principal axes.
Spreads along them are those of predictions left out, for fitted ones are too wide. A public study without responses
gives principal axes alone. Those of a noisy matrix no longer than the edge of the noise's own spectrum are dropped, and
the length of the others is corrected for what noise added to it (Benaych-Georges and Nadakuditi 2011, Adv. Math.
227:494).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from workbench.federated.private.accounting import PrivacyError
from workbench.predictors._pairs import matrix
from workbench.splits import Fold
from workbench.study import Study, find

FEW = 20  # responses that a public treatment needs
PENALTIES = np.geomspace(0.3, 300.0, 13)  # where rows have length 1
FLAT = 1e-6  # spread of a feature that does not vary
Arrays = dict[str, np.ndarray]


def public(source: str | Fold, modality: str, features: Sequence[str], endpoint: str, most: int) -> Arrays:
    """Means and spreads (f,), axes (f, k) along which the public spread is 1, their ``share`` of a row's length (k,).

    Parameters
    ----------
    source : a study by name or folder, or the training rows of a Fold
    features : of the sites; one that the public study lacks, or in which it does not vary, is not used
    most : directions, k

    Raises
    ------
    workbench.federated.private.accounting.PrivacyError
        It has none of the features.
    """
    x, y, held = _read(source, modality, features, endpoint)
    if not held:
        raise PrivacyError(f"the public study {_name(source)!r} has none of the features of the sites.")
    known = np.isfinite(x)
    mean = np.where(known, x, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    away = np.where(known, x - mean, 0.0)
    spread = np.sqrt((away**2).mean(0))
    varies = spread > FLAT
    z = np.where(varies, away / np.where(varies, spread, 1.0), 0.0)
    length = float(np.sqrt((z**2).sum(1).mean()))
    values, vectors = np.linalg.eigh(z @ z.T / length**2)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    taught = _responsive(z, y, values, vectors, length, most // 2 if y.shape[1] else 0)
    some = values > 1e-9 * values[0]
    plain = min(most - taught[0].shape[1], int(some.sum()))
    own = z.T @ (vectors[:, :plain] / np.sqrt(values[:plain])) / length
    scores = np.hstack([taught[1], vectors[:, :plain] * np.sqrt(values[:plain]) * length])
    scores = scores - scores.mean(0)
    moments = scores.T @ scores / len(scores)
    lower = np.linalg.cholesky(moments + 1e-9 * np.diag(np.diag(moments)))
    axes = np.hstack([taught[0], own]) @ np.linalg.inv(lower).T
    out = {"mean": np.zeros(len(features)), "sd": np.full(len(features), np.inf),
           "axes": np.zeros((len(features), axes.shape[1]))}  # fmt: skip
    out["mean"][held], out["axes"][held] = mean, axes
    out["sd"][held] = np.where(varies, spread, np.inf)
    return out | {"centre": np.zeros(axes.shape[1]), "share": 1.0 / (axes**2).sum(0) / length**2}


def noisy(gram: np.ndarray, first: np.ndarray, n: float, noise: float, most: int) -> Arrays:
    """Of a Gram matrix (d, d) of n persons under symmetric noise of ``noise``: ``whiten`` (d, k), ``share``, ``mean``.

    ``whiten`` makes the spread along each axis 1; k is 0 where none stands above the noise; ``longest`` and ``edge``
    say by how much.
    """
    d = len(gram)
    mean = first / n
    values, vectors = np.linalg.eigh(gram - n * np.outer(mean, mean))
    values, vectors = values[::-1], vectors[:, ::-1]
    edge = noise * np.sqrt(2 * d)
    k = int(min((values > max(1.05 * edge, 1e-9 * abs(values[0]))).sum(), most))
    true = (values[:k] + np.sqrt(np.maximum(values[:k] ** 2 - edge**2, 0.0))) / 2
    return {"whiten": vectors[:, :k] * np.sqrt(n / true), "share": true / n, "mean": mean,
            "longest": values[:1], "edge": np.array([edge])}  # fmt: skip


def _responsive(
    z: np.ndarray, y: np.ndarray, values: np.ndarray, vectors: np.ndarray, length: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Directions (f, k) that tell responses ``y`` (n, t), and scores (n, k) of rows left out of them."""
    n = len(z)
    good = np.isfinite(y).sum(0) >= FEW
    y = y[:, good]
    spread = np.nanstd(y, axis=0) if y.size else np.zeros(0)
    y, spread = y[:, spread > FLAT], spread[spread > FLAT]
    most = min(most, y.shape[1])
    if not most:
        return np.zeros((z.shape[1], 0)), np.zeros((n, 0))
    e = (y - np.nanmean(y, axis=0)) / spread
    e = np.where(np.isfinite(e), e, 0.0)
    e = e - e.mean(0)
    told = vectors.T @ e
    best = (np.inf, 0.0, e)
    for penalty in PENALTIES:
        share = values / (values + penalty)
        leverage = (vectors**2) @ share + 1.0 / n
        wrong = (e - vectors @ (share[:, None] * told)) / np.maximum(1.0 - leverage, 1e-6)[:, None]
        if (error := float((wrong**2).mean())) < best[0]:
            best = (error, float(penalty), e - wrong)
    _, penalty, left_out = best
    weights = z.T @ (vectors @ (told / (values + penalty)[:, None])) / length**2
    over = np.linalg.svd(left_out, full_matrices=False)[2][:most].T
    return weights @ over, left_out @ over


def _read(
    source: str | Fold, modality: str, features: Sequence[str], endpoint: str
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Features (n, h) and responses (n, t) of the public subjects, and which of ``features`` they are."""
    from workbench import modalities

    if isinstance(source, Fold):
        study, told = source.study, source.train.select("subject", "treatment", "value")
    else:
        study = Study.open(find(source))
        told = study.outcomes.filter(pl.col("endpoint") == endpoint).select("subject", "treatment", "value")
    told = told.with_columns(pl.col("subject", "treatment").cast(pl.String)).drop_nulls()
    block = modalities.read(study, modality)
    at = {name: i for i, name in enumerate(block.features)}
    held = [i for i, name in enumerate(features) if name in at]
    names = sorted(told["subject"].unique()) if isinstance(source, Fold) else sorted(map(str, block.names))
    values, there = block.rows(names)
    kept = [name for name, t in zip(names, there, strict=True) if t]
    treatments = sorted(told["treatment"].unique())
    told = told.filter(pl.col("subject").is_in(pl.Series(kept, dtype=pl.String).implode()))
    y = matrix(told, kept, treatments) if treatments else np.zeros((len(kept), 0))
    return values[there][:, [at[features[i]] for i in held]].astype(np.float64), y, held


def _name(source: str | Fold) -> str:
    return source.study.name if isinstance(source, Fold) else str(source)
