"""10x, h5mu, foreign h5ad and foreign parquet: what they hold is read; what could do harm is refused by its place."""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import mudata
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.real import shared
from tests.samples import SAMPLES
from workbench.formats import FormatError, h5ad, h5mu, mtx, parquet, tenx_h5

READERS = {"h5ad": h5ad.read, "h5mu": h5mu.read, "tenx_h5": tenx_h5.read}
FEATURES = b"ENSG1\tTP53\tGene Expression\nENSG2\tTP53\tGene Expression\nCD3\tCD3\tAntibody Capture\n"


def doctored(kind: str, change: Callable[[h5py.File], object]) -> bytes:
    buffer = io.BytesIO(SAMPLES[kind]())
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


# --- 10x -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress])
def test_a_10x_folder_as_three_files(pack: Callable[[bytes], bytes]) -> None:
    data = mtx.read(pack(SAMPLES["mtx"]()), "m.mtx", features=pack(FEATURES), barcodes=pack(b"AAA-1\nCCC-1\n"))
    np.testing.assert_array_equal(data.X.toarray(), [[5, 0, 2], [0, 7, 0]])
    assert list(data.obs_names) == ["AAA-1", "CCC-1"]
    assert list(data.var_names) == ["TP53 (ENSG1)", "TP53 (ENSG2)", "CD3"], "one symbol, two genes: both keep a name"
    assert list(data.var["feature_type"]) == ["Gene Expression"] * 2 + ["Antibody Capture"]


def test_a_10x_hdf5_says_the_same() -> None:
    data = tenx_h5.read(SAMPLES["tenx_h5"](), "m.h5")
    np.testing.assert_array_equal(data.X.toarray(), [[5, 0, 2], [0, 7, 0]])
    assert list(data.obs_names) == ["AAA-1", "CCC-1"]
    assert list(data.var_names) == ["TP53 (ENSG1)", "TP53 (ENSG2)", "CD3"]


MTX = SAMPLES["mtx"]().decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MTX.replace("3 2 3\n", "3 2 4\n"), r"size line: declares 4 entries, found 3: the file is cut"),
        (MTX.replace("2 2 7", "2 3 7"), r"entry 3: column 3 lies outside 1 to 2"),
        (MTX.replace("2 2 7", "0 2 7"), r"entry 3: row 0 lies outside 1 to 3"),
        (MTX.replace("2 2 7", "1 1 7"), r"entries: 1 of them stand twice"),
        (MTX.replace("2 2 7", "2 2 nan"), r"entry 3: expected a finite number"),
        (MTX.replace("2 2 7", "2 2 x"), r"entries: expected row column value"),
        (MTX.replace("3 2 3\n", "900000000 900000000 3\n"), r"refused"),
        (MTX.replace("general", "symmetric"), "makes no sense"),
        (MTX.replace("coordinate", "array"), r"line 1: expected '%%MatrixMarket matrix coordinate"),
        (MTX[:48], "size line: is missing"),
    ],
)
def test_a_matrix_that_does_not_hold_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        mtx.read(text.encode(), "m.mtx")


def test_lists_that_do_not_fit_and_bombs_are_refused() -> None:
    with pytest.raises(FormatError, match="barcodes: expected 2 as the matrix has, found 1"):
        mtx.read(SAMPLES["mtx"](), "m.mtx", barcodes=b"AAA\n")
    with pytest.raises(FormatError, match="feature id: 'g' stands twice"):
        mtx.read(SAMPLES["mtx"](), "m.mtx", features=b"g\tA\ng\tB\nh\tC\n")
    with pytest.raises(FormatError, match="refused as a bomb"):
        mtx.read(gzip.compress(b"%" * 30_000_000), "m.mtx", limit=1_000_000)


def _outside(file: h5py.File) -> None:
    file["matrix/indices"][1] = 99


def _falling(file: h5py.File) -> None:
    file["matrix/indptr"][1] = 9


