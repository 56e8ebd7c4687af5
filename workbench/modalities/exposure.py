"""How much of the compound a subject had in it: AUC, Cmax, trough and their like.

Source: non-compartmental parameters by matrix (SEND and SDTM domain PP, CDISC SENDIG 3.1), positive and spread over
orders of magnitude, hence log10. Columns are parameter and matrix in one unit each (``var["unit"]``). What lies below
the limit of quantification (0) is held at ``var["floor"]``, such as half that limit; without a floor it is a gap.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "log10 of the value in var['unit']"
GAIN = 0.5


def read(study) -> Block:
    """log10 of every subject's exposure; gaps, and zeros without a floor, are NaN."""
    data = study.modality("exposure")
    block = from_anndata(data, UNIT, missing=True)
    if block.unit.strip().casefold().startswith("log10"):
        return block
    values = block.values.astype(np.float64)
    block.refuse(values < 0, "none below 0 (logs have a unit that begins with 'log10')")
    floor = np.full(values.shape[1], np.nan)
    if "floor" in data.var.columns:
        floor = data.var["floor"].to_numpy(dtype=np.float64)
    held = np.where(values == 0, floor[None, :], values)
    return Block(np.log10(held).astype(np.float32), block.names, block.features, UNIT, block.endpoints)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``; a gap is its column's mean there."""
    return fit_rotation(matrix, fit_rows)
