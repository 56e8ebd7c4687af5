"""H5AD (AnnData in HDF5), written with gzip and read from bytes after every link and dataset was looked at.

HDF5 can point outside itself: external links, soft links, external storage and virtual datasets make
one file return the bytes of another. None of these is needed for AnnData, so all are refused, as are
object and opaque data (AnnData needs only numbers, text, and records), filters that would load a
plug-in, and datasets that declare far more than they store.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from workbench.formats import FormatError

if TYPE_CHECKING:
    from anndata import AnnData

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}
INFLATION = 1100  # gzip cannot exceed about 1032 : 1
SLACK = 16 * 2**20  # bytes any dataset may declare, whatever it stores


def write(data: AnnData) -> bytes:
    """``data`` as h5ad, every array gzipped; the same input gives the same bytes."""
    import anndata

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        anndata.io.write_elem(file, "/", data, dataset_kwargs={"compression": "gzip"})
    return buffer.getvalue()


def read(data: bytes, file: str) -> AnnData:
    """The AnnData in ``data``, fully in memory.

    Raises
    ------
    FormatError
        Not HDF5, not AnnData, or anything in it reaches outside the file or is not plain data.
    """
    import anndata

    if data[:8] != SIGNATURE:
        raise FormatError(file, "start", "expected the HDF5 signature; the file is cut or of another kind")
    try:
        with h5py.File(io.BytesIO(data), "r") as handle:
            _look(handle, file, "", set())
            kind = handle.attrs.get("encoding-type")
            if kind != "anndata":
                raise FormatError(file, "/", f"expected encoding-type 'anndata', found {kind!r}")
            content: Any = anndata.io.read_elem(handle)
    except FormatError:
        raise
    except Exception as error:  # h5py and anndata raise many kinds on damaged files
        raise FormatError(file, "content", f"AnnData cannot be read: {type(error).__name__}: {error}") from error
    return content


def _look(group: h5py.Group, file: str, path: str, seen: set[int]) -> None:
    """Refuse anything below ``group`` that is not a plain group or a plain dataset of this file."""
    _attributes(group, file, path or "/")
    for name in group:
        place = f"{path}/{name}"
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            target = getattr(link, "path", "?")
            other = f" in {link.filename!r}" if isinstance(link, h5py.ExternalLink) else ""
            raise FormatError(file, place, f"a link to {target!r}{other} is refused: data must lie in this file itself")
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            raise FormatError(file, place, "a second link to the same object is refused (it could form a loop)")
        seen.add(address)
        if isinstance(item, h5py.Group):
            _look(item, file, place, seen)
        elif isinstance(item, h5py.Dataset):
            _dataset(item, file, place)
        else:
            raise FormatError(file, place, f"expected a group or a dataset, found {type(item).__name__}")


def _dataset(item: h5py.Dataset, file: str, place: str) -> None:
    if item.external:
        raise FormatError(file, place, f"its bytes lie in another file ({item.external[0][0]!r}): refused")
    if item.is_virtual:
        raise FormatError(file, place, "a virtual dataset (assembled from other files) is refused")
    _type(item.id.get_type(), item.dtype, file, place)
    _attributes(item, file, place)
    plist = item.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        code = plist.get_filter(index)[0]
        if code not in FILTERS:
            raise FormatError(file, place, f"filter {code} is refused; allowed: {', '.join(FILTERS.values())}")
    declared = item.size * item.dtype.itemsize if item.shape is not None else 0
    stored = item.id.get_storage_size()
    if declared > SLACK + INFLATION * stored:
        raise FormatError(file, place, f"declares {declared:,} bytes but stores {stored:,}: refused as a bomb")


def _attributes(item: h5py.Group | h5py.Dataset, file: str, place: str) -> None:
    for index in range(h5py.h5a.get_num_attrs(item.id)):
        attribute = h5py.h5a.open(item.id, index=index)
        name = attribute.name.decode(errors="replace")
        _type(attribute.get_type(), attribute.dtype, file, f"{place} attribute {name!r}")


def _type(kind: h5py.h5t.TypeID, dtype: np.dtype, file: str, place: str) -> None:
    """Numbers, Booleans, text and records of these pass."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        for index in range(kind.get_nmembers()):
            member = kind.get_member_type(index)
            _type(member, member.dtype, file, f"{place} field {kind.get_member_name(index).decode(errors='replace')!r}")
        return
    text = h5py.check_string_dtype(dtype) is not None
    if text or (dtype.kind in "iufbS" and dtype.subdtype is None):
        return
    raise FormatError(file, place, f"type {dtype} (object, reference or opaque) is refused: numbers and text only")
