"""Omics folders: samples by modalities, clinical chemistry in the units that its columns declare."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.real import shared
from workbench import folders
from workbench.folders import omics
from workbench.formats import FormatError


def table(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    with path.open(newline="", encoding="utf-8") as stream:
        header, *body = list(csv.reader(stream))
    return header[1:], {row[0]: row[1:] for row in body}


def test_rat_liver_agrees_with_a_second_reading(tmp_path: Path) -> None:
    folder = shared("rat_liver")
    study = folders.build(folder, tmp_path / "rats", compound="paracetamol", species="rat", tissue="liver")
    genes, profiles = table(folder / "liver_toxicity_gene.csv")
    data = study.modality("expression")
    assert data.shape == (64, 3116) and list(data.var_names) == genes
    for rat in ("ID202", "ID409", "ID515"):
        if rat in profiles:
            np.testing.assert_allclose(data[rat].X.ravel(), np.array(profiles[rat], dtype=np.float32))
    assert data.var.loc["A_43_P20792", "geneBank"] == "NM_001109576"

    names, clinic = table(folder / "liver_toxicity_clinic.csv")
    assert study.outcomes.height == 640
    units = dict(study.outcomes.select("endpoint", "unit").unique().rows())
    expected = {
        "BUN": "mg/dL",
        "Creat": "mg/dL",
        "TP": "g/dL",
        "ALB": "g/dL",
        "ALT": "IU/L",
        "SDH": "IU/L",
        "AST": "IU/L",
    }
    assert units == expected | {"ALP": "IU/L", "TBA": "umol/L", "Cholesterol": "mg/dL"}
    alt = dict(study.outcomes.filter(endpoint="ALT").select("subject", "value").rows())
    column = names.index("ALT.IU.L.")
    assert alt == {rat: float(row[column]) for rat, row in clinic.items()}

    _, arms = table(folder / "liver_toxicity_treatment.csv")
    given = {s: (d, u, t) for s, d, u, t in study.outcomes.select("subject", "dose", "dose_unit", "time_h").rows()}
    assert given == {rat: (float(row[2]), "mg/kg", float(row[3])) for rat, row in arms.items()}
    assert study.subjects.select("species", "tissue").unique().rows() == [("rat", "liver")]
    assert study.outcomes["treatment"].unique().to_list() == ["paracetamol"]
    assert study.record("unread").height == 0
    assert (
        "the unit is cut in 32 rows (first '1500MG/K6 HR'): mg/kg as in the others"
        in study.record("notes")["reason"].to_list()
    )


def test_breast_tumour_is_three_modalities_of_the_same_samples(tmp_path: Path) -> None:
    folder = shared("breast_tumour")
    study = folders.build(folder, tmp_path / "tumours", tissue="breast")
    assert {n: study.modality(n).shape for n in study.modalities} == {
        "expression": (150, 200),
        "mirna": (150, 184),
        "proteomics": (150, 142),
    }
    _, proteins = table(folder / "breastTCGA_train_protein.csv")
    data = study.modality("proteomics")
    assert list(data.obs_names) == list(proteins)
    np.testing.assert_allclose(data["A13E"].X.ravel(), np.array(proteins["A13E"], dtype=np.float32))
    _, subtypes = table(folder / "breastTCGA_train_subtype.csv")
    assert study.subjects["subtype"].to_list() == [row[0] for row in subtypes.values()]
    assert study.subjects["subject"].to_list() == list(proteins)
    assert study.record("notes")["reason"].to_list() == ["rows are numbered 0 to 149, not named: matched by order"]
    assert study.outcomes.height == 0 and study.modality("mirna").uns["unit"] == "unit not declared"


def test_chemistry_without_a_unit_and_rows_without_numbers_are_listed(tmp_path: Path) -> None:
    (tmp_path / "x_gene.csv").write_text(",g1,g2\nr1,1,2\nr2,,3\nr1,4,5\nr3,5,6\n")
    (tmp_path / "x_clinic.csv").write_text(",ALT (U/L),AST\nr1,50,60\nr2,high,7\n")
    (tmp_path / "x_protein.csv").write_bytes(b"PK\x03\x04zip")
    (tmp_path / "x_samples.csv").write_text(
        "sample,arm,dose,time\nr1,10 mg/kg 6 h,10,6\nr2,10 mg/kg 6 h,99,6\nr3,x,1,1\n"
    )
    found: list[folders.Unread] = []
    content = omics.read(tmp_path, found.append)
    assert content.modalities["expression"].shape == (2, 2)
    assert content.outcomes.select("subject", "endpoint", "value", "unit", "dose").rows() == [
        ("r1", "ALT", 50.0, "U/L", 10.0)
    ]
    said = {(n.file, n.place): n.reason for n in found}
    assert said["x_gene.csv", "row 2 below the header, column 'g1'"] == "'r2' lacks a number: left out"
    assert said["x_gene.csv", "row 3 below the header"] == "'r1' stands twice: the first one counts"
    assert said["x_clinic.csv", "column 'AST'"] == "declares no unit in its name: left out"
    assert said["x_clinic.csv", "row 2 below the header, column 'ALT (U/L)'"] == "'high' is no number"
    assert "found a zip archive" in said["x_protein.csv", "start"]
    assert said["facts", "r2"] == "'10 mg/kg 6 h' disagrees with dose=99 and time=6"
    assert said["facts", "r3, column 'arm'"] == "'x' is no dose and time with units"


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("BUN.mg.dL.", ("BUN", "mg/dL")),
        ("volume (mm3)", ("volume", "mm3")),
        ("dose [µM]", ("dose", "uM")),
        ("dose_uM", ("dose", "uM")),
        ("conc_ng_mL", ("conc", "ng/mL")),
        ("dose_um", ("dose_um", None)),  # micrometres as likely as micromolar
        ("volume", ("volume", None)),
        ("vitamin d", ("vitamin d", None)),
        ("time_h", ("time", "h")),
        ("ALT.IU.L.", ("ALT", "IU/L")),
        ("protein g", ("protein g", None)),
    ],
)
def test_only_a_declared_unit_is_a_unit(name: str, declared: tuple[str, str | None]) -> None:
    from workbench.folders import _foreign

    assert _foreign.declared(name) == declared


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x_gene.csv").write_bytes(b"\x80\x04.")
    with pytest.raises(FormatError, match="not one can be read"):
        omics.read(tmp_path, lambda _: None)
