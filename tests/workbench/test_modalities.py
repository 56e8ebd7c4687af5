"""Modalities: units on the way in, gaps filled by the rows that teach, cells as subjects, never the answer itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from tests.real import shared
from workbench import home, modalities, predict, predictors, score, train
from workbench.modalities import Block, response_curves, surface_protein
from workbench.nn.scaling import Rotation, fit_rotation
from workbench.splits import Split
from workbench.study import Study, write_study


def anndata(
    values: Any,
    names: list[str],
    features: list[str],
    unit: str,
    axis: str = "subject",
    obs: dict[str, list[Any]] | None = None,
    var: dict[str, list[Any]] | None = None,
) -> Any:
    import pandas as pd
    from anndata import AnnData

    data = AnnData(values, obs=pd.DataFrame(obs or {}, index=names), var=pd.DataFrame(var or {}, index=features))
    data.uns["axis"], data.uns["unit"] = axis, unit
    return data


def donor() -> Study:
    """The synthetic study, written once a test."""
    path = home.studies() / "donor"
    return Study.open(path) if path.exists() else toy.write("donor")


def study_with(name: str, data: Any, outcomes: pl.DataFrame | None = None) -> Study:
    """The synthetic study with one further modality."""
    made = donor()
    return write_study(
        home.studies() / "more",
        outcomes=made.outcomes if outcomes is None else outcomes,
        subjects=made.subjects,
        treatments=made.treatments,
        modalities={m: made.modality(m) for m in made.modalities} | {name: data},
        provenance={},
        event="made for a test",
    )


SUBJECTS = [f"subject {i:02d}" for i in range(60)]


# --- gaps ------------------------------------------------------------------------------------------------------------


def test_a_gap_is_the_mean_of_the_fit_rows_and_no_other_row_has_a_say() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(3, 2, (40, 6)).astype(np.float32)
    x[draw.random(x.shape) < 0.2] = np.nan
    x[:, 5] = np.nan
    fit = np.arange(25)
    filled = x.copy()
    for j in range(5):
        filled[np.isnan(x[:, j]), j] = np.nanmean(x[fit, j])
    rotation = fit_rotation(x, fit)
    np.testing.assert_allclose(rotation.mean[:5], np.nanmean(x[fit, :5], 0), rtol=1e-6)
    assert np.isfinite(rotation.apply(x)).all() and np.isinf(rotation.sd[5])
    np.testing.assert_allclose(rotation.apply(x)[:, :5], rotation.apply(np.nan_to_num(filled))[:, :5], atol=1e-5)
    other = x.copy()
    other[25:] = np.where(draw.random((15, 6)) < 0.5, np.nan, 1e6)  # the rows that are judged
    again = fit_rotation(other, fit)
    for part in ("mean", "sd", "axes", "scale"):
        np.testing.assert_array_equal(getattr(rotation, part), getattr(again, part), err_msg=part)
    one = rotation.apply(x[30:31])
    np.testing.assert_array_equal(rotation.apply(x)[30:31], one)  # a row is prepared from itself and the scaler alone


def test_without_a_gap_nothing_has_changed() -> None:
    x = np.random.default_rng(1).normal(size=(30, 50)).astype(np.float32)
    rotation = fit_rotation(x, np.arange(20))
    np.testing.assert_array_equal(rotation.mean, x[:20].mean(0, dtype=np.float64).astype(np.float32))
    np.testing.assert_array_equal(rotation.sd, x[:20].std(0, dtype=np.float64).astype(np.float32))
    assert isinstance(rotation, Rotation) and rotation.apply(x).dtype == np.float32


GAPPY = ["methylation", "proteomics", "mirna", "clinical_chemistry", "pathology", "exposure", "tumour_growth"]


@pytest.mark.parametrize("name", GAPPY)
def test_gaps_stay_gaps_until_a_scaler_fills_them_and_infinities_are_refused(name: str) -> None:
    x = np.random.default_rng(2).random((60, 5)).astype(np.float32)
    x[4, 2] = np.nan
    unit = "log2(RPM + 1)" if name == "mirna" else "as measured"
    read = modalities.rooms.load("workbench.modalities", name).read
    block = read(Shown(anndata(x, SUBJECTS, list("abcde"), unit)))
    values, there = block.rows(SUBJECTS)
    assert np.isnan(values).sum() == 1 and np.isnan(values[4, 2]) and there.all()
    rotation = modalities.prepare(name, values, np.arange(30))
    assert np.isfinite(rotation.apply(values)).all()
    x[7, 1] = np.inf
    with pytest.raises(ValueError, match=r"found inf at 'subject 07', 'b'"):
        read(Shown(anndata(x, SUBJECTS, list("abcde"), unit)))


def study_with_replaced(name: str, data: Any) -> Study:
    made = Study.open(home.studies() / "donor")
    return write_study(
        home.studies() / "again",
        outcomes=made.outcomes,
        subjects=made.subjects,
        treatments=made.treatments,
        modalities={name: data},
        provenance={},
        event="made for a test",
    )


def test_expression_still_refuses_a_gap() -> None:
    def gap(kind: str, names: list[str], matrix: np.ndarray) -> np.ndarray:
        if kind == "expression":
            matrix = matrix.copy()
            matrix[3, 4] = np.nan
        return matrix

    with pytest.raises(ValueError, match=r"found nan at 'subject 03', 'gene4'"):
        modalities.read(toy.write(values=gap), "expression")


@pytest.mark.parametrize("name", ["ridge", "trees"])
def test_a_predictor_learns_from_a_modality_with_gaps_and_predicts_through_them(name: str) -> None:
    _, x, _ = toy.planted()
    x = x.copy()
    x[np.random.default_rng(3).random(x.shape) < 0.1] = np.nan
    study = study_with("proteomics", anndata(x, SUBJECTS, [f"p{i}" for i in range(x.shape[1])], "log2"))
    fold = Split.make(study, "unseen subject", endpoint="ln_ic50", folds=2).fold(0)
    params: dict[str, Any] = {"modality": "proteomics"} if name == "ridge" else {"modalities": {"proteomics": 20}}
    made = predictors.make(name, **params)
    train.fit(made, fold)
    answered = score.unseal(predict.predictions(made, fold), fold).filter(pl.col("predicted").is_not_null())
    assert answered.height > 100
    assert np.corrcoef(answered["predicted"], answered["observed"])[0, 1] > 0.6
    back = predictors.restore(name, made.config(), made.arrays())
    pairs = answered.select("subject", "treatment", "tissue").head(20)
    assert back.predict(study, pairs)["predicted"].to_list() == made.predict(study, pairs)["predicted"].to_list()


# --- units -----------------------------------------------------------------------------------------------------------


def test_beta_values_become_m_values_by_row_alone_and_m_values_stay() -> None:
    beta = np.array([[0.5, 0.0], [0.8, 1.0], [0.2, np.nan]], dtype=np.float32)
    study = study_with("methylation", anndata(beta, SUBJECTS[:3], ["cg1", "cg2"], "beta value (0 to 1)"))
    m = modalities.read(study, "methylation").values
    assert m[0, 0] == 0 and m[1, 0] == pytest.approx(2.0, abs=1e-5) and m[2, 0] == pytest.approx(-2.0, abs=1e-5)
    assert m[1, 1] == pytest.approx(np.log2(0.999 / 0.001), abs=1e-3) and m[0, 1] == -m[1, 1] and np.isnan(m[2, 1])
    percent = study_with_replaced("methylation", anndata(beta * 100, SUBJECTS[:3], ["cg1", "cg2"], "%"))
    np.testing.assert_allclose(modalities.read(percent, "methylation").values, m, rtol=1e-4)
    with pytest.raises(ValueError, match=r"expected a beta value, 0 to 1 .* found 50 at 'subject 00', 'cg1'"):
        module = modalities.rooms.load("workbench.modalities", "methylation")
        module.read(Shown(anndata(beta * 100, SUBJECTS[:3], ["cg1", "cg2"], "beta value (0 to 1)")))
    kept = module.read(Shown(anndata(beta * 10, SUBJECTS[:3], ["cg1", "cg2"], "M value")))
    np.testing.assert_array_equal(kept.values, beta * 10)


class Shown:
    """Shows one AnnData as every modality."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def modality(self, name: str) -> Any:
        return self.data


