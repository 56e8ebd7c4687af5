"""Random against chosen pilots, on the same held-out rows.

The plan is fitted on a fold's training rows; its answers without pilots open the fold's sealed targets (``score``), and
of those the pilots of each test line are "measured". Every method is then scored on rows outside all panels that stand
beside it, other names of a measured compound left out too, so that no row is predicted from itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from workbench import predict, score, tables
from workbench.planning import choice
from workbench.planning.pilots import Plan
from workbench.planning.posterior import condition
from workbench.predictors._pairs import positions
from workbench.splits import Fold

KS = (5, 10, 20)
COVERED = 0.8  # share of training lines that must have a treatment before it may stand on a lab's fixed panel


def opened(plan: Plan, fold: Fold, base: pl.Series | None = None) -> pl.DataFrame:
    """Scored PREDICTIONS of the plan without pilots; this is where the fold's targets are opened."""
    return score.unseal(predict.predictions(plan, fold, base), fold)  # type: ignore[arg-type]


def lab_panel(plan: Plan, k: int) -> np.ndarray:
    """One panel for every line: chosen on training rows among treatments that nearly every line has."""
    return choice.greedy(plan.covariance, k, candidates=np.flatnonzero(plan.share >= COVERED)).order


def panels(plan: Plan, scored: pl.DataFrame, k: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """For each way of choosing ("random", "chosen", "one panel"), the panel of each test line (numbers, up to k).

    The random and the chosen panel draw from what was measured on the line; of the one panel of the lab a line has what
    was measured of it. A line with fewer than 2 k + 5 values takes no part.
    """
    known = scored.filter(pl.col("treatment").is_in(plan.treatments) & pl.col("predicted").is_not_null())
    rng = np.random.default_rng([20261122, seed, scored["fold"][0]])
    fixed = lab_panel(plan, k)
    out: dict[str, dict[str, np.ndarray]] = {"random": {}, "chosen": {}, "one panel": {}}
    for (subject,), own in known.sort("subject", "treatment").group_by("subject", maintain_order=True):
        here = positions(own["treatment"], plan.treatments)
        if len(here) < 2 * k + 5:
            continue
        out["random"][str(subject)] = rng.permutation(here)[:k]
        out["chosen"][str(subject)] = choice.greedy(plan.covariance, k, candidates=here).order
        out["one panel"][str(subject)] = fixed[np.isin(fixed, here)]
    return out


def with_pilots(plan: Plan, scored: pl.DataFrame, chosen: dict[str, np.ndarray], name: str) -> pl.DataFrame:
    """Scored PREDICTIONS as the plan makes them once each line's panel is measured, as predictor ``name``."""
    at = plan.at([])  # empty, of the right type
    code = {compound: i for i, compound in enumerate(dict.fromkeys(plan.compounds))}
    compound = np.array([code[c] for c in plan.compounds])
    frame = scored.filter(pl.col("subject").is_in(list(chosen))).sort("subject", "treatment")
    parts = []
    for (subject,), own in frame.group_by("subject", maintain_order=True):
        where = positions(own["treatment"], plan.treatments)
        mean = plan.mean(str(subject))
        value = np.full(len(mean), np.nan)
        value[where[where >= 0]] = own["observed"].to_numpy()[where >= 0]
        at = chosen[str(subject)]
        added, variance = condition(plan.covariance, at, value[at] - mean[at])
        told, half = mean + added, plan.calibration.half(variance, len(at))
        apart = ~np.isin(compound, compound[at])
        use = (where >= 0) & apart[np.maximum(where, 0)]
        parts.append(
            own.filter(pl.Series(use)).with_columns(
                predictor=pl.lit(name),
                predicted=pl.Series(told[where[use]]),
                low=pl.Series((told - half)[where[use]]),
                high=pl.Series((told + half)[where[use]]),
            )
        )
    return tables.check(pl.concat(parts), tables.PREDICTIONS)


def table(plan: Plan, scored: pl.DataFrame, ks: Sequence[int] = KS, seed: int = 0) -> dict[int, pl.DataFrame]:
    """For each k the PREDICTIONS of all ways beside each other, on the rows that all of them answer.

    Predictors: "<name>" without pilots, "<name>, k random", "<name>, k chosen", "<name>, k of one panel".
    """
    of = panels(plan, scored, max(ks), seed)
    words = {"random": "random", "chosen": "chosen", "one panel": "of one panel"}
    out = {}
    for k in ks:
        frames = [
            with_pilots(plan, scored, {s: p[:k] for s, p in chosen.items()}, f"{plan.name}, {k} {words[way]}")
            for way, chosen in of.items()
        ]
        common = frames[0]["row"]
        for frame in frames[1:]:
            common = common.filter(common.is_in(frame["row"].implode()))
        frames.insert(0, scored.with_columns(predictor=pl.lit(plan.name)))
        out[k] = pl.concat(f.filter(pl.col("row").is_in(common.implode())) for f in frames)
    return out
