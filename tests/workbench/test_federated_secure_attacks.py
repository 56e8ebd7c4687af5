"""What a server that is curious, or that lies, gets out of a secure sum: noise, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from tests.workbench.summing_sites import NAMES, Losing, answering, inline, made
from workbench.federated import keys
from workbench.federated.messages import Ask, Gathered
from workbench.federated.secure import conversation, graph, masks, roster, shares
from workbench.federated.secure.server import Secure
from workbench.federated.sites import Inline, TooFewSites

pytest.importorskip("Crypto", reason="secure sums share keys with pycryptodome (extra: federation)")


class Talk:
    """A conversation with sites led by hand, as a server that lies would; ``forge`` changes an ask before it leaves."""

    def __init__(self, sites: Inline) -> None:
        self.sites, self.name = sites, "a conversation"
        self.names = list(sites.names)

    def keys(self) -> Gathered:
        got = self.sites.ask(Ask("secure_keys", values={"conversation": self.name}))
        self.public, self.signatures = (
            np.stack([r.arrays[k] for r in got.replies]) if got.replies else np.empty(0) for k in ("keys", "signature")
        )
        return got

    def deal(self, **other) -> Gathered:
        values = {"conversation": self.name, "sites": self.names, "threshold": 3, "degree": len(self.names) - 1}
        keys = other.pop("keys", self.public)
        arrays = {"keys": keys, "signatures": other.pop("signatures", self.signatures)}
        got = self.sites.ask(Ask("secure_shares", arrays=arrays, values={**values, **other}))
        self.sealed = {r.site: r.arrays["sealed"] for r in got.replies}
        return got

    def masked(self, purpose: str = "counts", dealers: list[int] | None = None) -> Gathered:
        n = len(self.names)
        sent = [(i, j) for i in range(n) for j in range(n) if i != j]
        arrays = {
            "secure_dealers": np.array(range(n) if dealers is None else dealers, dtype=np.int64),
            "secure_of": np.array([i for i, _ in sent]),
            "secure_to": np.array([j for _, j in sent]),
            "secure_sealed": np.concatenate([self.sealed[name] for name in self.names]),
        }
        values = {"secure_conversation": self.name, "secure_purpose": purpose}
        return self.sites.ask(Ask("secure_masked", arrays=arrays, values=values))

    def unmask(self, survivors: list[int], lost: list[int], of: list[str] | None = None) -> Gathered:
        arrays = {"survivors": np.array(survivors, dtype=np.int64), "lost": np.array(lost, dtype=np.int64)}
        return self.sites.ask(Ask("secure_unmask", arrays=arrays, values={"conversation": self.name}), of)


@pytest.fixture
def talk(monkeypatch) -> Talk:
    """Five sites whose masked parts the server has."""
    answering(monkeypatch, {n: made(n) for n in NAMES})
    talk = Talk(inline())
    talk.keys()
    talk.deal()
    assert not talk.masked().lost
    return talk


def refused(got: Gathered, why: str, of: tuple[str, ...] = NAMES) -> None:
    assert not got.replies and set(got.lost) == set(of), got
    assert all(why in reason for reason in got.lost.values()), got.lost


def test_an_honest_end_is_answered(talk):
    assert not talk.unmask([0, 1, 2, 3, 4], []).lost


def test_both_shares_of_one_site_are_refused(talk):
    refused(talk.unmask([0, 1, 2, 3, 4], [3]), "both shares of one site were asked for")


def test_both_shares_one_after_the_other_are_refused(talk):
    assert not talk.unmask([0, 1, 2, 3, 4], []).lost
    there = list(NAMES[:3])
    refused(talk.unmask([0, 1, 2], [3, 4], of=there), "knows no such conversation, or it is over", NAMES[:3])


def test_sites_told_different_stories_give_neither_secret_away(talk):
    """Two are told that site 5 survived, two that it was lost: three shares open a secret, and none has three."""
    first = talk.unmask([0, 1, 2, 3, 4], [], of=["site 1", "site 2"])
    second = talk.unmask([0, 1, 2, 3], [4], of=["site 3", "site 4"])
    assert len(first.replies) == len(second.replies) == 2
    said = {r.site: r.arrays["shares"][4].tobytes() for r in (*first.replies, *second.replies)}
    for names in (("site 1", "site 2"), ("site 3", "site 4")):
        with pytest.raises(ValueError, match="3 shares are needed; there are 2"):
            shares.join({NAMES.index(n): said[n] for n in names}, 3)
        guess = shares.join({NAMES.index(n): said[n] for n in names}, 2)
        assert masks.public(guess) != talk.public[4, 1].tobytes()
        assert guess != talk.sites.sites["site 5"].memory["secure"]["conversations"][talk.name]["seed"]


def told_apart(names: list[str], pair: set[int], threshold: int) -> dict[str, tuple[list[int], list[int]]]:
    """Lists that a lying server gives each site so that all but ``pair`` are lost to most; fair to the sites' rules."""
    n, room = len(names), len(names) - max(threshold, 3)
    count = dict.fromkeys(set(range(n)) - pair, 0)
    lists = {}
    for i in range(n):
        lost = sorted((j for j in count if j != i), key=lambda j: (count[j], j))[:room]
        for j in lost:
            count[j] += 1
        lists[names[i]] = ([j for j in range(n) if j not in lost], lost)
    return lists


