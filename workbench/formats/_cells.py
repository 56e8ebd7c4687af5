"""Cells x features as AnnData, whatever file the counts came in."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from workbench.formats import FormatError

if TYPE_CHECKING:
    from anndata import AnnData


def anndata(
    matrix: Any, cells: list[str], ids: list[str], names: list[str], kinds: list[str], file: str, where: str
) -> AnnData:
    """``matrix`` (cells, features) CSR with its names; lists must fit and be unique where they name rows.

    Raises
    ------
    FormatError
        A list has another length than the matrix, or a barcode or feature id stands twice.
    """
    import pandas as pd
    from anndata import AnnData

    for what, found, wanted in (
        ("barcodes", len(cells), matrix.shape[0]),
        ("features", len(ids), matrix.shape[1]),
        ("feature names", len(names), matrix.shape[1]),
        ("feature types", len(kinds), matrix.shape[1]),
    ):
        if found != wanted:
            raise FormatError(file, what, f"expected {wanted:,} as the matrix has, found {found:,}")
    for what, listed in (("barcode", cells), ("feature id", ids)):
        if len(set(listed)) != len(listed):
            twice = next(n for n, count in Counter(listed).items() if count > 1)
            raise FormatError(file, what, f"{twice!r} stands twice")
    often = Counter(names)
    labels = [n if often[n] == 1 else f"{n} ({i})" for n, i in zip(names, ids, strict=True)]
    if len(set(labels)) != len(labels):
        labels = ids
    var = pd.DataFrame({"gene_id": ids, "symbol": names, "feature_type": kinds}, index=pd.Index(labels, dtype=object))
    return AnnData(matrix, obs=pd.DataFrame(index=pd.Index(cells, dtype=object)), var=var)
