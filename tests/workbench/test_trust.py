"""Conformal intervals: planted truths are covered, planted shifts break and are mended, clean controls stay clean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import predict, predictors, score
from workbench.predictors import answer
from workbench.splits import Split
from workbench.trust import coverage, martingale, shift
from workbench.trust._quantiles import effective, least_groups, quantile, upper
from workbench.trust.conformal import CalibrationError, Conformal, LeftOut, left_out, remembered, restore


class Zero:
    """Predicts 0 for every pair."""

    name = "zero"

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        return answer(np.zeros(pairs.height), np.zeros(pairs.height))


def rows(lines: int, drugs: int, seed: int, *, line_sd: float = 0.0, loud: float = 1.0, first: int = 0) -> pl.DataFrame:
    """Rows of ``lines`` x ``drugs``: predicted 0, observed noise; lines share an error, drug 0 is ``loud``."""
    draw = np.random.default_rng([8, seed])
    s, d = (i.ravel() for i in np.indices((lines, drugs)))
    noise = draw.normal(size=len(s)) * np.where(d == 0, loud, 1.0)
    return pl.DataFrame(
        {
            "row": np.arange(len(s)) + first * drugs,
            "subject": [f"line {first + i}" for i in s],
            "treatment": [f"drug {j}" for j in d],
            "tissue": [f"tissue {i % 3}" for i in s],
            "group": [f"line {first + i}" for i in s],
            "part": (s % 5).astype(np.int32),
            "observed": draw.normal(0, line_sd, lines)[s] + noise if line_sd else noise,
            "predicted": 0.0,
        }
    )


def scored(frame: pl.DataFrame, low, high, predictor: str = "zero") -> pl.DataFrame:
    """Unsealed PREDICTIONS of such rows between ``low`` and ``high``."""
    return frame.select(
        predictor=pl.lit(predictor), split=pl.lit("unseen subject"), fold=(pl.col("row") % 5).cast(pl.Int32), row="row",
        subject="subject", treatment="treatment", tissue="tissue", endpoint=pl.lit("ln_ic50"), unit=pl.lit("ln(uM)"),
        predicted=pl.col("predicted").cast(pl.Float64), low=pl.Series(np.broadcast_to(low, frame.height)),
        high=pl.Series(np.broadcast_to(high, frame.height)), level=pl.lit(0.9), abstained=pl.lit(None, pl.String),
        baseline=pl.lit(0.0), observed="observed", censored=pl.lit(0, pl.Int8),
    )  # fmt: skip


def covered(train: pl.DataFrame, test: pl.DataFrame, **options) -> pl.DataFrame:
    """PREDICTIONS of ``test`` with intervals calibrated on ``train``."""
    weights = options.pop("ratios", None)
    made = Conformal(Zero, **options).calibrate(Zero(), LeftOut(train, ()))
    ends = made.around(test, Zero().predict(None, test), None, weights)
    return scored(test, ends["low"].to_numpy(), ends["high"].to_numpy())


def share(frame: pl.DataFrame, where: pl.Expr | None = None) -> float:
    inside = (pl.col("observed") >= pl.col("low")) & (pl.col("observed") <= pl.col("high"))
    return float(frame.filter(where if where is not None else pl.lit(True)).select(inside.mean()).item())


# ---- quantiles


def test_with_equal_weights_the_quantile_is_the_known_order_statistic() -> None:
    draw = np.random.default_rng(0)
    for n in (9, 10, 57, 199):
        r = draw.exponential(size=n)
        got = quantile(r, np.ones(n), 0.9, np.ones(1))[0]
        assert got == np.sort(r)[int(np.ceil(0.9 * (n + 1))) - 1]
    assert quantile(r[:8], np.ones(8), 0.9, np.ones(1))[0] == np.inf  # eight rows cannot promise 90 %
    assert least_groups(0.9) == 9 and least_groups(0.95) == 19
    assert effective(np.ones(7)) == 7 and effective(np.r_[1.0, np.zeros(6)]) == 1 and effective(np.zeros(3)) == 0


def test_a_row_that_weighs_nothing_is_as_good_as_absent() -> None:
    r, w = np.r_[np.arange(30.0), 1e6], np.r_[np.ones(30), 0.0]
    assert quantile(r, w, 0.9, np.ones(1))[0] == quantile(r[:30], w[:30], 0.9, np.ones(1))[0]
    heavy = quantile(r[:30], w[:30], 0.9, np.array([1.0, 3.0, 100.0]))
    assert heavy[0] <= heavy[1] and heavy[2] == np.inf  # a row like none before it has no finite interval


def test_weights_by_group_are_the_limit_of_subsampling_one_row_a_group() -> None:
    draw = np.random.default_rng(1)
    size = np.r_[np.full(10, 40), np.full(20, 2)]
    group = np.repeat(np.arange(30), size)
    r = draw.exponential(size=len(group)) * (1 + 2 * (group < 10))[np.arange(len(group))]
    exact = quantile(r, 1 / size[group], 0.9, np.ones(1))[0]
    start = np.r_[0, np.cumsum(size)[:-1]]
    picks = np.stack([r[start + draw.integers(0, size)] for _ in range(4000)])
    p_value = lambda t: (1 + (picks >= t).sum(1).mean()) / 31  # noqa: E731
    assert p_value(exact * 1.02) <= 0.1 + 0.01 and p_value(exact * 0.98) >= 0.1 - 0.01
    assert quantile(r, np.ones(len(r)), 0.9, np.ones(1))[0] > exact  # rows alike: the large, noisy groups rule


def test_cv_plus_by_sorting_by_bisection_and_by_brute_force_agree() -> None:
    draw = np.random.default_rng(2)
    n, m, parts = 23_000, 4, 5
    r, part, w = draw.exponential(size=n), draw.integers(0, parts, n), draw.uniform(0.5, 2, n)
    centres, scale = draw.normal(size=(m, parts)), draw.uniform(0.5, 2, m)
    need = 0.9 * (w.sum() + 1) * np.ones(m)
    got = upper(centres, scale, r, part, w, need)
    for i in range(m):
        ends = centres[i, part] + scale[i] * r
        order = np.argsort(ends)
        assert got[i] == pytest.approx(ends[order][np.searchsorted(np.cumsum(w[order]), need[i])], abs=1e-6)
    few = slice(0, 500)
    need = 0.9 * (w[few].sum() + 1) * np.ones(m)
    sorted_ = upper(centres, scale, r[few], part[few], w[few], need)
    ends = centres[0, part[few]] + scale[0] * r[few]
    order = np.argsort(ends)
    assert sorted_[0] == ends[order][np.searchsorted(np.cumsum(w[few][order]), need[0])]
    assert np.isinf(upper(centres, scale, r[few], part[few], w[few], need * 2)).all()


# ---- coverage of what is exchangeable


def test_exchangeable_lines_are_covered_as_promised_however_their_rows_depend() -> None:
    """120 worlds of 60 + 10 lines whose rows share an error: mean coverage is 90 % within Monte-Carlo error."""
    found = {"by drug": [], "lines alike": [], "cross, all rows": []}
    ways = {"by drug": {}, "lines alike": {"by": (), "grouped": True}, "cross, all rows": {"by": ()}}
    for seed in range(120):
        whole = rows(70, 6, seed, line_sd=1.0)
        here = pl.col("subject").is_in([f"line {i}" for i in range(60)])
        for name, options in ways.items():
            found[name].append(share(covered(whole.filter(here), whole.filter(~here), **options)))
    for name, values in found.items():
        error = np.std(values) / np.sqrt(len(values))
        # 55 / 61 is what 60 lines promise; rows alike are a little short of it
        assert np.mean(values) == pytest.approx(0.90, abs=3 * error + 0.012), name
    assert np.mean(found["lines alike"]) >= np.mean(found["cross, all rows"])


@pytest.mark.parametrize("method", ["split", "cross", "cv+"])
def test_every_method_covers_a_real_predictor_on_lines_it_never_saw(method: str) -> None:
    fold = Split.make(toy.write(subjects=150), "unseen subject", endpoint="ln_ic50", folds=2).fold(0)
    wrapped = Conformal(lambda: predictors.make("tissue_drug_mean"), method, by=(), grouped=True).fit(fold)
    told = score.unseal(predict.predictions(wrapped, fold), fold)
    plain = predict.predictions(predictors.make("tissue_drug_mean").fit(fold), fold)
    assert share(told) == pytest.approx(0.9, abs=0.06)
    if method != "split":  # the predictor itself is untouched
        assert told["predicted"].equals(plain["predicted"])
    assert (told["low"] <= told["predicted"]).all() and (told["predicted"] <= told["high"]).all()
    again = restore(wrapped.config(), wrapped.arrays()).predict(fold.study, fold.test)
    np.testing.assert_allclose(again["low"].to_numpy(), told["low"].to_numpy(), atol=1e-9)


def test_calibration_sees_training_rows_only_and_holds_whole_groups_out() -> None:
    study = toy.write()
    for rule, key in (("unseen subject", "subject"), ("unseen tissue", "tissue"), ("unseen treatment", "compound")):
        fold = Split.make(study, rule, endpoint="ln_ic50", folds=3).fold(0)
        out = left_out(lambda: predictors.make("global_mean"), fold, 3)
        assert set(out.rows["row"]) == set(fold.train["row"])
        assert out.rows.group_by("group").agg(pl.col("part").n_unique())["part"].max() == 1
        assert set(out.rows["group"]) == set(fold.train[key])
    alone = left_out(lambda: predictors.make("global_mean"), fold, 0)  # jackknife+: every compound by itself
    assert len(alone.models) == fold.train["compound"].n_unique()


def test_what_ridge_remembers_is_what_it_would_have_said() -> None:
    fold = Split.make(toy.write(), "unseen subject", endpoint="ln_ic50", folds=3).fold(0)
    ridge = predictors.make("ridge").fit(fold)
    kept = remembered(ridge, fold)
    assert kept is not None and set(kept.rows["group"]) <= set(fold.train["subject"])
    refitted = left_out(lambda: predictors.make("ridge"), fold, 0).rows
    both = kept.rows.join(refitted, on="row", suffix="_refitted")
    # refits choose penalties and scalers anew, so the answers are close, not equal
    assert both.select(pl.corr("predicted", "predicted_refitted")).item() > 0.99
    assert remembered(predictors.make("global_mean").fit(fold), fold) is None
    people = replace(fold, train=fold.train.with_columns(person=pl.lit("one patient")))
    assert remembered(ridge, people) is None


# ---- kinds of rows


def test_a_planted_noisy_drug_breaks_pooled_intervals_and_not_its_own() -> None:
    train, test = rows(200, 8, 0, loud=4.0), rows(200, 8, 1, loud=4.0, first=200)
    pooled, own = covered(train, test, by=()), covered(train, test)
    loud = pl.col("treatment") == "drug 0"
    assert share(pooled, loud) < 0.6 and share(own, loud) == pytest.approx(0.9, abs=0.06)
    found = coverage.table(pooled, ["treatment"])
    assert found.filter(verdict=coverage.BREAKS)["name"].to_list() == ["drug 0"]
    assert set(found.filter(pl.col("name") != "drug 0")["verdict"]) <= {coverage.WIDE, coverage.DOUBT, coverage.HOLDS}
    assert coverage.table(own, ["treatment"]).filter(verdict=coverage.BREAKS).is_empty()


def test_a_small_kind_falls_back_to_the_next_coarser_one() -> None:
    train, test = rows(90, 4, 3), rows(12, 4, 4, first=90)
    made = Conformal(Zero, by=("tissue", "treatment"), fewest=25).calibrate(Zero(), LeftOut(train, ()))
    told = made.around(test, Zero().predict(None, test))
    assert told["kind"][0] == "tissue 0 x drug 0" and told["groups"][0] == 30
    made.fewest = 31
    assert made.around(test, Zero().predict(None, test))["kind"][0] == "drug 0"
    strange = test.with_columns(treatment=pl.lit("never seen"), tissue=pl.lit("never seen"))
    told = made.around(strange, Zero().predict(None, strange))
    assert set(told["kind"]) == {"all rows"} and told["high"].is_finite().all()


def test_where_there_are_few_groups_in_all_a_coarser_kind_would_bring_no_more() -> None:
    """Fifteen tissues: a drug tried on twelve of them keeps its own intervals, one tried on eleven does not."""
    train = rows(15, 3, 2, loud=5.0).filter(
        (pl.col("treatment") != "drug 2") | pl.col("subject").is_in([f"line {i}" for i in range(11)])
    )
    train = train.filter((pl.col("treatment") != "drug 1") | pl.col("subject").is_in([f"line {i}" for i in range(12)]))
    made = Conformal(Zero).calibrate(Zero(), LeftOut(train, ()))
    told = made.around(rows(1, 3, 3), Zero().predict(None, rows(1, 3, 3)))
    assert told["kind"].to_list() == ["drug 0", "drug 1", "all rows"]
    assert told["groups"].to_list() == [15, 12, 15]


def test_difficulty_widens_where_a_tissue_is_harder() -> None:
    def harder(frame: pl.DataFrame) -> pl.DataFrame:
        times = pl.when(pl.col("tissue") == "tissue 1").then(3.0).otherwise(1.0)
        return frame.with_columns(pl.col("observed") * times)

    train, test = harder(rows(300, 5, 5)), harder(rows(300, 5, 6, first=300))
    plain, wise = covered(train, test), covered(train, test, normalised=True)
    hard = pl.col("tissue") == "tissue 1"
    assert share(plain, hard) < 0.82 and share(wise, hard) == pytest.approx(0.9, abs=0.04)
    assert share(wise) == pytest.approx(0.9, abs=0.03)
    widths = wise.select((pl.col("high") - pl.col("low")).mean().over("tissue").alias("w"), "tissue").unique("tissue")
    widths = dict(widths.select("tissue", "w").iter_rows())
    assert widths["tissue 1"] > 2 * widths["tissue 0"]


# ---- shift


def ratios(frame: pl.DataFrame, value) -> dict[str, float]:
    names = frame["subject"].unique(maintain_order=True).to_list()
    return {n: float(value(int(n.split()[1]))) for n in names}


def test_a_planted_shift_breaks_plain_intervals_and_the_true_ratios_mend_them() -> None:
    """One line in five is of the hard kind in training, four in five at test; ratios are known: 4 and 1/4."""

    def world(lines: int, hard: float, seed: int, first: int = 0) -> tuple[pl.DataFrame, dict[str, float]]:
        kinds = {f"line {first + i}": float(i % 10 < 10 * hard) for i in range(lines)}
        times = pl.col("subject").replace_strict(kinds, return_dtype=pl.Float64) * 2.0 + 1.0
        return rows(lines, 5, seed, first=first).with_columns(pl.col("observed") * times), kinds

    (train, a), (test, b) = world(400, 0.2, 1), world(400, 0.8, 2, 400)
    plain = covered(train, test, by=())
    true = shift.Ratios(
        {n: 4.0 if k else 0.25 for n, k in a.items()}, {n: 4.0 if k else 0.25 for n, k in b.items()}, 0.8, 0
    )
    weighted = covered(train, test, by=(), ratios=true)
    assert share(plain) < 0.8 and share(weighted) == pytest.approx(0.9, abs=0.035)
    found = [coverage.table(f, ["all"])["verdict"][0] for f in (plain, weighted)]
    assert found[0] == coverage.BREAKS and found[1] != coverage.BREAKS
    # lines that nothing in training resembles: no finite interval, and it is said why
    alone = shift.Ratios({n: 1.0 if i < 3 else 0.0 for i, n in enumerate(a)}, dict.fromkeys(b, 1.0), 1.0, 3)
    made = Conformal(Zero, by=()).calibrate(Zero(), LeftOut(train, ()))
    told = made.around(test, Zero().predict(None, test), None, alone)
    assert np.isinf(told["high"].to_numpy()).all() and told["groups"][0] == pytest.approx(3)
    assert set(told["kind"]) == {"none: too few effective groups"}


def test_ratios_see_a_planted_shift_of_expression_and_nothing_where_there_is_none() -> None:
    def moved(kind: str, names: list[str], x: np.ndarray) -> np.ndarray:
        if kind == "expression":
            x[100:, :20] += 1.5
        return x

    names = [f"subject {i:02d}" for i in range(200)]
    clean = shift.ratios(toy.write("clean", subjects=200).sealed(), names[:100], names[100:199])
    study = toy.write("moved", subjects=200, values=moved)
    there = shift.ratios(study.sealed(), names[:100], names[100:199])
    assert clean.auc == pytest.approx(0.5, abs=0.12) and clean.effective > 60
    assert there.auc > 0.9 and there.effective < 40
    far = shift.distances(study.sealed(), names[:100], [names[5], names[150], names[199]])
    assert far[names[150]] > far[names[5]]
    assert set(far) == {names[5], names[150]}  # the last one has no modality
    with pytest.raises(CalibrationError, match="at least 10 new lines with 'expression'; found 3"):
        shift.ratios(study.sealed(), names[:100], names[100:103])


def test_weighting_a_wrapped_predictor_changes_intervals_and_no_prediction() -> None:
    fold = Split.make(toy.write(subjects=80), "unseen subject", endpoint="ln_ic50", folds=2).fold(0)
    plain = Conformal(lambda: predictors.make("ridge"), by=(), fewest=10).fit(fold)
    weighted = Conformal(lambda: predictors.make("ridge"), by=(), fewest=10, weighted="expression")
    weighted.calibrate(plain.final_, remembered(plain.final_, fold))
    a, b = (w.explain(fold.study, fold.test) for w in (plain, weighted))
    assert a["predicted"].equals(b["predicted"]) and not a["low"].equals(b["low"])
    assert b["groups"].max() < a["groups"].max()  # effective lines are fewer
    assert a.filter(pl.col("predicted").is_null())["low"].null_count() == a["predicted"].null_count()


# ---- refusals


def test_too_few_groups_and_unknown_options_are_refused_by_name() -> None:
    few = rows(8, 5, 0)
    made = Conformal(Zero).calibrate(Zero(), LeftOut(few, ()))
    with pytest.raises(CalibrationError, match="at least 9 calibration groups; found 8"):
        made.around(few, Zero().predict(None, few))
    with pytest.raises(CalibrationError, match=r"method is one of .*'cv\+'.*found 'cv'"):
        Conformal(Zero, "cv")
    with pytest.raises(CalibrationError, match=r"by names .*found 'drug'"):
        Conformal(Zero, by=("drug",))
    with pytest.raises(CalibrationError, match="level lies between 0 and 1; found 90"):
        Conformal(Zero, level=90)
    fold = Split.make(toy.write(), "unseen treatment", endpoint="ln_ic50", folds=3).fold(0)
    with pytest.raises(CalibrationError, match="abstained on every training row"):
        left_out(lambda: predictors.make("ridge"), fold, 3)
    with pytest.raises(CalibrationError, match="hold is one of"):
        left_out(lambda: predictors.make("global_mean"), fold, 3, hold="unseen line")


# ---- the monitor


def test_a_drug_is_judged_by_the_exact_binomial_interval() -> None:
    frame = rows(40, 2, 0).with_columns(
        observed=pl.when(pl.col("subject").is_in(["line 1", "line 2"])).then(9.0).otherwise(0.0)
    )
    one = coverage.table(scored(frame, -1.0, 1.0), ["treatment"]).row(0, named=True)
    assert (one["n"], one["units"], one["covered"]) == (40, 40, 0.95) and one["above"] == pytest.approx(0.05)
    assert one["low"] == pytest.approx(0.8308, abs=1e-4) and one["high"] == pytest.approx(0.9939, abs=1e-4)
    assert one["verdict"] == coverage.HOLDS and one["width"] == pytest.approx(2.0)


def test_rows_of_one_line_do_not_count_as_many() -> None:
    """Every tenth line misses in all its 50 rows: 90 % of rows, but an interval as wide as 60 lines give."""
    frame = rows(60, 50, 0).with_columns(
        observed=pl.when(pl.col("subject").str.split(" ").list.get(1).cast(pl.Int64) % 10 == 0).then(9.0).otherwise(0.0)
    )
    one = coverage.table(scored(frame, -1.0, 1.0), ["all"]).row(0, named=True)
    assert one["covered"] == pytest.approx(0.9) and one["high"] - one["low"] > 0.12
    assert one["verdict"] == coverage.HOLDS


def test_a_clean_study_raises_no_flag_and_a_planted_tissue_is_named() -> None:
    z = 1.6448536269514722
    flags, looked = 0, 0
    for seed in range(12):
        frame = rows(240, 20, seed, line_sd=0.5)
        clean = scored(frame, -z * np.sqrt(1.25), z * np.sqrt(1.25))
        found = coverage.table(clean, distance={f"line {i}": float(i) for i in range(240)})
        assert set(found["by"]) == {"all", "fold", "tissue", "treatment", "distance"}  # a constant has no fifths
        flags += found.filter(pl.col("verdict").is_in([coverage.BREAKS, coverage.WIDE]))["by"].n_unique()
        looked += found.height
    assert looked == 12 * 34 and flags <= 6  # of 60 kinds in clean studies one in twenty may be called
    worse = pl.when(pl.col("tissue") == "tissue 2").then(1.6).otherwise(1.0)
    planted = scored(frame.with_columns(pl.col("observed") * worse), -z * np.sqrt(1.25), z * np.sqrt(1.25))
    found = coverage.table(planted, ["tissue", "treatment"])
    assert found.filter(by="tissue", verdict=coverage.BREAKS)["name"].to_list() == ["tissue 2"]


def test_fifths_of_prediction_are_those_of_each_drug() -> None:
    frame = rows(100, 3, 0).with_columns(predicted=pl.col("row").cast(pl.Float64))
    told = coverage.table(scored(frame, -9.0, 9.0), ["predicted"])
    assert told["name"].to_list()[0] == "most sensitive fifth" and told["n"].to_list() == [60] * 5
    with pytest.raises(ValueError, match=r"coverage goes by .*'tissues'"):
        coverage.table(scored(frame, -9.0, 9.0), ["tissues"])
    with pytest.raises(ValueError, match="still sealed"):
        coverage.table(scored(frame, -9.0, 9.0).with_columns(observed=pl.lit(None, pl.Float64)))


def test_too_few_lines_are_not_judged_and_infinite_intervals_are_counted() -> None:
    frame = scored(rows(4, 30, 0), -np.inf, np.inf)
    one = coverage.table(frame, ["all"]).row(0, named=True)
    assert (one["verdict"], one["covered"], one["unbounded"], one["width"]) == (coverage.FEW, 1.0, 1.0, None)


# ---- lines that come in


def test_capital_stays_low_while_lines_are_alike_and_grows_after_a_planted_change() -> None:
    alarms = 0
    for seed in range(40):
        before, after = (
            scored(rows(100, 6, s, line_sd=0.5, first=f), -2.0, 2.0) for s, f in ((seed, 0), (1000 + seed, 100))
        )
        alarms += bool(martingale.watch(before, after)["alarm"].any())
    assert alarms <= 4  # at most one in twenty is promised
    louder = scored(rows(100, 6, 7, line_sd=0.5, first=100).with_columns(pl.col("observed") * 2), -2.0, 2.0)
    watched = martingale.watch(before, louder)
    assert watched["alarm"].any() and watched["capital"].max() > 1e3
    assert watched["alarm"].arg_max() < 60 and watched["subject"][0] == "line 100" and watched["rows"][0] == 6
    with pytest.raises(ValueError, match="incoming: no row has a finite interval"):
        martingale.watch(before, after.with_columns(observed=pl.lit(None, pl.Float64)))


@toy.lightning_warnings
def test_a_predictor_that_lightning_trains_is_wrapped_like_any_other() -> None:
    fold = Split.make(toy.write(subjects=80), "unseen subject", endpoint="ln_ic50", folds=2).fold(0)
    small = {"members": 2, "width": 8, "rank": 8, "epochs": 1}
    wrapped = Conformal(lambda: predictors.make("drug_response", **small), "split", by=(), parts=2).fit(fold)
    told = wrapped.explain(fold.study, fold.test)
    spoke = told.filter(pl.col("abstained").is_null())
    assert spoke.height and (spoke["low"] < spoke["high"]).all()
    assert spoke["groups"].unique().to_list() == [19]  # half of 40 training lines, one of them without any modality