@pytest.mark.parametrize(("threshold", "open_"), [(3, True), (4, False)])
def test_lists_of_survivors_that_differ_tell_a_sum_of_two_only_at_the_lowest_threshold(monkeypatch, threshold, open_):
    """What remains without signed lists, as the room's docstring says it: five sites, three shares; not with four."""
    answering(monkeypatch, {n: made(n) for n in NAMES})
    talk = Talk(inline())
    talk.keys()
    talk.deal(threshold=threshold)
    assert not talk.masked().lost
    said: dict[int, set[str]] = {k: set() for k in range(5)}  # whose mask keys came from whom: those of the lost
    for name, (survivors, lost) in told_apart(list(NAMES), {0, 1}, threshold).items():
        got = talk.unmask(survivors, lost, of=[name])
        assert not got.lost
        for k in lost:
            said[k].add(name)
        # one list a site: whatever it is told next, it opens nothing more of this sum
        refused(talk.unmask([0, 1, 2, 3, 4], [], of=[name]), "knows no such conversation, or it is over", (name,))
    opened = {k for k in (2, 3, 4) if len(said[k]) >= threshold}
    assert (opened == {2, 3, 4}) is open_


def test_the_same_sum_in_another_conversation_is_not_opened_for_other_survivors(talk):
    assert not talk.unmask([0, 1, 2, 3, 4], []).lost
    talk.name = "another"
    talk.keys()
    talk.deal()
    assert not talk.masked().lost
    there = list(NAMES[:4])
    refused(talk.unmask([0, 1, 2, 3], [4], of=there), "summed before with a difference of 1 site", NAMES[:4])


def test_a_site_that_is_said_to_be_lost_though_it_answered_refuses(talk):
    refused(talk.unmask([0, 1, 2, 3], [4], of=["site 5"]), "is said to be lost", ("site 5",))


def test_too_few_survivors_are_refused(talk):
    refused(talk.unmask([0, 1], [2, 3, 4], of=["site 1", "site 2"]), "2 survivors are too few", NAMES[:2])


def test_survivors_and_lost_that_are_not_those_who_dealt_are_refused(talk):
    refused(talk.unmask([0, 1, 2, 3], [], of=["site 1"]), "are not the sites that dealt", ("site 1",))
    refused(talk.unmask([0, 1, 2, 3, 4, 5], [], of=["site 2"]), "are not the sites that dealt", ("site 2",))


def test_a_step_again_or_out_of_turn_is_refused(talk):
    refused(talk.masked(), "taken before, or out of turn")
    refused(talk.deal(), "taken before, or out of turn")
    fresh = Talk(inline())
    refused(fresh.unmask([0, 1, 2, 3, 4], []), "knows no such conversation")
    fresh.keys()
    refused(fresh.unmask([0, 1, 2, 3, 4], []), "taken before, or out of turn")


def test_a_replayed_conversation_is_refused_even_when_it_is_over(talk):
    refused(talk.keys(), "begun before; a replay is refused")
    talk.unmask([0, 1, 2, 3, 4], [])
    refused(talk.keys(), "begun before; a replay is refused")