def test_mirna_counts_exposures_and_severities_are_read_in_their_unit() -> None:
    load = modalities.rooms.load
    counts = np.array([[1.0, 3.0], [0.0, 10.0]], dtype=np.float32)
    block = load("workbench.modalities", "mirna").read(Shown(anndata(counts, ["a", "b"], ["m1", "m2"], "counts")))
    np.testing.assert_allclose(block.values, np.log2(np.array([[250000, 750000], [0, 1e6]]) + 1), rtol=1e-6)
    with pytest.raises(ValueError, match="counts: whole numbers"):
        load("workbench.modalities", "mirna").read(Shown(anndata(counts + 0.5, ["a", "b"], ["m1", "m2"], "counts")))
    exposure = load("workbench.modalities", "exposure")
    held = exposure.read(
        Shown(anndata(counts, ["a", "b"], ["AUC", "Cmax"], "per column", var={"floor": [0.1, np.nan]}))
    )
    np.testing.assert_allclose(held.values, [[0, np.log10(3)], [-1, 1]], atol=1e-6)
    with pytest.raises(ValueError, match="expected none below 0"):
        exposure.read(Shown(anndata(-counts, ["a", "b"], ["AUC", "Cmax"], "per column")))
    with pytest.raises(ValueError, match=r"a severity, 0 to 5"):
        load("workbench.modalities", "pathology").read(Shown(anndata(counts, ["a", "b"], ["x", "y"], "severity")))


