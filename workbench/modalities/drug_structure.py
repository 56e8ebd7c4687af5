"""Structure of a treatment as a Morgan fingerprint, radius 2, 1,024 bits.

Source: Rogers and Hahn 2010, J. Chem. Inf. Model. 50:742-754, as RDKit computes it from SMILES.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "treatment"
UNIT = "Morgan bit (0/1)"
GAIN = 1.0


def read(study) -> Block:
    """Values of every treatment that has them."""
    return from_anndata(study.modality("drug_structure"), UNIT)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``."""
    return fit_rotation(matrix, fit_rows)