def test_a_key_of_an_earlier_conversation_is_refused(talk):
    old, talk.name = talk.public, "another"
    talk.keys()
    mixed = talk.public.copy()
    mixed[3] = old[3]
    got = talk.deal(keys=mixed)
    others = tuple(n for n in NAMES if n != "site 4")
    assert all("a public key was used before" in got.lost[n] for n in others)
    assert "own keys are not among those sent round" in got.lost["site 4"]


def test_two_sites_with_the_same_key_are_refused():
    talk = Talk(inline())
    talk.keys()
    twice = talk.public.copy()
    twice[1] = twice[0]
    got = talk.deal(keys=twice)
    assert set(got.lost) == set(NAMES) and "a public key was used before" in got.lost["site 3"]


@pytest.mark.parametrize("threshold", [0, 1, 2, 6, -3])
def test_a_threshold_of_half_or_less_is_refused(threshold):
    talk = Talk(inline())
    talk.keys()
    refused(talk.deal(threshold=threshold), f"a threshold of {threshold} among 5 shares is refused")


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
def test_a_graph_that_falls_to_pieces_is_refused(degree):
    talk = Talk(inline())
    talk.keys()
    refused(talk.deal(degree=degree, threshold=degree // 2 + 1), f"{degree} neighbours each of 5 sites are refused")


def test_two_sites_alone_are_refused_by_the_sites():
    talk = Talk(inline(NAMES[:2]))
    talk.keys()
    refused(talk.deal(threshold=2, degree=1), "3 different sites or more", NAMES[:2])
    talk = Talk(inline())
    talk.keys()
    talk.deal()
    refused(talk.masked(dealers=[0, 1]), "2 sites dealt shares; 3 with this one are needed", NAMES)


def test_a_sealed_share_that_was_changed_or_passed_off_as_another_is_refused():
    for fault in (0, 1):
        talk = Talk(inline())
        talk.keys()
        talk.deal()
        sealed = {n: a.copy() for n, a in talk.sealed.items()}
        if fault:  # site 2's shares for site 1 and for site 3 change places
            sealed["site 2"][[0, 1]] = sealed["site 2"][[1, 0]]
        else:
            sealed["site 2"][0, 40] ^= 1
        talk.sealed = sealed
        got = talk.masked()
        assert "a sealed share was changed on its way" in got.lost["site 1"]
        assert ("site 3" in got.lost) == bool(fault) and "site 5" not in got.lost


def test_a_purpose_that_is_no_sum_is_not_masked(talk):
    fresh = Talk(inline())
    fresh.keys()
    fresh.deal()
    refused(fresh.masked("hello"), "'hello' is not a matter of sums")


def test_a_wrong_share_is_noticed_and_gives_the_sum_up(monkeypatch):
    answering(monkeypatch, {n: made(n) for n in NAMES})

    class Wrong(Losing):
        def ask(self, ask, of=None):
            got = super().ask(ask, of)
            if ask.purpose == "secure_unmask":
                for reply in got.replies:
                    reply.arrays["shares"][0, 5] ^= 1
            return got

    with pytest.raises(TooFewSites, match="shares of 'site 1' do not give its self-mask; one was wrong"):
        Secure(Wrong(inline(), lambda s, n: False)).total(Ask("counts"))
    with pytest.raises(TooFewSites, match="shares of 'site 1' do not give its mask key; one was wrong"):
        Secure(Wrong(inline(), lambda s, n: s == "masked" and n == "site 1")).total(Ask("counts"))


def parts_seen(held: Mapping[str, np.ndarray], monkeypatch, lose=lambda step, site: False) -> Mapping[str, np.ndarray]:
    """{site: the masked array "x" that the server sees}"""
    answering(monkeypatch, {n: {"x": a} for n, a in held.items()})
    transport = Losing(inline(), lose)
    Secure(transport).total(Ask("counts"))
    got = next(g for a, g in transport.seen if a.purpose == "secure_masked")
    return {r.site: r.arrays["double x"] for r in got.replies}


@pytest.fixture
def signed(tmp_path, monkeypatch) -> Inline:
    """Five sites that know one another's lasting keys from files, as ``workbench federate keys`` makes them."""
    answering(monkeypatch, {n: made(n) for n in NAMES})
    keys.make(tmp_path, NAMES)
    sites = inline()
    for name, one in sites.sites.items():
        one.memory["secure"] = {
            "roster": roster.read(name, tmp_path / "sites" / name / "site.key", tmp_path / "allowed.txt")
        }
    return sites


def test_signed_keys_are_accepted(signed):
    sums, who = Secure(signed).total(Ask("counts"))
    assert len(who.replies) == 5 and (sums["cells"] == sum(made(n)["cells"] for n in NAMES)).all()


def test_a_server_that_puts_its_own_key_in_a_sites_place_is_refused(signed):
    """The attack that unmasks one site: all its partners are the server. Without a list of sites it goes unseen."""
    for sites, seen in ((signed, True), (inline(), False)):
        talk = Talk(sites)
        talk.keys()
        own = talk.public.copy()
        for i in range(1, 5):
            own[i] = np.stack([np.frombuffer(masks.key_pair()[1], np.uint8) for _ in range(2)])
        got = talk.deal(keys=own)
        assert ("site 1" in got.lost) == seen
        if seen:
            assert "the keys sent round for 'site 2' are not signed by it" in got.lost["site 1"]


def test_a_signature_is_good_for_its_site_and_its_conversation_only(signed):
    talk = Talk(signed)
    talk.keys()
    swapped = talk.signatures[[1, 0, 2, 3, 4]]
    refused(talk.deal(signatures=swapped), "the keys sent round for 'site 1' are not signed by it")
    old_keys, old_signatures, talk.name = talk.public, talk.signatures, "another"
    talk.keys()
    mixed, mixed_signatures = talk.public.copy(), talk.signatures.copy()
    mixed[4], mixed_signatures[4] = old_keys[4], old_signatures[4]
    got = talk.deal(keys=mixed, signatures=mixed_signatures)
    assert all("'site 5' are not signed by it" in got.lost[n] for n in NAMES[:4])


def test_a_sites_file_names_its_list_and_the_node_signs_by_it(tmp_path):
    from tests import toy
    from workbench.federated import spec, task
    from workbench.federated.deployment import command as deploy_command
    from workbench.federated.deployment import deploy

    study = toy.write()
    assert deploy_command.main(["keys", str(tmp_path), "--sites", "a", "b", "c"]) == 0
    file = tmp_path / "sites" / "a" / "site.toml"
    assert deploy.read_joining(file).roster is None
    file.write_text(file.read_text() + 'roster = "../../allowed.txt"\n')
    joining = deploy.read_joining(file)
    other = tmp_path / "sites" / "b" / "site.toml"
    other.write_text(other.read_text().replace('name = "b"', 'name = "c"') + 'roster = "../../allowed.txt"\n')
    with pytest.raises(roster.RosterError, match="should have 'c' with the public half"):
        deploy.read_joining(other)
    top = {"name": "x", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 3, "only": [0],
           "predictors": ["drug_mean"], "federation": {"method": "means"}}  # fmt: skip
    told = {"name": "a", "study": str(study.path), "policy": str(joining.policy),
            "ledger": str(joining.ledger), "key": str(joining.key), "roster": str(joining.roster)}  # fmt: skip
    made = task.site(1, task.run_config(spec.of(top), 0), told)
    assert sorted(made.memory["secure"]["roster"].peers) == ["a", "b", "c"]
    reply = made.answer(Ask("secure_keys", values={"conversation": "one"}))
    pair, signature = (reply.arrays[k].tobytes() for k in ("keys", "signature"))
    made.memory["secure"]["roster"].check("a", "one", pair, signature)


def test_a_site_that_nobody_knows_is_refused(signed, tmp_path):
    signed.sites["site 9"] = inline(["site 9"]).sites["site 9"]
    signed.names = tuple(signed.sites)
    talk = Talk(signed)
    talk.keys()
    got = talk.deal(degree=5, threshold=4)
    assert all("'site 9' is not on this site's list of sites" in got.lost[n] for n in NAMES)
    with pytest.raises(roster.RosterError, match="should have 'site 2' with the public half"):
        roster.read("site 2", tmp_path / "sites" / "site 1" / "site.key", tmp_path / "allowed.txt")


@pytest.fixture
def seeded(monkeypatch) -> None:
    """Keys and seeds from a fixed stream, so that tests of chance come out the same each time."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    draw = np.random.default_rng(85)

    def key_pair() -> tuple[bytes, bytes]:
        key = X25519PrivateKey.from_private_bytes(draw.bytes(32))
        return key.private_bytes_raw(), key.public_key().public_bytes_raw()

    monkeypatch.setattr(masks, "key_pair", key_pair)
    monkeypatch.setattr("os.urandom", draw.bytes)
    monkeypatch.setattr("secrets.token_hex", lambda n: draw.bytes(n).hex())


def test_what_the_server_sees_is_uniform_and_says_nothing_of_the_part(monkeypatch, seeded):
    draw = np.random.default_rng(84)
    held = {n: draw.normal(0, 3, size=40_000) for n in NAMES}
    seen = parts_seen(held, monkeypatch)
    chances, links = [], []
    for name, array in seen.items():
        for limb in array:
            counted = np.bincount(np.frombuffer(limb.tobytes(), np.uint8), minlength=256)
            chances.append(stats.chisquare(counted).pvalue)
            links.append(abs(np.corrcoef(limb.view(np.int64).astype(np.float64), held[name])[0, 1]))
    assert min(chances) > 0.001 and max(links) < 3.5 / np.sqrt(40_000)
    assert stats.kstest(chances, "uniform").pvalue > 0.01
    # the same test finds what it looks for: one limb without its mask
    bare = np.rint(held["site 1"] * 64).astype(np.int64)
    assert stats.chisquare(np.bincount(np.frombuffer(bare.tobytes(), np.uint8), minlength=256)).pvalue < 1e-12
    assert abs(np.corrcoef(bare, held["site 1"])[0, 1]) > 0.99


def test_the_same_part_is_hidden_anew_each_time_and_pairs_share_no_mask(monkeypatch):
    held = {n: np.zeros(5000) for n in NAMES}
    first, second = parts_seen(held, monkeypatch), parts_seen(held, monkeypatch)
    everything = np.stack([a for seen in (first, second) for a in seen.values()]).reshape(10, -1)
    assert len(np.unique(everything)) == everything.size  # 64-bit numbers: no two agree by chance
    for i in range(10):
        for j in range(i):
            assert not np.isin(everything[i] - everything[j], [0]).any()


def test_even_after_unmasking_a_late_part_stays_hidden(monkeypatch, seeded):
    """A part that arrives after its site was declared lost: the pairs' masks are open by then, its own mask is not."""
    held = {n: np.full(4000, 2.0) for n in NAMES}
    answering(monkeypatch, {n: {"x": a} for n, a in held.items()})
    sites = inline()
    late: dict[str, np.ndarray] = {}

    class Late(Losing):
        def ask(self, ask, of=None):
            got = self.sites.ask(ask, of)
            late.update({r.site: r.arrays["double x"].copy() for r in got.replies if ask.purpose == "secure_masked"})
            return super_ask(ask, got)

    def super_ask(ask, got):
        transport.seen.append((ask, got))
        if ask.purpose != "secure_masked":
            return got
        return Gathered(tuple(r for r in got.replies if r.site != "site 2"), {"site 2": "late"})

    transport = Late(sites, lambda s, n: False)
    sums, _ = Secure(transport).total(Ask("counts"))
    assert (sums["x"] == 8.0).all()
    talk = next(a.values["conversation"] for a, _ in transport.seen if a.purpose == "secure_keys")
    public = next(a.arrays["keys"] for a, _ in transport.seen if a.purpose == "secure_shares")
    told = {r.site: r.arrays["shares"][1].tobytes() for r in transport.seen[-1][1].replies}
    private = shares.join({NAMES.index(n): s for n, s in told.items()}, graph.threshold(4))
    assert masks.public(private) == public[1, 1].tobytes()  # the server has the mask key of site 2 ...
    bare = {"double x": late["site 2"], "whole (rows)": np.zeros((1,), np.uint64)}
    for j in (0, 2, 3, 4):
        key = conversation.pair_key(private, public[j, 1].tobytes(), str(talk))
        masks.blend(bare, key, -conversation.sign(1, j))
    counted = np.bincount(np.frombuffer(bare["double x"].tobytes(), np.uint8), minlength=256)
    assert stats.chisquare(counted).pvalue > 0.001  # ... and still sees noise
