"""Proteins on the surface of a subject's cells (CITE-seq, flow cytometry): one row per subject.

Source: antibody counts as centred log ratios per cell (``clr``; Stoeckius et al. 2017, Nat. Methods 14:865), then the
mean over the subject's cells. Values in another unit than counts are averaged as they are. Columns are antibodies. A
subject with fewer than 10 cells has no row.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.modalities._pseudo_bulk import mean_by_subject
from workbench.nn.scaling import Rotation, fit_rotation
from workbench.text import nearest

AXIS = "subject"
UNIT = "centred log ratio, mean over cells"
GAIN = 0.5


def read(study) -> Block:
    """Mean centred log ratio of every subject with enough cells."""
    data = study.modality("surface_protein")
    if data.uns.get("axis") == "subject":  # averaged before
        return from_anndata(data, UNIT)
    unit = str(data.uns.get("unit", "counts"))
    counted = unit.strip().casefold().startswith("count") or "counts" in data.layers
    if not counted:
        return mean_by_subject(data, data.X, f"mean over cells of {unit}")
    raw = data.layers.get("counts", data.X)
    return mean_by_subject(data, clr(raw.toarray() if hasattr(raw, "toarray") else raw), UNIT)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``."""
    return fit_rotation(matrix, fit_rows)


def clr(counts: np.ndarray, per: str = "cell") -> np.ndarray:
    """Centred log ratio of protein counts (n, p), over the proteins of a ``"cell"`` or the cells of a ``"feature"``.

    x -> ln(1 + x) - mean(ln(1 + x)): Aitchison's transform (1982, J. R. Stat. Soc. B 44:139) with 1 added for the
    zeros. Per cell, depth cancels and the values of a cell sum to 0; per feature, the background of an antibody cancels
    and the answer depends on which cells are there.

    Raises
    ------
    ValueError
        The values are no raw counts.
    """
    x = np.asarray(counts, dtype=np.float64)
    if x.ndim != 2 or (x.size and (not np.isfinite(x).all() or (x < 0).any() or not np.array_equal(x, np.rint(x)))):
        raise ValueError("clr needs raw protein counts (cells, proteins): whole numbers, none below 0.")
    if per not in ("cell", "feature"):
        raise ValueError(f"per is 'cell' or 'feature'; found {per!r}.{nearest(per, ('cell', 'feature'))}")
    logged = np.log1p(x)
    return logged - logged.mean(1 if per == "cell" else 0, keepdims=True)
