"""Treatments that are pairs of drugs: their members, and splits by what of a pair is new.

A pair is its two compounds in alphabetical order, so that A + B and B + A are one. Where a drug is held out, no
training row may hold it, alone or with any partner; pairs of a held-out and a known drug then teach in no fold of it.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from workbench.splits._groups import LeakError, deal

COMBINATIONS = {  # rules for studies of drug pairs: {rule: members of a tested pair that no training row may hold}
    "unseen combination": 0,
    "unseen drug of a combination": 1,
    "unseen drugs of a combination": 2,
}
SIDES = ("member_a", "member_b")
PLAIN_COMBINATIONS = {
    "unseen combination": "the pair of drugs is new in either order; each drug was seen with other partners",
    "unseen drug of a combination": "one drug of the pair is new, alone and with any partner; the other was seen",
    "unseen drugs of a combination": "both drugs of the pair are new, alone and with any partner",
}


def compounds(treatments: pl.DataFrame) -> pl.DataFrame:
    """treatment and compound of every treatment; of a study of pairs also member_a and member_b (null for one drug)."""
    # a treatment without structure is a compound of its own; sources may know better which names are one compound
    keys = [c for c in ("compound_key", "compound", "treatment") if c in treatments.columns]
    frame = treatments.select(
        pl.col("treatment").cast(pl.String), pl.coalesce(pl.col(c).cast(pl.String) for c in keys).alias("compound")
    )
    return _members(treatments, frame) if {"drug_a", "drug_b"} <= set(treatments.columns) else frame


def _members(treatments: pl.DataFrame, compounds: pl.DataFrame) -> pl.DataFrame:
    """``compounds`` with member_a and member_b; the compound of a pair is its two members in alphabetical order."""
    text = treatments.with_columns(pl.all().cast(pl.String))
    sides = [
        pl.coalesce(c for c in (f"compound_{side}", f"drug_{side}") if c in text.columns).alias(f"member_{side}")
        for side in "ab"
    ]
    found = compounds.with_columns(text.select(sides))
    # a row of one drug has itself for its only member
    one = pl.col("member_a").is_null() | pl.col("member_b").is_null()
    a, b = pl.coalesce("member_a", "member_b", "compound", "treatment"), pl.col("member_b")
    found = found.with_columns(
        pl.when(one).then(a).otherwise(pl.min_horizontal("member_a", "member_b")).alias("member_a"),
        pl.when(one).then(None).otherwise(pl.max_horizontal("member_a", b)).alias("member_b"),
    )
    pair = pl.concat_str("member_a", "member_b", separator=" + ")
    return found.with_columns(pl.when(one).then(pl.coalesce("compound", "member_a")).otherwise(pair).alias("compound"))


def dealt_drugs(frame: pl.DataFrame, rule: str, folds: int, seed: int) -> list[pl.Series]:
    """The drugs held out in each fold; a drug that stands in many rows counts for more."""
    drugs = pl.concat([frame["member_a"], frame["member_b"]]).drop_nulls().value_counts().sort("member_a")
    if drugs.height < folds or folds < 2:
        raise ValueError(f"{rule!r} with {folds} folds needs at least {max(folds, 2)} drugs; found {drugs.height}.")
    part = deal(drugs["count"].to_numpy(), folds, seed, balance=True)
    return [drugs["member_a"].filter(pl.Series(part == k)) for k in range(folds)]


def new_members(frame: pl.DataFrame, rule: str, out: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """(teaches, is tested) of each row, bool (n,), where the drugs ``out`` are new."""
    new = [frame[c].is_in(out.implode()).fill_null(value=False).to_numpy().astype(int) for c in SIDES]
    pair = frame["member_b"].is_not_null().to_numpy()
    return (new[0] + new[1]) == 0, pair & (new[0] + new[1] == COMBINATIONS[rule])


def prove_new(k: int, rule: str, train: pl.DataFrame, test: pl.DataFrame, wanted: int) -> None:
    """Raise LeakError where a tested pair of fold ``k`` has fewer than ``wanted`` drugs that no training row holds."""
    seen = pl.concat([train["member_a"], train["member_b"]]).drop_nulls().unique().implode()
    new = pl.sum_horizontal((pl.col(c).is_not_null() & ~pl.col(c).is_in(seen)).cast(pl.Int8) for c in SIDES)
    short = test.filter(new < wanted)
    if short.height:
        one = short.row(0, named=True)
        raise LeakError(
            f"fold {k} claims {rule!r} but leaks: {one['treatment']!r} (row {one['row']}) has fewer than {wanted} "
            f"drugs that no training row holds; {short.height} such test rows. Take every row with the held-out "
            "drugs out of training."
        )
