"""Tumours in mice: does a patient's tumour respond, told from its mutations and copy numbers alone?

A patient's tumour grows in several mice, one a treatment, and each is called by mRECIST (Gao et al. 2015, Nature
Medicine 21:1318). Patients are held out whole. The concordance asks, of two patients under the same treatment of whom
one responded, how often that one was ranked first; pairs are formed within a fold, so a treatment's own response rate
scores exactly one half, and a tumour type's rate scores what the type alone tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from workbench.nn import kernel_ridge
from workbench.predictors._pairs import matrix
from workbench.translate import concordance
from workbench.translate.areas import SEED

RESPONDS = ("CR", "PR", "SD")  # disease control; PD is the rest
FOLDS, REPEATS = 5, 3
CARRIERS = 3  # patients, among those that teach, in whom a gene must be mutated
PSEUDO = 2.0  # patients' worth of the next wider rate in every rate
NAIVE = ("treatment's rate", "treatment's rate in the tumour type")
FEWEST = 10  # patients with a call that a treatment needs


def calls(study, responds: Sequence[str] = RESPONDS) -> pl.DataFrame:
    """treatment, patient, tissue, call and response (Boolean) of every called tumour of a study of growth curves.

    Raises
    ------
    KeyError
        The study has no record "mrecist" or its subjects name no patient.
    """
    if "patient" not in study.subjects.columns:
        raise KeyError(f"study {study.name!r} does not say which patient an animal's tumour is from.")
    tissue = study.subjects.select("patient", "tissue").unique("patient").drop_nulls("patient")
    table = study.record("mrecist").drop_nulls("call").join(tissue, on="patient", how="left")
    kept = table.select("treatment", "patient", pl.col("tissue").fill_null(""), "call").unique(
        ["treatment", "patient"], keep="first", maintain_order=True
    )
    return kept.with_columns(pl.col("call").is_in(list(responds)).alias("response")).sort("treatment", "patient")


def profiles(study, modality: str) -> tuple[list[str], list[str], np.ndarray]:
    """Patients (n,), genes (g,) and their profiles (n, g) of a modality whose rows are animals."""
    data = study.modality(modality)
    patient = [str(p) for p in data.obs["patient"]]
    first = {p: i for i, p in reversed(list(enumerate(patient)))}
    names = sorted(first)
    return names, list(data.var_names), np.asarray(data.X)[[first[p] for p in names]].astype(np.float64)


def unseen_patients(
    study, modality: str = "mutation", *, repeats: int = REPEATS, draws: int = 1000, seed: int = 0
) -> pl.DataFrame:
    """predictor, concordance, low, high, difference to the better naive value with its interval, brier; one row each.

    Only patients with the modality take part, so all predictors answer the same rows.
    """
    names, _, values = profiles(study, modality)
    table = calls(study).filter(pl.col("patient").is_in(names))
    often = table.group_by("treatment").len().filter(pl.col("len") >= FEWEST)["treatment"].to_list()
    table = table.filter(pl.col("treatment").is_in(often))
    treatments = sorted(often)
    y = matrix(
        table.select(
            pl.col("patient").alias("subject"), "treatment", pl.col("response").cast(pl.Float64).alias("value")
        ),
        names,
        treatments,
    )
    of = dict(table.select("patient", "tissue").iter_rows())
    tissue = np.array([of.get(n, "") for n in names], dtype=object)
    rng = np.random.default_rng([SEED, 6, seed])
    pairs: list[np.ndarray] = []
    said: dict[str, list[np.ndarray]] = {}
    squares: dict[str, list[np.ndarray]] = {}
    for _ in range(repeats):
        part = rng.permutation(np.arange(len(names)) % FOLDS)
        for fold in range(FOLDS):
            test = part == fold
            told = _told(values, y, tissue, test, modality)
            at, wins = concordance.pairs(y, np.flatnonzero(test), told)
            pairs.append(at)
            there = np.isfinite(y[test])
            for name, plane in told.items():
                said.setdefault(name, []).append(wins[name])
                squares.setdefault(name, []).append(((plane - y[test])[there]) ** 2)
    at = np.concatenate(pairs)
    won = {name: np.concatenate(parts) for name, parts in said.items()}
    boot = concordance.bootstrap(at, won, len(names), draws, seed)
    naive = max(NAIVE, key=lambda n: boot[n][0])
    rows = []
    for name, values_of in boot.items():
        difference = values_of - boot[naive]
        rows.append(
            {
                "predictor": name,
                "concordance": values_of[0],
                "low": np.quantile(values_of[1:], 0.025),
                "high": np.quantile(values_of[1:], 0.975),
                "over_naive": difference[0],
                "over_low": np.quantile(difference[1:], 0.025),
                "over_high": np.quantile(difference[1:], 0.975),
                "brier": np.concatenate(squares[name]).mean(),
                "naive": naive,
                "patients": len(names),
                "calls": int(np.isfinite(y).sum()),
            }
        )
    return pl.DataFrame(rows)


def _told(
    values: np.ndarray, y: np.ndarray, tissue: np.ndarray, test: np.ndarray, modality: str
) -> dict[str, np.ndarray]:
    """Predicted response (tested, treatments) of every predictor, learnt on the patients outside ``test``."""
    train = ~test
    rate = _rates(y[train])
    by_type = np.tile(rate, (len(y), 1))
    for t in np.unique(tissue):
        by_type[tissue == t] = _rates(y[train & (tissue == t)], rate)
    told = {
        NAIVE[0]: np.tile(rate, (int(test.sum()), 1)),
        NAIVE[1]: by_type[test],
    }
    x = _features(values, train, modality)
    if x.shape[1]:
        kernel = x[train] @ x[train].T / x.shape[1]
        across = x[test] @ x[train].T / x.shape[1]
        rest = y[train] - by_type[train]
        own = kernel_ridge.fit(kernel, rest)
        told[f"{modality}, a ridge for each treatment"] = by_type[test] + _applied(own, across)
        with np.errstate(invalid="ignore"):
            there = np.isfinite(rest)
            mean = np.where(there.any(axis=1), np.nansum(rest, axis=1) / np.maximum(there.sum(axis=1), 1), np.nan)
        shared = kernel_ridge.fit(kernel, mean[:, None])
        told[f"{modality}, one ridge for all treatments"] = by_type[test] + _applied(shared, across)
    return told


def _applied(fitted: kernel_ridge.Fitted, across: np.ndarray) -> np.ndarray:
    return np.nan_to_num(fitted.intercept) + across @ fitted.dual


def _rates(y: np.ndarray, wider: np.ndarray | None = None) -> np.ndarray:
    """Share of responders (treatments,), drawn to the wider rate by two patients' worth."""
    there = np.isfinite(y)
    if wider is None:
        wider = np.full(y.shape[1], y[there].mean() if there.any() else 0.5)
    return (np.where(there, y, 0.0).sum(axis=0) + PSEUDO * wider) / (there.sum(axis=0) + PSEUDO)


def _features(values: np.ndarray, train: np.ndarray, modality: str) -> np.ndarray:
    """Standardised on the patients that teach; genes mutated in fewer than three of them are left out."""
    teach = values[train]
    if modality == "mutation":
        kept = (teach.sum(axis=0) >= CARRIERS) & (teach.std(axis=0) > 1e-9)
    else:
        kept = teach.std(axis=0) > 1e-9
    return (values[:, kept] - teach[:, kept].mean(axis=0)) / teach[:, kept].std(axis=0)
