"""The ceiling: planted screens of known reliability, drugs of pure noise."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.stats import pearsonr, spearmanr

from tests import toy
from workbench import ceiling, score, tables
from workbench.ceiling import _three, shown
from workbench.sources import gdsc
from workbench.splits import Split

LINES, FOLDS = 400, 2
DRUGS = [f"drug {i}" for i in range(8)]


def screens(
    rel: tuple[float, float] = (0.6, 0.6),
    rho: float = 0.7,
    *,
    learnt: float = 0.0,
    seed: int = 0,
    change: Callable[[dict[str, np.ndarray]], None] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pairs of two screens with reliabilities ``rel``, and predictions that correlate with the truth at ``rho``.

    ``learnt``: how much of the first screen's error the predictor knows. The truth has variance 1 for every drug.
    """  # fmt: skip
    draw = np.random.default_rng([77, seed])
    shape = (LINES, len(DRUGS))
    truth = draw.normal(size=shape)
    error = [draw.normal(size=shape) * np.sqrt(1 / r - 1) for r in rel]
    parts = {
        "value": truth + error[0],
        "other_value": 2 * (truth + error[1]) + 5,  # another scale, another level
        "predicted": rho * truth + np.sqrt(1 - rho**2) * draw.normal(size=shape) + learnt * error[0],
    }
    if change is not None:
        change(parts)
    level = np.arange(len(DRUGS)) - 3.0
    line, drug = (i.ravel() for i in np.indices(shape))
    frame = pl.DataFrame({
        "study": "one", "other": "two", "endpoint": "ln_ic50", "unit": "ln(uM)", "row": np.arange(len(line)),
        "subject": [f"line {i:03d}" for i in line], "treatment": [DRUGS[i] for i in drug],
        "compound": [DRUGS[i] for i in drug], "other_treatment": [DRUGS[i] for i in drug],
        "value": (parts["value"] + level).ravel(), "other_value": (parts["other_value"] - level).ravel(),
    })  # fmt: skip
    predictions = frame.select(
        pl.lit("ridge").alias("predictor"), pl.lit("unseen subject").alias("split"),
        pl.Series("fold", line % FOLDS, dtype=pl.Int32), "row", "subject", "treatment",
        pl.lit("tissue").alias("tissue"), "endpoint", "unit",
        pl.Series("predicted", (parts["predicted"] + level).ravel()), pl.lit(None, pl.Float64).alias("low"),
        pl.lit(None, pl.Float64).alias("high"), pl.lit(0.9).alias("level"), pl.lit(None, pl.String).alias("abstained"),
        pl.Series("baseline", level[drug]), pl.col("value").alias("observed"), pl.lit(0, pl.Int8).alias("censored"),
    )  # fmt: skip
    return frame, tables.check(predictions, tables.PREDICTIONS)


def whole(shares: pl.DataFrame, metric: str = "per-drug Pearson") -> dict[str, float]:
    return shares.filter(pl.col("metric") == metric).row(0, named=True)


# --- how far two screens agree ---------------------------------------------------------------------------------------


def test_the_agreement_is_that_of_scipy() -> None:
    pairs, _ = screens()
    frame = ceiling.of_pairs(pairs, draws=50)
    for drug in DRUGS[:3]:
        a, b = (pairs.filter(pl.col("treatment") == drug)[c].to_numpy() for c in ("value", "other_value"))
        wanted = {
            "Pearson": pearsonr(a, b)[0],
            "Spearman": spearmanr(a, b)[0],
            "RMSE": np.sqrt(np.mean((a - b) ** 2)),
            "shift": np.mean(b - a),
        }
        found = {r["metric"]: r for r in frame.filter(pl.col("treatment") == drug).iter_rows(named=True)}
        assert set(found) == set(wanted)
        for metric, value in wanted.items():
            assert found[metric]["value"] == pytest.approx(value, abs=1e-9), metric
            assert found[metric]["low"] < value < found[metric]["high"] and found[metric]["n"] == LINES
            assert found[metric]["unit"] == ("ln(uM)" if metric in ("RMSE", "shift") else "")
    over = {r["metric"]: r["value"] for r in frame.filter(pl.col("treatment").is_null()).iter_rows(named=True)}
    a, b = pairs["value"].to_numpy(), pairs["other_value"].to_numpy()
    assert over["Pearson"] == pytest.approx(pearsonr(a, b)[0], abs=1e-9)
    centred = pairs.select(pl.col(c) - pl.col(c).mean().over("treatment") for c in ("value", "other_value"))
    assert over["normalised Pearson"] == pytest.approx(pearsonr(*centred.to_numpy().T)[0], abs=1e-9)
    each = frame.filter(pl.col("metric") == "Pearson", pl.col("treatment").is_not_null())["value"]
    assert over["per-drug Pearson"] == pytest.approx(each.mean(), abs=1e-9)


