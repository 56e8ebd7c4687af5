"""The rows of a site that an answer may rest on, as matrices in the names that the sites agreed on (``harmonise``).

Every ask about features and treatments carries what was agreed, so that a site that came back, or one whose process is
new, needs to remember nothing. A treatment or feature of which the site has fewer values than its policy's smallest
cell is left out of every answer alike: its sums would tell single values. So is a treatment with so few in one part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench import units
from workbench.federated.messages import Ask
from workbench.federated.pretraining import unlabelled
from workbench.federated.site import Site, SiteError
from workbench.nn.scaling import standardise
from workbench.predictors._pairs import matrix


@dataclass(frozen=True)
class Rows:
    """What one site has: n training subjects, f agreed features, t agreed treatments.

    Attributes
    ----------
    quantity : what the sums are about, for the site's policy
    subjects : names, sorted; where the ask says ``unlabelled``, those without responses after them; never sent
    groups : what is left out together: the person, or the tissue where tissues are unseen
    x : (n, f) float32, NaN where a feature is not known
    y : (n, t) float64 in the agreed unit, NaN where not measured; None where the ask names no treatments
    count, behind : how many training rows are behind it, and which, where they are not all (see ``asked.Answer``)
    """

    quantity: str
    subjects: list[str]
    groups: list[str]
    x: np.ndarray
    y: np.ndarray | None
    count: int
    behind: np.ndarray | None

    def parts(self, parts: int, seed: int) -> np.ndarray:
        """Inner part (0 .. parts-1) of each subject (n,), by a hash of its group's name: no site needs the others'."""
        return dealt(self.groups, parts, seed)


def dealt(groups: Sequence[str], parts: int, seed: int) -> np.ndarray:
    """Part (0 .. parts-1) of each group name (n,)."""
    if parts < 1:
        raise SiteError(f"parts should be at least 1, found {parts}.")
    named = [hashlib.sha256(f"{seed}\x1f{group}".encode()).digest()[:8] for group in groups]
    return np.array([int.from_bytes(d, "big") % parts for d in named], dtype=np.int64)


def texts(ask: Ask, key: str) -> list[str]:
    """Value ``key`` of the ask as a list of texts; [] where it has none."""
    value = ask.values.get(key, [])
    if not isinstance(value, list):
        raise SiteError(f"{key} should be a list of names, found {type(value).__name__}.")
    return [str(v) for v in value]


def number(ask: Ask, key: str, default: float | None = None) -> float:
    """Value ``key`` of the ask as a number."""
    value = ask.values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SiteError(f"{key} should be a number, found {type(value).__name__}.")
    return value


def features(site: Site, modality: str) -> tuple[list[str], str]:
    """Names of the features of a modality at this site, and its unit."""
    from workbench import modalities

    if modality not in site.fold.study.modalities:
        raise SiteError(f"this site has no modality {modality!r}; it has {site.fold.study.modalities}.")
    block = modalities.read(site.fold.study, modality, endpoint=site.fold.endpoint)
    return block.features, block.unit


def digest(names: Sequence[str]) -> str:
    """SHA-256 of names in their order."""
    return hashlib.sha256(json.dumps(list(names), ensure_ascii=False).encode()).hexdigest()


def of(site: Site, ask: Ask) -> Rows:
    """The site's rows as the ask's agreed names put them; kept at the site until another agreement is asked for."""
    keys = ("parts", "seed", "sites", "modality", "feature_unit", "feature_digest", "features", "endpoint", "unit",
            "treatments", "alias_from", "alias_to", "unlabelled")  # fmt: skip
    agreed = digest([json.dumps([k, ask.values.get(k)]) for k in keys])
    kept = site.memory.get("agreed rows")
    if kept is None or kept[0] != agreed:
        kept = (agreed, _read(site, ask))
        site.memory["agreed rows"] = kept
    return kept[1]


def _read(site: Site, ask: Ask) -> Rows:
    if (asked := texts(ask, "sites")) and site.name not in asked:
        raise SiteError("this site is not among those whose rows the sums rest on.")
    modality = str(ask.values.get("modality", "expression"))
    endpoint = str(ask.values.get("endpoint", site.fold.endpoint))
    if endpoint != site.fold.endpoint:
        raise SiteError(f"this site's rows are of endpoint {site.fold.endpoint!r}; asked for {endpoint!r}.")
    own, found = features(site, modality)
    if found != (unit := ask.values.get("feature_unit", found)):
        raise SiteError(f"{modality!r} is measured in {found!r} here; asked for {unit!r}.")
    wanted = texts(ask, "features") or own
    told = ask.values.get("feature_digest")
    if told is not None and digest(wanted) != told:
        raise SiteError(f"the features of {modality!r} here are not those agreed on; harmonise again.")
    lacking = set(wanted) - set(own)
    if lacking:
        raise SiteError(f"this site lacks {len(lacking)} of the {len(wanted)} features of {modality!r} asked for.")
    more = bool(ask.values.get("unlabelled"))
    everyone = unlabelled.everyone(site) if more else site.subjects
    values, there, _ = site.block(modality, everyone, wanted)
    subjects = [s for s, t in zip(everyone, there, strict=True) if t]
    train = site.fold.train.filter(pl.col("subject").is_in(pl.Series(subjects, dtype=pl.String).implode()))
    key = "tissue" if site.fold.group == "tissue" else "person"
    group = dict(zip(subjects, unlabelled.persons(site.fold, subjects), strict=True))  # also of who has no responses
    group |= dict(site.fold.train.select("subject", key).unique("subject").iter_rows())
    y = None
    if names := texts(ask, "treatments"):
        alias = dict(zip(texts(ask, "alias_from"), texts(ask, "alias_to"), strict=True))
        train = train.with_columns(pl.col("treatment").replace(alias))
        train = train.filter(pl.col("treatment").is_in(pl.Series(names).implode()))
        parts, seed = int(number(ask, "parts", 1)), int(number(ask, "seed", 0))
        part = dict(zip(subjects, dealt([str(group[s]) for s in subjects], parts, seed).tolist(), strict=True))
        train = train.with_columns(part=pl.col("subject").replace_strict(part, return_dtype=pl.Int64))
        few = pl.len().over("treatment", "part").min().over("treatment") < site.policy.minimum_cell
        train = train.filter(~few)
        train = train.with_columns(value=converted(train["value"].to_numpy(), site.fold.unit, ask))
        y = matrix(train, subjects, names)
    x = values[there]
    rare = np.isfinite(x).sum(0) < site.policy.minimum_cell
    if rare.any():
        x[:, rare] = np.nan
    behind = None if train.height == site.fold.train.height else train["row"].to_numpy()
    groups = [str(group[s]) for s in subjects]
    quantity = f"agreed rows of {modality}{', with subjects without responses' * more}"
    return Rows(quantity, subjects, groups, x, y, train.height, behind)


def converted(value: np.ndarray, own: str, ask: Ask) -> np.ndarray:
    """Values in the ask's ``unit``; a SiteError where they cannot be told in it."""
    wanted = str(ask.values.get("unit", own))
    if wanted == own:
        return value
    try:
        return units.convert(value.astype(np.float64), own, wanted)
    except units.UnitError as error:
        raise SiteError(f"the endpoint is in {own!r} here and cannot be told in {wanted!r}.") from error


