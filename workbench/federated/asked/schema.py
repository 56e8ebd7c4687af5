"""What kind of data a site holds, before round one: names, units and counts; no measured value."""

from __future__ import annotations

import numpy as np
import polars as pl

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.policy import PolicyError
from workbench.federated.pretraining import unlabelled as _unlabelled

PLAIN = (
    "What kind of data the site holds: the endpoint and its unit, the names and unit of the features, the names of the "
    "treatments with enough rows, and how many rows and subjects. No measured value, no subject."
)
LEAVES = Leaves(
    arrays={
        "rows": "number of training rows",
        "subjects": "number of training subjects with the modality",
        "axes": "most directions for which the site answers with sums",
        "samples": "where subjects without responses count: number of subjects with any modality",
    },
    summed=False,
    values=(
        "endpoint", "unit", "modality", "feature_unit", "feature_count", "feature_digest", "features", "treatments",
        "compounds",
    ),
)  # fmt: skip


def answer(site, ask: Ask) -> Answer:
    """Names of the features are told only where ``features`` of the ask is true: digests agree as a rule.

    Where ``unlabelled`` is true, subjects without responses count among those with the modality, and ``samples`` says
    how many an encoder could learn from.
    """
    modality = str(ask.values.get("modality", "expression"))
    own, unit = _rows.features(site, modality)
    train = site.fold.train
    enough = train.filter(pl.len().over("treatment") >= site.policy.minimum_cell)
    told = enough.select("treatment", "compound").unique().sort("treatment")
    everyone = _unlabelled.everyone(site) if ask.values.get("unlabelled") else site.subjects
    _, there, _ = site.block(modality, everyone)
    values = {
        "endpoint": site.fold.endpoint,
        "unit": site.fold.unit,
        "modality": modality,
        "feature_unit": unit,
        "feature_count": len(own),
        "feature_digest": _rows.digest(own),
        "treatments": told["treatment"].to_list(),
        "compounds": told["compound"].to_list(),
    }
    if ask.values.get("features"):
        values["features"] = list(own)
    subjects = int(there.sum())
    if 0 < subjects < site.policy.minimum_cell:
        raise PolicyError(
            f"policy: fewer than {site.policy.minimum_cell} subjects have {modality!r}; small counts stay."
        )
    arrays = {"rows": train.height, "subjects": subjects, "axes": _rows.most_axes(site, subjects)}
    if ask.values.get("unlabelled"):
        arrays["samples"] = _unlabelled.measured(site.fold, everyone)
    return Answer(train.height, {k: np.array([v]) for k, v in arrays.items()}, values)
