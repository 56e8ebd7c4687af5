"""10x Genomics HDF5 (``filtered_feature_bc_matrix.h5``) of Cell Ranger 2 and later: cells x features, counts.

Source: 10x Genomics, "Feature-barcode matrices, HDF5 format": a compressed sparse column matrix of features x barcodes
with ``barcodes``, ``features/{id,name,feature_type,genome}``; before version 3, one group per genome with ``genes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from workbench.formats import FormatError, _cells, _hdf5

if TYPE_CHECKING:
    from anndata import AnnData

PRELOAD = ("anndata", "h5py", "pandas", "scipy.sparse")  # imported once by `workbench.caged`, before it forks
PARTS = ("data", "indices", "indptr", "shape", "barcodes")


def read(data: bytes, file: str) -> AnnData:
    """Cells x features in CSR; ``var``: gene_id, symbol, feature_type; ``obs_names`` are barcodes.

    ``var_names`` are symbols, and "symbol (id)" where a symbol stands for several features.

    Raises
    ------
    FormatError
        Not HDF5, not of this layout, several genomes, or anything hostile.
    """
    return _hdf5.read(data, file, "a 10x matrix", lambda handle: _content(handle, file), foreign=True)


def _content(handle: h5py.File, file: str) -> AnnData:
    import scipy.sparse

    groups = [g for g in handle if isinstance(handle[g], h5py.Group) and set(PARTS) <= set(handle[g])]
    if len(groups) != 1:
        raise FormatError(file, "/", f"expected one group with {', '.join(PARTS)}, found {groups or list(handle)}")
    group = handle[groups[0]]
    rows, columns = (int(n) for n in group["shape"][()])
    parts = [group[n][()] for n in ("data", "indices", "indptr")]
    matrix = scipy.sparse.csc_matrix(tuple(parts), shape=(rows, columns))
    _hdf5.check_sparse(matrix, file, f"/{groups[0]}")
    if "features" in group:
        found = group["features"]
        ids, names = _hdf5.text(found["id"][()]), _hdf5.text(found["name"][()])
        kinds = _hdf5.text(found["feature_type"][()]) if "feature_type" in found else ["Gene Expression"] * rows
    elif "genes" in group and "gene_names" in group:
        ids, names = _hdf5.text(group["genes"][()]), _hdf5.text(group["gene_names"][()])
        kinds = ["Gene Expression"] * rows
    else:
        raise FormatError(file, f"/{groups[0]}", "expected 'features', or 'genes' and 'gene_names'")
    cells = _hdf5.text(group["barcodes"][()])
    return _cells.anndata(matrix.T.tocsr(), cells, ids, names, kinds, file, np.dtype(matrix.dtype).name)
