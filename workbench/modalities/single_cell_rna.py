"""Gene expression of a subject's cells, added up: one row per subject.

Source: pseudo-bulk, the sum of raw counts over a subject's cells as log2(CPM + 1) (Squair et al. 2021, Nat. Commun.
12:5692). Without raw counts (``layers["counts"]``, or X in "counts"), the mean of the cells' X in its own unit. The
cells themselves stay in the study for what looks at cells (workbench.single_cell). Columns are genes. A subject with
fewer than 10 cells has no row.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.modalities._pseudo_bulk import mean_by_subject, sum_by_subject
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "log2(CPM + 1), summed over cells"
GAIN = 1.0


def read(study) -> Block:
    """Pseudo-bulk of every subject with enough cells."""
    data = study.modality("single_cell_rna")
    if data.uns.get("axis") == "subject":  # summed before
        return from_anndata(data, UNIT)
    if "counts" in data.layers:
        return sum_by_subject(data, data.layers["counts"], UNIT)
    unit = str(data.uns.get("unit", "counts"))
    if unit.strip().casefold().startswith("count"):
        return sum_by_subject(data, data.X, UNIT)
    return mean_by_subject(data, data.X, f"mean over cells of {unit}")


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``."""
    return fit_rotation(matrix, fit_rows)
