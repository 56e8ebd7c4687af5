"""Secure sums: equal to the plain ones, and exact or given up when sites are lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workbench.summing_sites import LATE, NAMES, STEPS, Arrays, Losing, answering, inline, made, site
from workbench.federated.asked import Answer, counts
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy
from workbench.federated.private.accounting import Release
from workbench.federated.secure.conversation import fingerprint
from workbench.federated.secure.server import Secure
from workbench.federated.sites import Inline, TooFewSites

pytest.importorskip("Crypto", reason="secure sums share keys with pycryptodome (extra: federation)")


@pytest.fixture
def parts(monkeypatch) -> dict[str, Arrays]:
    """{site: arrays that it answers to "counts"}; a test may change them."""
    held: dict[str, Arrays] = {name: made(name) for name in NAMES}
    answering(monkeypatch, held)
    return held


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
    there = NAMES if step in LATE else [n for n in NAMES if n != gone]
    same(sums, plain(parts, there))
    assert [r.site for r in who.replies] == list(there) and who.rows == 40 * len(there)
    assert list(who.lost) == [gone] and who.lost[gone].startswith(f"{step}: gone")
    assert ("its part is in the sum" in who.lost[gone]) == (step in LATE)


def test_what_cannot_be_summed_is_not_asked_for():
    with pytest.raises(ValueError, match="'hello' is not a matter of sums"):
        Secure(inline()).total(Ask("hello"))
    with pytest.raises(ValueError, match="'secure_purpose'"):
        Secure(inline()).total(Ask("counts", values={"secure_purpose": "counts"}))


@pytest.mark.parametrize(
    "steps",
    [("keys", "masked"), ("shares", "unmask"), ("masked", "masked"), ("masked", "unmask"), ("survivors", "unmask")],
)
def test_two_of_five_lost_leave_the_exact_sum_of_three(parts, steps):
    lost = dict(zip(("site 2", "site 4"), steps, strict=True))
    sums, who = Secure(Losing(inline(), lambda s, n: lost.get(n) == s)).total(Ask("counts"))
    there = [n for n in NAMES if lost.get(n, "unmask") in LATE]
    same(sums, plain(parts, there))
    assert set(who.lost) == set(lost) and who.rows == 40 * len(there)


@pytest.mark.parametrize("step", STEPS)
def test_three_of_five_lost_give_the_sum_up_and_name_them(parts, step):
    transport = Losing(inline(), lambda s, n: s == step and n in ("site 1", "site 3", "site 5"))
    with pytest.raises(TooFewSites) as error:
        Secure(transport).total(Ask("counts", 7))
    text = str(error.value)
    assert "'counts', round 7" in text
    assert all(f"{n}: {step}: gone" in text for n in ("site 1", "site 3", "site 5")) and "site 2" not in text


def test_the_asker_may_need_more_survivors_and_never_fewer_than_three(parts):
    transport = Losing(inline(), lambda s, n: s == "masked" and n == "site 5")
    with pytest.raises(TooFewSites, match=r"4 of the 5 sites needed are left.*site 5: masked: gone"):
        Secure(transport).total(Ask("counts"), least=5)
    with pytest.raises(TooFewSites, match="2 of the 3 sites needed are left"):
        Secure(inline(NAMES[:2]), least=1).total(Ask("counts"), least=1)
    same(Secure(inline(NAMES[:3])).total(Ask("counts"))[0], plain(parts, NAMES[:3]))


def test_a_site_that_comes_back_takes_part_in_the_next_sum(parts):
    away = {"site 3"}
    secure = Secure(Losing(inline(), lambda s, n: s == "masked" and n in away))
    first, second = (Ask("network_round", k, {"weights": np.full(3, float(k))}) for k in range(2))
    same(secure.total(first)[0], plain(parts, [n for n in NAMES if n != "site 3"]))
    away.clear()
    same(secure.total(second)[0], plain(parts, NAMES))


def test_the_same_sum_with_and_without_a_site_is_not_opened_twice(parts):
    away = {"site 3"}
    secure = Secure(Losing(inline(), lambda s, n: s == "masked" and n in away))
    ask = Ask("network_round", 0, {"weights": np.ones(3)})
    four, _ = secure.total(ask)
    same(secure.total(ask)[0], four)  # the same sites again tell nothing new
    away.clear()
    with pytest.raises(TooFewSites, match=r"summed before with a difference of 1 site\(s\) \(site 3\)"):
        secure.total(Ask("network_round", 1, {"weights": np.ones(3)}))
    same(secure.total(Ask("network_round", 1, {"weights": np.zeros(3)}))[0], plain(parts, NAMES))


def test_sums_of_the_same_rows_are_not_opened_for_other_sites_however_they_are_worded(parts):
    """Counts of rows are the same whatever is asked with them: with and without a site they would tell its own."""
    away = {"site 3"}
    secure = Secure(Losing(inline(), lambda s, n: s == "masked" and n in away))
    four, _ = secure.total(Ask("counts", 0, {"weights": np.ones(3)}))
    away.clear()
    for again in (Ask("counts", 1, {"weights": np.zeros(3)}), Ask("counts", 7, values={"treatments": ["aspirin"]})):
        with pytest.raises(TooFewSites, match=r"survivors: .*a difference of 1 site\(s\) \(site 3\)"):
            secure.total(again)
    away.add("site 3")
    same(secure.total(Ask("counts", 8, {"weights": np.zeros(3)}))[0], four)


def test_noisy_sums_may_lose_a_site(parts, monkeypatch):
    held = {n: {"x": np.arange(4.0)} for n in NAMES}
    noisy = (Release(1.0),)
    monkeypatch.setattr(counts, "answer", lambda site, ask: Answer(40, held[site.name], releases=noisy))
    away = {"site 3"}
    secure = Secure(Losing(inline(), lambda s, n: s == "masked" and n in away))
    first, _ = secure.total(Ask("counts", 0, {"weights": np.ones(3)}))
    away.clear()
    second, _ = secure.total(Ask("counts", 1, {"weights": np.zeros(3)}))
    assert (second["x"] == 5 * np.arange(4.0)).all() and (first["x"] == 4 * np.arange(4.0)).all()


@pytest.mark.parametrize("threshold", [-1, 1, 2, 6])
def test_a_threshold_of_half_or_less_is_an_error_before_anything_is_dealt(parts, threshold):
    transport = Losing(inline(), lambda s, n: False)
    with pytest.raises(ValueError, match=f"threshold of {threshold} among 5 shares: should be more .* 3 to 5"):
        Secure(transport, threshold=threshold).total(Ask("counts"))
    assert [a.purpose for a, _ in transport.seen] == ["secure_keys"]
    assert len(Secure(transport, threshold=5).total(Ask("counts"))[1].replies) == 5


def test_too_few_signatures_give_the_sum_up_and_say_so(parts):
    """Four shares open a secret, so four signatures are needed, though three survivors would hide one another."""
    away = {"site 4", "site 5"}
    transport = Losing(inline(), lambda s, n: s == "survivors" and n in away)
    with pytest.raises(TooFewSites, match="3 of the 4 signatures needed under the list of survivors came"):
        Secure(transport, threshold=4).total(Ask("counts"))
    assert not any(a.purpose == "secure_unmask" for a, _ in transport.seen)
    same(Secure(transport).total(Ask("counts"))[0], plain(parts, NAMES))


def test_a_sum_that_was_given_up_may_be_asked_for_again(parts):
    away = {"site 3"}
    secure = Secure(Losing(inline(), lambda s, n: s == "masked" and n in away))
    with pytest.raises(TooFewSites, match="4 of the 5 sites needed are left"):
        secure.total(Ask("counts"), least=5)
    away.clear()
    same(secure.total(Ask("counts"), least=5)[0], plain(parts, NAMES))


def test_nonsense_of_one_site_is_named_and_left_out(parts):
    good = [n for n in NAMES if n != "site 4"]
    for fault, why in [
        ({**parts["site 4"], "offset": np.array(np.nan)}, "'offset' has values that are not finite"),
        ({**parts["site 4"], "cells": parts["site 4"]["cells"][:-1]}, "other names, kinds or shapes"),
        ({**parts["site 4"], "weights": parts["site 4"]["gram"]}, "other names, kinds or shapes"),
        ({**parts["site 4"], "cells": np.array([2**62] * 12)}, "'cells' has magnitudes beyond 2^60"),
        ({**parts["site 4"], "weights": parts["site 4"]["weights"] * np.float32(1e9)}, "float64 reaches further"),
    ]:
        held = {**parts, "site 4": fault}
        parts["site 4"], kept = held["site 4"], parts["site 4"]
        sums, who = Secure(inline()).total(Ask("counts"))
        same(sums, plain(parts, good))
        assert list(who.lost) == ["site 4"] and why in who.lost["site 4"], why
        parts["site 4"] = kept


def test_forty_sites_on_a_sparse_graph_and_nine_lost(monkeypatch):
    names = [f"site {k}" for k in range(40)]
    held = {n: {"sum": np.random.default_rng([82, k]).normal(size=50)} for k, n in enumerate(names)}
    answering(monkeypatch, held)
    lost = {names[k]: STEPS[k // 4 % 5] for k in range(0, 36, 4)} | {names[5]: "masked", names[9]: "shares"}
    transport = Losing(inline(names), lambda s, n: lost.get(n) == s)
    sums, who = Secure(transport, degree=16).total(Ask("counts"))
    there = [n for n in names if lost.get(n, "unmask") in LATE]
    assert [r.site for r in who.replies] == sorted(there) and set(who.lost) == set(lost)
    exact = plain(held, there)
    assert np.abs(sums["sum"] - exact["sum"]).max() < 1e-14
    with pytest.raises(ValueError, match="7 neighbours each of 40 sites: should be all, or an even number >= 4"):
        Secure(inline(names), degree=7).total(Ask("counts"))
    asked = next(a for a, _ in transport.seen if a.purpose == "secure_shares")
    assert asked.values["degree"] == 16 and asked.values["threshold"] == 9


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 8), st.data())
def test_whatever_is_lost_the_sum_is_exact_or_given_up(number, data):
    names = [f"site {k}" for k in range(number)]
    whole = st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=2)
    held = {n: {"x": np.array(data.draw(whole), dtype=np.int64)} for n in names}
    lost = {n: data.draw(st.sampled_from([None, None, *STEPS])) for n in names}
    transport = Losing(inline(names), lambda s, n: lost[n] == s)
    there = [n for n in names if lost[n] in (None, *LATE)]
    with mock.patch.object(counts, "answer", lambda site, ask: Answer(40, held[site.name])):
        try:
            sums, who = Secure(transport).total(Ask("counts"))
        except TooFewSites as error:
            assert any(lost.values()) and all(n in str(error) for n in names if lost[n] == "keys")
            return
    assert [r.site for r in who.replies] == there and len(there) >= 3 and who.rows == 40 * len(there)
    assert (sums["x"] == sum(held[n]["x"] for n in there)).all()
    assert set(who.lost) == {n for n in names if lost[n]}


def test_a_weighted_mean_needs_no_more_than_sums(parts, monkeypatch):
    """FedAvg: sum of rows x weights over the sum of rows, both masked."""
    rows = dict(zip(NAMES, (40, 25, 300, 77, 61), strict=True))
    weights = {n: np.random.default_rng([83, k]).normal(size=1000).astype(np.float32) for k, n in enumerate(NAMES)}
    answering(monkeypatch, {n: {"weighted": weights[n] * np.float32(rows[n])} for n in NAMES})
    sums, who = Secure(Inline([site(n, rows[n]) for n in NAMES])).total(Ask("counts"))
    wanted = np.average(np.stack(list(weights.values())), axis=0, weights=list(rows.values()))
    assert who.rows == sum(rows.values()) == 503
    np.testing.assert_allclose(sums["weighted"] / who.rows, wanted, atol=1e-6)


def test_policy_and_checks_on_the_way_out_see_the_answer_and_the_book_sees_the_masked_one(parts):
    seen, book = [], []

    def noise(site, ask, answer: Answer) -> Answer:
        seen.append((ask.purpose, answer.masked, answer.arrays.get("cells")))
        return answer

    def write(site, ask, answer: Answer) -> Answer:
        book.append((ask.purpose, dict(answer.values), {k: (v.shape, v.dtype.str) for k, v in answer.arrays.items()}))
        return answer

    write.writes = True  # type: ignore[attr-defined]
    sites = inline(outgoing=(noise, write))
    Secure(sites).total(Ask("counts"))
    plainly = [cells for purpose, masked, cells in seen if purpose == "counts" and not masked]
    assert len(plainly) == 5 and (plainly[0] == parts["site 1"]["cells"]).all()
    assert {purpose for purpose, _, _ in book} == {f"secure_{s}" for s in STEPS}  # never "counts": it did not leave
    masked = next(entry for entry in book if entry[0] == "secure_masked")
    assert masked[1] == {"purpose": "counts", "asked": fingerprint(Ask("counts"))}
    assert masked[2]["double gram"] == (
        (2, 20, 20),
        "<u8",
    )

    allowed = tuple(f"secure_{s}" for s in STEPS)
    with pytest.raises(TooFewSites, match="'counts' is not among what this site answers"):
        Secure(inline(policy=Policy(allowed=allowed))).total(Ask("counts"))
    with pytest.raises(TooFewSites, match="must rest on 50 training rows"):
        Secure(inline(policy=Policy(minimum_rows=50))).total(Ask("counts"))
