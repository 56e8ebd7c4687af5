"""How far do attacks get on a ridge of real lines, and what do noise and its loss of accuracy buy?

    python experiments/federated_attacks.py run gdsc2 OUT          # every row of the table; goes on where it stopped
    python experiments/federated_attacks.py show OUT

Unseen subjects, fold 0, seed 0; training lines only, so no test target is opened. 60 treatments (every fifth by
name), 128 axes of expression, half of the lines in, 16 shadow models by the same recipe. The exact ridge of sums equals
the one in one house (``federated.exact.ridge``), so it stands in for it here, and a row takes seconds. Beside each
attack stands the accuracy on the half that was left out: the mean over treatments of Pearson's r.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench import durable, modalities
from workbench.federated import spec, task
from workbench.federated.attacks import inversion, membership, shadows
from workbench.federated.attacks import property as properties
from workbench.federated.private.accounting import PrivacyError
from workbench.nn.scaling import fit_rotation
from workbench.predictors._pairs import matrix
from workbench.splits import Split
from workbench.study import Study, find

EPSILONS = (1.0, 3.0, 10.0, 1000.0)  # of the private ridge; the last to tell its few axes from its noise
PUBLIC = (10.0, 30.0, 100.0)  # the same with axes and scales of another study, whose lines need not be hidden
TREATMENTS, AXES, MODELS = 60, 128, 16
PENALTIES: dict[str, tuple[float, ...]] = {
    "ridge, penalty by leaving one out": shadows.ClosedRidge.penalties,
    "ridge, penalty 10": (10.0,),
    "ridge, penalty 1": (1.0,),
    "ridge, penalty 0.1": (0.1,),
    "ridge, penalty 0.001": (1e-3,),
}
TISSUES = (("leukemia", "lung_NSCLC"), ("lung_NSCLC", "large_intestine"))


def opened(study: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, f), responses (n, t) and tissue (n,) of the training lines."""
    split = Split.make(
        Study.open(find(study)), "unseen subject", endpoint="ln_ic50", folds=5, seed=0,
        require=("expression", "mutation", "copy_number"),
    )  # fmt: skip
    fold = split.fold(0)
    names = chosen(fold.train)
    train = fold.train.filter(pl.col("treatment").is_in(names))
    one = train.unique("subject").sort("subject")
    x, there = modalities.read(fold.study, "expression", endpoint=fold.endpoint).rows(one["subject"].to_list())
    y = matrix(train, one["subject"].to_list(), names)
    return x[there], y[there], one["tissue"].cast(pl.String).fill_null("").to_numpy()[there]


