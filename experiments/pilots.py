"""Pilots on lines never seen: random against chosen, k = 0, 5, 10, 20, on the same held-out rows.

    python experiments/pilots.py [--study gdsc2 gdsc1] [--seed 0] [--folds 5] [--predictor ridge] [--json pilots.json]

Each fold's plan is kept in the workbench's home, so a second call goes on where the first one stopped and only scores.
The drug's mean with the same pilots stands beside it: what measuring alone, without omics, would give.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import polars as pl

from workbench import home, score
from workbench.planning import judging, pilots
from workbench.splits import Split
from workbench.study import Study, find

NAIVE = "drug_mean"
REQUIRE = ("expression", "mutation", "copy_number")
SHOWN = ("normalised Pearson", "per-drug Pearson", "RMSE", "coverage", "interval width")


def planned(split: Split, number: int, predictor: str) -> pilots.Plan:
    """The plan of one fold, fitted once."""
    fold = split.fold(number)
    folder = home.home() / "plans" / f"fold{number}-{predictor}-{split.digest[:16]}-v{pilots.VERSION}"
    if (folder / pilots.CONFIG).is_file():
        return pilots.load(folder)
    started = time.perf_counter()
    plan = pilots.fit(fold, predictor)
    pilots.save(plan, folder, replace=True)
    print(f"  fold {number}, {predictor}: fitted in {time.perf_counter() - started:.0f} s", flush=True)
    return plan


def judged(study: str, seed: int, folds: int, predictor: str, draws: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """METRICS and COMPARISONS of all folds, with the column k."""
    split = Split.make(Study.open(find(study)), "unseen subject", endpoint="ln_ic50", seed=seed, require=REQUIRE)
    collected: dict[int, list[pl.DataFrame]] = {k: [] for k in judging.KS}
    spent = 0.0
    for number in range(folds):
        plan, naive, fold = planned(split, number, predictor), planned(split, number, NAIVE), split.fold(number)
        started = time.perf_counter()
        scored = judging.opened(plan, fold)
        panels = judging.panels(plan, scored, max(judging.KS), seed)["chosen"]
        for k, frame in judging.table(plan, scored, seed=seed).items():
            names = {s: naive.at([plan.treatments[i] for i in p[:k]]) for s, p in panels.items()}
            bare = judging.with_pilots(naive, scored, names, f"{NAIVE}, {k} chosen")
            bare = bare.filter(pl.col("row").is_in(frame["row"].implode()))
            collected[k].append(pl.concat([frame, bare]))
        spent += time.perf_counter() - started
    metrics, comparisons = [], []
    for k, frames in collected.items():
        m, c = score.evaluate(pl.concat(frames), [f"{NAIVE}, {k} chosen"], draws=draws, seed=seed)
        metrics.append(m.with_columns(k=k))
        comparisons.append(c.with_columns(k=k))
    print(f"  {study}: panels and answers of {folds} folds in {spent:.0f} s beside the fits", flush=True)
    return pl.concat(metrics), pl.concat(comparisons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", nargs="+", default=["gdsc2", "gdsc1"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--predictor", default="ridge")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    written = []
    for study in given.study:
        metrics, comparisons = judged(study, given.seed, given.folds, given.predictor, given.draws)
        print(f"\n{study}, unseen lines, {given.folds} folds, seed {given.seed}; 95 % intervals over lines")
        whole = metrics.filter(pl.col("fold") == "all")
        print(f"{'':30}" + "".join(f"{m:>28}" for m in SHOWN))
        for (k,), part in whole.group_by("k", maintain_order=True):
            for name in part["predictor"].unique(maintain_order=True):
                own = {r["metric"]: r for r in part.filter(pl.col("predictor") == name).iter_rows(named=True)}
                cells = [f"{own[m]['value']:.3f} ({own[m]['low']:.3f} to {own[m]['high']:.3f})" for m in SHOWN]
                label = name if "," in name else f"{name}, rows of {k}"
                print(f"{label:30}" + "".join(f"{c:>28}" for c in cells))
            pair = comparisons.filter(
                (pl.col("k") == k)
                & (pl.col("metric") == "normalised Pearson")
                & pl.col("predictor").str.ends_with("chosen")
                & pl.col("other").str.ends_with("random")
                & pl.col("predictor").str.starts_with(given.predictor)
            )
            for r in pair.iter_rows(named=True):
                print(f"  chosen less random: {r['difference']:+.3f} ({r['low']:+.3f} to {r['high']:+.3f})")
        written += [{"study": study, "seed": given.seed, **r} for r in metrics.to_dicts()]
        assert np.isfinite(whole["value"].to_numpy()).all()
    if given.json:
        given.json.write_text(json.dumps(written, indent=1, default=str))


if __name__ == "__main__":
    main()
