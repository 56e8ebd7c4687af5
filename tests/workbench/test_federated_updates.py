"""What comes in is checked: planted faults are named, honest replies left alone, nothing averaged in silence."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from workbench.federated.messages import Ask, Gathered, Reply
from workbench.federated.robust.compared import changes, compared
from workbench.federated.robust.updates import Checked, Checks, examine, shares
from workbench.federated.sites import TooFewSites, add, enough

NAMES = [f"site {i}" for i in range(6)]


def question(number: int = 3, **values) -> Ask:
    weights = np.random.default_rng(number).normal(size=(4, 5))
    return Ask("linear_step", number, {"weights": weights}, {"schema": "s1"} | values)


def replies(ask: Ask, n: int = 6, seed: int = 0) -> list[Reply]:
    """Honest ones: a common direction, and noise."""
    draw = np.random.default_rng([seed, ask.round])
    common = draw.normal(size=(4, 5))
    return [
        Reply(f"site {i}", ask.purpose, ask.round, 100 + i, {"change": common + 0.5 * draw.normal(size=(4, 5))},
              {"schema": "s1", "error": 1.0})
        for i in range(n)
    ]  # fmt: skip


class Canned:
    """Sites whose replies are made beforehand: round -> replies."""

    def __init__(self, make) -> None:
        self.make, self.names = make, tuple(NAMES)

    def ask(self, ask, of=None):
        return Gathered(tuple(self.make(ask)), {"site 9": "no answer"})

    def total(self, ask, least=1):
        gathered = self.ask(ask)
        enough(ask, gathered, least)
        return add(ask, gathered), gathered


def spoilt(reply: Reply, how: str) -> Reply:
    change = reply.arrays["change"].copy()
    if how == "NaN":
        change[1, 2] = np.nan
    if how == "infinite":
        change[:2] = -np.inf
    if how == "beyond":
        change[0, 0] = 1e200
    arrays = {
        "shape": {"change": change[:-1]},
        "int64": {"change": np.ones((4, 5), dtype=np.int64)},
        "float32": {"change": np.ones((4, 5), dtype=np.float32)},
        "missing": {},
        "not asked": {"change": change, "rows_of_patients": np.ones((3, 3))},
    }.get(how, {"change": change})
    other = {
        "of round 2": {"round": 2},
        "counts": {"purpose": "counts"},
        "schema": {"values": {"schema": "s2"}},
        "schema None": {"values": {}},
        "0 rows": {"rows": 0},
        "-5 rows": {"rows": -5},
        "9999 rows": {"rows": 9999},
        "unknown": {"site": "site 77"},
    }.get(how, {})
    return replace(reply, arrays=arrays, **other)


@pytest.mark.parametrize(
    "how", ["NaN", "infinite", "beyond", "shape", "int64", "float32", "missing", "not asked", "of round 2", "counts",
            "schema", "schema None", "0 rows", "-5 rows", "9999 rows", "unknown"]
)  # fmt: skip
def test_a_planted_fault_is_named_and_the_others_are_left_alone(how):
    ask = question()
    came = replies(ask)
    came[2] = spoilt(came[2], how)
    got = examine(ask, came, Checks(rows=dict.fromkeys(NAMES, 200)), NAMES)
    assert set(got.dropped) == {came[2].site} and how in got.dropped[came[2].site]
    assert [r.site for r in got.accepted] == [n for n in NAMES if n != "site 2"]
    assert not got.flagged


def test_honest_replies_pass_untouched():
    for seed in range(20):
        ask = question()
        came = replies(ask, seed=seed)
        got = examine(ask, came, Checks(rows=dict.fromkeys(NAMES, 200), drop_flagged=True), NAMES)
        assert got.accepted == tuple(came) and not got.dropped and not got.flagged


def test_one_name_twice_is_no_answer():
    ask = question()
    came = [*replies(ask), replace(replies(ask)[0], site="site 3")]
    assert set(examine(ask, came).dropped) == {"site 3"}


def test_where_as_many_say_one_as_the_other_nobody_is_believed():
    ask = question()
    came = replies(ask, 2)
    came[1] = spoilt(came[1], "shape")
    got = examine(ask, came)
    assert set(got.dropped) == {"site 0", "site 1"} and not got.accepted
    assert all("which is right cannot be told" in why for why in got.dropped.values())
    came[1] = spoilt(replies(ask, 2)[1], "missing")  # what has no array at all is no other opinion
    assert set(examine(ask, came).dropped) == {"site 1"}


def test_shapes_that_are_each_sites_own_are_no_fault():
    """A site without structures of compounds has no columns of bits; the majority of such sites is not right either."""
    ask = Ask("network_compounds", 0)
    come = [Reply(n, ask.purpose, 0, 100, {"bits": np.zeros((3, 8 * (n == "site 0")), np.uint8), "known": np.ones(3)},
                  {"bits": []}) for n in NAMES]  # fmt: skip
    assert not examine(ask, come).dropped
    come[2] = replace(come[2], arrays={**come[2].arrays, "known": np.ones(4)})
    assert set(examine(ask, come).dropped) == {"site 2"}


def round_(share, rows=100, change=1.0):
    """A site's part of a network's round: its change times its share."""
    arrays = {"change.w": np.full(50, change * share), "share": np.array([share]), "learnt": np.array([share]),
              "held_out": np.array([1.0, float(rows)])}  # fmt: skip
    return arrays, rows


def test_a_small_site_is_not_a_short_one():
    ask = Ask("network_round", 4, values={"rows": 10_000})
    held = [4000, 3000, 2000, 900, 90, 10]
    come = [Reply(n, ask.purpose, 4, k, round_(k / 10_000, k)[0]) for n, k in zip(NAMES, held, strict=True)]
    assert not examine(ask, come).flagged and not examine(ask, come).dropped
    come[5] = replace(come[5], arrays=round_(10 / 10_000, 10, 200.0)[0])
    assert set(examine(ask, come).flagged) == {"site 5"}


@pytest.mark.parametrize(
    ("share", "rows", "why"),
    [
        (0.05, 100, "its 100 rows are 0.1 of all"),
        (0.3, 300, "its schema said 100"),
        (0.2, 200, "its schema said 100"),
        (-0.1, 100, "negative"),
    ],
)
def test_rows_and_shares_that_contradict_each_other_or_the_schema(share, rows, why):
    ask = Ask("network_round", 4, values={"rows": 1000})
    come = [Reply(n, ask.purpose, 4, 100, round_(0.1)[0]) for n in NAMES]
    checks = Checks(said=dict.fromkeys(NAMES, 100))
    assert not examine(ask, come, checks).dropped
    come[3] = replace(come[3], arrays=round_(share, rows)[0], rows=rows)
    got = examine(ask, come, checks)
    assert set(got.dropped) == {"site 3"} and why in got.dropped["site 3"]
    capped = examine(ask, [*come[:3], *come[4:]], Checks(most_share=0.05)).dropped
    assert len(capped) == 5 and all("no site may have more than 0.05" in w for w in capped.values())


def test_shares_are_of_one_whole_and_who_never_said_its_rows_is_over():
    ask = Ask("network_round", 4, values={"rows": 500})
    come = [Reply(n, ask.purpose, 4, 100, round_(0.2)[0]) for n in NAMES]
    got = examine(ask, come, Checks(said=dict.fromkeys(NAMES[:5], 100)))
    assert set(got.dropped) == {"site 5"} and "shares are 1.2 of all" in got.dropped["site 5"]
    assert not examine(ask, come[:5], Checks(said=dict.fromkeys(NAMES[:5], 100))).dropped


def test_what_a_schema_says_holds_for_every_later_answer():
    def make(ask):
        if ask.purpose == "schema":
            return [Reply(n, "schema", ask.round, 100, {k: np.array([100]) for k in ("rows", "subjects", "axes")})
                    for n in NAMES]  # fmt: skip
        return [replace(r, rows=101 if r.site == "site 4" else 100) for r in replies(ask)]

    heard: list = []
    sites = Checked(Canned(make), heard=heard.append)
    sites.ask(Ask("schema"))
    got = sites.ask(question(1))
    assert got.dropped == ("site 4",) and got.lost["site 4"] == "claims 101 rows; its schema said 100"
    assert heard == sites.noted and [n.site for n in heard] == ["site 4"]


def test_a_plan_that_comes_along_the_second_time_is_no_replay():
    kept: dict[int, list] = {}
    make = lambda ask: kept.setdefault(ask.round, replies(ask))  # noqa: E731
    sites = Checked(Canned(make))
    sites.ask(question(0))
    again = Ask("linear_step", 0, {**question(0).arrays, "plan.x": np.ones(3)}, question(0).values)
    sites.ask(again)
    assert not sites.noted


def test_what_was_told_beforehand_outweighs_the_majority():
    ask = question()
    came = [replace(r, arrays={"change": r.arrays["change"].astype(np.float32)}) if i < 4 else r
            for i, r in enumerate(replies(ask))]  # fmt: skip
    assert set(examine(ask, came).dropped) == {"site 4", "site 5"}
    told = examine(ask, came, Checks(shapes={"change": (4, 5)}, dtypes={"change": "float64"}))
    assert set(told.dropped) == {"site 0", "site 1", "site 2", "site 3"}


@pytest.mark.parametrize(
    ("times", "why"),
    [(100.0, r"[\d.]+ times longer"), (0.001, r"[\d.e+]+ times shorter"), (-1.0, "against")],
)
def test_lengths_and_directions_far_from_the_others_are_flagged(times, why):
    ask = question()
    came = replies(ask)
    came[1] = replace(came[1], arrays={"change": times * came[1].arrays["change"]})
    got = examine(ask, came)
    assert set(got.flagged) == {"site 1"} and re.search(why, got.flagged["site 1"])
    assert len(got.accepted) == 6 and not got.dropped  # told, and left to the rule
    dropped = examine(ask, came, Checks(drop_flagged=True))
    assert set(dropped.dropped) == {"site 1"} and len(dropped.accepted) == 5
    assert not examine(ask, came, Checks(compare=False)).flagged


def test_weights_sent_back_are_judged_by_what_changed():
    """A network comes back whole: its change is what it differs by from what was sent."""
    start = np.full((4, 5), 50.0)
    ask = Ask("linear_step", 0, {"change": start})
    came = [replace(r, arrays={"change": start + r.arrays["change"]}, values={}) for r in replies(question(0))]
    np.testing.assert_allclose(changes(ask, came[0])["change"], came[0].arrays["change"] - 50)
    came[5] = replace(came[5], arrays={"change": 2 * start - came[5].arrays["change"]})
    assert set(compared(ask, came)) == {"site 5"}


def test_other_numbers_beside_the_change_are_not_compared():
    ask = question()
    beside = [np.array([10.0 ** (3 * (i % 2))]) for i in range(6)]
    came = [replace(r, arrays={**r.arrays, "rows": b}) for r, b in zip(replies(ask), beside, strict=True)]
    assert compared(ask, came) == {}
    came[3] = replace(came[3], arrays={**came[3].arrays, "change": -came[3].arrays["change"]})
    assert set(compared(ask, came)) == {"site 3"}


def test_few_sites_have_no_others_to_be_far_from():
    ask = question()
    came = replies(ask, 3)
    came[0] = replace(came[0], arrays={"change": -100 * came[0].arrays["change"]})
    assert compared(ask, came) == {}


def test_lies_within_the_spread_are_not_seen():
    """What cannot be seen, written down: a little is enough, and a site that mirrors nothing but its own noise."""
    ask = question()
    came = replies(ask)
    stack = np.stack([r.arrays["change"] for r in came])
    came[0] = replace(came[0], arrays={"change": stack.mean(0) - 0.5 * stack.std(0)})
    assert not examine(ask, came).flagged and not examine(ask, came).dropped


def test_shares_are_capped_and_add_up():
    np.testing.assert_allclose(shares([10, 30, 60]), [0.1, 0.3, 0.6])
    got = shares([1, 1, 2, 10_000], 0.4)
    assert got[3] == pytest.approx(0.4) and got.sum() == pytest.approx(1)
    np.testing.assert_allclose(got[:3], [0.15, 0.15, 0.3])
    chained = shares([1, 5, 1000], 0.45)  # the second goes over the cap once the third is cut
    np.testing.assert_allclose(chained, [0.1, 0.45, 0.45])
    np.testing.assert_allclose(shares([7, 7, 7], 1 / 3), [1 / 3] * 3)
    with pytest.raises(ValueError, match=r"at most 0\.2"):
        shares([1, 2, 3], 0.2)
    for rows in ([], [1, 0], [1, -2]):
        with pytest.raises(ValueError, match="positive"):
            shares(rows)


def test_only_checked_replies_come_through_and_all_is_noted():
    def make(ask):
        came = replies(ask)
        if ask.round == 1:
            came[4] = spoilt(came[4], "NaN")
        return came

    sites = Checked(Canned(make), least=5)
    assert len(sites.ask(question(0)).replies) == 6 and not sites.noted
    got = sites.ask(question(1))
    assert [r.site for r in got.replies] == ["site 0", "site 1", "site 2", "site 3", "site 5"]
    assert got.lost == {"site 9": "no answer", "site 4": "'change' has NaN (1 of 20)"}
    assert [(n.site, n.round, n.kind) for n in sites.noted] == [("site 4", 1, "dropped")]
    assert len(sites.ask(question(2)).replies) == 6  # it is back
    strict = Checked(Canned(make), least=6)
    with pytest.raises(TooFewSites, match=r"5 of the 6 sites.*site 4: 'change' has NaN"):
        strict.ask(question(1))


def test_a_site_is_held_to_the_rows_it_first_claimed():
    def make(ask):
        came = replies(ask)
        came[2] = replace(came[2], rows=102 if ask.round == 0 else 103)
        came[3] = replace(came[3], rows=103 if ask.round == 0 else 50)  # fewer may be: some dropped out of a study
        return came

    sites = Checked(Canned(make))
    sites.ask(question(0))
    assert dict(sites.ask(question(1)).lost)["site 2"] == "claims 103 rows; 102 were said at the start"
    assert {n.site for n in sites.noted} == {"site 2"}
    assert not sites.ask(question(1, modality="mutation")).lost.keys() & set(NAMES)  # other rows are behind another one


def test_an_old_answer_with_a_new_round_on_it_is_flagged():
    kept: dict[str, Reply] = {}

    def make(ask):
        came = replies(ask)
        kept.setdefault("old", came[1])
        came[1] = replace(kept["old"], round=ask.round)
        return came

    sites = Checked(Canned(make), Checks(drop_flagged=True))
    sites.ask(question(0))
    again = sites.ask(question(1))
    assert "very numbers of an earlier round" in again.lost["site 1"] and len(again.lost) == 2
    assert sites.flagged(1) == ["site 1"] and sites.flagged(0) == []
    # the same question may have the same answer
    still = Checked(Canned(lambda ask: replies(question(0))))
    still.ask(question(0))
    still.ask(question(0))
    assert not still.noted


def counts(ask, wrong: dict[str, np.ndarray] | None = None) -> list[Reply]:
    made = {n: np.array([10.0 * (i + 1)]) for i, n in enumerate(NAMES)} | (wrong or {})
    return [Reply(n, ask.purpose, ask.round, 100, {"rows": made[n]}) for n in NAMES]


def test_sums_are_of_checked_replies_too():
    ask = Ask("counts", 0)
    sums, _ = Checked(Canned(counts)).total(ask)
    assert sums["rows"].tolist() == [210.0]
    checked = Checked(Canned(lambda a: counts(a, {"site 1": np.array([np.nan])})))
    sums, gathered = checked.total(ask)
    assert sums["rows"].tolist() == [190.0] and "NaN" in gathered.lost["site 1"]
    with pytest.raises(TooFewSites):
        checked.total(ask, least=6)


def test_a_negative_count_is_refused():
    checked = Checked(Canned(lambda a: counts(a, {"site 1": np.array([-30.0])})))
    sums, gathered = checked.total(Ask("counts", 0))
    assert gathered.lost["site 1"] == "'rows' has negative numbers" and sums["rows"].tolist() == [190.0]


def test_below_secure_aggregation_only_the_sum_can_be_refused():
    """Nobody's part is seen, so the bad site cannot be named: the whole sum is refused, never used."""
    ask = Ask("counts", 0)
    hidden = Checked(Canned(lambda a: counts(a, {"site 1": np.array([np.nan])})), hidden=True)
    with pytest.raises(ValueError, match=r"sum of 'rows' .* not finite"):
        hidden.total(ask)
    assert Checked(Canned(counts), hidden=True).total(ask)[0]["rows"].tolist() == [210.0]
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        Checked(Canned(counts), Checks(shapes={"rows": (2,)}), hidden=True).total(ask)
