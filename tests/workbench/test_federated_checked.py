"""What comes in is checked in every federation: who sends what cannot be is dropped by name, and the others averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench.federated import policy, spec, task
from workbench.federated.messages import Ask, Gathered, Reply
from workbench.federated.robust.faults import BadSite
from workbench.federated.robust.updates import Checked, Checks, HiddenFault
from workbench.federated.simulation import simulate
from workbench.federated.sites import Inline, TooFewSites
from workbench.federated.watched import Watched

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

RIDGE = {"axes": 8, "parts": 2, "steps": 1, "penalties": [1.0, 10.0], "rough": 1e-3}
NETWORK = {"local_epochs": 1, "axes": 12, "steps": 1}
PARAMS = {"members": 2, "width": 8, "rank": 4, "subjects": 8, "learning_rate": 1e-2}


def federation(predictor: str = "ridge", sites: int = 4, **own: Any) -> spec.Federation:
    top: dict[str, Any] = {"name": "checked", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject",
                           "folds": 3, "only": [0], "draws": 20, "predictors": [predictor]}  # fmt: skip
    if predictor == "drug_response":
        top["parameters"] = {predictor: PARAMS}
    settings = RIDGE if predictor == "ridge" else NETWORK
    own = {"sites": {"random": sites}, "policy": {"minimum_rows": 5, "minimum_cell": 1}, "settings": settings,
           "rounds": 3, "least": 2} | own  # fmt: skip
    return spec.of(top | {"federation": own})


@pytest.fixture(scope="module", autouse=True)
def study(_module_home: Path) -> Any:
    return toy.write(subjects=90)


def trained(plan: spec.Federation, there: Any) -> tuple[Any, Watched]:
    watched = Watched(there)
    return simulate.train(plan, watched), watched


def bad(plan: spec.Federation, fault: str, name: str = "site 3", **where: Any) -> Inline:
    sites: list[Any] = [BadSite(s, fault, **where) if s.name == name else s for s in task.simulated(plan, 0)]
    return Inline(sites)


def without(plan: spec.Federation, *names: str) -> Inline:
    return Inline([s for s in task.simulated(plan, 0) if s.name not in names])


def same(one: Any, other: Any, off: float = 0.0) -> None:
    a, b = one.arrays(), other.arrays()
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_allclose(array, b[name], rtol=0, atol=off, err_msg=name)


FAULTS = {"nan": "NaN", "inf": "infinite", "shape": "shape", "dtype": "expected", "names": "missing"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_ridge_is_that_of_the_sites_that_can_be_right(fault: str) -> None:
    plan = federation()
    model, watched = trained(plan, bad(plan, fault, purposes={"ridge_start"}))
    assert model.agreed_.sites == ("site 1", "site 2", "site 4")
    same(model, simulate.train(plan, without(plan, "site 3")), 1e-12)
    assert {n.site for n in watched.noted} == {"site 3"} and {n.kind for n in watched.noted} == {"dropped"}
    assert all(FAULTS[fault] in n.why and n.purpose == "ridge_start" for n in watched.noted)
    told = watched.rounds().filter(pl.col("name").cast(pl.String) == "dropped")
    assert told["site"].to_list() == ["site 3"] and FAULTS[fault] in told["lost"][0]


def test_what_an_honest_federation_sends_is_left_alone() -> None:
    for predictor in ("ridge", "drug_response"):
        plan = federation(predictor, sites=5)
        model, watched = trained(plan, Inline(task.simulated(plan, 0)))
        assert watched.noted == []
        found = [e.lost for e in watched.exchanges if e.lost]
        assert found == [], found
