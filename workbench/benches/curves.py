"""Batched dose-response fitting against scipy's bounded ``curve_fit``: same model, bounds and curves, one thread.

Ours goes through ``dose_response.fit_arrays``: parameters, potencies, area, their intervals, the test against a flat
line and the flags, as a table. The peer gives parameters and their covariance (``curve_fit`` with its defaults: trf,
a Jacobian by differences) from a start read off the points; a second row hands it our analytic Jacobian. Synthetic
curves (they say nothing about biology). Compiling, once per installation, happens before the clock starts.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from workbench.assays import dose_response

CURVES, MANY, ROUNDS = 500, 100_000, 5
LOG_DOSES = np.linspace(-3, 1, 9)
NOISE, WITHIN = 0.05, 1.01


def planted(curves: int, seed: int = 0) -> np.ndarray:
    """(curves, 9) noisy viabilities at ``LOG_DOSES``: flat to steep, EC50 from the lowest dose to above the highest."""
    draw = np.random.default_rng(seed)
    top, bottom = draw.uniform(0.9, 1.1, (curves, 1)), draw.uniform(0, 0.9, (curves, 1))
    hill, ec50 = np.exp(draw.uniform(np.log(0.5), np.log(4), (curves, 1))), draw.uniform(-3, 1.5, (curves, 1))
    clean = top + (bottom - top) / (1 + 10 ** (hill * (ec50 - LOG_DOSES)))
    return clean + draw.normal(0, NOISE, clean.shape)


def ours(y: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds, and residual sums of squares (NaN: failed)."""
    dose, offsets = np.tile(10**LOG_DOSES, len(y)), np.arange(len(y) + 1) * y.shape[1]
    start = time.perf_counter()
    table = dose_response.fit_arrays(dose, y.ravel(), offsets)
    return time.perf_counter() - start, table["rss"].to_numpy()


def model(x: np.ndarray, top: float, bottom: float, hill: float, ec50: float) -> np.ndarray:
    """The curve, as the peer fits it."""
    return top + (bottom - top) / (1 + 10 ** (hill * (ec50 - x)))


def slopes(x: np.ndarray, top: float, bottom: float, hill: float, ec50: float) -> np.ndarray:
    """(points, 4) its derivatives."""
    s = 1 / (1 + 10 ** (hill * (ec50 - x)))
    u = (bottom - top) * s * (1 - s) * np.log(10)
    return np.stack([1 - s, s, u * (x - ec50), -u * hill], axis=1)


def peer(y: np.ndarray, jacobian: bool = False) -> tuple[float, np.ndarray]:
    """Seconds, and residual sums of squares (NaN: ``curve_fit`` gave up)."""
    from scipy.optimize import curve_fit

    b = dose_response.Bounds()
    reach = (LOG_DOSES[0] + b.ec50[0], LOG_DOSES[-1] + b.ec50[1])
    low, high = (np.array([b.top[i], b.bottom[i], b.hill[i], reach[i]]) for i in (0, 1))
    rss = np.full(len(y), np.nan)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # covariances that cannot be estimated are its answer, not a failure
        for i, values in enumerate(y):
            first, last = values[:2].mean(), values[-2:].mean()
            half = LOG_DOSES[np.argmin(np.abs(values - (first + last) / 2))]
            guess = np.clip([first, last, 1.0, half], low + 1e-3, high - 1e-3)
            try:
                found, _ = curve_fit(
                    model, LOG_DOSES, values, p0=guess, bounds=(low, high), jac=slopes if jacobian else None
                )
            except RuntimeError:
                continue
            rss[i] = ((values - model(LOG_DOSES, *found)) ** 2).sum()
    return time.perf_counter() - start, rss


def run() -> list[dict[str, Any]]:
    """Interleaved rounds, the best of each side; agreement of the residual sums of squares; then 100,000 curves."""
    y, many = planted(CURVES), planted(MANY, seed=1)
    mine: list[float] = []
    theirs: dict[bool, list[float]] = {False: [], True: []}
    with threadpool_limits(1), tqdm(range(ROUNDS + 1), desc="curves", unit="round", file=sys.stderr) as bar:
        ours(y[:5]), peer(y[:5])  # compile, import
        bar.update()
        for _ in range(ROUNDS):
            for _ in range(5):
                seconds, a = ours(y)
                mine.append(seconds)
            for jacobian, times in theirs.items():
                seconds, b = peer(y, jacobian)
                times.append(seconds)
                if not jacobian:
                    default = b
            bar.update()
        large = min(ours(many)[0] for _ in range(3))
    failed = int(np.isnan(default).sum())
    known = ~np.isnan(default)
    share = float((a[known] <= WITHIN * default[known]).mean())
    worse = int((default[known] > WITHIN * a[known]).sum())
    first, second, third = min(mine), min(theirs[False]), min(theirs[True])
    each = "ours with intervals, p-values and flags, the peer with a covariance"
    agreement = f"ours failed on {int(np.isnan(a).sum())}, the peer on {failed} and stopped over 1 % higher on {worse}"
    rows = [
        (f"{len(y)} curves, scipy curve_fit", first, second, "s", second / first, f"{each}; 1 thread"),
        (f"{len(y)} curves, curve_fit with our Jacobian", first, third, "s", third / first, "a stronger peer"),
        (f"{len(many):,} curves, per curve", 1e6 * large / len(many), 1e6 * second / len(y), "us",
         second / len(y) / (large / len(many)), f"peer's time from its {len(y)}; ours {large:.2f} s in all"),
        ("RSS at most 1 % above the peer's", share, 1 - worse / max(int(known.sum()), 1), "share of curves",
         share / max(1 - worse / max(int(known.sum()), 1), 1e-9), agreement),
    ]  # fmt: skip
    return [dict(zip(("name", "ours", "peer", "unit", "ratio", "note"), row, strict=True)) for row in rows]
