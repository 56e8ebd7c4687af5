"""HDF5 looked at link by link and dataset by dataset before anything is read from it.

HDF5 can point outside itself: external links, soft links, external storage and virtual datasets make one file return
the bytes of another. None of these is needed here, so all are refused, as are object and opaque data, filters that
would load a plug-in, and datasets that declare far more than they store.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from workbench.formats import FormatError, _kind

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}
FOREIGN = {32000: "lzf"}  # compiled into h5py, no plug-in; at most 88 : 1
INFLATION = 1100  # gzip cannot exceed about 1032 : 1
SLACK = 16 * 2**20  # bytes any dataset may declare, whatever it stores
TOTAL = 8 * SLACK  # bytes all datasets together may declare beyond what they can store
OBJECTS = 200_000


def read(data: bytes, file: str, what: str, content: Callable[[h5py.File], Any], foreign: bool = False) -> Any:
    """``content(handle)`` of the HDF5 file in ``data``, once everything in it was looked at.

    Parameters
    ----------
    what : what it should be ("AnnData"), for messages
    foreign : the file is not our own: let pass LZF (built into h5py) and what AnnData wrote before 0.8, references
        as attribute "categories" and records with array fields

    Raises
    ------
    FormatError
        Not HDF5, hostile content, or ``content`` failed.
    """
    if data[:8] != SIGNATURE and not (data[:6] == b"MuData" and data[512:520] == SIGNATURE):
        found = _kind.kind(data)
        raise FormatError(
            file, "start", f"expected the HDF5 signature, found {found}; the file is cut or of another kind"
        )
    try:
        with h5py.File(io.BytesIO(data), "r") as handle:
            look(handle, file, foreign=foreign)
            with warnings.catch_warnings():
                if foreign:  # another program's age and habits are no news to this one's user
                    warnings.simplefilter("ignore")
                return content(handle)
    except FormatError:
        raise
    except Exception as error:  # h5py and anndata raise many kinds on damaged files
        raise FormatError(file, "content", f"{what} cannot be read: {type(error).__name__}: {error}") from error


def look(handle: h5py.File, file: str, foreign: bool = False) -> None:
    """Refuse anything in ``handle`` that is not a plain group or a plain dataset of this file.

    Raises
    ------
    FormatError
        Names the place and the reason.
    """
    _Look(file, foreign).group(handle, "")


class _Look:
    def __init__(self, file: str, foreign: bool) -> None:
        self.file, self.foreign = file, foreign
        self.seen: set[int] = set()
        self.unbacked = 0

    def group(self, group: h5py.Group, path: str) -> None:
        self.attributes(group, path or "/")
        for name in group:
            place = f"{path}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                target = getattr(link, "path", "?")
                other = f" in {link.filename!r}" if isinstance(link, h5py.ExternalLink) else ""
                raise FormatError(
                    self.file, place, f"a link to {target!r}{other} is refused: data must lie in this file itself"
                )
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in self.seen:
                raise FormatError(
                    self.file, place, "a second link to the same object is refused (it could form a loop)"
                )
            self.seen.add(address)
            if len(self.seen) > OBJECTS:
                raise FormatError(self.file, place, f"more than {OBJECTS:,} objects: refused as a bomb")
            if isinstance(item, h5py.Group):
                self.group(item, place)
            elif isinstance(item, h5py.Dataset):
                self.dataset(item, place)
            else:
                raise FormatError(self.file, place, f"expected a group or a dataset, found {type(item).__name__}")

    def dataset(self, item: h5py.Dataset, place: str) -> None:
        if item.external:
            raise FormatError(self.file, place, f"its bytes lie in another file ({item.external[0][0]!r}): refused")
        if item.is_virtual:
            raise FormatError(self.file, place, "a virtual dataset (assembled from other files) is refused")
        self.type(item.id.get_type(), item.dtype, place)
        self.attributes(item, place)
        plist = item.id.get_create_plist()
        for index in range(plist.get_nfilters()):
            code = plist.get_filter(index)[0]
            allowed = FILTERS | FOREIGN if self.foreign else FILTERS
            if code not in allowed:
                raise FormatError(self.file, place, f"filter {code} is refused; allowed: {', '.join(allowed.values())}")
        declared = item.size * item.dtype.itemsize if item.shape is not None else 0
        if item.chunks:  # a chunk is inflated whole, and may be larger than its dataset
            declared = max(declared, int(np.prod([int(n) for n in item.chunks], dtype=object)) * item.dtype.itemsize)
        stored = item.id.get_storage_size()
        beyond = declared - INFLATION * stored
        self.unbacked += max(0, beyond)
        if beyond > SLACK:
            raise FormatError(self.file, place, f"declares {declared:,} bytes but stores {stored:,}: refused as a bomb")
        if self.unbacked > TOTAL:
            raise FormatError(
                self.file, place, f"datasets declare over {TOTAL:,} bytes that are not stored: refused as a bomb"
            )

    def attributes(self, item: h5py.Group | h5py.Dataset, place: str) -> None:
        for index in range(h5py.h5a.get_num_attrs(item.id)):
            attribute = h5py.h5a.open(item.id, index=index)
            name = attribute.name.decode(errors="replace")
            if self.foreign and name == "categories" and isinstance(attribute.get_type(), h5py.h5t.TypeReferenceID):
                continue  # never followed: the categories are found by name
            self.type(attribute.get_type(), attribute.dtype, f"{place} attribute {name!r}")

    def type(self, kind: h5py.h5t.TypeID, dtype: np.dtype, place: str) -> None:
        """Numbers, Booleans, text and records of these pass."""
        if isinstance(kind, h5py.h5t.TypeCompoundID):
            for index in range(kind.get_nmembers()):
                member = kind.get_member_type(index)
                field = kind.get_member_name(index).decode(errors="replace")
                if self.foreign and isinstance(member, h5py.h5t.TypeArrayID):
                    member = member.get_super()
                self.type(member, member.dtype, f"{place} field {field!r}")
            return
        text = h5py.check_string_dtype(dtype) is not None
        if text or (dtype.kind in "iufbS" and dtype.subdtype is None):
            return
        raise FormatError(
            self.file, place, f"type {dtype} (object, reference or opaque) is refused: numbers and text only"
        )


def check_sparse(matrix: Any, file: str, place: str) -> Any:
    """``matrix`` if it is dense, or sparse with every index in bounds (SciPy's C++ does not look).

    Raises
    ------
    FormatError
        An index lies outside, or the pointers do not rise.
    """
    if hasattr(matrix, "check_format"):
        try:
            matrix.check_format(full_check=True)
        except Exception as error:
            raise FormatError(file, place, f"a sparse matrix whose indices do not hold: {error}") from None
        if matrix.indptr.size and (np.diff(matrix.indptr) < 0).any():
            raise FormatError(file, place, "a sparse matrix whose pointers fall")
    return matrix


def check_matrices(data: Any, file: str, path: str = "") -> None:
    """`check_sparse` over every matrix of an AnnData."""
    check_sparse(data.X, file, f"{path}/X")
    for room in ("layers", "obsm", "varm", "obsp", "varp"):
        for name, matrix in getattr(data, room).items():
            check_sparse(matrix, file, f"{path}/{room}/{name}")
    if data.raw is not None:
        check_sparse(data.raw.X, file, f"{path}/raw/X")


def text(values: np.ndarray) -> list[str]:
    """Fixed or variable HDF5 text as ``str``."""
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in np.asarray(values).tolist()]
