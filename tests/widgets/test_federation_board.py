"""FederationBoard without a front end: what crosses, what is in sight, rounds while they come, what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import traitlets

from tests.widgets import planted_federation as planted
from tests.workbench.planted_arms import ATTACKS, COSTS, GAINS, MIXED, UNSURE, predictions
from widgets import FederationBoard
from widgets._parts import unpack
from widgets.federation_board import plan_of
from workbench.tables import FEDERATION_ROUNDS, TableError


def test_scores_differences_and_verdicts_cross() -> None:
    board = FederationBoard(planted.value())
    header, columns = unpack(board.frame_bytes)
    assert columns == {} and header["places"] == ["ridge \u00b7 unseen subject"]
    assert header["metrics"][0] == {"name": "normalised Pearson", "unit": "", "better": "higher"}
    assert {"name": "RMSE", "unit": "ln(\u00b5M)", "better": "lower"} in header["metrics"]
    (row,) = [s for s in header["scores"] if (s["site"], s["arm"], s["metric"]) == ("north", "federated", "RMSE")]
    assert row["value"] == pytest.approx(1.123 - 0.051) and row["difference"] == pytest.approx(-0.051)
    assert row["naive"] == 1.35 and row["together_low"] < row["difference_low"]
    (alone,) = [s for s in header["scores"] if (s["site"], s["arm"], s["metric"]) == ("north", "alone", "RMSE")]
    assert alone["difference"] is None and alone["verdict"] is None
    verdicts = {v["site"]: v for v in header["verdicts"]}
    assert [verdicts[s]["verdict"] for s in planted.SITES] == list(planted.VERDICTS)
    assert verdicts["island"]["negative_transfer"] == "RMSE" and verdicts["coast"]["epsilon"] is None
    assert header["overall"][0]["gain"] == 0.054 and header["attacks"][0]["value"] == 0.71


def test_what_is_in_sight_follows_the_choices() -> None:
    board = FederationBoard(planted.value(arms=("alone", "federated", "personalised")))
    assert (board.place, board.metric, board.arm) == ("ridge \u00b7 unseen subject", "normalised Pearson", "federated")
    assert board.shown["metric"].unique().to_list() == ["normalised Pearson"] and board.shown.height == 15
    board.metric, board.arm = "RMSE", "personalised"
    assert board.shown["unit"].unique().to_list() == ["ln(uM)"]
    assert board.verdicts["arm"].unique().to_list() == ["personalised"]
    with pytest.raises(traitlets.TraitError, match=r"metric 'RMS' is not among the 3 here\. Did you mean 'RMSE'"):
        board.metric = "RMS"


def test_rounds_come_while_it_trains_and_the_value_after() -> None:
    board = FederationBoard(rounds=planted.rounds(2))
    assert (board.place, board.metric, board.arm, board.verdicts.height) == ("", "", "", 0)
    before = unpack(board.rounds_bytes)[1]["round"].max()
    board.update(rounds=planted.rounds(12))
    header, columns = unpack(board.rounds_bytes)
    assert (before, columns["round"].max()) == (2, 12) and board.place == ""
    assert board.lost.rows() == [
        (3, "south", "did not answer in time"),
        *((r, "hills", f"set aside: {65 - r}% of what tells sites apart") for r in (4, 5)),
        *((r, "island", "sent NaN") for r in range(9, 13)),
    ]
    assert header["units"][header["names"].index("validation RMSE")] == "ln(\u00b5M)"
    own = (columns["site"] == -1) & (columns["round"] == 12)
    assert columns["value"][own] == pytest.approx([1.1 + 0.9 / 13])
    lost = columns["lost"] >= 0
    assert lost.sum() == 5 and np.isnan(columns["bytes"][lost]).all()  # not sent is not zero
    board.update(planted.value())
    assert board.place == "ridge \u00b7 unseen subject" and unpack(board.rounds_bytes)[1]["round"].max() == 12
    board.metric = "RMSE"
    board.update(planted.value(sites=2))
    assert board.metric == "RMSE" and board.verdicts.height == 2
    board.update(None, rounds=None)
    assert board.metric == "" and board.lost.is_empty() and unpack(board.rounds_bytes)[1]["round"].size == 0


def test_it_shows_what_the_verdict_says() -> None:
    from workbench.federated.worth.value import worth

    found = worth(predictions(), costs=COSTS, attacks=ATTACKS, draws=200)
    header, _ = unpack(FederationBoard(found).frame_bytes)
    told = {v["site"]: v for v in header["verdicts"]}
    assert told[MIXED]["negative_transfer"] == "RMSE" and told[UNSURE]["bytes"] is None
    assert told[GAINS]["reason"] == found.verdicts.filter(site=GAINS)["reason"][0]
    assert header["notes"] == list(found.notes) and len(header["overall"]) == 3
    assert all(np.isfinite(v) for s in header["scores"] for v in s.values() if isinstance(v, float))


def told(rows: list[tuple[int, str | None, str, int | None, str | None]]) -> pl.DataFrame:
    """FEDERATION_ROUNDS of (round, site, name, bytes, lost)."""
    made = [(r, s, n, None, None, b, 0.1 if b or why else None, why) for r, s, n, b, why in rows]
    return pl.DataFrame(made, schema=dict(FEDERATION_ROUNDS.columns), orient="row")


def faulty() -> pl.DataFrame:
    """Asks 0 to 3, the last three training rounds 1 to 3: a fault of every kind, and "good" that has none."""
    rows: list[tuple[int, str | None, str, int | None, str | None]] = []
    for number, name in enumerate(["schema", "network_round", "network_round", "network_round"]):
        rows += [(number, site, name, 10, None) for site in ("good", "liar", "broken")]
        rows.append((number, "closed", name, None, "policy: an answer must rest on 20 training rows."))
        rows.append((number, "gone", name, 10 if number < 2 else None, "no answer" if number >= 2 else None))
    rows += [(n, "liar", f"flagged: network_round: {n}.5 times longer than the median", None, None) for n in (1, 3)]
    rows += [(n, "liar", "set aside", None, "set aside: 61% of what tells sites apart") for n in (1, 2)]
    rows += [(2, "broken", "dropped", None, "dropped: network_round: holds NaN in 4 places")]
    return told(rows)


def test_who_was_flagged_dropped_set_aside_or_silent_is_told_by_name_and_training_round() -> None:
    header, columns = unpack(FederationBoard(rounds=faulty()).rounds_bytes)
    found = {(i["site"], i["kind"]): i for i in header["incidents"]}
    assert {k: (i["what"], i["times"]) for k, i in found.items()} == {
        ("closed", "refused by the site"): ("schema; training rounds 1 to 3 of 3", 4),
        ("gone", "took no part"): ("training rounds 2 and 3 of 3", 2),
        ("liar", "flagged, and let pass"): ("training rounds 1, 3 of 3", 2),
        ("liar", "set aside by the rule"): ("training rounds 1 and 2", 2),
        ("broken", "dropped by the checks"): ("training round 2 of 3", 1),
    }
    flagged = found["liar", "flagged, and let pass"]
    assert (flagged["why"], flagged["others"]) == ("1.5 times longer than the median", 1)
    assert found["broken", "dropped by the checks"]["why"] == "holds NaN in 4 places"
    # a site that a rule set aside in training round 1 has answered ask 1 all the same
    liar = header["sites"].index("liar")
    assert (columns["lost"][columns["site"] == liar] == -1).all()
    assert not [n for n in header["names"] if n.startswith("flagged")]
    clean = unpack(FederationBoard(rounds=told([(0, "good", "schema", 10, None)])).rounds_bytes)[0]
    assert clean["incidents"] == []


def test_what_left_is_told_in_plain_words_and_checks_are_not_told_twice() -> None:
    from workbench.federated.watched import checked

    header, _ = unpack(FederationBoard(rounds=faulty()).rounds_bytes)
    assert [(a["name"], a["times"], a["bytes"]) for a in header["asked"]] == [
        ("network_round", 3, 100),
        ("schema", 1, 40),
    ]
    assert all(len(a["plain"]) > 30 for a in header["asked"])
    value = planted.value()
    lines = checked(faulty())
    assert any("liar was flagged" in line for line in lines)
    value.notes = (*value.notes, *lines)
    assert unpack(FederationBoard(value, faulty()).frame_bytes)[0]["notes"] == list(planted.value().notes)
    assert unpack(FederationBoard(value).frame_bytes)[0]["notes"] == list(value.notes)  # no table tells them then


def test_how_it_was_trained_says_why_a_figure_is_missing() -> None:
    unknown = unpack(FederationBoard(planted.value()).frame_bytes)[0]
    assert (unknown["facts"], unknown["limit"], unknown["exact"], unknown["alone"]) == ([], None, False, True)
    exact = {"method": "ridge", "least": 3, "secure": True, "gated": True, "folds": 1}
    header = unpack(FederationBoard(planted.value(), plan=exact).frame_bytes)[0]
    facts = dict(header["facts"])
    assert header["exact"] and header["limit"] is None and not header["alone"]
    assert facts["Privacy"] == "none added: answers are exact"
    assert facts["Seen"].startswith("secure sums") and facts["Fewest sites"] == "3; with fewer it stops"
    settings = {"privacy": "person", "epsilon": 4.0, "delta": 1e-5, "rule": "median", "bad": 2}
    private = {"method": "network", "rounds": 7, "settings": settings, "policy": {"epsilon": 10.0}, "folds": 2}
    board = FederationBoard(planted.value(), plan=exact)
    board.update(plan=private)
    header = unpack(board.frame_bytes)[0]
    facts = dict(header["facts"])
    assert not header["exact"] and header["limit"] == 8.0  # 4 in each of two folds: what was spent is added up too
    assert facts["Privacy"] == (
        "differential privacy of each person: epsilon 4 at delta 10\u207b\u2075 agreed in each fold; a site stops at 10"
    )
    assert (
        facts["Trained"] == "a network, in 7 rounds"
        and "'median', which expects 2 that lie" in facts["Answers combined"]
    )
    run = SimpleNamespace(params={"federation": {"method": "ridge"}, "folds": 5, "only": [0, 3]})
    assert plan_of(run) == {"method": "ridge", "folds": 2} and plan_of(SimpleNamespace(params={})) == {}


def test_names_cross_as_they_are_and_infinite_figures_as_unknown() -> None:
    hostile = "</script><script>window.__pwned=1</script>"
    board = FederationBoard(planted.value(hostile), planted.rounds(2, hostile), title=hostile)
    header, _ = unpack(board.frame_bytes)
    assert header["verdicts"][0]["site"] == hostile and unpack(board.rounds_bytes)[0]["sites"][0] == hostile
    odd = planted.value()
    odd.verdicts = odd.verdicts.with_columns(epsilon=pl.lit(float("inf")))
    assert {v["epsilon"] for v in unpack(FederationBoard(odd).frame_bytes)[0]["verdicts"]} == {None}


def test_what_is_no_federation_is_refused() -> None:
    plain = planted.value()
    with pytest.raises(ValueError, match="sites should be a polars frame, found NoneType"):
        FederationBoard(object())
    plain.verdicts = plain.verdicts.with_columns(verdict=pl.lit("maybe"))
    with pytest.raises(ValueError, match="verdict 'maybe' is not known"):
        FederationBoard(plain)
    with pytest.raises(TableError, match="'round'"):
        FederationBoard(rounds=planted.rounds(2).drop("round"))
    board = FederationBoard()
    assert board.shown.is_empty() and board.verdicts.is_empty()


def test_faults_that_were_planted_are_said_to_be_planted() -> None:
    from widgets import _plan

    plan = {"method": "network", "rounds": 3, "faults": {"site 3": {"fault": "nan"}, "site 6": {"fault": "mirrored"}}}
    assert dict(_plan.facts(plan))["Faults planted on purpose"] == "site 3: nan; site 6: mirrored"
    assert "Faults planted on purpose" not in dict(_plan.facts(plan | {"faults": {}}))
