"""Secure sums: equal to the plain ones, exact or aborted when sites are lost, and the server sees nothing but noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from workbench.federated.asked import Answer, counts
from workbench.federated.messages import Ask, Gathered
from workbench.federated.policy import Policy
from workbench.federated.secure.server import Secure
from workbench.federated.site import Site
from workbench.federated.sites import Inline, Sites, sort

pytest.importorskip("Crypto", reason="secure sums share keys with pycryptodome (extra: federation)")

STEPS = ("keys", "shares", "masked", "unmask")
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


@pytest.fixture
def parts(monkeypatch) -> dict[str, Arrays]:
    """{site: arrays that it answers to "counts"}; a test may change them."""
    held: dict[str, Arrays] = {name: made(name) for name in NAMES}
    monkeypatch.setattr(counts, "answer", lambda site, ask: Answer(site.fold.train.height, dict(held[site.name])))
    return held


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


def plain(parts: Mapping[str, Arrays], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The sums without any rounding on the way: numpy's own float64 sums are further off than the secure ones."""
    sums = {}
    for key, first in parts[names[0]].items():
        stacked = np.stack([parts[n][key] for n in names])
        if first.dtype.kind == "f":
            exact = [math.fsum(column) for column in stacked.reshape(len(names), -1).T.tolist()]
            sums[key] = np.reshape(exact, first.shape)
        else:
            sums[key] = stacked.astype(np.int64).sum(axis=0)
    return sums


def same(found: Arrays, wanted: Arrays) -> None:
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        if array.dtype == np.int64:
            assert (found[name] == array).all()
        else:
            resolution = 5 * 2.0**-33 if name == "weights" else 5 * 2.0**-61 + 2.0**-52 * np.abs(array)
            assert (np.abs(found[name] - array) <= resolution).all(), name


def test_it_equals_the_plain_sum(parts):
    sites = inline()
    sums, who = Secure(sites).total(Ask("counts", 3))
    same(sums, plain(parts, NAMES))
    plainly, _ = sites.total(Ask("counts", 3))
    assert {k: v.dtype for k, v in sums.items()} == {k: v.dtype for k, v in plainly.items()}
    assert who.rows == 200 and [r.site for r in who.replies] == list(NAMES) and not who.lost
    assert {r.rows for r in who.replies} == {0} and not any(r.arrays for r in who.replies)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("gone", NAMES)
def test_one_lost_at_any_step_leaves_the_exact_sum_of_the_survivors(parts, step, gone):
    transport = Losing(inline(), lambda s, n: s == step and n == gone)
    sums, who = Secure(transport).total(Ask("counts"))
    there = NAMES if step == "unmask" else [n for n in NAMES if n != gone]
    same(sums, plain(parts, there))
    assert [r.site for r in who.replies] == list(there) and who.rows == 40 * len(there)
    assert list(who.lost) == [gone] and who.lost[gone].startswith(f"{step}: gone")
    assert ("its part is in the sum" in who.lost[gone]) == (step == "unmask")


def test_what_cannot_be_summed_is_not_asked_for():
    with pytest.raises(ValueError, match="'hello' is not a matter of sums"):
        Secure(inline()).total(Ask("hello"))
    with pytest.raises(ValueError, match="'secure_purpose'"):
        Secure(inline()).total(Ask("counts", values={"secure_purpose": "counts"}))