def _two(file: h5py.File) -> None:
    file.copy("matrix", "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_outside, "sparse matrix whose indices do not hold"),
        (_falling, "sparse matrix"),
        (_two, "expected one group with data"),
        (lambda f: f["matrix/shape"].write_direct(np.array([3, 5], dtype=np.int32)), "cannot be read|barcodes"),
        (lambda f: f["matrix"].pop("barcodes"), "expected one group"),
    ],
)
def test_a_10x_hdf5_that_does_not_hold_is_refused(change: Callable[[h5py.File], object], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        tenx_h5.read(doctored("tenx_h5", change), "m.h5")


# --- MuData ----------------------------------------------------------------------------------------------------------


def test_h5mu_keeps_modalities_and_their_order(tmp_path: Path) -> None:
    data = h5mu.read(SAMPLES["h5mu"](), "m.h5mu")
    assert list(data.mod) == ["rna", "prot"]
    assert data.mod["rna"].shape == (4, 3) and data.mod["prot"].shape == (4, 2)
    assert list(data.mod["rna"].obs["donor"]) == ["d0", "d1", "d0", "d1"]
    with mudata.set_options(pull_on_update=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write(tmp_path / "own.h5mu")  # as mudata writes it: 512 bytes of text before the signature
    again = h5mu.read((tmp_path / "own.h5mu").read_bytes(), "own.h5mu")
    np.testing.assert_array_equal(again.mod["rna"].X.toarray(), data.mod["rna"].X.toarray())
    with pytest.raises(FormatError, match="expected encoding-type 'MuData'"):
        h5mu.read(SAMPLES["h5ad"](), "m.h5mu")


# --- every HDF5 reader refuses what reaches out ----------------------------------------------------------------------


def _plant(kind: str) -> str:
    return {"h5ad": "uns", "h5mu": "mod", "tenx_h5": "matrix"}[kind]


def _external(file: h5py.File, place: str, secret: str) -> None:
    file[f"{place}/planted"] = h5py.ExternalLink(secret, "/x")


def _storage(file: h5py.File, place: str, secret: str) -> None:
    file.create_dataset(f"{place}/planted", (4,), "u1", external=[(secret, 0, 4)])


def _virtual(file: h5py.File, place: str, secret: str) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(secret, "x", (4,))
    file.create_virtual_dataset(f"{place}/planted", layout)


def _pickled(file: h5py.File, place: str, secret: str) -> None:
    file[f"{place}/planted"] = np.void(b"cos\nsystem\n(S'true'\ntR.")


def _soft(file: h5py.File, place: str, secret: str) -> None:
    file[f"{place}/planted"] = h5py.SoftLink("/")


def _declared(file: h5py.File, place: str, secret: str) -> None:
    file.create_dataset(f"{place}/planted", (10**7, 10**5), "f8", chunks=(100, 100), compression="gzip")


def _chunk(file: h5py.File, place: str, secret: str) -> None:
    file.create_dataset(f"{place}/planted", (10,), "u1", maxshape=(None,), chunks=(2**30,), compression="gzip")


def _many(file: h5py.File, place: str, secret: str) -> None:
    for index in range(12):
        file.create_dataset(f"{place}/planted{index:02d}", (15 * 2**20,), "u1", chunks=(2**20,), compression="gzip")


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (_external, "a link to '/x' in '.*secret' is refused"),
        (_storage, "its bytes lie in another file"),
        (_virtual, "virtual dataset"),
        (_pickled, "object, reference or opaque"),
        (_soft, "a link to '/' is refused"),
        (_declared, "refused as a bomb"),
        (_chunk, "refused as a bomb"),
        (_many, "not stored: refused as a bomb"),
    ],
)
def test_no_hdf5_reader_reaches_out_of_its_file(tmp_path: Path, kind: str, plant: Callable, message: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"own bytes")
    data = doctored(kind, lambda file: plant(file, _plant(kind), str(secret)))
    with pytest.raises(FormatError, match=message) as refusal:
        READERS[kind](data, "x.h5")
    assert refusal.value.place.startswith(f"/{_plant(kind)}/planted")
    assert "own bytes" not in str(refusal.value)


