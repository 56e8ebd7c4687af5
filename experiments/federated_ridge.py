"""What is a federation worth to a site? Ridge alone, together from sums, and in one house, on the site's test rows.

    python experiments/federated_ridge.py fit gdsc2 0 OUT          # fold 0 of unseen subjects, both ways of dealing
    python experiments/federated_ridge.py every gdsc2 0 OUT        # the same with all axes
    python experiments/federated_ridge.py same gdsc1 0 OUT         # together equals one house, by numbers
    python experiments/federated_ridge.py exact gdsc2 0 OUT        # all axes, one penalty, beside a dense solution
    python experiments/federated_ridge.py tell gdsc2 OUT           # the table, once all folds are there

Five sites, dealt at random and by tissue. Alone: ``predictors.linear.Ridge`` on the site's rows, penalties by leaving
one out. Together: ``federated.ridge``, 128 axes, from sums; "all axes" where the sites' policies allow as many axes as
the rows of all sites span. One house: ``Ridge`` on all rows. Settings were chosen on GDSC1 (seed 7); normalised
metrics take the mean effects of all training rows away, the same for every arm.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench import modalities, predict, score, study
from workbench.federated import sharing
from workbench.federated.exact import ridge
from workbench.federated.policy import Policy
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.federated.worth import arms
from workbench.nn.scaling import standardise
from workbench.predictors._pairs import matrix
from workbench.splits import Fold, Split

GROUPS = {
    "blood": ["leukemia", "lymphoma", "myeloma"],
    "lung": ["lung_NSCLC", "lung_SCLC", "lung"],
    "gut": ["digestive_system", "large_intestine", "pancreas", "aero_dig_tract"],
    "breast and urogenital": ["breast", "kidney", "urogenital_system", "thyroid"],
    "brain, skin and bone": ["skin", "nervous_system", "neuroblastoma", "bone", "soft_tissue"],
}
METRICS = ("normalised Pearson", "per-drug Pearson", "RMSE")
ARMS = ("alone", "federated", "federated, all axes", "pooled")


def fold(name: str, number: int, seed: int = 0) -> Fold:
    require = ("expression", "mutation", "copy_number")
    made = Split.make(
        study.Study.open(study.find(name)), "unseen subject", endpoint="ln_ic50", folds=5, seed=seed, require=require
    )
    return made.fold(number)


def deals(of: Fold) -> dict[str, dict[str, list[str]]]:
    return {"random": sharing.at_random(of, 5), "tissue": sharing.by_column(of, "tissue", GROUPS)}


def together(of: Fold, dealt: dict[str, list[str]], axes: int, policy: Policy, **settings: Any) -> ridge.Ridge:
    sites = Inline([Site(name, sharing.local(of, own), policy) for name, own in dealt.items()])
    return ridge.fit(sites, {"axes": axes} | settings)


def fit(name: str, number: int, out: Path) -> None:
    """Predictions of every arm on one fold, one file for each way of dealing; what is there stays."""
    of = fold(name, number)
    base = predict.baseline(of)
    for how, dealt in deals(of).items():
        began, path = time.time(), out / f"{name}_{how}_{number}.parquet"
        if path.exists():
            continue
        frames = arms.trained(("alone", "pooled"), "ridge", {}, of, dealt, base)
        frames.append(arms.predictions("federated", together(of, dealt, 128, Policy()), of, dealt, base))
        pl.concat(frames).write_parquet(path)
        print(f"{path.name}: {time.time() - began:.0f} s", flush=True)


def every(name: str, number: int, out: Path) -> None:
    """Together with all axes: exact, so that who holds which rows matters only to what each has alone."""
    of = fold(name, number)
    base, began = predict.baseline(of), time.time()
    made = together(of, deals(of)["random"], 4096, Policy(axes_per_subject=100.0))
    for how, dealt in deals(of).items():
        told = arms.predictions("federated", made, of, dealt, base).with_columns(arm=pl.lit("federated, all axes"))
        told.write_parquet(out / f"{name}_{how}_{number}_every.parquet")
    print(f"{name}, fold {number}, all axes: {time.time() - began:.0f} s", flush=True)


def same(name: str, number: int, out: Path) -> None:
    """Largest differences between together and one site with all rows, where no site keeps small counts to itself."""
    of = fold(name, number)
    one = together(of, {"all": sorted({*of.train["subject"], *of.test["subject"]})}, 128, Policy(minimum_cell=1))
    for how, dealt in deals(of).items():
        many = together(of, dealt, 128, Policy(minimum_cell=1))
        a, b = (m.predict(of.study, of.test)["predicted"].to_numpy() for m in (one, many))
        print(
            f"{name} {how} fold {number}: weights {np.abs(one.weights_ - many.weights_).max():.1e} of "
            f"{np.abs(one.weights_).max():.1e}, predictions {np.nanmax(np.abs(a - b)):.1e}, penalties differ in "
            f"{int((one.penalty_ != many.penalty_).sum())} of {len(one.penalty_)}, half-widths "
            f"{np.abs(one.widths_.values - many.widths_.values).max():.1e}",
            flush=True,
        )


def exact(name: str, number: int, out: Path) -> None:
    """Largest differences from every treatment's own normal equations on the rows of all sites, solved densely."""
    of = fold(name, number)
    block = modalities.read(of.study, "expression", endpoint=of.endpoint)
    subjects = [s for s in sorted(of.train["subject"].unique()) if s in set(block.names)]
    x = block.rows(subjects)[0]
    z = standardise(x, x.astype(np.float64).mean(0), x.astype(np.float64).std(0)).astype(np.float64)
    z /= np.sqrt((z**2).sum() / len(z))
    length, known = np.sqrt(x.shape[1]), sorted(of.train["treatment"].unique())
    y, kernel = matrix(of.train.filter(pl.col("subject").is_in(subjects)), subjects, known), z @ z.T
    for penalty in (0.1, 3.0):
        weights, offset = np.zeros((x.shape[1], len(known))), np.zeros(len(known))
        for t in range(len(known)):
            at = np.flatnonzero(np.isfinite(y[:, t]))
            left = np.ones((len(at) + 1, len(at) + 1))
            left[:-1, :-1] = kernel[np.ix_(at, at)] + penalty * np.eye(len(at))
            left[-1, -1] = 0.0
            solved = np.linalg.solve(left, np.append(y[at, t], 0.0))
            weights[:, t], offset[t] = z[at].T @ solved[:-1] / length, solved[-1]
        for how, dealt in deals(of).items():
            policy, began = Policy(minimum_cell=1, axes_per_subject=100.0), time.time()
            made = together(of, dealt, len(subjects), policy, penalties=[penalty])
            if made.treatments_ != known:
                raise SystemExit(f"{len(made.treatments_)} treatments together, {len(known)} in the training rows.")
            print(
                f"{name} {how} fold {number}, penalty {penalty:g}: {len(known)} treatments, {len(subjects)} lines, "
                f"weights {np.abs(made.weights_ - weights).max():.1e} of {np.abs(weights).max():.1e}, offsets "
                f"{np.abs(made.offset_ - offset).max():.1e}; {time.time() - began:.0f} s",
                flush=True,
            )