def test_the_levels_of_drugs_are_no_agreement() -> None:
    def noise(parts: dict[str, np.ndarray]) -> None:
        parts["other_value"][:] = np.random.default_rng(0).normal(size=parts["value"].shape)

    pairs, _ = screens(change=noise)
    pairs = pairs.with_columns(other_value=pl.col("other_value") * 0.1 + pl.col("treatment").str.tail(1).cast(pl.Int8))
    over = ceiling.of_pairs(pairs, draws=100).filter(pl.col("treatment").is_null())
    values = dict(over.select("metric", "value").iter_rows())
    assert values["Pearson"] > 0.8 and abs(values["normalised Pearson"]) < 0.05


def test_few_shared_lines_have_no_correlation_but_a_distance() -> None:
    pairs = screens()[0].filter((pl.col("treatment") != "drug 0") | (pl.col("row") < 8 * 4))
    frame = ceiling.of_pairs(pairs, draws=50).filter(pl.col("treatment") == "drug 0")
    values = dict(frame.select("metric", "value").iter_rows())
    assert values["Pearson"] is values["Spearman"] is None and values["RMSE"] > 0


@pytest.mark.parametrize("rel", [(0.5, 0.5), (0.8, 0.8)])
def test_the_planted_reliability_lies_in_the_interval(rel: tuple[float, float]) -> None:
    hits = []
    for seed in range(6):
        frame = ceiling.of_pairs(screens(rel, seed=seed)[0], draws=200).filter(
            pl.col("metric") == "Pearson", pl.col("treatment").is_not_null()
        )
        hits += [low <= rel[0] <= high for low, high in frame.select("low", "high").iter_rows()]
    assert 0.85 <= np.mean(hits) <= 1.0


# --- the share of a predictor ----------------------------------------------------------------------------------------


def test_the_score_of_a_drug_is_that_of_the_metrics() -> None:
    pairs, predictions = screens()
    metrics, _ = score.evaluate(predictions.with_columns(low=pl.lit(0.0), high=pl.lit(1.0)), [], draws=20)
    wanted = metrics.filter(fold="all", metric="per-drug Pearson")["value"][0]
    shares = ceiling.beside(predictions, pairs, draws=50)
    drugs = shares.filter(pl.col("treatment").is_not_null())
    assert drugs["score"].mean() == pytest.approx(wanted, abs=1e-9)
    assert whole(shares)["score"] == pytest.approx(wanted, abs=1e-9)
    wanted = metrics.filter(fold="all", metric="normalised Pearson")["value"][0]
    assert whole(shares, "normalised Pearson")["score"] == pytest.approx(wanted, abs=1e-9)
    assert drugs["n"].to_list() == drugs["shared"].to_list() == [LINES] * len(DRUGS)
    assert set(shares["study"]) == {"one"} and set(shares["other"]) == {"two"}


def test_equally_reliable_screens_give_the_planted_correlation_back() -> None:
    hits = []
    for seed in range(6):
        pairs, predictions = screens((0.6, 0.6), 0.7, seed=seed)
        shares = ceiling.beside(predictions, pairs, draws=200)
        drugs = shares.filter(pl.col("treatment").is_not_null())
        assert drugs["reason"].null_count() == drugs.height
        hits += [low <= 0.7 <= high for low, high in drugs.select("corrected_low", "corrected_high").iter_rows()]
        for metric in ("per-drug Pearson", "normalised Pearson"):
            row = whole(shares, metric)
            assert row["score"] == pytest.approx(0.7 * np.sqrt(0.6), abs=0.05), "a score is attenuated"
            assert row["ceiling"] == pytest.approx(np.sqrt(0.6), abs=0.03)
            for kind in ("corrected", "corrected_elsewhere", "triad"):
                assert row[kind] == pytest.approx(0.7, abs=0.05), (metric, kind)
                assert row[f"{kind}_low"] < row[kind] < row[f"{kind}_high"]
    assert 0.85 <= np.mean(hits) <= 1.0


