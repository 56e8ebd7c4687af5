"""What does privacy of persons cost? Five sites train DrugResponse together at epsilon 1, 3 and 10, and without noise.

    python experiments/federated_private.py synthetic --out folder      # random numbers with a planted truth
    python experiments/federated_private.py gdsc2 --treatments 60 --out folder     # goes on where it stopped

A sixth of the training lines is public: scalers, axes, closed form, intervals and the first weights come from it. The
arm "public alone" has nothing else, so what the sites' rows are worth under noise is the difference to it. "No noise"
has the same rounds and clipping with noise too small to matter; "one house" is plain training on all training rows.
The unit is a person, noise is drawn at each site, delta = 1e-5. Which
layers change and how fast was chosen on test lines of another synthetic draw (seed 1), never on those reported.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench import home, predict, predictors, score, tables, train
from workbench.federated import sharing
from workbench.federated.private import public_start, training
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.splits import Fold, Split
from workbench.study import Study, find, write_study

SITES = 5
QUIET = 0.01  # noise that is none, beside gradients of length one
PARAMETERS: dict[str, dict[str, Any]] = {
    "synthetic": {"members": 2, "width": 16, "rank": 8, "subjects": 16, "epochs": 40, "modalities": ["expression"],
                  "structure": False, "closed_form_share": 0.3},
    "gdsc2": {"members": 4, "width": 64, "rank": 32, "subjects": 16, "epochs": 24, "modalities": ["expression"]},
}  # fmt: skip
PARAMETERS["gdsc1"] = PARAMETERS["gdsc2"]  # rates are chosen on the one, reported on the other
SETTINGS: dict[str, Any] = {"privacy": "person", "rate": 1.0, "rounds": 5, "local_steps": 4, "clip": 1.0, "warm": 20,
                            "learning_rate": 1.0, "least": 2, "only": ["hidden", "identity", "level"]}  # fmt: skip
METRICS = ("RMSE", "normalised Pearson")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", choices=list(PARAMETERS))
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    parser.add_argument("--draws", type=int, default=2, help="trainings at each epsilon")
    parser.add_argument("--seed", type=int, default=0, help="of the folds, and of the synthetic study")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--rates", type=float, nargs="+", default=[SETTINGS["learning_rate"]], help="learning rates")
    parser.add_argument("--treatments", type=int, default=0, help="so many of them, evenly by name (default: all)")
    parser.add_argument("--arms", nargs="+", help="only those whose name begins so")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    pl.Config.set_tbl_rows(60).set_tbl_cols(20).set_tbl_width_chars(160)
    pl.Config.set_fmt_str_lengths(60)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.study == "synthetic":
        os.environ["WORKBENCH_HOME"] = str(given.out / "home")
        study = synthetic(given.seed)
    else:
        study = Study.open(find(given.study))
    endpoint = "response" if given.study == "synthetic" else "ln_ic50"
    fold = Split.make(study, "unseen subject", endpoint=endpoint, folds=5, seed=given.seed).fold(given.fold)
    fold = of_treatments(fold, given.treatments) if given.treatments else fold
    todo = arms(fold, PARAMETERS[given.study], given.epsilons, given.draws, given.rates)
    todo = {k: v for k, v in todo.items() if not given.arms or k.startswith(("public", *given.arms))}
    base, began = predict.baseline(fold), time.monotonic()
    rows = given.out / f"{given.study}.jsonl"
    done = [json.loads(line)["arm"] for line in rows.read_text().splitlines()] if rows.exists() else []
    left = [name for name in todo if name not in done]
    for at, name in enumerate(left):
        at_start = time.monotonic()
        made = todo[name]()
        frame = score.unseal(predict.predictions(made, fold, base), fold)
        frame.with_columns(predictor=pl.lit(name)).write_parquet(given.out / f"{given.study} {name}.parquet")
        spent = getattr(made, "spent_", None)
        told = {"arm": name, "epsilon": getattr(spent, "epsilon", None), "noise": getattr(made, "noise_", None)}
        with rows.open("a") as stream:
            stream.write(json.dumps(told | {"seconds": time.monotonic() - at_start}) + "\n")
        each = (time.monotonic() - began) / (at + 1)
        print(
            f"{name}: {time.monotonic() - at_start:.0f} s, about {each * (len(left) - at - 1):.0f} s left", flush=True
        )
    print(table(given.out, given.study, list(todo)))


def of_treatments(fold: Fold, count: int) -> Fold:
    """The fold cut to ``count`` treatments, evenly by name; test targets stay sealed."""
    names = sorted(fold.train["treatment"].unique())
    kept = pl.Series(names[:: max(len(names) // count, 1)][:count], dtype=pl.String).implode()
    train, test = (side.filter(pl.col("treatment").is_in(kept)) for side in (fold.train, fold.test))
    return replace(fold, train=train, test=test, _targets=fold._targets.join(test.select("row"), on="row", how="semi"))


def arms(
    fold: Fold, parameters: dict[str, Any], epsilons: list[float], draws: int, rates: list[float]
) -> dict[str, Callable[[], Any]]:
    """{name: how it is trained}: persons dealt out at random, to the public part first."""
    dealt = list(sharing.at_random(fold, SITES + 1).values())
    public, held = sharing.local(fold, dealt[0]), [sharing.local(fold, s) for s in dealt[1:]]
    persons = round(np.mean([h.train["person"].n_unique() for h in held]))  # a public figure, to the nearest ten
    usual = SETTINGS | {"public": public, "parameters": parameters, "persons": max(round(persons, -1), 10)}

    def together(**more: Any) -> Callable[[], Any]:
        sites = [Site(f"site {i}", h) for i, h in enumerate(held, 1)]
        return lambda: training.fit(Inline(sites), usual | more)

    def alone() -> Any:
        start = public_start.prepared(public, predictors.make("drug_response", **parameters).params)  # type: ignore[attr-defined]
        return start.finished(start.begun(SETTINGS["warm"]))

    def house() -> Any:
        model: Any = predictors.make("drug_response", **parameters)
        train.fit(model, fold, accelerator="cpu")
        return model

    out: dict[str, Callable[[], Any]] = {"public alone": alone}
    for rate in rates:
        more = f", rate {rate:g}" if len(rates) > 1 else ""
        out[f"no noise{more}"] = together(noise=QUIET, learning_rate=rate)
        for epsilon in sorted(epsilons, reverse=True):
            for draw in range(draws):
                out[f"epsilon {epsilon:g}{more}, draw {draw + 1}"] = together(epsilon=epsilon, learning_rate=rate)
    return out | {"one house": house}


def table(folder: Path, study: str, names: list[str]) -> pl.DataFrame:
    """Each arm's figures with intervals, and its paired difference to the public rows alone."""
    frames = [pl.read_parquet(folder / f"{study} {name}.parquet") for name in names]
    metrics, compared = score.evaluate(pl.concat(frames), ["public alone"])
    kept = metrics.filter((pl.col("fold") == "all") & pl.col("metric").is_in(METRICS))
    apart = compared.filter(pl.col("other") == "public alone").select(
        "predictor", "metric", difference="difference", from_="low", to="high", verdict="verdict"
    )
    columns = ("predictor", "metric", "value", "low", "high")
    return kept.select(columns).join(apart, on=["predictor", "metric"], how="left").sort("metric", maintain_order=True)