# --- cells -----------------------------------------------------------------------------------------------------------


def test_cells_become_one_row_per_subject_and_few_cells_none() -> None:
    from scipy import sparse

    draw = np.random.default_rng(4)
    whose = ["subject 00"] * 12 + ["subject 01"] * 30 + ["subject 02"] * 3
    counts = draw.poisson(2.0, (45, 7)).astype(np.float32)
    cells = [f"c{i}" for i in range(45)]
    genes = [f"g{i}" for i in range(7)]
    data = anndata(sparse.csr_matrix(counts), cells, genes, "counts", "cell", {"subject": whose})
    study = study_with("single_cell_rna", data)
    block = modalities.read(study, "single_cell_rna")
    assert block.names == ["subject 00", "subject 01"]
    total = counts[:12].sum(0)
    np.testing.assert_allclose(block.values[0], np.log2(total / total.sum() * 1e6 + 1), rtol=1e-6)
    logged = anndata(np.log1p(counts), cells, genes, "log1p(CP10k)", "cell", {"subject": whose})
    mean = modalities.rooms.load("workbench.modalities", "single_cell_rna").read(Shown(logged))
    np.testing.assert_allclose(mean.values[1], np.log1p(counts[12:42]).mean(0), rtol=1e-5)
    assert mean.unit == "mean over cells of log1p(CP10k)"
    logged.layers["counts"] = counts
    summed = modalities.rooms.load("workbench.modalities", "single_cell_rna").read(Shown(logged))
    np.testing.assert_allclose(summed.values, block.values, rtol=1e-6)
    protein = modalities.rooms.load("workbench.modalities", "surface_protein").read(Shown(data))
    np.testing.assert_allclose(protein.values[0], surface_protein.clr(counts[:12]).mean(0), rtol=1e-4, atol=1e-6)
    del data.obs["subject"]
    with pytest.raises(ValueError, match=r"needs obs\['subject'\]"):
        modalities.rooms.load("workbench.modalities", "single_cell_rna").read(Shown(data))


