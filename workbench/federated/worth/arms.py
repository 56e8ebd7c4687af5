"""What a site would have without the others, and what one house with all rows would have: beside the federation.

    alone    the predictor's own fit on the site's rows, judged on the site's test rows
    pooled   the same fit on the rows of all sites together
    own pretraining, pretrained together   a head of the site's own on an encoder (``pretraining.arms``)
    federated, personalised   what the federation gave; personalised where each site has a model of its own

Same predictor, same parameters, same test rows; ``value`` compares them pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from workbench import predict, predictors, score, tables, train
from workbench.federated.sharing import local
from workbench.splits import Fold

LOCAL = ("alone", "pooled")


def fitted(predictor: str, parameters: Mapping[str, Any], fold: Fold) -> predictors.Predictor:
    """The predictor trained in one house on the training rows of ``fold``."""
    made = predictors.make(predictor, **parameters)
    train.fit(made, fold)
    return made


def predictions(
    arm: str, made: predictors.Predictor, fold: Fold, dealt: Mapping[str, Sequence[str]], base: pl.Series
) -> pl.DataFrame:
    """``tables.FEDERATION_PREDICTIONS`` of one predictor on the test rows of every site, unsealed.

    Parameters
    ----------
    base : mean effects of the pooled training rows at each test row (``predict.baseline``), the same for every arm
    """
    answer = score.unseal(predict.predictions(made, fold, base), fold)
    return of(arm, answer, dealt)


def of(arm: str, answer: pl.DataFrame, dealt: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Unsealed PREDICTIONS as those of an arm, each row with the site that holds it; rows of no site are left out."""
    owner = pl.DataFrame(
        [(subject, site) for site, subjects in dealt.items() for subject in subjects],
        schema={"subject": pl.String, "site": pl.String}, orient="row",
    )  # fmt: skip
    told = answer.with_columns(pl.col("subject").cast(pl.String)).join(
        owner, on="subject", how="inner", maintain_order="left"
    )
    return tables.check(told.with_columns(pl.lit(arm).alias("arm")), tables.FEDERATION_PREDICTIONS)


def trained(
    arms: Sequence[str],
    predictor: str,
    parameters: Mapping[str, Any],
    fold: Fold,
    dealt: Mapping[str, Sequence[str]],
    base: pl.Series,
    say: Callable[[str], None] | None = None,
) -> list[pl.DataFrame]:
    """FEDERATION_PREDICTIONS of each of ``arms`` that is trained without the federation.

    ``say`` is told before each of them which it is, and of which site.
    """
    out, tell = [], say or (lambda _: None)
    if "pooled" in arms:
        tell("pooled")
        everyone = local(fold, [s for held in dealt.values() for s in held])
        out.append(predictions("pooled", fitted(predictor, parameters, everyone), fold, dealt, base))
    if "alone" in arms:
        for site, subjects in dealt.items():
            own = local(fold, subjects)
            if not own.test.height:
                continue
            tell(f"alone, {site}")
            there = fold.test["subject"].is_in(pl.Series(list(subjects), dtype=pl.String).implode())
            made = fitted(predictor, parameters, own)
            out.append(predictions("alone", made, own, {site: subjects}, base.filter(there)))
    return out
