"""Copy-number calls of a sample: -1 loss, 0 neutral, 1 gain per gene.

Source: SNP6 calls of GDSC (Iorio et al. 2016, Cell 166:740-754). Columns are HGNC symbols.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "copy-number call (-1/0/1)"
GAIN = 0.15
COMPONENTS = 256


def read(study) -> Block:
    """Values of every subject that has them."""
    return from_anndata(study.modality("copy_number"), UNIT)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the first principal axes of ``fit_rows``."""
    return fit_rotation(matrix, fit_rows, COMPONENTS)
