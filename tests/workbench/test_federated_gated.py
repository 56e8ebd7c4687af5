"""Federations through each site's whole gate, under a strict policy: nothing is refused, and the model is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import screen, toy
from workbench.federated import sharing
from workbench.federated.exact import ridge
from workbench.federated.gate import outgoing as gate
from workbench.federated.network import fit as network
from workbench.federated.policy import STRICT, Policy
from workbench.federated.secure.server import Secure
from workbench.federated.site import Site
from workbench.federated.sites import Inline
from workbench.splits import Fold, Split

pytest.importorskip("Crypto", reason="secure sums share keys with pycryptodome (extra: federation)")
pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]


@pytest.fixture(scope="module")
def fold() -> Fold:
    """300 lines x 12 drugs; expression 200, mutation 60 mostly rare, copy number 60 in stretches. Synthetic."""
    study = screen.write(size=screen.Size(300, 12, 200, 60, 60, 20, 8))
    return Split.make(study, "unseen subject", endpoint="ln_ic50").fold(0)


def sites(fold: Fold, folder: Path | None) -> Inline:
    """Five alike sites; policy as a site's file leaves it, and with a folder for their books the whole gate."""
    policy = Policy(**STRICT)
    made = []
    for name, subjects in sharing.at_random(fold, 5).items():
        steps = () if folder is None else gate.steps(folder / name)
        made.append(Site(name, sharing.local(fold, subjects), policy, steps))
    return Inline(made)


def refusals(folder: Path) -> list[tuple[str, str, str]]:
    """(site, purpose, reason) of every refusal in any book."""
    found = []
    for book in sorted(folder.glob(f"*/{gate.BOOK}")):
        entries = [json.loads(line) for line in book.read_text(encoding="utf-8").splitlines()]
        assert sum(e["kind"] == "message" for e in entries) > 20
        found += [(e["site"], e["purpose"], e["reason"]) for e in entries if e["kind"] == "refusal"]
    return found


def apart(one: object, other: object, names: tuple[str, ...]) -> float:
    """Largest difference of arrays of two ridges, as a share of the largest number."""
    pairs = [tuple(np.asarray(getattr(m, n), dtype=np.float64) for m in (one, other)) for n in names]
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


def test_a_gated_ridge_is_the_ungated_one_and_nothing_is_refused(fold: Fold, tmp_path: Path) -> None:
    settings = {"axes": 12, "least_axes": 8, "parts": 2, "penalties": [1.0, 30.0], "steps": 2, "least": 5}
    plain = ridge.fit(sites(fold, None), settings)
    gated = ridge.fit(Secure(sites(fold, tmp_path)), settings)
    assert refusals(tmp_path) == []
    assert len(gated.agreed_.sites) == 5 and gated.treatments_ == plain.treatments_
    assert apart(plain, gated, ("mean_", "weights_", "offset_")) < 1e-5
    assert (plain.penalty_ == gated.penalty_).all()


@pytest.mark.slow
def test_a_gated_network_is_the_ungated_one_and_keeps_every_modality(fold: Fold, tmp_path: Path) -> None:
    parameters = {"members": 2, "width": 16, "structure": False}
    settings = {"rounds": 1, "local_epochs": 1, "axes": 12, "steps": 2, "least": 5, "parameters": parameters}
    plain = network.fit(sites(fold, None), settings)
    gated = network.fit(Secure(sites(fold, tmp_path)), settings)
    assert refusals(tmp_path) == []
    assert "mutation" not in gated.left_out_ and gated.closed_.names == ["expression", "mutation", "copy_number"]
    one, other = plain.state_dict(), gated.state_dict()
    assert one.keys() == other.keys()
    assert max(float((a.double() - other[k].double()).abs().max()) for k, a in one.items() if a.numel()) < 1e-5
