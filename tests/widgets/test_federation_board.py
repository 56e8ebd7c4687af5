"""FederationBoard without a front end: what crosses, what is in sight, rounds while they come, what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import traitlets

from tests.widgets import planted_federation as planted
from tests.workbench.planted_arms import ATTACKS, COSTS, GAINS, MIXED, UNSURE, predictions
from widgets import FederationBoard
from widgets._parts import unpack
from workbench.tables import TableError


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
