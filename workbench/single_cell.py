"""A cell modality from raw counts to markers, by scanpy, with every threshold, seed and removed cell written down.

    kept, removed = filter_cells(data, min_genes=200)    # what went, and why
    data = normalise(kept)                               # log1p(CP10k); raw counts stay in layers["counts"]
    data = embed(data, seed=0)                           # highly variable genes, PCA, neighbours, UMAP, Leiden
    found = markers(data, "leiden")

Source: Wolf et al. 2018, Genome Biol. 19:15; Luecken and Theis 2019, Mol. Syst. Biol. 15:e8746. Functions return a new
AnnData and leave the one they were given alone. What was done is in ``uns["steps"]``, a JSON list. Values that were
normalised before are recognised from the numbers and refused: normalising twice is a silent error.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from anndata import AnnData

    from workbench.assays.differential_expression import Comparison

Say = Callable[[float, str], None]
UNDO: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda v: v,
    "ln": np.expm1,
    "log2": lambda v: np.exp2(v) - 1,
    "log10": lambda v: np.power(10.0, v) - 1,
}
COUNTS = "counts"


class NotCountsError(ValueError):
    """Raw counts were expected, and the values say they are something else."""


@dataclass(frozen=True)
class Scale:
    """What values look like: ``kind`` "counts", "normalised", "log-normalised", "scaled" or "unknown", and why.

    ``log`` is the logarithm of log-normalised values ("ln", "log2", "log10"), and ``depth`` the sum per cell where it
    is the same in all cells.
    """

    kind: str
    why: str
    log: str | None = None
    depth: float | None = None


def recognise(values: Any, cells: int = 300) -> Scale:
    """What are these values? Looks at up to ``cells`` rows, evenly spread.

    Counts are whole and not negative. Counts divided by a cell's depth are whole again once divided by the cell's
    smallest value, and sum to the same number in every cell unless genes were dropped; the same after undoing a
    logarithm. Values below zero are scaled.
    """
    from scipy import sparse

    if len(values.shape) != 2 or not all(values.shape):
        return Scale("unknown", f"there are no values (shape {values.shape})")
    rows = np.unique(np.linspace(0, values.shape[0] - 1, min(cells, values.shape[0])).astype(int))
    part = values[rows]
    x = np.asarray(part.toarray() if sparse.issparse(part) else part, dtype=np.float64)
    if not np.isfinite(x).all():
        return Scale("unknown", f"{int((~np.isfinite(x)).sum())} values are no numbers")
    if (x < 0).any():
        return Scale("scaled", f"values below zero (smallest {x.min():.4g})")
    if not x.any():
        return Scale("unknown", "every value looked at is zero")
    if np.array_equal(x, np.rint(x)):
        top = int(x.max())
        return Scale("counts" if top > 1 else "unknown", f"whole numbers up to {top}")
    for log, undo in UNDO.items():
        if log != "none" and x.max() > 40:
            continue  # e^40 counts
        linear = undo(x)
        total = linear.sum(1)
        total = total[total > 0]
        same = float(np.median(total)) if total.std() < 1e-3 * total.mean() and len(total) > 1 else None
        if same is None and _whole(linear) < 0.9:
            continue
        kind = "normalised" if log == "none" else "log-normalised"
        words = f"cells sum to {same:,.4g}" if same else "a cell's values are whole multiples of its smallest"
        undone = "" if log == "none" else f" once {log}(1 + x) is undone"
        return Scale(kind, words + undone, None if log == "none" else log, same)
    return Scale("unknown", f"neither whole numbers nor multiples of a cell's smallest value (largest {x.max():.4g})")


def _whole(linear: np.ndarray) -> float:
    """Share of the values above a cell's smallest that are whole multiples of it, to 1 %, where few are expected to."""
    smallest = np.where(linear > 0, linear, np.inf).min(1, keepdims=True)
    ratio = linear / np.where(np.isfinite(smallest), smallest, 1.0)
    asked = (ratio > 1.2) & (ratio < 12)  # beyond, rounding of the file hides what is whole
    off = np.abs(ratio - np.rint(ratio))[asked]
    return float((off < 0.05).mean()) if off.size >= 20 else 0.0


