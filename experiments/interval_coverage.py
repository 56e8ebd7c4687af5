"""Do 90 % intervals hold 90 % of what is measured later, and where do they not?

    python experiments/interval_coverage.py fit gdsc2 "unseen subject" ridge        # slow; goes on where it stopped
    python experiments/interval_coverage.py show gdsc2 "unseen subject" ridge       # tables of what was fitted

``fit`` keeps, for each fold, what was said of training rows by predictors that had not seen them, and what the final
predictor and those of the parts say of the test rows. ``show`` makes intervals of these in every way and counts: on the
fold's own test rows and, where lines were unseen, on the same lines in the other screen.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench import across, home, predict, predictors, score
from workbench.splits import Fold, Split, rows
from workbench.study import Study, find
from workbench.trust import coverage, shift
from workbench.trust.conformal import Conformal, LeftOut, fitted, left_out, remembered

FULL = ("expression", "mutation", "copy_number")
OTHER = {"gdsc2": "gdsc1", "gdsc1": "gdsc2"}
ENDPOINT = "ln_ic50"
LINES = 20  # of the other screen, where intervals are calibrated anew
WAYS: dict[str, dict[str, Any]] = {  # what the intervals are called, and the options of Conformal
    "split, all rows": {"method": "split", "by": ()},
    "split, by drug": {"method": "split"},
    "cross, all rows": {"by": ()},
    "cross, all rows, lines alike": {"by": (), "grouped": True},
    "cross, by drug": {},
    "cv+, by drug": {"method": "cv+"},
    "cross, by tissue": {"by": ("tissue",), "grouped": True},
    "cross, by tissue x drug": {"by": ("tissue", "treatment")},
    "cross, by drug, normalised": {"normalised": True},
    "cross, by drug, weighted": {"weighted": "expression"},
    "cross, all rows, weighted": {"by": (), "grouped": True, "weighted": "expression"},
    "cross, by drug, normalised, weighted": {"normalised": True, "weighted": "expression"},
}


AWAY = ("cross, by drug", "cross, by drug, normalised", "cross, by drug, weighted")  # ways tried on the other screen


class Kept:
    """Answers that were kept, as a predictor: it abstains on every pair that was not asked then."""

    def __init__(self, name: str, answers: pl.DataFrame) -> None:
        self.name = name
        self.answers = answers.select("subject", "treatment", "predicted", "low", "high", "abstained").unique(
            ["subject", "treatment"]
        )

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        found = pairs.select("subject", "treatment").join(
            self.answers, on=["subject", "treatment"], how="left", maintain_order="left"
        )
        silent = pl.when(pl.col("predicted").is_null()).then(pl.coalesce("abstained", pl.lit("not asked")))
        return found.select("predicted", "low", "high", silent.alias("abstained"))


def place(study: str, rule: str, predictor: str, seed: int, hold: str) -> Path:
    """Folder of what was fitted, one folder a fold in it."""
    held = f"_by-{hold.replace(' ', '-')}" if hold else ""
    return home.home() / "coverage" / f"{study}_{rule.replace(' ', '-')}_{predictor}_seed{seed}{held}"


def fit(study: str, rule: str, name: str, seed: int, hold: str, parts: int, only: list[int]) -> None:
    opened = Study.open(find(study))
    split = Split.make(opened, rule, endpoint=ENDPOINT, seed=seed, require=FULL)
    other = rows(Study.open(find(OTHER[study])), ENDPOINT) if rule == "unseen subject" else None
    for number in only or range(len(split.folds)):
        folder = place(study, rule, name, seed, hold) / str(number)
        if (folder / "done").is_file():
            continue
        start = time.perf_counter()
        fold = split.fold(number)
        own = replace(fold, rule=hold) if hold else fold
        final = fitted(predictors.make(name), own)
        out = None if parts else remembered(final, own)
        out = out or left_out(lambda name=name: predictors.make(name), fold, parts or 5, hold=hold)
        folder.mkdir(parents=True, exist_ok=True)
        out.rows.write_parquet(folder / "left_out.parquet")
        predict.predictions(final, fold).write_parquet(folder / "test.parquet")
        if out.models:
            told = out.answers(fold.study, fold.test)
            named = {f"part{k}": told[:, k] for k in range(told.shape[1])}
            fold.test.select("row").with_columns(**named).write_parquet(folder / "parts.parquet")
        if other is not None:  # pairs that the other screen measured too, most of them under the same names
            theirs = other.filter(pl.col("subject").is_in(fold.test["subject"].unique().implode())).filter(
                pl.col("treatment").is_in(fold.train["treatment"].unique().implode())
            )
            answer = final.predict(fold.study, theirs)
            pl.concat([theirs, answer], how="horizontal").write_parquet(folder / "elsewhere.parquet")
        (folder / "done").write_text(f"{time.perf_counter() - start:.1f} s\n", encoding="utf-8")
        print(f"{study}, {rule}, {name}, fold {number}: {time.perf_counter() - start:.0f} s", flush=True)


def scored(folder: Path, fold: Fold, other: Study | None, seen: dict[str, Any]) -> dict[str, pl.DataFrame]:
    """PREDICTIONS of one fold with every kind of interval, here, and on the same lines in the other screen."""
    test = pl.read_parquet(folder / "test.parquet")
    out = LeftOut(pl.read_parquet(folder / "left_out.parquet"), ())
    centres = None
    if (folder / "parts.parquet").is_file():
        joined = test.join(pl.read_parquet(folder / "parts.parquet"), on="row", how="left", maintain_order="left")
        told_by = joined.select(pl.selectors.matches(r"^part\d+$"))
        centres = told_by.to_numpy() if told_by.width else None
    lines = sorted(out.rows["subject"].unique()), sorted(test["subject"].unique())
    if not seen:
        seen |= {"ratios": shift.ratios(fold.study, *lines), "distance": shift.distances(fold.study, *lines)}
    asked = [test] + ([pl.read_parquet(folder / "elsewhere.parquet")] if other is not None else [])
    kept = Kept(test["predictor"][0], pl.concat([f.select(Kept("", f).answers.columns) for f in asked]))
    told = {"as recorded": score.unseal(test, fold)}
    ready = {"as recorded": kept}
    for name, options in WAYS.items():
        made = Conformal(lambda: kept, **options)
        if made.method != "cross" and centres is None:
            continue
        split = made.method == "split"  # the first part calibrates the predictor fitted without it
        answer = test.select(pl.Series("predicted", centres[:, 0]).fill_nan(None), "abstained") if split else test
        made.calibrate(kept, LeftOut(out.rows.filter(pl.col("part") == 0), ()) if split else out)
        weights = seen["ratios"] if made.weighted else None
        ends = made.around(test, answer, None if made.method != "cv+" else centres, weights)
        told[name] = score.unseal(test.with_columns(ends["predicted"], ends["low"], ends["high"]), fold)
        if name in AWAY:
            ready[name] = made
    if other is not None:
        for name, made in ready.items():
            for level, words in (("own", "there"), ("other", "there, its drug levels known")):
                told[f"{words}: {name}"] = across.predictions_elsewhere(made, fold, other, level=level)
        told |= anew(told["there: as recorded"], fold, kept, out)
    return told


def anew(there: pl.DataFrame, fold: Fold, kept: Kept, out: LeftOut) -> dict[str, pl.DataFrame]:
    """Intervals calibrated on a few lines of the other screen, judged on its other lines."""
    lines = sorted(there["subject"].unique())
    chosen = np.random.default_rng([20261122, fold.number]).choice(lines, LINES, replace=False).tolist()
    inside = pl.col("subject").is_in(chosen)
    spoke = there.filter(pl.col("predicted").is_not_null())
    few = spoke.filter(inside).with_columns(group="subject", part=pl.lit(0, pl.Int32))
    rest = spoke.filter(~inside)
    said = {"there, other lines: as recorded": rest}
    for by in ((), ("treatment",)):
        made = Conformal(lambda: kept, by=by, fewest=10, grouped=True).calibrate(kept, LeftOut(few, ()))
        ends = made.around(rest, rest)
        name = f"there, other lines: anew on {LINES} lines, {'by drug' if by else 'all rows'}"
        said[name] = rest.with_columns(ends["low"], ends["high"])
    # the level of each drug there, learnt from the same few lines, shrunk like five lines' worth of no difference
    moved = few.group_by("treatment").agg(
        ((pl.col("observed") - pl.col("predicted")).sum() / (pl.len() + 5)).alias("by")
    )
    shifted = rest.join(moved, on="treatment", how="left", maintain_order="left").with_columns(
        pl.col("by").fill_null(0)
    )
    name = f"there, other lines: as recorded, drug levels from {LINES} lines"
    said[name] = shifted.with_columns(pl.col("predicted", "low", "high") + pl.col("by")).drop("by")
    return said


def show(study: str, rule: str, names: list[str], seed: int, hold: str) -> pl.DataFrame:
    """COVERAGE of every way, for what was fitted; kept beside it as parquet."""
    opened = Study.open(find(study))
    other = Study.open(find(OTHER[study])) if rule == "unseen subject" else None
    split = Split.make(opened, rule, endpoint=ENDPOINT, seed=seed, require=FULL)
    made: dict[tuple[str, str], list[pl.DataFrame]] = {}
    distance: dict[str, float] = {}
    for number in range(len(split.folds)):
        fold, seen = split.fold(number), {}
        for name in names:
            folder = place(study, rule, name, seed, hold) / str(number)
            if (folder / "done").is_file():
                for way, frame in scored(folder, fold, other, seen).items():
                    made.setdefault((name, way), []).append(frame)
        if seen:
            distance |= seen["distance"]
            r = seen["ratios"]
            known = len(r.training)
            print(f"fold {number}: lines told apart with AUC {r.auc:.3f}; {r.effective:.0f} of {known} effective")
    tables = [
        coverage.table(pl.concat(f).with_columns(predictor=pl.lit(name)), distance=distance, intervals=way)
        for (name, way), f in made.items()
    ]
    whole = pl.concat(tables)
    for name in names:
        whole.filter(predictor=name).write_parquet(place(study, rule, name, seed, hold).with_suffix(".parquet"))
    return whole


def text(whole: pl.DataFrame) -> str:
    """A line for each predictor and kind of interval: in all, over drugs, over tissues, by prediction, by distance.

    Drugs and tissues: 5th to 95th percentile of coverage, then how many break / are wider than promised / there are.
    """
    lines = [
        f"{'predictor':<16} {'intervals':<56} covered (95 %)         width   inf  drugs                     tissues"
        f"{'':<18} predicted, sensitive first     distance, nearest first"
    ]
    for (name, way), one in whole.group_by("predictor", "intervals", maintain_order=True):
        total = one.filter(by="all").row(0, named=True)
        said = f"{name:<16} {way:<56} {total['covered']:.4f} ({total['low']:.3f}-{total['high']:.3f})"
        said += f" {total['width'] or np.nan:>6.3f} {total['unbounded']:>5.3f}"
        for kind in ("treatment", "tissue"):
            d = one.filter(by=kind)
            low, high = (d["covered"].quantile(q) for q in (0.05, 0.95))
            bad, wide = (d.filter(verdict=v).height for v in (coverage.BREAKS, coverage.WIDE))
            said += f"  {low:.3f}-{high:.3f} {f'{bad}/{wide}/{d.height}':<12}"
        for kind in ("predicted", "distance"):
            said += "  " + " ".join(f"{v:.3f}" for v in one.filter(by=kind).sort("position")["covered"])
        lines.append(said)
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Coverage of intervals on public screens.")
    what = parser.add_subparsers(dest="what", required=True)
    for verb in ("fit", "show"):
        one = what.add_parser(verb)
        one.add_argument("study", choices=sorted(OTHER))
        one.add_argument("rule")
        one.add_argument("predictors", nargs="+")
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--hold", default="", help="hold out by this rule instead of the split's own")
        if verb == "fit":
            one.add_argument("--parts", type=int, default=5, help="0: left-out answers that the predictor keeps itself")
            one.add_argument("--only", type=int, nargs="*", default=[], help="folds")
    args = parser.parse_args(argv)
    if args.what == "show":
        print(text(show(args.study, args.rule, args.predictors, args.seed, args.hold)))
        return 0
    for name in args.predictors:
        fit(args.study, args.rule, name, args.seed, args.hold, args.parts, args.only)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
