"""A study to AnnData and MuData and back."""

from __future__ import annotations

import warnings
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import polars as pl
import pytest
from anndata import AnnData

from tests import toy
from workbench.exchange import ExchangeError
from workbench.study import Study, write_study


def cells(**uns: str) -> AnnData:
    obs = pd.DataFrame({"donor": ["d1", "d1", "d2"]}, index=["c1", "c2", "c3"])
    data = AnnData(np.array([[1, 0], [0, 2], [3, 4]], dtype=np.float32), obs=obs, var=pd.DataFrame(index=["g1", "g2"]))
    data.uns = dict(uns)
    return data


def mu(**mods: AnnData) -> mudata.MuData:
    with mudata.set_options(pull_on_update=False):
        return mudata.MuData(mods)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    toyed = toy.write()
    one = cells(axis="cell", unit="counts")
    one.obs["subject"] = ["subject 00", "subject 00", "subject 01"]
    record = pl.DataFrame(
        {"n": [1, None, 3], "ok": [True, None, False], "who": ["a", None, "<b>"], "l": [[1], [], None]}
    )
    return write_study(
        tmp_path / "whole",
        outcomes=toyed.outcomes,
        subjects=toyed.subjects,
        treatments=toyed.treatments,
        modalities={m: toyed.modality(m) for m in toyed.modalities} | {"rna": one},
        records={"odd": record},
        provenance={"source": "planted"},
        event="built",
    )


def test_a_modality_for_scanpy_carries_its_subjects(study: Study) -> None:
    data = study.to_anndata("expression")
    tissues = dict(study.subjects.select("subject", "tissue").rows())
    assert list(data.obs["tissue"]) == [tissues[s] for s in data.obs_names]
    data.X[:] = 0
    assert study.modality("expression").X.any(), "a copy: the study's own stays"
    assert list(study.to_anndata("rna").obs["tissue"]) == [
        tissues[s] for s in ("subject 00", "subject 00", "subject 01")
    ]
    assert "smiles" in study.to_anndata("drug_structure").obs


def test_there_and_back_is_the_same_study(study: Study, tmp_path: Path) -> None:
    whole = study.to_mudata()
    assert sorted(whole.mod) == ["copy_number", "expression", "mutation", "rna"]
    with mudata.set_options(pull_on_update=False), warnings.catch_warnings(action="ignore", category=UserWarning):
        whole.write(tmp_path / "x.h5mu")  # warns that one gene stands in several modalities
        read = mudata.read_h5mu(tmp_path / "x.h5mu")
    back = Study.from_mudata(read, tmp_path / "back")
    for frame in ("outcomes", "subjects", "treatments"):
        assert getattr(back, frame).equals(getattr(study, frame)), frame
    assert back.record("odd").equals(study.record("odd"))
    assert (back.modalities, back.provenance, back.check()) == (study.modalities, study.provenance, [])
    for name in study.modalities:
        np.testing.assert_array_equal(back.modality(name).X, study.modality(name).X)
        assert back.modality(name).uns["unit"] == study.modality(name).uns["unit"]


def test_what_mudata_does_not_say_is_asked_for(tmp_path: Path) -> None:
    given = mu(rna=cells())
    with pytest.raises(ExchangeError, match="does not say what its rows are"):
        Study.from_mudata(given, tmp_path / "x")
    with pytest.raises(ExchangeError, match=r"does not say its unit\. Give units=\{'rna'"):
        Study.from_mudata(given, tmp_path / "x", axis="cell")
    with pytest.raises(ExchangeError, match="no column 'subject' names each cell's subject; obs has: donor"):
        Study.from_mudata(given, tmp_path / "x", axis="cell", units={"rna": "counts"})
    assert not (tmp_path / "x").exists()
    made = Study.from_mudata(given, tmp_path / "x", axis="cell", units={"rna": "counts"}, subject="donor")
    assert made.subjects["subject"].to_list() == ["d1", "d2"]
    assert made.presence().select("subject", "rna").rows() == [("d1", True), ("d2", True)]
    assert made.manifest["files"]["modalities/rna.h5ad"]["cells"] == {"d1": 2, "d2": 1}
