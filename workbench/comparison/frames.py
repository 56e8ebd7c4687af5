"""What a comparison of many runs says: eight small tables with fixed columns, read by widgets, figures and people.

An **entry** is what competes: a predictor with its parameters, over all its folds and seeds, under a name that is
unique within a study and split. Rows of ``ranks``, ``critical`` and ``groups`` whose study and split are both "all"
pool every split that the same entries took part in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

NAME, NUMBER, COUNT = pl.String(), pl.Float64(), pl.Int64()
ALL = "all"  # study and split of the rows that pool several

SCORES = {
    "study": NAME,
    "split": NAME,
    "entry": NAME,  # predictor, and its variant where there are several
    "predictor": NAME,
    "variant": NAME,  # the parameters that differ, "members=4, rank=64"; empty where none does
    "metric": NAME,
    "value": NUMBER,  # mean over the folds of each seed, then over seeds
    "low": NUMBER,  # 95 % interval; null where it cannot be had
    "high": NUMBER,
    "interval": NAME,  # how it was had: "bootstrap over 938 subjects", "t over 5 folds"
    "naive": NUMBER,  # the best naive predictor on the same folds; null where none was run on them
    "naive_predictor": NAME,
    "folds": COUNT,  # different fold numbers
    "seeds": COUNT,  # different seeds
    "cost_s": NUMBER,  # mean seconds of a nested run: fit, predict and record one fold
    "unit": NAME,  # of value: that of the endpoint for errors, else empty
}
PAIRS = {
    "study": NAME,
    "split": NAME,
    "metric": NAME,
    "a": NAME,  # entry
    "b": NAME,  # entry
    "difference": NUMBER,  # a minus b on what both answered; null where nothing is shared
    "low": NUMBER,  # 95 % interval of the difference
    "high": NUMBER,
    "p": NUMBER,  # two-sided, that there is no difference
    "p_holm": NUMBER,  # the same, Holm's correction for all pairs of the split
    "verdict": NAME,  # of a: "better", "worse", "no difference shown", or not comparable
    "paired": NAME,  # over what: "bootstrap over 938 subjects, 5 folds", "t over 5 folds"
    "blocks": COUNT,  # folds x seeds that both have
}
RANKS = {
    "study": NAME,
    "split": NAME,
    "metric": NAME,
    "entry": NAME,
    "rank": NUMBER,  # mean over blocks; 1 is best
    "blocks": COUNT,
}
CRITICAL = {
    "study": NAME,
    "split": NAME,
    "metric": NAME,
    "entries": COUNT,  # k
    "blocks": COUNT,  # N: split x fold x seed where every entry has a score
    "friedman": NUMBER,  # chi-square with k - 1 degrees of freedom, ties corrected
    "p_friedman": NUMBER,
    "iman_davenport": NUMBER,  # F with k - 1 and (k - 1)(N - 1) degrees of freedom
    "p": NUMBER,  # of iman_davenport
    "q": NUMBER,  # studentised range at 5 % over the square root of two
    "critical_difference": NUMBER,  # Nemenyi: q sqrt(k (k + 1) / (6 N)); mean ranks further apart differ at 5 %
    "note": NAME,
}
GROUPS = {
    "study": NAME,
    "split": NAME,
    "metric": NAME,
    "by": NAME,  # "Nemenyi" or "paired intervals"
    "entries": pl.List(pl.String()),  # a largest set in which no two are told apart, best first
}
PARAMETERS = {
    "study": NAME,
    "split": NAME,
    "entry": NAME,
    "param": NAME,  # flattened with dots
    "value": NAME,  # null where the entry does not say
}
PARETO = {
    "study": NAME,
    "split": NAME,
    "metric": NAME,
    "entry": NAME,
    "predictor": NAME,
    "score": NUMBER,
    "cost_s": NUMBER,
    "on_front": pl.Boolean(),  # nothing else is at least as good and as cheap, and better in one
}
RUNS = {  # the nested runs that were compared, for links
    "study": NAME,
    "split": NAME,
    "entry": NAME,
    "run_id": NAME,
    "parent": NAME,
    "experiment_id": NAME,
    "name": NAME,
    "fold": COUNT,
    "seed": COUNT,
    "started": pl.Datetime("ms", "UTC"),
    "duration_s": NUMBER,
}


def _none(columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict(columns))


def labels(scores: pl.DataFrame, limit: int) -> dict[str, str]:
    """A name of at most ``limit`` letters for each entry of ``scores``; a shortened one ends in its place there."""
    names = scores["entry"].unique(maintain_order=True).to_list()
    return {n: n if len(n) <= limit else f"{n[: limit - len(f'… [{i}]')]}… [{i}]" for i, n in enumerate(names, 1)}


@dataclass(frozen=True)
class Comparison:
    """Frames of a comparison; the constants above name their columns.

    Attributes
    ----------
    metrics : what is compared, the first one first; every frame but parameters and runs has a row for each
    better : {metric: +1 where larger is better, -1 where smaller is}
    notes : what a reader must know: entries left out, what could not be paired, that folds share training rows
    """

    metrics: tuple[str, ...]
    better: dict[str, int]
    scores: pl.DataFrame = field(default_factory=lambda: _none(SCORES))
    pairs: pl.DataFrame = field(default_factory=lambda: _none(PAIRS))
    ranks: pl.DataFrame = field(default_factory=lambda: _none(RANKS))
    critical: pl.DataFrame = field(default_factory=lambda: _none(CRITICAL))
    groups: pl.DataFrame = field(default_factory=lambda: _none(GROUPS))
    parameters: pl.DataFrame = field(default_factory=lambda: _none(PARAMETERS))
    pareto: pl.DataFrame = field(default_factory=lambda: _none(PARETO))
    runs: pl.DataFrame = field(default_factory=lambda: _none(RUNS))
    notes: tuple[str, ...] = ()
