"""A federation's frames with known answers: verdicts of every kind, costs that are half known, rounds with losses.

Numbers are written down, not computed, so that a test can name them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl

from workbench import tables

PLAN = {
    "method": "network", "rounds": 13, "least": 2, "folds": 1, "arms": ["alone", "pooled"],
    "settings": {"privacy": "person", "epsilon": 4.0},
}  # fmt: skip
SITES = ("north", "south", "coast", "hills", "island")
METRICS = {"normalised Pearson": "", "per-drug Pearson": "", "RMSE": "ln(uM)"}
ALONE = (0.354, 0.389, 0.390, 0.463, 0.497)
GAIN = (0.102, 0.099, 0.018, 0.047, 0.003)
VERDICTS = ("join", "join", "cannot tell", "join", "do not join")
REASONS = (
    "normalised Pearson rises by 0.102 (0.083 to 0.121), and no main metric may be worse by what matters.",
    "normalised Pearson rises by 0.099 (0.078 to 0.119), and no main metric may be worse by what matters.",
    "normalised Pearson changes by +0.018 (\u22120.004 to +0.041): it may or may not be the 0.020 that matter.",
    "normalised Pearson rises by 0.047 (0.031 to 0.062), and no main metric may be worse by what matters.",
    "RMSE rises by 0.061 ln(\u00b5M) (0.042 to 0.079).",
)


def value(hostile: str = "", sites: int = 5, arms: tuple[str, ...] = ("alone", "federated", "pooled")) -> Any:
    """sites, verdicts, overall, attacks and notes; ``hostile`` takes the place of the first site's name."""
    names = [hostile or SITES[0], *SITES[1:]][:sites]
    scores, told = [], []
    for i, site in enumerate(names):
        for metric, unit in METRICS.items():
            turn = -1 if metric == "RMSE" else 1
            base = 1.30 - ALONE[i] / 2 if turn < 0 else ALONE[i]
            gain = (-0.061 if i == 4 else GAIN[i] / 2) if turn < 0 else GAIN[i]
            for arm in arms:
                d = 0.0 if arm == "alone" else turn * gain * {"federated": 1.0, "pooled": 1.15}.get(arm, 1.3)
                reach = 0.019
                better = (d - reach) * turn > 0 and (d + reach) * turn > 0
                worse = (d - reach) * turn < 0 and (d + reach) * turn < 0
                verdict = "better" if better else "worse" if worse else "no difference shown"
                paired: tuple[Any, ...] = (d, d - reach, d + reach, d - 1.35 * reach, d + 1.35 * reach, 0.003, 0.015)
                scores.append(
                    ("ridge", "unseen subject", site, arm, metric, base + d, base + d - 0.03, base + d + 0.03,
                     1.35 if turn < 0 else 0.0, "mean effects", unit, *((None,) * 7 if arm == "alone" else paired),
                     0.012 if turn < 0 else 0.02, None if arm == "alone" else verdict, "subject", 180 - 20 * i, 9000)
                )  # fmt: skip
        harmed = "RMSE" if i == 4 else ""
        flags = ["membership inference works: AUC 0.710, chance 0.500"] if i == 4 else []
        flags += [f"flag of {hostile}"] if hostile and not i else []
        known = i != 2
        for arm in arms:
            if arm in ("federated", "personalised"):
                paid = (31000 - 3000 * i, 2.5, 1e-5, 1_250_000 + i, 42, 20, i) if known else (25000, *(None,) * 6)
                told.append(
                    ("ridge", "unseen subject", site, arm, VERDICTS[i], (hostile if not i else "") + REASONS[i],
                     "normalised Pearson", harmed, flags, *paid)
                )  # fmt: skip
    overall = [
        {"predictor": "ridge", "split": "unseen subject", "arm": arm, "metric": m, "sites": len(names), "joined": 3,
         "gain": 0.054, "low": 0.041, "high": 0.066, "by_rows": 0.058, "best_site": names[0], "best": 0.102,
         "worst_site": names[-1], "worst": 0.003, "gap_alone": 0.143, "gap": 0.102, "spearman": 0.6}
        for arm in arms if arm in ("federated", "personalised") for m in METRICS
    ]  # fmt: skip
    attacks = [(names[-1], "membership inference", "AUC", 0.71, 0.66, 0.75, 0.5)]
    attacks += [(None, "membership inference", "AUC", 0.64, 0.60, 0.68, 0.5)]
    attacks += [(names[0], "membership inference", "AUC", 0.503, 0.47, 0.53, 0.5)] if len(names) > 1 else []

    def frame(rows: list[Any], table: tables.Table) -> pl.DataFrame:
        return pl.DataFrame(rows, schema=dict(table.columns), orient="row")

    return SimpleNamespace(
        sites=frame(scores, tables.FEDERATION_VALUE),
        verdicts=frame(told, tables.FEDERATION_VERDICTS),
        overall=pl.DataFrame(overall),
        attacks=frame(attacks, tables.FEDERATION_ATTACKS),
        notes=("5 sites are judged at once: a join needs an interval that holds for all 5 together (Bonferroni).",),
    )


def rounds(until: int = 12, hostile: str = "") -> pl.DataFrame:
    """FEDERATION_ROUNDS of rounds 0 to ``until``: south is lost in round 3, island from round 9 on.

    hills is flagged in round 1, and set aside in rounds 4 and 5.
    """
    rows: list[tuple[Any, ...]] = []
    for r in range(until + 1):
        for i, site in enumerate([hostile or SITES[0], *SITES[1:]]):
            lost = "did not answer in time" if (i, r) == (1, 3) else "sent NaN" if i == 4 and r >= 9 else None
            rows.append((r, site, "training", None, None, None if lost else 104_000 + i, 1.5, lost))
            if lost is None:
                rows.append((r, site, "validation RMSE", 1.0 + 0.9 / (r + 1) + 0.05 * i, "ln(uM)", None, None, None))
                rows.append((r, site, "training loss", 0.6 + 1.9 / (r + 1) + 0.03 * i, None, None, None, None))
        if r == 1:
            rows.append((r, SITES[3], "flagged: training: 3.1 times longer than the median update", *(None,) * 5))
        if r in (4, 5):
            why = f"set aside: {65 - r}% of what tells sites apart"
            rows.append((r, SITES[3], "set aside", None, None, None, None, why))
        rows.append((r, None, "validation RMSE", 1.1 + 0.9 / (r + 1), "ln(uM)", None, None, None))
    return pl.DataFrame(rows, schema=dict(tables.FEDERATION_ROUNDS.columns), orient="row")
