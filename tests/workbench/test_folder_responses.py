"""Response folders: one study of responses, omics, structures and annotations; units declared or stated."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.real import shared
from workbench import folders
from workbench.folders import responses
from workbench.formats import FormatError


def rows(path: Path, mark: str = ",") -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter=mark))


def quiet(_: folders.Unread) -> None:
    """Nobody listens."""


def test_cell_lines_agree_with_a_second_reading(tmp_path: Path) -> None:
    folder = shared("cell_lines")
    study = folders.build(folder, tmp_path / "lines", unit="ln(uM)")
    truth = {(r["DepMap_ID"], r["drug_name"]): float(r["ln_IC50"]) for r in rows(folder / "response_ln_ic50.csv")}
    found = {(s, t): v for s, t, v in study.outcomes.select("subject", "treatment", "value").rows()}
    assert found == truth and len(truth) == 82_833
    assert study.outcomes.select("endpoint", "unit").unique().rows() == [("ln_ic50", "ln(uM)")]
    sites = {r["depMapID"]: r["Site_Primary"] for r in rows(folder / "annotations.tsv", "\t")}
    tissue = dict(study.subjects.select("subject", "tissue").rows())
    assert len(tissue) == 580 and tissue == {s: None if sites[s] == "NA" else sites[s] for s in tissue}
    shapes = {n: study.modality(n).shape for n in study.modalities}
    omics = dict.fromkeys(("expression", "copy_number", "mutation"), (580, 706))
    assert shapes == omics | {"methylation": (460, 808), "drug_structure": (170, 1024)}
    frame = pl.read_parquet(folder / "exp_580x706.parquet")
    line = frame["DepMap_ID"][17]
    data = study.modality("expression")
    np.testing.assert_array_equal(
        data[line].X.ravel(), frame.drop("DepMap_ID").select(data.var_names.to_list()).row(17)
    )
    assert study.modality("mutation").uns["unit"] == "0/1"
    smiles = {r["drug_name"]: r["IsomericSMILES"] for r in rows(folder / "drug_smiles.csv")}
    assert dict(study.treatments.select("treatment", "smiles").rows()) == smiles
    assert study.treatments["compound"].null_count() == 0
    assert study.record("unread").rows() == [
        ("methylation_561x808.csv", "101 rows", "name no line of the responses: left out")
    ]


def test_the_unit_of_an_ic50_is_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "response.csv").write_text("cell_line,drug,ln_IC50\nA,x,1\n")
    with pytest.raises(FormatError, match=r"column 'ln_IC50': declares no unit; state unit= .such as 'ln.uM."):
        responses.read(tmp_path, quiet)
    with pytest.raises(FormatError, match="is a ln, but unit='uM' was stated"):
        responses.read(tmp_path, quiet, unit="uM")


@pytest.mark.parametrize(
    ("column", "endpoint", "unit"),
    [
        ("LN_IC50 (uM)", "ln_ic50", "ln(uM)"),
        ("IC50_nM", "ic50", "nM"),
        ("log10 IC50 [M]", "log10_ic50", "log10(M)"),
        ("pIC50", "pic50", "pIC50"),
        ("EC50 (µM)", "ec50", "uM"),
        ("viability (%)", "viability", "%"),
    ],
)
def test_endpoint_and_unit_come_from_the_column(tmp_path: Path, column: str, endpoint: str, unit: str) -> None:
    (tmp_path / "response.csv").write_text(f"cell_line,drug,{column}\nA,x,1.5\nA,y,\n", encoding="utf-8")
    found: list[folders.Unread] = []
    content = responses.read(tmp_path, found.append)
    assert content.outcomes.select("endpoint", "unit", "value").rows() == [(endpoint, unit, 1.5)]
    assert [n.place for n in found if n.file == "response.csv"] == ["row 2 below the header and 0 more"]


def test_wide_and_long_say_the_same(tmp_path: Path) -> None:
    wide, long = tmp_path / "wide", tmp_path / "long"
    wide.mkdir(), long.mkdir()
    (wide / "ic50.csv").write_text(",x,y\nA,1,2\nB,,4\n")
    (long / "response.csv").write_text("line;drug;IC50 (uM)\nA;x;1,0\nA;y;2,0\nB;y;4,0\n".replace(",", "."))
    first, second = responses.read(wide, quiet, unit="uM"), responses.read(long, quiet)
    key = ["subject", "treatment", "endpoint", "unit", "value"]
    assert sorted(first.outcomes.select(key).rows()) == sorted(second.outcomes.select(key).rows())
    assert first.outcomes.height == 3


def test_points_of_a_curve_keep_their_dose(tmp_path: Path) -> None:
    (tmp_path / "response.csv").write_text("line,drug,conc,conc_unit,viability (%)\nA,x,1,nM,90\nA,x,10,nM,50\n")
    content = responses.read(tmp_path, quiet)
    assert content.outcomes.select("dose", "dose_unit", "value").rows() == [(1.0, "nM", 90.0), (10.0, "nM", 50.0)]
    (tmp_path / "response.csv").write_text("line,drug,conc,viability (%)\nA,x,1,90\n")
    with pytest.raises(FormatError, match="column 'conc': declares no unit"):
        responses.read(tmp_path, quiet)


def test_pairs_of_drugs_have_names_from_their_numbers(tmp_path: Path) -> None:
    folder = shared("synergy")
    study = folders.build(folder, tmp_path / "pairs")
    names = {r["pubchemid"]: r["name"] for r in rows(folder / "drug_smiles.csv")}
    truth = [
        (" + ".join(sorted((names[r["drug_a"]], names[r["drug_b"]]))), r["cell_line"], float(r["synergy"]))
        for r in rows(folder / "drug_synergy.csv")
    ]
    assert sorted(study.outcomes.select("treatment", "subject", "value").rows()) == sorted(truth)
    assert study.modality("expression").shape == (32, 651)
    pair = study.treatments.filter(treatment="5-FU + ABT-888").row(0, named=True)
    assert (pair["drug_a"], pair["drug_b"], pair["compound"]) == ("5-FU", "ABT-888", None)
    assert pair["compound_a"] == "GHASVSINZRGABV" and pair["compound_b"] == "JNAHVYVRKWKWKQ"
    smiles = {r["name"]: r["isosmiles"] for r in rows(folder / "drug_smiles.csv")}
    assert (pair["smiles_a"], pair["smiles_b"]) == (smiles["5-FU"], smiles["ABT-888"])


def test_a_partly_broken_folder(tmp_path: Path) -> None:
    folder = tmp_path / "screen"
    folder.mkdir()
    (folder / "response.csv").write_text("line,drug,IC50 (uM)\nA,x,1\nA,y,two\nB,x,3\n")
    (folder / "expression.parquet").write_bytes(b"PAR1cut")
    (folder / "mutation.csv").write_text("line,g1\nA,0\nB,1\nC,1\n")
    (folder / "drugs.csv").write_text("drug,smiles\nx,CCO\ny,not a molecule\n")
    (folder / "slides.pptx").write_bytes(b"PK\x03\x04")
    study = folders.build(folder, tmp_path / "study")
    assert study.outcomes.height == 2 and study.modalities == ["drug_structure", "mutation"]
    assert study.modality("mutation").X.ravel().tolist() == [0.0, 1.0]
    listed = {f for f, _, _ in study.record("unread").rows()}
    assert listed == {"response.csv", "expression.parquet", "mutation.csv", "slides.pptx"}
    assert study.check() == []
