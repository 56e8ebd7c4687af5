"""Ten sites, some of which lie: what rules keep of the clean score, on a study with planted truth."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.network import fit as network
from workbench.federated.robust import rehearsal, updates
from workbench.federated.robust import rules as robust
from workbench.federated.robust.faults import BadSite
from workbench.federated.robust.rehearsal import ADAPTIVE, ATTACKS, CONTESTANTS, Plan, Rehearsal
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.splits import Split

pytestmark = pytest.mark.shared_home

BY = {c.name: c for c in CONTESTANTS}
AGAINST = {a.name: a for a in ATTACKS}


@pytest.fixture(scope="module")
def fold():
    study = toy.write(subjects=300, missing=0.05)
    return Split.make(study, "unseen subject", endpoint="ln_ic50", require=("expression",)).fold(0)


@pytest.fixture(scope="module")
def made(fold) -> Rehearsal:
    return Rehearsal(fold, sharing.at_random(fold, 10), Plan(axes=40, penalty=0.03, rounds=15), draws=50)


@pytest.fixture(scope="module")
def bad(made) -> list[str]:
    return list(made.honest)[1:4]


def test_rounds_reach_the_pooled_ridge(made, fold):
    """The clean federated model is the ridge of all rows in closed form, drug by drug."""
    w, _, noted = made.train(robust.make("mean"), made.sites(None, ()))
    assert not noted
    held = made.honest["site 1"].memory["linear_step"]
    assert held[1].shape[1] == 41
    parts = [s.memory["linear_step"] for s in made.honest.values()]
    z, y, there = (np.concatenate([p[k] for p in parts]) for k in (1, 2, 3))
    decay = np.append(made.plane.decay, 0.0)
    for d in range(y.shape[1]):
        rows = there[:, d]
        own = z[rows]
        exact = np.linalg.solve(own.T @ own + rows.sum() * np.diag(decay), own.T @ y[rows, d])
        np.testing.assert_allclose(w[:, d], exact, atol=2e-3)
    assert made.without(())[0] > 0.8  # the planted truth is found


def test_going_on_from_what_was_kept_gives_the_same_weights(made):
    kept = {}
    rule = robust.make("mean")
    whole, _ = rehearsal.fit(
        made.sites(None, ()), made.schema, made.plane, made.plan, rule,
        keep=lambda number, arrays, values: kept.setdefault(number, (number, dict(arrays))),
    )  # fmt: skip
    assert sorted(kept) == list(range(15))
    again, _ = rehearsal.fit(made.sites(None, ()), made.schema, made.plane, made.plan, rule, state=kept[6])
    np.testing.assert_array_equal(again, whole)


@pytest.mark.parametrize("attack", ["reversed x10", "scaled x100", "noise x10", "rows x1000"])
def test_the_plain_mean_fails(made, bad, attack):
    row = made.cell(AGAINST[attack], bad, BY["mean"])
    assert row["of_honest"] < 0.5 and row["of_clean"] < 0.5


@pytest.mark.parametrize("attack", [a.name for a in ATTACKS if a.name != "late"])
def test_a_robust_rule_keeps_98_percent(made, bad, attack):
    """The rule that remembers: against every attack; of the honest sites' score and of the clean one."""
    row = made.cell(AGAINST[attack], bad, BY["remembering"])
    assert row["of_honest"] >= 0.98 and row["of_clean"] >= 0.98
    assert row["of_honest_low"] <= row["of_honest"] <= row["of_honest_high"]
    if attack not in ("scaled x100", "labels flipped", "noise x10"):  # shortened to harmless, or seen late
        assert row["caught"] == 1.0 and row["wronged"] == 0.0


@pytest.mark.parametrize("attack", [a.name for a in ATTACKS])
def test_the_rule_of_curvature_keeps_98_percent_against_the_late_too(made, bad, attack):
    row = made.cell(AGAINST[attack], bad, BY["curvature"])
    assert row["of_honest"] >= 0.98 and row["of_clean"] >= 0.98
    if attack in ("sign flip", "reversed x10", "inner product", "rows x1000"):
        assert row["caught"] >= 0.6  # from the round on that convicts


@pytest.mark.parametrize("attack", ADAPTIVE, ids=lambda a: a.name)
def test_attackers_that_know_the_rule_gain_little(made, bad, attack):
    assert made.cell(attack, bad, BY["curvature"])["of_honest"] >= 0.95
    assert len(made.sites(ATTACKS[0], bad).names) == 10


def test_every_second_round_is_a_lie_where_it_is_said_so(made, bad):
    lying = next(s for s in made.sites(ADAPTIVE[0], bad).sites.values() if isinstance(s, BadSite))
    assert list(lying.rounds) == list(range(1, 15, 2))


