"""MicroRNA expression of a sample.

Source: log2(reads per million miRNA reads + 1), as TCGA's miRNA pipeline gives it (Chu et al. 2016, Nucleic Acids Res.
44:e3); raw counts are brought to it. Columns are miRBase names.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "log2(RPM + 1)"
GAIN = 0.5


def read(study) -> Block:
    """log2(RPM + 1) of every subject that has it; raw counts are normalised by their own row alone."""
    block = from_anndata(study.modality("mirna"), UNIT, missing=True)
    if not block.unit.strip().casefold().startswith("count"):
        return block
    counts = block.values.astype(np.float64)
    block.refuse((counts < 0) | (np.rint(counts) != counts) & ~np.isnan(counts), "counts: whole numbers, none below 0")
    depth = np.maximum(np.nansum(counts, axis=1, keepdims=True), 1.0)
    values = np.log2(counts / depth * 1e6 + 1.0).astype(np.float32)
    return Block(values, block.names, block.features, UNIT, block.endpoints)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``; a gap is its column's mean there."""
    return fit_rotation(matrix, fit_rows)
