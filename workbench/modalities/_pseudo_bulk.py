"""Many cells as one row per subject."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.modalities import Block

LEAST = 10  # a subject with fewer cells has no stable profile


def mean_by_subject(data: Any, values: Any, unit: str) -> Block:
    """Block of the mean of ``values`` (cells, f) over each subject's cells; under ``LEAST`` of them, no row."""
    indicator, names, size = _subjects(data)
    total = indicator @ values
    return _block(total / size[:, None], names, size, data, unit)


def sum_by_subject(data: Any, counts: Any, unit: str) -> Block:
    """Block of log2(CPM + 1) of raw ``counts`` (cells, f) added up over each subject's cells."""
    indicator, names, size = _subjects(data)
    total = indicator @ counts
    total = np.asarray(total.toarray() if hasattr(total, "toarray") else total, dtype=np.float64)
    depth = np.maximum(total.sum(1, keepdims=True), 1.0)
    return _block(np.log2(total / depth * 1e6 + 1.0), names, size, data, unit)


def _subjects(data: Any) -> tuple[Any, list[str], np.ndarray]:
    """Subjects x cells as 0/1, the subjects' names, and how many cells each has."""
    from scipy import sparse

    if "subject" not in data.obs.columns:
        raise ValueError("a modality of cells needs obs['subject'], the subject each cell comes from; found none.")
    known = np.flatnonzero(data.obs["subject"].notna().to_numpy())
    names, code = np.unique(data.obs["subject"].to_numpy()[known].astype(str), return_inverse=True)
    indicator = sparse.csr_matrix((np.ones(len(known)), (code, known)), shape=(len(names), data.n_obs))
    return indicator, [str(n) for n in names], np.bincount(code, minlength=len(names)).astype(np.float64)


def _block(values: Any, names: list[str], size: np.ndarray, data: Any, unit: str) -> Block:
    dense = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    enough = np.flatnonzero(size >= LEAST)
    return Block(dense[enough].astype(np.float32), [names[i] for i in enough], list(data.var_names), unit)
