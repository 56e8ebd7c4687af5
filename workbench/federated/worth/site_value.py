"""What one site has of each arm: scores, differences from alone, the verdict, and what else it should know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from workbench import score
from workbench.federated.worth.measured import Arms, Found
from workbench.federated.worth.verdict import Gain, gain, judge, size

ALONE, FEDERATED, POOLED, PERSONALISED, OWN_ENCODER, SHARED_ENCODER = ARMS = (
    "alone", "federated", "pooled", "personalised", "own pretraining", "pretrained together",
)  # fmt: skip
OWN = "own"  # every arm with the baseline of its own training rows
METRICS = ("normalised Pearson", "per-drug Pearson", "RMSE")  # the main ones: none may be given up for another
MEANS = "mean effects"  # the naive predictor where none of the family was given


class WorthError(ValueError):
    """The predictions cannot be judged; says what is missing and what there is."""


class SiteValue:
    """One site, predictor and split.

    Parameters
    ----------
    models, naive : the site's FEDERATION_PREDICTIONS, unsealed: of the predictor, and of the naive family
    drawn : column that the bootstrap draws
    baseline : arm whose baseline all arms get, or "own"
    """

    def __init__(
        self, models: pl.DataFrame, naive: pl.DataFrame, drawn: str, baseline: str, draws: int, seed: int
    ) -> None:
        site, self.notes = models["site"][0], []
        there = {a: models.filter(pl.col("arm") == a) for a in ARMS if a in set(models["arm"])}
        if ALONE not in there:
            raise WorthError(
                f"site {site!r} has no rows of arm {ALONE!r}: what it has without joining must be known. A simulation "
                'trains it with arms = ["alone", "pooled"] in its table [federation].'
            )
        if len(there) < 2:
            raise WorthError(f"site {site!r} has only arm {ALONE!r}; give {FEDERATED!r} to compare it with.")
        means = there[ALONE].filter(pl.col("baseline").is_not_null())
        beside = {f"{p}, {a}": g for (p, a), g in naive.group_by("predictor", "arm", maintain_order=True)}
        if not beside and means.height:
            beside = {MEANS: means.with_columns(predicted="baseline")}
        if baseline != OWN:
            common = there.get(baseline, there.get(FEDERATED, there[ALONE]))
            if baseline not in there:
                self.notes.append(f"{site}: no arm {baseline!r}; normalised metrics take the baseline of another arm.")
            there, beside = ({k: _based(f, common) for k, f in some.items()} for some in (there, beside))
        self.drawn, self.arms = drawn, Arms(there, METRICS, drawn, draws, seed)
        self.naive = Arms(beside, METRICS, drawn, 1, seed) if beside else None
        self._unit, self.models = str(models["unit"][0]), there
        self._differences: dict[tuple[str, str, str], Found | None] = {}
        said = {a: self.arms.rows(a) for a in there}
        if len(set(said.values())) > 1:
            counts = ", ".join(f"{a} {n:,}" for a, n in said.items())
            self.notes.append(f"{site}: arms answered different rows ({counts}); differences are on those shared.")

    def unit(self, metric: str) -> str:
        """Of a value of the metric."""
        return self._unit.replace("uM", "\u00b5M") if metric == "RMSE" else ""

    def difference(self, arm: str, metric: str, other: str = ALONE) -> Found | None:
        """Arm minus other; None where no row was answered by both."""
        key = (arm, other, metric)
        if key not in self._differences:
            self._differences[key] = self.arms.difference(arm, other, metric)
        return self._differences[key]

    def best_naive(self, metric: str) -> tuple[str | None, float]:
        """Name and score of the best naive predictor."""
        if self.naive is None:
            return None, np.nan
        known = {n: self.naive.value(n, metric).value for n in self.naive.frames}
        best = max(known, key=lambda n: score.BETTER[metric] * known[n])
        return best, known[best]

    def scores(self, least: Mapping[str, float], sites: int) -> Iterator[dict[str, Any]]:
        """Rows of FEDERATION_VALUE without predictor, split, site and p_holm."""
        for arm in self.arms.frames:
            for metric in METRICS:
                found = self.arms.value(arm, metric)
                name, naive = self.best_naive(metric)
                row: dict[str, Any] = dict.fromkeys(
                    ("difference", "difference_low", "difference_high", "together_low", "together_high", "p", "verdict")
                )
                if arm != ALONE:
                    d = self.difference(arm, metric)
                    row["verdict"] = score.NOT_PAIRED
                    if d is not None:
                        ends, wide = d.interval(), d.interval(sites)
                        row |= {"difference": d.value, "difference_low": ends[0], "difference_high": ends[1], "p": d.p,
                                "together_low": wide[0], "together_high": wide[1],
                                "verdict": score.verdict(*ends, score.BETTER[metric])}  # fmt: skip
                low, high = found.interval()
                yield {
                    "arm": arm, "metric": metric, "value": found.value, "low": low, "high": high, "naive": naive,
                    "naive_predictor": name, "unit": self.unit(metric), **row, "p_holm": None, "least": least[metric],
                    "resampled": self.drawn, "units": found.units, "n": self.arms.rows(arm),
                }  # fmt: skip

    def gains(self, arm: str, least: Mapping[str, float], sites: int) -> dict[str, Gain]:
        """Gain over alone in each metric; without those that cannot be compared."""
        found = {m: self.difference(arm, m) for m in METRICS}
        return {
            m: gain(m, d.value, d.interval(), d.interval(sites), least[m], self.unit(m))
            for m, d in found.items()
            if d is not None
        }

    def verdict(
        self, arm: str, least: Mapping[str, float], sites: int, decides: str, attacks: pl.DataFrame
    ) -> dict[str, Any]:
        """verdict, reason, decides, negative_transfer and flags of joining for ``arm``."""
        gains = self.gains(arm, least, sites)
        units = self.arms.value(arm, decides).units
        said, reason = judge(gains, decides, units, self.drawn)
        return {
            "verdict": said, "reason": reason, "decides": decides,
            "negative_transfer": ", ".join(m for m, g in gains.items() if g.harms),
            "flags": [*self._flags(arm, decides, gains), *_open_to(attacks)],
        }  # fmt: skip

    def beside_alone(self, arm: str) -> Iterator[tuple[str, tuple[float, float, Found]]]:
        """(metric, (score alone, score of arm, difference)) of each metric that can be compared."""
        for m in METRICS:
            if (d := self.difference(arm, m)) is not None:
                yield m, (self.arms.value(ALONE, m).value, self.arms.value(arm, m).value, d)

    def _flags(self, arm: str, decides: str, gains: Mapping[str, Gain]) -> Iterator[str]:
        harmed = [m for m, g in gains.items() if g.harms]
        risen = [m for m, g in gains.items() if g.low > 0]
        if harmed and risen:
            yield f"{' and '.join(risen)} better, {' and '.join(harmed)} worse than alone"
        sign = score.BETTER[decides]
        name, naive = self.best_naive(decides)
        low, high = self.arms.value(arm, decides).interval()
        if name is not None and not (sign * low > sign * naive and sign * high > sign * naive):
            yield f"not shown to be better than the naive value in {decides}"
        for other, words in ((POOLED, "pooling the rows would give"), (PERSONALISED, "a head of its own gives")):
            if other not in self.arms.frames or other == arm:
                continue
            d = self.difference(other, decides, arm)
            if d is not None and score.verdict(*d.interval(), sign) == "better":
                yield f"{words} {size(abs(d.value), self.unit(decides))} more of {decides}"
        if arm == SHARED_ENCODER and OWN_ENCODER in self.arms.frames:
            d = self.difference(arm, decides, OWN_ENCODER)
            if d is not None:  # what is due to the others: the rest a site has by pretraining alone
                low, high = d.interval()
                yield f"beside pretraining of its own {decides} changes by {d.value:+.3f} ({low:+.3f} to {high:+.3f})"


def _open_to(attacks: pl.DataFrame) -> Iterator[str]:
    """The strongest figure of each kind of attack ("membership", of "membership, loss threshold") that works."""
    kind = pl.col("attack").cast(pl.String).str.split(",").list.first()
    works = attacks.filter(pl.col("low") > pl.col("chance")).sort("value", descending=True, maintain_order=True)
    for a in works.unique(kind, keep="first", maintain_order=True).iter_rows(named=True):
        whole = " on the whole federation" if a["site"] is None else ""
        yield f"{a['attack']} works{whole}: {a['figure']} {a['value']:.3f}, chance {a['chance']:.3f}"


def _based(frame: pl.DataFrame, common: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with the baseline of ``common`` where that has the row."""
    theirs = common.select("fold", "row", pl.col("baseline").alias("_baseline"))
    joined = frame.join(theirs, on=["fold", "row"], how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("_baseline", "baseline").alias("baseline")).drop("_baseline")
