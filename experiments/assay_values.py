"""What is a missing assay worth, and is the promise kept? Values from training lines held to the cost on test lines.

    python experiments/assay_values.py gdsc1 --seed 7 --folds 1 2              # where settings are chosen
    python experiments/assay_values.py gdsc2 --drug-response --json values.json

For every set of modalities present and every one that could be added: the promised fall of RMSE, what it really was on
unseen lines with the same ridges, and with ``--drug-response`` what the shipped predictor loses without the modality.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import polars as pl

from workbench import predictors, train
from workbench.planning import _subsets, assays
from workbench.planning._subsets import Subset
from workbench.splits import Fold, Split
from workbench.study import Study, find


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    said.add_argument("study")
    said.add_argument("--seed", type=int, default=0)
    said.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    said.add_argument("--modalities", nargs="+", default=["expression", "mutation", "copy_number"])
    said.add_argument("--split", default="unseen subject")
    said.add_argument("--drug-response", action="store_true", help="on the first of the folds")
    said.add_argument("--json")
    given = said.parse_args()
    study = Study.open(find(given.study))
    split = Split.make(study, given.split, endpoint="ln_ic50", seed=given.seed, require=tuple(given.modalities))
    wanted = assays.steps(given.modalities)
    tables: dict[str, list[pl.DataFrame]] = {"the same ridges": [], "drug_response": []}
    gains = []
    for number in given.folds:
        fold = split.fold(number)
        start = time.monotonic()
        data = _subsets.lines(fold.study, fold.train, fold.endpoint, given.modalities, fold.group)
        made = assays.fits(data, wanted)
        promise = assays.promised(data, made, wanted, fold.unit)
        print(f"fold {number}: {len(data.subjects)} lines, {time.monotonic() - start:.0f} s", flush=True)
        cost = assays.real(fold, data, made, wanted)
        tables["the same ridges"].append(_kept(promise, cost, number))
        _show(tables["the same ridges"][-1])
        if given.drug_response and number == given.folds[0]:
            tables["drug_response"].append(_kept(promise, _dropped(fold, data, wanted), number))
            _show(tables["drug_response"][-1])
        real = cost.filter(treatment=assays.ALL).select("present", "modality", real_correlation="correlation")
        gains.append(promise.filter(treatment=assays.ALL).join(real, on=["present", "modality"], maintain_order="left"))
    keys = ["present", "modality"]
    for what, found in tables.items():
        if found:
            print(f"promised by left-out training lines against what {what} lost on unseen lines, mean over folds:")
            _show(pl.concat(found).group_by(keys, maintain_order=True).agg(pl.col(pl.Float64, pl.Boolean).mean()))
            named = pl.concat(found).filter(pl.len().over("fold", "present") > 1)
            first = named.group_by("fold", "present").agg(
                same=pl.col("modality").get(pl.col("promised").arg_max())
                == pl.col("modality").get(pl.col("real").arg_max())
            )
            agree = [f.select(pl.corr("promised", "real", method="spearman")).item() for f in found]
            print(
                f"rank agreement over steps {np.mean(agree):.3f}; best named first {first['same'].sum()}/{len(first)}"
            )
    _show(
        pl.concat(gains)
        .group_by(keys, maintain_order=True)
        .agg(pl.col("before", "after", "correlation", "correlation_low", "correlation_high", "real_correlation").mean())
    )
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({what: pl.concat(found).to_dicts() for what, found in tables.items() if found}, file)


def _kept(promise: pl.DataFrame, cost: pl.DataFrame, number: int) -> pl.DataFrame:
    return assays.calibration(promise, cost).with_columns(pl.lit(number).alias("fold"))


def _show(table: pl.DataFrame) -> None:
    with pl.Config(tbl_rows=50, tbl_cols=20, tbl_width_chars=200, float_precision=4):
        print(table, flush=True)


def _dropped(fold: Fold, data: _subsets.Lines, wanted: list[tuple[Subset, str]]) -> pl.DataFrame:
    """Cost on test rows with DrugResponse, fitted once with everything and applied without."""
    names = tuple(data.rotated)
    predictor: Any = predictors.make("drug_response", modalities=names)
    train.fit(predictor, fold)
    subjects = sorted(fold.test["subject"].unique())
    grid = pl.DataFrame(
        {"subject": np.repeat(subjects, len(data.treatments)), "treatment": data.treatments * len(subjects)}
    )
    shape = (len(subjects), len(data.treatments))
    planes: dict[Subset, np.ndarray] = {(): np.repeat(_subsets.fit(data, ()).intercept[None, :], len(subjects), axis=0)}
    for subset in {s for a, m in wanted for s in (a, tuple(n for n in names if n in a or n == m))} - {()}:
        answer = predictor.predict(fold.study, grid, without=tuple(n for n in names if n not in subset))
        planes[subset] = answer["predicted"].fill_null(np.nan).to_numpy().reshape(shape)
    return assays.measured(fold, data, subjects, planes, wanted)


if __name__ == "__main__":
    main()
