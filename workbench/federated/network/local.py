"""What a site has of a shared network while it is trained: its rows in the shared axes, and what it keeps to itself.

Kept in the site's memory by the plan's digest; never sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from workbench import units
from workbench.batches import Rows
from workbench.federated.messages import Ask
from workbench.federated.network.module import RoundResponse, set_weights
from workbench.federated.network.plan import Plan, carried
from workbench.federated.site import Site, SiteError
from workbench.predictors._closed_form import STRUCTURE
from workbench.predictors._pairs import positions

MEMORY = "network"
HELD_APART = ("subject", "pair")  # of a fold; in both, a member's part holds whole persons


KEYS = ("plan", "number", "rounds", "epochs", "proximal", "own", "keep_optimizer", "double", "rows",
        "closed_form_share")  # fmt: skip


class Asked:
    """An ask kept to know it again: equal to one with the same arrays and values, but for the plan that came along."""

    def __init__(self, ask: Ask) -> None:
        self.values = [ask.values.get(k) for k in KEYS]
        self.arrays = {k: a for k, a in ask.arrays.items() if not k.startswith("plan.")}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Asked):
            return False
        same = self.values == other.values and self.arrays.keys() == other.arrays.keys()
        return same and all(
            a.dtype == (b := other.arrays[k]).dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
            for k, a in self.arrays.items()
        )


def asked_digest(ask: Ask, *leave: str) -> str:
    """Digest of an ask's arrays and values, without the plan that came along and what ``leave`` names."""
    h = hashlib.blake2b(digest_size=16)
    for name in sorted(set(ask.arrays) - set(leave)):
        if not name.startswith("plan."):
            h.update(name.encode() + np.ascontiguousarray(ask.arrays[name]).tobytes())
    return h.hexdigest() + repr([ask.values.get(k) for k in KEYS])


def part_of(names: Sequence[str] | pl.Series, parts: int, seed: int) -> np.ndarray:
    """Part (0 .. parts-1) of each name by a hash of it: all sites deal alike without telling names (as ``_rows``)."""
    told = pl.Series("name", names, dtype=pl.String)
    distinct = told.unique().to_list()
    dealt = [int.from_bytes(hashlib.sha256(f"{seed}\x1f{n}".encode()).digest()[:8], "big") % parts for n in distinct]
    return np.array(dealt, dtype=np.int64)[positions(told, distinct)]


def check_rule(site: Site) -> None:
    """Raise SiteError where the site's split holds something apart that parts of persons would mix."""
    if site.fold.group not in HELD_APART:
        raise SiteError(
            "a network is trained together where subjects or pairs are unseen; this site's split holds "
            f"{site.fold.group}s apart, and parts of those would have to be dealt between sites."
        )


