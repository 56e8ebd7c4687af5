"""A synthetic screen with the shape of a real one: made of random numbers, it says nothing about biology.

expression     genes of common factors, levels and spreads of their own, tissues apart
mutation       0/1, most genes rare (a handful of lines), a few common, a few lines with very many
copy_number    -1/0/1 in stretches of neighbouring genes
y_sd = level_d + tissue_td + factors_s . effect_d + mutated_s . effect_d + noise
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench import home, tables
from workbench.study import Study, write_study


@dataclass(frozen=True)
class Size:
    """Lines, drugs, features of the three modalities, factors behind expression, tissues."""

    lines: int = 600
    drugs: int = 60
    expression: int = 800
    mutation: int = 200
    copy_number: int = 300
    factors: int = 40
    tissues: int = 12


def write(name: str = "screen", size: Size | None = None, seed: int = 0) -> Study:
    """Write the screen ``name`` into the home and open it."""
    from anndata import AnnData

    of, g = size or Size(), np.random.default_rng([20261122, seed])
    lines, drugs = [f"line {i:03d}" for i in range(of.lines)], [f"drug {j:02d}" for j in range(of.drugs)]
    tissue = np.minimum(g.geometric(0.18, of.lines) - 1, of.tissues - 1)
    factor = g.normal(size=(of.lines, of.factors)) + g.normal(0, 1.2, (of.tissues, of.factors))[tissue]
    weight = g.normal(size=(of.factors, of.expression)) * np.exp(-np.arange(of.factors) / 12)[:, None]
    x = factor @ weight + g.normal(0, 0.7, (of.lines, of.expression))
    x = g.normal(5, 2, of.expression) + x * np.exp(g.normal(-0.5, 0.4, of.expression))
    often = np.clip(np.exp(g.normal(np.log(0.015), 0.9, of.mutation)), 0.001, 0.4)
    many = np.where(g.random(of.lines) < 0.03, 8.0, 1.0)
    mutated = g.random((of.lines, of.mutation)) < np.minimum(often * many[:, None], 0.8)
    stretch = np.repeat(g.normal(size=(of.lines, -(-of.copy_number // 12))), 12, axis=1)[:, : of.copy_number]
    calls = np.sign(stretch) * (np.abs(stretch + g.normal(0, 0.2, stretch.shape)) > 1.4)
    common = np.argsort(-often)[:10]
    y = g.normal(2, 2, of.drugs) + g.normal(0, 0.5, (of.tissues, of.drugs))[tissue]
    y = y + factor[:, :10] @ g.normal(0, 0.25, (min(10, of.factors), of.drugs)) + g.normal(0, 0.9, (of.lines, of.drugs))
    y = y + mutated[:, common] @ (g.normal(0, 1.5, (10, of.drugs)) * (g.random((10, of.drugs)) < 0.2))
    s, d = np.nonzero(g.random(y.shape) < 0.92)
    told = {"subject": [lines[i] for i in s], "treatment": [drugs[j] for j in d], "value": y[s, d]}
    fixed = {"site": "nowhere", "dose": None, "dose_unit": None, "time_h": None, "endpoint": "ln_ic50",
             "unit": "ln(uM)", "censored": 0, "source": "synthetic"}  # fmt: skip
    frame = pl.DataFrame(told).with_columns(pl.lit(v).alias(k) for k, v in fixed.items())
    outcomes = frame.select(pl.col(c).cast(t) for c, t in tables.OUTCOMES.columns.items())
    modalities = {}
    for kind, matrix, unit in (
        ("expression", x.astype(np.float32), "z-score"),
        ("mutation", mutated.astype(np.uint8), "mutated (0/1)"),
        ("copy_number", calls.astype(np.int8), "copy-number call (-1/0/1)"),
    ):
        data = AnnData(matrix)
        data.obs_names, data.var_names = lines, [f"gene {i}" for i in range(matrix.shape[1])]
        data.uns["axis"], data.uns["unit"] = "subject", unit
        modalities[kind] = data
    return write_study(
        home.studies() / name,
        outcomes=outcomes.sort("treatment", "subject", "endpoint"),
        subjects=pl.DataFrame({"subject": lines, "tissue": [f"tissue {t:02d}" for t in tissue]}),
        treatments=pl.DataFrame(
            {"treatment": drugs, "compound": [None] * of.drugs, "smiles": [None] * of.drugs},
            schema=dict(tables.TREATMENTS.columns),
        ),
        modalities=modalities,
        provenance={"source": "synthetic numbers, planted truth", "seed": seed},
        event="made for a test",
    )