def require_counts(data: AnnData, what: str) -> str:
    """Name of the layer with raw counts ("counts" or "X"); ``what`` needs them.

    Raises
    ------
    NotCountsError
        X was normalised, logged or scaled before, and no layer "counts" holds raw counts.
    """
    if COUNTS in data.layers and recognise(data.layers[COUNTS]).kind == "counts":
        return COUNTS
    scale = recognise(data.X)
    if scale.kind == "counts":
        return "X"
    raise NotCountsError(
        f"{what} needs raw counts in X or layers['counts']; found {scale.kind} values in X ({scale.why}). "
        "Doing it again would be a silent error. Bring the raw counts, or go on from here with embed() and markers()."
    )


def quality(data: AnnData, mitochondrial: str | tuple[str, ...] = ("MT-", "mt-")) -> pl.DataFrame:
    """Per cell: cell, counts, genes (above 0), mitochondrial_pct (null where no gene has such a name), top_50_pct.

    Raises NotCountsError unless raw counts are there.
    """
    from scipy import sparse

    layer = require_counts(data, "quality control")
    x = sparse.csr_matrix(data.X if layer == "X" else data.layers[layer], dtype=np.float64)
    counts = np.asarray(x.sum(1)).ravel()
    names = np.array([str(n) for n in data.var_names])
    is_mito = np.array([n.startswith(mitochondrial) for n in names])
    with np.errstate(invalid="ignore", divide="ignore"):
        mito = 100.0 * np.asarray(x[:, is_mito].sum(1)).ravel() / counts
        strongest = [np.sort(x.data[a:b])[-50:].sum() for a, b in zip(x.indptr[:-1], x.indptr[1:], strict=True)]
        top = 100.0 * np.array(strongest) / counts
    frame = {
        "cell": [str(n) for n in data.obs_names],
        "counts": counts,
        "genes": np.diff(x.indptr) if not (x.data == 0).any() else np.asarray((x > 0).sum(1)).ravel(),
        "mitochondrial_pct": mito if is_mito.any() else [None] * len(counts),
        "top_50_pct": top,
    }
    kinds = {"counts": pl.Float64, "genes": pl.Int64, "mitochondrial_pct": pl.Float64, "top_50_pct": pl.Float64}
    return pl.DataFrame(frame, schema_overrides=kinds, strict=False).with_columns(pl.col(pl.Float64).fill_nan(None))


