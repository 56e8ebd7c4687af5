"""DNA methylation of a sample, as M values.

Source: M = log2(beta / (1 - beta)), Du et al. 2010, BMC Bioinformatics 11:587: beta (0 to 1, the methylated share) has
an uneven spread near 0 and 1, M has not. Beta is held between 0.001 and 0.999 (M = +-9.96). Columns are CpG sites or
regions; a failed probe is a gap.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "M value, log2(beta/(1-beta))"
GAIN = 0.5
COMPONENTS = 256
EDGE = 0.001


def read(study) -> Block:
    """M values of every subject that has them, from beta values (a share or %) or as they are; gaps stay NaN."""
    block = from_anndata(study.modality("methylation"), "beta value (0 to 1)", missing=True)
    if block.unit.strip().casefold().startswith("m value") or block.unit.strip().casefold().startswith("m-value"):
        return block
    beta = block.values.astype(np.float64)
    percent = "%" in block.unit or "per cent" in block.unit
    beta = beta / 100 if percent else beta
    top = 100 if percent else 1
    block.refuse((beta < 0) | (beta > 1), f"a beta value, 0 to {top} (M values have unit 'M value')")
    held = np.clip(beta, EDGE, 1 - EDGE)
    return Block(np.log2(held / (1 - held)).astype(np.float32), block.names, block.features, UNIT, block.endpoints)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise, rotate onto the first principal axes of ``fit_rows``; a gap is its column's mean there."""
    return fit_rotation(matrix, fit_rows, COMPONENTS)
