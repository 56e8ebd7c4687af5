"""What pretraining together is worth to a site: its own head on an encoder of its own, and on the shared one.

    own pretraining       the encoder learnt from the site's own samples alone, as long, on axes of its own
    pretrained together   the encoder learnt by all sites

The same head (``head.fit``) from the same responses, judged on the site's own test rows beside the other arms
(``worth.arms``): what is between the two is what the others' samples gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from workbench.federated.policy import Policy
from workbench.federated.pretraining import fit as pretraining
from workbench.federated.pretraining import head
from workbench.federated.sharing import local
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.federated.worth.arms import predictions
from workbench.federated.worth.site_value import OWN_ENCODER, SHARED_ENCODER
from workbench.predictors.drug_response import DrugResponse
from workbench.splits import Fold

AT_HOME = Policy(minimum_rows=1, minimum_cell=1, minimum_subjects=1)  # nothing leaves, so nothing is held back


def alone(site: str, own: Fold, free: Sequence[str], settings: Mapping[str, Any]) -> DrugResponse:
    """The encoder that a site would learn without the others; ``free`` are its subjects without responses."""
    told = {k: v for k, v in settings.items() if k not in ("strategy", "options", "proximal", "own")}
    sites = Inline([Site(site, own, AT_HOME, unlabelled=tuple(free))])
    return pretraining.encoder(sites, {**told, "least": 1})


def trained(
    arms: Sequence[str],
    encoder: DrugResponse,
    settings: Mapping[str, Any],
    fold: Fold,
    dealt: Mapping[str, Sequence[str]],
    free: Mapping[str, Sequence[str]],
    base: pl.Series,
    learnt: dict[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[pl.DataFrame]:
    """FEDERATION_PREDICTIONS of those of ``arms`` that rest on an encoder; other arms are passed over.

    Parameters
    ----------
    encoder : learnt by all sites (``fit.encoder``)
    settings : with which it was
    free : {site: its subjects without responses}
    base : mean effects of the pooled training rows at each test row (``predict.baseline``), the same for every arm
    learnt : gets {site: what its own encoder knows (``fit.Explained``)}
    say : is told before each of them which it is, and of which site
    """
    out = []
    for site, subjects in dealt.items():
        own = local(fold, subjects)
        if not own.test.height:
            continue
        there = fold.test["subject"].is_in(pl.Series(list(subjects), dtype=pl.String).implode())
        for arm in (OWN_ENCODER, SHARED_ENCODER):
            if arm in arms:
                if say is not None:
                    say(f"{arm}, {site}")
                below: Any = encoder if arm == SHARED_ENCODER else alone(site, own, free.get(site, ()), settings)
                if learnt is not None and arm == OWN_ENCODER:
                    learnt[site] = below.explained_
                made: Any = head.fit(below, own)
                out.append(predictions(arm, made, own, {site: subjects}, base.filter(there)))
    return out