def chosen(train: pl.DataFrame) -> list[str]:
    """60 treatments, evenly by name."""
    names = sorted(train["treatment"].unique())
    return names[:: max(len(names) // TREATMENTS, 1)][:TREATMENTS]


def of_private(study: str, epsilon: float, public: str = "") -> dict[str, Any]:
    """Membership of a ridge of five sites' noisy sums, the noise shared by three of them, as secure sums allow."""
    federation = spec.of({
        "name": "attacked", "study": study, "endpoint": "ln_ic50", "split": "unseen subject", "folds": 5, "only": [0],
        "require": ["expression", "mutation", "copy_number"], "predictors": ["ridge"],
        "federation": {"method": "private_ridge", "least": 3, "secure": True, "sites": {"random": 5},
                       "settings": {"epsilon": epsilon, "honest": 3, "public": public}, "policy": {"honest": 3}},
    })  # fmt: skip
    fold, _ = task.opened(federation, 0)
    trainer = shadows.Federated(federation, 0, chosen(fold.train))
    try:
        return of_membership(trainer.persons, trainer.y, trainer) | {"epsilon": epsilon}
    except PrivacyError as error:  # so few persons, so much noise: said, not hidden
        return {"no predictor": str(error), "epsilon": epsilon}


def accuracy(errors: np.ndarray, y: np.ndarray, member: np.ndarray) -> float:
    """Mean over treatments of Pearson's r on the persons left out."""
    out = []
    for e, v in zip(errors[~member].T, y[~member].T, strict=True):
        there = np.isfinite(e)
        if there.sum() > 10 and np.std((v - e)[there]) > 0:
            out.append(np.corrcoef(v[there], (v - e)[there])[0, 1])
    return float(np.mean(out))


def of_membership(x: Sized, y: np.ndarray, trainer: shadows.Trainer) -> dict[str, Any]:
    played = shadows.run(trainer, len(x), MODELS)
    told = {f"{f.attack}, {f.figure}": [f.value, f.low, f.high, f.n] for f in played.figures()}
    score = membership.scores(played.errors, played.shadows)
    assert all(np.isfinite(s).all() for s in score.values())
    return told | {"accuracy": accuracy(played.errors, y[played.kept], played.member)}


def unseen(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Negative control: the weakest penalty, on two thirds of the lines; the attacked model had the last third."""
    n = len(x)
    order = np.random.default_rng(60).permutation(n)
    game, apart = order[: 2 * n // 3], order[2 * n // 3 :]
    penalties = PENALTIES["ridge, penalty 0.001"]
    played = shadows.run(shadows.ClosedRidge(x[game], y[game], AXES, penalties), len(game), MODELS)
    seen = np.zeros(n, dtype=bool)
    seen[apart] = True
    errors = shadows.ClosedRidge(x, y, AXES, penalties)(seen)[game][played.kept]
    found = membership.attack(errors, played.member, played.shadows)
    return {f"{f.attack}, {f.figure}": [f.value, f.low, f.high, f.n] for f in found}


def of_updates(x: np.ndarray, y: np.ndarray, tissue: np.ndarray) -> dict[str, Any]:
    """Inversion of the first update and the property of a site, over sites of 1 to all lines."""
    z = fit_rotation(x, np.arange(len(x)), AXES).apply(x).astype(np.float64)
    y = y - np.nanmean(y, axis=0)
    update = properties.linear_update(z, y)
    rng = np.random.default_rng(61)
    victims = rng.permutation(len(z))[:50]
    out: dict[str, Any] = {}
    for size in (1, 2, 5, 10, 20, 50, 150, len(z)):
        found = []
        for v in victims:
            rest = rng.permutation(np.delete(np.arange(len(z)), v))[: size - 1]
            found.append(inversion.of_linear(update(np.append(rest, v)))[0])
        told = inversion.joined(found, [z[v] for v in victims])
        out[f"inversion, {size} lines"] = [told.correlation, *told.interval(), len(victims)]
    one = np.array([np.linalg.norm(update(np.array([i]))) for i in range(len(z))])
    for noise in (0.5, 1.0, 3.0):
        clip = float(np.median(one))
        found = [
            inversion.of_linear(inversion.privatise({"c": update(np.array([v]))}, clip, noise)["c"])[0] for v in victims
        ]
        told = inversion.joined(found, [z[v] for v in victims])
        out[f"inversion, 1 line, noise {noise} of the clip"] = [told.correlation, *told.interval(), len(victims)]
    for first, second in TISSUES:
        at = np.flatnonzero(np.isin(tissue, [first, second]))
        kind = tissue[at] == first
        size = min(30, int(0.35 * min(kind.sum(), (~kind).sum()) / 0.7))
        for together in (1, 3, 5, 20):
            plan = properties.Plan(size=size, together=together)
            made = properties.attack(properties.linear_update(z[at], y[at]), kind, plan)
            out[f"property, {first} or {second}, sum of {together} sites of {size}"] = [
                made.value, made.low, made.high, made.n,
            ]  # fmt: skip
    return out


def run(study: str, out: Path) -> None:
    x, y, tissue = opened(study)
    done = {r["what"] for r in rows(out)}
    todo: dict[str, Any] = {
        name: (lambda p=p: of_membership(x, y, shadows.ClosedRidge(x, y, AXES, p))) for name, p in PENALTIES.items()
    }
    todo |= {f"private ridge, epsilon {e:g}": (lambda e=e: of_private(study, e)) for e in EPSILONS}
    todo |= {f"private ridge, axes of ccle, epsilon {e:g}": (lambda e=e: of_private(study, e, "ccle")) for e in PUBLIC}
    todo["nobody of them seen"] = lambda: unseen(x, y)
    todo["updates"] = lambda: of_updates(x, y, tissue)
    left = [name for name in todo if name not in done]
    start = time.monotonic()
    for at, name in enumerate(left):
        row = {"what": name, "study": study, "lines": len(x), "treatments": y.shape[1]} | todo[name]()
        durable.write_synced(out / f"{len(done) + at:02d}.json", json.dumps(row, indent=1).encode())
        spent = time.monotonic() - start
        print(f"{name}: {spent:.0f} s, about {spent / (at + 1) * (len(left) - at - 1):.0f} s left", flush=True)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(out.glob("*.json"))]


def show(out: Path) -> None:
    for row in rows(out):
        print(f"\n{row['what']} ({row['lines']} lines, {row['treatments']} treatments)")
        for name, told in row.items():
            if isinstance(told, list):
                ends = "" if told[1] is None else f" ({told[1]:.3f} to {told[2]:.3f})"
                print(f"  {name:<60} {told[0]:.3f}{ends}  n {told[3]}")
            elif isinstance(told, str) and name == "no predictor":
                print(f"  {told}")
            elif isinstance(told, float):
                print(f"  {name:<60} {told:.3f}")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "run":
        Path(sys.argv[3]).mkdir(parents=True, exist_ok=True)
        run(sys.argv[2], Path(sys.argv[3]))
    elif len(sys.argv) == 3 and sys.argv[1] == "show":
        show(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
