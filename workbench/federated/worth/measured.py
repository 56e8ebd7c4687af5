"""One site's arms measured on its own test rows, all under the same bootstrap draws, so that differences are paired.

Metrics and draws are ``workbench.score``'s. What is drawn are persons where a person has several subjects, else
subjects; treatments where compounds were unseen. Over few units a percentile interval is too narrow; its ends are
moved out to those of a t interval ("expanded percentile": Hesterberg, The American Statistician 69 (2015) 371-386).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench import score

FEWEST = 10  # draws beyond an end that can be counted; past that the end is that of a t interval
LEVEL = 0.95


@dataclass(frozen=True)
class Found:
    """A figure, its draws (B,), and how many units were drawn.

    ``interval`` and ``p`` are NaN where nothing was drawn.
    """

    value: float
    draws: np.ndarray
    units: int

    @property
    def _good(self) -> np.ndarray:
        return self.draws[np.isfinite(self.draws)]

    def interval(self, many: int = 1) -> tuple[float, float]:
        """95 % interval; with ``many`` of them in a table, 95 % for all at once (Bonferroni)."""
        from scipy import special

        good = self._good
        if len(good) < 20 or self.units < 2:
            return np.nan, np.nan
        reach = float(special.stdtrit(self.units - 1, 1 - (1 - LEVEL) / (2 * many)))
        reach *= np.sqrt(self.units / (self.units - 1))  # the bootstrap divides by n, a t interval by n - 1
        tail = float(special.ndtr(-reach))
        if tail * len(good) >= FEWEST:
            low, high = np.quantile(good, [tail, 1 - tail])
        else:  # too far out to be counted in so many draws
            low, high = self.value - reach * good.std(), self.value + reach * good.std()
        return float(low), float(high)

    @property
    def p(self) -> float:
        """Two-sided p of zero, by a t of the bootstrap's standard error."""
        from scipy import special  # scipy.stats takes seconds to import, and a page waits

        good = self._good
        if len(good) < 20 or self.units < 2:
            return np.nan
        error = float(good.std()) * np.sqrt(self.units / (self.units - 1))
        if error < score.SAME:
            return 1.0 if abs(self.value) < score.SAME else 0.0
        return float(2 * special.stdtr(self.units - 1, -abs(self.value) / error))


class Arms:
    """Predictions of one site and split, by arm.

    Parameters
    ----------
    frames : {arm: unsealed PREDICTIONS of the site, all folds, one predictor}; ``baseline`` is the same for all arms
    metrics : what is measured
    unit : column that is drawn
    """

    def __init__(
        self, frames: Mapping[str, pl.DataFrame], metrics: Sequence[str], unit: str, draws: int, seed: int
    ) -> None:
        self.frames, self.metrics, self.unit = dict(frames), tuple(metrics), unit
        names = pl.concat([f[unit].cast(pl.String) for f in frames.values()]).unique().sort()
        self._units = pl.DataFrame({unit: names, "unit": np.arange(len(names))})
        self._w = score.weights(max(len(names), 1), draws, seed)
        self._known: dict[str, dict[int, score.Draws]] = {}

    def value(self, arm: str, metric: str) -> Found:
        """The arm's score, mean over folds."""
        parts = list(self._of(arm).values())
        value = float(np.mean([p.value[metric] for p in parts]))
        return Found(value, np.mean([p.draws[metric] for p in parts], axis=0), self._size(arm))

    def difference(self, arm: str, other: str, metric: str) -> Found | None:
        """``arm`` minus ``other`` on the rows that both answered; None where there are none."""
        one, two = self._of(arm), self._of(other)
        values, drawn, units = [], [], 0
        for k in sorted(set(one) & set(two)):
            a, b = one[k], two[k]
            if not np.array_equal(a.rows, b.rows):
                shared = pl.Series(np.intersect1d(a.rows, b.rows), dtype=pl.Int64)
                if not len(shared):
                    continue
                a, b = (
                    self._measure(self._fold(x, k).filter(pl.col("row").is_in(shared.implode()))) for x in (arm, other)
                )
            if a.n:
                values.append(a.value[metric] - b.value[metric])
                drawn.append(a.draws[metric] - b.draws[metric])
        if not values:
            return None
        units = min(self._size(arm), self._size(other))
        return Found(float(np.mean(values)), np.mean(drawn, axis=0), units)

    def rows(self, arm: str) -> int:
        """Rows that the arm answered."""
        return sum(p.n for p in self._of(arm).values())

    def _size(self, arm: str) -> int:
        return int(self.frames[arm].filter(pl.col("predicted").is_not_null())[self.unit].n_unique())

    def _fold(self, arm: str, fold: int) -> pl.DataFrame:
        return self.frames[arm].filter(pl.col("fold") == fold)

    def _of(self, arm: str) -> dict[int, score.Draws]:
        if arm not in self._known:
            folds = sorted(self.frames[arm]["fold"].unique())
            self._known[arm] = {k: self._measure(self._fold(arm, k)) for k in folds}
        return self._known[arm]

    def _measure(self, frame: pl.DataFrame) -> score.Draws:
        named = frame.select(pl.col(self.unit).cast(pl.String)).join(self._units, on=self.unit, maintain_order="left")
        there, local = np.unique(named["unit"].to_numpy(), return_inverse=True)
        return score.measure(frame, local, len(there), self._w[:, there], self.metrics)