def test_unequal_screens_mislead_all_but_the_triad() -> None:
    row = whole(ceiling.beside(*reversed(screens((0.9, 0.4), 0.6)), draws=200))
    assert row["corrected_low"] > 0.65 and row["corrected_elsewhere_high"] < 0.56
    assert row["triad_low"] < 0.6 < row["triad_high"]


def test_what_is_peculiar_to_a_screen_raises_the_share_there_alone() -> None:
    row = whole(ceiling.beside(*reversed(screens((0.6, 0.6), 0.7, learnt=0.8)), draws=200))
    truth = 0.7 / np.sqrt(1 + 0.64 * (1 / 0.6 - 1))
    assert row["corrected_low"] > truth + 0.2
    assert row["corrected_elsewhere_low"] < truth < row["corrected_elsewhere_high"]


def seen_there(other: np.ndarray, what: np.ndarray) -> np.ndarray:
    """The part of ``what`` that goes with ``other``."""
    other = other - other.mean()
    return what.mean() + other * (other @ what) / (other @ other)


def faults(parts: dict[str, np.ndarray]) -> None:
    draw = np.random.default_rng(6)
    n = len(parts["value"])
    parts["value"][:, 0], parts["other_value"][:, 0] = draw.normal(size=n), draw.normal(size=n)  # noise all through
    parts["predicted"][:, 0] = draw.normal(size=n)
    parts["predicted"][:, 1] = draw.normal(size=n)  # the screens agree, the model knows nothing
    parts["other_value"][:, 2] = draw.normal(size=n)  # the model knows this screen, the other saw something else
    seen, noise = parts["value"][:, 3], draw.normal(size=n)
    noise -= seen * (noise @ seen) / (seen @ seen)
    parts["other_value"][:, 3] = 0.16 * seen / seen.std() + noise  # agreement above 0, under the floor
    error = parts["value"][:, 4] - parts["other_value"][:, 4] / 2  # what only this screen saw, and the model learnt
    error -= seen_there(parts["other_value"][:, 4], error)
    parts["predicted"][:, 4] = error


def test_drugs_that_fail_are_named_and_the_two_reasons_told_apart() -> None:
    pairs, predictions = screens((0.8, 0.8), 0.8, change=faults)
    shares = ceiling.beside(predictions, pairs, draws=300)
    said = dict(ceiling.verdicts(shares).select("treatment", "verdict").iter_rows())
    assert said["drug 0"] == "nobody predicts it, and the screens do not agree on it"
    assert said["drug 1"] == "nobody predicts it"
    assert said["drug 2"] == said["drug 3"] == "predicted here, but the screens do not agree on it"
    assert said["drug 4"] == "predicted here, but not in the other study"
    assert {said[d] for d in DRUGS[5:]} == {"predicted"}
    rows = {r["treatment"]: r for r in shares.iter_rows(named=True) if r["treatment"]}
    for drug in ("drug 0", "drug 2"):
        assert rows[drug]["reason"] == "the interval of the agreement includes 0"
    assert rows["drug 3"]["agreement_low"] > 0
    assert rows["drug 3"]["reason"] == f"the screens agree at {rows['drug 3']['agreement']:.2f}, under 0.20"
    for drug in ("drug 0", "drug 2", "drug 3"):
        assert all(rows[drug][c] is None for c in ("ceiling", "corrected", "corrected_low", "triad", "triad_high"))
        assert rows[drug]["score"] is not None and rows[drug]["agreement"] is not None
    assert rows["drug 1"]["reason"] is None and rows["drug 1"]["corrected_low"] < 0 < rows["drug 1"]["corrected_high"]
    assert whole(shares)["n"] == LINES * 5, "means over drugs are over those with a ceiling"