@pytest.mark.parametrize("kind", READERS)
def test_a_clean_file_passes_and_a_cut_one_does_not(kind: str) -> None:
    whole = SAMPLES[kind]()
    READERS[kind](whole, "x.h5")
    with pytest.raises(FormatError, match=r"^x\.h5, "):
        READERS[kind](whole[: len(whole) // 2], "x.h5")
    with pytest.raises(FormatError, match="expected the HDF5 signature, found a zip archive"):
        READERS[kind](SAMPLES["xlsx"](), "x.h5")


def test_a_sparse_index_out_of_bounds_never_reaches_scipy() -> None:
    data = doctored("h5ad", lambda f: f["X/indices"].__setitem__(0, 10**6))
    with pytest.raises(FormatError, match="/X: a sparse matrix whose indices do not hold"):
        h5ad.read(data, "x.h5ad")


def test_lzf_is_for_foreign_files_only() -> None:
    data = doctored("h5ad", lambda f: f.create_dataset("uns/lzf", data=np.zeros(100), compression="lzf"))
    with pytest.raises(FormatError, match="filter 32000 is refused"):
        h5ad.read(data, "x.h5ad")
    assert h5ad.read(data, "x.h5ad", foreign=True).uns["lzf"].shape == (100,)


# --- AnnData of earlier years ----------------------------------------------------------------------------------------


def test_a_file_of_anndata_0_6_agrees_with_its_bytes() -> None:
    path = shared("single_cell/kang_pbmc_ifnb_scgen_valid.h5ad")
    data = h5ad.read(path.read_bytes(), path.name, foreign=True)
    assert data.shape == (1975, 6998)
    with h5py.File(path) as file:
        assert data.X.nnz == len(file["X/data"]) and float(data.X.sum()) == pytest.approx(
            float(file["X/data"][()].sum())
        )
        names = [n.decode() for n in file["uns/cell_type_categories"][()]]
        assert [names.index(t) for t in data.obs["cell_type"]] == file["obs"]["cell_type"].tolist()
        assert list(data.obs_names[:2]) == [n.decode() for n in file["obs"]["index"][:2]]
    assert data.obs["cell_type"].nunique() == 7 and dict(data.obs["condition"].value_counts())["control"] > 0
    assert data.obsp["distances"].shape == (1975, 1975)
    assert h5ad.read(h5ad.write(data), "again.h5ad").shape == data.shape, "it is a present-day file once written"
    with pytest.raises(FormatError):
        h5ad.read(path.read_bytes(), path.name)


def test_a_file_of_anndata_0_7_with_references_and_lzf() -> None:
    path = shared("single_cell/pbmc_5k_protein_v3.h5ad")
    data = h5ad.read(path.read_bytes(), path.name, foreign=True)
    assert data.shape == (200, 16581) and data.obsm["protein_expression"].shape == (200, 29)
    assert data.X.sum() == np.rint(data.X.sum())
    with h5py.File(path) as file:
        assert data.obs["n_counts"].tolist() == file["obs/n_counts"][()].tolist()


# --- parquet ---------------------------------------------------------------------------------------------------------


def test_a_parquet_that_declares_far_more_than_it_holds_is_refused() -> None:
    rows = 60_000_000
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype="i1")), pa.array(["x"]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": codes}), buffer, compression="zstd")
    with pytest.raises(FormatError, match=r"footer: declares 60,000,000 rows x 1 columns in .* refused as a bomb"):
        parquet.read(buffer.getvalue(), "x.parquet")


def test_metadata_of_other_writers_builds_nothing(tmp_path: Path) -> None:
    """pyarrow once unpickled this on reading; here the column is what it stores."""
    marker = tmp_path / "ran"
    evil = f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()
    field = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": evil}
    schema = pa.schema([pa.field("a", pa.int64(), metadata=field)], metadata={b"pandas": evil})
    buffer = io.BytesIO()
    pq.write_table(pa.table([pa.array([1, 2])], schema=schema), buffer)
    read = parquet.read(buffer.getvalue(), "x.parquet")
    assert read.schema == {"a": pl.Int64} and read["a"].to_list() == [1, 2]
    assert not marker.exists()
