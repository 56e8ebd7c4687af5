"""A fitted plan of pilot measurements: what it says of a sample, and which treatments it would measure next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from workbench.planning import calibration, choice, factors
from workbench.planning.posterior import condition
from workbench.predictors import answer
from workbench.predictors._pairs import positions
from workbench.text import nearest

DRAWS = 20  # random panels beside a chosen one
BROAD = 20  # treatments that must matter before the spread of their RMSE from line to line is told


class PlanError(ValueError):
    """A plan cannot do what is asked of it, or its files are not what they were."""


@dataclass(frozen=True)
class Plan:
    """A fitted plan.

    Attributes
    ----------
    facts : study, digest, endpoint, unit, predictor, params, seed, level, rule
    subjects, treatments, compounds : names; compounds (t) tell which treatments are one compound
    means : what the predictor says of each line, not having seen it (s, t); NaN where it has nothing to say
    average, spread : mean and variance of each treatment over the training lines (t,)
    share : of the training lines that have a value of each treatment (t,)
    """

    facts: dict[str, Any]
    subjects: list[str]
    treatments: list[str]
    compounds: list[str]
    means: np.ndarray
    average: np.ndarray
    spread: np.ndarray
    share: np.ndarray
    factors: factors.Factors
    calibration: calibration.Calibration

    @property
    def covariance(self) -> np.ndarray:
        """Of measured residuals (t, t); worked out once."""
        if "_covariance" not in self.__dict__:
            object.__setattr__(self, "_covariance", self.factors.covariance)
        return self.__dict__["_covariance"]

    def at(self, names: Sequence[str]) -> np.ndarray:
        """Numbers of treatments by name; an unknown one raises PlanError with the nearest."""
        where = {name: i for i, name in enumerate(self.treatments)}
        for name in names:
            if name not in where:
                raise PlanError(
                    f"{name!r} is not a treatment of study {self.facts['study']!r}.{nearest(name, self.treatments)}"
                )
        return np.array([where[name] for name in names], dtype=np.int64)

    def mean(self, subject: str | None) -> np.ndarray:
        """Prediction before any measurement (t,), offset included; of a line nobody knows: the treatments' means."""
        if subject is None:
            if self.facts["predictor"] != "drug_mean":
                raise PlanError("a sample without omics needs a plan on drug_mean: its start is each drug's mean.")
            return self.average + self.factors.offset
        if subject not in self.subjects:
            raise PlanError(f"study {self.facts['study']!r} has no line {subject!r}.{nearest(subject, self.subjects)}")
        found = self.means[self.subjects.index(subject)].astype(np.float64)
        if not np.isfinite(found).any():
            raise PlanError(
                f"{self.facts['predictor']} says nothing of {subject!r}: the study lacks the modality it needs there. "
                "Leave the line's name out and give its measured values: the start is then each drug's mean."
            )
        return found + self.factors.offset

    def after(
        self, subject: str | None, measured: Mapping[str, float], extra: Mapping[str, float] | None = None
    ) -> pl.DataFrame:
        """Every treatment once ``measured`` (name to value, in the endpoint's unit) are known.

        Parameters
        ----------
        extra : variance of a measurement beyond its treatment's usual noise, by name

        Returns
        -------
        frame treatment, before (prediction without measurements), predicted, low, high, measured (null where not)
        """
        mean, at = self.mean(subject), self.at(list(measured))
        value = np.array(list(measured.values()), dtype=np.float64)
        if len(value) and not np.isfinite(value).all():
            raise PlanError(f"{list(measured)[int(np.argmin(np.isfinite(value)))]!r}: the measured value is no number.")
        usable = np.isfinite(mean[at])
        noise = np.array([(extra or {}).get(name, 0.0) for name in measured])[usable]
        added, variance = condition(self.covariance, at[usable], (value - mean[at])[usable], noise)
        half = self.calibration.half(variance, int(usable.sum()))
        told = np.full(len(mean), np.nan)
        told[at] = value
        frame = pl.DataFrame({"treatment": self.treatments, "before": mean, "predicted": mean + added})
        return frame.with_columns(
            low=pl.col("predicted") - half, high=pl.col("predicted") + half, measured=pl.Series(told)
        ).with_columns(pl.col("before", "predicted", "low", "high", "measured").fill_nan(None))

    def choose(
        self,
        k: int,
        *,
        measured: Sequence[str] = (),
        without: Sequence[str] = (),
        candidates: Sequence[str] | None = None,
        interest: Sequence[str] = (),
        members: Sequence[str] = (),
        cost: Mapping[str, float] | None = None,
        budget: float | None = None,
        patterns: int = 0,
        seed: int = 0,
    ) -> Chosen:
        """The next ``k`` treatments to measure.

        Parameters
        ----------
        measured : measured already
        without : cannot be measured (not in stock, say)
        candidates : the only ones that can be
        interest : treatments whose prediction matters; they are predicted, not measured
        members : of a class that matters; these may be measured themselves
        cost : of each treatment; every candidate needs one
        budget : most that all may cost together
        patterns : samples to imagine, in each of which a treatment fails as often as it did in training (0: none fail)
        """
        given, free = self.at(list(measured)), np.ones(len(self.treatments), dtype=bool)
        if candidates is not None:
            free[:] = False
            free[self.at(list(candidates))] = True
        free[self.at([*without, *interest])] = False
        free[given] = False
        weights = np.ones(len(free))
        if interest or members:
            weights[:] = 0.0
            weights[self.at([*interest, *members])] = 1.0
        price = None
        if cost is not None:
            self.at(list(cost))
            if bad := [name for name, price in cost.items() if not price > 0]:
                raise PlanError(f"costs are positive numbers; found {cost[bad[0]]} for {bad[0]!r}.")
            free &= np.array([name in cost for name in self.treatments])
            price = np.array([cost.get(name, 1.0) for name in self.treatments])
        if not free.any():
            raise PlanError("no treatment is left to choose from: all are measured, of interest, or left out.")
        rng = np.random.default_rng([20261122, seed, 3])
        worlds = rng.random((patterns, len(free))) < self.share if patterns else None
        pool = np.flatnonzero(free)
        picked = choice.greedy(
            self.covariance,
            k,
            given=given,
            candidates=pool,
            weights=weights,
            cost=price,
            budget=budget,
            own=bool(members) and not interest,
            patterns=worlds,
        )
        beside = weights.copy()  # chosen and random are judged on the same treatments: those outside both
        beside[picked.order] = 0.0
        chance = choice.at_random(
            self.covariance, len(picked.order), DRAWS, seed, given=given, candidates=pool, weights=beside
        )
        if not len(chance):  # every random panel leaves none of them: there is but one panel to take
            beside[given] = 0.0
            chance = picked.left[None] / max(float(beside.sum()), choice.SMALL)
        return Chosen(self, picked, chance, given, weights, price)

    # ---- the protocol of a predictor, before any pilot: what ``predict.predictions`` asks for

    @property
    def name(self) -> str:
        return str(self.facts["predictor"])

    def predict(self, study: Any, pairs: pl.DataFrame) -> pl.DataFrame:
        """Answers without pilots, with this plan's calibrated intervals."""
        s, d = positions(pairs["subject"], self.subjects), positions(pairs["treatment"], self.treatments)
        known = (s >= 0) & (d >= 0)
        s, d = np.maximum(s, 0), np.maximum(d, 0)
        value = np.where(known, self.means[s, d] + self.factors.offset[d], np.nan)
        half = self.calibration.half(np.diag(self.covariance), 0)[d]
        return answer(value, half, [None if np.isfinite(v) else "not in the plan" for v in value])