def test_centred_log_ratios_are_of_counts_per_cell_or_per_feature() -> None:
    counts = np.random.default_rng(5).poisson(20, (30, 4)).astype(float)
    per_cell, per_feature = surface_protein.clr(counts), surface_protein.clr(counts, "feature")
    np.testing.assert_allclose(per_cell.sum(1), 0, atol=1e-12)
    np.testing.assert_allclose(per_feature.sum(0), 0, atol=1e-12)
    assert per_cell[3, 1] == pytest.approx(np.log1p(counts[3, 1]) - np.log1p(counts[3]).mean())
    with pytest.raises(ValueError, match="raw protein counts"):
        surface_protein.clr(per_cell)
    with pytest.raises(ValueError, match=r"'cell' or 'feature'; found 'cel'.*Did you mean 'cell'"):
        surface_protein.clr(counts, "cel")


# --- nothing that is the answer --------------------------------------------------------------------------------------


def test_a_reference_compound_is_never_one_to_predict() -> None:
    whole = donor()
    data, left = response_curves.split_off(whole.outcomes, whole.treatments, ["aspirin", "caffeine"], "ln_ic50")
    assert data.shape[1] == 2 and data.uns["unit"] == "ln(uM)"
    gone = {"aspirin", "caffeine", "acetylsalicylic acid"}  # the alias is the same compound
    assert set(left["treatment"]) == set(toy.TREATMENTS) - gone
    study = study_with("response_curves", data, left)
    assert modalities.read(study, "response_curves").features == ["ln_ic50 aspirin", "ln_ic50 caffeine"]


@pytest.mark.parametrize(
    ("planted", "survives"),
    [
        (["aspirin", "metformin"], ["aspirin"]),  # metformin is predicted
        (["Met-Formin", "aspirin"], ["aspirin"]),  # another spelling of it
        (["aspirin", "acetylsalicylic acid"], ["aspirin", "acetylsalicylic acid"]),  # neither name is predicted
    ],
)
def test_a_planted_response_to_a_predicted_compound_is_left_out(planted: list[str], survives: list[str]) -> None:
    whole = donor()
    left = whole.outcomes.filter(~pl.col("treatment").is_in(["aspirin", "acetylsalicylic acid"]))
    x = np.ones((60, len(planted)), dtype=np.float32)
    data = anndata(x, SUBJECTS, [f"col {t}" for t in planted], "ln(uM)", var={"treatment": planted})
    study = study_with("response_curves", data, left)
    assert modalities.read(study, "response_curves").features == [f"col {t}" for t in survives]
    assert modalities.read(study.sealed(), "response_curves").features == [f"col {t}" for t in survives]


def test_an_alias_of_a_predicted_compound_and_a_whole_leaking_panel_are_refused() -> None:
    whole = donor()
    left = whole.outcomes.filter(pl.col("treatment") != "acetylsalicylic acid")  # aspirin itself is still predicted
    data = anndata(np.ones((60, 1), np.float32), SUBJECTS, ["acetylsalicylic acid"], "ln(uM)")
    with pytest.raises(ValueError, match=r"all 1 columns are of compounds .*split_off"):
        modalities.read(study_with("response_curves", data, left), "response_curves")


def test_growth_under_a_predicted_treatment_is_no_feature_and_growth_before_it_is() -> None:
    x = np.ones((60, 3), dtype=np.float32)
    data = anndata(x, SUBJECTS, ["start", "vehicle", "drug"], "1/day", var={"treatment": ["", "vehicle", "nicotine"]})
    assert modalities.read(study_with("tumour_growth", data), "tumour_growth").features == ["start", "vehicle"]


