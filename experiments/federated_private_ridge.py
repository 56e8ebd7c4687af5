"""What does a private ridge of five sites keep of the exact one, at each budget? With axes of a public study.

    python experiments/federated_private_ridge.py gdsc2 --out folder            # goes on where it stopped
    python experiments/federated_private_ridge.py gdsc1 --seed 7 --out folder   # settings are chosen here

The public study is CCLE without any line of the test fold. GDSC1 shares 933 of GDSC2's 938 lines, so it cannot be
public beside GDSC2; CCLE shares 309, so the sites' rows are cut to lines that CCLE does not have ("apart"), which is
what a public study of other people would be like; "overlapping" leaves them in. Features are of one platform in all,
which real sites would have to harmonise first. Unit: a person; delta 1e-5. Noise is drawn anew for each of ``--draws``
trainings. "shared": secure sums in which three of five sites are counted on for it; "own": each site adds all of it.
Beside them stand treatment means and the exact federated ridge, both of the same rows and without any privacy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from workbench import predict, predictors, score
from workbench.federated import sharing
from workbench.federated.exact import ridge as exact
from workbench.federated.gate.budget import Budget
from workbench.federated.policy import Policy
from workbench.federated.private import keyed, ridge
from workbench.federated.private.accounting import PrivacyError
from workbench.federated.secure.server import Secure
from workbench.federated.site import Site
from workbench.federated.sites import Inline, Sites
from workbench.splits import Fold, Split
from workbench.study import Study, find

SITES, HONEST, ENDLESS = 5, 3, 1e9
METRICS = ("RMSE", "normalised Pearson", "coverage")
REQUIRE = ("expression", "mutation", "copy_number")
LEFT = ("treatment means", "exact ridge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", choices=["gdsc1", "gdsc2"])
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0, 8.0, 10.0, 30.0])
    parser.add_argument("--draws", type=int, default=5, help="trainings at each epsilon")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--lines", nargs="+", default=["apart", "overlapping"], choices=["apart", "overlapping"])
    parser.add_argument("--noise", nargs="+", default=["shared", "own"], choices=["shared", "own"])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    pl.Config.set_tbl_rows(200).set_tbl_cols(20).set_tbl_width_chars(180).set_fmt_str_lengths(60)
    study = Study.open(find(given.study))
    whole = Split.make(
        study, "unseen subject", endpoint="ln_ic50", folds=5, seed=given.seed, require=REQUIRE
    ).fold(given.fold)  # fmt: skip
    public = others(whole)
    for lines in given.lines:
        fold = whole if lines == "overlapping" else without(whole, public)
        print(f"{lines}: {fold.train['person'].n_unique()} lines at the sites, {public.train['subject'].n_unique()} "
              f"public, {fold.test['subject'].n_unique()} tested", flush=True)  # fmt: skip
        todo = arms(fold, public, given.epsilons, given.draws, given.noise)
        done(todo, fold, given.out / lines)
        found = table(given.out / lines, list(todo))
        found.write_csv(given.out / f"{given.study} {lines}.csv")
        print(found, flush=True)


def others(fold: Fold) -> Fold:
    """CCLE's responses of lines that are not in the test fold, as a Fold whose training rows count."""
    split = Split.make(Study.open(find("ccle")), "unseen subject", endpoint="ln_ic50", folds=5, seed=0)
    parts = [split.fold(i).train for i in range(2)]  # two training sides hold all rows between them
    tested = fold.test["subject"].unique().cast(pl.String).implode()
    rows = pl.concat(parts).unique("row").sort("row").filter(~pl.col("subject").cast(pl.String).is_in(tested))
    return replace(split.fold(0), train=rows)


def without(fold: Fold, public: Fold) -> Fold:
    """``fold`` whose training rows are of lines that the public study does not have."""
    known = public.train["subject"].unique().cast(pl.String).implode()
    return replace(fold, train=fold.train.filter(~pl.col("subject").cast(pl.String).is_in(known)))


