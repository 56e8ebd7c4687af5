"""Is DrugResponse trained by five sites together worth it for each of them? Unseen lines, one fold, three arms.

    python experiments/federated_network.py gdsc2 --sites random tissue --out folder

Each site's own test lines are predicted by the network it trains alone, by the one all train together (FedAvg), and by
the one that a house with all rows trains; optionally by the shared one fine-tuned at the site. Alone and pooled are
plain local training (``train.fit``) of the same size for as many epochs. Settings were tried on GDSC1 with other
folds, on held-out training rows. The table is FEDERATION_PREDICTIONS.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench import predict, predictors, score, tables, train
from workbench.federated import sharing
from workbench.federated.network import fit as network
from workbench.federated.network import personal
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.splits import Fold, Split
from workbench.study import Study, find

REQUIRE = ("expression", "mutation", "copy_number")
GROUPS = {
    "blood": ["leukemia", "lymphoma", "myeloma"],
    "lung": ["lung_NSCLC", "lung_SCLC", "lung"],
    "digestive tract": ["digestive_system", "large_intestine", "pancreas", "aero_dig_tract"],
    "breast, kidney, urogenital": ["breast", "kidney", "urogenital_system", "thyroid"],
    "skin, nerves, bone": ["skin", "nervous_system", "neuroblastoma", "bone", "soft_tissue"],
}
PARAMETERS = {"members": 4, "width": 128, "rank": 64, "subjects": 16}
SETTINGS: dict[str, Any] = {"rounds": 12, "local_epochs": 2, "axes": 96, "keep_optimizer": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study")
    parser.add_argument("--sites", nargs="+", choices=("random", "tissue"), default=["random"])
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    parser.add_argument("--arms", nargs="+", default=["federated", "alone", "pooled"])
    parser.add_argument("--modalities", nargs="+", default=["expression"])
    parser.add_argument("--drugs", type=int, default=0, help="so many treatments drawn at random; 0 all")
    parser.add_argument("--epochs", type=int, default=0, help="of fine-tuning at the site; 0 none")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    pl.Config.set_tbl_rows(40)
    study = Study.open(find(given.study))
    split = Split.make(study, "unseen subject", endpoint="ln_ic50", seed=given.seed, require=REQUIRE)
    fold = fewer(split.fold(given.fold), given.drugs)
    parameters = PARAMETERS | {"modalities": given.modalities}
    frames: dict[str, list[pl.DataFrame]] = {sites: [] for sites in given.sites}
    pooled: list[Any] = []
    base = fold.test.select("row").with_columns(predict.baseline(fold))
    for sites, arm in [(s, a) for s in given.sites for a in given.arms]:
        began = time.monotonic()
        dealt = sharing.at_random(fold, 5) if sites == "random" else sharing.by_column(fold, "tissue", GROUPS)
        own = {name: sharing.local(fold, subjects) for name, subjects in dealt.items()}
        if arm == "alone":
            for name, held in own.items():
                frames[sites].append(answered(plain(held, parameters), name, held, arm, base))
        else:
            if arm == "pooled" and not pooled:
                pooled.append(plain(fold, parameters))
            model = pooled[0] if arm == "pooled" else together(own, parameters)
            for name, held in own.items():
                frames[sites].append(answered(model, name, held, arm, base))
                if arm == "federated" and given.epochs:
                    tuned = personal.fine_tuned(model, held, epochs=given.epochs, learning_rate=5e-4)
                    frames[sites].append(answered(tuned, name, held, "personalised", base))
        print(f"{sites}, {arm}: {time.monotonic() - began:.0f} s", flush=True)
        told = tables.check(pl.concat(frames[sites]), tables.FEDERATION_PREDICTIONS)
        given.out.mkdir(parents=True, exist_ok=True)
        told.write_parquet(given.out / f"{sites}.parquet")
        print(scores(told), flush=True)


def fewer(fold: Fold, drugs: int) -> Fold:
    """The fold with ``drugs`` of its treatments, drawn at random."""
    if not drugs:
        return fold
    names = sorted(fold.train["treatment"].unique())
    kept = pl.Series(np.random.default_rng(0).choice(names, min(drugs, len(names)), replace=False).tolist()).implode()
    train_, test = (side.filter(pl.col("treatment").is_in(kept)) for side in (fold.train, fold.test))
    targets = fold._targets.join(test.select("row"), on="row", how="semi")
    return replace(fold, train=train_, test=test, _targets=targets)


def plain(fold: Fold, parameters: dict[str, Any]) -> Any:
    """Local training of as many epochs as all rounds have."""
    model: Any = predictors.make(
        "drug_response", **parameters, epochs=SETTINGS["rounds"] * SETTINGS["local_epochs"], seed=0
    )
    train.fit(model, fold, accelerator="cpu")
    return model


def together(own: dict[str, Fold], parameters: dict[str, Any]) -> Any:
    model: Any = network.fit(Inline([Site(n, held) for n, held in own.items()]), SETTINGS | {"parameters": parameters})
    curve = [f"{v:.3f}" for _, name, v in model.points_ if name == "held-out RMSE"]
    axes = {m: model.closed_.rotations[m].axes.shape[1] for m in model.closed_.names}
    print(f"  held-out RMSE by round {' '.join(curve)}; axes {axes}", flush=True)
    return model


def answered(model: Any, name: str, held: Fold, arm: str, base: pl.DataFrame) -> pl.DataFrame:
    """Predictions of one site's test rows, beside the mean effects of all training rows, for every arm the same."""
    own = held.test.select("row").join(base, on="row", how="left", maintain_order="left")["baseline"]
    frame = predict.predictions(model, held, own)
    return score.unseal(frame, held).with_columns(site=pl.lit(name), arm=pl.lit(arm))


def scores(frame: pl.DataFrame) -> pl.DataFrame:
    """RMSE, normalised Pearson and coverage by site and arm."""
    out = []
    for (site, arm), rows in frame.group_by("site", "arm", maintain_order=True):
        good = rows.filter(pl.col("predicted").is_not_null() & (pl.col("censored") == 0))
        p, o, b = (good[c].to_numpy() for c in ("predicted", "observed", "baseline"))
        out.append(
            {
                "site": site, "arm": arm, "rows": good.height, "lines": good["subject"].n_unique(),
                "RMSE": float(np.sqrt(np.mean((p - o) ** 2))),
                "normalised Pearson": float(np.corrcoef(p - b, o - b)[0, 1]),
                "coverage": float(((good["low"] <= good["observed"]) & (good["observed"] <= good["high"])).mean()),  # type: ignore[arg-type]
            }
        )  # fmt: skip
    return pl.DataFrame(out)


if __name__ == "__main__":
    main()
