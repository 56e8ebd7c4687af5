"""Who holds which rows: one fold of a study dealt out to sites, by a column of the subjects or at random.

A site's rows are those of its own subjects, in training and in test; a patient's subjects stay at one site. What is
unseen is the split's business and stays so: a site's test rows are the fold's, cut to its subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from workbench.splits import Fold
from workbench.text import nearest


class SharingError(ValueError):
    """The sites asked for cannot be made of this study; says what there is."""


def at_random(fold: Fold, sites: int, seed: int = 0) -> dict[str, list[str]]:
    """Subjects of each of ``sites`` sites, dealt at random (IID), persons whole: {"site 1": [...], ...}."""
    if sites < 2:
        raise SharingError(f"a federation needs at least 2 sites; found {sites}.")
    people = _people(fold)
    persons = people["person"].unique().sort().to_list()
    if len(persons) < sites:
        raise SharingError(f"{sites} sites need at least as many persons or lines; the fold has {len(persons)}.")
    # a stream of its own: dealt by the split's, site 1 would be fold 0
    order = np.random.default_rng([seed, len("sites of a federation")]).permutation(len(persons))
    part = dict(zip((persons[i] for i in order), (k % sites for k in range(len(persons))), strict=True))
    dealt: dict[str, list[str]] = {f"site {k + 1}": [] for k in range(sites)}
    for subject, person in people.select("subject", "person").iter_rows():
        dealt[f"site {part[person] + 1}"].append(subject)
    return dealt


def by_column(fold: Fold, column: str, groups: Mapping[str, Sequence[str]] | None = None) -> dict[str, list[str]]:
    """Subjects of each value of a column of SUBJECTS, or of each named group of values; without a value, no site.

    Parameters
    ----------
    groups : {site: values of the column it holds}; None makes every value a site
    """
    subjects = fold.study.subjects
    if column not in subjects.columns:
        raise SharingError(
            f"study {fold.study.name!r} has no column {column!r} of subjects.{nearest(column, subjects.columns)}"
        )
    of = dict(subjects.select(pl.col("subject").cast(pl.String), pl.col(column).cast(pl.String)).iter_rows())
    there = {v for v in of.values() if v is not None}
    wanted = {v: [v] for v in sorted(there)} if groups is None else {k: list(v) for k, v in groups.items()}
    twice = [v for v in there if sum(v in held for held in wanted.values()) > 1]
    if twice:
        raise SharingError(f"{column} {sorted(twice)[0]!r} is given to two sites; a row has one owner.")
    unknown = sorted({v for held in wanted.values() for v in held} - there)
    if unknown:
        raise SharingError(f"no subject has {column} {unknown[0]!r}.{nearest(unknown[0], sorted(there))}")
    owner = {v: site for site, held in wanted.items() for v in held}
    dealt: dict[str, list[str]] = {site: [] for site in wanted}
    for subject in _people(fold)["subject"]:
        if site := owner.get(of.get(subject) or ""):
            dealt[site].append(subject)
    if len(dealt) < 2:
        raise SharingError(f"column {column!r} makes {len(dealt)} site; a federation needs at least 2.")
    return dealt


def local(fold: Fold, subjects: Sequence[str]) -> Fold:
    """``fold`` cut to the rows of ``subjects``: what one site holds. Its test targets stay sealed."""
    own = pl.Series(list(subjects), dtype=pl.String).implode()
    train, test = (side.filter(pl.col("subject").is_in(own)) for side in (fold.train, fold.test))
    return replace(fold, train=train, test=test, _targets=fold._targets.join(test.select("row"), on="row", how="semi"))


def _people(fold: Fold) -> pl.DataFrame:
    frame = pl.concat([side.select("subject", "person") for side in (fold.train, fold.test)]).unique()
    return frame.sort("subject")
