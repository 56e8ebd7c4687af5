"""Coordinates: planted groups lie apart, the shares of variance are numpy's, gaps and counts are handled as stated."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from workbench import embedding


def modality(matrix: object, axis: str = "subject", unit: str = "z-score") -> AnnData:
    data = AnnData(matrix)
    data.obs_names = [f"s{i}" for i in range(data.n_obs)]
    data.uns["axis"], data.uns["unit"] = axis, unit
    return data


def two_groups(n: int = 60, p: int = 30, apart: float = 8.0) -> np.ndarray:
    matrix = np.random.default_rng(5).normal(size=(n, p)).astype(np.float32)
    matrix[: n // 2, 0] += apart
    return matrix


def test_pca_agrees_with_the_singular_value_decomposition() -> None:
    matrix = two_groups()
    found = embedding.coordinates(modality(matrix))
    centred = matrix - matrix.mean(axis=0)
    u, s, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    share = s**2 / (s**2).sum()
    assert found.explained == pytest.approx(tuple(share[:2]), rel=1e-4)
    for k, axis in enumerate(("x", "y")):
        assert abs(np.corrcoef(found.frame[axis], u[:, k])[0, 1]) == pytest.approx(1, abs=1e-4)
    assert found.axes == (f"PC 1 ({100 * share[0]:.1f} %)", f"PC 2 ({100 * share[1]:.1f} %)")
    assert found.frame["name"].to_list() == [f"s{i}" for i in range(60)] and found.notes == []


def test_the_same_rows_give_the_same_picture_and_sparse_that_of_dense() -> None:
    matrix = np.where(np.random.default_rng(2).random((80, 40)) < 0.7, 0, two_groups(80, 40)).astype(np.float32)
    dense = embedding.coordinates(modality(matrix), seed=3)
    assert dense.frame.equals(embedding.coordinates(modality(matrix), seed=3).frame)
    thin = embedding.coordinates(modality(sparse.csr_matrix(matrix)), seed=3)
    assert thin.explained == pytest.approx(dense.explained, rel=1e-3)
    assert abs(np.corrcoef(thin.frame["x"], dense.frame["x"])[0, 1]) == pytest.approx(1, abs=1e-3)


def test_gaps_stand_at_the_mean_and_rarely_measured_features_go() -> None:
    matrix = two_groups(40, 10)
    matrix[5, 0] = np.nan
    matrix[:30, 9] = np.nan  # measured on a quarter
    found = embedding.coordinates(modality(matrix))
    assert found.frame["x"].is_finite().all() and len(found.frame) == 40
    assert "0.3 % of values are missing" in found.notes[0]
    assert "1 features measured on fewer than half of the rows are left out" in found.notes[0]


def test_counts_are_normalised_first_and_said() -> None:
    draw = np.random.default_rng(8)
    rate = np.ones((60, 50))
    rate[:30, :10] = 5  # the biology
    depth = np.tile([20, 400], 30)[:, None]  # cells sequenced twenty times deeper
    found = embedding.coordinates(modality(draw.poisson(rate * depth).astype(np.float32), "cell", "counts"))
    x = found.frame["x"].to_numpy()
    group = np.arange(60) < 30
    assert abs(x[group].mean() - x[~group].mean()) > 3 * abs(x[::2].mean() - x[1::2].mean())
    assert found.notes[0] == "counts shown as ln(1 + counts per 10,000)"


def test_features_with_units_of_their_own_are_scaled() -> None:
    draw = np.random.default_rng(1)
    matrix = draw.normal(size=(50, 6)).astype(np.float32)
    matrix[:, 5] *= 1e4
    matrix[:25, :4] += 4
    data = modality(matrix)
    assert embedding.coordinates(data).explained[0] > 0.999  # one unit: the loudest feature is all there is
    data.var["unit"] = ["U/L", "mmol/L", "g/L", "%", "U/L", "ng/mL"]
    found = embedding.coordinates(data)
    assert found.explained[0] < 0.8 and "scaled to unit variance" in found.notes[0]
    assert abs(np.corrcoef(found.frame["x"], np.arange(50) < 25)[0, 1]) > 0.9


@pytest.mark.slow  # umap-learn is compiled on the way
def test_umap_is_seeded_and_keeps_groups_apart() -> None:
    data = modality(two_groups(60, 30, 12))
    found = embedding.coordinates(data, "UMAP", seed=1)
    assert found.axes == ("UMAP 1", "UMAP 2") and found.explained == ()
    assert found.frame.equals(embedding.coordinates(data, "UMAP", seed=1).frame)
    at = found.frame.select("x", "y").to_numpy()
    apart = np.linalg.norm(at[:30].mean(axis=0) - at[30:].mean(axis=0))
    assert apart > np.linalg.norm(at[:30] - at[:30].mean(axis=0), axis=1).mean()


def test_coordinates_kept_with_the_modality_are_used() -> None:
    data = modality(two_groups(20, 6))
    data.obsm["X_umap"] = np.arange(40, dtype=np.float64).reshape(20, 2)
    found = embedding.coordinates(data, "UMAP")
    assert found.frame["y"].to_list() == list(range(1, 40, 2)) and found.notes == ["coordinates kept with the modality"]


def test_more_rows_than_a_fit_takes_are_placed_on_its_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embedding.coordinates(modality(two_groups(400, 20)))
    monkeypatch.setattr(embedding, "FITTED", 200)
    found = embedding.coordinates(modality(two_groups(400, 20)))
    assert len(found.frame) == 400 and "fitted on 200 of 400 rows" in found.notes[0]
    assert abs(np.corrcoef(whole.frame["x"], found.frame["x"])[0, 1]) > 0.99


def test_what_cannot_be_laid_out_is_refused() -> None:
    with pytest.raises(embedding.EmbeddingError, match="at least 3; this modality has 2"):
        embedding.coordinates(modality(two_groups(2, 5)))
    with pytest.raises(embedding.EmbeddingError, match="found 1"):
        embedding.coordinates(modality(np.outer(np.arange(9.0), [1, 0, 0])))
    with pytest.raises(ValueError, match="Did you mean 'UMAP'"):
        embedding.coordinates(modality(two_groups()), "UMPA")
