"""What the pathologist saw in a subject's tissues: severity by tissue and finding.

Source: ordinal grades 0 (not seen) to 5 (severe) as SEND's domain MI codes them (MISEV: minimal, mild, moderate,
marked, severe). Columns are tissue and finding. A tissue that was not examined is a gap, never 0. ``var["endpoint"]``
as in clinical chemistry.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "severity (0 to 5)"
GAIN = 0.25


def read(study) -> Block:
    """Values of every subject that has them; gaps stay NaN."""
    block = from_anndata(study.modality("pathology"), UNIT, missing=True)
    wrong = (block.values < 0) | (block.values > 5)
    block.refuse(wrong, "a severity, 0 to 5; a tissue that was not examined is a gap (NaN)")
    return block


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``; a gap is its column's mean there."""
    return fit_rotation(matrix, fit_rows)
