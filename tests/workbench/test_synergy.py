"""Combinations with a planted answer: a drug with itself, independent drugs, a hole of synergy, a rescue."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from workbench.assays import synergy

DOSES = np.r_[0, np.geomspace(0.01, 10, 7)]
A, B = (v.ravel() for v in np.meshgrid(DOSES, DOSES, indexing="ij"))
BOTH = (A > 0) & (B > 0)


def drug(dose: np.ndarray, ec50: float = 0.5, hill: float = 1.3, bottom: float = 0.05) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 1 + (bottom - 1) / (1 + (ec50 / dose) ** hill)


INDEPENDENT = drug(A) * drug(B, 1.0, 0.8, 0.2)


def judged(y: np.ndarray, **options: int) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    repeats = len(y) // len(A)
    cells, summary = synergy.combination(np.tile(A, repeats), np.tile(B, repeats), y, **options)
    return cells, {row["model"]: row for row in summary.iter_rows(named=True)}


@pytest.mark.parametrize("potency", [1.0, 4.0])
def test_a_drug_with_itself_has_loewe_excess_zero(potency: float) -> None:
    """Also where the second is the first, diluted."""
    cells, summary = judged(drug(A + B / potency), draws=20)
    assert cells["excess_loewe"].abs().max() < 1e-6  # type: ignore[operator]
    assert summary["loewe"]["verdict"] == "none shown"
    assert cells["excess_bliss"].abs().max() > 0.05, "the other models would call it an interaction"  # type: ignore[operator]


def test_independent_drugs_have_bliss_and_zip_excess_zero() -> None:
    cells, summary = judged(INDEPENDENT, draws=20)
    for model in ("bliss", "zip"):
        assert cells[f"excess_{model}"].abs().max() < 1e-6  # type: ignore[operator]
        assert summary[model]["verdict"] == "none shown"
    assert cells.height == 49 and cells["expected_hsa"].to_numpy() == pytest.approx(
        np.minimum(drug(A), drug(B, 1.0, 0.8, 0.2))[BOTH]
    )


@pytest.mark.parametrize(("sign", "verdict"), [(-1, "synergy"), (1, "antagonism")])
def test_a_planted_interaction_is_found_where_it_lies(sign: int, verdict: str) -> None:
    draw = np.random.default_rng(0)
    with np.errstate(divide="ignore"):
        hole = BOTH * np.exp(-(np.log10(A / DOSES[4]) ** 2) - np.log10(B / DOSES[4]) ** 2)
    y = np.tile(INDEPENDENT + sign * 0.2 * hole, 3)
    _, summary = judged(y + draw.normal(0, 0.02, len(y)))
    for model in ("bliss", "zip"):
        assert summary[model]["verdict"] == verdict
        # a bump is no logistic curve: the fitted surface of ZIP cannot follow all of a rescue
        slack = 2.0 if (model, sign) == ("zip", 1) else 0.7
        assert summary[model]["mean_excess_percent"] == pytest.approx(-sign * 20 * hole[BOTH].mean(), abs=slack)
    if sign < 0:
        assert (summary["zip"]["max_dose_a"], summary["zip"]["max_dose_b"]) == pytest.approx(
            (DOSES[4], DOSES[4]), rel=3
        )
        assert summary["bliss"]["max_excess_percent"] == pytest.approx(20, abs=6)


@pytest.mark.parametrize("repeats", [1, 3])
def test_intervals_hold_zero_where_nothing_was_planted(repeats: int) -> None:
    """95 % intervals of the mean excess over 60 matrices hold it 80 times in 100 at least, and are not too wide."""
    draw = np.random.default_rng(repeats)
    held: dict[str, list[bool]] = {"bliss": [], "zip": [], "loewe": []}
    for i in range(60):
        for truth, models in ((INDEPENDENT, ("bliss", "zip")), (drug(A + B / 2), ("loewe",))):
            y = np.tile(truth, repeats)
            _, summary = judged(y + draw.normal(0, 0.03, len(y)), draws=100, seed=i)
            for model in models:
                held[model].append(summary[model]["low"] <= 0 <= summary[model]["high"])
                assert summary[model]["high"] - summary[model]["low"] < 8
    assert {m: np.mean(h) > 0.8 for m, h in held.items()} == dict.fromkeys(held, True)


def test_a_drug_that_does_nothing_adds_nothing() -> None:
    cells, _ = judged(drug(A) * np.ones_like(B), draws=5)
    for model in synergy.MODELS:
        assert cells[f"excess_{model}"].abs().max() < 2e-3, model  # type: ignore[operator]


def test_two_doses_of_a_drug_alone_are_too_few_for_the_fitted_models() -> None:
    keep = np.isin(B, DOSES[[0, 3, 5]])
    cells, summary = synergy.combination(A[keep], B[keep], INDEPENDENT[keep], draws=10)
    verdicts = dict(summary.select("model", "verdict").rows())
    assert verdicts["loewe"] == verdicts["zip"] == "cannot be said"
    assert cells["excess_loewe"].null_count() == cells.height
    assert cells["excess_bliss"].abs().max() < 1e-9  # type: ignore[operator]


def test_what_is_missing_is_refused() -> None:
    with pytest.raises(synergy.SynergyError, match=r"no point of drug B alone"):
        synergy.combination(A[B == 0], B[B == 0], INDEPENDENT[B == 0])
    with pytest.raises(synergy.SynergyError, match=r"no point of both"):
        synergy.combination(A[~BOTH], B[~BOTH], INDEPENDENT[~BOTH])
    with pytest.raises(synergy.SynergyError, match=r"point 3: .*found nan at \(0\.0, "):
        synergy.combination(A, B, np.where(np.arange(64) == 3, np.nan, INDEPENDENT))


def test_a_frame_of_matrices_gives_four_rows_each() -> None:
    frame = pl.DataFrame({"dose": A * 1000, "dose_b": B, "value": 100 * INDEPENDENT}).with_columns(
        endpoint=pl.lit("viability"), unit=pl.lit("%"), dose_unit=pl.lit("nM"), dose_b_unit=pl.lit("uM"),
        treatment=pl.lit("x"), treatment_b=pl.lit("y"),
    )  # fmt: skip
    two = pl.concat([frame.with_columns(subject=pl.lit(s)) for s in ("s2", "s1")])
    table = synergy.from_outcomes(two, draws=20)
    assert table["subject"].to_list() == ["s1"] * 4 + ["s2"] * 4
    assert table["model"].to_list()[:4] == list(synergy.MODELS)
    assert table.filter(pl.col("model") == "hsa")["max_dose_a"][0] in [pytest.approx(d) for d in DOSES]
    with pytest.raises(synergy.SynergyError, match="column 'dose_b' is missing"):
        synergy.from_outcomes(two.drop("dose_b"))
    with pytest.raises(synergy.SynergyError, match=r"matrix .*'subject': 's1'.*alone"):
        synergy.from_outcomes(two.filter((pl.col("dose") > 0) | (pl.col("subject") == "s2")))
