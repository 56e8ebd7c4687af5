"""Single cells: h5ad, h5mu, 10x HDF5, or a 10x folder (matrix.mtx, features.tsv, barcodes.tsv).

Every file becomes modalities with axis "cell": ``single_cell_rna``, and ``surface_protein`` where antibodies were
counted (CITE-seq: Stoeckius et al. 2017, Nature Methods 14:865-868). What X holds is told by its values and said in the
unit: raw counts are whole numbers; log1p of counts per N adds up to N in every cell once undone.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench.folders import Content, _foreign
from workbench.folders._foreign import Note, Unread
from workbench.formats import FormatError

if TYPE_CHECKING:
    from anndata import AnnData

READERS = {".h5ad": "h5ad", ".h5mu": "h5mu", ".h5": "tenx_h5"}
MATRIX = ("matrix.mtx", "matrix.mtx.gz")
LISTS = {
    "features": ("features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv"),
    "barcodes": ("barcodes.tsv.gz", "barcodes.tsv"),
}
SUBJECT = (
    "donor_id",
    "donor",
    "subject",
    "patient",
    "individual",
    "mouse",
    "animal",
    "sample_id",
    "sample",
    "orig.ident",
)
GENES = ("gene expression", "gex", "rna")
ANTIBODIES = ("antibody capture", "protein", "adt", "prot", "antibody")
CELLS = 2000  # rows whose values decide what X is
LOGGED = 20.0  # ln(1 + counts) stays below: e^20 counts are more than a sequencer gives


def recognises(files: list[str]) -> bool:
    """An h5ad, h5mu or h5 file, or a matrix.mtx."""
    return any(_reader(f) is not None for f in files)


def _reader(name: str) -> str | None:
    path = PurePosixPath(name.casefold())
    return "mtx" if path.name in MATRIX else READERS.get(path.suffix)


def read(
    folder: Path, note: Note, *, subject_column: str | None = None, tissue: str | None = None, unit: str | None = None
) -> Content:
    """Subjects are the donors that a column of the cells names, or one subject for each file without such a column.

    Parameters
    ----------
    subject_column : of ``obs``; otherwise the first of ``SUBJECT`` that is there
    tissue : of all subjects, stated
    unit : of X, stated where its values do not tell

    Raises
    ------
    FormatError
        Not one file can be read.
    """
    files = _foreign.listing(folder)
    heads = [f for f in files if _reader(f) is not None]
    used = set(heads)
    parts: dict[str, dict[str, AnnData]] = {}
    for name in heads:
        try:
            parts[name] = _open(folder, name, files, used)
        except (FormatError, ValueError) as error:
            _foreign.refuse(error, name, note)
    _foreign.leftover(files, used, note)
    if not parts:
        raise FormatError(folder.name, "single-cell files", "not one can be read")
    modalities: dict[str, AnnData] = {}
    known: dict[str, None] = {}
    told: dict[str, str] = {}
    for name, found in parts.items():
        stem = PurePosixPath(name).name.split(".")[0] if _reader(name) != "mtx" else PurePosixPath(name).parent.name
        chosen: str | None = None
        for kind, data in found.items():
            called = kind if len(parts) == 1 else f"{kind} {stem or folder.name}"
            column = subject_column or next((c for c in SUBJECT if c in data.obs), None)
            if subject_column is not None and subject_column not in data.obs:
                note(Unread(name, "obs", f"has no column {subject_column!r}; it has {list(data.obs.columns)}"))
                column = None
            chosen = chosen or column
            _prepare(data, column, stem or folder.name, name, note)
            data.uns["axis"] = "cell"
            data.uns["unit"] = what_it_is(data.X, name, note) if unit is None or kind != "single_cell_rna" else unit
            known |= dict.fromkeys(data.obs["subject"])
            modalities[called] = data
        told[name] = chosen or "one subject: the file"
    subjects = pl.DataFrame(
        {"subject": sorted(known), "tissue": [tissue] * len(known)}, schema={"subject": pl.String, "tissue": pl.String}
    )
    return Content(
        outcomes=_foreign.outcomes(pl.DataFrame()),
        subjects=_foreign.subjects(subjects),
        treatments=_foreign.treatments([]),
        modalities=modalities,
        records={},
        provenance={
            "source": "cells",
            "subjects_from": told,
            "units": {n: d.uns["unit"] for n, d in modalities.items()},
        },
    )


def _open(folder: Path, name: str, files: list[str], used: set[str]) -> dict[str, AnnData]:
    """Kind of modality -> cells of one file."""
    from workbench import caged

    data = _foreign.content(folder, name)
    options: dict[str, Any] = {"memory": 2**30 + 12 * len(data), "seconds": 60 + len(data) / 2**20}
    reader = str(_reader(name))
    if reader == "h5mu":
        whole = caged.read("h5mu", data, name, **options)
        named = {_kind(k): v for k, v in whole.mod.items()}
        return named if len(named) == len(whole.mod) else dict(whole.mod)
    if reader == "mtx":
        for what, choices in LISTS.items():
            beside = {str(PurePosixPath(name).with_name(c)).casefold() for c in choices}
            match = next((f for f in files if f.casefold() in beside), None)
            if match is None:
                raise FormatError(name, what, f"expected one of {', '.join(choices)} beside it")
            options[what] = _foreign.content(folder, match)
            used.add(match)
        return _by_type(caged.read("mtx", data, name, **options))
    if reader == "h5ad":
        options["foreign"] = True
    cells = caged.read(reader, data, name, **options)
    return _by_type(cells) | _proteins(cells)


def _kind(name: str) -> str:
    lower = name.casefold()
    return "single_cell_rna" if lower in GENES else "surface_protein" if lower in ANTIBODIES else name


def _by_type(cells: AnnData) -> dict[str, AnnData]:
    """Features parted by their type, where they say one."""
    column = next((c for c in ("feature_type", "feature_types") if c in cells.var), None)
    kinds = [str(k) for k in cells.var[column]] if column else []
    if len(set(kinds)) < 2:
        return {"single_cell_rna": cells}
    return {_kind(kind): cells[:, [k == kind for k in kinds]].copy() for kind in dict.fromkeys(kinds)}


def _proteins(cells: AnnData) -> dict[str, AnnData]:
    """Antibody counts that stand in ``obsm["protein_expression"]`` with names in ``uns`` (totalVI's layout)."""
    if "protein_expression" not in cells.obsm:
        return {}
    values = cells.obsm["protein_expression"]
    names = list(values.columns) if hasattr(values, "columns") else [str(n) for n in cells.uns.get("protein_names", ())]
    array = np.asarray(values, dtype=np.float32)
    if len(names) != array.shape[1] or len(set(names)) != len(names):
        names = [f"protein {i + 1}" for i in range(array.shape[1])]
    data = _foreign.anndata(array, list(cells.obs_names), names, "cell", "")
    data.obs = cells.obs.copy()
    return {"surface_protein": data}


def _prepare(data: AnnData, column: str | None, stem: str, name: str, note: Note) -> None:
    """``obs["subject"]``, text indices without repeats, float32 values, and raw counts in ``layers["counts"]``."""
    if not data.obs_names.is_unique:
        note(Unread(name, "obs", "barcodes repeat: numbers were put behind them", "note"))
        data.obs_names_make_unique()
    if not data.var_names.is_unique:
        note(Unread(name, "var", "feature names repeat: numbers were put behind them", "note"))
        data.var_names_make_unique()
    names = [stem] * data.n_obs if column is None else [str(v) for v in data.obs[column]]
    if column is not None and (lacking := sum(v in ("nan", "None", "") for v in names)):
        note(Unread(name, f"obs column {column!r}", f"{lacking:,} cells name no subject: called 'not stated'", "note"))
        names = ["not stated" if v in ("nan", "None", "") else v for v in names]
    data.obs["subject"] = names
    if data.X is not None and np.dtype(data.X.dtype).kind not in "f":
        data.X = data.X.astype(np.float32)
    raw = data.raw
    if "counts" not in data.layers and raw is not None and set(data.var_names) <= set(raw.var_names):
        kept = raw[:, list(data.var_names)].X
        if _whole(_values(kept)):
            data.layers["counts"] = kept


def _values(matrix: Any) -> np.ndarray:
    """Non-zero values of the first ``CELLS`` rows."""
    head = matrix[:CELLS]
    values = head.data if hasattr(head, "indptr") else np.asarray(head).ravel()
    return values[values != 0]


def _whole(values: np.ndarray) -> bool:
    return bool(values.size) and bool((values >= 0).all()) and bool((values == np.rint(values)).all())


def what_it_is(matrix: Any, name: str = "X", note: Note | None = None) -> str:
    """The unit of a cells x features matrix by its values.

    "counts" (whole, none negative); "log1p(CP10k)" and the like (expm1 adds up to one round number in every cell);
    "log1p, normalised" (as above, but cells do not add up: features were taken out after); "CP10k"; "scaled" (negative
    values); otherwise "normalised, scale unknown".
    """
    values = _values(matrix)
    if not np.isfinite(values).all():
        raise FormatError(name, "X", "holds values that are no numbers")
    if not values.size:
        return "counts"
    if _whole(values):
        return "counts"
    if (values < 0).any():
        return "scaled (negative values: features were centred)"
    head = matrix[:CELLS]
    per_cell = np.asarray(head.sum(axis=1)).ravel()
    if values.max() < LOGGED:
        undone = head.expm1() if hasattr(head, "expm1") else np.expm1(np.asarray(head, dtype=np.float64))
        if (target := _target(np.asarray(undone.sum(axis=1)).ravel())) is not None:
            return f"log1p(CP{target})"
        return "log1p, normalised (told by its values; cells do not add up to one total)"
    target = _target(per_cell)
    return f"CP{target}" if target is not None else "normalised, scale unknown"


def _target(sums: np.ndarray) -> str | None:
    """The total that (nearly) every cell adds up to, as "10k", or None."""
    sums = sums[sums > 0]
    if not sums.size or np.percentile(np.abs(sums / np.median(sums) - 1), 95) > 0.01:
        return None
    total = float(np.median(sums))
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if total >= size * 0.999:
            return f"{round(total / size, 2):g}{letter}"
    return f"{round(total):d}"
