"""What is a missing assay worth, and is the promise kept? Values from training lines held to the cost on test lines.

    python experiments/assay_values.py gdsc1 --seed 7 --fold 1                 # where settings are chosen
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
    said.add_argument("--fold", type=int, default=0)
    said.add_argument("--modalities", nargs="+", default=["expression", "mutation", "copy_number"])
    said.add_argument("--split", default="unseen subject")
    said.add_argument("--drug-response", action="store_true")
    said.add_argument("--json")
    given = said.parse_args()
    study = Study.open(find(given.study))
    split = Split.make(study, given.split, endpoint="ln_ic50", seed=given.seed, require=tuple(given.modalities))
    fold = split.fold(given.fold)
    data = _subsets.lines(fold.study, fold.train, fold.endpoint, given.modalities, fold.group)
    wanted = assays.steps(given.modalities)
    start = time.monotonic()
    made = assays.fits(data, wanted)
    promise = assays.promised(data, made, wanted, fold.unit)
    print(
        f"{len(made)} sets of modalities on {len(data.subjects)} lines in {time.monotonic() - start:.0f} s", flush=True
    )
    cost = assays.real(fold, data, made, wanted)
    out = {"ridges": _show("the same ridges", promise, cost)}
    if given.drug_response:
        out["drug_response"] = _show("drug_response without it", promise, _dropped(fold, data, wanted))
    gain = promise.filter(treatment=assays.ALL).select(
        "present", "modality", "before", "after", pl.selectors.contains("corr")
    )
    real = cost.filter(treatment=assays.ALL).select("present", "modality", real_correlation="correlation")
    with pl.Config(tbl_rows=50, tbl_cols=20, tbl_width_chars=200):
        print(gain.join(real, on=["present", "modality"]))
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(out | {"values": promise.to_dicts()}, file)


def _show(what: str, promise: pl.DataFrame, cost: pl.DataFrame) -> list[dict[str, Any]]:
    table = assays.calibration(promise, cost)
    print(f"promised against {what}:")
    with pl.Config(tbl_rows=50, tbl_cols=20, tbl_width_chars=200, float_precision=4):
        print(table)
    agreement = table.select(pl.corr("promised", "real", method="spearman")).item()
    named = [
        assays.best(v)["modality"].to_list()[0]
        for v in (promise, cost.with_columns(expected="value"))
        for v in _parts(v)
    ]
    half = len(named) // 2
    same = sum(a == b for a, b in zip(named[:half], named[half:], strict=True))
    print(
        f"rank agreement over steps {agreement:.3f}; the assay named first is the best in {same} of {half} cases",
        flush=True,
    )
    return table.to_dicts()


def _parts(values: pl.DataFrame) -> list[pl.DataFrame]:
    """One frame for each set of modalities to which two or more could be added, in a fixed order."""
    whole = values.filter(treatment=assays.ALL)
    many = whole.filter(pl.len().over("present") > 1)["present"].unique().sort()
    return [whole.filter(present=p) for p in many]


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
