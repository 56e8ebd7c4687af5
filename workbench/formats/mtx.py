"""10x matrices as three files: matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv, each gzipped or not.

Source: Matrix Market exchange format (Boisvert et al. 1997, NISTIR 5935), coordinate, general; 10x Genomics, "Feature-
barcode matrices, MEX format" (rows are features, columns are barcodes).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from workbench.formats import FormatError, _cells, _kind, _text

if TYPE_CHECKING:
    from anndata import AnnData

PRELOAD = ("anndata", "pandas", "scipy.sparse")  # imported once by `workbench.caged`, before it forks
ENTRIES = 2_000_000_000
AXIS = 50_000_000  # rows or columns a matrix may declare
FIELDS = ("integer", "real", "pattern")


def read(
    data: bytes, file: str, *, features: bytes | None = None, barcodes: bytes | None = None, limit: int = 2**31
) -> AnnData:
    """Cells x features in CSR, as `workbench.formats.tenx_h5` gives them.

    Parameters
    ----------
    data : matrix.mtx(.gz)
    features, barcodes : the other two files; without one its side is numbered ("feature 1", "cell 1")
    limit : bytes any of the three may inflate to

    Raises
    ------
    FormatError
        Not Matrix Market, cut, an index outside, an entry twice, lists that do not fit, a gzip bomb.
    """
    import scipy.sparse

    text = _plain(data, file, limit)
    field, start = _header(text, file)
    rows, columns, count, body = _sizes(text, start, file)
    wanted = ["row", "column"] if field == "pattern" else ["row", "column", "value"]
    entries = _entries(text[body:], wanted, file)
    if entries.height != count:
        raise FormatError(file, "size line", f"declares {count:,} entries, found {entries.height:,}: the file is cut")
    index = [entries[n].to_numpy() - 1 for n in ("row", "column")]
    for name, found, size in zip(("row", "column"), index, (rows, columns), strict=True):
        outside = (found < 0) | (found >= size)
        if outside.any():
            at = int(outside.argmax())
            raise FormatError(file, f"entry {at + 1}", f"{name} {found[at] + 1} lies outside 1 to {size}")
    values = np.ones(count, np.float32) if field == "pattern" else entries["value"].to_numpy()
    if not np.isfinite(values).all():
        raise FormatError(file, f"entry {int((~np.isfinite(values)).argmax()) + 1}", "expected a finite number")
    if field == "integer" or (values == np.rint(values)).all():
        values = values.astype(np.float32 if np.abs(values).max(initial=0) < 2**24 else np.float64)
    matrix = scipy.sparse.coo_matrix((values, (index[1], index[0])), shape=(columns, rows)).tocsr()
    if matrix.nnz != count:
        raise FormatError(file, "entries", f"{count - matrix.nnz:,} of them stand twice")
    ids, names, kinds = _features(features, file, rows, limit)
    cells = [f"cell {i + 1}" for i in range(columns)]
    if barcodes is not None:
        cells = [r[0] for r in _list(barcodes, f"{file} barcodes", limit)]
    return _cells.anndata(matrix, cells, ids, names, kinds, file, field)


def _plain(data: bytes, file: str, limit: int) -> bytes:
    plain = _kind.gunzip(data, file, limit)
    _kind.expect(plain, file, "text", "Matrix Market and its lists are text")
    return plain


def _header(text: bytes, file: str) -> tuple[str, int]:
    line, _, _ = text.partition(b"\n")
    words = line.decode("ascii", "replace").lower().split()
    if len(words) != 5 or words[:3] != ["%%matrixmarket", "matrix", "coordinate"] or words[3] not in FIELDS:
        expected = "'%%MatrixMarket matrix coordinate integer|real|pattern general'"
        raise FormatError(file, "line 1", f"expected {expected}, found {line[:80]!r}")
    if words[4] != "general":
        raise FormatError(file, "line 1", f"symmetry {words[4]!r} makes no sense for cells by features")
    return words[3], len(line) + 1


def _sizes(text: bytes, start: int, file: str) -> tuple[int, int, int, int]:
    while True:
        end = text.find(b"\n", start)
        line = text[start:] if end < 0 else text[start:end]
        if line.strip() and not line.startswith(b"%"):
            break
        if end < 0:
            raise FormatError(file, "size line", "is missing: the file is cut")
        start = end + 1
    words = line.split()
    if len(words) != 3 or not all(w.isdigit() and len(w) < 15 for w in words):
        raise FormatError(file, "size line", f"expected rows, columns and entries, found {line[:80]!r}")
    rows, columns, count = (int(w) for w in words)
    if max(rows, columns) > AXIS or count > ENTRIES or count > rows * columns:
        raise FormatError(file, "size line", f"{rows:,} x {columns:,} with {count:,} entries: refused")
    return rows, columns, count, len(text) if end < 0 else end + 1


def _entries(body: bytes, columns: list[str], file: str) -> pl.DataFrame:
    kinds = {n: pl.Float64 if n == "value" else pl.Int64 for n in columns}
    if not body.strip():
        return pl.DataFrame(schema=kinds)
    try:
        return pl.read_csv(
            io.BytesIO(body), has_header=False, separator=" ", schema=kinds, quote_char=None, raise_if_empty=False
        ).drop_nulls()
    except pl.exceptions.PolarsError as error:
        raise FormatError(file, "entries", f"expected {' '.join(columns)} on every line: {str(error)[:200]}") from None


def _list(data: bytes, file: str, limit: int) -> list[list[str]]:
    text = _text.decode(_plain(data, file, limit), file, _text.Notes())
    return [line.rstrip("\r").split("\t") for line in text.rstrip("\n").split("\n")]


def _features(data: bytes | None, file: str, rows: int, limit: int) -> tuple[list[str], list[str], list[str]]:
    if data is None:
        numbered = [f"feature {i + 1}" for i in range(rows)]
        return numbered, numbered, ["Gene Expression"] * rows
    listed = _list(data, f"{file} features", limit)
    ids = [r[0] for r in listed]
    return (
        ids,
        [r[1] if len(r) > 1 else r[0] for r in listed],
        [r[2] if len(r) > 2 else "Gene Expression" for r in listed],
    )
