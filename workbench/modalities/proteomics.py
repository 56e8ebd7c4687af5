"""Protein abundance of a sample, by reverse-phase protein array or mass spectrometry.

Source: log2 of the abundance relative to the other samples of the array (RPPA, Akbani et al. 2014, Mol. Cell.
Proteomics 13:1625; TCPA, Li et al. 2013, Nat. Methods 10:1046). Columns are antibodies or proteins, with the site of a
phosphorylation; a protein that was not measured is a gap.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "log2 relative abundance"
GAIN = 0.5


def read(study) -> Block:
    """Values of every subject that has them; gaps stay NaN."""
    return from_anndata(study.modality("proteomics"), UNIT, missing=True)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``; a gap is its column's mean there."""
    return fit_rotation(matrix, fit_rows)
