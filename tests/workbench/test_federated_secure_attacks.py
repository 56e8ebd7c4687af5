"""What a server that is curious, or that lies, gets out of a secure sum: noise, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from tests.workbench.summing_sites import NAMES, Losing, answering, inline, made
from workbench.federated import keys
from workbench.federated.messages import Ask, Gathered, Reply
from workbench.federated.secure import conversation, graph, masks, roster, shares
from workbench.federated.secure.server import Secure
from workbench.federated.sites import Inline, TooFewSites, sort

pytest.importorskip("Crypto", reason="secure sums share keys with pycryptodome (extra: federation)")


class Talk:
    """A conversation with sites led by hand, as a server that lies would; ``forge`` changes an ask before it leaves."""

    def __init__(self, sites: Inline) -> None:
        self.sites, self.name = sites, "a conversation"
        self.names = list(sites.names)
        self.signed: dict[int, np.ndarray] = {}

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

    def agree(self, survivors: list[int], lost: list[int], of: list[str] | None = None) -> Gathered:
        """Signatures under a list of survivors, kept in ``signed``."""
        arrays = {"survivors": np.array(survivors, dtype=np.int64), "lost": np.array(lost, dtype=np.int64)}
        got = self.sites.ask(Ask("secure_survivors", arrays=arrays, values={"conversation": self.name}), of)
        self.signed.update({self.names.index(r.site): r.arrays["signature"] for r in got.replies})
        return got

    def unmask(self, of: list[str] | None = None, signed: Mapping[int, np.ndarray] | None = None) -> Gathered:
        signed = self.signed if signed is None else signed
        there = sorted(signed)
        rows = np.stack([signed[i] for i in there]) if there else np.empty((0, roster.SIGNATURE), np.uint8)
        arrays = {"signers": np.array(there, dtype=np.int64), "signatures": rows}
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
    assert not talk.agree([0, 1, 2, 3, 4], []).lost
    assert not talk.unmask().lost


def test_both_shares_of_one_site_are_refused(talk):
    refused(talk.agree([0, 1, 2, 3, 4], [3]), "both shares of one site were asked for")


def test_one_list_is_signed_and_one_opening_made(talk):
    assert not talk.agree([0, 1, 2, 3, 4], []).lost
    there = list(NAMES[:3])
    refused(talk.agree([0, 1, 2], [3, 4], of=there), "taken before, or out of turn", NAMES[:3])
    assert not talk.unmask().lost
    refused(talk.unmask(), "knows no such conversation, or it is over")
    refused(talk.agree([0, 1, 2], [3, 4], of=there), "knows no such conversation, or it is over", NAMES[:3])


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


@pytest.mark.parametrize("known", [True, False])
def test_a_list_of_survivors_for_each_site_opens_nothing_where_sites_know_one_another(signed, known):
    """Five lists, three shares: without signatures the mask keys of all but two come out, and with them their sum."""
    talk = Talk(signed if known else inline())
    talk.keys()
    talk.deal()
    assert not talk.masked().lost
    said: dict[int, set[str]] = {k: set() for k in range(5)}  # whose mask keys came from whom: those of the lost
    lists = told_apart(list(NAMES), {0, 1}, 3)
    for name, (survivors, lost) in lists.items():
        assert not talk.agree(survivors, lost, of=[name]).lost
    for name, (survivors, lost) in lists.items():
        got = talk.unmask(of=[name], signed={k: v for k, v in talk.signed.items() if k in survivors})
        if known:
            refused(got, "of the 3 needed signed the list of survivors that this site was given", (name,))
            assert "signed another" in got.lost[name]
        for k in lost if got.replies else []:
            said[k].add(name)
    opened = {k for k in (2, 3, 4) if len(said[k]) >= 3}
    assert opened == (set() if known else {2, 3, 4})  # what a site without a list of the others has to reckon with


def test_two_lists_open_nothing_and_one_list_opens_for_those_who_signed_it(signed):
    """Three sites are told that all survived, two that site 1 was lost: the smaller half opens nothing."""
    talk = Talk(signed)
    talk.keys()
    talk.deal()
    talk.masked()
    assert not talk.agree([0, 1, 2, 3, 4], [], of=list(NAMES[:3])).lost
    assert not talk.agree([1, 2, 3, 4], [0], of=list(NAMES[3:])).lost
    some = {k: v for k, v in talk.signed.items() if k}
    got = talk.unmask(of=list(NAMES[3:]), signed=some)
    refused(got, "2 sites of the 3 needed signed the list of survivors", NAMES[3:])
    assert "(site 2, site 3 signed another)" in got.lost["site 4"]
    assert not talk.unmask(of=list(NAMES[:3])).lost


def test_a_signature_under_a_list_is_good_for_its_site_its_sum_and_its_list_only(signed):
    first = Talk(signed)
    first.keys()
    first.deal()
    first.masked()
    assert not first.agree([0, 1, 2, 3, 4], []).lost
    talk = Talk(signed)
    talk.name = "another"
    talk.keys()
    talk.deal()
    talk.masked()
    assert not talk.agree([0, 1, 2, 3, 4], []).lost
    own = talk.signed
    swapped = dict(zip(own, [own[k] for k in (1, 2, 3, 4, 0)], strict=True))
    as_keys = dict(enumerate(talk.signatures))
    nothing = dict.fromkeys(range(5), np.zeros(roster.SIGNATURE, np.uint8))
    for name, lie in zip(NAMES, (first.signed, swapped, as_keys, nothing, {4: own[4]}), strict=True):
        refused(talk.unmask(of=[name], signed=lie), "1 sites of the 3 needed signed the list", (name,))
    assert not first.unmask().lost


def test_a_list_of_survivors_without_the_survivor_or_signed_twice_by_one_is_refused(talk):
    assert not talk.agree([0, 1, 2, 3], [4], of=list(NAMES[:4])).lost
    many = {**talk.signed, 4: talk.signed[0]}
    refused(talk.unmask(of=["site 1"], signed=many), "are not survivors, each once", ("site 1",))
    two = {k: talk.signed[k] for k in (1, 2)}
    assert not talk.unmask(of=["site 2"], signed=two | {3: talk.signed[3]}).lost
    refused(talk.unmask(of=["site 3"], signed=two), "2 sites of the 3 needed", ("site 3",))


def test_sites_that_were_asked_different_things_give_a_sum_of_noise(signed, monkeypatch):
    """Model inconsistency: one site is asked for its numbers, the others for zeros; the masks then do not cancel."""

    class Apart(Losing):
        """``says``: what the server makes of the others' answers."""

        def __init__(self, sites):
            super().__init__(sites, lambda s, n: False)
            self.later, self.lie, self.says = 0, True, {}

        def ask(self, ask, of=None):
            if ask.purpose != "secure_masked":
                return super().ask(ask, of)
            other = Ask(ask.purpose, ask.round + self.later, ask.arrays, {**ask.values, "lie": self.lie})
            lied = self.sites.ask(other, [n for n in of if n != "site 1"])
            got = self.sites.ask(ask, ["site 1"])
            told = [
                Reply(r.site, r.purpose, ask.round, r.rows, r.arrays, {**r.values, **self.says}) for r in lied.replies
            ]
            return sort(ask, [*got.replies, *told])

    transport = Apart(signed)
    with pytest.raises(
        TooFewSites, match="site 2: masked: a malformed reply: it answers something else than was asked"
    ):
        Secure(transport).total(Ask("counts"))
    held = {n: {"x": np.full(2000, float(n == "site 1"))} for n in NAMES}
    answering(monkeypatch, held)
    transport.says = {"asked": conversation.fingerprint(Ask("counts"))}  # a server that knows
    for lie, later in ((True, 0), (False, 1)):
        transport.lie, transport.later = lie, later
        sums, who = Secure(transport).total(Ask("counts"))
        assert np.median(np.abs(sums["x"])) > 1e6  # where the part of site 1 is 1 everywhere
        assert "1 sites of the 3 needed signed" in who.lost["site 1"]  # it opens nothing itself