def filter_cells(
    data: AnnData,
    *,
    min_genes: int = 200,
    max_genes: int | None = None,
    min_counts: int | None = None,
    max_mitochondrial_pct: float | None = 20.0,
    min_cells: int = 3,
    max_doublet_score: float | None = None,
) -> tuple[AnnData, pl.DataFrame]:
    """Cells and genes that pass, and what was removed: criterion, threshold, removed (of what was left), left.

    Parameters
    ----------
    min_cells : genes seen in fewer of the remaining cells go
    max_doublet_score : cells with a higher ``obs["doublet_score"]`` (see ``doublets``) go

    Raises
    ------
    ValueError
        No cell is left; the message names the criterion that took the last.
    """
    from scipy import sparse

    layer = require_counts(data, "filtering")
    about = quality(data)
    if max_doublet_score is not None:
        if "doublet_score" not in data.obs.columns:
            raise KeyError("max_doublet_score needs obs['doublet_score']; run doublets(data) first.")
        about = about.with_columns(pl.Series("doublet_score", data.obs["doublet_score"].to_numpy(dtype=np.float64)))
    asked = [
        ("genes at least", "genes", min_genes),
        ("genes at most", "genes", max_genes),
        ("counts at least", "counts", min_counts),
        ("mitochondrial % at most", "mitochondrial_pct", max_mitochondrial_pct),
        ("doublet score at most", "doublet_score", max_doublet_score),
    ]
    left, rows = np.ones(data.n_obs, dtype=bool), []
    for what, column, limit in asked:
        if limit is None:
            continue
        passes = pl.col(column) >= limit if what.endswith("at least") else pl.col(column) <= limit
        ok = about.select(passes.fill_null(True)).to_series().to_numpy()  # what is not known removes nobody
        gone = int((left & ~ok).sum())
        left &= ok
        rows.append((f"cell: {what}", float(limit), gone, int(left.sum())))
        if not left.any():
            raise ValueError(f"no cell is left: {what} {limit} removed the last {gone}. Choose another threshold.")
    x = sparse.csc_matrix(data.X if layer == "X" else data.layers[layer])[left]
    seen = np.asarray((x > 0).sum(0)).ravel()
    genes = seen >= min_cells
    rows.append(("gene: cells at least", float(min_cells), int((~genes).sum()), int(genes.sum())))
    if not genes.any():
        raise ValueError(f"no gene is seen in {min_cells} cells. Lower min_cells.")
    kept = data[left, genes].copy()
    removed = pl.DataFrame(
        rows,
        schema={"criterion": pl.String, "threshold": pl.Float64, "removed": pl.Int64, "left": pl.Int64},
        orient="row",
    )
    return _step(kept, "filter", removed=removed.to_dicts()), removed


def normalise(data: AnnData, depth: float = 1e4) -> AnnData:
    """X as natural log1p of ``depth`` counts per cell; the raw counts stay in ``layers["counts"]``.

    Raises
    ------
    NotCountsError
        The values were normalised, logged or scaled before.
    ValueError
        A cell has no counts at all (filter first).
    """
    import scanpy

    layer = require_counts(data, "normalisation")
    made = data.copy()
    raw = made.X if layer == "X" else made.layers[layer]
    made.layers[COUNTS] = raw.copy()
    empty = int((np.asarray(raw.sum(1)).ravel() == 0).sum())
    if empty:
        raise ValueError(f"{empty} cells have no counts at all. Remove them first: filter_cells(data, min_genes=1).")
    made.X = raw.astype(np.float32)
    scanpy.pp.normalize_total(made, target_sum=depth)
    scanpy.pp.log1p(made)
    made.uns["unit"] = f"log1p(CP{depth / 1000:g}k)" if depth >= 1000 else f"log1p(counts per {depth:g})"
    made.uns.setdefault("axis", "cell")
    made.uns["log1p"] = {}  # scanpy writes {"base": None}, which h5ad does not keep
    return _step(made, "normalise", depth=depth, log="ln(1 + x)")


