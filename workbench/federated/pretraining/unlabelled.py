"""Subjects that were looked at and never given a treatment: an encoder learns from them as well, a regression cannot.

A subject counts that has a modality and stands on neither side of the split. A person of a test subject is out, however
many samples it gave: what is tested shall not have been seen in any form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from workbench.splits import Fold


def _people(fold: Fold) -> pl.DataFrame:
    """subject, person of every subject of the study, as the split has them."""
    subjects = fold.study.subjects
    own = pl.col("subject").cast(pl.String)
    patient = pl.col("patient").cast(pl.String) if "patient" in subjects.columns else pl.lit(None, pl.String)
    return subjects.select(own, pl.coalesce(patient, own).alias("person"))


def persons(fold: Fold, subjects: Sequence[str]) -> list[str]:
    """Person of each of ``subjects``."""
    of = dict(_people(fold).iter_rows())
    return [of.get(s, s) for s in subjects]


def of(fold: Fold) -> list[str]:
    """Names of the subjects without rows in ``fold``, sorted."""
    known = pl.concat([side.select("subject") for side in (fold.train, fold.test)]).unique()
    tested = fold.test.filter(~pl.col("person").is_in(fold.train["person"].unique().implode())).select("person")
    left = _people(fold).join(known, on="subject", how="anti").join(tested.unique(), on="person", how="anti")
    kinds = [m for m in fold.study.modalities if m in (presence := fold.study.presence()).columns]
    some = presence.filter(pl.any_horizontal(kinds)).select(pl.col("subject").cast(pl.String)) if kinds else None
    return [] if some is None else sorted(left.join(some, on="subject", how="semi")["subject"])


def dealt(fold: Fold, sites: Mapping[str, Sequence[str]], how: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """{site: unlabelled subjects} of a simulation: by the column that deals the others, or by a hash of the person.

    Parameters
    ----------
    sites : {site: its subjects with rows}
    how : a federation's ``sites``: {"random": n} or {"column": name, "groups": {site: [values]}}
    """
    names, out = list(sites), {s: list[str]() for s in sites}
    own = {p: s for s, subjects in sites.items() for p in persons(fold, subjects)}
    column = str(how.get("column", ""))
    value: dict[str, str | None] = {}
    if column:
        told = fold.study.subjects.select(pl.col("subject").cast(pl.String), pl.col(column).cast(pl.String))
        value = dict(told.iter_rows())
    owner = {v: site for site, held in how.get("groups", {}).items() for v in held} or {s: s for s in names}
    for subject, person in zip(free := of(fold), persons(fold, free), strict=True):
        site = own.get(person)
        if site is None and column:
            site = owner.get(value.get(subject) or "")
        elif site is None:
            digest = hashlib.sha256(f"unlabelled\x1f{person}".encode()).digest()[:8]
            site = names[int.from_bytes(digest, "big") % len(names)]
        if site is not None:
            out[site].append(subject)
    return {s: tuple(held) for s, held in out.items()}
