"""Replicates: how far apart the same measurement falls when it is made again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from workbench.audits import _chance
from workbench.audits._case import Case, Measured
from workbench.audits._finding import NOTE, WARNING, Check, Finding, figure

KEYS = ("subject", "treatment", "dose", "time_h")
LOUD = 0.5  # share of the variance between subjects that replicates alone explain


def groups(m: Measured) -> pl.DataFrame:
    """Replicates of one source and site: their rows, count, mean and how far each lies from its partner's median."""
    frame = m.frame.select("row", *KEYS, "site", "source").with_columns(pl.Series("v", m.work))
    by = [*KEYS, "site", "source"]
    return (
        frame.with_columns(pl.len().over(by).alias("n"), pl.col("v").median().over(by).alias("middle"))
        .filter(pl.col("n") >= 2)
        .with_columns((pl.col("v") - pl.col("middle")).alias("off"))
    )


def noise(case: Case) -> Iterator[Finding]:
    """Replicates that differ about as much as subjects do: the labels are mostly noise."""
    from scipy.stats import chi2

    for m in case.measured:
        found = groups(m)
        by = [*KEYS, "site", "source"]
        each = found.group_by(by).agg(pl.col("v").var().alias("variance"), pl.len())
        if each.height < 10 or m.effect == 0:
            continue
        variance, degrees = each["variance"].to_numpy(), each["len"].to_numpy() - 1.0
        within = float((variance * degrees).sum() / degrees.sum())
        # robust against the few that disagree wildly, which have a check of their own
        robust = float(np.median(variance / (chi2.median(degrees) / degrees)))
        share = min(within, robust) / m.effect**2
        if share < 0.2:
            continue
        loud = share >= LOUD
        yield Finding(
            WARNING if loud else NOTE,
            0.95 if each.height >= 30 else 0.8,
            f"Replicates of {m.endpoint!r} differ with a standard deviation of {figure(min(within, robust) ** 0.5)}"
            f"{' decades' if m.log else ' ' + m.unit}, subjects under one condition with {figure(m.effect)}: "
            f"{min(share, 1):.0%} of what a model could learn is noise ({each.height} replicated measurements).",
            m.endpoint,
            "Average replicates, and do not expect a correlation above "
            f"{max(0.0, 1 - min(share, 1)) ** 0.5:.2f} with a single measurement.",
            rows=found["row"],
            n=found.height,
        )


def disagreeing(case: Case) -> Iterator[Finding]:
    """Single replicates that disagree far more than replicates of this endpoint do."""
    for m in case.measured:
        found = groups(m)
        if found.height < 40 or m.effect == 0:
            continue
        by = [*KEYS, "site", "source"]
        each = found.group_by(by, maintain_order=True).agg(pl.col("off").abs().max(), pl.len().alias("n"))
        off = each["off"].to_numpy()
        moved = off[off > 0]
        if len(moved) < 20:
            continue
        z = off / (_chance.scale(found["off"].to_numpy()) or float(np.median(moved)))
        odd = (z > 6) & (_chance.improbable(z) < 0.02) & (off > m.effect)
        if not odd.any():
            continue
        rows = found.join(each.filter(pl.Series(odd)).select(by), on=by, nulls_equal=True)
        worst = each.row(int(np.argmax(off)), named=True)
        yield Finding(
            WARNING,
            0.95,
            f"{int(odd.sum())} of {each.height} replicated measurements of {m.endpoint!r} disagree by over 6 times the "
            f"usual; most so {worst['subject']!r} with {worst['treatment']!r}, by "
            f"{figure(2 * off.max() if worst['n'] == 2 else off.max())}{' decades' if m.log else ' ' + m.unit}.",
            m.endpoint,
            "Look at the raw data of these wells or animals; do not average over a failed replicate.",
            rows=rows["row"].sort(),
            names=rows["subject"].unique().sort(),
        )


CHECKS = (Check("replicate noise", noise), Check("disagreeing replicates", disagreeing))
