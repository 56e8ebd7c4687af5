"""Should a site join: planted sites that gain, lose, cannot tell, or rank better and err more; and many null ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.workbench.planted_arms import (
    ATTACKS,
    COSTS,
    GAINS,
    LOSES,
    MIXED,
    NOTHING,
    SITES,
    UNSURE,
    Plan,
    predictions,
)  # fmt: skip
from workbench import score, tables
from workbench.federated.worth.command import main
from workbench.federated.worth.value import Value, WorthError, worth
from workbench.federated.worth.verdict import JOIN, STAY, Gain, judge


@pytest.fixture(scope="module")
def found() -> Value:
    return worth(predictions(), costs=COSTS, attacks=ATTACKS)


def of(value: Value, site: str) -> dict:
    return value.verdicts.filter(site=site).row(0, named=True)


def test_planted_sites_get_the_verdict_they_were_planted_with(found: Value) -> None:
    told = dict(found.verdicts.select("site", "verdict").iter_rows())
    assert told == {GAINS: "join", LOSES: "do not join", UNSURE: "cannot tell", MIXED: "do not join",
                    NOTHING: "cannot tell"}  # fmt: skip
    gains = of(found, GAINS)
    assert gains["reason"].startswith("normalised Pearson rises by 0.213 (0.185 to 0.242)")
    assert gains["negative_transfer"] == "" and gains["flags"] == []


def test_a_better_correlation_does_not_hide_a_worse_error(found: Value) -> None:
    mixed = of(found, MIXED)
    assert mixed["negative_transfer"] == "RMSE"
    assert "normalised Pearson and per-drug Pearson better, RMSE worse than alone" in mixed["flags"]
    assert mixed["reason"].startswith("RMSE rises by 0.266 ln(\u00b5M)")
    assert "although normalised Pearson rises by 0.152" in mixed["reason"]
    row = found.sites.filter(site=MIXED, arm="federated", metric="RMSE").row(0, named=True)
    assert row["verdict"] == "worse" and row["difference_low"] > 0 and row["p_holm"] < 1e-6
    lost = of(found, LOSES)
    assert lost["negative_transfer"] == "normalised Pearson, per-drug Pearson, RMSE"


def test_a_gain_that_is_shown_to_be_too_small_to_matter_is_no_reason_to_join() -> None:
    frame = predictions({"flat": SITES[NOTHING]}, alike=1.0)  # both arms say the same
    told = of(worth(frame), "flat")
    assert told["verdict"] == "do not join" and "less than the 0.020 that matter to it" in told["reason"]
    assert told["negative_transfer"] == ""


def test_the_threshold_is_the_sites_own() -> None:
    frame = predictions({GAINS: SITES[GAINS], "second": SITES[GAINS]})
    said = worth(frame, least={GAINS: {"normalised Pearson": 0.5}})
    assert of(said, GAINS)["verdict"] == "do not join" and of(said, "second")["verdict"] == "join"
    rows = said.sites.filter(arm="federated", metric="normalised Pearson")
    assert dict(rows.select("site", "least").iter_rows()) == {GAINS: 0.5, "second": 0.02}
    rmse = said.sites.filter(site=GAINS, metric="RMSE")
    alone = rmse.filter(arm="alone")["value"][0]
    assert rmse["least"].unique().to_list() == pytest.approx([0.01 * alone])


def test_values_are_those_of_the_workbenchs_own_score(found: Value) -> None:
    frame = predictions().filter(pl.col("site") == LOSES)
    arms = frame.with_columns(predictor=pl.col("arm")).drop("site", "arm")
    wanted = score.evaluate(arms, [], draws=400)[0].filter(fold="all")
    for arm in ("alone", "federated", "pooled"):
        for metric in ("RMSE", "normalised Pearson", "per-drug Pearson"):
            one = wanted.filter(predictor=arm, metric=metric).row(0, named=True)
            mine = found.sites.filter(site=LOSES, arm=arm, metric=metric).row(0, named=True)
            assert mine["value"] == pytest.approx(one["value"], abs=1e-12)
            assert mine["low"] == pytest.approx(one["low"], abs=0.01)  # other draws
            assert mine["high"] == pytest.approx(one["high"], abs=0.01)
    rmse = found.sites.filter(site=LOSES, arm="alone", metric="RMSE").row(0, named=True)
    naive = float(np.sqrt(((frame["baseline"] - frame["observed"]) ** 2).filter(frame["arm"] == "alone").mean()))
    assert rmse["naive"] == pytest.approx(naive) and rmse["naive_predictor"] == "mean effects"


def test_a_naive_predictor_among_the_rows_is_the_naive_value_and_not_judged() -> None:
    frame = predictions({GAINS: SITES[GAINS]})
    mean = frame.filter(arm="alone").with_columns(predictor=pl.lit("drug_mean"), predicted=pl.col("observed").mean())
    found = worth(pl.concat([frame, mean]))
    assert found.sites["predictor"].unique().to_list() == ["ridge"]
    assert found.sites["naive_predictor"].unique().to_list() == ["drug_mean, alone"]
    spread = float(np.std(mean["observed"].to_numpy()))
    assert found.sites.filter(metric="RMSE")["naive"][0] == pytest.approx(spread)


def test_what_was_not_measured_is_null_and_never_zero(found: Value) -> None:
    first, last = of(found, GAINS), of(found, UNSURE)
    assert (first["epsilon"], first["bytes"], first["refusals"]) == (2.5, 1_250_000, 0)
    assert [last[c] for c in ("rows", "epsilon", "delta", "bytes", "messages", "rounds", "refusals")] == [None] * 7
    only = worth(predictions({GAINS: SITES[GAINS]}), costs=pl.DataFrame({"site": [GAINS], "epsilon": [1.0]}))
    assert of(only, GAINS)["epsilon"] == 1.0 and of(only, GAINS)["bytes"] is None


def test_an_attack_that_works_is_flagged_at_its_site_and_one_at_chance_is_not(found: Value) -> None:
    assert "membership inference works: AUC 0.710, chance 0.500" in of(found, LOSES)["flags"]
    assert not any("inference" in f for s in (GAINS, UNSURE) for f in of(found, s)["flags"])


def test_what_the_federation_gains_and_how_even_it_is(found: Value) -> None:
    row = found.overall.filter(metric="RMSE").row(0, named=True)
    gains = -found.sites.filter(arm="federated", metric="RMSE")["difference"]
    assert row["gain"] == pytest.approx(gains.mean()) and row["low"] < row["gain"] < row["high"]
    assert (row["best_site"], row["worst_site"], row["joined"], row["sites"]) == (GAINS, MIXED, 1, 5)
    assert row["by_rows"] is None  # two sites did not say how many rows they brought
    some = [GAINS, LOSES, NOTHING]
    known = worth(predictions({s: SITES[s] for s in some}), costs=COSTS).overall.filter(metric="RMSE")
    mine = dict(zip(some, -worth(predictions({s: SITES[s] for s in some})).sites.filter(
        arm="federated", metric="RMSE")["difference"], strict=True))  # fmt: skip
    wanted = (4000 * mine[GAINS] + 3000 * mine[LOSES] + 5000 * mine[NOTHING]) / 12000
    assert known["by_rows"][0] == pytest.approx(wanted) and known["spearman"][0] == pytest.approx(0.5)


def test_a_head_of_its_own_is_judged_beside_the_shared_model() -> None:
    plan = Plan(120, (0.55, 0.5), (0.40, 0.4), None, (0.70, 0.7))
    found = worth(predictions({"odd one": plan, GAINS: SITES[GAINS]}))
    told = {v["arm"]: v for v in found.verdicts.filter(site="odd one").iter_rows(named=True)}
    assert told["federated"]["verdict"] == "do not join" and told["personalised"]["verdict"] == "join"
    assert any(f.startswith("a head of its own gives 0.") for f in told["federated"]["flags"])


def test_arms_are_paired_on_the_rows_that_both_answered_and_folds_are_one() -> None:
    frame = predictions({GAINS: SITES[GAINS]}, folds=(0, 1, 2))
    hole = (pl.col("arm") == "federated") & (pl.col("row") % 7 == 0)
    holed = frame.with_columns(
        predicted=pl.when(hole).then(None).otherwise("predicted"), abstained=pl.when(hole).then(pl.lit("none"))
    )
    found = worth(holed)
    row = found.sites.filter(arm="federated", metric="RMSE").row(0, named=True)
    both = holed.filter(pl.col("row") % 7 != 0)
    errors = both.group_by("fold", "arm").agg(((pl.col("predicted") - pl.col("observed")) ** 2).mean().sqrt())
    by = errors.pivot("arm", index="fold", values="predicted")
    assert row["difference"] == pytest.approx((by["federated"] - by["alone"]).mean())
    assert any("answered different rows" in n for n in found.notes)
    assert row["n"] == both.filter(arm="federated").height and row["units"] == 120


def test_persons_are_drawn_where_a_person_has_several_lines() -> None:
    frame = predictions({GAINS: SITES[GAINS]})
    ten = frame.with_columns(person=pl.col("subject").str.slice(-1))
    apart, together = (worth(f).sites.filter(arm="federated", metric="RMSE") for f in (frame, ten))
    assert (together["resampled"][0], together["units"][0]) == ("person", 10)
    assert apart["difference"][0] == pytest.approx(together["difference"][0])
    few = worth(frame.with_columns(person=pl.col("subject").str.slice(-1).str.to_integer() % 5))
    told = few.verdicts.row(0, named=True)
    assert told["verdict"] == "cannot tell" and "come from 5 persons, and 8 are the fewest" in told["reason"]


def test_normalised_metrics_share_one_baseline() -> None:
    frame = predictions({GAINS: SITES[GAINS]})
    noise = pl.Series(np.random.default_rng(3).normal(0, 0.8, frame.height))
    off = frame.with_columns(baseline=pl.when(arm="alone").then(pl.col("baseline") + noise).otherwise("baseline"))
    shared, own = (worth(off, baseline=b).sites.filter(metric="normalised Pearson") for b in ("federated", "own"))
    plain = worth(frame).sites.filter(metric="normalised Pearson")
    assert shared["value"].to_list() == pytest.approx(plain["value"].to_list())
    assert own.filter(arm="alone")["value"][0] > plain.filter(arm="alone")["value"][0] + 0.1  # errors on both sides


def test_the_rule() -> None:
    def one(low: float, high: float, together: float | None = None, least: float = 0.02) -> Gain:
        return Gain((low + high) / 2, low, high, (low - 0.01 if together is None else together, high + 0.01), least)

    sure, same, harm = one(0.05, 0.09), one(-0.01, 0.01), one(-0.06, -0.03)
    main, other = "normalised Pearson", "per-drug Pearson"
    assert judge({main: sure, other: same}, main, 50, "subject")[0] == JOIN
    assert judge({main: sure, other: harm}, main, 50, "subject")[0] == STAY
    assert judge({main: same, other: same}, main, 50, "subject")[0] == STAY  # nothing that matters can be there
    assert judge({main: one(-0.01, 0.05)}, main, 50, "subject")[0] == "cannot tell"
    assert judge({main: sure, other: one(-0.05, 0.01)}, main, 50, "subject")[0] == "cannot tell"
    said, why = judge({main: one(0.03, 0.09, together=0.015)}, main, 50, "subject")
    assert said == "cannot tell"
    assert why.endswith("not beside as many other sites: from +0.015 when all are judged at once.")
    assert judge({main: sure, other: one(-0.015, -0.002)}, main, 50, "subject")[0] == JOIN  # flagged, and too small
    assert judge({main: sure}, main, 7, "subject")[0] == "cannot tell"


def test_of_many_sites_that_gain_nothing_at_most_one_in_twenty_is_told_to_join() -> None:
    """200 null sites in 40 federations: judged with no margin at all, and each as if it were the only one."""
    joins, alone, other = 0, 0, 10.0
    loose = {"normalised Pearson": 0.0, "per-drug Pearson": other, "RMSE": other}
    flagged = 0
    for k in range(40):
        sizes = (10, 15, 20, 30, 40)
        plans = {f"site {i}": Plan(n, (0.5, 0.5), (0.5, 0.5)) for i, n in enumerate(sizes)}
        frame = predictions(plans, drugs=6, seed=k, alike=0.5)
        told = worth(frame, least=loose, draws=400, seed=k)
        joins += told.verdicts.filter(verdict="join").height
        flagged += told.verdicts.filter(pl.col("negative_transfer") != "").height
        rows = told.sites.filter(arm="federated", metric="normalised Pearson")
        alone += rows.filter(pl.col("difference_low") > 0).height
    assert joins <= 10 and alone <= 10
    assert flagged <= 20  # three metrics, two of them nearly one, at 2.5 % each


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.filter(pl.col("arm") != "alone"), "no rows of arm 'alone'"),
        (lambda f: f.filter(pl.col("arm") == "alone"), "has only arm 'alone'"),
        (lambda f: f.with_columns(observed=pl.lit(None, pl.Float64)), "open the targets with score.unseal"),
        (lambda f: f.with_columns(arm=pl.col("arm").replace("federated", "federate")), "Did you mean 'federated'"),
        (lambda f: pl.concat([f, f.head(1)]), "stands twice in arm 'alone'"),
        (lambda f: f.clear(), "no predictions to judge"),
        (lambda f: f.with_columns(predictor=pl.lit("drug_mean")), "nothing to join for"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_says_what_is_missing(change, said: str) -> None:
    with pytest.raises(WorthError, match=said):
        worth(change(predictions({GAINS: SITES[GAINS]})), draws=100)


def test_a_mistyped_metric_or_site_names_the_nearest() -> None:
    frame = predictions({GAINS: SITES[GAINS]})
    with pytest.raises(WorthError, match="Did you mean 'RMSE'"):
        worth(frame, least={"RMS": 0.1})
    with pytest.raises(WorthError, match="Did you mean 'gains'"):
        worth(frame, least={"gain": {"RMSE": 0.1}})
    with pytest.raises(WorthError, match="is none of the main metrics"):
        worth(frame, decides="MAE")
    with pytest.raises(tables.TableError, match="'site'"):
        worth(frame.drop("site"))


def test_the_verb_prints_verdicts_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, costs, attacks = (tmp_path / f"{n}.parquet" for n in ("p", "c", "a"))
    predictions().write_parquet(file)
    COSTS.write_parquet(costs)
    ATTACKS.write_parquet(attacks)
    out = tmp_path / "v.json"
    given = [str(file), "--costs", str(costs), "--attacks", str(attacks), "--draws", "300"]
    assert main([*given, "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "=> JOIN: normalised Pearson rises by 0.213" in said and "=> DO NOT JOIN: RMSE rises by 0.266" in said
    assert "epsilon spent 2.5; at delta 1e-05" in said and "! negative transfer: RMSE\n" in said
    assert "not measured: training rows, epsilon spent, bytes sent, messages, rounds, answers" in said
    told = json.loads(out.read_text())
    verdicts = {r["site"]: r["verdict"] for r in told if r["table"] == "verdicts"}
    assert verdicts[GAINS] == "join" and len(verdicts) == 5
    assert next(r for r in told if r["table"] == "verdicts" and r["site"] == UNSURE)["epsilon"] is None
    assert main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["table"] == "verdicts"
    assert main([*given, "--least", "normalised Pearson=0.5"]) == 0
    assert "=> JOIN" not in capsys.readouterr().out
    assert main([str(file), "--least", "normalised Pearson"]) == 2
    assert main([str(tmp_path / "nothing.parquet")]) == 1
    assert "there is no file" in capsys.readouterr().err
    assert main(["no such run"]) == 1
    assert "no run 'no such run'" in capsys.readouterr().err


def test_a_recorded_federation_is_judged_and_another_run_says_what_it_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from workbench import runs

    def write(frames: dict[str, pl.DataFrame]) -> str:
        with runs.record({"name": "federation", "study": "toy"}, study_digest="00" * 32) as run:
            run.tables(frames)
        return run.run_id

    frame = predictions({GAINS: SITES[GAINS]})
    naive = frame.filter(arm="alone").with_columns(predictor=pl.lit("global_mean"), predicted=pl.lit(0.0))
    twice = pl.concat([COSTS, COSTS.with_columns(epsilon=pl.lit(None, pl.Float64))])  # two folds
    tables_ = {"FEDERATION_PREDICTIONS": frame, "FEDERATION_COSTS": twice, "PREDICTIONS": naive.drop("site", "arm")}
    assert main([write(tables_), "--draws", "300"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "training rows 4,000; bytes sent 2,500,000" in said and "delta" not in said
    assert "no bound on epsilon: exact answers have none" in said  # of one of the folds
    assert "epsilon spent" not in said
    from workbench.federated.worth.value import of_run

    found = of_run(runs.find("latest"), draws=100)
    assert found.sites["naive_predictor"].unique().to_list() == ["global_mean, pooled"]
    assert main([write({}), "--draws", "300"]) == 1
    assert "it is no federation" in capsys.readouterr().err
