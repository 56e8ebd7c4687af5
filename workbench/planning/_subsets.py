"""Left-out and applied predictions of one ridge per set of modalities, all on the same lines.

    K_A = sum_{m in A} g_m^2 <r_m, r_m'> / sum_{m in A} g_m^2       g_m: the modality's gain, r_m: its rotated features

Each line's left-out prediction comes from a fit without that line, in closed form, at the penalty that was best for
the drug on the other parts of the lines (a penalty chosen on the line itself makes a useless modality look useful).
The largest penalty is infinite: the mean of the other lines, no modality at all. Scalers see all training lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench import modalities, rooms
from workbench.nn import kernel_ridge
from workbench.nn.scaling import Rotation
from workbench.predictors._pairs import matrix

PENALTIES = 10.0 ** np.linspace(-1.0, 2.0, 7)
PARTS = 10
Subset = tuple[str, ...]


@dataclass(frozen=True)
class Lines:
    """The training lines that have every modality, and what was measured on them.

    Attributes
    ----------
    subjects, treatments : names of rows and columns
    y : responses (S, T), NaN where none
    groups : what is left out together (S,), or None: each line alone
    rotated : {modality: features (S, k), mean square 1 / k}
    rotations, columns : scalers of the modalities, and the features they were fitted on
    """

    subjects: list[str]
    treatments: list[str]
    y: np.ndarray
    groups: np.ndarray | None
    rotated: dict[str, np.ndarray]
    rotations: dict[str, Rotation]
    columns: dict[str, list[str]]


def lines(study, train: pl.DataFrame, endpoint: str, names: Sequence[str], group: str = "subject") -> Lines:
    """Read the training lines of ``train`` (subject, treatment, tissue, value) that have all modalities ``names``.

    Raises
    ------
    ValueError
        A modality is of treatments, or fewer than 20 training lines have them all.
    """
    blocks = {}
    for m in names:
        if (axis := rooms.load("workbench.modalities", m).AXIS) != "subject":
            raise ValueError(f"{m!r} describes {axis}s; the value of an assay is that of a modality of samples.")
        blocks[m] = modalities.read(study, m, endpoint=endpoint)
    complete = set.intersection(*(set(b.names) for b in blocks.values()))
    kept = train.filter(pl.col("subject").is_in(list(complete)))
    subjects, treatments = sorted(kept["subject"].unique()), sorted(kept["treatment"].unique())
    if len(subjects) < 20:
        raise ValueError(
            f"{len(subjects)} training lines have all of {list(names)}; at least 20 are needed to say what one adds. "
            "Name fewer modalities."
        )
    rotated, rotations, columns = {}, {}, {}
    for m, block in blocks.items():
        values, _ = block.rows(subjects)
        rotation = modalities.prepare(m, values, np.arange(len(subjects)))
        rotations[m], columns[m] = rotation, block.features
        rotated[m] = _scaled(rotation, values)
    tissue = dict(kept.select("subject", "tissue").unique("subject").iter_rows())
    groups = np.array([tissue[s] for s in subjects]) if group == "tissue" else None
    return Lines(subjects, treatments, matrix(kept, subjects, treatments), groups, rotated, rotations, columns)


@dataclass(frozen=True)
class Fit:
    """One set of modalities, fitted: ``left_out`` (S, T) and what is needed to apply it."""

    subset: Subset
    left_out: np.ndarray
    dual: np.ndarray
    intercept: np.ndarray


def fit(data: Lines, subset: Subset, progress: Callable[[float], None] | None = None) -> Fit:
    """Fit every treatment on the modalities of ``subset``; the empty one is the mean of the other lines."""
    if not subset:
        return Fit(subset, _means(data), np.zeros_like(data.y), _column_means(data.y))
    kernel = _kernel(subset, {m: data.rotated[m] @ data.rotated[m].T for m in subset})
    tried = [fit(data, ())]
    for i, penalty in enumerate(PENALTIES):
        made = kernel_ridge.fit(kernel, data.y, np.array([penalty]), groups=data.groups)
        tried.append(Fit(subset, made.left_out, made.dual, made.intercept))
        if progress is not None:
            progress((i + 1) / len(PENALTIES))
    left_out = np.stack([t.left_out for t in tried])
    errors = np.where(np.isfinite(left_out), (left_out - data.y) ** 2, 0.0)
    part = _parts(data)
    blind = np.full(data.y.shape, np.nan)
    for p in range(part.max() + 1):
        chosen = errors[:, part != p].sum(1).argmin(0)
        blind[part == p] = np.take_along_axis(left_out[:, part == p], chosen[None, None, :], axis=0)[0]
    best = errors.sum(1).argmin(0)
    dual, intercept = np.stack([t.dual for t in tried]), np.stack([t.intercept for t in tried])
    return Fit(
        subset,
        blind,
        np.take_along_axis(dual, best[None, None, :], axis=0)[0],
        np.take_along_axis(intercept, best[None, :], axis=0)[0],
    )


def apply(data: Lines, made: Fit, study, subjects: list[str]) -> np.ndarray:
    """Predictions (len(subjects), T) of lines that have the modalities of the fit; NaN for one that lacks any."""
    out = np.repeat(made.intercept[None, :], len(subjects), axis=0)
    if not made.subset:
        return out
    parts, there = {}, np.ones(len(subjects), dtype=bool)
    for m in made.subset:
        values, present = modalities.read(study, m, columns=data.columns[m]).rows(subjects)
        parts[m] = _scaled(data.rotations[m], values) @ data.rotated[m].T
        there &= present
    out = out + _kernel(made.subset, parts) @ made.dual
    out[~there] = np.nan
    return out


def _kernel(subset: Subset, parts: dict[str, np.ndarray]) -> np.ndarray:
    gain = {m: float(rooms.load("workbench.modalities", m).GAIN) ** 2 for m in subset}
    return np.sum([gain[m] * parts[m] for m in subset], axis=0) / sum(gain.values())


def _scaled(rotation: Rotation, values: np.ndarray) -> np.ndarray:
    return rotation.apply(values).astype(np.float64) / np.sqrt(max(rotation.axes.shape[1], 1))


def _parts(data: Lines) -> np.ndarray:
    """Part of each line, whole groups together: int (S,)."""
    code = np.arange(len(data.y)) if data.groups is None else np.unique(data.groups, return_inverse=True)[1]
    return code % max(min(PARTS, int(code.max()) + 1), 2) if code.max() else np.arange(len(data.y)) % 2


def _column_means(y: np.ndarray) -> np.ndarray:
    count = np.isfinite(y).sum(0)
    return np.where(count > 0, np.nansum(y, axis=0) / np.maximum(count, 1), np.nan)


def _means(data: Lines) -> np.ndarray:
    """Mean of each treatment over the lines of the other groups: (S, T), NaN where y is."""
    code = np.arange(len(data.y)) if data.groups is None else np.unique(data.groups, return_inverse=True)[1]
    there = np.isfinite(data.y)
    filled = np.where(there, data.y, 0.0)
    own = [np.zeros((code.max() + 1, data.y.shape[1])) for _ in range(2)]
    np.add.at(own[0], code, filled)
    np.add.at(own[1], code, there.astype(float))
    rest, count = filled.sum(0) - own[0][code], there.sum(0) - own[1][code]
    return np.where(there & (count > 0), rest / np.maximum(count, 1), np.nan)
