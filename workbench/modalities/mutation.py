"""Coding mutations of a sample: 1 where a gene carries one.

Source: cell-line sequencing of GDSC (Iorio et al. 2016, Cell 166:740-754). Columns are HGNC symbols.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "mutated (0/1)"
GAIN = 0.25
COMPONENTS = 256


def read(study) -> Block:
    """Values of every subject that has them."""
    return from_anndata(study.modality("mutation"), UNIT)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the first principal axes of ``fit_rows``."""
    return fit_rotation(matrix, fit_rows, COMPONENTS)