def standardised(rows: Rows, ask: Ask) -> np.ndarray:
    """(x - mean) / sd with the shared ``mean`` and ``sd`` (f,) of the ask, 0 where a value is missing: float64."""
    mean, sd = (np.asarray(ask.arrays[k], dtype=np.float64) for k in ("mean", "sd"))
    if mean.shape != (rows.x.shape[1],) or sd.shape != mean.shape:
        raise SiteError(f"mean and sd should have {rows.x.shape[1]} numbers, found {mean.shape} and {sd.shape}.")
    return standardise(rows.x, mean, sd).astype(np.float64, copy=False)


def matrix_of(rows: Rows, ask: Ask) -> np.ndarray:
    """What the ask's ``of`` names, as float64: "features" (n, f) or "endpoint" (n, t)."""
    what = ask.values.get("of", "features")
    if what == "endpoint" and rows.y is not None:
        return rows.y
    if what == "features":
        return rows.x.astype(np.float64)
    raise SiteError(f'of should be "features", or "endpoint" with treatments; found {what!r}.')


def counted(values: np.ndarray, low: np.ndarray, high: np.ndarray, bins: int) -> np.ndarray:
    """Numbers of values (n, g) below, in each of ``bins`` equal bins from ``low`` to ``high`` (g,), above: (g, bins+2).

    A bin holds its lower edge; a NaN is nowhere.
    """
    low, high, groups = low.astype(np.float64), high.astype(np.float64), values.shape[1]
    if low.shape != (groups,) or high.shape != low.shape or not (high > low).all():
        raise SiteError(f"low and high should have {groups} numbers each, low below high.")
    if not 1 <= bins <= 4096:
        raise SiteError(f"bins should be 1 to 4,096, found {bins}.")
    there = np.isfinite(values)
    at = np.floor((np.where(there, values, low) - low) / (high - low) * bins)
    at = np.clip(at, -1, bins).astype(np.int64) + 1
    flat = (np.arange(groups) * (bins + 2) + at)[there]
    return np.bincount(flat, minlength=groups * (bins + 2)).reshape(groups, bins + 2)


