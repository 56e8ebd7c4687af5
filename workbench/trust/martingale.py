"""Measurements come in line by line: does what the intervals were calibrated on still describe them?

    p_k = (#{j : s_j > s_k} + U_k #{j : s_j = s_k}) / (number of lines so far),     j runs over all lines so far and k
    C_e <- ((1 - J) C_e + J/3 sum C) (1 + e (p_k - 1/2)),     e in {-1, 0, 1},     capital = sum C_e, 1 at the start

s is the mean of |observed - predicted| / half-width over a line's rows, so that a line counts once. While lines may be
exchanged with those before them the p are uniform and independent, the capital is a martingale, and the chance that it
ever reaches c is at most 1/c (Ville 1939): an alarm at 20 is false in at most one stream of twenty, however long it is
watched. Source: Vovk, Petej, Nouretdinov, Ahlberg, Carlsson and Gammerman 2021, Retrain or not retrain: conformal test
martingales for change-point detection (PMLR 152:191), the Simple Jumper with J = 0.01.
"""

from __future__ import annotations

import numpy as np
import polars as pl

JUMP = 0.01
ALARM = 20.0


def watch(before: pl.DataFrame, incoming: pl.DataFrame, seed: int = 0, alarm: float = ALARM) -> pl.DataFrame:
    """The capital after each incoming line.

    Parameters
    ----------
    before : unsealed PREDICTIONS of lines on which the intervals were found to hold
    incoming : the same of lines measured since, in the order in which they came
    seed : of the U that break ties

    Returns
    -------
    frame subject, rows, score, p, capital, alarm (True once the capital has reached ``alarm``)

    Raises
    ------
    ValueError
        A side has no row with a finite interval and an observed value.
    """
    known, new = _scores(before, "before"), _scores(incoming, "incoming")
    rng = np.random.default_rng([20261122, seed])
    seen = known["score"].to_list()
    capital = np.full(3, 1 / 3)
    bets = np.array([-1.0, 0.0, 1.0])
    rows, reached = [], False
    for subject, n, score in new.iter_rows():
        seen.append(score)
        all_ = np.asarray(seen)
        p = float(((all_ > score).sum() + rng.random() * (all_ == score).sum()) / len(all_))
        capital = ((1 - JUMP) * capital + JUMP / 3 * capital.sum()) * (1 + bets * (p - 0.5))
        reached = reached or bool(capital.sum() >= alarm)
        rows.append((subject, n, score, p, float(capital.sum()), reached))
    kinds = {"subject": pl.String, "rows": pl.Int64, "score": pl.Float64, "p": pl.Float64, "capital": pl.Float64}
    return pl.DataFrame(rows, schema=kinds | {"alarm": pl.Boolean}, orient="row")


def _scores(scored: pl.DataFrame, side: str) -> pl.DataFrame:
    """subject, rows, score of each line, in the order of first appearance."""
    half = (pl.col("high") - pl.col("low")) / 2
    size = (pl.col("observed") - pl.col("predicted")).abs() / half
    lines = (
        scored.with_columns(size.alias("size"))
        .filter(pl.col("size").is_finite())
        .group_by(pl.col("subject").cast(pl.String), maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("size").mean().alias("score"))
    )
    if lines.is_empty():
        raise ValueError(f"{side}: no row has a finite interval and an observed value; unseal and score it first.")
    return lines
