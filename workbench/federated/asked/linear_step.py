"""One step of a linear model of all treatments: what this site would change in the weights, seen from its rows.

    y_sd = w_0d + z_s . w_d        z_s: features of the subject, standardised and turned into the axes the server sends
    change_d = step (Z' M_d (y_d - Z w_d) - n_d decay w_d) / (n / t)

n: the site's training rows, t: treatments, n_d: rows of d, M_d: which. Weighted by n, the mean over sites is the step
of the pooled ridge, exactly. With axes divided by sqrt(variance + penalty) and decay = penalty / (variance + penalty) a
step of 1 is Newton's on complete data, so a few dozen rounds reach the solution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast

import numpy as np
import polars as pl

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask
from workbench.federated.site import SiteError
from workbench.nn.scaling import standardise

PLAIN = "How the weights of a linear model should change, seen from the site's rows; treatments with few rows stay out."
LEAVES = Leaves(
    arrays={"change": "change of the weights (axes + 1, treatments); the last row is each treatment's level"},
    summed=False,
    values=("schema", "error"),
)


def schema(features: Sequence[str], endpoint: str, unit: str) -> str:
    """Digest of what the rows of the axes are and of what is predicted: sites that differ in it must not be mixed."""
    return hashlib.sha256("\x1f".join([endpoint, unit, *features]).encode()).hexdigest()[:16]


def answer(site, ask: Ask) -> Answer:
    """The change, and how many training rows are in it.

    Asked with arrays weights (k + 1, t), axes (f, k), mean (f,), sd (f,), decay (k,) and values treatments, modality,
    plane (names the axes, so that a site turns its features once), steps (local ones, 1) and step (size, 1.0).
    """
    held = site.memory.get("linear_step")
    key = (ask.values["plane"], ask.values["treatments"])
    if held is None or held[0] != key:
        held = site.memory["linear_step"] = (key, *_rows(site, ask))
    _, z, y, there, told = held
    n = int(there.sum())
    if n == 0:
        raise SiteError("this site has no training row of the treatments asked about.")
    start = np.asarray(ask.arrays["weights"], dtype=np.float64)
    w, decay = start, np.append(np.asarray(ask.arrays["decay"], dtype=np.float64), 0.0)[:, None]
    per = n / there.shape[1]
    measured = there.sum(axis=0) / per
    kept = there.sum(axis=0) >= site.policy.minimum_cell
    size, error = float(cast(float, ask.values.get("step", 1.0))), None
    for _ in range(int(cast(int, ask.values.get("steps", 1)))):
        left = np.where(there, y - z @ w, 0.0)
        if error is None:
            error = float((left**2).sum() / n)
        w = w + size * kept * (z.T @ left / per - measured * decay * w)
    return Answer(n, {"change": w - start}, {"schema": told, "error": float(error or 0.0)})


def _rows(site, ask: Ask) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Turned features (n, k + 1) with ones in the last column, values and their presence (n, t), schema digest."""
    treatments = cast(list[str], ask.values["treatments"])
    subjects = site.subjects
    x, there, features = site.block(str(ask.values["modality"]), subjects)
    axes = ask.arrays["axes"]
    if x.shape[1] != len(axes):
        raise SiteError(
            f"this site has {x.shape[1]} features of {ask.values['modality']!r}; the axes have {len(axes)}."
        )
    if not there.any():
        raise SiteError(f"no training subject of this site has {ask.values['modality']!r}.")
    x = x[there]
    subjects = [s for s, t in zip(subjects, there, strict=True) if t]
    z = standardise(x, ask.arrays["mean"], ask.arrays["sd"]).astype(np.float64) @ axes
    row, column = ({name: i for i, name in enumerate(names)} for names in (subjects, treatments))
    table = site.fold.train.filter(
        pl.col("subject").is_in(subjects), pl.col("treatment").is_in(treatments)
    )  # a pair measured twice counts once, by its mean
    table = table.group_by("subject", "treatment").agg(pl.col("value").mean()).sort("subject", "treatment")
    s = table["subject"].replace_strict(row, return_dtype=pl.Int64).to_numpy()
    d = table["treatment"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    y = np.zeros((len(subjects), len(treatments)))
    seen = np.zeros(y.shape, dtype=bool)
    y[s, d], seen[s, d] = table["value"].to_numpy(), True
    return np.hstack([z, np.ones((len(z), 1))]), y, seen, schema(features, site.fold.endpoint, site.fold.unit)
