"""Intervals by kind of row: each kind is calibrated on rows of its own, and a small one on those of a larger.

``by = ("tissue", "treatment")`` looks for the calibration rows of a row's tissue and treatment, then of its treatment,
then of all: keys fall away from the left until at least ``fewest`` groups are there. Within a kind that is large enough
coverage holds for that kind (Vovk 2012, Mondrian conformal predictors); a small kind that fell back is only promised
what holds on average over the larger one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from workbench.trust._left_out import CalibrationError
from workbench.trust._quantiles import effective, least_groups, quantile, upper

ALL = "all rows"
MOST_OF = 0.8  # a kind that has so many of all groups is not small, however few they are


def intervals(
    rows: pl.DataFrame,
    pairs: pl.DataFrame,
    centres: np.ndarray,
    *,
    level: float,
    by: Sequence[str],
    fewest: int,
    grouped: bool = False,
    weighted: bool = False,
) -> pl.DataFrame:
    """Lower and upper end for each pair.

    Parameters
    ----------
    rows : calibration rows: the keys of ``by``, group, part, score (|residual| / difficulty), weight
    pairs : rows to come: the keys of ``by``, scale (their difficulty) and weight
    centres : (m,) what one predictor says of the pairs, or (m, parts) for CV+
    fewest : groups that a kind needs to be calibrated by itself, or four in five of all there are; never fewer than
        make a finite interval
    grouped : every group weighs alike in a kind, however many rows it has
    weighted : weights are density ratios: effective groups are counted, and where even all rows are too few the
        interval is infinite rather than wrong

    Returns
    -------
    frame low, high, kind (keys of the calibration rows used), groups (how many of them, effective ones if weighted)

    Raises
    ------
    CalibrationError
        There are fewer groups than a finite interval takes.
    """
    least = least_groups(level)
    known = rows["group"].n_unique()
    columns = {c: rows[c].to_numpy() for c in ("score", "part", "weight")}
    columns["group"] = np.unique(rows["group"].to_numpy(), return_inverse=True)[1]
    new = {c: pairs[c].to_numpy() for c in ("scale", "weight")}
    if known < least:
        raise CalibrationError(
            f"a {level:.0%} interval takes at least {least} calibration groups; found {known}. "
            "Hold smaller groups out, take more of them, or ask for a lower level."
        )
    # where there are few groups in all (fifteen tissues), a coarser kind has hardly more of them than a finer one
    fewest = max(min(fewest, int(np.ceil(MOST_OF * known))), least)
    m = pairs.height
    out = {"low": np.full(m, -np.inf), "high": np.full(m, np.inf), "groups": np.zeros(m)}
    kind = np.full(m, ALL, dtype=object)
    open_ = np.ones(m, dtype=bool)  # pairs that have no interval yet
    chain = [list(by[i:]) for i in range(len(by))] + [[]]
    for keys in chain:
        mine, theirs = _codes(rows, pairs, keys)
        order = np.argsort(mine, kind="stable")
        ends = np.searchsorted(mine[order], np.arange(mine.max() + 2))
        for code in np.unique(theirs[open_ & (theirs >= 0)]):
            of = order[ends[code] : ends[code + 1]]
            here = np.flatnonzero(open_ & (theirs == code))
            weights, groups = _weights(columns, of, grouped, weighted)
            if groups < fewest and not (not keys and not weighted):
                continue
            out["low"][here], out["high"][here] = _ends(columns, of, weights, new, here, centres, level)
            out["groups"][here] = groups
            kind[here] = " x ".join(str(rows[key][int(of[0])]) for key in keys) or ALL
            open_[here] = False
        if not keys and open_.any() and weighted:
            out["groups"][open_] = _weights(columns, np.arange(rows.height), grouped, True)[1]
            kind[open_] = "none: too few effective groups"
    return pl.DataFrame(out).with_columns(pl.Series("kind", kind.tolist(), dtype=pl.String))


def _ends(columns, of, weights, pairs, here, centres, level) -> tuple[np.ndarray, np.ndarray]:
    score, part = columns["score"][of], columns["part"][of]
    scale, new, middle = pairs["scale"][here], pairs["weight"][here], centres[here]
    if middle.ndim == 1:
        half = scale * quantile(score, weights, level, new)
        return middle - half, middle + half
    need = level * (weights.sum() + new)
    high = upper(middle, scale, score, part, weights, need)
    return -upper(-middle, scale, score, part, weights, need), high


def _weights(columns: dict[str, np.ndarray], of: np.ndarray, grouped: bool, weighted: bool):
    """Weights of the chosen rows, and how many groups they are."""
    weight = columns["weight"][of]
    _, code, count = np.unique(columns["group"][of], return_inverse=True, return_counts=True)
    by_group = np.bincount(code, weight) / count
    if grouped:
        weight = weight / count[code]
    return weight, effective(by_group) if weighted else float(len(count))


def _codes(rows: pl.DataFrame, pairs: pl.DataFrame, keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Number of the kind of each calibration row and of each pair, -1 where no calibration row is of its kind."""
    if not keys:
        return np.zeros(rows.height, dtype=np.int64), np.zeros(pairs.height, dtype=np.int64)
    mine, theirs = (f.select(pl.col(k).cast(pl.String) for k in keys) for f in (rows, pairs))
    kinds = mine.unique(maintain_order=True).with_row_index("code")
    codes = [f.join(kinds, on=keys, how="left", maintain_order="left")["code"].cast(pl.Int64) for f in (mine, theirs)]
    return codes[0].to_numpy(), codes[1].fill_null(-1).to_numpy()
