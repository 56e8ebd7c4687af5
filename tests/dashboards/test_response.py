"""The numbers on the page are those of the tables; what is missing is named, with what to do."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests.dashboards import planted
from widgets._response import pieces, summary
from widgets._response.loaded import Loaded
from widgets._response.markup import Markup, interval, number, tag, weight
from workbench import tables


@pytest.fixture(scope="module")
def run() -> planted.Run:
    return planted.run()


def text(markup: str) -> str:
    """What a reader sees of markup."""
    return html.unescape(re.sub(r"<[^>]*>", " ", markup))


def test_the_table_shows_each_metric_of_each_predictor_beside_the_naive_value(run: planted.Run) -> None:
    shown = pieces.leaderboard(Loaded(run).scores)
    rows = re.findall(r"<tr>(.*?)</tr>", shown)[1:]
    metrics = summary.ordered(run.metrics["metric"].unique().to_list())
    total = run.metrics.filter(pl.col("fold") == "all")
    assert len(rows) == 9
    for row in rows:
        cells = re.findall(r"<t[hd].*?</t[hd]>", row)
        predictor = text(cells[0]).split()[0]
        for metric, cell in zip(metrics, cells[1:], strict=True):
            want = total.row(by_predicate=(pl.col("predictor") == predictor) & (pl.col("metric") == metric), named=True)
            for value in (want["value"], want["low"], want["high"], want["naive"]):
                assert number(value) in text(cell), (predictor, metric)
            assert want["naive_predictor"] in text(cell)


def test_predictors_are_ranked_by_the_leading_metric(run: planted.Run) -> None:
    found = Loaded(run).scores
    values = [cells["normalised Pearson"].value for cells in found.values()]
    assert values == sorted(values, key=lambda v: -(v or 0.0))
    assert summary.best(found) in planted.MODELS


def test_a_verdict_is_the_paired_one_and_falls_back_to_the_interval() -> None:
    run = planted.run()
    for metric, value, verdict in [("RMSE", 0.1, "better"), ("Pearson", 0.1, "worse"), ("RMSE", 9.0, "worse")]:
        row = {
            "predictor": "ridge", "split": "unseen subject", "fold": "all", "metric": metric, "value": value,
            "low": value - 0.01, "high": value + 0.01, "naive": 1.0, "naive_predictor": "drug_mean", "unit": None,
            "resampled": "subject", "n": 10, "abstained": 0,
        }  # fmt: skip
        metrics = pl.DataFrame([row], schema=dict(tables.METRICS.columns))
        assert summary.scores(metrics)["ridge"][metric].verdict == verdict
        assert summary.scores(metrics)["ridge"][metric].evidence == "interval"
        paired = pl.DataFrame(
            [("unseen subject", metric, "ridge", "drug_mean", 0.0, -1.0, 1.0, "no difference shown", "subject")],
            schema=dict(tables.COMPARISONS.columns), orient="row",
        )  # fmt: skip
        cell = summary.scores(metrics, paired)["ridge"][metric]
        assert (cell.verdict, cell.evidence) == ("no difference shown", "paired")
    naive = summary.scores(run.metrics, run.comparisons)["drug_mean"]
    assert {c.verdict for c in naive.values()} == {""}, "a naive predictor is not judged against itself"


def test_an_interval_that_holds_the_naive_value_shows_no_difference() -> None:
    row = planted.run().metrics.filter((pl.col("predictor") == "ridge") & (pl.col("metric") == "RMSE")).tail(1)
    row = row.with_columns(fold=pl.lit("all"), low=pl.lit(0.5), high=pl.lit(1.5), naive=pl.lit(1.0))
    assert summary.scores(row)["ridge"]["RMSE"].verdict == "no difference shown"


def test_every_comparison_is_shown_once_in_words(run: planted.Run) -> None:
    order = list(Loaded(run).scores)
    kept = summary.sorted_comparisons(run.comparisons, order)
    assert kept.height < run.comparisons.height  # each pair of models was recorded both ways round
    said = re.sub(r" {2,}", "  ", text(pieces.verdicts(kept)))
    for r in kept.iter_rows(named=True):
        assert order.index(r["predictor"]) < order.index(r["other"])
        assert f"{r['predictor']}  {pieces.WORDS[r['verdict']]}  {r['other']}" in said
        assert f"{number(r['difference'], True)} {interval(r['low'], r['high'], True)}" in said


def test_a_comparison_recorded_from_one_side_is_told_from_the_other(run: planted.Run) -> None:
    worse = run.comparisons.filter((pl.col("verdict") == "worse") & (pl.col("metric") == "RMSE"))
    pairs = {(r["predictor"], r["other"]): r for r in summary.both_ways(worse).iter_rows(named=True)}
    for r in worse.iter_rows(named=True):
        turned = pairs[r["other"], r["predictor"]]
        assert (turned["difference"], turned["low"], turned["high"]) == (-r["difference"], -r["high"], -r["low"])
        assert turned["verdict"] == "better"
    naive = run.comparisons.head(1).with_columns(predictor=pl.lit("drug_mean"), other=pl.lit("cell_mean"))
    assert summary.sorted_comparisons(naive, planted.PREDICTORS).is_empty()


def test_headline_names_winner_rule_and_naive(run: planted.Run) -> None:
    loaded = Loaded(run)
    said = text(pieces.headline(loaded.scores, loaded.rule, loaded.paired, loaded.level))
    winner = summary.best(loaded.scores)
    cell = loaded.scores[str(winner)]["normalised Pearson"]
    assert str(winner) in said and "Every scored cell line was left out of training" in said
    assert number(cell.value) in said and f"naive {number(cell.naive)} ({cell.naive_predictor})" in said
    assert "the next best, on the same rows" in said


def test_scores_within_a_drug_are_means_over_folds(run: planted.Run) -> None:
    found = summary.per_treatment(run.predictions)
    row = found.row(by_predicate=(pl.col("treatment") == "Planted") & (pl.col("predictor") == "ridge"), named=True)
    part = run.predictions.filter((pl.col("treatment") == "Planted") & (pl.col("predictor") == "ridge"))
    folds = [f for _, f in part.group_by("fold")]
    want = np.mean([np.corrcoef(f["predicted"], f["observed"])[0, 1] for f in folds])
    assert row["pearson"] == pytest.approx(want, abs=1e-12)
    assert row["rmse"] == pytest.approx(float(np.sqrt(((part["predicted"] - part["observed"]) ** 2).mean())), abs=1e-12)
    assert row["n"] == part.height
    flat = found.row(by_predicate=(pl.col("treatment") == "Planted") & (pl.col("predictor") == "drug_mean"), named=True)
    assert flat["pearson"] == 0.0 and flat["spearman"] == 0.0, "one value for all lines of a fold ranks nothing"


def test_planted_gene_leads_the_attributions(run: planted.Run) -> None:
    found = summary.features(run.attributions, "Planted", "ridge")
    assert found["feature"][0] == "GENE0" and found["value"][0] == pytest.approx(2.0)
    assert "GENE0" in text(pieces.drug_features(found, "ridge"))
    assert summary.features(run.attributions, "Planted", "trees").is_empty()


def test_tissues_add_up(run: planted.Run) -> None:
    found = summary.by_tissue(run.predictions, "Planted", "ridge")
    assert found["n"].sum() == 40
    assert found["n"].to_list() == sorted(found["n"], reverse=True)


def test_provenance_holds_what_a_regulator_asks_for(run: planted.Run) -> None:
    said = text(pieces.provenance(run))
    for value in (run.run_id, run.study_digest, "Every scored cell line was left out", "0123456789abcdef", "cd" * 32):
        assert value in said
    assert "not recorded" in dict(summary.provenance(replace(run, tags={})))["Git commit"]


@pytest.mark.parametrize("name", ["metrics", "comparisons", "predictions", "attributions", "curves"])
def test_a_missing_table_is_named(run: planted.Run, name: str) -> None:
    empty = replace(run, **{name: tables.empty(tables.TABLES[name.upper()])})
    with pytest.raises(summary.Missing, match=f"{name.upper()} is empty or was never recorded"):
        summary.read(empty, name)
    with pytest.raises(summary.Missing, match="has another shape"):
        summary.read(replace(run, **{name: pl.DataFrame({"x": [1]})}), name)
    assert summary.read(run, name).height == getattr(run, name).height  # the control


def test_numbers_have_three_digits_and_true_minus() -> None:
    assert [number(v) for v in (1.17449, -0.0001, 0.5, 12.345, 1234.5, None, float("nan"))] == [
        "1.174", "0.000", "0.500", "12.35", "1234", "\u2013", "\u2013",
    ]  # fmt: skip
    assert [weight(v) for v in (0.0047123, -2.5, 1e-7)] == ["+0.00471", "\u22122.5", "+1e\u221207"]
    assert number(-0.25, signed=True) == "\u22120.250" and number(0.25, signed=True) == "+0.250"


def test_only_markup_of_this_room_passes_unescaped() -> None:
    made = tag("td", planted.HOSTILE, tag("b", planted.HOSTILE_SCRIPT), title='"><script>')
    assert "<img" not in made and "<script" not in made and '"><' not in made
    assert text(made).split("  ")[0].strip().startswith("<img src=x")
    assert isinstance(made, Markup)


def test_hostile_names_are_text_in_every_piece() -> None:
    run = planted.run(hostile=True)
    loaded = Loaded(run)
    found = loaded.scores
    drug, predictor = summary.treatments(run.predictions)[0], "ridge"
    rows = run.predictions.filter(pl.col("treatment") == drug)
    made = [
        pieces.headline(found, loaded.rule, loaded.paired, loaded.level), pieces.leaderboard(found),
        *[pieces.forest(found, m) for m in summary.ordered(run.metrics["metric"].unique().to_list())],
        pieces.verdicts(run.comparisons), pieces.curves(run.curves), pieces.provenance(run),
        pieces.drug_scores(summary.per_treatment(rows), list(found), "x"),
        pieces.drug_tissues(summary.by_tissue(rows, drug, predictor), "x"),
        pieces.drug_features(summary.features(run.attributions, drug, predictor), predictor),
    ]  # fmt: skip
    together = "".join(made)
    assert "<img" not in together and "<script" not in together
    assert "&lt;img src=x onerror" in together and "&lt;/script&gt;" in together


def test_ticks_are_round_and_inside() -> None:
    assert pieces._ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert pieces._ticks(-7.3, 12.1) == [-5.0, 0.0, 5.0, 10.0]
    assert all(0.31 <= t <= 0.3105 for t in pieces._ticks(0.31, 0.3105))
