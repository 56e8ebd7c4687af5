"""Coordinates of a modality's rows on two axes: principal components, or UMAP upon them.

PCA: the singular value decomposition of the centred matrix (Jolliffe & Cadima, Phil Trans R Soc A 2016), by random
projections (Halko, Martinsson & Tropp, SIAM Review 2011; scikit-learn). UMAP: McInnes, Healy & Melville, 2018, by
umap-learn, upon the first 50 components, as in the single-cell field. Both are seeded: same rows, same picture.

What is done to the numbers before, in this order, and said in ``Coordinates.notes``:

1. counts (``uns["unit"]`` "counts") become ln(1 + counts per 10,000);
2. a feature measured on fewer than half of the rows is left out; other gaps get the feature's mean over the rows;
3. features that never vary are left out, and on the cell axis all but the 2,000 that vary most;
4. features are scaled to unit variance only where they have units of their own (``var["unit"]``, as blood chemistry).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench.text import nearest

if TYPE_CHECKING:
    from anndata import AnnData

    from workbench.backed import Backed

METHODS = ("PCA", "UMAP")
KEPT_COMPONENTS = 50
NEIGHBOURS = 15
CELL_FEATURES = 2000
FITTED = 20_000  # rows that a fit looks at; the others are placed upon the axes found
UMAP_ROWS = 50_000  # UMAP of more would take a coffee; that many are drawn, and said


@dataclass(frozen=True)
class Coordinates:
    """Rows on two axes.

    Attributes
    ----------
    frame : name (String), x, y (Float64), one row per row of the modality, in its order; ``row`` (Int64) its number
    axes : names of the axes, for people: "PC 1 (23.1 %)", or "UMAP 1"
    explained : share of the variance along x and y, 0 to 1; empty for UMAP
    method : "PCA" or "UMAP"
    notes : what was done to the numbers, one sentence each
    """

    frame: pl.DataFrame
    axes: tuple[str, str]
    method: str
    explained: tuple[float, ...] = ()
    notes: list[str] = field(default_factory=list)


class EmbeddingError(ValueError):
    """A modality cannot be laid out; the message says what it lacks."""


def coordinates(data: AnnData, method: str = "PCA", *, seed: int = 0, scale: bool | None = None) -> Coordinates:
    """Coordinates of the rows of a modality.

    Parameters
    ----------
    data : AnnData (n, p), dense or sparse, with ``uns["axis"]`` and ``uns["unit"]``; coordinates that it already
        carries (``obsm["X_umap"]``, ``obsm["X_pca"]`` with ``uns["pca"]``) are used as they are
    method : "PCA" or "UMAP"
    scale : unit variance per feature; None: only where ``data.var["unit"]`` names more than one unit

    Raises
    ------
    EmbeddingError
        Fewer than three rows, or fewer than two features that vary.
    ValueError
        An unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}.{nearest(method, METHODS)} Known: {', '.join(METHODS)}.")
    if data.n_obs < 3:
        raise EmbeddingError(f"a picture of rows needs at least 3; this modality has {data.n_obs}.")
    names = [str(name) for name in data.obs_names]
    if (found := _carried(data, method)) is not None:
        places, explained = found
        return _made(names, places, method, explained, ["coordinates kept with the modality"])
    matrix, notes = _prepared(data, scale)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(data.n_obs, FITTED, replace=False)) if data.n_obs > FITTED else None
    if chosen is not None:
        notes.append(f"axes fitted on {FITTED:,} of {data.n_obs:,} rows drawn at random, all rows placed on them")
    scores, share = _components(matrix, chosen, 2 if method == "PCA" else KEPT_COMPONENTS, seed)
    if method == "PCA":
        return _made(names, scores[:, :2], method, tuple(share[:2]), notes)
    return _umap(names, scores, notes, seed)


