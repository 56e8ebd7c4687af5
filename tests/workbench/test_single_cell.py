"""Single cells: what the values are, what was removed, nothing normalised twice, one seed one result."""

from __future__ import annotations

import builtins
import warnings
from typing import Any

import numpy as np
import pytest

from tests.real import shared
from workbench import single_cell


def old_file(name: str) -> Any:
    """A cell file of shared/data; anndata says at length that these were written by its ancestors."""
    import anndata

    path = shared(f"single_cell/{name}.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.read_h5ad(path)


def cells(seed: int = 0, n: int = 120, genes: int = 300) -> Any:
    """Counts of three planted types; five MT genes; two empty-ish cells, two dying ones, two genes nobody has."""
    from anndata import AnnData
    from scipy import sparse

    draw = np.random.default_rng(seed)
    kind = np.repeat([0, 1, 2], n // 3)
    rate = np.tile(draw.gamma(0.8, 1.5, genes), (3, 1))
    for k in range(3):
        rate[k, 20 * k : 20 * k + 20] *= 8
    counts = draw.poisson(rate[kind] * draw.uniform(0.7, 1.4, (n, 1))).astype(np.float32)
    counts[:, -2:] = 0
    counts[:2] *= draw.random((2, genes)) < 0.02
    counts[2:4, 60:65] = 400
    counts[4:, 60:65] = draw.poisson(1, (n - 4, 5))
    counts[0, 5] = 3
    counts[1, 5] = 2
    data = AnnData(sparse.csr_matrix(counts))
    data.var_names = [f"MT-{j}" if 60 <= j < 65 else f"GENE{j}" for j in range(genes)]
    data.obs_names = [f"cell{i}" for i in range(n)]
    data.obs["kind"] = [f"type {k}" for k in kind]
    return data


def test_values_are_recognised_from_the_numbers() -> None:
    import scipy.sparse as sparse

    counts = cells().X.toarray().astype(np.float64)[2:]
    depth = counts / counts.sum(1, keepdims=True) * 1e4
    part = depth[:, :150]  # genes were dropped after normalising: cells no longer sum to the same
    seen = {
        "counts": (counts, None),
        "normalised": (depth, None),
        "log-normalised": (np.log1p(depth), "ln"),
        "scaled": ((np.log1p(depth) - np.log1p(depth).mean(0)), None),
    }
    for kind, (values, log) in seen.items():
        for form in (values, sparse.csr_matrix(values), values.astype(np.float32)):
            found = single_cell.recognise(form)
            assert (found.kind, found.log) == (kind, log), found
    assert single_cell.recognise(np.log2(depth + 1)).log == "log2"
    assert single_cell.recognise(np.log10(depth + 1)).log == "log10"
    assert single_cell.recognise(np.log1p(depth)).depth == pytest.approx(1e4, rel=1e-6)
    assert single_cell.recognise(np.log1p(part)).kind == "log-normalised"
    assert single_cell.recognise(np.round(np.log1p(part), 3)).kind == "log-normalised"
    assert single_cell.recognise(part).kind == "normalised"
    assert single_cell.recognise(np.random.default_rng(0).gamma(2, 2, (100, 80))).kind == "unknown"
    assert single_cell.recognise((counts > 0).astype(int)).kind == "unknown"
    assert single_cell.recognise(np.zeros((4, 4))).kind == "unknown"
    assert "no numbers" in single_cell.recognise(np.full((3, 3), np.nan)).why


def test_normalising_twice_is_refused_and_counts_are_kept() -> None:
    data = cells()[4:].copy()
    before = data.X.toarray().copy()
    once = single_cell.normalise(data)
    np.testing.assert_array_equal(data.X.toarray(), before)  # what was given is left alone
    np.testing.assert_array_equal(once.layers["counts"].toarray(), before)
    expected = np.log1p(before / before.sum(1, keepdims=True) * 1e4)
    np.testing.assert_allclose(once.X.toarray(), expected, rtol=1e-5)
    assert once.uns["unit"] == "log1p(CP10k)" and once.uns["axis"] == "cell"
    again = single_cell.normalise(once)  # from the counts it keeps
    np.testing.assert_allclose(again.X.toarray(), expected, rtol=1e-5)
    del once.layers["counts"]
    for what in (single_cell.normalise, single_cell.quality, single_cell.filter_cells, single_cell.doublets):
        with pytest.raises(single_cell.NotCountsError, match=r"needs raw counts .* found log-normalised"):
            what(once)
    with pytest.raises(single_cell.NotCountsError, match="found counts"):
        single_cell.embed(data)


def test_quality_counts_what_is_there() -> None:
    data = cells()
    x = data.X.toarray()
    found = single_cell.quality(data)
    np.testing.assert_array_equal(found["counts"], x.sum(1))
    np.testing.assert_array_equal(found["genes"], (x > 0).sum(1))
    mito = 100 * x[:, 60:65].sum(1) / x.sum(1)
    np.testing.assert_allclose(found["mitochondrial_pct"].to_numpy(), mito, rtol=1e-6)
    assert found["top_50_pct"][0] == 100.0
    data.var_names = [f"ENSG{j}" for j in range(data.n_vars)]
    assert single_cell.quality(data)["mitochondrial_pct"].null_count() == data.n_obs, "not known is not zero"


def test_what_is_removed_is_counted_and_the_planted_bad_cells_go() -> None:
    data = cells()
    kept, removed = single_cell.filter_cells(data, min_genes=50, max_mitochondrial_pct=50)
    assert removed.rows() == [
        ("cell: genes at least", 50.0, 2, 118),
        ("cell: mitochondrial % at most", 50.0, 2, 116),
        ("gene: cells at least", 3.0, removed["removed"][2], kept.n_vars),
    ]
    assert list(kept.obs_names) == [f"cell{i}" for i in range(4, 120)]
    assert not {"GENE298", "GENE299"} & set(kept.var_names) and data.shape == (120, 300)
    assert single_cell.steps(kept)[0]["removed"] == removed.to_dicts()
    clean, none = single_cell.filter_cells(kept, min_genes=50, max_mitochondrial_pct=50)
    assert none["removed"].sum() == 0 and clean.shape == kept.shape
    with pytest.raises(ValueError, match=r"no cell is left: genes at least 5000 removed the last 120"):
        single_cell.filter_cells(data, min_genes=5000)
    with pytest.raises(KeyError, match=r"run doublets\(data\) first"):
        single_cell.filter_cells(data, max_doublet_score=0.3)


def test_planted_types_are_found_again_and_the_same_seed_gives_the_same_numbers() -> None:
    pytest.importorskip("igraph")
    data = single_cell.normalise(cells()[4:].copy())
    said: list[str] = []
    one = single_cell.embed(data, genes=150, components=10, seed=3, say=lambda done, text: said.append(text))
    two = single_cell.embed(data, genes=150, components=10, seed=3)
    for part in ("X_pca", "X_umap"):
        np.testing.assert_array_equal(one.obsm[part], two.obsm[part])
    assert one.obs["leiden"].tolist() == two.obs["leiden"].tolist()
    assert one.obsm["X_pca"].shape == (116, 10) and one.obsm["X_umap"].shape == (116, 2)
    by_type = one.obs.groupby("kind", observed=True)["leiden"].nunique()
    by_cluster = one.obs.groupby("leiden", observed=True)["kind"].nunique()
    assert by_cluster.max() == 1 and by_type.min() >= 1, "no cluster mixes types"
    assert said[0] == "highly variable genes" and "UMAP" in said and said[-1] == "116 cells"
    assert [s["step"] for s in single_cell.steps(one)] == ["normalise", "embed"]
    assert single_cell.steps(one)[1] == {
        "step": "embed", "genes": 150, "components": 10, "neighbours": 15, "resolution": 1.0, "seed": 3,
    }  # fmt: skip
    assert "leiden" not in data.obs.columns
    found = single_cell.markers(one, "kind")
    for k in range(3):
        lead = [int(g.removeprefix("GENE")) for g in found.top(f"type {k}", 10)["feature"]]
        assert all(20 * k <= g < 20 * k + 20 for g in lead)


def test_a_study_takes_what_was_made() -> None:
    import polars as pl

    from workbench import home, tables
    from workbench.study import write_study

    made = single_cell.embed(single_cell.normalise(cells()[4:].copy()), leiden=False, umap=False, components=5)
    made.obs["subject"] = "patient 1"
    study = write_study(
        home.studies() / "cells",
        outcomes=tables.empty(tables.OUTCOMES),
        subjects=pl.DataFrame({"subject": ["patient 1"], "tissue": ["blood"]}),
        treatments=tables.empty(tables.TREATMENTS),
        modalities={"single_cell_rna": made},
        provenance={},
        event="made for a test",
    )
    back = study.modality("single_cell_rna")
    assert single_cell.steps(back) == single_cell.steps(made)
    np.testing.assert_array_equal(back.layers["counts"].toarray(), made.layers["counts"].toarray())


def test_a_missing_igraph_names_feature_package_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "igraph":
            raise ModuleNotFoundError("No module named 'igraph'")
        return real(name, *args, **kwargs)

    data = single_cell.normalise(cells()[4:].copy())
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        ModuleNotFoundError, match=r"Leiden .* igraph .* pip install 'translational-workbench\[clustering\]'"
    ):
        single_cell.embed(data)
    made = single_cell.embed(data, leiden=False, umap=False)
    assert "leiden" not in made.obs.columns and "X_pca" in made.obsm


def test_doublets_score_higher_than_single_cells() -> None:
    data = cells(n=240)[4:].copy()
    pairs = data[:20].copy()
    pairs.X = data[:20].X + data[200:220].X  # type 0 with type 2
    pairs.obs_names = [f"doublet{i}" for i in range(20)]
    import anndata

    both = anndata.concat([data, pairs])
    scored = single_cell.doublets(both, rate=0.08)
    score = scored.obs["doublet_score"].to_numpy()
    assert np.median(score[-20:]) > 2 * np.median(score[:-20])
    assert "doublet_score" not in both.obs.columns


def test_kang_is_logged_and_not_normalised_again() -> None:
    data = old_file("kang_pbmc_ifnb_scgen_valid")
    assert single_cell.recognise(data.X).kind == "log-normalised"
    with pytest.raises(single_cell.NotCountsError, match="silent error"):
        single_cell.normalise(data)


def test_kang_and_scanpys_own_cells_go_from_values_to_types() -> None:
    import scanpy

    pytest.importorskip("igraph")
    data = old_file("kang_pbmc_ifnb_scgen_valid")
    made = single_cell.embed(data, umap=False)
    share = made.obs.groupby("leiden", observed=True)["cell_type"].agg(lambda t: t.value_counts(normalize=True).iloc[0])
    assert share.mean() > 0.7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = scanpy.datasets.pbmc68k_reduced()
    assert (
        single_cell.recognise(small.X).kind == "scaled" and single_cell.recognise(small.raw.X).kind == "log-normalised"
    )
    with pytest.raises(single_cell.NotCountsError, match="found scaled"):
        single_cell.normalise(small)
    raw = small.raw.to_adata()
    raw.uns = {}
    found = single_cell.embed(raw, umap=False)
    both = found.obs["leiden"].astype(str) + small.obs["bulk_labels"].astype(str)
    assert found.obs["leiden"].nunique() >= 5 and both.nunique() < 60


def test_cite_seq_goes_from_counts_to_markers_and_its_proteins_to_ratios() -> None:
    pytest.importorskip("igraph")
    data = old_file("pbmc_5k_protein_v3")
    assert single_cell.recognise(data.X).kind == "counts"
    kept, removed = single_cell.filter_cells(data, min_genes=200, max_mitochondrial_pct=15)
    assert removed["left"].to_list() == [200, 191, 11229]
    made = single_cell.embed(single_cell.normalise(kept), umap=False)
    found = single_cell.markers(made, least=5)
    lead = {g for k in set(found.table["group"]) for g in found.top(k, 15)["feature"]}
    assert {"CD79A", "VCAN"} & lead and {"CD14", "S100A8", "LYZ"} & lead
    ratios = single_cell.clr(np.asarray(data.obsm["protein_expression"]))
    assert ratios.shape == (200, 29) and np.abs(ratios.sum(1)).max() < 1e-9
    from scipy import sparse

    again = single_cell.clr(sparse.csr_matrix(np.asarray(data.obsm["protein_expression"])))
    assert np.array_equal(again, ratios)
