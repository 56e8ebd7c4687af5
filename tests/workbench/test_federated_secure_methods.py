"""What is trained over secure sums equals what is trained over plain ones, through each site's policy and book."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.exact import ridge
from workbench.federated.gate import outgoing as gate
from workbench.federated.messages import Ask, Gathered
from workbench.federated.network import fit as network
from workbench.federated.policy import Policy
from workbench.federated.secure.server import Secure
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.splits import Fold, Split

pytest.importorskip("Crypto", reason="secure sums share keys with pycryptodome (extra: federation)")
pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]


@pytest.fixture(scope="module")
def fold() -> Fold:
    return Split.make(toy.write(subjects=100, missing=0.05), "unseen subject", endpoint="ln_ic50").fold(0)


def sites(fold: Fold, folder=None, **rules) -> Inline:
    dealt = sharing.at_random(fold, 5)
    made = []
    for name, subjects in dealt.items():
        steps = () if folder is None else gate.steps(folder / name)
        policy = Policy(**({"minimum_rows": 1, "minimum_cell": 1} | rules))  # a site of this study has 16 subjects
        made.append(Site(name, sharing.local(fold, subjects), policy, steps))
    return Inline(made)


def test_ridge_over_secure_sums_equals_ridge_over_plain_ones(fold):
    settings = {"axes": 8, "parts": 2}
    plain = ridge.fit(sites(fold), settings)
    secure = ridge.fit(Secure(sites(fold)), settings)
    assert secure.agreed_.sites == plain.agreed_.sites and len(secure.agreed_.sites) == 5
    for name in ("mean_", "sd_", "weights_", "offset_"):
        one, other = (np.asarray(getattr(m, name), dtype=np.float64) for m in (plain, secure))
        assert np.abs(one - other).max() < 1e-9 * np.abs(one).max(), name
    assert (plain.penalty_ == secure.penalty_).all()


def test_drug_response_over_secure_sums_equals_fedavg_to_1e_5(fold):
    settings = {"rounds": 3, "local_epochs": 1, "axes": 12, "parameters": {"members": 2}}
    plain = network.fit(sites(fold), settings)
    secure = network.fit(Secure(sites(fold)), settings)
    first, second = plain.state_dict(), secure.state_dict()
    assert first.keys() == second.keys()
    off = {k: float((v.double() - second[k].double()).abs().max()) for k, v in first.items() if v.numel()}
    assert max(off.values()) < 1e-5, off


class Leaving(Inline):
    """Site 2 does not answer asks of ``purpose``, masked or plain, from the ``after``-th on; ``once``: that one."""

    def __init__(self, there: Inline, purpose: str, after: int, once: bool = False) -> None:
        super().__init__(list(there.sites.values()))
        self.purpose, self.after, self.once, self.met = purpose, after, once, 0
        self.opened: list[list[int]] = []  # lists of survivors that some site signed

    def ask(self, ask: Ask, of=None):
        got = super().ask(ask, of)
        if ask.purpose == "secure_survivors" and got.replies:
            self.opened.append(ask.arrays["survivors"].tolist())
        if self.purpose in (ask.purpose, ask.values.get("secure_purpose")):
            self.met += 1
            if self.met == self.after or (self.met > self.after and not self.once):
                there = tuple(r for r in got.replies if r.site != "site 2")
                got = Gathered(there, {**got.lost, "site 2": "gone"})
        return got


@pytest.mark.parametrize(("purpose", "after"), [("moments", 2), ("axes", 1), ("ridge_product", 2)])
def test_a_ridge_that_loses_a_site_for_good_ends_and_its_part_is_not_told(fold, purpose, after):
    """Begun anew without it, its sums would tell the part of the lost site: the other sites do not sign for them."""
    there = Leaving(sites(fold), purpose, after)
    with pytest.raises(TooFewSites, match=r"summed before with a difference of 1 site\(s\) \(site 2\)"):
        ridge.fit(Secure(there), {"axes": 8, "parts": 2})
    assert there.opened and all(of == [0, 1, 2, 3, 4] for of in there.opened)
    plain = Leaving(sites(fold), purpose, after)  # the control: where nothing is secret it begins anew
    assert len(ridge.fit(plain, {"axes": 8, "parts": 2}).agreed_.sites) == 4


def test_a_ridge_that_loses_a_site_before_the_first_sum_goes_on_without_it(fold):
    there = Leaving(sites(fold), "moments", 1)
    made = ridge.fit(Secure(there), {"axes": 8, "parts": 2})
    assert made.agreed_.sites == ("site 1", "site 3", "site 4", "site 5")
    assert [0, 1, 2, 3, 4] not in there.opened


def test_a_site_may_miss_a_round_of_training_and_come_back(fold):
    there = Leaving(sites(fold), "network_round", 1, once=True)
    model = network.fit(
        Secure(there), {"rounds": 2, "local_epochs": 1, "axes": 8, "parameters": {"members": 2, "width": 8}}
    )
    assert [0, 2, 3, 4] in there.opened and there.opened[-1] == [0, 1, 2, 3, 4]
    assert "site 2" in str(model.rounds_[0]) and len(model.rounds_) == 2


def test_a_strict_site_answers_sums_only_masked_and_its_book_says_so(fold, tmp_path):
    there = sites(fold, tmp_path, secure=True)
    with pytest.raises(TooFewSites, match="only as a part of a secure sum"):
        there.total(Ask("counts"))
    sums, who = Secure(there).total(Ask("counts"))
    assert sums["rows"][0] == who.rows == fold.train.height
    for name in there.names:
        book = [json.loads(line) for line in (tmp_path / name / gate.BOOK).read_text().splitlines()]
        left = [entry for entry in book if entry["kind"] == "message"]
        assert [e["purpose"] for e in left] == [
            "secure_keys", "secure_shares", "secure_masked", "secure_survivors", "secure_unmask"
        ]  # fmt: skip
        masked = left[2]
        assert masked["masked"] and masked["values"]["purpose"] == "counts"
        assert {(a["name"], tuple(a["shape"]), a["dtype"]) for a in masked["arrays"]} == {
            ("whole rows", (1, 1), "uint64"), ("whole subjects", (1, 1), "uint64"),
            ("whole by_treatment", (1, 0), "uint64"), ("whole (rows)", (1,), "uint64"),
        }  # fmt: skip
        reply = next(r for r in who.replies if r.site == name)
        assert reply.values["ledger"] == book[-1]["hash"]  # what the server keeps to check the book against


def test_small_counts_are_taken_out_before_the_mask(fold, tmp_path):
    there = sites(fold, tmp_path, secure=True, minimum_cell=15)
    ask = Ask("counts", values={"treatments": toy.TREATMENTS})
    held = [dict(s.fold.train["treatment"].value_counts().iter_rows()) for s in there.sites.values()]
    wanted = [sum(h[t] for h in held if h[t] >= 15) for t in toy.TREATMENTS]
    assert 0 < sum(wanted) < fold.train.height
    sums, _ = Secure(there).total(ask)
    assert sums["by_treatment"].tolist() == wanted
