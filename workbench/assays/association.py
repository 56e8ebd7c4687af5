"""Which features of a sample go with its response to a compound? Every treatment x every feature, with covariates.

For each treatment over the samples it was measured on, and each feature alone:

    response = intercept + covariates + beta x feature + error,       t = beta / se,  df = n - rank - 1

the model of pharmacogenomic screens (Iorio et al. 2016, Cell 166:740-754), with tissue and microsatellite instability
as covariates and, where asked, the sample's general level of drug sensitivity (Geeleher et al. 2016, Genome Biol.
17:190). An association is not a cause, and q counts tests, not samples that hang together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from workbench.assays import _regressions
from workbench.assays._significance import benjamini_hochberg, t_tails
from workbench.text import nearest

CALLS = 9  # a modality of at most so many different whole numbers holds calls (0/1, -1/0/1): 0 is "nothing there"
CODED = ("treatment", "modality", "feature", "why")


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes
    ----------
    table : one row per pair that was tested:
        treatment, modality, feature
        n : samples; carriers : samples with a call other than 0 (null for measured features); df
        beta, se : change of the response, in ``unit``, per unit of the feature
        beta_sd : the same per standard deviation of the feature over all samples of its modality
        cohen_d : beta over the residual sd of the response (calls only): the adjusted difference in sd
        partial_r : correlation of response and feature once the covariates are taken from both
        t, p : two-sided; q_modality, q : Benjamini-Hochberg over the modality, and over everything here
        why : null, or the reason why the numbers are null
    left_out : treatment (null: all of them), modality (null: all), what, n : pairs or samples that were not tested
    endpoint, unit : what responded, in which unit
    covariates : names of the columns that every regression had beside the intercept
    collinear : covariates that the others already say, and that were dropped
    units : modality -> unit of its features
    recomputed : pairs that were computed again because digits had been lost
    """

    table: pl.DataFrame
    left_out: pl.DataFrame
    endpoint: str
    unit: str
    covariates: list[str]
    collinear: list[str]
    units: dict[str, str] = field(default_factory=dict)
    recomputed: int = 0

    def top(self, n: int = 20, *, q: float = 1.0, **only: str | Sequence[str]) -> pl.DataFrame:
        """The ``n`` pairs of smallest p with ``q`` at most q; ``only``: treatment=, modality=, feature= to look at."""
        return top(self.table, n, q=q, **only)


def top(table: pl.DataFrame, n: int = 20, *, q: float = 1.0, **only: str | Sequence[str]) -> pl.DataFrame:
    """The ``n`` rows of a scan's table of smallest p (ties by \\|t\\|), of those with ``q`` at most q.

    Parameters
    ----------
    only : treatment, modality or feature: a name or several; an unknown name raises KeyError with the nearest
    """
    for column, names in only.items():
        if column not in CODED[:3]:
            raise KeyError(f"expected treatment, modality or feature, found {column!r}.{nearest(column, CODED[:3])}")
        asked = [names] if isinstance(names, str) else list(names)
        known = table[column].cast(pl.String).unique().to_list()
        for name in asked:
            if name not in known:
                raise KeyError(f"no {column} {name!r} was tested.{nearest(name, known)}")
        table = table.filter(pl.col(column).cast(pl.String).is_in(asked))
    kept = table.filter(pl.col("p").is_not_null() & (pl.col("q") <= q))
    return kept.sort([pl.col("p"), -pl.col("t").abs()]).head(n)


