"""The association scan against a loop of statsmodels' OLS: every drug x every feature beside about 30 covariates.

The study ``gdsc2`` of the home where there is one (ln IC50, tissue, microsatellite state and noise columns up to 30
covariates, expression), else synthetic numbers of its size: 917 samples, 6,163 features, 286 drugs, 14 % of the pairs
missing at random. The loop is the straightforward one (a drug's rows and covariates are laid out once, the feature's
column is filled in for each fit) and would take hours, so it runs on a random sample of pairs and its time is
extrapolated by the number of pairs. One thread on both sides.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

SAMPLES, FEATURES, DRUGS, COVARIATES, MISSING = 917, 6163, 286, 30, 0.14
PAIRS, ROUNDS = 400, 5


def synthetic(
    samples: int = SAMPLES, features: int = FEATURES, drugs: int = DRUGS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses (n, D) with gaps, features (n, p) and covariates (n, 30) of the size of GDSC2; no biology."""
    draw = np.random.default_rng(0)
    tissue = np.eye(19)[draw.integers(0, 19, samples)][:, 1:]
    state = (draw.random((samples, 2)) < 0.06).astype(np.float64)
    rest = draw.normal(size=(samples, COVARIATES - tissue.shape[1] - 2))
    x = draw.normal(size=(samples, features))
    y = draw.normal(size=(samples, drugs)) + 0.3 * x[:, :1]
    y[draw.random(y.shape) < MISSING] = np.nan
    return y, x, np.hstack([tissue, state, rest])


def real() -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The same arrays from the study ``gdsc2`` of the home, or None."""
    from workbench.assays.association import dummies
    from workbench.study import Study, find, names

    if "gdsc2" not in names():
        return None
    study = Study.open(find("gdsc2"))
    expression = study.modality("expression")
    rows = list(expression.obs_names)
    frame = study.outcomes.filter(endpoint="ln_ic50").pivot("treatment", index="subject", values="value")
    about = study.subjects.select("subject", "tissue", "msi").join(frame, on="subject", maintain_order="left")
    about = about.drop_nulls("msi")
    about = about[[i for i, s in enumerate(about["subject"]) if s in set(rows)]]
    design, _, complete = dummies(about, ["tissue", "msi"])
    noise = np.random.default_rng(0).normal(size=(about.height, COVARIATES - design.shape[1]))
    y = about.drop("subject", "tissue", "msi").to_numpy()
    x = np.asarray(expression[about["subject"].to_list()].X, dtype=np.float64)
    return y[complete], x[complete], np.hstack([design, noise])[complete]


def loop(
    y: np.ndarray, x: np.ndarray, covariates: np.ndarray, pairs: np.ndarray, tails: bool
) -> tuple[float, np.ndarray]:
    """Seconds per pair and t of ``pairs`` (drug, feature), sorted by drug, by statsmodels."""
    import statsmodels.api as sm

    t = np.empty(len(pairs))
    spent, drug = 0.0, -1
    for i, (d, j) in enumerate(pairs):
        if d != drug:  # laid out once for all features of the drug: not counted
            there, drug = np.isfinite(y[:, d]), d
            response = y[there, d]
            design = np.column_stack([np.ones(there.sum()), covariates[there], x[there, 0]])
            column = np.asfortranarray(x[there])
        start = time.perf_counter()
        design[:, -1] = column[:, j]
        fitted = sm.OLS(response, design).fit()
        t[i] = fitted.tvalues[-1]
        if tails:
            _ = fitted.pvalues[-1]
        spent += time.perf_counter() - start
    return spent / len(pairs), t


def run(
    data: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None, pairs: int = PAIRS, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """Interleave both sides ``rounds`` times after a warm-up; medians, and the largest difference of t."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from workbench.assays import _regressions
    from workbench.assays._significance import benjamini_hochberg, t_tails

    what, given = "given", data
    if given is None:
        found = real()
        what, given = ("gdsc2, expression", found) if found is not None else ("synthetic", synthetic())
    y, x, covariates = given
    draw = np.random.default_rng(1)
    sample = np.column_stack([np.sort(draw.integers(0, y.shape[1], pairs)), draw.integers(0, x.shape[1], pairs)])
    total = y.shape[1] * x.shape[1]

    def plain() -> np.ndarray:
        return _regressions.fit(y, x, covariates).t

    def judged() -> np.ndarray:
        found = _regressions.fit(y, x, covariates)
        benjamini_hochberg(t_tails(found.t, found.df[:, None].astype(np.float64)))
        return found.t

    rows = []
    with threadpool_limits(1), tqdm(total=2 * (rounds + 1), desc="scan", unit="round", file=sys.stderr) as bar:
        for name, ours, tails in (("beta, se, t", plain, False), ("with p and q", judged, True)):
            peers = partial(loop, y, x, covariates, sample, tails)
            mine, theirs, t, peer = _interleaved(ours, peers, rounds, bar)
            seconds, extrapolated = statistics.median(mine), statistics.median(theirs) * total
            difference = float(np.max(np.abs(t[sample[:, 0], sample[:, 1]] / peer - 1)))
            ratios = sorted(b * total / a for a, b in zip(mine, theirs, strict=True))
            note = (
                f"{what}: {y.shape[0]} samples x {x.shape[1]:,} features x {y.shape[1]} drugs, {covariates.shape[1]} "
                f"covariates, {float(np.isnan(y).mean()):.0%} missing; peer extrapolated from {pairs} random pairs; "
                f"rounds {ratios[0]:,.0f}x to {ratios[-1]:,.0f}x; largest relative difference of t {difference:.1e}; "
                "1 thread"
            )
            rows.append(
                {
                    "name": f"association scan, {name}",
                    "ours": seconds,
                    "peer": extrapolated,
                    "unit": "s",
                    "ratio": extrapolated / seconds,
                    "note": note,
                }
            )
    return rows


def _interleaved(
    ours: Callable[[], np.ndarray], peer: Callable[[], tuple[float, np.ndarray]], rounds: int, bar: Any
) -> tuple[list[float], list[float], np.ndarray, np.ndarray]:
    """Seconds of ours and seconds per pair of the peer, round by round after one that does not count, and both t."""
    mine, theirs = [], []
    for counted in range(rounds + 1):
        start = time.perf_counter()
        t = ours()
        spent = time.perf_counter() - start
        each, other = peer()
        if counted:
            mine.append(spent)
            theirs.append(each)
        bar.update()
    return mine, theirs, t, other
