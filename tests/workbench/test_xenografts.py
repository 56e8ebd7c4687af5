"""Tumours in mice: planted mutations that decide a response, noise, patients held out whole, and the real ones."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests.real import shared
from workbench import folders, home, tables
from workbench.study import Study, write_study
from workbench.translate import command, concordance, lines_to_mice, xenografts

PATIENTS, GENES = 90, 12
TREATMENTS = ("trametinib", "paclitaxel", "untreated")
TYPES = ("BRCA", "NSCLC")


def carriers(seed: int, n: int) -> np.ndarray:
    return (np.random.default_rng([seed, 8]).random((n, GENES)) < 0.3).astype(np.uint8)


def mice(seed: int = 0, effect: float = 20.0) -> Study:
    """Two animals a patient and treatment; gene 0 decides the response to trametinib, nothing decides the others."""
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    mutated = carriers(seed, PATIENTS)
    patients = [f"X-{i:04d}" for i in range(PATIENTS)]
    animals, calls = [], []
    for j, treatment in enumerate(TREATMENTS):
        for i, patient in enumerate(patients):
            lean = effect * (mutated[i, 0] - 0.3) if j == 0 else 0.0
            responds = rng.logistic() + lean > 0
            calls.append((treatment, patient, "PR" if responds else "PD"))
            animals.append((f"{patient}.{j}", treatment, patient, TYPES[i % 2]))
    names = [a[0] for a in animals]
    data = AnnData(np.repeat(mutated[None], len(TREATMENTS), axis=0).reshape(-1, GENES))
    data.obs_names, data.var_names = names, [f"GENE{g}" for g in range(GENES)]
    data.obs["patient"] = [a[2] for a in animals]
    data.uns = {"axis": "subject", "unit": "0/1"}
    outcomes = pl.DataFrame({"subject": names, "treatment": [a[1] for a in animals]}).with_columns(
        site=pl.lit("here"), dose=pl.lit(None, pl.Float64), dose_unit=pl.lit(None, pl.String), time_h=pl.lit(0.0),
        endpoint=pl.lit("tumour_volume"), value=pl.lit(200.0), unit=pl.lit("mm3"), censored=pl.lit(0, pl.Int8),
        source=pl.lit("made up"),
    )  # fmt: skip
    return write_study(
        home.studies() / "mice",
        outcomes=tables.check(outcomes, tables.OUTCOMES),
        subjects=pl.DataFrame(
            {"subject": names, "tissue": [a[3] for a in animals], "patient": [a[2] for a in animals]}
        ),
        treatments=pl.DataFrame(
            {"treatment": list(TREATMENTS), "compound": None, "smiles": None}, schema=dict(tables.TREATMENTS.columns)
        ),
        modalities={"mutation": data},
        records={
            "mrecist": pl.DataFrame(calls, schema=["treatment", "patient", "call"], orient="row").with_columns(
                pl.when(pl.col("patient") == "X-0000").then(None).otherwise(pl.col("call")).alias("call")
            )
        },
        provenance={"source": "synthetic"},
        event="made for a test",
        replace=True,
    )


def lines(seed: int = 0, effect: float = -3.0) -> Study:
    """Cell lines with the same genes: gene 0 makes them sensitive to Trametinib (a lower ln IC50)."""
    from anndata import AnnData

    rng = np.random.default_rng([seed, 2])
    mutated = carriers(seed + 1, 150)
    names = [f"line {i}" for i in range(150)]
    data = AnnData(mutated)
    data.obs_names, data.var_names = names, [f"gene{g}" for g in range(GENES)]
    data.uns = {"axis": "subject", "unit": "0/1"}
    value = effect * mutated[:, 0] + rng.normal(size=150)
    outcomes = pl.DataFrame({"subject": names, "value": value}).with_columns(
        treatment=pl.lit("Trametinib"), site=pl.lit("here"), dose=pl.lit(None, pl.Float64),
        dose_unit=pl.lit(None, pl.String), time_h=pl.lit(None, pl.Float64), endpoint=pl.lit("ln_ic50"),
        unit=pl.lit("ln(uM)"), censored=pl.lit(0, pl.Int8), source=pl.lit("made up"),
    )  # fmt: skip
    return write_study(
        home.studies() / "screen",
        outcomes=tables.check(outcomes, tables.OUTCOMES),
        subjects=pl.DataFrame({"subject": names, "tissue": "any"}),
        treatments=pl.DataFrame(
            {"treatment": ["Trametinib"], "compound": None, "smiles": None}, schema=dict(tables.TREATMENTS.columns)
        ),
        modalities={"mutation": data},
        provenance={"source": "synthetic"},
        event="made for a test",
        replace=True,
    )


def test_calls_leave_out_what_was_not_called() -> None:
    table = xenografts.calls(mice())
    assert table.height == (PATIENTS - 1) * 3 and "X-0000" not in set(table["patient"])
    assert table.filter(call="PR")["response"].all() and not table.filter(call="PD")["response"].any()
    assert set(table["tissue"]) == set(TYPES)


def test_a_patient_has_one_profile_however_many_mice() -> None:
    names, genes, values = xenografts.profiles(mice(), "mutation")
    assert len(names) == PATIENTS and genes[0] == "GENE0"
    assert np.array_equal(values, carriers(0, PATIENTS))


def test_a_planted_mutation_is_found_in_patients_never_seen() -> None:
    found = xenografts.unseen_patients(mice(), draws=300)
    by = {r["predictor"]: r for r in found.iter_rows(named=True)}
    assert by["treatment's rate"]["concordance"] == 0.5  # exactly: pairs are within a treatment and a fold
    own = by["mutation, a ridge for each treatment"]
    assert own["concordance"] > 0.55 and own["over_low"] > 0
    assert own["brier"] < by["treatment's rate"]["brier"]


def test_noise_beats_nothing() -> None:
    found = xenografts.unseen_patients(mice(seed=5, effect=0.0), draws=300)
    assert found.filter(pl.col("predictor").str.contains("ridge"))["over_low"].max() < 0


def test_what_lines_teach_carries_over_where_it_was_planted() -> None:
    found = lines_to_mice.from_lines(mice(), lines(), draws=300)
    row = found.filter(treatment="trametinib").row(0, named=True)
    assert row["drug"] == "Trametinib" and row["concordance"] > 0.7 and row["low"] > 0.5
    assert found["treatment"].to_list() == ["trametinib", "all"]  # paclitaxel is not in the screen
    turned = lines_to_mice.from_lines(mice(), lines(effect=3.0), draws=300).row(0, named=True)
    assert turned["concordance"] < 0.3 and turned["high"] < 0.5


def test_unknown_features_are_refused() -> None:
    with pytest.raises(KeyError, match="no features 'genes'"):
        lines_to_mice.from_lines(mice(), lines(), features="genes")


def test_concordance_counts_pairs_by_hand() -> None:
    y = np.array([[1.0], [0.0], [0.0], [np.nan]])
    at, won = concordance.pairs(y, np.arange(4), {"a": np.array([[2.0], [1.0], [2.0], [0.0]])})
    assert at.tolist() == [[0, 1], [0, 2]] and won["a"].tolist() == [1.0, 0.5]
    assert concordance.bootstrap(at, won, 4, 0, 0)["a"].tolist() == [0.75]


def test_the_verb_knows_mice(capsys: pytest.CaptureFixture[str]) -> None:
    mice()
    lines()
    assert command.main(["mice", "--from", "screen", "--draws", "100"]) == 0
    said = capsys.readouterr().out
    assert "unseen patients' tumours, from their mutation" in said and "lines of screen teach" in said


def test_real_tumours_in_mice() -> None:
    """PDX encyclopaedia: 69 patients with mutations; no predictor is shown to beat the treatments' own rates."""
    study = folders.build(shared("pdx"), volume_unit="mm3", time_unit="day", notify=lambda text: None)
    found = xenografts.unseen_patients(study, draws=300)
    assert found["patients"].unique().to_list() == [69] and found["calls"].unique().to_list() == [1304]
    assert found["concordance"].is_between(0.45, 0.60).all()
    assert found.filter(pl.col("predictor").str.contains("ridge"))["over_low"].max() < 0 < found["over_high"].max()
