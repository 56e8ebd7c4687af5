"""Gene expression of a sample.

Source: RMA-normalised arrays of the cell-line panels, standardised per gene by the provider
(GDSC, Iorio et al. 2016, Cell 166:740-754). Columns are HGNC symbols.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "z-score of log2 intensity"
GAIN = 1.0


def read(study) -> Block:
    """Values of every subject that has them."""
    return from_anndata(study.modality("expression"), UNIT)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``."""
    return fit_rotation(matrix, fit_rows)
