"""H5AD (AnnData in HDF5), written with gzip and read from bytes after every link and dataset was looked at.

Files of AnnData before 0.8 are read too. Sparse matrices are checked index by index, since SciPy would follow a bad one
out of its memory.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import h5py

from workbench.formats import FormatError, _anndata_legacy, _hdf5
from workbench.formats._hdf5 import SIGNATURE

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["SIGNATURE", "read", "write"]

PRELOAD = ("anndata", "h5py", "pandas", "scipy.sparse")  # imported once by `workbench.caged`, before it forks


def write(data: AnnData) -> bytes:
    """``data`` as h5ad, every array gzipped; the same input gives the same bytes."""
    import anndata

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        anndata.io.write_elem(file, "/", data, dataset_kwargs={"compression": "gzip"})
    return buffer.getvalue()


def read(data: bytes, file: str, *, foreign: bool = False) -> AnnData:
    """The AnnData in ``data``, fully in memory.

    Parameters
    ----------
    foreign : also read what AnnData wrote before 0.8, and LZF (a study's own files have neither)

    Raises
    ------
    FormatError
        Not HDF5, not AnnData, or anything in it reaches outside the file or is not plain data.
    """
    import anndata

    def content(handle: h5py.File) -> Any:
        if foreign and _anndata_legacy.recognises(handle):
            return _anndata_legacy.read(handle, file)
        kind = handle.attrs.get("encoding-type")
        if kind != "anndata":
            raise FormatError(file, "/", f"expected encoding-type 'anndata', found {kind!r}")
        found: Any = anndata.io.read_elem(handle)
        _hdf5.check_matrices(found, file)
        return found

    return _hdf5.read(data, file, "AnnData", content, foreign)
