"""RunComparison without a front end: what crosses, what is in sight, marks that are shared, what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import traitlets

from tests.widgets import planted_comparison as planted
from widgets import RunComparison, Selection
from widgets._comparison import direction
from widgets._parts import unpack
from workbench.comparison.frames import Comparison

SUBJECT, TREATMENT = "gdsc2 \u00b7 unseen subject", "gdsc2 \u00b7 unseen treatment"


def test_a_score_crosses_with_its_interval_and_the_naive_value() -> None:
    board = RunComparison(planted.comparison())
    header, columns = unpack(board.frame_bytes)
    place = [p["key"] for p in header["places"]].index(SUBJECT)
    metric = [m["name"] for m in header["metrics"]].index("RMSE")
    entry = [e["name"] for e in header["entries"]].index("drug_response, members=1")
    row = np.flatnonzero(
        (columns["score.place"] == place) & (columns["score.metric"] == metric) & (columns["score.entry"] == entry)
    )
    assert len(row) == 1
    told = [float(columns[f"score.{c}"][row[0]]) for c in ("value", "low", "high", "naive", "cost_s")]
    assert told == pytest.approx([1.178, 1.16, 1.194, 1.291, 62.0])
    assert header["metrics"][metric] == {"name": "RMSE", "unit": "ln(\u00b5M)", "better": "lower"}
    assert [e["naive"] for e in header["entries"]] == [False, False, False, False, True]
    assert header["texts"][columns["score.interval"][row[0]]] == "bootstrap over 917 subjects"


def test_pairs_ranks_groups_and_parameters_cross() -> None:
    header, columns = unpack(RunComparison(planted.comparison()).frame_bytes)
    names = [e["name"] for e in header["entries"]]
    place, metric = [p["key"] for p in header["places"]].index(SUBJECT), 0
    assert header["metrics"][metric]["name"] == "normalised Pearson"
    wanted = (
        (columns["pair.place"] == place) & (columns["pair.metric"] == metric)
        & (columns["pair.a"] == names.index("drug_response, members=5")) & (columns["pair.b"] == names.index("ridge"))
    )  # fmt: skip
    (i,) = np.flatnonzero(wanted)
    assert columns["pair.difference"][i] == pytest.approx(0.004) and columns["pair.p_holm"][i] == pytest.approx(0.02)
    assert header["texts"][columns["pair.verdict"][i]] == "better"
    assert len(columns["rank.rank"]) == 3 * 3 * 5  # places, metrics, entries
    here = [g for g in header["groups"] if (g["place"], g["metric"]) == (place, metric)]
    assert [[names[e] for e in g["entries"]] for g in here][1] == ["ridge", "trees"]
    assert header["critical"][0]["difference"] == 1.93 and header["compared"] == [0, 2, 1]
    members = next(p for p in header["parameters"] if (p["place"], p["param"]) == (place, "members"))
    assert [(names[e], v) for e, v in members["values"]][:2] == [
        ("drug_response, members=5", "5"), ("drug_response, members=1", "1"),
    ]  # fmt: skip


def test_what_is_in_sight_is_best_first_whichever_way_the_metric_is_good() -> None:
    board = RunComparison(planted.comparison())
    assert (board.place, board.metric) == (board.places[0], "normalised Pearson")
    assert board.metrics == ["normalised Pearson", "RMSE", "per-drug Pearson"]
    board.place = TREATMENT
    assert board.shown["entry"].to_list()[:2] == ["drug_response, members=5", "drug_response, members=1"]
    assert board.shown["value"][0] == pytest.approx(0.597 - 0.05)
    board.metric = "RMSE"
    assert board.shown["entry"].to_list()[0] == "ridge" and board.shown["seeds"].unique().to_list() == [1]


def test_which_way_a_metric_is_good_is_taken_from_the_comparison_where_it_says_so() -> None:
    assert [direction(m, {}) for m in ("RMSE", "normalised Pearson", "coverage")] == ["lower", "higher", ""]
    assert direction("hazard", {"hazard": -1}) == "lower"


def test_marks_are_shared_by_a_selection() -> None:
    selection = Selection()
    first, second = (RunComparison(planted.comparison(), selection) for _ in range(2))
    first.marked = ["ridge"]
    assert second.marked == selection.predictors == ["ridge"] and selection.by == "RunComparison"
    second.leave()
    first.marked = []
    assert second.marked == ["ridge"] and selection.predictors == []


def test_another_comparison_takes_its_place_and_what_was_in_sight_stays() -> None:
    board = RunComparison(planted.comparison())
    board.place, board.metric = TREATMENT, "RMSE"
    board.show(planted.comparison(entries=2))
    assert (board.place, board.metric, len(board.shown)) == (TREATMENT, "RMSE", 2)
    board.show(planted.comparison(places=[("gdsc1", "unseen subject")]))
    assert (board.place, board.metric) == ("gdsc1 \u00b7 unseen subject", "RMSE")


def test_no_run_and_one_run_are_answers() -> None:
    nothing = RunComparison(Comparison(metrics=("RMSE",), better={"RMSE": -1}))
    assert (nothing.places, nothing.place, nothing.metric, len(nothing.shown)) == ([], "", "", 0)
    assert unpack(nothing.frame_bytes)[0]["entries"] == []
    one = RunComparison(planted.comparison(entries=1))
    assert one.shown["entry"].to_list() == ["drug_response, members=5"] and len(one.comparison.pairs) == 0


def test_a_pool_of_all_splits_is_no_place_of_its_own() -> None:
    plain = planted.comparison()
    pool = plain.ranks.filter(study="gdsc2", split="unseen subject").with_columns(
        study=pl.lit("all"), split=pl.lit("all")
    )
    board = RunComparison(dataclasses.replace(plain, ranks=pl.concat([plain.ranks, pool])))
    assert "all" not in board.places and len(board.places) == 3
    header, columns = unpack(board.frame_bytes)
    assert header["places"][-1]["pooled"] and (columns["rank.place"] == 3).sum() == 15


def test_what_is_no_comparison_is_refused() -> None:
    plain = planted.comparison()
    with pytest.raises(ValueError, match="scores has no column 'naive'"):
        RunComparison(dataclasses.replace(plain, scores=plain.scores.drop("naive")))
    with pytest.raises(ValueError, match="pairs should be a polars frame, found list"):
        RunComparison(dataclasses.replace(plain, pairs=[]))  # type: ignore[arg-type]
    board = RunComparison(plain)
    with pytest.raises(traitlets.TraitError, match=r"metric 'RMS' is not among the 3 here\. Did you mean 'RMSE'"):
        board.metric = "RMS"
    with pytest.raises(traitlets.TraitError, match="place 'gdsc2' is not among"):
        board.place = "gdsc2"


def test_of_several_places_the_fullest_is_shown_and_one_that_was_split_off_is_found() -> None:
    plain = planted.comparison()
    less = plain.scores.filter(~((pl.col("study") == "gdsc1") & (pl.col("entry") == "trees")))
    split_off = pl.when(pl.col("split") == "unseen treatment").then(pl.lit("unseen treatment (folds 5)"))
    named = less.with_columns(split=split_off.otherwise("split"))
    board = RunComparison(dataclasses.replace(plain, scores=named))
    assert board.place == SUBJECT
    board.look_at(TREATMENT)
    assert board.place == f"{TREATMENT} (folds 5)"
    board.look_at("gdsc3 \u00b7 unseen subject")
    assert board.place == f"{TREATMENT} (folds 5)"