def test_the_same_sum_in_another_conversation_is_not_opened_for_other_survivors(talk):
    assert not talk.agree([0, 1, 2, 3, 4], []).lost
    talk.name, talk.signed = "another", {}
    talk.keys()
    talk.deal()
    assert not talk.masked().lost
    there = list(NAMES[:4])
    refused(talk.agree([0, 1, 2, 3], [4], of=there), "summed before with a difference of 1 site", NAMES[:4])


def test_a_site_that_is_said_to_be_lost_though_it_answered_refuses(talk):
    refused(talk.agree([0, 1, 2, 3], [4], of=["site 5"]), "is said to be lost", ("site 5",))


def test_too_few_survivors_are_refused(talk):
    refused(talk.agree([0, 1], [2, 3, 4], of=["site 1", "site 2"]), "2 survivors are too few", NAMES[:2])


def test_survivors_and_lost_that_are_not_those_who_dealt_are_refused(talk):
    refused(talk.agree([0, 1, 2, 3], [], of=["site 1"]), "are not the sites that dealt", ("site 1",))
    refused(talk.agree([0, 1, 2, 3, 4, 5], [], of=["site 2"]), "are not the sites that dealt", ("site 2",))


def test_a_step_again_or_out_of_turn_is_refused(talk):
    refused(talk.masked(), "taken before, or out of turn")
    refused(talk.deal(), "taken before, or out of turn")
    fresh = Talk(inline())
    refused(fresh.agree([0, 1, 2, 3, 4], []), "knows no such conversation")
    fresh.keys()
    refused(fresh.agree([0, 1, 2, 3, 4], []), "taken before, or out of turn")
    refused(fresh.unmask(), "taken before, or out of turn")


def test_a_replayed_conversation_is_refused_even_when_it_is_over(talk):
    refused(talk.keys(), "begun before; a replay is refused")
    talk.agree([0, 1, 2, 3, 4], [])
    assert not talk.unmask().lost
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
        key = conversation.pair_key(
            private, public[j, 1].tobytes(), str(talk), conversation.fingerprint(Ask("counts")), 0
        )
        masks.blend(bare, key, -conversation.sign(1, j))
    counted = np.bincount(np.frombuffer(bare["double x"].tobytes(), np.uint8), minlength=256)
    assert stats.chisquare(counted).pvalue > 0.001  # ... and still sees noise