def scan(
    study: Any,
    endpoint: str = "ln_ic50",
    *,
    modalities: Iterable[str] | None = None,
    covariates: Sequence[str] | None = None,
    general_level: bool = False,
    treatments: Iterable[str] | None = None,
    carriers: int = 5,
    rows: int = 20,
    say: Callable[[float, str], None] | None = None,
) -> Scan:
    """Scan a study's treatments against its subject modalities.

    Parameters
    ----------
    study : a ``Study``; replicate rows of a pair are averaged, censored values are taken as they stand
    modalities : subject modalities (default: all); cell-level ones have no value per subject and are refused
    covariates : columns of ``study.subjects``; text becomes dummies (the most frequent value is the reference), numbers
        stay; default: tissue and msi, of those that are there and vary. Subjects with a gap in one are left out
    general_level : also the subject's mean z-scored response to all *other* treatments
    treatments : default all
    carriers : a call needs this many carriers, and as many without, among a treatment's samples
    rows : a treatment needs this many samples
    say : (fraction done, message)

    Raises
    ------
    KeyError, ValueError
        An unknown endpoint, modality, treatment or covariate; the message names the nearest.
    """
    frame = study.outcomes.filter(pl.col("endpoint") == endpoint)
    if frame.is_empty():
        known = study.rows["endpoint"].unique().sort().to_list()
        raise KeyError(f"study {study.name!r} has no endpoint {endpoint!r}.{nearest(endpoint, known)} It has: {known}.")
    names = frame["treatment"].unique().sort().to_list()
    if treatments is not None:
        asked = list(treatments)
        for name in asked:
            if name not in names:
                raise KeyError(f"no {endpoint} of treatment {name!r}.{nearest(name, names)}")
        names = asked if not general_level else names
    wide = frame.filter(pl.col("treatment").is_in(names)).pivot(
        "treatment", index="subject", values="value", aggregate_function="mean"
    )
    subjects = wide["subject"].to_list()
    y = wide.select(names).to_numpy().astype(np.float64)
    about = study.subjects.filter(pl.col("subject").is_in(subjects))
    about = wide.select("subject").join(about, on="subject", how="left", maintain_order="left")
    columns = _default_covariates(about) if covariates is None else list(covariates)
    design, labels, complete = dummies(about, columns)
    left_out: list[tuple[str | None, str | None, str, int]] = [
        (None, None, "samples with a gap in a covariate", int((~complete).sum()))
    ]
    own = (_general_level(y),) if general_level else ()
    blocks = {}
    for name in study.modalities if modalities is None else modalities:
        data = study.modality(name)
        if data.uns.get("axis") == "subject":
            values = data.X.toarray() if hasattr(data.X, "toarray") else np.asarray(data.X)
            blocks[name] = (list(data.obs_names), list(data.var_names), values, str(data.uns["unit"]))
        elif modalities is not None:
            raise ValueError(f"modality {name!r}: expected one value per subject, found axis {data.uns.get('axis')!r}.")
    if not blocks:
        raise ValueError(f"study {study.name!r} has no modality of subjects; it has {study.modalities}.")
    keep = slice(None) if treatments is None or not general_level else [names.index(t) for t in treatments]
    chosen = names if isinstance(keep, slice) else [names[i] for i in keep]
    tables, units, recomputed, collinear = [], {}, 0, set(range(len(labels)))
    for i, (name, (rows_of, features, values, unit)) in enumerate(blocks.items()):
        if say:
            say(i / len(blocks), f"{name}: {len(chosen)} treatments x {len(features)} features")
        at = {s: j for j, s in enumerate(rows_of)}
        here = np.array([j for j, s in enumerate(subjects) if complete[j] and s in at], dtype=np.int64)
        x = values[[at[subjects[j]] for j in here]]
        part, lost, again, spare = _modality(
            y[here][:, keep], x, design[here], tuple(z[here][:, keep] for z in own), carriers, rows
        )
        tables.append(_frame(part, name, chosen, features))
        left_out += [(chosen[d] if d >= 0 else None, name, what, n) for d, what, n in lost]
        recomputed, units[name], collinear = recomputed + again, unit, collinear & set(spare)
    table = pl.concat(tables)
    table = table.with_columns(pl.Series("q", benjamini_hochberg(table["p"].to_numpy())).fill_nan(None))
    schema = {"treatment": pl.String, "modality": pl.String, "what": pl.String, "n": pl.Int64}
    if say:
        say(1.0, f"{table.height:,} pairs")
    return Scan(
        table.select(*[c for c in table.columns if c != "why"], "why"),
        pl.DataFrame([r for r in left_out if r[3]], schema=schema, orient="row"),
        endpoint,
        frame["unit"][0],
        [*labels, *(["general level"] if general_level else [])],
        [labels[j] for j in sorted(collinear)],
        units,
        recomputed,
    )


