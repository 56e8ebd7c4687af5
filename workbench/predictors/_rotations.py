"""Principal axes of each modality, fitted on training names and kept with the columns they were fitted on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench import modalities
from workbench.nn.scaling import Rotation
from workbench.splits import Fold


def learn(
    fold: Fold, components: Mapping[str, int], names: Mapping[str, list[str]]
) -> tuple[dict[str, Rotation], dict[str, list[str]]]:
    """{modality: Rotation} and {modality: columns}, for those the study has for two names or more.

    Parameters
    ----------
    components : {modality: axes kept}
    names : {modality: training subjects or treatments to fit on}
    """
    rotations: dict[str, Rotation] = {}
    columns: dict[str, list[str]] = {}
    for m, kept in components.items():
        if m not in fold.study.modalities:
            continue
        block = modalities.read(fold.study, m, endpoint=fold.endpoint)
        values, there = block.rows(names[m])
        if there.sum() > 1:
            columns[m] = block.features
            rotations[m] = modalities.prepare(m, values, np.flatnonzero(there)).first(kept)
    return rotations, columns


def arrays(rotations: Mapping[str, Rotation]) -> dict[str, np.ndarray]:
    """All of them, as ``Rotation.of`` reads each."""
    return {name: a for m, r in rotations.items() for name, a in r.arrays(m).items()}


def components(rotations: Mapping[str, Rotation]) -> list[tuple[str, str]]:
    """(modality, "component i") of each column of the rotated features, in order."""
    return [(m, f"component {i + 1}") for m, r in rotations.items() for i in range(r.axes.shape[1])]