def tell(name: str, out: Path) -> None:
    """Scores of each arm by site and over all test rows, and the paired difference from alone."""
    for how in ("random", "tissue"):
        files = sorted(out.glob(f"{name}_{how}_*.parquet"))
        rows = pl.concat([pl.read_parquet(f) for f in files])
        print(f"\n{name}, dealt {how}, {rows['fold'].n_unique()} folds")
        for site in [*rows["site"].unique().sort(), None]:
            part = rows if site is None else rows.filter(pl.col("site") == site)
            part = part.with_columns(predictor=pl.col("arm")).drop("arm", "site")
            metrics, compared = score.evaluate(part, [])
            print(f"  {site or 'all sites'}: {part['subject'].n_unique()} subjects")
            for arm in [a for a in ARMS if a in metrics["predictor"]]:
                said = []
                for metric in METRICS:
                    found = _row(metrics, fold="all", predictor=arm, metric=metric)
                    words = f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
                    if arm != "alone":
                        against = _against(compared, arm, metric)
                        words += f" {against[0]:+.3f} ({against[1]:+.3f} to {against[2]:+.3f})"
                    said.append(f"{metric} {words}")
                print(f"    {arm:20s} " + "; ".join(said), flush=True)


def _row(frame: pl.DataFrame, **of: str) -> dict:
    return frame.filter(pl.all_horizontal(pl.col(k) == v for k, v in of.items())).row(0, named=True)


def _against(compared: pl.DataFrame, arm: str, metric: str) -> tuple[float, float, float]:
    """Difference of ``arm`` from alone, whichever way round it was compared."""
    for a, b, sign in ((arm, "alone", 1), ("alone", arm, -1)):
        found = compared.filter((pl.col("predictor") == a) & (pl.col("other") == b) & (pl.col("metric") == metric))
        if found.height and found["difference"][0] is not None:
            three = [sign * found[c][0] for c in ("difference", "low", "high")]
            return three[0], min(three[1:]), max(three[1:])
    return (np.nan,) * 3


if __name__ == "__main__":
    what, data, *rest = sys.argv[1:]
    folder = Path(rest[-1])
    folder.mkdir(parents=True, exist_ok=True)
    if what == "tell":
        tell(data, folder)
    else:
        {"fit": fit, "every": every, "same": same, "exact": exact}[what](data, int(rest[0]), folder)
