"""How a subject's tumour grew where nothing was tested on it: before the first dose, or under a vehicle.

Source: features of growth curves such as the exponential rate per day or the doubling time of untreated passages (Gao
et al. 2015, Nat. Med. 21:1318). ``var["treatment"]``, where there is one, says under what a column was measured; a
column under a compound that OUTCOMES hold a row of is left out, so a growth that is predicted never is a feature.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.modalities._targets import never_predicted
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "per column, see var"
GAIN = 0.25


def read(study) -> Block:
    """Values of every subject that has them, without what is predicted; gaps stay NaN."""
    data = study.modality("tumour_growth")
    block = from_anndata(data, UNIT, missing=True)
    if "treatment" not in data.var.columns:
        return block
    under = [None if t is None or t != t or not str(t) else str(t) for t in data.var["treatment"].astype(object)]
    return never_predicted(study, block, under, "tumour_growth")


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``; a gap is its column's mean there."""
    return fit_rotation(matrix, fit_rows)