def of_backed(
    data: Backed, method: str = "PCA", *, seed: int = 0, progress: Callable[[float], None] | None = None
) -> Coordinates:
    """The same for a modality on disk, read by blocks and never whole: exact components of all rows in two passes.

    Parameters
    ----------
    progress : told the share (0 to 1) of the reading that is done
    """
    from workbench.streaming.pca import pca

    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}.{nearest(method, METHODS)} Known: {', '.join(METHODS)}.")
    counts = data.unit == "counts"
    k = min(2 if method == "PCA" else KEPT_COMPONENTS, data.shape[1])
    if k < 2 or data.shape[0] < 3:
        raise EmbeddingError(f"two axes need at least 3 rows and 2 features; this modality is {data.shape}.")
    found = pca(data, k, normalise=counts, progress=progress)
    notes = ["components of all rows, read from disk block by block"]
    if counts:
        notes.insert(0, "counts shown as ln(1 + counts per 10,000)")
    names = data.names().to_list()
    if method == "PCA":
        return _made(names, found.scores, method, tuple(found.share[:2]), notes)
    return _umap(names, found.scores, notes, seed)


def _made(
    names: list[str], places: np.ndarray, method: str, explained: tuple[float, ...], notes: list[str]
) -> Coordinates:
    label = "PC" if method == "PCA" else method
    axes = [f"{label} {k + 1}" + (f" ({100 * explained[k]:.1f} %)" if len(explained) == 2 else "") for k in range(2)]
    frame = pl.DataFrame(
        {
            "name": pl.Series(names, dtype=pl.String),
            "x": places[:, 0].astype(np.float64),
            "y": places[:, 1].astype(np.float64),
            "row": np.arange(len(names), dtype=np.int64),
        }
    )
    lost = int((~(frame["x"].is_finite() & frame["y"].is_finite())).sum())
    if lost:
        frame = frame.filter(pl.col("x").is_finite() & pl.col("y").is_finite())
        notes = [*notes, f"{lost:,} rows are not drawn"]
    return Coordinates(frame, (axes[0], axes[1]), method, tuple(float(e) for e in explained), notes)


def _carried(data: AnnData, method: str) -> tuple[np.ndarray, tuple[float, ...]] | None:
    key = "X_umap" if method == "UMAP" else "X_pca"
    if key not in data.obsm or np.asarray(data.obsm[key]).shape[1] < 2:
        return None
    places = np.asarray(data.obsm[key], dtype=np.float64)[:, :2]
    if method == "UMAP":
        return places, ()
    ratio = data.uns.get("pca", {}).get("variance_ratio") if hasattr(data.uns.get("pca", {}), "get") else None
    return None if ratio is None else (places, (float(ratio[0]), float(ratio[1])))


def _prepared(data: AnnData, scale: bool | None) -> tuple[Any, list[str]]:
    """The matrix (n, p') that the axes are fitted on, float32, dense or CSR, and what was done."""
    from scipy import sparse

    notes: list[str] = []
    given: Any = data.X
    matrix: Any = given.tocsr().astype(np.float32) if sparse.issparse(given) else np.array(given, dtype=np.float32)
    unit, axis = str(data.uns.get("unit", "")), str(data.uns.get("axis", "subject"))
    if unit == "counts":
        matrix = _log_normalised(matrix)
        notes.append("counts shown as ln(1 + counts per 10,000)")
    if sparse.issparse(matrix):
        if not np.isfinite(matrix.data).all():
            matrix.data[~np.isfinite(matrix.data)] = 0.0
            notes.append("stored values that are no numbers count as zero")
        mean = np.asarray(matrix.mean(axis=0)).ravel()
        spread = np.asarray(matrix.multiply(matrix).mean(axis=0)).ravel() - mean**2
    else:
        gaps = ~np.isfinite(matrix)
        if gaps.any():
            often = gaps.mean(axis=0) <= 0.5
            matrix, gaps = matrix[:, often], gaps[:, often]
            notes.append(
                f"{100 * gaps.mean() if gaps.size else 0:.1f} % of values are missing and stand at their feature's mean"
                + (f"; {int((~often).sum()):,} features measured on fewer than half of the rows are left out")
                * bool((~often).any())
            )
            held = np.where(gaps, 0.0, matrix)
            mean = held.sum(axis=0) / np.maximum((~gaps).sum(axis=0), 1)
            matrix = np.where(gaps, mean, matrix).astype(np.float32)
        else:
            often = np.ones(matrix.shape[1], dtype=bool)
        spread = matrix.var(axis=0)
    units = data.var["unit"].astype(str).to_numpy() if "unit" in data.var else np.array([])
    if units.size and not sparse.issparse(matrix):
        units = units[often]
    varies = spread > 1e-12
    if axis == "cell" and varies.sum() > CELL_FEATURES:
        varies &= spread >= np.sort(spread)[-CELL_FEATURES]
        notes.append(f"the {CELL_FEATURES:,} features that vary most")
    if varies.sum() < 2:
        raise EmbeddingError(f"two axes need at least 2 features that vary; found {int(varies.sum())}.")
    matrix = matrix[:, varies]
    if scale if scale is not None else len(set(units[varies] if units.size else ())) > 1:
        matrix = (
            matrix * (1 / np.sqrt(spread[varies]))
            if not sparse.issparse(matrix)
            else matrix.multiply(1 / np.sqrt(spread[varies])).tocsr()
        )
        notes.append("features scaled to unit variance, for they have units of their own")
    return matrix, notes


