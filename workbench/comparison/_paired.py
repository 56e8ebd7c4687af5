"""Intervals of scores and of paired differences: a bootstrap over what was unseen, or t over folds.

With predictions at hand, subjects (treatments where the compound is unseen) are drawn with replacement, once for all
entries, folds and seeds: a subject that stands in several folds or seeds counts as one. A score is the mean over the
folds of a seed, then over seeds; so is a difference, on the rows that both answered.

Without them, paired folds: the mean difference d over n blocks has the standard error

    sqrt((1 / n + 1 / (folds - 1)) var(d)),   t with n - 1 degrees of freedom

where 1 / (folds - 1) is the ratio of test to training rows. Source: Nadeau and Bengio, Machine Learning 52 (2003)
239-281, for repeated cross-validation Bouckaert and Frank, PAKDD (2004) 3-12: folds share training rows, and without
that term the interval is much too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from workbench import score

Block = tuple[int, int]  # (seed, fold)
COLUMNS = ("row", "subject", "treatment", "predicted", "low", "high", "baseline", "observed", "split")
FEWEST = 10  # draws beyond zero that can be counted


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, two-sided p of zero, how it was had, and over how many blocks."""

    value: float
    low: float
    high: float
    p: float
    how: str
    blocks: int
    comparable: bool = True


NOTHING = Interval(np.nan, np.nan, np.nan, np.nan, "", 0, False)


@dataclass
class Bootstrap:
    """Predictions of one place, measured under draws that all entries share.

    Attributes
    ----------
    rule : the split's rule; says what is drawn
    metrics : what is measured
    frames : {entry: {block: scored PREDICTIONS}}
    """

    rule: str
    metrics: tuple[str, ...]
    frames: Mapping[str, Mapping[Block, pl.DataFrame]]
    draws: int
    seed: int = 0
    _measured: dict[tuple[str, Block], score.Draws] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by = score.resampled(self.rule)
        every = [f[self.by].unique() for blocks in self.frames.values() for f in blocks.values()]
        names = (
            pl.concat([s.cast(pl.String) for s in every]).unique().sort() if every else pl.Series([], dtype=pl.String)
        )
        self.units = pl.DataFrame({self.by: names, "unit": np.arange(len(names))})
        self._w = score.weights(max(len(names), 1), self.draws, self.seed)

    def value(self, entry: str, metric: str) -> Interval:
        """The entry's score and interval."""
        blocks = list(self.frames[entry])
        parts = [self._of(entry, b) for b in blocks]
        value = over_seeds({b: d.value[metric] for b, d in zip(blocks, parts, strict=True)})
        drawn = over_seeds({b: d.draws[metric] for b, d in zip(blocks, parts, strict=True)})
        return self._interval(float(value), drawn, len(blocks))

    def difference(self, a: str, b: str, metric: str) -> Interval:
        """Entry a minus entry b on the rows that both answered in the blocks that both have."""
        blocks = [k for k in self.frames[a] if k in self.frames[b]]
        values, drawn = {}, {}
        for k in blocks:
            one, two = self._of(a, k), self._of(b, k)
            if not np.array_equal(one.rows, two.rows):
                shared = np.intersect1d(one.rows, two.rows)
                if not len(shared):
                    continue
                one, two = (self._measure(self.frames[e][k].filter(pl.col("row").is_in(pl.Series(shared).implode())))
                            for e in (a, b))  # fmt: skip
            if one.n:
                values[k] = one.value[metric] - two.value[metric]
                drawn[k] = one.draws[metric] - two.draws[metric]
        if not values:
            return NOTHING
        return self._interval(float(over_seeds(values)), over_seeds(drawn), len(values))

    def _interval(self, value: float, drawn: np.ndarray, blocks: int) -> Interval:
        """Percentiles of the draws; p counts draws beyond zero, or is a normal tail where too few are."""
        from scipy.special import ndtr

        good = drawn[np.isfinite(drawn)]
        how = f"bootstrap over {self.units.height:,} {self.by}s"
        if len(good) < 20:
            return Interval(value, np.nan, np.nan, np.nan, how, blocks)
        low, high = np.quantile(good, [0.025, 0.975])
        # a draw that is zero but for rounding speaks for neither side
        least = min(np.count_nonzero(good <= score.SAME), np.count_nonzero(good >= -score.SAME))
        p = min(1.0, 2 * (least + 1) / (len(good) + 1))
        if least < FEWEST and good.std() > score.SAME:  # too far out to be counted in so many draws
            p = min(p, float(2 * ndtr(-abs(value) / good.std())))
        return Interval(value, float(low), float(high), p, how, blocks)

    def _of(self, entry: str, block: Block) -> score.Draws:
        if (entry, block) not in self._measured:
            self._measured[entry, block] = self._measure(self.frames[entry][block])
        return self._measured[entry, block]

    def _measure(self, frame: pl.DataFrame) -> score.Draws:
        named = frame.select(pl.col(self.by).cast(pl.String)).join(self.units, on=self.by, maintain_order="left")
        there, local = np.unique(named["unit"].to_numpy(), return_inverse=True)
        return score.measure(frame, local, len(there), self._w[:, there], self.metrics)


def over_seeds(values: Mapping[Block, Any]) -> Any:
    """Mean of numbers or arrays over the folds of each seed, then over seeds."""
    seeds: dict[int, list[Any]] = {}
    for block in sorted(values):  # in one order, so that equal values have equal means
        seeds.setdefault(block[0], []).append(values[block])
    return np.mean([np.mean(v, axis=0) for v in seeds.values()], axis=0)


def by_folds(values: Mapping[Block, float], folds: int | None) -> Interval:
    """Mean of values per block with the corrected t interval.

    Parameters
    ----------
    folds : number of folds of the split; None takes the number of fold numbers seen
    """
    from scipy import stats

    good = {b: v for b, v in values.items() if np.isfinite(v)}
    n = len(good)
    if not n:
        return NOTHING
    value = float(over_seeds(good))
    if n < 2:
        return Interval(value, np.nan, np.nan, np.nan, "one fold: no interval", n)
    folds = folds or len({k for _, k in good})
    v = np.array(list(good.values()))
    error = float(np.sqrt((1 / n + 1 / max(folds - 1, 1)) * v.var(ddof=1)))
    how = f"corrected t over {n} folds"
    if error < score.SAME:
        return Interval(value, value, value, 1.0 if abs(value) < score.SAME else 0.0, how, n)
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return Interval(value, value - reach, value + reach, float(2 * stats.t.sf(abs(value) / error, n - 1)), how, n)