def scan_arrays(
    y: np.ndarray,
    x: np.ndarray,
    covariates: np.ndarray | None = None,
    *,
    own: tuple[np.ndarray, ...] = (),
    carriers: int = 5,
    rows: int = 20,
) -> pl.DataFrame:
    """The same on bare arrays: y (n, D) and x (n, p), both with NaN where missing; covariates (n, c), finite.

    The table's treatment and feature are column numbers as text, its modality is "x".
    """
    c = np.zeros((len(y), 0)) if covariates is None else covariates
    part, *_ = _modality(np.asarray(y, dtype=np.float64), np.asarray(x), c, own, carriers, rows)
    table = _frame(part, "x", [str(d) for d in range(y.shape[1])], [str(j) for j in range(x.shape[1])])
    return table.with_columns(pl.col("q_modality").alias("q")).select(
        *[c for c in table.columns if c != "why"], "q", "why"
    )


def dummies(about: pl.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Design (n, c) of ``columns``, the columns' labels, and which rows have no gap (gaps are 0 in the design)."""
    parts, labels, complete = [np.zeros((about.height, 0))], [], np.ones(about.height, dtype=bool)
    for column in columns:
        if column not in about.columns:
            raise KeyError(
                f"subjects have no column {column!r}.{nearest(column, about.columns)} They have: {about.columns}."
            )
        values = about[column]
        if values.dtype.is_numeric():
            numbers = values.cast(pl.Float64).to_numpy().copy()
            complete &= np.isfinite(numbers)
            parts.append(np.nan_to_num(numbers, nan=0.0, posinf=0.0, neginf=0.0)[:, None])
            labels.append(column)
            continue
        text = values.cast(pl.String)
        complete &= text.is_not_null().to_numpy()
        counts = text.drop_nulls().value_counts(sort=True).sort("count", text.name, descending=[True, False])
        levels = counts[text.name].to_list()[1:]
        parts += [(text == level).fill_null(False).to_numpy().astype(np.float64)[:, None] for level in levels]
        labels += [f"{column} = {level}" for level in levels]
    return np.hstack(parts), labels, complete


def _default_covariates(about: pl.DataFrame) -> list[str]:
    return [c for c in ("tissue", "msi") if c in about.columns and about[c].drop_nulls().n_unique() > 1]


def _general_level(y: np.ndarray) -> np.ndarray:
    """Mean z-scored response of each row to all columns but this one: (n, D), NaN where there is no other."""
    with np.errstate(invalid="ignore", divide="ignore"):
        there = np.isfinite(y)
        n = there.sum(0)
        filled = np.where(there, y, 0.0)
        mean = filled.sum(0) / n
        sd = np.sqrt((np.where(there, y - mean, 0.0) ** 2).sum(0) / n)
        z = np.where(there & (sd > 0), (y - mean) / sd, 0.0)
        return (z.sum(1, keepdims=True) - z) / np.where((c := there.sum(1, keepdims=True) - there) > 0, c, np.nan)


def _modality(
    y: np.ndarray, x: np.ndarray, c: np.ndarray, own: tuple[np.ndarray, ...], carriers: int, rows: int
) -> tuple[dict[str, np.ndarray], list[tuple[int, str, int]], int, list[int]]:
    """Long arrays of the pairs tested, what was left out (treatment number, what, n), pairs recomputed, collinear."""
    gaps = np.isnan(x) if x.dtype.kind == "f" else np.zeros((1, x.shape[1]), dtype=bool)
    patterns, which = (
        np.unique(gaps, axis=1, return_inverse=True) if gaps.any() else (gaps[:, :1], np.zeros(x.shape[1], dtype=int))
    )
    calls = _are_calls(x)
    parts, lost, again = [], [], 0
    spare: list[int] = []
    few = np.zeros(y.shape[1], dtype=np.int64)
    for k in range(patterns.shape[1]):  # features with the same gaps share their rows
        columns = np.flatnonzero(which.ravel() == k)
        there = ~patterns[:, k] if gaps.any() else np.ones(len(y), dtype=bool)
        xk, yk, ck, ok = x[there][:, columns], y[there], c[there], tuple(z[there] for z in own)
        mask = np.isfinite(yk) if not ok else np.isfinite(yk) & np.logical_and.reduce([np.isfinite(z) for z in ok])
        n = mask.sum(0)
        enough = n >= rows
        wanted = np.broadcast_to(enough[:, None], (len(n), len(columns)))
        carried = None
        if calls:
            carried = (mask.T.astype(np.float32) @ (xk != 0).astype(np.float32)).astype(np.int32)
            common = (carried >= carriers) & (n[:, None] - carried >= carriers)
            few += (wanted & ~common).sum(1)
            wanted = wanted & common
        lost += [(int(d), f"features, of fewer than {rows} samples", len(columns)) for d in np.flatnonzero(~enough)]
        r = _regressions.fit(yk, xk, ck, ok, wanted if calls or not enough.all() else None)
        spread = xk.std(0, dtype=np.float64)
        parts.append(_long(r, wanted, columns, spread, carried))
        again += r.recomputed
        spare = r.dropped if not k else [j for j in spare if j in r.dropped]
    lost += [
        (int(d), f"features with fewer than {carriers} carriers or non-carriers", int(few[d]))
        for d in np.flatnonzero(few)
    ]
    joined = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
    return joined, lost, again, spare


def _are_calls(x: np.ndarray) -> bool:
    """Few different whole numbers, -4 to 4."""
    if x.dtype.kind == "f" and not np.array_equal(x[: min(len(x), 20)], np.rint(x[: min(len(x), 20)]), equal_nan=True):
        return False  # soon said of measured values
    found = np.unique(x)
    found = found[~np.isnan(found)] if found.dtype.kind == "f" else found
    return len(found) <= CALLS and bool((np.rint(found) == found).all() and (np.abs(found.astype(float)) <= 4).all())


def _long(
    r: _regressions.Regressions, wanted: np.ndarray, columns: np.ndarray, spread: np.ndarray, carried: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Pairs wanted as long arrays; reasons as codes 0 none, 1 constant, 2 no freedom, 3 nothing left to explain."""
    at = np.flatnonzero(wanted)
    d, j = np.divmod(at, len(columns))

    def take(a: np.ndarray) -> np.ndarray:
        return a.ravel() if len(at) == a.size else a.ravel()[at]

    t, df = take(r.t), r.df[d].astype(np.float64)
    why = np.where(take(r.constant), 1, np.where(df <= 0, 2, np.where(np.isnan(t), 3, 0))).astype(np.uint8)
    beta = take(r.beta)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "treatment": d.astype(np.uint32),
            "feature": columns[j].astype(np.uint32),
            "n": r.n[d].astype(np.int32),
            "carriers": take(carried) if carried is not None else np.full(len(t), -1, dtype=np.int32),
            "df": r.df[d].astype(np.int32),
            "beta": beta,
            "se": take(r.se),
            "beta_sd": beta * spread[j],
            "cohen_d": beta / take(r.residual_sd) if carried is not None else np.full(len(t), np.nan),
            "partial_r": t / np.sqrt(t * t + df),
            "t": t,
            "p": t_tails(t, df),
            "why": why,
        }


REASONS = [
    "the feature is constant once the covariates are taken away",
    "no degree of freedom is left beside the covariates",
    "nothing of the response is left to explain, or the feature explains all of it",
]


def _frame(part: dict[str, np.ndarray], modality: str, treatments: list[str], features: list[str]) -> pl.DataFrame:
    """Long arrays as a frame, names as codes, with q within the modality."""
    numbers = {k: v for k, v in part.items() if k not in ("treatment", "feature", "why")}
    frame = pl.DataFrame(
        {
            "treatment": _named(part["treatment"], treatments),
            "modality": pl.Series([modality], dtype=pl.Categorical).new_from_index(0, len(part["t"])),
            "feature": _named(part["feature"], features),
            **numbers,
            "q_modality": benjamini_hochberg(part["p"]),
            "why": _named(part["why"], ["", *REASONS]),
        }
    )
    floats = [c for c, kind in frame.schema.items() if kind == pl.Float64]
    return frame.with_columns(
        pl.col(floats).fill_nan(None),
        pl.when(pl.col("carriers") >= 0).then("carriers"),
        pl.when(pl.col("why").cast(pl.String) != "").then("why"),
    )


def _named(codes: np.ndarray, names: list[str]) -> pl.Series:
    return pl.Series(names, dtype=pl.Categorical).gather(codes)
