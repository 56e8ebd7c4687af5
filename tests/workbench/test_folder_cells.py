"""Single-cell folders: cells by donors, proteins apart, and what X holds told by its values."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse

from tests.real import shared
from tests.samples import SAMPLES, cells
from workbench import folders
from workbench.folders import cells as kind
from workbench.formats import FormatError, h5ad


def test_real_files_kang_and_cite_seq(tmp_path: Path) -> None:
    folder = shared("single_cell")
    study = folders.build(folder, tmp_path / "cells", tissue="blood")
    kang, cite = "kang_pbmc_ifnb_scgen_valid", "pbmc_5k_protein_v3"
    shapes = {n: study.modality(n).shape for n in study.modalities}
    assert shapes == {
        f"single_cell_rna {kang}": (1975, 6998),
        f"single_cell_rna {cite}": (200, 16581),
        f"surface_protein {cite}": (200, 29),
    }
    units = {n: study.modality(n).uns["unit"] for n in study.modalities}
    assert units[f"single_cell_rna {kang}"].startswith("log1p"), "normalising it again would be a silent error"
    assert units[f"single_cell_rna {cite}"] == units[f"surface_protein {cite}"] == "counts"
    with h5py.File(folder / f"{cite}.h5ad") as file:
        protein = study.modality(f"surface_protein {cite}")
        np.testing.assert_array_equal(protein.X, file["obsm/protein_expression"][()])
        assert list(protein.var_names) == [n.decode() for n in file["uns/protein_names"][()]]
    assert study.subjects.rows() == [(kang, "blood"), (cite, "blood")]
    assert set(study.modality(f"single_cell_rna {kang}").obs["subject"]) == {kang}
    assert study.record("unread").height == 0 and study.check() == []


def test_donors_are_subjects(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "a.h5ad").write_bytes(SAMPLES["h5ad"]())
    study = folders.build(folder, tmp_path / "study")
    assert study.subjects["subject"].to_list() == ["d0", "d1"]
    data = study.modality("single_cell_rna")
    assert list(data.obs["subject"]) == ["d0", "d1", "d0", "d1"] and data.uns["unit"] == "counts"
    assert study.provenance["subjects_from"] == {"a.h5ad": "donor"}
    found: list[folders.Unread] = []
    content = kind.read(folder / "a.h5ad", found.append, subject_column="patient")
    assert content.subjects["subject"].to_list() == ["a"], "one file, one subject, where the column is not there"
    assert found[0].reason == "has no column 'patient'; it has ['donor']"


def test_a_10x_folder_a_10x_hdf5_and_mudata(tmp_path: Path) -> None:
    folder = tmp_path / "sample7"
    folder.mkdir()
    features = b"E1\tTP53\tGene Expression\nE2\tEGFR\tGene Expression\nC\tCD3\tAntibody Capture\n"
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(SAMPLES["mtx"]()))
    (folder / "features.tsv.gz").write_bytes(gzip.compress(features))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress(b"AAA-1\nCCC-1\n"))
    content = kind.read(folder, lambda _: None)
    assert content.modalities["single_cell_rna"].X.toarray().tolist() == [[5, 0], [0, 7]]
    assert content.modalities["surface_protein"].X.toarray().tolist() == [[2], [0]]
    assert content.subjects["subject"].to_list() == ["sample7"]
    (tmp_path / "m.h5").write_bytes(SAMPLES["tenx_h5"]())
    again = kind.read(tmp_path / "m.h5", lambda _: None)
    assert again.modalities["surface_protein"].X.toarray().tolist() == [[2], [0]]
    (tmp_path / "m.h5mu").write_bytes(SAMPLES["h5mu"]())
    both = kind.read(tmp_path / "m.h5mu", lambda _: None)
    assert {n: d.shape for n, d in both.modalities.items()} == {"single_cell_rna": (4, 3), "surface_protein": (4, 2)}
    assert both.subjects["subject"].to_list() == ["d0", "d1"]


def counts(cells_: int = 300, genes: int = 80) -> np.ndarray:
    return np.random.default_rng(5).poisson(3, (cells_, genes)).astype(np.float32)


def normalised(values: np.ndarray, total: float) -> np.ndarray:
    return values / values.sum(axis=1, keepdims=True) * total


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (counts(), "counts"),
        (np.log1p(normalised(counts(), 1e4)), "log1p(CP10k)"),
        (np.log1p(normalised(counts(), 1e6)), "log1p(CP1M)"),
        (np.log1p(normalised(counts(), 2500)), "log1p(CP2.5k)"),
        (normalised(counts(), 1e4), "CP10k"),
        (counts() - 3.0, "scaled (negative values: features were centred)"),
        (
            np.log1p(normalised(counts(), 1e4))[:, ::9],
            "log1p, normalised (told by its values; cells do not add up to one total)",
        ),
        (counts() * 1000.5, "normalised, scale unknown"),
        (np.zeros((3, 3), np.float32), "counts"),
    ],
)
def test_what_x_holds_is_told_by_its_values(values: np.ndarray, unit: str) -> None:
    assert kind.what_it_is(values) == unit
    assert kind.what_it_is(scipy.sparse.csr_matrix(values)) == unit


def test_raw_counts_are_kept_beside_normalised_values(tmp_path: Path) -> None:
    data = cells(300, 80)
    data.X = scipy.sparse.csr_matrix(counts())
    data.raw = data.copy()
    data.X = scipy.sparse.csr_matrix(np.log1p(normalised(counts(), 1e4)))
    (tmp_path / "a.h5ad").write_bytes(h5ad.write(data))
    read = kind.read(tmp_path, lambda _: None).modalities["single_cell_rna"]
    assert read.uns["unit"] == "log1p(CP10k)"
    np.testing.assert_array_equal(read.layers["counts"].toarray(), counts())


def test_a_partly_broken_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.h5ad").write_bytes(SAMPLES["h5ad"]())
    (folder / "cut.h5ad").write_bytes(SAMPLES["h5ad"]()[:4000])
    (folder / "zip.h5").write_bytes(SAMPLES["xlsx"]())
    (folder / "matrix.mtx").write_bytes(SAMPLES["mtx"]())
    (folder / "readme.md").write_text("cells")
    study = folders.build(folder, tmp_path / "study")
    assert study.modalities == ["single_cell_rna"]
    unread = {f: r for f, _, r in study.record("unread").rows()}
    assert set(unread) == {"cut.h5ad", "zip.h5", "matrix.mtx", "readme.md"}
    assert "found a zip archive" in unread["zip.h5"] and "features.tsv" in unread["matrix.mtx"]


def test_external_storage_in_a_users_file_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"own bytes")
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a.h5ad").write_bytes(SAMPLES["h5ad"]())
    with h5py.File(folder / "a.h5ad", "r+") as file:
        file.create_dataset("uns/stolen", (9,), "u1", external=[(str(secret), 0, 9)])
    found: list[folders.Unread] = []
    with pytest.raises(FormatError, match="not one can be read"):
        kind.read(folder, found.append)
    assert found[0].place == "/uns/stolen" and "its bytes lie in another file" in found[0].reason
