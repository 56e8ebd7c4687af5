"""An h5ad file opened where it lies and read by blocks of rows, never whole.

The file is proven first (a streamed SHA-256), then looked at as every h5ad is (no links, no foreign storage, no
bombs), and what its matrix says of itself is checked before a row is read: row pointers that climb and end where the
numbers end, column numbers within the matrix. All reads go through one open file, so what was proven is what is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import polars as pl
from numpy.typing import NDArray

from workbench.backed import _obs, _proof
from workbench.backed._extents import Extents
from workbench.formats import FormatError, _hdf5
from workbench.manifest import RESTORE, StudyError
from workbench.text import nearest

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["Backed", "facts"]

CSC = (
    "the matrix is stored by columns (CSC), so a row lies all over the file: refused. Store it by rows once: "
    "read it with anndata, set adata.X = adata.X.tocsr(), and write it again"
)


class Backed:
    """One modality on disk. Open with ``Backed.open``; close it, or use it in a ``with``.

    Attributes
    ----------
    path, file : where it lies, and its name in messages
    shape : (rows, features)
    kind : "csr" or "dense"
    dtype : of the numbers stored
    axis, unit : ``uns["axis"]`` and ``uns["unit"]``, None where the file has none
    indptr : (rows + 1,) where each row's numbers begin; None when dense
    data, indices : extents of the numbers and, when sparse, of their columns
    """

    def __init__(self, path: Path, file: str, matrix: str, proof: tuple[str, int | None] | None) -> None:
        self.path, self.file, self.matrix, self._proof = path, file, matrix, proof
        self._columns: dict[str, pl.Series] = {}
        self.indptr: NDArray[np.int64] | None = None
        self.indices: Extents | None = None

    @classmethod
    def open(
        cls,
        path: Path | str,
        file: str | None = None,
        sha256: str | None = None,
        size: int | None = None,
        *,
        layer: str | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Backed:
        """Prove, look at and open the h5ad at ``path``.

        Parameters
        ----------
        file : its name in messages; the path's last part when None
        sha256, size : what the file must be; not checked when None
        layer : read ``layers/<layer>`` instead of ``X``, such as the raw counts
        progress : told the share (0 to 1) of the digest that is done

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StudyError
            Digest or size is another.
        FormatError
            The file is hostile, damaged, no AnnData, or stored by columns.
        """
        backed = cls(
            Path(path), file or Path(path).name, f"layers/{layer}" if layer else "X", (sha256, size) if sha256 else None
        )
        backed._open(progress)
        return backed

    def _open(self, progress: Callable[[float], None] | None = None) -> None:
        if not self.path.is_file() or self.path.is_symlink():
            raise FileNotFoundError(f"{self.path}: there is no file here (a link to one is not followed).")
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        self._process = os.getpid()
        self._handle: h5py.File | None = None
        try:
            if self._proof:
                _proof.prove(self._descriptor, self.file, self._proof[0], self._proof[1], progress)
            if os.pread(self._descriptor, 8, 0) != _hdf5.SIGNATURE:
                raise FormatError(self.file, "start", "expected the HDF5 signature; the file is cut or of another kind")
            try:
                self._handle = h5py.File(self.path, "r")
                self._stamp = _proof.stamp(self._descriptor)
                if _proof.stamp(self._handle.id.get_vfd_handle()) != self._stamp:
                    raise FormatError(self.file, "start", "it was replaced while it was opened. Open it again")
                _hdf5.look(self._handle, self.file)
                self._read_heads()
            except FormatError:
                raise
            except Exception as error:  # h5py raises many kinds on damaged files
                reason = f"cannot be read: {type(error).__name__}: {error}"
                raise FormatError(self.file, "content", reason) from error
        except BaseException:
            self.close()
            raise

    def _read_heads(self) -> None:
        handle = self._handle
        assert handle is not None
        kind = handle.attrs.get("encoding-type")
        if kind != "anndata":
            raise FormatError(self.file, "/", f"expected encoding-type 'anndata', found {kind!r}")
        for part in ("obs", "var"):
            if not isinstance(handle.get(part), h5py.Group):
                raise FormatError(self.file, f"/{part}", "expected a table, found none")
        uns = handle.get("uns", {})
        self.axis = _obs.text(uns["axis"]) if "axis" in uns else None
        self.unit = _obs.text(uns["unit"]) if "unit" in uns else None
        if self.matrix not in handle:
            layers = sorted(handle.get("layers", {}))
            raise FormatError(self.file, f"/{self.matrix}", f"there is no such matrix; layers: {', '.join(layers)}")
        item = handle[self.matrix]
        if isinstance(item, h5py.Dataset):
            self._dense(item)
        else:
            self._sparse(item)
        self.shape: tuple[int, int] = (self._rows, self._features)
        self.dtype = self.data.dtype
        if self.dtype.kind not in "biuf":
            raise FormatError(self.file, f"/{self.matrix}", f"expected numbers, found {self.dtype}")
        for part, count in (("obs", self._rows), ("var", self._features)):
            index = handle[part].get(handle[part].attrs.get("_index", "_index"))
            if index is None or len(index) != count:
                raise FormatError(self.file, f"/{part}", f"expected an index of {count} names, as the matrix has")

    def _dense(self, item: h5py.Dataset) -> None:
        if len(item.shape) != 2:
            raise FormatError(self.file, item.name, f"expected two axes, found {len(item.shape)}")
        self.kind = "dense"
        self._rows, self._features = (int(n) for n in item.shape)
        self.data = Extents(item, self._fd, self.file, item.name)

    def _sparse(self, item: h5py.Group) -> None:
        kind = item.attrs.get("encoding-type")
        if kind == "csc_matrix":
            raise FormatError(self.file, item.name, CSC)
        if kind != "csr_matrix":
            raise FormatError(self.file, item.name, f"expected a dense or csr_matrix, found {kind!r}")
        self.kind = "csr"
        self._rows, self._features = (int(n) for n in item.attrs["shape"])
        for part in ("data", "indices", "indptr"):
            if not isinstance(item.get(part), h5py.Dataset) or len(item[part].shape) != 1:
                raise FormatError(self.file, item.name, f"expected a list {part!r}")
        indptr = item["indptr"][:].astype(np.int64, copy=False)
        numbers = len(item["data"])
        whole = len(indptr) == self._rows + 1 and indptr[0] == 0 and indptr[-1] == numbers == len(item["indices"])
        if not whole or (np.diff(indptr) < 0).any():
            raise FormatError(
                self.file, f"{item.name}/indptr", f"expected {self._rows + 1} pointers climbing from 0 to {numbers}"
            )
        if item["indices"].dtype.kind not in "iu":
            raise FormatError(self.file, f"{item.name}/indices", f"expected integers, found {item['indices'].dtype}")
        self.indptr = indptr
        self.data = Extents(item["data"], self._fd, self.file, f"{item.name}/data")
        self.indices = Extents(item["indices"], self._fd, self.file, f"{item.name}/indices")

    # ---- the rows' and features' names and columns

    def names(self) -> pl.Series:
        """Names of the rows (``obs_names``), String."""
        return self._names("obs")

    def features(self) -> pl.Series:
        """Names of the features (``var_names``), String."""
        return self._names("var")

    def _names(self, part: str) -> pl.Series:
        """Names of ``obs`` or ``var``; read once."""
        key = f"/{part}"
        if key not in self._columns:
            self._columns[key] = _obs.names(self._open_handle()[part], self.file).rename(part)
        return self._columns[key]

    @property
    def columns(self) -> list[str]:
        """Names of the columns of ``obs``."""
        return _obs.columns(self._open_handle()["obs"])

    def column(self, name: str) -> pl.Series:
        """Column ``name`` of ``obs``; categories are an Enum in the file's order.

        Raises
        ------
        KeyError
            There is none; the message names the nearest.
        """
        return _obs.column(self._obs(name), name, self.file)

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Column ``name`` as codes (rows,), -1 where missing, and the categories they count."""
        return _obs.coded(self._obs(name), name, self.file)

    def obs(self, columns: list[str] | None = None) -> pl.DataFrame:
        """``obs`` as a frame: the columns asked for, or all of them after ``name``."""
        if columns is not None:
            return pl.DataFrame([self.column(name) for name in columns])
        rest = [c for c in self.columns if c != "name"]
        return pl.DataFrame([self.names().rename("name"), *(self.column(name) for name in rest)])

    def _obs(self, name: str) -> h5py.Group:
        if name not in self.columns:
            known = ", ".join(self.columns) or "none"
            hint = nearest(name, self.columns)
            raise KeyError(f"{self.file}: obs has no column {name!r}.{hint} It has: {known}.")
        return self._open_handle()["obs"]

    # ---- rows

    def rows(self, start: int, stop: int) -> csr_matrix | NDArray[np.float32]:
        """Rows ``start`` to ``stop``: CSR float32 where the file is sparse, else a dense float32 array."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"{self.file}: rows {start} to {stop} of {self.shape[0]}")
        self.here()
        if self.indptr is None or self.indices is None:
            dense = np.empty((stop - start, self.shape[1]), self.dtype)
            self.data.read_into(start, stop, dense)
            return dense.astype(np.float32, copy=False)
        from scipy.sparse import csr_matrix

        first, last = int(self.indptr[start]), int(self.indptr[stop])
        data, indices = np.empty(last - first, self.dtype), np.empty(last - first, self.indices.dtype)
        self.data.read_into(first, last, data)
        self.indices.read_into(first, last, indices)
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.shape[1]):
            raise self.stray()
        parts = data.astype(np.float32, copy=False), indices, self.indptr[start : stop + 1] - first
        return csr_matrix(parts, shape=(stop - start, self.shape[1]))

    def take(self, rows: Any) -> csr_matrix | NDArray[np.float32]:
        """The rows of these numbers, in this order, as ``rows`` gives them; neighbours are read together."""
        wanted = np.asarray(rows, np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.shape[0]):
            raise IndexError(f"{self.file}: rows from {wanted.min()} to {wanted.max()} of {self.shape[0]}")
        if not len(wanted):
            return self.rows(0, 0)
        unique, back = np.unique(wanted, return_inverse=True)
        cuts = np.flatnonzero(np.diff(unique) != 1) + 1
        pieces = [self.rows(int(run[0]), int(run[-1]) + 1) for run in np.split(unique, cuts)]
        if self.indptr is None:
            return np.concatenate(pieces)[back]
        from scipy.sparse import vstack

        return vstack(pieces, format="csr")[back]

    def stray(self) -> FormatError:
        """What to raise when a column number lies outside the matrix."""
        return FormatError(
            self.file,
            f"/{self.matrix}/indices",
            f"a column number lies outside 0..{self.shape[1] - 1}, or stands twice in a row",
        )

    # ---- the open file

    def here(self) -> Backed:
        """Itself, open in this process (a forked worker opens the file anew) and unchanged since it was proven.

        Raises
        ------
        StudyError
            The file was written to since it was opened.
        """
        if self._process != os.getpid():
            self._open()
        if _proof.stamp(self._fd()) != self._stamp:
            raise StudyError(self.file, f"it was changed on disk while it was open. {RESTORE}")
        return self

    def _fd(self) -> int:
        if self._descriptor < 0:
            raise ValueError(f"{self.file} is closed.")
        return self._descriptor

    def _open_handle(self) -> h5py.File:
        self.here()
        if self._handle is None:
            raise ValueError(f"{self.file} is closed.")
        return self._handle

    def close(self) -> None:
        """Give the file back."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Backed:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_process", None) == os.getpid():
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process needs to open it again."""
        return {"path": self.path, "file": self.file, "matrix": self.matrix, "_proof": self._proof}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["file"], state["matrix"], state["_proof"])  # type: ignore[misc]
        self._open()

    def __repr__(self) -> str:
        rows, features = self.shape
        return f"Backed({self.file!r}, {rows:,} x {features:,}, {self.kind} {self.dtype}, unit={self.unit!r})"


def facts(path: Path | str) -> dict[str, Any]:
    """What a study's manifest wants to know of an h5ad at ``path``, without its matrix.

    Returns
    -------
    dict
        ``shape`` (rows, features), ``dtype``, ``axis``, ``unit``, ``kind``, and ``subjects``: rows by the name they
        belong to, for cells the subject in ``obs["subject"]`` (None where they do not say), else the row itself.

    Raises
    ------
    FormatError
        As ``Backed.open``; or a row or feature name is repeated, or a cell has no subject.
    """
    with Backed.open(path) as backed:
        for part, names in (("obs", backed.names()), ("var", backed.features())):
            if names.is_duplicated().any():
                twice = names.filter(names.is_duplicated())[0]
                raise FormatError(backed.file, f"/{part}", f"name {twice!r} stands in more than one place")
        owners: dict[str, int] | None = None
        if backed.axis != "cell":
            owners = dict.fromkeys(backed.names().to_list(), 1)
        elif "subject" in backed.columns:
            codes, categories = backed.codes("subject")
            if (codes < 0).any():
                row = int(np.flatnonzero(codes < 0)[0])
                raise FormatError(backed.file, "/obs/subject", f"row {row} has no subject; drop such cells first")
            counts = np.bincount(codes, minlength=len(categories))
            owners = {name: int(n) for name, n in zip(categories, counts, strict=True) if n}
        return {
            "shape": backed.shape,
            "dtype": str(backed.dtype),
            "axis": backed.axis,
            "unit": backed.unit,
            "kind": backed.kind,
            "subjects": owners,
        }
