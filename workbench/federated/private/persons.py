"""A site's training rows with one row a person: what sums under differential privacy rest on.

The samples of one person are averaged, and so are the responses of one person to one treatment. A person's being there
or not then changes a sum by its own row and nothing else. Nothing here may depend on how many persons there are: rules
that leave out what few have (``exact.rows``) would let one person's leaving take others along.

A row is clipped to a length, and that length is the sensitivity:

    clip(v, C) = v min(1, C / |v|)      |clip(v, C)| <= C
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench.federated.asked import Answer
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask
from workbench.federated.private import keyed
from workbench.federated.private.accounting import Release
from workbench.federated.secure import conversation
from workbench.federated.site import Site, SiteError
from workbench.predictors._pairs import matrix


@dataclass(frozen=True)
class Persons:
    """n persons, f agreed features, t agreed treatments.

    ``x`` (n, f) float64, NaN where a feature is not known; ``y`` (n, t) in the agreed unit, NaN where not measured.
    """

    x: np.ndarray
    y: np.ndarray


def of(site: Site, ask: Ask) -> Persons:
    """The site's persons that have the ask's modality; kept at the site until another agreement is asked for."""
    keys = ("sites", "modality", "feature_unit", "feature_digest", "features", "endpoint", "unit",
            "treatments", "alias_from", "alias_to")  # fmt: skip
    agreed = _rows.digest([repr([k, ask.values.get(k)]) for k in keys])
    kept = site.memory.get("private persons")
    if kept is None or kept[0] != agreed:
        kept = site.memory["private persons"] = (agreed, _read(site, ask))
    return kept[1]


def _read(site: Site, ask: Ask) -> Persons:
    if (asked := _rows.texts(ask, "sites")) and site.name not in asked:
        raise SiteError("this site is not among those whose rows the sums rest on.")
    modality = str(ask.values.get("modality", "expression"))
    if (endpoint := ask.values.get("endpoint", site.fold.endpoint)) != site.fold.endpoint:
        raise SiteError(f"this site's rows are of endpoint {site.fold.endpoint!r}; asked for {endpoint!r}.")
    own, found = _rows.features(site, modality)
    if found != (unit := ask.values.get("feature_unit", found)):
        raise SiteError(f"{modality!r} is measured in {found!r} here; asked for {unit!r}.")
    wanted = _rows.texts(ask, "features") or own
    if ask.values.get("feature_digest", _rows.digest(wanted)) != _rows.digest(wanted) or not set(wanted) <= set(own):
        raise SiteError(f"the features of {modality!r} here are not those agreed on; harmonise again.")
    values, there, _ = site.block(modality, site.subjects, wanted)
    subjects = [s for s, t in zip(site.subjects, there, strict=True) if t]
    train = site.fold.train.filter(pl.col("subject").is_in(pl.Series(subjects, dtype=pl.String).implode()))
    whose = dict(train.select(pl.col("subject", "person").cast(pl.String)).unique("subject").iter_rows())
    names = sorted(set(whose.values()))
    person = np.array([names.index(whose[s]) for s in subjects], dtype=np.int64)
    x = _means(values[there].astype(np.float64), person, len(names))
    treatments = _rows.texts(ask, "treatments")
    alias = dict(zip(_rows.texts(ask, "alias_from"), _rows.texts(ask, "alias_to"), strict=True))
    train = train.with_columns(pl.col("treatment").replace(alias), subject=pl.col("person"))
    train = train.filter(pl.col("treatment").is_in(pl.Series(treatments, dtype=pl.String).implode()))
    train = train.with_columns(value=_rows.converted(train["value"].to_numpy(), site.fold.unit, ask))
    y = matrix(train, names, treatments) if treatments else np.zeros((len(names), 0))
    return Persons(x, y)


def _means(values: np.ndarray, person: np.ndarray, n: int) -> np.ndarray:
    """Means of the known values (s, f) over the samples of each person: (n, f), NaN where none is known."""
    there = np.isfinite(values)
    total, count = np.zeros((n, values.shape[1])), np.zeros((n, values.shape[1]))
    np.add.at(total, person, np.where(there, values, 0.0))
    np.add.at(count, person, there)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def clipped(rows: np.ndarray, length: float) -> np.ndarray:
    """Rows (n, f), none longer than ``length``; what is no number counts as 0."""
    rows = np.where(np.isfinite(rows), rows, 0.0)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    # a hair shorter, so that rounding cannot make one longer than the sensitivity that is charged
    return rows * np.minimum(1.0, (1 - 1e-12) * length / np.maximum(norm, 1e-300))


def length(ask: Ask, key: str) -> float:
    """Value ``key`` of the ask as a length above 0."""
    found = _rows.number(ask, key)
    if not 0 < found < np.inf:
        raise SiteError(f"{key} should be a number above 0, found {found}.")
    return float(found)


def released(site: Site, ask: Ask, sums: Mapping[str, tuple[np.ndarray, float, float]]) -> Answer:
    """The Answer with every sum under noise, and the one release they are together.

        sd_k = sensitivity_k noise / sqrt(share_k)     so that together they are one Gaussian mechanism of ``noise``

    Parameters
    ----------
    ask : its values ``noise`` (against the sensitivity) and ``honest`` (sites that share the noise; 1: none do)
    sums : {name: (exact sum, its L2 sensitivity to one person, share of 1 / noise^2)}; shares add up to 1

    In a secure sum of ``honest`` or more sites that add their share, each adds 1 / honest of the variance, so that the
    sum holds at least the stated noise. A site that works with the server can take its own share away again: the bound
    holds as long as ``honest`` sites of the sum, this one included, do not. A secure sum opens with 3 survivors, so no
    more than 3 can be counted on.

    Raises
    ------
    SiteError
        More sites are counted on than the site's policy trusts.
    """
    noise, honest = length(ask, "noise"), int(_rows.number(ask, "honest", 1))
    most = min(site.policy.honest, conversation.MINIMUM)
    if not 1 <= honest <= most:
        raise SiteError(f"noise shared among {honest} sites is refused; this site counts on {most} at most.")
    shares = sum(share for _, _, share in sums.values())
    if shares > 1 + 1e-9:
        raise SiteError(f"shares of the noise add up to {shares}, which is more than 1.")
    asked = conversation.fingerprint(Ask(ask.purpose, 0, ask.arrays, ask.values)).encode()
    exact = hashlib.sha256()
    for name, (value, sensitivity, share) in sorted(sums.items()):
        exact.update(f"{name} {value.shape} {sensitivity!r} {share!r}".encode() + np.ascontiguousarray(value).tobytes())
    out = {}
    for name, (value, sensitivity, share) in sums.items():
        source = keyed.draw(keyed.key(site), asked, exact.digest(), name.encode())
        out[name] = keyed.noisy(value, sensitivity * noise / np.sqrt(share * honest), source)
    return Answer(site.fold.train.height, out, releases=(Release(noise),), together=honest)


def along(persons: Persons, ask: Ask) -> np.ndarray:
    """Coordinates (n, k) along the ask's ``axes`` (f, k) of rows standardised by its ``mean`` and ``sd`` (f,)."""
    mean, sd, axes = (np.asarray(ask.arrays[k], dtype=np.float64) for k in ("mean", "sd", "axes"))
    f = persons.x.shape[1]
    if mean.shape != (f,) or sd.shape != (f,) or axes.ndim != 2 or len(axes) != f:
        raise SiteError(f"mean, sd and axes should be of {f} features, found {mean.shape}, {sd.shape}, {axes.shape}.")
    z = (persons.x - mean) / sd
    return np.where(np.isfinite(z), z, 0.0) @ axes


def centred(site: Site, ask: Ask) -> tuple[Persons, np.ndarray, float]:
    """The persons, rows (n, k) along the ask's ``axes`` less its ``centre`` (k,), and the ``clip`` they keep to."""
    persons, long = of(site, ask), length(ask, "clip")
    return persons, clipped(along(persons, ask) - np.asarray(ask.arrays["centre"], dtype=np.float64), long), long
