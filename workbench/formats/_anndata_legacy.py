"""AnnData as versions before 0.8 wrote it (no ``encoding-type`` at the root), turned into a present-day one by hand.

Layouts: 0.6, observations as one compound dataset, categories in ``uns``, sparse groups with ``h5sparse_*``; 0.7, data
frames as groups with ``__categories``. Read item by item, so that no reference in the file is followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from workbench.formats import FormatError, _hdf5

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

INDEX = ("index", "_index")


def recognises(handle: h5py.File) -> bool:
    """Is this an AnnData of that age?"""
    return "encoding-type" not in handle.attrs and {"X", "obs", "var"} <= set(handle)


def read(handle: h5py.File, file: str) -> AnnData:
    """The AnnData in ``handle``, which was looked at."""
    from anndata import AnnData

    uns = _tree(handle["uns"], file) if "uns" in handle else {}
    data = AnnData(
        _matrix(handle["X"], file), obs=_frame(handle["obs"], uns, file), var=_frame(handle["var"], uns, file)
    )
    for room in ("obsm", "varm", "layers"):
        if room in handle:
            for name, matrix in _arrays(handle[room], file).items():
                getattr(data, room)[name] = matrix
    if "raw.X" in handle and "raw.var" in handle:
        raw = AnnData(_matrix(handle["raw.X"], file), obs=data.obs[[]], var=_frame(handle["raw.var"], uns, file))
        data.raw = raw
    elif "raw" in handle and {"X", "var"} <= set(handle["raw"]):
        group = handle["raw"]
        data.raw = AnnData(_matrix(group["X"], file), obs=data.obs[[]], var=_frame(group["var"], uns, file))
    graphs = uns.get("neighbors")
    if isinstance(graphs, dict):
        for name in ("connectivities", "distances"):
            graph = graphs.get(name)
            if getattr(graph, "shape", None) == (data.n_obs, data.n_obs):
                data.obsp[name] = graphs.pop(name)
                graphs[f"{name}_key"] = name
    data.uns = {k: v for k, v in uns.items() if not k.endswith("_categories")}
    return data


def _matrix(item: h5py.Group | h5py.Dataset, file: str) -> Any:
    if isinstance(item, h5py.Dataset):
        return item[()]
    import scipy.sparse

    kind = item.attrs.get("h5sparse_format", item.attrs.get("encoding-type", b""))
    kind = (kind.decode() if isinstance(kind, bytes) else str(kind)).removesuffix("_matrix")
    shape = item.attrs.get("h5sparse_shape", item.attrs.get("shape"))
    build = {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix}.get(kind)
    if build is None or shape is None or len(shape) != 2:
        raise FormatError(file, item.name, f"expected a csr or csc matrix with its shape, found {kind!r} and {shape}")
    parts = item["data"][()], item["indices"][()], item["indptr"][()]
    return _hdf5.check_sparse(build(parts, shape=tuple(int(n) for n in shape)), file, item.name)


def _frame(item: h5py.Group | h5py.Dataset, uns: dict[str, Any], file: str) -> pd.DataFrame:
    import pandas as pd

    if isinstance(item, h5py.Dataset):
        table = item[()]
        fields = list(table.dtype.names or ())
        index = next((n for n in INDEX if n in fields), None)
        if index is None:
            raise FormatError(file, item.name, f"expected a field 'index', found {fields}")
        columns = {
            n: _coded(table[n], uns.get(f"{n}_categories"), file, f"{item.name} {n}") for n in fields if n != index
        }
        return pd.DataFrame(columns, index=pd.Index(_hdf5.text(table[index]), dtype=object))
    index = item.attrs.get("_index", "index")
    index = index.decode() if isinstance(index, bytes) else index
    order = _hdf5.text(np.asarray(item.attrs.get("column-order", [])))
    coded = item.get("__categories", {})
    columns = {
        n: _coded(item[n][()], coded[n][()] if n in coded else None, file, f"{item.name}/{n}")
        for n in order
        if isinstance(item[n], h5py.Dataset)
    }
    return pd.DataFrame(columns, index=pd.Index(_hdf5.text(item[index][()]), dtype=object))


def _coded(values: np.ndarray, categories: Any, file: str, place: str) -> Any:
    import pandas as pd

    if categories is None:
        return _hdf5.text(values) if values.dtype.kind in "SO" else values
    known = _hdf5.text(np.asarray(categories)) if np.asarray(categories).dtype.kind in "SOU" else list(categories)
    if values.dtype.kind not in "iu" or (values.size and (values.max() >= len(known) or values.min() < -1)):
        raise FormatError(file, place, f"codes do not fit its {len(known)} categories")
    return pd.Categorical.from_codes(values.astype(np.int64), known)


def _arrays(item: h5py.Group | h5py.Dataset, file: str) -> dict[str, Any]:
    if isinstance(item, h5py.Dataset):
        table = item[()]
        return {n: table[n] for n in table.dtype.names or ()}
    return {name: _matrix(item[name], file) for name in item}


def _tree(group: h5py.Group, file: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in group:
        item = group[name]
        if isinstance(item, h5py.Dataset):
            value = item[()]
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            elif isinstance(value, np.ndarray) and value.dtype.kind in "SO":
                value = np.array(_hdf5.text(value), dtype=object)
            out[name] = value
        elif "h5sparse_format" in item.attrs:
            out[name] = _matrix(item, file)
        else:
            out[name] = _tree(item, file)
    return out