def test_a_column_that_is_the_endpoint_teaches_nobody() -> None:
    """The planted leak: clinical chemistry holds the very endpoint, once by name and once by var['endpoint']."""
    truth, _, _ = toy.planted()
    draw = np.random.default_rng(6)
    x = np.column_stack([truth.mean[:, 0], truth.mean[:, 0], draw.normal(size=60)]).astype(np.float32)
    told = {"endpoint": ["", "ln_ic50", ""]}
    data = anndata(x, SUBJECTS, ["LN_IC50", "liver score", "ALT serum"], "per column", var=told)
    study = study_with("clinical_chemistry", data)
    assert len(modalities.read(study, "clinical_chemistry").features) == 3
    kept = modalities.read(study, "clinical_chemistry", endpoint="ln_ic50")
    assert kept.features == ["ALT serum"] and kept.values.shape == (60, 1) and kept.endpoints == [""]
    fold = Split.make(study, "unseen subject", endpoint="ln_ic50", folds=2).fold(0)
    made: Any = predictors.make("ridge", modality="clinical_chemistry")
    train.fit(made, fold)
    assert made.features_ == ["ALT serum"]
    assert made.predict(study, fold.train.select("subject", "treatment").head(3))["predicted"].null_count() == 0
    deep: Any = predictors.make("trees", modalities={"clinical_chemistry": 5})
    train.fit(deep, fold)
    assert deep.columns_ == {"clinical_chemistry": ["ALT serum"]}
    with pytest.raises(ValueError, match="nothing but the endpoint"):
        modalities.read(
            study_with_replaced("exposure", anndata(x[:, :1] ** 2, SUBJECTS, ["LN_ic50"], "a")),
            "exposure",
            endpoint="ln_ic50",
        )


def test_columns_come_back_in_the_order_they_were_fitted_in() -> None:
    block = modalities.read(toy.write(), "expression", columns=["gene7", "gene0"])
    assert block.features == ["gene7", "gene0"]
    whole = modalities.read(toy.write("other"), "expression")
    np.testing.assert_array_equal(block.values, whole.values[:, [7, 0]])
    assert isinstance(block, Block)
    assert modalities.read(toy.write("third"), "expression", columns=["gone"]).features == whole.features


def test_the_panel_offers_what_the_studies_have_and_a_choice_uses_its_own() -> None:
    from workbench import experiment, interactive

    toy.write("small", leave_out=("copy_number", "drug_structure"))
    assert interactive.options()["modalities"] == ["expression", "mutation"]
    toy.write("large")
    offered = interactive.options()["modalities"]
    assert offered == ["expression", "copy_number", "mutation"]
    choice = {"study": "small", "predictor": "drug_response", "split": "unseen subject", "modalities": offered}
    assert interactive.specify(choice).parameters["drug_response"]["modalities"] == ["expression", "mutation"]
    with pytest.raises(experiment.ExperimentError, match=r"has none of \['copy_number'\]; it has \['expression'"):
        interactive.specify(choice | {"modalities": ["copy_number"]})


# --- real files ------------------------------------------------------------------------------------------------------


def test_real_methylation_proteins_and_mirna_are_read() -> None:
    methylation = pl.read_csv(shared("cell_lines/methylation_561x808.csv"))
    names = methylation[methylation.columns[0]].to_list()
    values = methylation.drop(methylation.columns[0]).to_numpy().astype(np.float32)
    data = anndata(values, names, methylation.columns[1:], "beta value (0 to 1)")
    block = modalities.rooms.load("workbench.modalities", "methylation").read(Shown(data))
    assert block.values.shape == (561, 808) and np.nanmin(block.values) >= -9.97
    rotation = modalities.prepare("methylation", block.values, np.arange(400))
    assert rotation.axes.shape == (808, 256) and np.isfinite(rotation.apply(block.values)).all()
    for name, file in (("proteomics", "protein"), ("mirna", "mirna")):
        frame = pl.read_csv(shared(f"breast_tumour/breastTCGA_train_{file}.csv"))
        x = frame.drop(frame.columns[0]).to_numpy().astype(np.float32)
        rows = [str(n) for n in frame[frame.columns[0]]]
        block = modalities.rooms.load("workbench.modalities", name).read(
            Shown(anndata(x, rows, frame.columns[1:], "log2"))
        )
        assert np.isfinite(modalities.prepare(name, block.values, np.arange(100)).apply(block.values)).all()
        assert len(block.names) == 150
