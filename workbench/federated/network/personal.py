"""A shared DrugResponse made one site's own, at the site; nothing leaves.

    at_site      shared layers, and the layers that the site kept to itself during the rounds (``own``: a local head)
    fine_tuned   a few more epochs on the site's own rows, of all layers or of some, near the shared weights if wanted

Members still never learn from their part of the subjects. Intervals stay those of the shared model: where a model made
for one site is better or worse than the shared one, they are too wide or too narrow there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch

from workbench import train
from workbench.batches import Rows, SubjectLoader
from workbench.federated.network import local as _network_local
from workbench.federated.network.module import RoundResponse, set_weights, weights
from workbench.federated.site import Site, SiteError
from workbench.predictors import restore
from workbench.predictors._pairs import positions
from workbench.predictors.drug_response import DrugResponse
from workbench.splits import Fold


def at_site(site: Site, model: DrugResponse) -> DrugResponse:
    """``model`` with the layers that ``site`` kept to itself; raises SiteError where it kept none of this training."""
    held = site.memory.get(_network_local.MEMORY)
    if held is None or not held.own:
        raise SiteError("this site has kept no layers of its own.")
    made = _copy(model)
    agreed = pl.Series(made.closed_.treatments, dtype=pl.String).replace(dict(held.plan.alias))
    at = positions(agreed, held.plan.treatments)
    by_treatment = ("identity.weight", "level.weight")
    set_weights(made, {k: a[:, at] if k in by_treatment else a for k, a in held.own.items()})
    return made


def fine_tuned(
    model: DrugResponse,
    fold: Fold,
    *,
    epochs: int = 3,
    learning_rate: float | None = None,
    only: Sequence[str] = (),
    proximal: float = 0.0,
) -> DrugResponse:
    """``model`` after ``epochs`` more on the training rows of ``fold``, the site's own.

    Parameters
    ----------
    learning_rate : peak; None takes the model's
    only : prefixes of the layers that may change ("identity", "level", "shape": the head); () all
    proximal : mu of a pull towards the shared weights
    """
    c = model.closed_
    known = pl.Series(c.treatments, dtype=pl.String).implode()
    frame = fold.train.filter(pl.col("treatment").is_in(known)).sort("subject", "row")
    if not frame.height:
        raise SiteError("this site has no training row of a treatment that the model knows.")
    subjects = sorted(frame["subject"].unique())
    x, presence = c.features(fold.study, subjects)
    drug = positions(frame["treatment"], c.treatments)
    deviation = (frame["value"].to_numpy() - c.offset.numpy(force=True)[drug]) / model.sigma_
    params = model.params | ({} if learning_rate is None else {"learning_rate": learning_rate})
    rows = Rows(
        torch.from_numpy(frame["row"].to_numpy().copy()),
        torch.from_numpy(positions(frame["subject"], subjects)),
        torch.from_numpy(drug),
        {m: torch.from_numpy(v) for m, v in x.items()},
        torch.from_numpy(presence),
        torch.from_numpy(deviation.astype(np.float32)),
        torch.from_numpy(frame["censored"].to_numpy().astype(np.int8)),
        torch.from_numpy(_network_local.part_of(frame["person"].to_list(), params["members"], params["seed"])),
    )
    loader = SubjectLoader(rows, params["subjects"], params["seed"])
    module = RoundResponse(**params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params["seed"])
        sizes = {m: v.shape[1] for m, v in x.items()}
        module._build(sizes, len(c.treatments), c.structure_size)
        module.register_buffer("structure", torch.from_numpy(c.structure), persistent=False)
        module.sigma_ = model.sigma_
        set_weights(module, weights(model))
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(not only or name.startswith(tuple(only)))
        module.begin(0, len(loader) * epochs, proximal)
        train.run_lightning(module, loader, epochs=epochs, survive=train.Survive(None), accelerator="cpu")
    made = _copy(model)
    set_weights(made, weights(module))
    return made


def _copy(model: DrugResponse) -> DrugResponse:
    made = restore("drug_response", model.config(), model.arrays())
    assert isinstance(made, DrugResponse)
    made.eval()
    return made
