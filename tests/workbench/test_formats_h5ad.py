"""H5AD: what AnnData writes is read back; what reaches outside the file, or is no plain data, is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from workbench.formats import FormatError, h5ad


def sample() -> anndata.AnnData:
    data = anndata.AnnData(
        np.arange(6, dtype=np.float32).reshape(2, 3),
        obs=pd.DataFrame({"kind": pd.Categorical(["a", "b"]), "on": [True, False]}, index=["x", "<b>y"]),
        var=pd.DataFrame(index=["g1", "g2", "g3"]),
    )
    data.uns = {"unit": "z", "axis": "subject"}
    data.layers["sparse"] = scipy.sparse.csr_matrix(data.X)
    data.obsm["pca"] = np.ones((2, 2))
    return data


def doctored(change: Callable[[h5py.File], object]) -> bytes:
    """A good file with one change made by ``change``."""
    buffer = io.BytesIO(h5ad.write(sample()))
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


def test_round_trip():
    data = h5ad.read(h5ad.write(sample()), "x.h5ad")
    np.testing.assert_array_equal(data.X, sample().X)
    assert data.X.dtype == np.float32
    assert list(data.obs_names) == ["x", "<b>y"]
    assert list(data.obs["kind"]) == ["a", "b"]
    assert dict(data.uns) == {"unit": "z", "axis": "subject"}
    np.testing.assert_array_equal(data.layers["sparse"].toarray(), sample().X)


def test_the_same_content_gives_the_same_bytes_all_of_it_gzipped():
    first = h5ad.write(sample())
    assert first == h5ad.write(sample())
    with h5py.File(io.BytesIO(first)) as file:
        assert file["X"].compression == "gzip"
        assert file["obs/_index"].compression == "gzip"


def _external_storage(file: h5py.File, secret: Path) -> None:
    del file["X"]
    file.create_dataset("X", shape=(2, 3), dtype="u1", external=[(str(secret), 0, 6)])


def _virtual(file: h5py.File, secret: Path) -> None:
    del file["X"]
    layout = h5py.VirtualLayout(shape=(2, 3), dtype="f4")
    layout[:] = h5py.VirtualSource(str(secret), "X", shape=(2, 3))
    file.create_virtual_dataset("X", layout)


def _external_link(file: h5py.File, secret: Path) -> None:
    file["uns/stolen"] = h5py.ExternalLink(str(secret), "/X")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_external_storage, r"x\.h5ad, /X: its bytes lie in another file \('.*secret'\)"),
        (_virtual, r"x\.h5ad, /X: a virtual dataset"),
        (_external_link, r"x\.h5ad, /uns/stolen: a link to '/X' in '.*secret' is refused"),
    ],
)
def test_bytes_of_other_files_stay_where_they_are(tmp_path, change, message):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    with pytest.raises(FormatError, match=message):
        h5ad.read(doctored(lambda file: change(file, secret)), "x.h5ad")


def _loop(file: h5py.File) -> None:
    file["uns/again"] = file["uns"]


def _soft(file: h5py.File) -> None:
    file["uns/soft"] = h5py.SoftLink("/X")


def _reference(file: h5py.File) -> None:
    file["uns/ref"] = np.array([file["X"].ref], dtype=h5py.ref_dtype)


def _reference_attribute(file: h5py.File) -> None:
    file["uns"].attrs["ref"] = file["X"].ref


def _opaque(file: h5py.File) -> None:
    file["uns/pickle"] = np.void(b"cos\nsystem\n(S'true'\ntR.")


def _ragged(file: h5py.File) -> None:
    file.create_dataset("uns/ragged", (2,), dtype=h5py.vlen_dtype(np.int32))


def _committed(file: h5py.File) -> None:
    file["uns/type"] = np.dtype("f8")


def _bomb(file: h5py.File) -> None:
    file.create_dataset("uns/bomb", shape=(10**6, 10**6), dtype="f8", chunks=(1000, 1000), compression="gzip")


def _lzf(file: h5py.File) -> None:
    file.create_dataset("uns/lzf", data=np.zeros(100), compression="lzf")


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        (_loop, "/uns/again", "second link to the same object"),
        (_soft, "/uns/soft", "a link to '/X' is refused"),
        (_reference, "/uns/ref", "object, reference or opaque"),
        (_reference_attribute, "/uns attribute 'ref'", "object, reference or opaque"),
        (_opaque, "/uns/pickle", "object, reference or opaque"),
        (_ragged, "/uns/ragged", "object, reference or opaque"),
        (_committed, "/uns/type", "expected a group or a dataset"),
        (_bomb, "/uns/bomb", "declares 8,000,000,000,000 bytes"),
        (_lzf, "/uns/lzf", "filter 32000 is refused"),
        (lambda f: f.attrs.__setitem__("encoding-type", "dict"), "/", "expected encoding-type 'anndata', found 'dict'"),
    ],
)
def test_hostile_content_is_refused_by_its_place(change, place, message):
    with pytest.raises(FormatError, match=message) as refusal:
        h5ad.read(doctored(change), "x.h5ad")
    assert (refusal.value.file, refusal.value.place) == ("x.h5ad", place)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 something else", h5ad.SIGNATURE, h5ad.SIGNATURE + b"\0" * 500])
def test_what_is_no_hdf5_is_refused(data):
    with pytest.raises(FormatError, match=r"^x\.h5ad, "):
        h5ad.read(data, "x.h5ad")


def test_a_cut_file_is_refused():
    data = h5ad.write(sample())
    with pytest.raises(FormatError, match=r"^x\.h5ad, content: AnnData cannot be read"):
        h5ad.read(data[: len(data) // 2], "x.h5ad")