@dataclass(frozen=True)
class Chosen:
    """A panel with what is expected of it; make with ``Plan.choose``."""

    plan: Plan
    choice: choice.Choice
    chance: np.ndarray  # mean variance left after 0 .. k random ones (draws, k + 1)
    given: np.ndarray
    weights: np.ndarray
    cost: np.ndarray | None

    @property
    def names(self) -> list[str]:
        return [self.plan.treatments[i] for i in self.choice.order]

    def _outside(self) -> np.ndarray:
        outside = self.weights.copy()
        outside[self.choice.order] = outside[self.given] = 0.0
        return outside

    @property
    def curve(self) -> pl.DataFrame:
        """Expected error on the treatments that matter and stay outside the whole panel, after 0 .. k measurements.

        Columns: k, treatment (the k-th), gain (share of the variance left that it takes away), cost, rmse, low, high (9
        of 10 lines; null where fewer than 20 treatments matter), correlation (normalised), random_rmse, random_low,
        random_high (95 % of random panels), random_correlation
        """
        plan, held = self.plan, self.calibration
        outside = self._outside()
        total = max(float(outside.sum()), choice.SMALL)
        mean = self.choice.left / total
        before = len(self.given)
        n = [before + k for k in range(len(mean))]
        rmse = np.array([held.expected(v, k) for v, k in zip(mean, n, strict=True)])
        # the spread from line to line was learnt over many treatments; of a few that matter it would be too narrow
        broad = int((outside > 0).sum()) >= BROAD
        between = np.array([held.between(k) if broad else (np.nan, np.nan) for k in n])
        spread = float((outside * plan.spread).sum()) / total
        random = np.array([[held.expected(v, k) for v, k in zip(row, n, strict=True)] for row in self.chance])
        away = -np.diff(self.choice.left) / np.maximum(self.choice.left[:-1], choice.SMALL)
        return pl.DataFrame(
            {
                "k": np.arange(len(mean)),
                "treatment": pl.Series([None, *self.names], dtype=pl.String),
                "gain": pl.Series([None, *away.tolist()], dtype=pl.Float64),
                "cost": np.concatenate([[0.0], self.choice.spent]),
                "rmse": rmse,
                "low": rmse * between[:, 0],
                "high": rmse * between[:, 1],
                "correlation": np.sqrt(np.clip(1 - rmse**2 / spread, 0, 1)),
                "random_rmse": random.mean(0),
                "random_low": np.quantile(random, 0.025, axis=0),
                "random_high": np.quantile(random, 0.975, axis=0),
                "random_correlation": np.sqrt(np.clip(1 - (random**2).mean(0) / spread, 0, 1)),
            }
        ).with_columns(pl.col("low", "high").fill_nan(None))

    @property
    def calibration(self) -> calibration.Calibration:
        return self.plan.calibration
