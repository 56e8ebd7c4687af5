"""Clinical chemistry and haematology of a subject: enzymes, metabolites, cell counts in blood.

Source: columns are analyte and specimen in one unit each (SEND and SDTM domain LB, CDISC SENDIG 3.1), with
``var["unit"]``. What was not drawn is a gap. ``var["endpoint"]`` names the endpoint of OUTCOMES that a column is; it is
left out where that endpoint is predicted. Nothing says when a sample was drawn: build the modality from one time.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "per column, see var['unit']"
GAIN = 0.5


def read(study) -> Block:
    """Values of every subject that has them; gaps stay NaN."""
    return from_anndata(study.modality("clinical_chemistry"), UNIT, missing=True)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``; a gap is its column's mean there."""
    return fit_rotation(matrix, fit_rows)