def _log_normalised(matrix: Any) -> Any:
    """ln(1 + counts per 10,000) by row; a row without counts stays empty."""
    from scipy import sparse

    total = np.asarray(matrix.sum(axis=1)).ravel()
    factor = (1e4 / np.maximum(total, 1e-12)).astype(np.float32)
    if sparse.issparse(matrix):
        scaled = (sparse.diags(factor) @ matrix).tocsr()
        scaled.data = np.log1p(scaled.data)
        return scaled
    return np.log1p(matrix * factor[:, None])


def _components(matrix: Any, chosen: np.ndarray | None, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, k') on the first components and the share of variance of each, fitted on the ``chosen`` rows."""
    from scipy import sparse
    from sklearn.decomposition import PCA

    fitted = matrix if chosen is None else matrix[chosen]
    k = min(k, min(fitted.shape) - 1)
    if k < 2:
        raise EmbeddingError(f"two axes need at least 3 rows and 3 features that vary; found {fitted.shape}.")
    solver = "arpack" if sparse.issparse(fitted) else "randomized"
    pca = PCA(k, svd_solver=solver, random_state=seed).fit(fitted)
    scores = np.concatenate([np.asarray(pca.transform(block)) for block in _blocks(matrix)])
    return scores, pca.explained_variance_ratio_


def _blocks(matrix: Any, rows: int = 50_000) -> Iterator[Any]:
    for start in range(0, matrix.shape[0], rows):
        yield matrix[start : start + rows]


def _umap(names: list[str], scores: np.ndarray, notes: list[str], seed: int) -> Coordinates:
    chosen = np.arange(len(names))
    if len(names) > UMAP_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(names), UMAP_ROWS, replace=False))
        notes = [*notes, f"UMAP of {UMAP_ROWS:,} of {len(names):,} rows drawn at random; the others are not drawn"]
    near = min(NEIGHBOURS, len(chosen) - 1)
    notes = [*notes, f"UMAP on {scores.shape[1]} components, {near} neighbours; distances between groups mean little"]
    # with few rows the spectral start of umap-learn cannot be solved; a random one, seeded, is
    start = "spectral" if len(chosen) > 3 * KEPT_COMPONENTS else "random"
    with warnings.catch_warnings():
        # it warns that a seed costs it its threads, that it lacks TensorFlow, and of numba's own affairs
        warnings.simplefilter("ignore")
        from umap import UMAP

        made = UMAP(n_neighbors=near, min_dist=0.3, random_state=seed, n_jobs=1, init=start)
        places = np.full((len(names), 2), np.nan)
        places[chosen] = made.fit_transform(scores[chosen].astype(np.float32))
    return _made(names, places, "UMAP", (), notes)
