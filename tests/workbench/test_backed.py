"""Files larger than memory: proven, looked at, read by blocks; the same numbers as anndata reads whole."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pytest
from anndata import AnnData
from scipy.sparse import csc_matrix, csr_matrix, issparse

from workbench import backed, manifest
from workbench.backed import Backed
from workbench.formats import FormatError
from workbench.manifest import StudyError

CELLS, GENES = 3000, 40


def cells(kind: str = "csr", dtype: str = "float32", axis: str | None = "cell") -> AnnData:
    """Sparse counts of CELLS cells, three subjects, one missing category."""
    rng = np.random.default_rng(3)
    dense = (rng.poisson(2, (CELLS, GENES)) * (rng.random((CELLS, GENES)) < 0.2)).astype(dtype)
    kinds = {"csr": csr_matrix, "csc": csc_matrix, "dense": np.asarray}
    labels = pd.Categorical(np.where(rng.random(CELLS) < 0.1, None, rng.choice(["T cell", "B cell"], CELLS)))
    obs = pd.DataFrame(
        {
            "subject": pd.Categorical(rng.choice(["s1", "s2", "s3"], CELLS)),
            "label": labels,
            "depth": dense.sum(axis=1).astype(np.float64),
            "flag": rng.random(CELLS) < 0.5,
            "note": rng.choice(["a", "ü"], CELLS),
            "batch": pd.array(rng.integers(0, 3, CELLS), dtype="Int64"),
        },
        index=[f"cell{i}" for i in range(CELLS)],
    )
    data = AnnData(kinds[kind](dense), obs=obs)
    data.var_names = [f"gene{j}" for j in range(GENES)]
    data.layers["double"] = kinds[kind](dense * 2)
    data.uns |= {"unit": "counts"} | ({"axis": axis} if axis else {})
    return data


def stored(folder: Path, data: AnnData, **options) -> Path:
    path = folder / "cells.h5ad"
    data.write_h5ad(path, **options)
    return path


def plain(found) -> np.ndarray:
    return found.toarray() if issparse(found) else found


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_rows_are_those_that_anndata_reads(tmp_path: Path, kind: str, compression: str | None) -> None:
    data = cells(kind)
    path = stored(tmp_path, data, compression=compression)
    if compression == "lzf":  # a filter a study never writes
        with pytest.raises(FormatError, match="filter"):
            Backed.open(path)
        return
    whole = plain(data.X)
    with Backed.open(path) as file:
        assert file.shape == (CELLS, GENES) and file.kind == kind and (file.axis, file.unit) == ("cell", "counts")
        assert issparse(file.rows(0, 1)) is (kind == "csr")
        for start, stop in ((0, 7), (1234, 2345), (CELLS - 1, CELLS), (0, CELLS), (5, 5)):
            np.testing.assert_array_equal(plain(file.rows(start, stop)), whole[start:stop])
        wanted = [7, 2999, 8, 7, 0, 1500]
        np.testing.assert_array_equal(plain(file.take(wanted)), whole[wanted])
        assert plain(file.take([])).shape == (0, GENES)
        with pytest.raises(IndexError, match="3000"):
            file.take([CELLS])
    with Backed.open(path, layer="double") as file:
        np.testing.assert_array_equal(plain(file.rows(10, 20)), 2 * whole[10:20])


@pytest.mark.parametrize("layout", ["chunked", "big endian", "shuffle", "userblock"])
def test_unusual_layouts_give_the_same_rows(tmp_path: Path, layout: str) -> None:
    data = cells("dense" if layout == "chunked" else "csr")
    path = stored(tmp_path, data, compression="gzip" if layout == "chunked" else None)
    with h5py.File(path, "r+") as file:
        if layout in ("big endian", "shuffle"):
            values = file["X/data"][:]
            attributes = dict(file["X/data"].attrs)
            del file["X/data"]
            options = {"dtype": ">f4"} if layout == "big endian" else {"shuffle": True, "compression": "gzip"}
            file["X"].create_dataset("data", data=values, chunks=(777,), **options).attrs.update(attributes)
    if layout == "userblock":
        with h5py.File(tmp_path / "moved.h5ad", "w", userblock_size=512) as new, h5py.File(path) as old:
            for name in old:
                old.copy(name, new)
            new.attrs.update(old.attrs)
        path = tmp_path / "moved.h5ad"
        with pytest.raises(FormatError, match="signature"):
            Backed.open(path)
        return
    with Backed.open(path) as file:
        assert file.data.direct is (layout == "shuffle")
        np.testing.assert_array_equal(plain(file.rows(100, 2100)), plain(data.X)[100:2100])


def test_columns_of_obs_keep_their_kind(tmp_path: Path) -> None:
    data = cells()
    with Backed.open(stored(tmp_path, data)) as file:
        assert file.names()[2] == "cell2" and file.features()[3] == "gene3"
        assert file.columns == list(data.obs.columns)
        frame = file.obs()
        assert frame.columns == ["name", *data.obs.columns] and frame.height == CELLS
        assert frame["label"].dtype == pl.Enum(["B cell", "T cell"])
        assert frame["label"].to_list() == [None if v != v else v for v in data.obs["label"]]
        assert frame["depth"].to_list() == data.obs["depth"].tolist()
        assert frame["flag"].to_list() == data.obs["flag"].tolist()
        assert frame["note"].to_list() == data.obs["note"].tolist()
        assert frame["batch"].to_list() == data.obs["batch"].tolist()
        codes, categories = file.codes("label")
        assert categories == ["B cell", "T cell"] and (codes == data.obs["label"].cat.codes.to_numpy()).all()
        assert file.codes("note")[1] == ["a", "ü"]
        with pytest.raises(KeyError, match="Did you mean 'label'"):
            file.column("labl")


def test_facts_count_the_cells_of_each_subject(tmp_path: Path) -> None:
    data = cells()
    facts = backed.facts(stored(tmp_path, data))
    assert facts["subjects"] == data.obs["subject"].value_counts().to_dict()
    assert (facts["shape"], facts["dtype"], facts["axis"], facts["unit"]) == (
        (CELLS, GENES),
        "float32",
        "cell",
        "counts",
    )
    del data.obs["subject"]
    assert backed.facts(stored(tmp_path, data))["subjects"] is None
    data.uns["axis"] = "subject"
    assert backed.facts(stored(tmp_path, data))["subjects"] == dict.fromkeys(data.obs_names, 1)
    data.obs_names = ["twice", "twice", *data.obs_names[2:]]
    with pytest.raises(FormatError, match="'twice' stands in more than one place"):
        backed.facts(stored(tmp_path, data))


def test_a_cell_without_subject_is_refused(tmp_path: Path) -> None:
    data = cells()
    data.obs.loc["cell5", "subject"] = None
    with pytest.raises(FormatError, match="row 5 has no subject"):
        backed.facts(stored(tmp_path, data))


def test_csc_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="tocsr"):
        Backed.open(stored(tmp_path, cells("csc")))


def _external(file: h5py.File) -> None:
    file["obs/stolen"] = h5py.ExternalLink("/etc/hostname", "/")


def _soft(file: h5py.File) -> None:
    file["obs/soft"] = h5py.SoftLink("/var")


def _storage(file: h5py.File) -> None:
    file.create_dataset("stolen", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def _bomb(file: h5py.File) -> None:
    file.create_dataset("bomb", (2**34,), "f4", chunks=(2**20,), compression="gzip")


def _pointers_fall(file: h5py.File) -> None:
    file["X/indptr"][5] = file["X/indptr"][6] + 1


def _pointers_too_far(file: h5py.File) -> None:
    file["X/indptr"][-1] = 10**9


def _names_missing(file: h5py.File) -> None:
    del file["var/_index"]


@pytest.mark.parametrize(
    "hurt",
    [_external, _soft, _storage, _bomb, _pointers_fall, _pointers_too_far, _names_missing],
    ids=lambda f: f.__name__,
)
def test_a_hostile_or_damaged_file_is_refused_before_a_row_is_read(tmp_path: Path, hurt) -> None:
    path = stored(tmp_path, cells())
    Backed.open(path).close()  # the clean control
    with h5py.File(path, "r+") as file:
        hurt(file)
    with pytest.raises(FormatError):
        Backed.open(path)


@pytest.mark.parametrize("value", [-1, GENES, 2**30])
def test_a_column_outside_the_matrix_is_refused(tmp_path: Path, value: int) -> None:
    path = stored(tmp_path, cells())
    with h5py.File(path, "r+") as file:
        file["X/indices"][3] = value
    with Backed.open(path) as file, pytest.raises(FormatError, match="outside"):
        file.rows(0, 10)


def test_a_cut_file_and_another_kind_are_refused(tmp_path: Path) -> None:
    path = stored(tmp_path, cells())
    data = path.read_bytes()
    for bad in (data[: len(data) // 2], b"PAR1" + data[4:], b""):
        path.write_bytes(bad)
        with pytest.raises(FormatError):
            Backed.open(path)
    with pytest.raises(FileNotFoundError):
        Backed.open(tmp_path / "none.h5ad")
    (tmp_path / "link.h5ad").symlink_to(path)
    with pytest.raises(FileNotFoundError, match="link"):
        Backed.open(tmp_path / "link.h5ad")


def test_another_digest_or_size_is_refused_and_one_check_serves_the_process(tmp_path: Path) -> None:
    path = stored(tmp_path, cells())
    digest, size = manifest.sha256(path.read_bytes()), path.stat().st_size
    told: list[float] = []
    Backed.open(path, "modalities/x.h5ad", digest, size, progress=told.append).close()
    assert told[-1] == 1.0
    Backed.open(path, "x", digest, size, progress=lambda done: pytest.fail("read again")).close()
    with pytest.raises(StudyError, match="expected SHA-256 00"):
        Backed.open(path, "x", "00" * 32, size)
    with pytest.raises(StudyError, match="bytes"):
        Backed.open(path, "x", digest, size + 1)
    stat = path.stat()
    flipped = bytearray(path.read_bytes())
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a forged time does not help
    with pytest.raises(StudyError, match="expected SHA-256"):
        Backed.open(path, "x", digest, size)


def test_a_file_written_to_while_open_is_noticed(tmp_path: Path) -> None:
    path = stored(tmp_path, cells())
    with Backed.open(path) as file:
        file.rows(0, 1)
        with path.open("r+b") as stream:
            stream.seek(-1, 2)
            stream.write(b"!")
        os.utime(path)
        with pytest.raises(StudyError, match="changed on disk"):
            file.rows(0, 1)


def test_it_travels_to_another_process_by_its_path_and_closes(tmp_path: Path) -> None:
    data = cells()
    with Backed.open(stored(tmp_path, data)) as file, pickle.loads(pickle.dumps(file)) as copy:
        np.testing.assert_array_equal(plain(copy.rows(3, 9)), plain(data.X)[3:9])
    with pytest.raises(ValueError, match="closed"):
        file.rows(0, 1)