def test_who_turns_late_is_seen_by_the_checks_sooner_than_by_the_memory(made, bad):
    """Updates have shrunk into noise by then: no main direction tells them apart, their length does."""
    alone = made.cell(AGAINST["late"], bad, BY["remembering"])
    assert 0.9 < alone["of_honest"] < 1.0 and alone["caught"] < 0.9
    assert made.cell(AGAINST["late"], bad, BY["remembering, flagged dropped"])["of_honest"] >= 0.98
    assert made.cell(AGAINST["late"], bad, BY["mean"])["of_honest"] < 0.5


def test_with_nobody_bad_the_rule_costs_little(made):
    for name in ("mean", "median", "trimmed mean", "geometric median", "median, mixed", "remembering", "curvature"):
        assert made.cell(None, list(made.honest)[:2], BY[name])["of_clean"] >= 0.97, name


def test_a_rule_that_cannot_promise_refuses_and_the_row_says_why(made):
    row = made.cell(AGAINST["sign flip"], list(made.honest)[:4], BY["Krum"])
    assert "score" not in row and "n >= 2f + 3" in row["refused"]


def test_sites_that_send_nan_are_named_in_every_round(made, bad):
    sites = [BadSite(s, "nan") if n in bad else s for n, s in made.honest.items()]
    w, _, noted = made.train(robust.make("mean"), Inline(sites))
    assert [(n.round, n.site) for n in noted] == [(k, s) for k in range(15) for s in sorted(bad)]
    assert made.score(w)[0] == pytest.approx(made.without(bad)[0])
    checked = updates.Checked(Inline(sites), least=8)
    with pytest.raises(TooFewSites, match="site 2: 'change' has NaN"):
        rehearsal.fit(checked, made.schema, made.plane, made.plan, robust.make("mean"))


def test_the_flagged_can_be_dropped_and_the_rule_then_has_fewer_to_withstand(made, bad):
    row = made.cell(AGAINST["reversed x10"], bad, BY["remembering, flagged dropped"])
    assert row["of_honest"] >= 0.98 and row["wronged"] < 0.05


def test_the_script_writes_goes_on_and_shows(made, fold, tmp_path, monkeypatch, capsys):
    where = Path(__file__).resolve().parents[2] / "experiments" / "byzantine.py"
    spec = importlib.util.spec_from_file_location("byzantine", where)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "opened", lambda study: fold)
    monkeypatch.setattr(script, "Rehearsal", lambda *a, **k: made)
    monkeypatch.setattr(script, "place", lambda study, how: tmp_path / "rows.jsonl")
    monkeypatch.setattr(script, "ATTACKS", (AGAINST["sign flip"],))
    monkeypatch.setattr(script, "CONTESTANTS", (BY["mean"], BY["remembering"]))
    monkeypatch.setattr(script, "COUNTS", (2,))
    monkeypatch.setattr(script, "WRONG", (("sign flip", 2, 1),))
    script.run("toy", "even", 1, (2,))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 + 1 + 2 + 2
    script.run("toy", "even", 1, (2,))
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(rows)
    nan = next(r for r in rows if r["attack"] == "nan")
    assert nan["in_every_round"] and len(nan["named"]) == 2 and nan["of_honest"] == pytest.approx(1)
    script.show("toy", "even")
    said = capsys.readouterr().out
    assert "share of the score of the honest alone" in said and "back door" in said and "1/1" in said


def test_predictions_abstain_where_nothing_is_known(made, fold):
    model = rehearsal.Linear(made.plane, np.zeros((41, 12)), "expression")
    pairs = pl.DataFrame({"subject": [made.subjects[0]] * 2, "treatment": ["aspirin", "unheard of"]})
    said = model.predict(fold.study, pairs)
    assert said["predicted"].to_list() == [0.0, None] and said["abstained"].to_list()[0] is None


@pytest.mark.slow
@toy.lightning_warnings
def test_a_network_is_trained_through_the_checks(fold):
    """The same weights bitwise where all are honest; a site that sends NaN is named and has no part in any round."""
    few = {n: held[:20] for n, held in sharing.at_random(fold, 4).items()}
    settings = {"rounds": 2, "local_epochs": 1, "axes": 5, "least": 2, "parameters": {
        "members": 2, "width": 8, "rank": 4, "subjects": 8, "learning_rate": 1e-2}}  # fmt: skip

    def held() -> list[Any]:
        return [Site(n, sharing.local(fold, s)) for n, s in few.items()]

    plain = network.fit(Inline(held()), settings).arrays()
    checked = updates.Checked(Inline(held()))
    for name, array in network.fit(checked, settings).arrays().items():
        np.testing.assert_array_equal(array, plain[name], err_msg=name)
    assert not checked.noted
    sites = held()
    sites[1] = BadSite(sites[1], "nan", purposes={"network_round"})
    checked = updates.Checked(Inline(sites))
    model = network.fit(checked, settings)
    assert [r["took"] for r in model.rounds_] == [["site 1", "site 3", "site 4"]] * 2
    assert {n.site for n in checked.noted} == {"site 2"} and all("NaN" in n.why for n in checked.noted)
