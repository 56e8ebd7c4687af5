"""Real data: what is known to be wrong with it is found, and nothing else is said to be wrong."""

from __future__ import annotations

import polars as pl
import pytest

from tests.clean_studies import Draft, Matrix, outcomes, structured
from tests.real import shared
from workbench import audits, tables
from workbench.splits import Split

UNITS = {
    "BUN": "mg/dL", "Creat": "mg/dL", "TP": "g/dL", "ALB": "g/dL", "ALT": "U/L", "SDH": "U/L", "AST": "U/L",
    "ALP": "U/L", "TBA": "umol/L", "Cholesterol": "mg/dL",
}  # fmt: skip


def rat_liver() -> Draft:
    """64 rats dosed with paracetamol: ten clinical chemistry values each, and the liver's expression."""
    folder = shared("rat_liver")
    told = pl.read_csv(folder / "liver_toxicity_treatment.csv")
    clinic = pl.read_csv(folder / "liver_toxicity_clinic.csv")
    genes = pl.read_csv(folder / "liver_toxicity_gene.csv", infer_schema_length=None)
    rats = told[""].to_list()
    frames = []
    for column in clinic.columns[1:]:
        name = column.split(".")[0]
        frames.append(
            outcomes(
                subject=rats, treatment="paracetamol", dose=told["Dose.Group"].cast(pl.Float64).to_list(),
                dose_unit="mg/kg", time_h=told["Time.Group"].cast(pl.Float64).to_list(), endpoint=f"{name} serum",
                value=clinic[column].cast(pl.Float64).to_list(), unit=UNITS[name],
            )
        )  # fmt: skip
    subjects = pl.DataFrame(
        {"subject": rats, "tissue": "liver", "arm": told["Treatment.Group"], "arm_dose": told["Dose.Group"]}
    )
    matrix = Matrix(rats, genes.columns[1:], genes.drop("").to_numpy(), "log ratio")
    treatments = structured(["paracetamol"], ["CC(=O)Nc1ccc(O)cc1"])
    return Draft(pl.concat(frames), subjects, treatments, {"expression": matrix})


def cell_lines() -> Draft:
    """580 cancer lines x 170 drugs, 706 genes."""
    folder = shared("cell_lines")
    response = pl.read_csv(folder / "response_ln_ic50.csv")
    smiles = dict(pl.read_csv(folder / "drug_smiles.csv").select("drug_name", "CanonicalSMILES").rows())
    told = pl.read_csv(folder / "annotations.tsv", separator="\t", infer_schema_length=None)
    tissue = dict(told.select("depMapID", "Site_Primary").drop_nulls().unique("depMapID").rows())
    modalities = {}
    for kind, unit in (("exp", "z-score"), ("cn", "log ratio"), ("mu", "mutated (0/1)")):
        frame = pl.read_parquet(folder / f"{kind}_580x706.parquet")
        key = next(c for c, t in frame.schema.items() if t == pl.String)
        rest = frame.drop(key)
        modalities[kind] = Matrix(frame[key].to_list(), rest.columns, rest.to_numpy(), unit)
    lines = sorted({*response["DepMap_ID"], *modalities["exp"].names})
    drugs = sorted(set(response["drug_name"]))
    known = [d for d in drugs if d in smiles]
    treatments = structured(known, [smiles[d] for d in known])
    rest = pl.DataFrame({"treatment": [d for d in drugs if d not in smiles]}).with_columns(
        pl.lit(None, pl.String).alias("compound"), pl.lit(None, pl.String).alias("smiles")
    )
    frame = outcomes(
        subject=response["DepMap_ID"].to_list(), treatment=response["drug_name"].to_list(), endpoint="ln_ic50",
        value=response["ln_IC50"].to_list(), unit="ln(uM)",
    )  # fmt: skip
    subjects = pl.DataFrame({"subject": lines, "tissue": [tissue.get(s) for s in lines]})
    return Draft(frame, subjects, pl.concat([treatments, rest]), modalities)


def loud(findings: pl.DataFrame) -> list[tuple[str, str]]:
    return findings.filter(pl.col("severity") != "note").select("check", "what").rows()


def test_nothing_is_wrong_with_the_rats() -> None:
    study = rat_liver().write("rats")
    assert loud(audits.run(study)) == []
    split = Split.make(study, "unseen subject", endpoint="ALT serum", folds=4)
    assert loud(audits.run(study, split)) == []


def test_a_slip_planted_among_the_rats_is_found() -> None:
    draft = rat_liver()
    rat = draft.subjects["subject"][5]
    draft.change((pl.col("subject") == rat) & (pl.col("endpoint") == "Creat serum"), pl.col("value") * 1000)
    study = draft.write("rats")
    found = audits.run(study).filter(pl.col("severity") != "note")
    assert found["check"].to_list()[:1] == ["thousandfold values"] and found["names"][0].to_list() == [rat]


@pytest.mark.slow
def test_the_cell_lines_are_accused_of_nothing_that_is_not_so() -> None:
    """One thing is so: some drugs were hardly tried on some tissues, which the rows show by counting."""
    study = cell_lines().write("lines")
    found = audits.run(study, Split.make(study, "unseen subject", endpoint="ln_ic50")).filter(severity="warning")
    assert found["check"].to_list() == ["selection bias"]
    lines = study.subjects.filter(pl.col("subject").is_in(study.rows["subject"].unique().implode()))
    each = lines.group_by("tissue").len().filter(pl.col("len") >= 20)
    for drug in found["names"][0]:
        tried = study.rows.filter(treatment=drug).join(lines, on="subject").group_by("tissue").len("tried")
        rate = (
            each.join(tried, on="tissue", how="left").select(pl.col("tried").fill_null(0) / pl.col("len")).to_series()
        )
        assert rate.max() - rate.min() > 0.4, drug  # type: ignore[operator]


def test_the_treatment_table_of_the_drafts_is_one() -> None:
    assert tables.check(structured(["a"], ["CCO"]), tables.TREATMENTS).height == 1