def embed(
    data: AnnData,
    *,
    genes: int = 2000,
    components: int = 50,
    neighbours: int = 15,
    resolution: float = 1.0,
    umap: bool = True,
    leiden: bool = True,
    seed: int = 0,
    say: Say | None = None,
) -> AnnData:
    """Highly variable genes, PCA, neighbours, UMAP and Leiden clusters of log-normalised data.

    Adds ``var["highly_variable"]``, ``obsm["X_pca"]`` (cells, components), ``obsm["X_umap"]`` (cells, 2) and
    ``obs["leiden"]``. Numbers are cut to what the data have. The same seed on the same machine gives the same numbers.

    Raises
    ------
    NotCountsError
        X holds raw counts: normalise first. Scaled values are taken as they are, with all genes.
    ModuleNotFoundError
        Leiden without igraph, which is GPL and therefore optional.
    """
    import warnings

    import scanpy

    scale = recognise(data.X)
    if scale.kind in ("counts", "normalised"):
        raise NotCountsError(f"embed needs log-normalised values; found {scale.kind} ({scale.why}). normalise() first.")
    if leiden:
        _igraph()
    tell = say or (lambda done, text: None)
    made = data.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, umap and pandas; nothing a user could act on
        tell(0.0, "highly variable genes")
        if scale.kind != "scaled" and genes < made.n_vars:
            made.uns["log1p"] = {}  # or scanpy takes the base from an earlier file
            scanpy.pp.highly_variable_genes(made, n_top_genes=genes, flavor="seurat")
        else:
            made.var["highly_variable"] = True
        used = int(made.var["highly_variable"].sum())
        components = max(1, min(components, used - 1, made.n_obs - 1))
        tell(0.2, f"PCA, {components} components")
        scanpy.pp.pca(made, n_comps=components, mask_var="highly_variable", random_state=seed)
        tell(0.4, "neighbours")
        neighbours = max(2, min(neighbours, made.n_obs - 1))
        scanpy.pp.neighbors(made, n_neighbors=neighbours, random_state=seed)
        if umap:
            tell(0.6, "UMAP")
            scanpy.tl.umap(made, random_state=seed)
        if leiden:
            tell(0.9, "Leiden")
            scanpy.tl.leiden(
                made, resolution=resolution, random_state=seed, flavor="igraph", n_iterations=2, directed=False
            )
    tell(1.0, f"{made.n_obs:,} cells")
    return _step(
        made, "embed", genes=used, components=components, neighbours=neighbours, resolution=resolution, seed=seed
    )


def markers(data: AnnData, group: str = "leiden", **options: Any) -> Comparison:
    """Which genes mark each group? ``assays.differential_expression.compare`` on X; see there for ``options``."""
    from workbench.assays import differential_expression

    unit = options.pop("unit", None) or data.uns.get("unit")
    if unit is None:
        scale = recognise(data.X)
        unit = {"counts": "counts", "log-normalised": f"log1p, {scale.log}", "scaled": "z-score"}.get(scale.kind)
        if scale.log in ("log2", "log10"):
            unit = f"{scale.log}(x + 1)"
    return differential_expression.compare(data, group, unit=unit, **options)


def doublets(data: AnnData, *, rate: float = 0.05, seed: int = 0) -> AnnData:
    """``obs["doublet_score"]`` of Scrublet (Wolock et al. 2019, Cell Syst. 8:281), from raw counts; no call is made.

    Parameters
    ----------
    rate : expected share of doublets
    """
    import warnings

    import anndata
    import scanpy

    layer = require_counts(data, "doublet detection")
    raw = anndata.AnnData((data.X if layer == "X" else data.layers[layer]).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy.pp.scrublet(raw, expected_doublet_rate=rate, random_state=seed, threshold=1.0, verbose=False)
    made = data.copy()
    made.obs["doublet_score"] = raw.obs["doublet_score"].to_numpy()
    return _step(made, "doublets", rate=rate, seed=seed)


def clr(counts: Any, per: str = "cell") -> np.ndarray:
    """Centred log ratio of raw protein counts, per "cell" or "feature"; see ``modalities.surface_protein.clr``.

    ``counts`` may be sparse; proteins are few, so the answer is dense.
    """
    from workbench.modalities import surface_protein

    return surface_protein.clr(counts.toarray() if hasattr(counts, "toarray") else counts, per)


def steps(data: AnnData) -> list[dict[str, Any]]:
    """What was done to ``data`` here, first to last, with every setting."""
    return json.loads(str(data.uns["steps"])) if "steps" in data.uns else []


def _step(data: AnnData, name: str, **settings: Any) -> AnnData:
    data.uns["steps"] = json.dumps([*steps(data), {"step": name, **settings}])
    return data


def _igraph() -> None:
    """Raise with the exact command where igraph is missing."""
    try:
        import igraph  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Leiden clusters need the package igraph (GPL, therefore optional), which is not installed. Install it "
            "with: pip install 'translational-workbench[clustering]'   or leave them out: embed(data, leiden=False)."
        ) from error
