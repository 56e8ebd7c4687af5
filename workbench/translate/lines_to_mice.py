"""From cell lines to tumours in mice: ridges on the mutations of lines, asked about the patients' tumours.

Treatments are matched by compound (SAME); the tumours' own responses are opened only to judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from workbench.predictors._pairs import matrix
from workbench.translate import concordance, transfer
from workbench.translate.domains import symbol
from workbench.translate.xenografts import calls, profiles

SAME = {  # names in the encyclopaedia -> the same compound in the screens
    "BKM120": "Buparlisib",
    "BYL719": "Alpelisib",
    "LEE011": "Ribociclib",
    "trametinib": "Trametinib",
    "paclitaxel": "Paclitaxel",
    "abraxane": "Paclitaxel",
    "gemcitabine-50mpk": "Gemcitabine",
    "5FU": "5-Fluorouracil",
    "erlotinib": "Erlotinib",
    "cetuximab": "Cetuximab",
    "tamoxifen": "Tamoxifen",
    "LCL161": "LCL161",
    "INC424": "Ruxolitinib",
    "WNT974": "LGK974",
    "encorafenib": "Encorafenib",
    "binimetinib": "Binimetinib",
    "everolimus": "Everolimus",
    "BGJ398": "Infigratinib",
    "dacarbazine": "Dacarbazine",
}


def from_lines(
    study,
    lines,
    *,
    features: str = "mutation",
    endpoint: str = "ln_ic50",
    draws: int = 1000,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> pl.DataFrame:
    """Ridges on the mutations of cell lines, applied to the patients' tumours: one row a shared drug, and "all".

    Columns: treatment, drug, patients, responders, lines_pearson, concordance, low, high. No patient's response was
    used to fit, so none is held out; pairs are within a treatment and a tumour type: what a mutation adds to both.

    Parameters
    ----------
    features : "mutation" (every gene both sequenced), or "driver_events" (genes the lines' study lists as drivers)
    """
    names, genes, values = profiles(study, "mutation")
    x, z, line_names = _shared(lines, features, genes, values)
    table = calls(study).filter(pl.col("patient").is_in(names))
    known = set(lines.rows["treatment"].cast(pl.String))
    shared = [(t, SAME[t]) for t in table["treatment"].unique().sort() if SAME.get(t) in known]
    if not shared:
        raise ValueError(f"studies {study.name!r} and {lines.name!r} share no treatment (see xenografts.SAME).")
    drugs = sorted({d for _, d in shared})
    pairs = lines.outcomes.filter(pl.col("endpoint") == endpoint).with_columns(pl.col("treatment").cast(pl.String))
    pairs = pairs.filter(pl.col("treatment").is_in(drugs), pl.col("subject").cast(pl.String).is_in(line_names))
    y = matrix(pairs, line_names, drugs)
    if progress is not None:
        progress(0.1, f"{len(drugs)} ridges on {x.shape[1]} genes")
    told, left_out = transfer.carry(x, z, y)
    at_patient = {n: i for i, n in enumerate(names)}
    every: list[np.ndarray] = []
    wins: list[np.ndarray] = []
    rows = []
    for treatment, drug in shared:
        mine = table.filter(pl.col("treatment") == treatment)
        j = drugs.index(drug)
        index = np.array([at_patient[p] for p in mine["patient"]], dtype=np.int64)
        truth, tissue = mine["response"].to_numpy(), mine["tissue"].to_numpy()
        response = np.full((len(names), len(np.unique(tissue))), np.nan)  # a column a tumour type
        for column, t in enumerate(np.unique(tissue)):
            response[index[tissue == t], column] = truth[tissue == t]
        plane = np.repeat(-told[:, [j]], response.shape[1], axis=1)
        at, won = concordance.pairs(response, np.arange(len(names)), {"lines": plane})
        every.append(at)
        wins.append(won["lines"])
        score = (
            concordance.bootstrap(at, won, len(names), draws, seed)["lines"] if len(at) else np.full(draws + 1, np.nan)
        )
        rows.append(
            _row(treatment, drug, len(index), int(truth.sum()), transfer.pearson(left_out[:, j], y[:, j]), score)
        )
    together = concordance.bootstrap(np.concatenate(every), {"lines": np.concatenate(wins)}, len(names), draws, seed)[
        "lines"
    ]
    mean = float(np.mean([r["lines_pearson"] for r in rows]))
    counts = sum(r["patients"] for r in rows), sum(r["responders"] for r in rows)
    return pl.DataFrame([*rows, _row("all", "", *counts, mean, together)])


def _row(
    treatment: str, drug: str, patients: int, responders: int, pearson: float, score: np.ndarray
) -> dict[str, Any]:
    low, high = np.quantile(score[1:], [0.025, 0.975]) if np.isfinite(score).all() else (np.nan, np.nan)
    return {
        "treatment": treatment,
        "drug": drug,
        "patients": patients,
        "responders": responders,
        "lines_pearson": pearson,
        "concordance": float(score[0]),
        "low": float(low),
        "high": float(high),
    }


def _shared(lines, features: str, genes: list[str], values: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Mutations of lines (n, g) and of patients (m, g) over the genes of both, and the lines' names."""
    data = lines.modality("mutation")
    of = {symbol(g): i for i, g in enumerate(data.var_names)}
    if features == "driver_events":
        events = [str(e) for e in lines.modality("driver_events").var_names]
        drivers = {symbol(e.removesuffix(" mut")) for e in events if e.endswith(" mut")}
    elif features == "mutation":
        drivers = set(of)
    else:
        raise KeyError(f"no features {features!r}. There are: mutation, driver_events.")
    here = {symbol(g): i for i, g in enumerate(genes)}
    both = sorted(drivers & set(of) & set(here))
    if not both:
        raise ValueError(f"no gene of {lines.name!r} is among those sequenced in the tumours. Name genes by symbol.")
    x = np.asarray(data.X)[:, [of[g] for g in both]].astype(np.float64)
    return x, values[:, [here[g] for g in both]], list(data.obs_names)