def synthetic(seed: int, subjects: int = 900, genes: int = 100, treatments: int = 20) -> Study:
    """Random numbers: a third of the genes speak, to each treatment in its own way; noise as loud as they."""
    from anndata import AnnData

    folder = home.studies() / f"private {seed}"
    if folder.exists():
        return Study.open(folder)
    draw = np.random.default_rng([31, seed])
    x = draw.normal(size=(subjects, genes)).astype(np.float32)
    effect = draw.normal(size=(genes // 3, 4)) @ draw.normal(size=(4, treatments)) / np.sqrt(4 * genes / 3)
    y = draw.normal(0, 2, treatments) + x[:, : genes // 3] @ effect + draw.normal(size=(subjects, treatments))
    names, drugs = [f"subject {i:04d}" for i in range(subjects)], [f"treatment {j:02d}" for j in range(treatments)]
    data = AnnData(x)
    data.obs_names, data.var_names = names, [f"gene{i}" for i in range(genes)]
    data.uns["axis"], data.uns["unit"] = "subject", "z-score"
    s, t = (i.ravel() for i in np.indices(y.shape))
    outcomes = {
        "subject": [names[i] for i in s], "treatment": [drugs[j] for j in t], "site": "nowhere", "dose": None,
        "dose_unit": None, "time_h": None, "endpoint": "response", "value": y.ravel(), "unit": "arbitrary",
        "censored": 0, "source": "synthetic",
    }  # fmt: skip
    return write_study(
        folder,
        outcomes=pl.DataFrame(outcomes, schema=dict(tables.OUTCOMES.columns)),
        subjects=pl.DataFrame({"subject": names, "tissue": ["none"] * subjects}),
        treatments=pl.DataFrame(
            {"treatment": drugs, "compound": None, "smiles": None}, schema=dict(tables.TREATMENTS.columns)
        ),
        modalities={"expression": data},
        provenance={"source": "synthetic numbers"},
        event="made for an experiment",
    )


if __name__ == "__main__":
    main()
