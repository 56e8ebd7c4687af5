"""H5MU (MuData in HDF5: several AnnData of the same cells), read from bytes after the same look as h5ad.

Source: MuData, Bredikhin et al. 2022, Genome Biology 23:42. A written file starts with a 512-byte block of text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py

from workbench.formats import FormatError, _hdf5

if TYPE_CHECKING:
    from mudata import MuData

PRELOAD = ("anndata", "h5py", "mudata", "pandas", "scipy.sparse")  # imported once by `workbench.caged`, before it forks
ROOMS = ("obs", "var", "obsm", "varm", "obsp", "varp", "obsmap", "varmap", "uns")


def read(data: bytes, file: str) -> MuData:
    """The MuData in ``data``, fully in memory, its modalities in the order of the file.

    Raises
    ------
    FormatError
        Not HDF5, not MuData, or anything in it reaches outside the file or is not plain data.
    """
    return _hdf5.read(data, file, "MuData", lambda handle: _content(handle, file), foreign=True)


def _content(handle: h5py.File, file: str) -> MuData:
    import anndata
    import mudata

    kind = handle.attrs.get("encoding-type")
    if kind != "MuData" or not isinstance(handle.get("mod"), h5py.Group):
        raise FormatError(file, "/", f"expected encoding-type 'MuData' with a group 'mod', found {kind!r}")
    group = handle["mod"]
    order = group.attrs.get("mod-order")
    listed = _hdf5.text(order) if order is not None else []
    names = listed if set(listed) == set(group) else list(group)
    modalities: dict[str, Any] = {}
    for name in names:
        item: Any = anndata.io.read_elem(group[name])
        if not isinstance(item, anndata.AnnData):
            raise FormatError(file, f"/mod/{name}", f"expected an AnnData, found {type(item).__name__}")
        _hdf5.check_matrices(item, file, f"/mod/{name}")
        modalities[name] = item
    rest = {name: anndata.io.read_elem(handle[name]) for name in ROOMS if name in handle}
    with mudata.set_options(pull_on_update=False):
        return mudata.MuData(modalities, axis=int(handle.attrs.get("axis", 0)), **rest)