def test_one_who_predicts_it_is_enough() -> None:
    pairs, predictions = screens((0.8, 0.8), 0.8, change=faults)
    knows = predictions.with_columns(
        pl.lit("other").alias("predictor"),
        pl.when(pl.col("treatment") == "drug 1").then("observed").otherwise("baseline").alias("predicted"),
    )
    named = ceiling.verdicts(ceiling.beside(pl.concat([predictions, knows]), pairs, draws=100))
    row = named.filter(pl.col("treatment") == "drug 1").row(0, named=True)
    assert (row["verdict"], row["predictor"]) == ("predicted", "other") and row["score"] == pytest.approx(1)


def test_a_drug_the_other_study_lacks_has_a_score_and_a_reason() -> None:
    pairs, predictions = screens()
    shares = ceiling.beside(predictions, pairs.filter(pl.col("treatment") != "drug 5"), draws=50)
    row = shares.filter(pl.col("treatment") == "drug 5").row(0, named=True)
    assert row["score"] > 0.4 and row["agreement"] is None and row["shared"] == 0
    assert row["reason"] == "measured in both studies on fewer than five lines"
    said = ceiling.verdicts(shares).filter(pl.col("treatment") == "drug 5").row(0, named=True)
    assert (said["agree"], said["there"], said["verdict"]) == (None, None, "predicted here, and measured nowhere else")
    assert "drug 5" not in shown.of_drugs(ceiling.verdicts(shares)), "no repeat is no failure"


def test_one_screen_processed_twice_is_no_repeat() -> None:
    pairs, predictions = screens((0.6, 0.6))
    draw = np.random.default_rng(1).normal(0, 0.1, pairs.height)
    twice = pairs.with_columns(other_value=pl.col("value") + draw)
    shares = ceiling.beside(predictions, twice, draws=50)
    said = shares.filter(pl.col("metric") != "per-drug Pearson")["reason"]
    assert all("one screen processed twice is no repeat" in r for r in said) and len(said) == len(DRUGS) + 1
    assert whole(shares)["reason"] == "no drug has a ceiling"
    assert shares["corrected"].null_count() == shares.height and shares["score"].null_count() == 1  # mean over no drug
    assert "agree too well to be two screens" in shown.agreement(ceiling.of_pairs(twice, draws=30))
    assert "agree too well" not in shown.agreement(ceiling.of_pairs(pairs, draws=30))


def test_an_unseen_compound_has_no_normalised_share_and_abstentions_do_not_count() -> None:
    pairs, predictions = screens()
    silent = predictions.with_columns(
        pl.lit("unseen treatment").alias("split"),
        pl.when(pl.col("treatment") == "drug 7").then(None).otherwise("predicted").alias("predicted"),
    )
    shares = ceiling.beside(silent, pairs, draws=50)
    assert "normalised Pearson" not in shares["metric"].to_list()
    row = shares.filter(pl.col("treatment") == "drug 7").row(0, named=True)
    assert (row["n"], row["score"]) == (0, None) and row["reason"] == "fewer than five answers in every fold"


def test_predictions_of_other_rows_are_refused() -> None:
    pairs, predictions = screens()
    for wrong in (
        predictions.with_columns(pl.col("observed") + 0.1),
        predictions.with_columns(observed=pl.lit(None, pl.Float64)),
        predictions.with_columns(pl.col("row") + 10**6),
    ):
        with pytest.raises(ValueError, match="not of the same rows"):
            ceiling.beside(wrong, pairs, draws=20)
    two = pl.concat([predictions, predictions.with_columns(pl.lit("unseen pair").alias("split"))])
    with pytest.raises(ValueError, match="one split at a time"):
        ceiling.beside(two, pairs, draws=20)


