"""What a network starts from, made of sums over sites: axes of every modality, the closed form, structures, a spread.

The closed form is the federated ridge on one modality (``ridge``), in place of DrugResponse's ridge on the fusion of
all: the same axes serve both, and the solutions that leave a part out serve the intervals. Inner parts are those of the
network's members, dealt by the same hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench import modalities
from workbench.federated.exact import ridge, statistics
from workbench.federated.exact.carried import FEWEST, carried
from workbench.federated.exact.harmonise import Plan as Agreed
from workbench.federated.exact.harmonise import agree
from workbench.federated.exact.progress import Progress
from workbench.federated.exact.steady import SitesChanged, Steady
from workbench.federated.messages import Ask, Value
from workbench.federated.network.plan import Plan
from workbench.federated.sites import Sites, TooFewSites, enough
from workbench.nn.scaling import Rotation
from workbench.predictors._closed_form import LAMBDAS, STRUCTURE, ClosedForm, _average, tanimoto

FOLDS = 8  # parts of the compounds, as ``_closed_form`` has it


@dataclass(frozen=True)
class Start:
    """Everything that is fixed before the first round: T treatments, k axes of the closed form's modality.

    Attributes
    ----------
    plan : what every site gets
    modality : that of the closed form
    solution, solutions : ridge on the modality's axes, level last (k + 1, T); with each part left out (E, k + 1, T)
    sigma : spread of the responses about their treatment's level
    bits, penalty : structures (T, b), and how far similar ones are trusted for a new compound
    rows : training rows of all sites that agreed; only the shares' unit, they are divided by their sum
    """

    plan: Plan
    modality: str
    solution: np.ndarray
    solutions: np.ndarray
    sigma: float
    bits: np.ndarray
    penalty: float
    rows: int

    @property
    def offset(self) -> np.ndarray:
        return self.solution[-1]

    def closed_form(self) -> ClosedForm:
        """The fitted ClosedForm; it names no subject."""
        made = self.plan.closed_form()
        gain = np.array([made.gains[m] for m in made.names])
        blocks = []
        for m in made.names:
            rotation = made.rotations[m]
            k = rotation.axes.shape[1]
            loud = rotation.scale * np.sqrt(max(k, 1)) * np.sqrt((gain**2).sum()) / made.gains[m]
            blocks.append(self.solution[:-1] * loud if m == self.modality else np.zeros((k, len(self.offset))))
        for name, value in (("offset", self.offset), ("weights", np.concatenate(blocks)), ("bits", self.bits)):
            made._buffer(name, value)
        made._buffer("penalty", np.array([self.penalty]))
        made.structure = made._structure(self.bits.astype(np.float32))
        return made


def smallest(sites: Sites, modality: str, of: Sequence[str], also: Mapping[str, Value] | None = None) -> int:
    """Fewest subjects with the modality at any of the sites ``of``; ``also``: see ``axes_of``."""
    told = sites.ask(Ask("schema", values={"modality": modality, **(also or {})}), of=list(of))
    enough(Ask("schema"), told, 1)
    return min(int(r.arrays["subjects"].sum()) for r in told.replies)


def prepare(sites: Sites, params: Mapping[str, Any], chosen: ridge.Settings, progress: Progress, gone) -> Start:
    """All of it; stages that ``progress`` holds are not asked for again.

    Raises
    ------
    workbench.federated.exact.steady.SitesChanged
        A site came or went between sums that belong together.
    workbench.federated.sites.TooFewSites
        Fewer than ``chosen.least`` sites.
    """
    first = chosen.modality
    agreed = progress.agreed(lambda: agree(sites, first, chosen.endpoint, chosen.least, chosen.share, gone))
    bits, names = _structures(sites, agreed, chosen.least, progress)
    limit = progress.once(
        "limit", 0.01, "sizes of the sites", lambda: {"axes": np.array([smallest(sites, first, agreed.sites) - 1])}
    )
    k = max(min(chosen.axes, int(limit["axes"][0])), 2)
    closed = ridge.Fit(sites, replace(chosen, axes=k), progress, gone, intervals=False)
    with progress.part(0.01, 0.16):
        closed.run()
    stage = {name: progress.once(name, 1.0, "", dict) for name in ("scale", "start", "inner", "weights")}
    scale, axes, count = stage["scale"], closed.shared["axes"], stage["start"]["count"]
    measured = np.flatnonzero(count > 0)  # of the others no site has enough rows
    length, n = float(scale["length"][0]), float(scale["subjects"][0])
    moments = stage["start"]["gram"][:-1, :-1] * length**2
    rotations = {first: _rotation(scale["mean"], scale["sd"], axes * length, moments, n)}
    turn = rotations[first].axes.T.astype(np.float64) @ axes * length  # of the ridge's axes onto principal ones
    agreed = replace(agreed, treatments=[agreed.treatments[i] for i in measured])
    bits = bits[measured]
    columns = {first: agreed.features}
    for m in params["modalities"]:
        if m != first and (found := axes_of(sites, m, chosen, k, progress)) is not None:
            columns[m], rotations[m] = found
    order = [m for m in params["modalities"] if m in columns]
    bits, names = (bits, names) if params["structure"] else (bits, [])
    if names:
        rotations[STRUCTURE] = modalities.prepare(STRUCTURE, bits.astype(np.float32), np.flatnonzero(bits.sum(1) > 0))
        columns[STRUCTURE] = names
        order.append(STRUCTURE)
    else:
        bits = np.zeros((len(agreed.treatments), 1), np.uint8)
    plan = Plan(
        dict(params), agreed.treatments, {m: columns[m] for m in order}, {m: rotations[m] for m in order},
        np.zeros((len(bits), 1), np.float32), agreed.endpoint, agreed.unit, agreed.alias,
    )  # fmt: skip
    plan = plan.with_structure(plan.closed_form()._structure(bits.astype(np.float32)))
    solution = _turned(stage["weights"]["weights"][:, measured], turn, length)
    solutions = _turned(stage["inner"]["solutions"][:, :, measured], turn, length)
    told = progress.once("spread", 0.18, "spread", lambda: _spread(closed, solution[-1], measured))
    penalty = _trust(sites, plan, first, bits, solution, chosen.least, progress) if names else float(LAMBDAS[-1])
    return Start(plan, first, solution, solutions, float(told["sigma"][0]), bits, penalty, sum(agreed.rows.values()))


def _rotation(mean, sd, axes: np.ndarray, moments: np.ndarray, subjects: float) -> Rotation:
    """Axes (f, k) turned onto principal ones, strongest first, and scaled as ``nn.scaling.fit_rotation`` does."""
    values, vectors = np.linalg.eigh((moments + moments.T) / 2)
    order = np.argsort(values)[::-1]
    kept = order[values[order] > max(values.max(), 1e-12) * 1e-7]
    spread = float(values[kept].sum()) / (subjects * max(len(kept), 1))
    return Rotation(
        np.asarray(mean, np.float32), np.asarray(sd, np.float32),
        np.ascontiguousarray(axes @ vectors[:, kept], dtype=np.float32), float(np.sqrt(max(spread, 1e-12))),
    )  # fmt: skip


def _turned(solution: np.ndarray, turn: np.ndarray, length: float) -> np.ndarray:
    """Solutions on the ridge's axes divided by ``length``, as solutions on the principal axes."""
    return np.concatenate([turn @ solution[..., :-1, :] / length, solution[..., -1:, :]], axis=-2)


