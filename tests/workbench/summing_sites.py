"""Sites with numbers to sum and no rows, and a transport that loses replies and keeps all that the server sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import polars as pl

from workbench.federated.asked import Answer, counts, network_round
from workbench.federated.messages import Ask, Gathered
from workbench.federated.policy import Policy
from workbench.federated.site import Site
from workbench.federated.sites import Inline, Sites, sort

STEPS = ("keys", "shares", "masked", "survivors", "unmask")
LATE = STEPS[3:]  # whoever is lost in these is in the sum
NAMES = tuple(f"site {k}" for k in range(1, 6))
Arrays = Mapping[str, np.ndarray]


def made(site: str) -> dict[str, np.ndarray]:
    """What a site would answer: every kind of number that may travel."""
    draw = np.random.default_rng([81, NAMES.index(site)])
    return {
        "weights": draw.normal(size=(30, 7)).astype(np.float32),
        "gram": draw.normal(0, 1e4, size=(20, 20)),
        "cells": draw.integers(5, 900, size=12),
        "flags": draw.random(9) < 0.5,
        "offset": np.array(draw.normal()),
    }


def site(name: str, rows: int = 40, policy: Policy | None = None, outgoing: Sequence = ()) -> Site:
    """A site with rows to count and nothing in them."""
    train = pl.DataFrame({"subject": [f"{name} {i}" for i in range(rows)], "treatment": ["aspirin"] * rows})
    return Site(name, SimpleNamespace(train=train), policy or Policy(), outgoing)  # type: ignore[arg-type]


def answering(monkeypatch, held: Mapping[str, Arrays]) -> None:
    """From now on a site answers "counts" with what ``held`` has under its name."""
    monkeypatch.setattr(counts, "answer", lambda site, ask: Answer(site.fold.train.height, dict(held[site.name])))
    # the same numbers, as an answer to weights that move from round to round
    monkeypatch.setattr(network_round, "answer", lambda site, ask: counts.answer(site, ask))


class Losing:
    """Sites of which some fall silent: ``lose`` says of (step, site) whether the reply is lost; ``seen`` keeps all."""

    def __init__(self, sites: Sites, lose: Callable[[str, str], bool]) -> None:
        self.sites, self.names, self.lose = sites, sites.names, lose
        self.seen: list[tuple[Ask, Gathered]] = []

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        got = self.sites.ask(ask, of)
        step = ask.purpose.removeprefix("secure_")
        gone = {r.site: "gone" for r in got.replies if self.lose(step, r.site)}
        got = sort(ask, [r for r in got.replies if r.site not in gone], {**got.lost, **gone})
        self.seen.append((ask, got))
        return got

    def total(self, ask: Ask, least: int = 1):
        raise AssertionError("never asked of the transport")


def inline(names: Sequence[str] = NAMES, **options) -> Inline:
    return Inline([site(n, **options) for n in names])
