"""The gate: predictions stay shut away until one of them has beaten chance on patients that did not choose it.

The patients are split once, by response. One half chooses: the few scores (drug and adaptation) with the best AUROC.
The other half confirms: a chosen score opens the gate where its interval, corrected for the number that was chosen,
lies above one half and its corrected permutation p is below 5 %. A score that points the wrong way never opens it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.translate import areas

LEVEL = 0.05
CHOSEN = 3
FEWEST = 8  # responders, and others, in the half that confirms


@dataclass(frozen=True)
class Confirmed:
    """One chosen score: its number, AUROC of both halves, corrected interval and p of the second, whether it opens."""

    score: int
    chose: float
    value: float
    low: float
    high: float
    p: float
    opens: bool


@dataclass(frozen=True)
class Gate:
    """``confirmed`` of the chosen scores, and ``why`` the gate is shut (None where it is open for any)."""

    confirmed: list[Confirmed]
    why: str | None

    @property
    def open(self) -> set[int]:
        """Numbers of the scores for which it is open."""
        return {c.score for c in self.confirmed if c.opens}


def halves(positive: np.ndarray, seed: int = 0) -> np.ndarray:
    """True (n,) for the patients that choose: half of the responders and half of the others."""
    rng = np.random.default_rng([areas.SEED, 2, seed])
    chooses = np.zeros(len(positive), dtype=bool)
    for side in (True, False):
        index = rng.permutation(np.flatnonzero(positive == side))
        chooses[index[: len(index) // 2]] = True
    return chooses


def decide(score: np.ndarray, positive: np.ndarray, *, chosen: int = CHOSEN, draws: int = 2000, seed: int = 0) -> Gate:
    """Open or shut, for scores (n, m) (larger: expected to respond) and a response (n,) of Booleans."""
    positive = np.asarray(positive, dtype=bool)
    chooses = halves(positive, seed)
    left = positive[~chooses]
    if min(left.sum(), (~left).sum()) < FEWEST:
        few = f"{int(left.sum())} responders and {int((~left).sum())} others"
        return Gate([], f"too few patients to confirm anything: {few} in the half that confirms, {FEWEST} needed")
    first = areas.auroc(score[chooses], positive[chooses])
    picked = np.argsort(-first, kind="stable")[:chosen]
    level = LEVEL / len(picked)
    found = areas.judge(
        score[~chooses][:, picked], left, level=1 - level, draws=draws, permutations=max(draws, 1000), seed=seed
    )
    confirmed = []
    for i, number in enumerate(picked):
        p = min(1.0, float(found.p[i]) * len(picked))
        value, low, high = float(found.value[i]), float(found.low[i]), float(found.high[i])
        confirmed.append(Confirmed(int(number), float(first[number]), value, low, high, p, low > 0.5 and p < LEVEL))
    if any(c.opens for c in confirmed):
        return Gate(confirmed, None)
    best = max(confirmed, key=lambda c: c.value)
    n = int((~chooses).sum())
    return Gate(
        confirmed,
        f"not shown to beat chance: the best of {len(picked)} scores chosen on {int(chooses.sum())} patients has an "
        f"AUROC of {best.value:.2f} ({best.low:.2f} to {best.high:.2f}, p {best.p:.2g}) on the {n} others; the "
        "interval must lie above 0.50",
    )
