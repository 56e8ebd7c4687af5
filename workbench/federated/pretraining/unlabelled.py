"""Subjects that were looked at and never given a treatment: an encoder learns from them as well, a regression cannot.

A subject counts that has a modality and stands on neither side of the split. A person of a test subject is out, however
many samples it gave: what is tested shall not have been seen in any form. ``few`` rehearses a federation with many such
subjects, by taking away the responses of most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from workbench.federated.site import Site, SiteError
from workbench.splits import Fold


def _people(fold: Fold) -> pl.DataFrame:
    """subject, person of every subject of the study, as the split has them."""
    subjects = fold.study.subjects
    own = pl.col("subject").cast(pl.String)
    patient = pl.col("patient").cast(pl.String) if "patient" in subjects.columns else pl.lit(None, pl.String)
    return subjects.select(own, pl.coalesce(patient, own).alias("person"))


def persons(fold: Fold, subjects: Sequence[str]) -> list[str]:
    """Person of each of ``subjects``: as the fold's rows say, else as the study does."""
    of = dict(_people(fold).iter_rows())
    of |= dict(pl.concat([side.select("subject", "person") for side in (fold.train, fold.test)]).unique().iter_rows())
    return [of.get(s, s) for s in subjects]


def everyone(site: Site) -> list[str]:
    """Subjects of ``site`` to learn features from: those it trains on, then those without responses.

    Where the latter are fewer persons than its policy's smallest cell they have no part: sums with and without them
    would tell them apart.

    Raises
    ------
    SiteError
        A person that is tested stands among the latter.
    """
    known = set(site.subjects)
    free = [s for s in site.unlabelled if s not in known]
    tested = set(site.fold.test["person"]) - set(site.fold.train["person"])
    people = persons(site.fold, free)
    if found := sum(p in tested for p in people):
        raise SiteError(f"{found} test subjects stand among those to learn from.")
    return [*site.subjects, *free] if len(set(people)) >= site.policy.minimum_cell else site.subjects


def of(fold: Fold) -> list[str]:
    """Names of the subjects without rows in ``fold``, sorted."""
    known = pl.concat([side.select("subject") for side in (fold.train, fold.test)]).unique()
    tested = fold.test.filter(~pl.col("person").is_in(fold.train["person"].unique().implode())).select("person")
    left = _people(fold).join(known, on="subject", how="anti").join(tested.unique(), on="person", how="anti")
    return sorted(left.join(_some(fold), on="subject", how="semi")["subject"])


def measured(fold: Fold, subjects: Sequence[str]) -> int:
    """How many of ``subjects`` have any modality."""
    return len(set(subjects) & set(_some(fold)["subject"]))


def _some(fold: Fold) -> pl.DataFrame:
    """Subjects of the study with any modality."""
    presence = fold.study.presence()
    kinds = [m for m in fold.study.modalities if m in presence.columns]
    there = presence.filter(pl.any_horizontal(kinds)) if kinds else presence.clear()
    return there.select(pl.col("subject").cast(pl.String))


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


def few(fold: Fold, sites: Mapping[str, Sequence[str]], share: float, seed: int = 0) -> Fold:
    """``fold`` where only ``share`` of the training persons of each site keep their responses: the others have none.

    A rehearsal of sites that measured many samples and tested treatments on few. The test rows stay as they are.

    Raises
    ------
    ValueError
        ``share`` is not above 0, or is above 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"responses should be above 0 and at most 1, the share that keeps them; found {share:g}.")
    kept: list[str] = []
    for subjects in sites.values():
        own = fold.train.filter(pl.col("subject").is_in(pl.Series(list(subjects), dtype=pl.String).implode()))
        order = sorted(own["person"].unique(), key=lambda p: hashlib.sha256(f"{seed}\x1ffew\x1f{p}".encode()).digest())
        kept += order[: max(round(share * len(order)), 1)]
    of_sites = pl.Series([s for subjects in sites.values() for s in subjects], dtype=pl.String).implode()
    stays = pl.col("person").is_in(pl.Series(kept, dtype=pl.String).implode()) | ~pl.col("subject").is_in(of_sites)
    return fold if share == 1 else replace(fold, train=fold.train.filter(stays))
