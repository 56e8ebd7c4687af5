"""Comparisons of runs with known answers: who leads where, by how much, who is not told apart, and what differs.

Two studies, two rules, three metrics; ``drug_response`` leads on unseen subjects, nobody is told apart on unseen
treatments. Numbers are written down, not computed, so that a test can name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from workbench.comparison.frames import CRITICAL, GROUPS, PAIRS, PARAMETERS, PARETO, RANKS, SCORES, Comparison

ENTRIES = [("drug_response", "members=5"), ("drug_response", "members=1"), ("ridge", ""), ("trees", "")]
NAIVE = ("tissue_drug_mean", "")
METRICS = {"normalised Pearson": "", "per-drug Pearson": "", "RMSE": "ln(uM)"}
COST_S = {0: 300.0, 1: 62.0, 2: 18.5, 3: 150.0, 4: 0.4}
LEVEL = {
    "normalised Pearson": [0.597, 0.595, 0.593, 0.504, 0.468],
    "per-drug Pearson": [0.577, 0.574, 0.57, 0.491, 0.451],
    "RMSE": [1.176, 1.178, 1.175, 1.265, 1.291],
}
DIFFER = {
    "members": ["5", "1", None, None, None],
    "modalities": ["expression, mutation", "expression, mutation", "expression", "expression", None],
}
MEAN_RANKS = [1.2, 2.1, 2.7, 4.0, 5.0]
PLACES = [("gdsc2", "unseen subject"), ("gdsc2", "unseen treatment"), ("gdsc1", "unseen subject")]


def comparison(
    hostile: str = "",
    entries: int | None = None,
    places: Sequence[tuple[str, str]] = PLACES,
    metrics: Sequence[str] = tuple(METRICS),
) -> Comparison:
    """The frames of a comparison; ``hostile`` takes the place of one predictor's name, ``entries`` keeps the first."""
    named = [*ENTRIES, NAIVE][: entries or 5]
    if hostile:
        named = [(hostile if p == "trees" else p, v) for p, v in named]
    names = [f"{p}, {v}" if v else p for p, v in named]
    scores, pairs, ranks, critical, groups, parameters, pareto = [], [], [], [], [], [], []
    for study, split in places:
        off, one = -0.05 * PLACES.index((study, split)), (study, split)
        for measure, unit in METRICS.items():
            for i, (predictor, variant) in enumerate(named):
                value = LEVEL[measure][i] + off
                scores.append(
                    (*one, names[i], predictor, variant, measure, value, value - 0.018, value + 0.016,
                     "bootstrap over 917 subjects", LEVEL[measure][4] + off, NAIVE[0], 5,
                     2 if split == "unseen subject" else 1, COST_S[i], unit)
                )  # fmt: skip
        for metric in metrics:
            level = LEVEL[metric]
            for i, a in enumerate(names):
                for j in range(i + 1, len(names)):
                    gap = level[i] - level[j]
                    sure = split == "unseen subject" and abs(gap) > 0.0025
                    good = (gap > 0) != (metric == "RMSE")
                    verdict = ("better" if good else "worse") if sure else "no difference shown"
                    p = 0.002 if sure else 0.4
                    pairs.append((*one, metric, a, names[j], gap, gap - 0.003, gap + 0.003, p, min(1.0, 10 * p),
                                  verdict, "bootstrap over 917 subjects, 5 folds", 10))  # fmt: skip
                pareto.append((*one, metric, a, named[i][0], level[i] + off, COST_S[i], i != 3))
            if len(names) > 2:
                ranks += [(*one, metric, a, MEAN_RANKS[i], 10) for i, a in enumerate(names)]
                critical.append((*one, metric, len(names), 10, 31.2, 3e-6, 30.0, 1e-8, 2.728, 1.93, ""))
                groups += [(*one, metric, "Nemenyi", [names[i] for i in some if i < len(names)])
                           for some in ([0, 1, 2], [2, 3], [3, 4])]  # fmt: skip
        parameters += [(*one, a, k, v[i]) for k, v in DIFFER.items() for i, a in enumerate(names) if len(names) > 1]

    def frame(rows: list[Any], columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
        return pl.DataFrame(rows, schema=columns, orient="row")

    return Comparison(
        metrics=tuple(metrics),
        better={"normalised Pearson": 1, "per-drug Pearson": 1, "RMSE": -1},
        scores=frame(scores, SCORES),
        pairs=frame(pairs, PAIRS),
        ranks=frame(ranks, RANKS),
        critical=frame(critical, CRITICAL),
        groups=frame(groups, GROUPS),
        parameters=frame(parameters, PARAMETERS),
        pareto=frame(pareto, PARETO),
        notes=("Folds share training rows, so ranks over folds overstate how sure they are.",),
    )
