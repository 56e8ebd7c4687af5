"""A plan of pilot measurements with planted numbers, as ``pilots.fit`` would give it."""

from __future__ import annotations

import numpy as np

from workbench.planning.calibration import Calibration
from workbench.planning.factors import Factors
from workbench.planning.pilots import Plan

HOSTILE = "<img src=x onerror='window.__pwned=1'>"
LINES = ["line 0", "line 1", "bare"]


def plan(treatments: int = 30, seed: int = 0, predictor: str = "ridge") -> Plan:
    draw = np.random.default_rng([55, seed])
    names = [HOSTILE, *[f"drug {i:02d}" for i in range(1, treatments)]]
    means = draw.normal(size=(len(LINES), treatments))
    means[2] = np.nan
    means[1, 4] = np.nan  # one treatment the predictor says nothing of
    loadings, noise = draw.normal(0, 0.6, (treatments, 3)), draw.uniform(0.2, 0.8, treatments)
    ks = np.array([0.0, 1, 2, 5, 10, 20])
    return Plan(
        {
            "study": "planted", "digest": "0", "endpoint": "ln_ic50", "unit": "ln(uM)", "rule": "unseen subject",
            "predictor": predictor, "params": {}, "seed": 0, "level": 0.9, "lines": 100,
        },
        LINES,
        names,
        names,
        means,
        draw.normal(size=treatments),
        (loadings**2).sum(1) + noise + 1,
        np.full(treatments, 0.9),
        Factors(draw.normal(0, 0.05, treatments), loadings, noise, -1.0),
        Calibration(
            ks, np.linspace(1.6, 1.8, 6), np.linspace(1.0, 1.05, 6), np.tile([0.7, 1.0, 1.4], (6, 1)),
            draw.uniform(0.9, 1.1, treatments),
        ),
    )  # fmt: skip
