"""Clean synthetic studies of several designs: nothing is wrong with them, so an audit must leave them alone.

All are made of random numbers and say nothing about biology. ``Draft`` holds a study before it is written, so that
``tests.planted_faults`` can spoil it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from tests.toy import COMPOUNDS
from workbench import home, molecules, tables
from workbench.study import Study, write_study


@dataclass
class Matrix:
    """A modality before it is written: rows, features, values, unit, and further notes for ``uns``."""

    names: list[str]
    features: list[str]
    values: np.ndarray
    unit: str
    uns: dict[str, Any] = field(default_factory=dict)
    axis: str = "subject"


@dataclass
class Draft:
    """A study before it is written."""

    outcomes: pl.DataFrame
    subjects: pl.DataFrame
    treatments: pl.DataFrame
    modalities: dict[str, Matrix] = field(default_factory=dict)

    def change(self, rows: pl.Expr, value: pl.Expr) -> None:
        """Set the values of some outcomes."""
        self.outcomes = self.outcomes.with_columns(pl.when(rows).then(value).otherwise("value").alias("value"))

    def write(self, name: str = "drafted") -> Study:
        """Write it into the home and open it."""
        from anndata import AnnData

        modalities = {}
        for kind, matrix in self.modalities.items():
            data = AnnData(matrix.values.astype(np.float32))
            data.obs_names, data.var_names = matrix.names, matrix.features
            data.uns |= {"axis": matrix.axis, "unit": matrix.unit, **matrix.uns}
            modalities[kind] = data
        return write_study(
            home.studies() / name,
            outcomes=self.outcomes,
            subjects=self.subjects,
            treatments=self.treatments,
            modalities=modalities,
            provenance={"source": "synthetic"},
            event="made for a test",
            replace=True,
        )


def outcomes(**columns: Any) -> pl.DataFrame:
    """OUTCOMES of the given columns; what is not given is empty or says nothing."""
    given = {
        "site": "nowhere", "dose": None, "dose_unit": None, "time_h": None, "censored": 0, "source": "synthetic",
    } | columns  # fmt: skip
    n = max(len(v) for v in given.values() if not isinstance(v, str) and hasattr(v, "__len__"))
    full = {k: v if not isinstance(v, str) and hasattr(v, "__len__") else [v] * n for k, v in given.items()}
    return pl.DataFrame({c: full[c] for c in tables.OUTCOMES.columns}, schema=dict(tables.OUTCOMES.columns))


def structured(names: list[str], smiles: list[str]) -> pl.DataFrame:
    """TREATMENTS with their compound worked out from the structure."""
    found = [molecules.parent(s) for s in smiles]
    keys = [molecules.identity(m) if m is not None else None for m in found]
    return pl.DataFrame({"treatment": names, "compound": keys, "smiles": smiles})


def screen(seed: int = 0, *, noise: str = "normal", missing: float = 0.08, n: int = 80) -> Draft:
    """A drug screen: lines of 4 tissues x 10 compounds, two sites, replicates, two endpoints, three modalities."""
    draw = np.random.default_rng([99, seed])
    lines = [f"line {c}" for c in draw.permutation(np.arange(100, 100 + n))]
    drugs = list(COMPOUNDS)
    tissue = draw.integers(0, 4, n)
    genes = 120
    x = draw.normal(size=(n, genes)) + 0.5 * draw.normal(size=(4, genes))[tissue]
    effect = draw.normal(0, 0.2, (len(drugs), 6))
    mean = draw.normal(0, 2, len(drugs)) + x[:, :6] @ effect.T + draw.normal(0, 0.2, 4)[tissue][:, None]
    mean += draw.normal(0, 0.4, n)[:, None]
    s, d = np.nonzero(draw.random(mean.shape) >= missing)
    twice = draw.random(len(s)) < 0.3
    s, d = np.concatenate([s, s[twice]]), np.concatenate([d, d[twice]])
    size = 0.3
    error = {
        "normal": draw.normal(0, size, len(s)),
        "heavy": size * draw.standard_t(3, len(s)),
        "uniform": draw.uniform(-2 * size, 2 * size, len(s)),
        "skewed": size * (draw.gamma(2.0, 1.0, len(s)) - 2),
    }[noise]
    value = mean[s, d] + error
    place = np.array(["north", "south"])[draw.integers(0, 2, n)]
    common = {
        "subject": [lines[i] for i in s], "treatment": [drugs[j] for j in d], "site": place[s].tolist(),
        "source": "screen A",
    }  # fmt: skip
    ic50 = outcomes(**common, endpoint="ln_ic50", value=value, unit="ln(uM)")
    area = 1 / (1 + np.exp(-0.5 * value + draw.normal(0, 0.1, len(s))))
    auc = outcomes(**common, endpoint="auc", value=area, unit="fraction")
    subjects = pl.DataFrame(
        {
            "subject": lines,
            "tissue": [f"tissue {t}" for t in tissue],
            "sex": draw.choice(["F", "M"], n).tolist(),
            "batch": [f"batch {b}" for b in draw.integers(0, 3, n)],
            "run_order": draw.permutation(n).tolist(),
            "cosmic_id": draw.choice(np.arange(900_000, 910_000), n, replace=False).tolist(),
            "donor": [f"P{i:03d}" for i in draw.permutation(n)],
            "doubling_time_h": draw.normal(40, 8, n),
        }
    )
    symbols = [f"gene{i}" for i in range(genes)]
    calls = (draw.random((n, genes)) < 0.25).astype(float)
    keep = np.sort(draw.permutation(n)[: n - 10])
    fine = [lines[i] for i in keep]
    modalities = {
        "expression": Matrix(lines, symbols, x * 2 + 6, "log2 TPM"),
        "mutation": Matrix(fine, symbols, calls[keep], "mutated (0/1)"),
        "methylation": Matrix(fine, symbols, draw.beta(2, 5, (len(keep), genes)), "beta value"),
    }
    return Draft(pl.concat([ic50, auc]), subjects, structured(drugs, list(COMPOUNDS.values())), modalities)


def animals(seed: int = 0) -> Draft:
    """A toxicity study: vehicle and three doses, 24 rats each, both sexes; body weight by week, two enzymes."""
    draw = np.random.default_rng([98, seed])
    arms, each = ((0.0, "vehicle"), (50.0, "compound A"), (150.0, "compound A"), (500.0, "compound A")), 24
    rows: list[pl.DataFrame] = []
    told = []
    number = draw.permutation(np.arange(1001, 1001 + each * len(arms)))
    for a, (dose, treatment) in enumerate(arms):
        for k in range(each):
            rat = f"rat {number[a * each + k]}"
            sex, weeks = "FM"[k % 2], np.arange(5)
            weight = (
                (180 if sex == "F" else 240) + draw.normal(0, 8) + weeks * (12 - 0.008 * dose) + draw.normal(0, 2, 5)
            )
            shared = {"subject": rat, "treatment": treatment}
            rows.append(
                outcomes(
                    **shared, endpoint="body_weight", value=weight, unit="g", time_h=weeks * 168.0, dose=[dose] * 5,
                    dose_unit="mg/kg",
                )
            )  # fmt: skip
            for enzyme, level in (("ALT serum", 40.0), ("AST serum", 90.0)):
                value = level * np.exp(draw.normal(0, 0.2) + 0.001 * dose)
                rows.append(
                    outcomes(
                        **shared, endpoint=enzyme, value=[value], unit="U/L", time_h=[672.0], dose=[dose],
                        dose_unit="mg/kg",
                    )
                )  # fmt: skip
            told.append((rat, "liver", sex, f"arm {a}", dose, "mg/kg"))
    columns = ["subject", "tissue", "sex", "arm", "arm_dose", "arm_dose_unit"]
    subjects = pl.DataFrame(told, schema=columns, orient="row")
    n = subjects.height
    cages = [f"cage {i // 3}" for i in draw.permutation(n)]
    subjects = subjects.with_columns(pl.Series("cage", cages), pl.Series("animal", number.astype(str)))
    x = draw.normal(size=(n, 80)) + 0.002 * subjects["arm_dose"].to_numpy()[:, None] * (np.arange(80) < 8)
    liver = Matrix(subjects["subject"].to_list(), [f"probe{i}" for i in range(80)], x, "log ratio")
    treatments = structured(["compound A"], ["CC(=O)Nc1ccc(O)cc1"])
    vehicle = pl.DataFrame({"treatment": ["vehicle"], "compound": [None], "smiles": [None]}, schema=treatments.schema)
    return Draft(pl.concat(rows), subjects, pl.concat([treatments, vehicle]), {"liver_expression": liver})


def plates(seed: int = 0) -> Draft:
    """Dose-response points: 14 lines x 5 compounds x 8 doses x 3 wells, viability as a fraction."""
    draw = np.random.default_rng([97, seed])
    lines, drugs = [f"cell {i}" for i in draw.permutation(14)], list(COMPOUNDS)[:5]
    doses = 10.0 ** np.linspace(-2, 1.5, 8)
    grid = [(s, d, x) for s in lines for d in drugs for x in doses for _ in range(3)]
    middle = {(s, d): draw.normal(0, 0.6) for s in lines for d in drugs}
    value = [1 / (1 + (x / 10 ** middle[s, d]) ** 1.2) + draw.normal(0, 0.04) for s, d, x in grid]
    frame = outcomes(
        subject=[g[0] for g in grid], treatment=[g[1] for g in grid], dose=[g[2] for g in grid], dose_unit="uM",
        time_h=[72.0] * len(grid), endpoint="viability", value=value, unit="fraction",
    )  # fmt: skip
    subjects = pl.DataFrame({"subject": lines, "tissue": [f"tissue {i % 3}" for i in range(14)]})
    return Draft(frame, subjects, structured(drugs, [COMPOUNDS[d] for d in drugs]))


def exposure(seed: int = 0) -> Draft:
    """Concentration over time: 30 rats, three doses, 9 samples, late ones below quantification."""
    draw = np.random.default_rng([96, seed])
    times, limit = np.array([0.25, 0.5, 1, 2, 4, 6, 8, 12, 24]), 1.0
    rows, told = [], []
    for i in draw.permutation(30):
        dose = (10.0, 30.0, 100.0)[i % 3]
        level = dose * 20 * np.exp(draw.normal(0, 0.25)) * np.exp(-times * 0.25) * np.exp(draw.normal(0, 0.15, 9))
        below = level < limit
        rows.append(
            outcomes(
                subject=f"rat {i + 1:02d}", treatment="compound A", dose=[dose] * 9, dose_unit="mg/kg", time_h=times,
                endpoint="concentration plasma", value=np.where(below, limit, level), unit="ng/mL",
                censored=np.where(below, -1, 0),
            )
        )  # fmt: skip
        told.append((f"rat {i + 1:02d}", None, "FM"[(i // 3) % 2]))
    subjects = pl.DataFrame(told, schema={"subject": pl.String, "tissue": pl.String, "sex": pl.String}, orient="row")
    return Draft(pl.concat(rows), subjects, structured(["compound A"], ["CC(=O)Nc1ccc(O)cc1"]))


def growth(seed: int = 0) -> Draft:
    """Tumour volumes: 60 mice in 4 arms, twice a week for 4 weeks; a tenth leave early, by chance."""
    draw = np.random.default_rng([95, seed])
    arms = ["untreated control", "aspirin", "caffeine", "nicotine"]
    rows, told = [], []
    for i in draw.permutation(60):
        last = 8 if draw.random() > 0.1 else int(draw.integers(4, 7))
        days = np.array([0, 3, 7, 10, 14, 17, 21, 24])[:last]
        volume = (
            180 * np.exp(draw.normal(0, 0.15)) * np.exp(days * (0.07 - 0.012 * (i % 4)) + draw.normal(0, 0.08, last))
        )
        rows.append(
            outcomes(
                subject=f"mouse {i:02d}", treatment=arms[i % 4], time_h=days * 24.0, endpoint="tumour_volume",
                value=volume, unit="mm3",
            )
        )  # fmt: skip
        told.append((f"mouse {i:02d}", ("breast", "lung", "colon")[int(draw.integers(0, 3))], f"X-{i // 2}"))
    subjects = pl.DataFrame(told, schema=["subject", "tissue", "model"], orient="row").drop("model")
    smiles = [None, *(COMPOUNDS[a] for a in arms[1:])]
    treatments = pl.DataFrame(
        {"treatment": arms, "compound": [None] * 4, "smiles": smiles}, schema=dict(tables.TREATMENTS.columns)
    )
    return Draft(pl.concat(rows), subjects, treatments)


CLEAN = {
    "screen": screen,
    "screen, other draw": lambda: screen(1),
    "screen, heavy tails": lambda: screen(2, noise="heavy"),
    "screen, uniform noise": lambda: screen(3, noise="uniform"),
    "screen, skewed noise": lambda: screen(4, noise="skewed"),
    "screen, half missing by chance": lambda: screen(5, missing=0.5),
    "screen, few lines": lambda: screen(6, n=32),
    "animals": animals,
    "animals, other draw": lambda: animals(1),
    "plates": plates,
    "plates, other draw": lambda: plates(1),
    "exposure": exposure,
    "exposure, other draw": lambda: exposure(1),
    "growth": growth,
    "growth, other draw": lambda: growth(1),
}