def arms(
    fold: Fold, public: Fold, epsilons: list[float], draws: int, noises: list[str]
) -> dict[str, Callable[[], Any]]:
    """{name: how it is trained}; private ones without public responses stand beside those with them."""
    dealt = sharing.at_random(fold, SITES)
    held = [Site(n, sharing.local(fold, s), Policy(honest=HONEST)) for n, s in dealt.items()]

    def means() -> Any:
        return predictors.make("drug_mean").fit(fold)

    def plain() -> Any:
        return exact.fit(Inline([Site(s.name, s.fold) for s in held]), {"axes": 128, "least": SITES})

    def private(epsilon: float, noise: str) -> Any:
        for site in held:
            site.memory.pop(keyed.MEMORY, None)  # noise anew
            site.outgoing = [Budget()]
        shared = noise == "shared"
        sites: Sites = Secure(Inline(held), least=SITES) if shared else Inline(held)
        return ridge.fit(
            sites, {"epsilon": epsilon, "honest": HONEST if shared else 1, "public": public, "least": SITES}
        )

    out: dict[str, Callable[[], Any]] = {LEFT[0]: means, LEFT[1]: plain}
    out["no noise to speak of"] = lambda: private(ENDLESS, "own")
    for noise in noises:
        for epsilon in sorted(epsilons, reverse=True):
            for draw in range(draws):
                name = f"epsilon {epsilon:g}, {noise}, draw {draw + 1}"
                out[name] = lambda epsilon=epsilon, noise=noise: private(epsilon, noise)  # type: ignore[misc]
    return out


def done(todo: dict[str, Callable[[], Any]], fold: Fold, folder: Path) -> None:
    """Train, predict, score; one file an arm, and a line with what it cost or why there is no predictor."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "arms.jsonl"
    known = [json.loads(line)["arm"] for line in lines.read_text().splitlines()] if lines.exists() else []
    base = predict.baseline(fold)
    for name in (n for n in todo if n not in known):
        told: dict[str, Any] = {"arm": name}
        began = time.monotonic()
        try:
            made = todo[name]()
            frame = score.unseal(predict.predictions(made, fold, base), fold)
            frame.with_columns(predictor=pl.lit(name)).write_parquet(folder / f"{name}.parquet")
            told |= {"epsilon": getattr(getattr(made, "spent_", None), "epsilon", None)}
        except PrivacyError as error:
            told |= {"no predictor": str(error)}
        with lines.open("a") as stream:
            stream.write(json.dumps(told | {"seconds": time.monotonic() - began}) + "\n")
        print(f"{name}: {time.monotonic() - began:.0f} s {told.get('no predictor', '')}", flush=True)


def table(folder: Path, names: list[str]) -> pl.DataFrame:
    """By kind of arm, means over its draws: value, interval over lines, differences from means and from exact ridge."""
    frames = [pl.read_parquet(folder / f"{n}.parquet") for n in names if (folder / f"{n}.parquet").exists()]
    metrics, compared = score.evaluate(pl.concat(frames), list(LEFT))
    kind = pl.col("predictor").cast(pl.String).str.replace(r", draw \d+$", "")
    kept = metrics.filter((pl.col("fold") == "all") & pl.col("metric").is_in(METRICS)).with_columns(arm=kind)
    out = kept.group_by("arm", "metric", maintain_order=True).agg(
        pl.len().alias("draws"), pl.col("value", "low", "high").mean(),
        least=pl.col("value").min(), most=pl.col("value").max(),
    )  # fmt: skip
    for other in LEFT:
        apart = compared.filter(pl.col("other").cast(pl.String) == other).with_columns(arm=kind)
        short = other.split()[0]
        apart = apart.group_by("arm", "metric").agg(
            pl.col("difference").mean().alias(f"less {short}"), pl.col("low").mean().alias(f"{short} from"),
            pl.col("high").mean().alias(f"{short} to"),
        )  # fmt: skip
        out = out.join(apart, on=["arm", "metric"], how="left")
    return out.sort("metric", maintain_order=True)


if __name__ == "__main__":
    main()