def test_three_screens_tell_which_is_the_noisier(monkeypatch: pytest.MonkeyPatch) -> None:
    rel = (0.8, 0.5, 0.3)
    studies = [toy.write(f"s{i}", seed=i) for i in range(3)]
    first, _ = screens(rel[:2], seed=3)
    truth = np.random.default_rng([77, 3]).normal(size=(LINES, len(DRUGS)))  # as the two screens saw it
    noise = np.random.default_rng(8).normal(size=truth.shape) * np.sqrt(1 / rel[2] - 1)
    second = first.with_columns(other_value=pl.Series((truth + noise).ravel() * 3 + 1))
    monkeypatch.setattr(_three, "shared_pairs", lambda a, b, e: first if b is studies[1] else second)
    found = ceiling.reliabilities(tuple(studies), "ln_ic50", draws=200)
    assert found["study"].to_list() == ["s0", "s1", "s2"] and set(found["drugs"]) == {len(DRUGS)}
    for planted, row in zip(rel, found.iter_rows(named=True), strict=True):
        assert row["low"] < planted < row["high"] and row["high"] - row["low"] < 0.2
        assert row["ceiling"] == pytest.approx(np.sqrt(row["reliability"]))
    assert "0.8" in shown.of_three(found) and "3,200 pairs of 8 drugs" in shown.of_three(found)
    apart = second.with_columns(other_value=-pl.col("other_value"))
    monkeypatch.setattr(_three, "shared_pairs", lambda a, b, e: first if b is studies[1] else apart)
    assert ceiling.reliabilities(tuple(studies), "ln_ic50", draws=50)["reliability"].null_count() == 3
    with pytest.raises(ValueError, match="three studies are needed"):
        ceiling.reliabilities((studies[0], studies[1], studies[1]), "ln_ic50")


# --- the verb --------------------------------------------------------------------------------------------------------


def test_the_verb_prints_the_agreement_and_writes_it(tmp_path, capsys) -> None:
    toy.write("gdsc2", noise=0.5)
    toy.write("gdsc1", outcomes=lambda f: f.with_columns(
        value=pl.col("value") + np.random.default_rng(3).normal(0, 0.5, f.height)))  # fmt: skip
    assert shown.main(["--draws", "50", "--json", str(tmp_path / "c.json")]) == 0
    told = capsys.readouterr().out
    rows = json.loads((tmp_path / "c.json").read_text())["ceiling"]
    whole = next(r for r in rows if r["treatment"] is None and r["metric"] == "normalised Pearson")
    assert f"{whole['value']:.3f} (" in told and "gdsc2 and gdsc1 share" in told and "caffeine" in told
    assert shown.main(["--study", "gdsc2", "--other", "gdsc2"]) == 1
    assert "same study" in capsys.readouterr().err
    assert shown.main(["--study", "nowhere"]) == 1
    assert "no study 'nowhere'" in capsys.readouterr().err
    assert shown.main(["--nonsense"]) == 2


def test_shares_and_verdicts_as_text() -> None:
    pairs, predictions = screens((0.8, 0.8), 0.8, change=faults)
    flat = predictions.with_columns(pl.lit("drug_mean").alias("predictor"), predicted="baseline")
    shares = ceiling.beside(pl.concat([predictions, flat]), pairs, draws=60)
    told = shown.of_predictors(shares)
    assert "nothing to correlate: drug_mean" in told and "ridge" in told and "(two)" in told
    assert f"{whole(shares)['corrected']:.3f}" in told
    drugs = shown.of_drugs(ceiling.verdicts(shares), most=2)
    assert "3  predicted\n" in drugs and "drug 1: nobody predicts it (best ridge" in drugs and "and 3 more" in drugs


# --- the real screens ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.index
def test_gdsc1_and_gdsc2_agree_as_is_known() -> None:
    """90,833 pairs of the 933 lines with expression; epirubicin in one is not doxorubicin in the other."""
    one, two = (gdsc.build(s, progress=False) for s in ("gdsc1", "gdsc2"))
    frame = ceiling.agreement(two, one, "ln_ic50", draws=200)
    over = {r["metric"]: r for r in frame.filter(pl.col("treatment").is_null()).iter_rows(named=True)}
    assert over["Pearson"]["n"] == 90_833
    assert over["normalised Pearson"]["value"] == pytest.approx(0.506, abs=5e-4)
    assert over["per-drug Pearson"]["value"] == pytest.approx(0.470, abs=5e-4)
    drugs = dict(frame.filter(pl.col("metric") == "Pearson").select("treatment", "value").iter_rows())
    assert drugs["Trametinib"] == pytest.approx(0.755, abs=1e-3) and drugs["GW441756"] == pytest.approx(0.177, abs=1e-3)
    assert len(drugs) - 1 == 126 and "Epirubicin" not in drugs
    assert Split.make(two, "unseen subject", endpoint="ln_ic50").folds  # the pairs' rows are those a split divides
