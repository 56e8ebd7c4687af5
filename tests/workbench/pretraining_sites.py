"""Sites that learn an encoder, for tests: every kind of data is made of the same three hidden numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tests import toy
from workbench.federated import sharing
from workbench.federated.policy import Policy
from workbench.federated.pretraining import fit as pretraining
from workbench.federated.pretraining import unlabelled
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.splits import Fold, Split

PARAMS: dict[str, Any] = {"members": 2, "width": 16, "rank": 8, "subjects": 16}
SETTINGS: dict[str, Any] = {
    "pretraining_rounds": 3, "pretraining_epochs": 2, "axes": 12, "least": 1, "parameters": PARAMS,
}  # fmt: skip
FACTORS = 3
BARE = 20  # subjects without responses
NOTHING = "subject 139"  # has responses and no modality
LAX = Policy(minimum_rows=5, minimum_cell=2)


def factors(names: Sequence[str]) -> np.ndarray:
    """Three hidden numbers of each subject, by name."""
    return np.stack([np.random.default_rng([7, int(n.split()[-1])]).normal(size=FACTORS) for n in names])


def low_rank(kind: str, names: list[str], matrix: np.ndarray) -> np.ndarray:
    """Every modality is made of the same three numbers, and a little noise."""
    if kind == "drug_structure":
        return matrix
    draw = np.random.default_rng([8, len(kind)])
    signal = factors(names) @ draw.normal(size=(FACTORS, matrix.shape[1]))
    signal += 0.3 * draw.normal(size=matrix.shape)
    return {"expression": signal, "mutation": signal > 0.8, "copy_number": np.clip(np.rint(signal / 2), -1, 1)}[kind]


def silent(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Nobody gave the first subjects a treatment."""
    return outcomes.filter(pl.col("subject").str.split(" ").list.last().cast(pl.Int64) >= BARE)


def divided(name: str, **more: Any) -> Fold:
    study = toy.write(name, subjects=140, outcomes=silent, **more)
    return Split.make(study, "unseen subject", endpoint="ln_ic50", folds=5).fold(0)


def held(fold: Fold, sites: int = 3, free: bool = True, **more: Any) -> list[Site]:
    everybody = {"site 1": sorted({*fold.train["subject"], *fold.test["subject"]})}
    dealt = sharing.at_random(fold, sites) if sites > 1 else everybody
    bare = unlabelled.dealt(fold, dealt, {"random": sites}) if free else dict.fromkeys(dealt, ())
    return [Site(n, sharing.local(fold, s), unlabelled=bare[n], **more) for n, s in dealt.items()]


def learn(sites: Any, state: Any = None, keep: Any = None, **more: Any) -> Any:
    there = Inline(sites) if isinstance(sites, list) else sites
    return pretraining.encoder(there, SETTINGS | more, state, keep)


def same(a: Any, b: Any, atol: float = 0.0) -> None:
    left, right = a.arrays(), b.arrays()
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_allclose(array, right[name], rtol=0, atol=atol, err_msg=name)
