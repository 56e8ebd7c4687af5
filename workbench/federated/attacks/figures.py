"""What an attack is told by: an AUC with its interval over units, and how many are caught at few false alarms.

    AUC = P(score of a member > score of another) + P(equal) / 2                    chance: 0.5
    TPR at FPR f: share of members above the threshold that at most floor(f n) of n others pass
                                                                                    chance: (floor(f n) + 1) / (n + 1)

The interval of an AUC is the 95 % bootstrap over members and others, each drawn anew (Efron 1979). A rate at few false
alarms rests on the few highest others, where a bootstrap is no guide, so it stands without one. Source for telling an
attack by its rate at few false alarms: Carlini et al. 2022, IEEE S&P, Membership Inference Attacks From First
Principles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench import tables

AUC = "AUC"
CORRELATION = "correlation"
FEW_ALARMS = (0.01, 0.001)
LEVEL = 0.95


@dataclass(frozen=True)
class Figure:
    """One figure of one attack.

    Attributes
    ----------
    attack, knows : its name, and what the attacker has
    figure, value, low, high : what is told, and its 95 % interval; None where there is none
    chance : what somebody reaches who knows nothing
    n : units that it rests on
    site : whose; None: of the result as a whole
    """

    attack: str
    knows: str
    figure: str
    value: float
    low: float | None
    high: float | None
    chance: float
    n: int
    site: str | None = None

    @property
    def works(self) -> bool:
        """Above chance, its interval included."""
        return self.low is not None and self.low > self.chance


def beats(members: np.ndarray, others: np.ndarray) -> np.ndarray:
    """1 where a member's score is above another's, 0.5 where equal: (members, others)."""
    a, b = members[:, None], others[None, :]
    return (a > b) + 0.5 * (a == b)


def auc(score: np.ndarray, member: np.ndarray, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """(AUC, low, high) of ``score`` (n,) for telling ``member`` (n,) bool from the others.

    Raises
    ------
    ValueError
        Fewer than two of either, or a score is no number.
    """
    score, member = np.asarray(score, dtype=np.float64), np.asarray(member, dtype=bool)
    if score.shape != member.shape or not np.isfinite(score).all():
        raise ValueError(f"score and member should be finite and of one length; found {score.shape}, {member.shape}.")
    if member.sum() < 2 or (~member).sum() < 2:
        raise ValueError(f"an AUC needs two members and two others; found {member.sum()} and {(~member).sum()}.")
    h = beats(score[member], score[~member])
    rng = np.random.default_rng([seed, 1979])
    one, two = (rng.multinomial(k, np.full(k, 1 / k), size=draws) / k for k in h.shape)
    drawn = ((one @ h) * two).sum(1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(h.mean()), float(low), float(high)


def caught(score: np.ndarray, member: np.ndarray, alarms: float) -> tuple[float, float]:
    """(share of members caught where at most a share ``alarms`` of the others is, what chance would give)."""
    others = np.sort(score[~member])[::-1]
    allowed = int(np.floor(alarms * len(others)))
    return float((score[member] > others[allowed]).mean()), (allowed + 1) / (len(others) + 1)


def told(attack: str, knows: str, score: np.ndarray, member: np.ndarray, site: str | None = None) -> list[Figure]:
    """AUC and the rates at few false alarms of one attack."""
    value, low, high = auc(score, member)
    n = len(score)
    out = [Figure(attack, knows, AUC, value, low, high, 0.5, n, site)]
    for alarms in FEW_ALARMS:
        rate, chance = caught(score, member, alarms)
        out.append(Figure(attack, knows, f"TPR at {alarms:.1%} FPR", rate, None, None, chance, n, site))
    return out


def table(figures: Sequence[Figure], epsilon: float | None = None, delta: float | None = None) -> pl.DataFrame:
    """``tables.FEDERATION_ATTACKS`` with what the attacker has, units, and the privacy spent on what was attacked."""
    schema = dict(tables.FEDERATION_ATTACKS.columns)
    more = {"knows": pl.String(), "n": pl.Int64(), "epsilon": pl.Float64(), "delta": pl.Float64()}
    rows = [{c: getattr(f, c) for c in [*schema, "knows", "n"]} | {"epsilon": epsilon, "delta": delta} for f in figures]
    return tables.check(pl.DataFrame(rows, schema=schema | more, orient="row"), tables.FEDERATION_ATTACKS)
