"""Many samples and few responses: what an encoder learnt together gives a site, beside axes learnt together.

    python experiments/federated_few_responses.py run gdsc2 random 0     # fold 0, five sites dealt at random
    python experiments/federated_few_responses.py run gdsc2 tissue 0     # five sites with tissues of their own
    python experiments/federated_few_responses.py show gdsc2 random 0 1  # folds 0 and 1, judged

Unseen subjects. Every training line of a site has its expression; 10 or 25 % of them have responses to 24 drugs. The
encoder and its axes are learnt from all training lines, no test line among them. Four arms, one model: ridge on the
features as they are ("alone"), mixed with the site's own encoder, with the shared encoder, and with shared principal
axes of even spread ("personalised" in the tables, which have no word for it). How the encoder learns and what the head
takes was chosen on GDSC1, seed 7, fold 0.
"""

from __future__ import annotations

import argparse
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench import home, predict
from workbench.federated import sharing
from workbench.federated.pretraining import arms, head, unlabelled
from workbench.federated.pretraining import fit as pretraining
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.federated.worth import command, value
from workbench.federated.worth.arms import predictions
from workbench.predictors import restore
from workbench.splits import Fold, Split
from workbench.study import Study, find

FULL = ("expression", "mutation", "copy_number")
DRUGS, SHARES = 24, (0.1, 0.25)
PARAMETERS = {"members": 4, "width": 128, "rank": 64, "modalities": ["expression"]}
SETTINGS: dict[str, Any] = {"pretraining_rounds": 12, "pretraining_epochs": 5, "parameters": PARAMETERS, "least": 1}
UNLIKE = {
    "blood": ["leukemia", "lymphoma", "myeloma"],
    "lung": ["lung_NSCLC", "lung_SCLC", "lung"],
    "gut": ["digestive_system", "large_intestine", "pancreas", "aero_dig_tract"],
    "breast and urogenital": ["breast", "urogenital_system", "kidney", "thyroid"],
    "brain, skin and bone": ["nervous_system", "neuroblastoma", "skin", "bone", "soft_tissue"],
}
RIVAL = "personalised"


def place() -> Path:
    made = home.home() / "few responses"
    made.mkdir(parents=True, exist_ok=True)
    return made


def opened(study: str, how: str, number: int, seed: int) -> tuple[Fold, dict[str, list[str]], dict[str, Any]]:
    """The fold, {site: subjects}, and how they were dealt."""
    fold = Split.make(
        Study.open(find(study)), "unseen subject", endpoint="ln_ic50", folds=5, seed=seed, require=FULL
    ).fold(number)
    if how == "random":
        return fold, sharing.at_random(fold, 5, seed), {"random": 5}
    return fold, sharing.by_column(fold, "tissue", UNLIKE), {"column": "tissue", "groups": UNLIKE}


def encoders(fold: Fold, dealt: dict, free: dict, file: Path, seed: int) -> dict[str, Any]:
    """The shared encoder, and each site's own by its name; kept in ``file``."""
    told = pickle.loads(file.read_bytes()) if file.exists() else {}
    settings = SETTINGS | {"seed": seed}
    for name in ("shared", *dealt):
        if name not in told:
            begun = time.process_time()
            if name == "shared":
                sites = [Site(n, sharing.local(fold, s), arms.AT_HOME, unlabelled=free[n]) for n, s in dealt.items()]
                made: Any = pretraining.encoder(Inline(sites), settings)
            else:
                made = arms.alone(name, sharing.local(fold, dealt[name]), free[name], settings)
            e = made.explained_[-1]
            told[name] = (made.config(), made.arrays(), e, time.process_time() - begun)
            file.write_bytes(pickle.dumps(told))
        e = told[name][2]
        print(f"{name}: explains {e.value:.3f} ({e.low:.3f} to {e.high:.3f}) of hidden expression", flush=True)
    return {k: restore("drug_response", v[0], v[1]) for k, v in told.items()}


def run(study: str, how: str, number: int, seed: int) -> None:
    whole, dealt, told = opened(study, how, number, seed)
    made = encoders(
        whole, dealt, unlabelled.dealt(whole, dealt, told), place() / f"{study} {how} {number} {seed}.pkl", seed
    )
    counts = whole.train.group_by("treatment").len().sort("len", "treatment", descending=True)
    often = counts.head(counts.height // 2)["treatment"].sort().to_list()
    drugs = sorted(np.random.default_rng([seed, DRUGS]).permutation(often)[:DRUGS].tolist())
    for share in SHARES:
        cut = unlabelled.few(whole, dealt, share, seed)
        free = unlabelled.dealt(cut, dealt, told)
        some = pl.col("treatment").is_in(drugs)
        test = cut.test.filter(some)
        targets = cut._targets.join(test.select("row"), on="row", how="semi")
        cut = replace(cut, train=cut.train.filter(some), test=test, _targets=targets)
        base, out = predict.baseline(cut), []
        for site, subjects in dealt.items():
            own = sharing.local(cut, subjects)
            there = cut.test["subject"].is_in(pl.Series(subjects, dtype=pl.String).implode())
            for arm, fitted in {
                "alone": head.fit(made["shared"], own, (0.0,)),
                "own pretraining": head.fit(made[site], own),
                "pretrained together": head.fit(made["shared"], own),
                RIVAL: head.fit(made["shared"], own, free=free[site]),
            }.items():
                out.append(predictions(arm, fitted, own, {site: subjects}, base.filter(there)))
        pl.concat(out).write_parquet(place() / f"{study} {how} {number} {seed} {share:g}.parquet")


def show(study: str, how: str, numbers: list[int], seed: int) -> None:
    for share in SHARES:
        frames = [pl.read_parquet(place() / f"{study} {how} {n} {seed} {share:g}.parquet") for n in numbers]
        frame = pl.concat(frames)
        print(f"\n== {study}, {how}, folds {numbers}, {100 * share:g} % of the training lines with responses")
        print(command.text(value.worth(frame, baseline="alone")))
        whole = value.worth(frame.with_columns(site=pl.lit("all rows")), baseline="alone")
        print(command.text(whole))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("run", "show"))
    parser.add_argument("study")
    parser.add_argument("how", choices=("random", "tissue"))
    parser.add_argument("folds", type=int, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.do == "run":
        for number in given.folds:
            run(given.study, given.how, number, given.seed)
    else:
        show(given.study, given.how, given.folds, given.seed)


if __name__ == "__main__":
    main()