def axes_of(
    sites: Sites,
    m: str,
    chosen: ridge.Settings,
    most: int,
    progress: Progress,
    also: Mapping[str, Value] | None = None,
) -> tuple[list[str], Rotation] | None:
    """Features and shared axes of a modality, over the sites that have it; None where too few do.

    ``also`` goes into every ask: ``unlabelled``, where subjects without responses count.
    """
    key = f"plan of {m}"
    if key not in progress.values:
        try:
            progress.values[key] = agree(sites, m, chosen.endpoint, chosen.least, chosen.share).text()
        except TooFewSites as few:
            _without(m, few, progress)
        progress.save()
    if not progress.values[key]:
        return None
    agreed = Agreed.of(progress.values[key])
    steady = Steady(sites, agreed.sites, chosen.least)
    if f"rare {m}" not in progress.values:
        try:
            kept = carried(steady, agreed, progress.next(), also=also)
        except (TooFewSites, SitesChanged) as refused:
            _without(m, refused, progress)
            return None
        rare = len(agreed.features) - len(kept.features)
        if len(kept.features) < 2:
            _without(m, f"{rare} of its {len(agreed.features)} features have fewer than {FEWEST} carriers", progress)
            return None
        progress.values |= {key: kept.text(), f"rare {m}": f"{rare} of {len(agreed.features)}" if rare else ""}
        progress.save()
        agreed = kept
    said = {**agreed.values(), **(also or {})}

    def made() -> dict[str, np.ndarray]:
        told = statistics.moments(steady, agreed, round=progress.next(2), also=also)
        varies = (told.sd >= 1e-6) & (told.count > 0)
        sd = np.where(varies, told.sd, np.inf)
        k = max(min(most, len(sd), smallest(sites, m, agreed.sites, also) - 1), 1)
        shared = {"mean": told.mean, "sd": sd}
        axes = np.linalg.qr(np.random.default_rng([chosen.seed, len(m)]).normal(size=(len(sd), k)))[0]
        for step in range(chosen.steps + 1):
            seen = steady.total(Ask("axes", progress.next(), {**shared, "axes": axes}, said))["step"]
            if step < chosen.steps:
                axes = np.linalg.qr(seen)[0]
        subjects = float((told.count + told.missing).max())
        return {**shared, "axes": axes, "moments": axes.T @ seen, "subjects": np.array([subjects])}

    try:
        t = progress.once(f"axes of {m}", 0.16, f"axes of {m}", made)
    except (
        TooFewSites,
        SitesChanged,
    ) as refused:  # of rare mutations a sum is a small count, which a policy may hold back
        _without(m, refused, progress)
        return None
    return agreed.features, _rotation(t["mean"], t["sd"], t["axes"], t["moments"], float(t["subjects"][0]))