def merged(counts: np.ndarray, smallest: int) -> np.ndarray:
    """Counts (g, b) of which none lies between 0 and ``smallest``: a smaller one is told with the next ones above it.

    What is left at the end goes to the last that is told; a row whose sum is too small is told as 0.
    """
    out = np.zeros_like(counts)
    carried = np.zeros(len(counts), dtype=counts.dtype)
    last = np.zeros(len(counts), dtype=np.int64)
    for j in range(counts.shape[1]):
        carried += counts[:, j]
        told = carried >= max(smallest, 1)
        out[told, j], last[told] = carried[told], j
        carried[told] = 0
    some = out.sum(1) > 0
    out[some, last[some]] += carried[some]
    return out


def most_axes(site: Site, subjects: int) -> int:
    """Most axes for which a site with so many training subjects answers: fewer than its policy's number for each."""
    return max(int(np.ceil(site.policy.axes_per_subject * subjects)) - 1, 0)


def enough_subjects(site: Site, rows: Rows, axes: int) -> None:
    """Raise SiteError unless there are more subjects than axes: as many would show the span of the rows.

    The site's policy says how many a subject; more than 1 is for sums that nobody sees but together.
    """
    if axes > most_axes(site, len(rows.subjects)):
        raise SiteError(f"{axes} axes would tell too much of this site's rows; its policy allows fewer.")


def projected(site: Site, rows: Rows, ask: Ask) -> np.ndarray:
    """Coordinates of the subjects on the ask's ``axes`` (f, k), and a column of ones: (n, k + 1)."""
    axes = np.asarray(ask.arrays["axes"], dtype=np.float64)
    if axes.ndim != 2 or len(axes) != rows.x.shape[1]:
        raise SiteError(f"axes should be ({rows.x.shape[1]}, k), found {axes.shape}.")
    enough_subjects(site, rows, axes.shape[1])
    mark = hashlib.sha256(b"".join(np.ascontiguousarray(ask.arrays[k]).tobytes() for k in ("axes", "mean", "sd")))
    kept = site.memory.get("projected rows")
    if kept is None or kept[0] != mark.digest() or kept[1] is not rows:
        z = standardised(rows, ask) @ axes
        kept = (mark.digest(), rows, np.column_stack([z, np.ones(len(z))]))
        site.memory["projected rows"] = kept
        site.memory.setdefault("views", {})["projected rows"] = z  # what a check for rows compares a message with
    return kept[2]


@dataclass(frozen=True)
class Columns:
    """Which rows each of c columns of a system rests on: treatment (c,), part left out (c,; -1 none)."""

    treatment: np.ndarray
    part: np.ndarray

    @classmethod
    def of(cls, ask: Ask, rows: Rows, most: int) -> Columns:
        """From the ask; more than ``most`` columns of one treatment and part would give its sums away."""
        treatment, part = (np.asarray(ask.arrays[k], dtype=np.int64) for k in ("treatment", "part"))
        t = 0 if rows.y is None else rows.y.shape[1]
        if treatment.ndim != 1 or part.shape != treatment.shape or ((treatment < 0) | (treatment >= t)).any():
            raise SiteError(f"treatment and part should be numbers of equal length, treatments below {t}.")
        found = np.unique(np.stack([treatment, part]), axis=1, return_counts=True)[1].max(initial=0)
        if found > most:
            raise SiteError(
                f"{found} directions for one treatment are asked at once; this site answers at most {most}."
            )
        return cls(treatment, part)

    def teaching(self, rows: Rows, part: np.ndarray, at: slice) -> np.ndarray:
        """Is row i of those that column j of ``at`` learns from? Bool (n, c)."""
        assert rows.y is not None
        measured = np.isfinite(rows.y[:, self.treatment[at]])
        return measured & (part[:, None] != self.part[at])

    def left_out(self, rows: Rows, part: np.ndarray, at: slice) -> np.ndarray:
        """Is row i left out of column j of ``at``, and measured? Bool (n, c)."""
        assert rows.y is not None
        return np.isfinite(rows.y[:, self.treatment[at]]) & (part[:, None] == self.part[at])

    def slices(self, size: int = 2048) -> list[slice]:
        """The columns a few at a time, so that n by c numbers fit into memory."""
        return [slice(i, i + size) for i in range(0, len(self.treatment), size)]
