"""Where a private training begins: everything but the weights of the deep path is made of a public study.

Scalers, axes, treatments, offsets, the closed form and the intervals come from rows that the server may look at, so the
sites are asked for none of it and nothing of theirs is spent on it. The deep path may have been trained on the public
rows before the first round (``warm`` epochs). What is promised at the end are intervals of the public rows, by members
and a closed form that had not seen them: where the sites' rows are of another kind, they are not calibrated there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench import train
from workbench.batches import Rows, SubjectLoader
from workbench.federated.network.module import set_weights, weights
from workbench.federated.network.plan import Plan
from workbench.predictors._closed_form import STRUCTURE
from workbench.predictors.drug_response import DrugResponse
from workbench.splits import Fold, Split
from workbench.study import Study, find


@dataclass
class Public:
    """A DrugResponse prepared on the training rows of a public ``fold``, and the plan that every site gets."""

    model: DrugResponse
    rows: Rows
    fold: Fold
    plan: Plan

    @property
    def offset(self) -> np.ndarray:
        """Level of each treatment (T,) [unit of the endpoint]."""
        return self.model.closed_.offset.numpy(force=True).astype(np.float64)

    def begun(self, warm: int) -> dict[str, np.ndarray]:
        """The first round's weights: of the model's seed, after ``warm`` epochs on the public rows."""
        if warm:
            p = self.model.params
            p["epochs"], said = warm, p["epochs"]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(p["seed"])
                loader = SubjectLoader(self.rows, p["subjects"], p["seed"])
                train.run_lightning(self.model, loader, epochs=warm, survive=train.Survive(None), accelerator="cpu")
            p["epochs"] = said
        return weights(self.model)

    def finished(self, shared: Mapping[str, np.ndarray]) -> DrugResponse:
        """The model with the deep path's weights ``shared``, and intervals from the public rows."""
        set_weights(self.model, dict(shared))
        made = self.model.finish(self.fold)
        made.subject_term_ = np.zeros(len(made.closed_.subjects))
        made.eval()
        return made


def prepared(fold: Fold, params: Mapping[str, Any]) -> Public:
    """Of the training rows of ``fold``; ``params`` of the DrugResponse."""
    made = DrugResponse(**params)
    with torch.random.fork_rng(devices=[]):
        rows = made.prepare(fold)
    c = made.closed_
    order = [*c.names, *([STRUCTURE] if c.structured else [])]
    plan = Plan(
        {**params, "modalities": list(params["modalities"])}, list(c.treatments), {m: c.columns[m] for m in order},
        {m: c.rotations[m] for m in order}, c.structure, fold.endpoint, fold.unit,
    )  # fmt: skip
    return Public(made, rows, fold, plan)


def opened(study: str, endpoint: str, seed: int) -> Fold:
    """Four in five subjects of the public study ``study``, a name or a folder; the others stay sealed."""
    return Split.make(Study.open(find(study)), "unseen subject", endpoint=endpoint, folds=5, seed=seed).fold(0)