def _without(m: str, why: Exception | str, progress: Progress) -> None:
    """Go on without modality ``m``; the reason stands among the training's values."""
    progress.values |= {f"plan of {m}": "", f"without {m}": str(why)}
    progress.save()


def _structures(sites: Sites, agreed: Agreed, least: int, progress: Progress) -> tuple[np.ndarray, list[str]]:
    """Fingerprint bits (T, b) of the treatments, zeros where unknown, and their names; none where no site has any."""
    if "bits" not in progress.values:
        ask = Ask("network_compounds", progress.next(), values={"treatments": agreed.treatments})
        told = sites.ask(ask)
        if any(not why.startswith("policy") for why in told.lost.values()):
            enough(ask, told, least)
        names: list[str] = []
        bits = np.zeros((len(agreed.treatments), 0), dtype=np.uint8)
        for reply in told.replies:
            own = [str(n) for n in reply.values["bits"]]  # type: ignore[union-attr]
            if own and not names:
                names, bits = own, np.zeros((len(bits), len(own)), dtype=np.uint8)
            if own and own == names:
                new = (bits.sum(1) == 0) & reply.arrays["known"].astype(bool)
                bits[new] = reply.arrays["bits"][new]
        progress.values["bits"] = names
        progress.arrays["structures/bits"] = bits
        progress.save()
    return progress.arrays["structures/bits"], list(progress.values["bits"])


def _spread(closed: ridge.Fit, offset: np.ndarray, measured: np.ndarray) -> dict[str, np.ndarray]:
    """Standard deviation of responses less their treatment's level, over all sites."""
    told = statistics.moments(closed.steady, closed.plan, "endpoint", closed.progress.next(2), closed.inner)
    count, away = told.count[measured], told.mean[measured] - offset
    n = count / max(count.sum(), 1)
    square = (n * (told.variance[measured] + away**2)).sum() - (n * away).sum() ** 2
    return {"sigma": np.array([np.sqrt(square) or 1.0])}


def _trust(
    sites: Sites, plan: Plan, modality: str, bits: np.ndarray, solution: np.ndarray, least: int, progress: Progress
) -> float:
    """The smoothing with which compounds are best told from similar ones of other parts, as ``ClosedForm`` has it."""

    def made() -> dict[str, np.ndarray]:
        n = len(bits)
        # one compound under two names has one fingerprint; a name without structure stands for itself
        key = [b.tobytes() if b.any() else t.encode() for t, b in zip(plan.treatments, bits, strict=True)]
        order = {c: i % FOLDS for i, c in enumerate(sorted(set(key)))}
        part = np.array([order[c] for c in key])
        kernel, guesses = tanimoto(bits, bits), []
        for lam in LAMBDAS:
            guess = np.full((n, n), 1.0 / n)
            for p in np.unique(part) if len(np.unique(part)) > 1 else ():
                own, others = part == p, part != p
                guess[own] = _average(kernel[np.ix_(own, others)], kernel[np.ix_(others, others)], others, lam)
            guesses.append(guess)
        ask = plan.ask(
            "network_new_compounds", progress.next(), {"solution": solution, "guesses": np.stack(guesses)},
            {"modality": modality}, carry=True,
        )  # fmt: skip
        return {"errors": sites.total(ask, least)[0]["errors"]}

    errors = progress.once("similar", 0.2, "compounds told from similar ones", made)["errors"]
    return float(LAMBDAS[int(np.argmin(errors))])
