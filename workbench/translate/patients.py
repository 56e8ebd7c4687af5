"""What the patients' own data say without any cell line: the values a transfer has to beat.

A programme's score needs no response; a ridge learnt on other patients of the same cohort does, so it is
cross-validated and repeated, with its penalty chosen on the patients that teach.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from workbench import modalities
from workbench.nn import kernel_ridge
from workbench.translate import areas, biology
from workbench.translate.domains import Domain

FOLDS, REPEATS = 5, 10


def response(study, endpoint: str | None = None) -> tuple[str, dict[str, bool]]:
    """Endpoint in 0/1 and the response of every patient.

    Raises
    ------
    ValueError
        There is no endpoint in 0/1, several, or a value that is neither.
    """
    frame = study.outcomes.filter(pl.col("unit").cast(pl.String) == "0/1")
    if endpoint is not None:
        frame = frame.filter(pl.col("endpoint").cast(pl.String) == endpoint)
    found = frame["endpoint"].cast(pl.String).unique().sort().to_list()
    if len(found) != 1:
        do = "Keep the one that is meant." if found else "It needs a response of patients, such as complete response."
        listed = ", ".join(found) or "none"
        raise ValueError(f"study {study.name!r}: expected one endpoint in '0/1', found {listed}. {do}")
    if stray := set(frame["value"].to_list()) - {0.0, 1.0}:
        raise ValueError(f"study {study.name!r}, {found[0]}: expected 0 or 1, found {sorted(stray)[0]:g}.")
    return found[0], {s: v == 1.0 for s, v in frame.select(pl.col("subject").cast(pl.String), "value").iter_rows()}


def naive(
    study, truth: dict[str, bool], *, modality: str = "expression", draws: int = 2000, seed: int = 0
) -> pl.DataFrame:
    """name, auroc, low, high, p of every programme's score and of a ridge within the patients."""
    block = modalities.read(study, modality)
    rows = [i for i, name in enumerate(block.names) if name in truth]
    names = [block.names[i] for i in rows]
    values = block.values[rows].astype(np.float64)
    domain = Domain(values, names, block.features, np.array([""] * len(rows), dtype=object))
    positive = np.array([truth[n] for n in names])
    scores = {}
    for name in biology.PROGRAMMES:
        columns = biology.programme(domain, name)
        if len(columns) >= biology.FEWEST:
            scores[f"{name} score"] = biology.score(values, columns)
    scores["ridge within the patients"] = within(values, positive, seed=seed)
    found = areas.judge(np.column_stack(list(scores.values())), positive, draws=draws, permutations=draws, seed=seed)
    return pl.DataFrame(
        {"name": list(scores), "auroc": found.value, "low": found.low, "high": found.high, "p": found.p}
    )


def within(values: np.ndarray, positive: np.ndarray, *, repeats: int = REPEATS, seed: int = 0) -> np.ndarray:
    """Cross-validated ridge score (n,) of every patient, the mean over repeats; scaled on the patients that teach."""
    rng = np.random.default_rng([areas.SEED, 5, seed])
    total = np.zeros(len(positive))
    for _ in range(repeats):
        part = np.empty(len(positive), dtype=np.int64)
        for side in (True, False):
            index = rng.permutation(np.flatnonzero(positive == side))
            part[index] = np.arange(len(index)) % FOLDS
        for fold in range(FOLDS):
            test = part == fold
            mean, sd = values[~test].mean(axis=0), values[~test].std(axis=0)
            alive = sd > 1e-6
            a, b = ((values[k][:, alive] - mean[alive]) / sd[alive] for k in (~test, test))
            fitted = kernel_ridge.fit(a @ a.T / alive.sum(), positive[~test, None].astype(np.float64))
            total[test] += (fitted.intercept + b @ (a.T @ fitted.dual) / alive.sum())[:, 0] - positive[~test].mean()
    return total / repeats
