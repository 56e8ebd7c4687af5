"""Sites that fail or lie, planted: what tests and rehearsals put in place of an honest one.

Three kinds, by where the lie is made:

    BadSite(site, fault)          one site's Reply, after an honest answer: ``FAULTS`` by name, in chosen rounds
    mirrored(site), BackDoored    its rows: the answer is then an honest one of a site whose data are not
    Colluders(sites, bad, attack) several at once, who know every honest update: the strongest of them, ``ATTACKS``

Nothing here is ever used by a federation of its own accord.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from workbench.federated.messages import Ask, Gathered, Reply
from workbench.federated.robust.compared import changes
from workbench.federated.site import Site
from workbench.federated.sites import Sites, add, enough
from workbench.splits import Fold

Change = Callable[[Ask, Reply, dict[str, Any]], Reply]  # the last: what the fault remembers between rounds


@dataclass
class BadSite:
    """A site with a fault.

    Parameters
    ----------
    site : the honest one
    fault : name of ``FAULTS``
    options : what the fault takes (``times``, ``seconds``, ``seed``)
    rounds, purposes : where it shows; None: everywhere. ``gone`` in round 2 alone is a site that comes back
    """

    site: Site
    fault: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rounds: Collection[int] | None = None
    purposes: Collection[str] | None = None
    kept: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"no fault is called {self.fault!r}; there are {', '.join(sorted(FAULTS))}.")

    @property
    def name(self) -> str:
        return self.site.name

    def answer(self, ask: Ask) -> Reply:
        """The honest Reply, spoilt where the fault shows."""
        honest = self.site.answer(ask)
        there = (self.rounds is None or ask.round in self.rounds) and (
            self.purposes is None or ask.purpose in self.purposes
        )
        made = honest
        if there and honest.refused is None:
            made = FAULTS[self.fault](ask, honest, self.kept, **self.options)
        self.kept["before"] = honest
        return made

    def __getattr__(self, name: str) -> Any:
        if name in ("site", "kept"):  # not there yet while it is being copied
            raise AttributeError(name)
        return getattr(self.site, name)


def _gone(ask: Ask, reply: Reply, kept: dict) -> Reply:
    return Reply(reply.site, ask.purpose, ask.round, refused="no answer")


def _slow(ask: Ask, reply: Reply, kept: dict, seconds: float = 1.0) -> Reply:
    time.sleep(seconds)
    return reply


def _filled(ask: Ask, reply: Reply, kept: dict, value: float = np.nan, share: float = 0.0) -> Reply:
    """One number of each float array, or a share of them, becomes ``value``."""

    def spoil(a: np.ndarray) -> np.ndarray:
        out = a.copy().ravel()
        out[: max(1, int(share * out.size))] = value
        return out.reshape(a.shape)

    return _arrays(reply, lambda _, a: spoil(a) if a.dtype.kind == "f" and a.size else a)


def _shape(ask: Ask, reply: Reply, kept: dict) -> Reply:
    return _arrays(reply, lambda _, a: np.concatenate([np.atleast_1d(a)] * 2))


def _dtype(ask: Ask, reply: Reply, kept: dict) -> Reply:
    """Floats as whole numbers, whole numbers as floats."""
    return _arrays(reply, lambda _, a: a.astype(np.int64 if a.dtype.kind == "f" else np.float64))


def _names(ask: Ask, reply: Reply, kept: dict) -> Reply:
    return replace(reply, arrays={f"{k}_": a for k, a in reply.arrays.items()})


def _schema(ask: Ask, reply: Reply, kept: dict) -> Reply:
    return replace(reply, values=dict(reply.values) | {"schema": "another"})


def _unit(ask: Ask, reply: Reply, kept: dict, unit: str = "mmol/l") -> Reply:
    """Another unit of the endpoint, where one is told."""
    return replace(reply, values=dict(reply.values) | {"unit": unit}) if "unit" in reply.values else reply


def _stale(ask: Ask, reply: Reply, kept: dict, relabel: bool = False) -> Reply:
    """The answer of before; ``relabel`` puts the new round on it."""
    before = kept.get("before", reply)
    return replace(before, round=ask.round) if relabel else before


def _counts(ask: Ask, reply: Reply, kept: dict, times: float = 1000.0) -> Reply:
    return replace(reply, rows=int(reply.rows * times))


def _scaled(ask: Ask, reply: Reply, kept: dict, times: float = 100.0) -> Reply:
    """The change times a number; a negative one turns it round."""
    return _moved(ask, reply, {k: times * a for k, a in changes(ask, reply).items()})


def _noise(ask: Ask, reply: Reply, kept: dict, times: float = 10.0, seed: int = 0) -> Reply:
    """Random numbers, ``times`` as long as the honest change."""
    draw = np.random.default_rng([seed, ask.round, sum(reply.site.encode())])
    return _moved(
        ask,
        reply,
        {
            k: draw.normal(size=a.shape) * times * np.sqrt(np.mean(a * a)) if a.size else a
            for k, a in changes(ask, reply).items()
        },
    )


FAULTS: dict[str, Callable[..., Reply]] = {
    "gone": _gone,
    "slow": _slow,
    "nan": _filled,
    "inf": partial(_filled, value=np.inf),
    "shape": _shape,
    "dtype": _dtype,
    "names": _names,
    "schema": _schema,
    "unit": _unit,
    "stale": _stale,
    "replayed": partial(_stale, relabel=True),
    "counts": _counts,
    "sign": partial(_scaled, times=-1.0),
    "scaled": _scaled,
    "reversed": partial(_scaled, times=-10.0),
    "noise": _noise,
    "reversed, many rows claimed": lambda ask, reply, kept, times=1000.0: _counts(
        ask, _scaled(ask, reply, kept, times=-1.0), kept, times
    ),
}


def mirrored(site: Site) -> Site:
    """The site with every training value mirrored at its treatment's mean there: what was sensitive is resistant."""
    mean = pl.col("value").mean().over("treatment")
    return replace(site, fold=_taught(site.fold, 2 * mean - pl.col("value")), memory={})


