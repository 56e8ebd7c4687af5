"""How much of the clean score is kept when 2 to 4 of 10 sites lie, by rule and by attack; also where rules fail.

    python experiments/byzantine.py choose gdsc1              # axes and penalty, clean, on the other screen
    python experiments/byzantine.py run gdsc2 even            # ten sites dealt out at random; goes on where it stopped
    python experiments/byzantine.py run gdsc2 unlike          # ten sites of unlike tissues
    python experiments/byzantine.py show gdsc2 even
    python experiments/byzantine.py adaptive gdsc1 even       # attackers that know the rules, on the other screen

Unseen subjects, fold 0, seed 0. The model is linear on shared principal axes of expression and is trained by rounds.
Rules, attacks and their strengths are those of ``workbench.federated.robust.rehearsal``, fixed before the screen was
opened; but for ``curvature``, which was made after that, on the other screen and synthetic data, and looked at once.
A rule is told how many sites are bad; ``wrong`` tells it too few or too many.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from workbench import home
from workbench.federated import sharing
from workbench.federated.robust import faults, rehearsal, updates
from workbench.federated.robust import rules as robust
from workbench.federated.robust.rehearsal import ADAPTIVE, ATTACKS, CONTESTANTS, Plan, Rehearsal
from workbench.federated.sites import Inline
from workbench.splits import Fold, Split
from workbench.study import Study, find

ENDPOINT = "ln_ic50"
FULL = ("expression", "mutation", "copy_number")
PLAN = Plan(axes=100, penalty=0.3)  # chosen clean on GDSC1: see ``choose``
COUNTS = (2, 3, 4)
UNLIKE = {
    "leukaemia": ["leukemia"],
    "lymphoma, myeloma": ["lymphoma", "myeloma"],
    "lung, not small cell": ["lung_NSCLC", "lung"],
    "lung, small cell": ["lung_SCLC"],
    "head and neck": ["aero_dig_tract", "thyroid"],
    "urogenital, kidney": ["urogenital_system", "kidney"],
    "gut": ["digestive_system", "large_intestine", "pancreas"],
    "skin, bone, soft tissue": ["skin", "soft_tissue", "bone"],
    "nervous system": ["nervous_system", "neuroblastoma"],
    "breast": ["breast"],
}
WRONG = (("little is enough", 4, 2), ("little is enough", 2, 4), ("reversed x10", 4, 2), ("reversed x10", 2, 4))


def opened(study: str) -> Fold:
    split = Split.make(Study.open(find(study)), "unseen subject", endpoint=ENDPOINT, seed=0, require=FULL)
    return split.fold(0)


def dealt(fold: Fold, how: str) -> dict[str, list[str]]:
    return sharing.at_random(fold, 10) if how == "even" else sharing.by_column(fold, "tissue", UNLIKE)


def bad_sites(names: list[str], count: int, draw: int) -> list[str]:
    """Who lies: the first ``count`` of a draw, so that three bad ones are the two of before and one more."""
    order = np.random.default_rng([20261122, draw]).permutation(len(names))
    return [names[i] for i in order[:count]]


def place(study: str, how: str) -> Path:
    return home.home() / "byzantine" / f"{study}_{how}.jsonl"


def choose(study: str) -> None:
    fold = opened(study)
    for axes in (30, 100, 200, 400):
        for penalty in (0.1, 0.3, 1.0, 3.0):
            made = Rehearsal(fold, dealt(fold, "even"), Plan(axes=axes, penalty=penalty), draws=20)
            print(f"{axes} axes, penalty {penalty}: {made.without(())[0]:.4f}", flush=True)


def run(study: str, how: str, draws: int, counts: tuple[int, ...] = COUNTS, only: tuple[str, ...] = ()) -> None:
    """Every cell that is not there yet; ``only`` names attacks."""
    fold = opened(study)
    made = Rehearsal(fold, dealt(fold, how), PLAN)
    file = place(study, how)
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {tuple(r["key"]) for r in map(json.loads, file.read_text().splitlines())} if file.exists() else set()
    names = list(made.honest)

    def keep(key: tuple, make) -> None:
        if tuple(map(str, key)) in done:
            return
        start = time.perf_counter()
        row = make() | {"key": [str(k) for k in key]}
        row["seconds"] = round(time.perf_counter() - start, 2)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")

    for draw in range(draws):
        for count in counts:
            bad = bad_sites(names, count, draw)
            for attack in (None, *ATTACKS):
                if only and (attack is None or attack.name not in only):
                    continue
                for by in CONTESTANTS:
                    label = attack.name if attack else "none"
                    keep((draw, label, count, count, by.name), lambda a=attack, by=by, bad=bad: made.cell(a, bad, by))
            if only:
                continue
            keep((draw, "nan", count), lambda bad=bad: not_numbers(made, bad))
            for by in CONTESTANTS if how == "even" else ():
                keep((draw, "back door", count, by.name), lambda by=by, bad=bad: back_door(made, bad, by))
        for name, count, told in WRONG if how == "even" and not only else ():
            attack, bad = next(a for a in ATTACKS if a.name == name), bad_sites(names, count, draw)
            for by in CONTESTANTS:
                keep(
                    (draw, name, count, told, by.name),
                    lambda a=attack, bad=bad, by=by, told=told: made.cell(a, bad, by, told),
                )


def adaptive(study: str, how: str, count: int = 4) -> None:
    """What attackers reach who know the rules: share of what the honest alone reach, printed."""
    made = Rehearsal(opened(study), dealt(opened(study), how), PLAN, draws=20)
    bad = bad_sites(list(made.honest), count, 0)
    for by in CONTESTANTS:
        if by.name in ("mean", "median, mixed", "remembering", "curvature"):
            for attack in ADAPTIVE:
                row = made.cell(attack, bad, by)
                print(f"{by.name:<20}{attack.name:<20}{row['of_honest']:.3f}  caught {row['caught']:.2f}", flush=True)


def not_numbers(made: Rehearsal, bad: list[str]) -> dict:
    """Sites that send NaN: named in every round, and the score that of the honest alone."""
    sites = [faults.BadSite(s, "nan") if n in bad else s for n, s in made.honest.items()]
    w, _, noted = made.train(robust.make("mean"), Inline(sites))
    named = sorted({n.site for n in noted})
    every = all({n.site for n in noted if n.round == k} == set(bad) for k in range(made.plan.rounds))
    got = float(made.score(w)[0])
    return {"attack": "nan", "bad": len(bad), "named": named, "in_every_round": every, "why": noted[0].why,
            "of_honest": got / float(made.without(bad)[0]), "of_clean": got / float(made.without(())[0])}  # fmt: skip


def back_door(made: Rehearsal, bad: list[str], by: rehearsal.Contestant) -> dict:
    """A mark on a hundred genes makes a drug look strong: how far marked test lines move, as a share of the wish.

    Tried on GDSC1 until the plain mean let it in: ten genes drown in the axes, five hundred make the training diverge.
    """
    drug, axis = 0, made.plane.axes[:, min(60, made.plan.axes - 1)]
    strongest = np.argsort(-np.abs(axis))[:100]
    mark = {int(i): float(made.plane.mean[i] + 4 * np.sign(axis[i]) * made.plane.sd[i]) for i in strongest}
    held = made.fold.train.filter(treatment=made.plane.treatments[drug])["value"]
    wished = float(held.mean() - 4 * held.std())
    sites = [
        faults.BackDoored.of(s, mark, made.plane.treatments[drug], wished) if n in bad else s
        for n, s in made.honest.items()
    ]
    row = {"attack": "back door", "bad": len(bad), "rule": by.name}
    try:
        w, _, _ = made.train(
            robust.make(by.rule, len(bad), by.mix), Inline(sites), updates.Checks(compare=by.drop, drop_flagged=by.drop)
        )
    except robust.RobustError as error:
        return row | {"refused": str(error)}
    model = rehearsal.Linear(made.plane, w, made.plan.modality)
    block = rehearsal.modalities.read(made.fold.study, made.plan.modality, columns=made.plane.features)
    x, _ = block.rows(made.subjects)
    moved = (model.values(faults.marked(x, mark)) - model.values(x))[:, drug].mean()
    return row | {
        "of_clean": float(made.score(w)[0] / made.without(())[0]),
        "moved": float(moved / (wished - float(held.mean()))),
    }


def show(study: str, how: str) -> None:
    rows = [json.loads(line) for line in place(study, how).read_text().splitlines()]
    draws = sorted({r["key"][0] for r in rows})
    main = [r for r in rows if len(r["key"]) == 5]
    first = next(r for r in main if r["attack"] == "none")
    print(f"{study}, {how}: clean {first['clean']:.4f}; draws of who is bad: {len(draws)}\n")
    for reference, words in (("of_clean", "all ten, clean"), ("of_honest", "the honest alone")):
        for count in sorted({r["bad"] for r in main}):
            alone = [r["honest_alone"] / r["clean"] for r in main if r["bad"] == count]
            print(f"{count} bad of 10; share of the score of {words} (honest alone: {np.mean(alone):.3f} of clean)")
            attacks = ["none", *(a.name for a in ATTACKS)]
            print(f"{'':<30}" + "".join(f"{a:>18}" for a in attacks) + f"{'kept >= 98 %':>14}")
            for by in CONTESTANTS:
                cells, kept = [], 0
                for a in attacks:
                    got = [
                        r for r in main if (r["attack"], r["bad"], r["told"], r["rule"]) == (a, count, count, by.name)
                    ]
                    shares = [r[reference] for r in got if "score" in r]
                    kept += bool(shares) and len(shares) == len(got) and np.mean(shares) >= 0.98 and a != "none"
                    refused = "" if len(shares) == len(got) else f" ({len(got) - len(shares)} ref.)"
                    cells.append(f"{np.mean(shares):.3f}{refused}" if shares else "refused" if got else "-")
                print(f"{by.name:<30}" + "".join(f"{c:>18}" for c in cells) + f"{f'{kept}/{len(ATTACKS)}':>14}")
            print()
    print("told a wrong number (share of the honest alone)")
    for name, count, told in WRONG:
        for by in CONTESTANTS:
            got = [r for r in main if (r["attack"], r["bad"], r["told"], r["rule"]) == (name, count, told, by.name)]
            shares = [r["of_honest"] for r in got if "score" in r]
            said = f"{np.mean(shares):.3f}" if shares else "refused"
            print(f"  {name}, {count} bad, told {told}: {by.name:<30} {said} ({len(got) - len(shares)} refused)")
    print("\nNaN")
    for r in rows:
        if r["attack"] == "nan":
            print(f"  {r['bad']} bad: named {r['named']}, every round: {r['in_every_round']}, {r['why']}; "
                  f"{r['of_honest']:.4f} of the honest alone")  # fmt: skip
    print("\nback door: share of the wished shift on marked test lines; share of the clean score")
    for count in COUNTS:
        for by in CONTESTANTS:
            got = [r for r in rows if r["attack"] == "back door" and (r["bad"], r["rule"]) == (count, by.name)]
            said = [r for r in got if "moved" in r]
            if said:
                moved, of_clean = (np.mean([r[k] for r in said]) for k in ("moved", "of_clean"))
                print(f"  {count} bad: {by.name:<30} {moved:.3f}   {of_clean:.3f}")
            elif got:
                print(f"  {count} bad: {by.name:<30} refused")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Rules of aggregation against lying sites.")
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("choose").add_argument("study")
    for verb in ("run", "show", "adaptive"):
        one = what.add_parser(verb)
        one.add_argument("study")
        one.add_argument("how", choices=("even", "unlike"))
        if verb == "run":
            one.add_argument("--draws", type=int, default=1, help="draws of which sites are bad")
            one.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="how many are bad")
            one.add_argument("--only", nargs="+", default=(), help="attacks")
    args = parser.parse_args(argv)
    if args.what == "choose":
        choose(args.study)
    elif args.what == "run":
        run(args.study, args.how, args.draws, tuple(args.counts), tuple(args.only))
    elif args.what == "adaptive":
        adaptive(args.study, args.how)
    else:
        show(args.study, args.how)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