class Local:
    """One site's rows under one plan: S training subjects, T treatments, k fused axes."""

    def __init__(self, site: Site, plan: Plan) -> None:
        check_rule(site)
        if site.fold.endpoint != plan.endpoint:
            raise SiteError(f"this site's rows are of endpoint {site.fold.endpoint!r}; asked for {plan.endpoint!r}.")
        self.plan, self.digest, self.least = plan, plan.digest, site.policy.minimum_cell
        frame = site.fold.train.with_columns(pl.col("treatment").replace(plan.alias))
        frame = frame.filter(pl.col("treatment").is_in(pl.Series(plan.treatments).implode())).sort("subject", "row")
        self.train = frame.with_columns(value=converted(frame["value"].to_numpy(), site.fold.unit, plan.unit))
        self.behind = None if frame.height == site.fold.train.height else frame["row"].to_numpy()
        self.subjects = sorted(self.train["subject"].unique())
        if not self.subjects:
            raise SiteError("this site has no training row of the treatments asked for.")
        self.form = plan.closed_form()
        self.x, self.presence = features(site, plan, self.subjects)
        self.subject = positions(self.train["subject"], self.subjects)
        self.drug = positions(self.train["treatment"], plan.treatments)
        self.part = part_of(self.train["person"].cast(pl.String), int(plan.params["members"]), int(plan.params["seed"]))
        self.own: dict[str, np.ndarray] = {}  # layers this site keeps to itself
        self.optimizer: dict[str, Any] | None = None
        self.trained = -1  # the last round that was trained here
        self.answered: tuple[object, dict[str, np.ndarray]] | None = None  # the last round's ask and answer
        self._network: RoundResponse | None = None  # kept between rounds: building one takes as long as a small round
        self.residual: tuple[str, np.ndarray, np.ndarray] | None = None  # digest of what made it

    def rows(self, offset: np.ndarray, sigma: float) -> Rows:
        """The rows to train on; targets are deviations from the treatment's ``offset`` (T,) in units of ``sigma``."""
        deviation = (self.train["value"].to_numpy() - offset[self.drug]) / sigma
        return Rows(
            torch.from_numpy(self.train["row"].to_numpy().copy()),
            torch.from_numpy(self.subject.copy()),
            torch.from_numpy(self.drug.copy()),
            {m: torch.from_numpy(v) for m, v in self.x.items()},
            torch.from_numpy(self.presence),
            torch.from_numpy(deviation.astype(np.float32)),
            torch.from_numpy(self.train["censored"].to_numpy().astype(np.int8)),
            torch.from_numpy(self.part),
        )

    def module(self, sigma: float) -> RoundResponse:
        """A network of the plan's shape, weights yet to be put in."""
        return built(self.plan, sigma)

    def network(self, shared: Mapping[str, np.ndarray], sigma: float) -> RoundResponse:
        """A network with the weights ``shared`` and this site's own, in evaluation mode; the same object each round.

        Nothing of the last round stays in it: every weight is put in anew (else one is built), and what an optimiser
        or a gradient held is dropped.
        """
        given = dict(shared) | self.own
        kept = self._network
        if kept is None or given.keys() != dict(kept.named_parameters()).keys():
            kept = self.module(sigma)
        self._network = None  # whatever goes wrong below, a network half way is not used again
        set_weights(kept, given)
        kept.sigma_ = sigma
        return kept.eval()

    def keep(self, network: RoundResponse) -> None:
        """Keep a network for the next round, its weights and all it has on its way dropped."""
        network.forget()
        self._network = network

    def closed(self, solutions: np.ndarray, modality: str) -> np.ndarray:
        """The closed form's prediction of each row by the solution that its part had no say in: (n,).

        ``solutions`` (parts, k + 1, T) on the modality's axes, the last row the level; a subject without it gets that.
        """
        at = self.plan.names.index(modality)
        gain = np.array([self.form.gains[m] for m in self.plan.names])
        # what ClosedForm makes of a sample without some modality: the others speak louder
        louder = np.sqrt((gain**2).sum() / np.maximum((self.presence * gain**2).sum(1), 1e-12))
        r = self.x[modality] * (self.plan.rotations[modality].scale * louder)[:, None]
        r = np.column_stack([r * self.presence[:, at, None], np.ones(len(r))])
        plane = np.einsum("sk,pkt->pst", r, solutions)
        return plane[self.part % len(solutions), self.subject, self.drug]

    def held_out(self, module: RoundResponse) -> np.ndarray:
        """f of the member that never learnt from the row (n,), at the module's weights."""
        f = module._deep(self.x, self.presence, np.arange(len(self.plan.treatments)), self.plan.structure)
        return f[self.part % len(f), self.subject, self.drug]


def converted(value: np.ndarray, own: str, wanted: str) -> np.ndarray:
    """``value`` in the unit agreed on; raises SiteError where there is no conversion."""
    if own == wanted:
        return value
    try:
        return units.convert(value.astype(np.float64), own, wanted)
    except units.UnitError as error:
        raise SiteError(f"the endpoint is in {own!r} here and cannot be told in {wanted!r}.") from error


def features(site: Site, plan: Plan, subjects: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rotated modalities {m: (S, f)} and presence (S, M) of own ``subjects``."""
    x, presence = {}, np.zeros((len(subjects), len(plan.names)), dtype=np.float32)
    for i, m in enumerate(plan.names):
        if m not in site.fold.study.modalities:
            x[m] = np.zeros((len(subjects), plan.rotations[m].axes.shape[1]), dtype=np.float32)
            continue
        values, there, names = site.block(m, subjects, plan.columns[m])
        if names != plan.columns[m]:
            raise SiteError(f"{m!r} has other columns here than were agreed on.")
        rotated = plan.rotations[m].apply(values)
        rotated[~there] = 0.0
        x[m], presence[:, i] = rotated, there
    return x, presence


def built(plan: Plan, sigma: float) -> RoundResponse:
    """A network of the plan's shape with the first weights of its seed; leaves the random generator as it was."""
    module = RoundResponse(**plan.params)
    sizes = {m: plan.rotations[m].axes.shape[1] for m in plan.names}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(plan.params["seed"]))
        module._build(sizes, len(plan.treatments), plan.structure.shape[1])
    module.register_buffer("structure", torch.from_numpy(plan.structure), persistent=False)
    module.sigma_ = sigma
    return module


def of(site: Site, ask: Ask) -> Local:
    """The site's Local for the ask's plan: the one it holds, or made of the plan that came along.

    Raises
    ------
    SiteError
        It holds none and none came (the text starts with ``NEEDS``), or the site has not what the plan speaks of.
    """
    held = site.memory.get(MEMORY)
    if held is None or held.digest != ask.values.get("plan"):
        held = site.memory[MEMORY] = Local(site, carried(ask))
    return held


def structure_of(site: Site, treatments: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Fingerprint bits (T, b) uint8 of treatments, which are known (T,), and the names of the bits."""
    from workbench import modalities

    if STRUCTURE not in site.fold.study.modalities:
        return np.zeros((len(treatments), 0), np.uint8), np.zeros(len(treatments), bool), []
    block = modalities.read(site.fold.study, STRUCTURE)
    bits, there = block.rows(treatments)
    return bits.astype(np.uint8), there, block.features
