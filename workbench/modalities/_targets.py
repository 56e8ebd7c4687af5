"""Columns measured under a treatment: kept only where that compound is never what is predicted."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from workbench.modalities import Block


def never_predicted(study, block: Block, treatments: list[str | None], what: str) -> Block:
    """``block`` without the columns measured under a compound that OUTCOMES hold a row of.

    Compounds are compared by structure (``compound_key`` or ``compound`` of the study's treatments) and by name without
    case and punctuation, so a salt or another spelling is the same compound. This needs no split and no fold: a
    compound is either a reference or something to predict, never both.

    Parameters
    ----------
    treatments : of each column; None where it was measured under none

    Raises
    ------
    ValueError
        No column is left.
    """
    table = study.treatments
    key = next((c for c in ("compound_key", "compound") if c in table.columns), None)
    of = dict(table.select("treatment", key).iter_rows()) if key else {}
    predicted = study.rows["treatment"].unique().cast(pl.String).to_list()
    names = {_plain(t) for t in predicted}
    compounds = {of.get(t) for t in predicted} - {None}
    keep = [j for j, t in enumerate(treatments) if t is None or (_plain(t) not in names and of.get(t) not in compounds)]
    if not keep:
        raise ValueError(
            f"{what}: all {len(treatments)} columns are of compounds that the study's outcomes hold, so each would "
            "tell a predictor what it is asked for. Take the reference compounds' rows out of the outcomes "
            "(workbench.modalities.response_curves.split_off), or leave this modality out."
        )
    return block if len(keep) == len(treatments) else block.only(np.array(keep, dtype=np.int64))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