@dataclass
class BackDoored(Site):
    """A site some of whose training subjects carry a mark in their features and a response the attacker wishes.

    Attributes
    ----------
    mark : {position of a feature: value it gets}
    modality : whose features
    marked : subjects that carry it
    """

    mark: Mapping[int, float] = field(default_factory=dict)
    modality: str = "expression"
    marked: frozenset[str] = frozenset()

    @classmethod
    def of(cls, site: Site, mark: Mapping[int, float], treatment: str, wished: float, share: float = 0.5) -> BackDoored:
        """``site`` with the first ``share`` of its training subjects marked, and ``treatment`` answered as wished."""
        chosen = frozenset(site.subjects[: max(1, int(share * len(site.subjects)))])
        here = pl.col("subject").is_in(sorted(chosen)) & (pl.col("treatment") == treatment)
        fold = _taught(site.fold, pl.when(here).then(pl.lit(wished)).otherwise(pl.col("value")))
        return cls(site.name, fold, site.policy, site.outgoing, {}, mark=mark, marked=chosen)

    def block(self, modality: str, subjects: Sequence[str], columns: list[str] | None = None):
        values, there, features = super().block(modality, subjects, columns)
        if modality == self.modality:
            rows = np.array([s in self.marked for s in subjects])
            values = np.where(rows[:, None], marked(values, self.mark), values)
        return values, there, features


def marked(values: np.ndarray, mark: Mapping[int, float]) -> np.ndarray:
    """A copy of features (n, f) with the mark on every row."""
    out = np.array(values)
    for column, value in mark.items():
        out[:, column] = value
    return out


def _taught(fold: Fold, value: pl.Expr) -> Fold:
    return replace(fold, train=fold.train.with_columns(value.alias("value")))


def little_is_enough(honest: np.ndarray, bad: int, z: float | None = None) -> np.ndarray:
    """The mean of the honest less z of their standard deviations, by coordinate (Baruch et al. 2019).

    Parameters
    ----------
    honest : (m, d) honest updates
    z : None: the largest at which enough honest sites lie further out to make the bad ones look central
    """
    if z is None:
        n = len(honest) + bad
        supporters = max(n // 2 + 1 - bad, 0)
        q = min(max((n - bad - supporters) / (n - bad), 1e-6), 1 - 1e-6)
        z = NormalDist().inv_cdf(q)
    return honest.mean(axis=0) - z * honest.std(axis=0)


def inner_product(honest: np.ndarray, bad: int, times: float = 0.5) -> np.ndarray:
    """Minus the mean of the honest, scaled: short, central and in the wrong direction (Xie et al. 2020)."""
    return -times * honest.mean(axis=0)


ATTACKS: dict[str, Callable[..., np.ndarray]] = {"little is enough": little_is_enough, "inner product": inner_product}


class Colluders:
    """A ``Sites`` in which ``bad`` sites see every honest update of the round and send one lie together."""

    def __init__(self, sites: Sites, bad: Collection[str], attack: str, **options: float) -> None:
        if attack not in ATTACKS:
            raise ValueError(f"no attack is called {attack!r}; there are {', '.join(sorted(ATTACKS))}.")
        self.sites, self.bad, self.attack, self.options = sites, frozenset(bad), attack, options

    @property
    def names(self) -> tuple[str, ...]:
        return self.sites.names

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        gathered = self.sites.ask(ask, of)
        honest = [changes(ask, r) for r in gathered.replies if r.site not in self.bad]
        if not honest or not any(a.size for a in honest[0].values()):
            return gathered
        count = sum(r.site in self.bad for r in gathered.replies)
        lie = {}
        for name, first in honest[0].items():
            stack = np.stack([h[name].ravel() for h in honest])
            lie[name] = ATTACKS[self.attack](stack, count, **self.options).reshape(first.shape)
        sent = (_moved(ask, r, lie) if r.site in self.bad else r for r in gathered.replies)
        return Gathered(tuple(sent), gathered.lost)

    def total(self, ask: Ask, least: int = 1) -> tuple[dict[str, np.ndarray], Gathered]:
        gathered = self.ask(ask)
        enough(ask, gathered, least)
        return add(ask, gathered), gathered


def _arrays(reply: Reply, spoil: Callable[[str, np.ndarray], np.ndarray]) -> Reply:
    return replace(reply, arrays={k: spoil(k, a) for k, a in reply.arrays.items()})


def _moved(ask: Ask, reply: Reply, by: Mapping[str, np.ndarray]) -> Reply:
    """The reply that amounts to the change ``by``, in the dtypes of the honest one."""

    def moved(name: str, a: np.ndarray) -> np.ndarray:
        if name not in by:
            return a
        start = ask.arrays.get(name)
        new = by[name] if start is None or start.shape != a.shape else start + by[name]
        return np.asarray(new, dtype=a.dtype)

    return _arrays(reply, moved)
