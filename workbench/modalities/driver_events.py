"""Cancer functional events of a sample: 1 where a driver is mutated or fused, or a recurrent segment gained or lost.

Source: the pan-cancer events of Iorio et al. 2016, Cell 166:740-754: mutations of driver genes as "BRAF mut",
fusions as "BCR-ABL fusion", recurrently altered copy-number segments as "gain cnaPANCAN301 (CDK12,ERBB2,MED24)" with
the drivers that lie in them.
"""

from __future__ import annotations

import numpy as np

from workbench.modalities import Block, from_anndata
from workbench.nn.scaling import Rotation, fit_rotation

AXIS = "subject"
UNIT = "event (0/1)"
GAIN = 0.25
COMPONENTS = 256


def read(study) -> Block:
    """Values of every subject that has them."""
    return from_anndata(study.modality("driver_events"), UNIT)


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the first principal axes of ``fit_rows``."""
    return fit_rotation(matrix, fit_rows, COMPONENTS)
