"""Group comparisons: the numbers of scipy and scanpy, fold changes by unit, and donors that are not cells."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.real import shared
from workbench.assays import differential_expression as de


def old_file(name: str) -> Any:
    """A cell file of shared/data; anndata says at length that these were written by its ancestors."""
    import anndata

    path = shared(f"single_cell/{name}.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.read_h5ad(path)


def cells(
    values: Any, group: list[str], unit: str = "log1p(CP10k)", donor: list[str] | None = None, axis: str = "cell"
) -> Any:
    import pandas as pd
    from anndata import AnnData

    obs = {"group": group} | ({"subject": donor} if donor else {})
    data = AnnData(values, obs=pd.DataFrame(obs, index=[f"c{i}" for i in range(values.shape[0])]))
    data.var_names = [f"g{j}" for j in range(values.shape[1])]
    data.uns["axis"], data.uns["unit"] = axis, unit
    return data


def planted(seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Counts (150, 30): group b has gene 0 tripled, gene 1 absent; gene 2 is zero everywhere, gene 3 one everywhere."""
    draw = np.random.default_rng(seed)
    group = ["a"] * 60 + ["b"] * 50 + ["c"] * 40
    counts = draw.poisson(draw.gamma(1, 1.5, 30)[None, :] * draw.uniform(0.5, 2, (150, 1))).astype(np.float64)
    counts[60:110, 0] = draw.poisson(6, 50)
    counts[:60, 0] = draw.poisson(2, 60)
    counts[60:110, 1], counts[:, 2], counts[:, 3] = 0, 0, 1
    return counts, group


@pytest.mark.parametrize("sparse_as", ["dense", "csr", "csc", "float32"])
@pytest.mark.parametrize("reference", ["rest", "c"])
def test_rank_sums_are_those_of_scipy_with_ties_and_zeros(sparse_as: str, reference: str) -> None:
    from scipy import sparse, stats

    x, group = np.log1p(planted()[0]), np.array(planted()[1])
    wrap = {"dense": np.asarray, "csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "float32": np.float32}[sparse_as]
    found = de.compare(cells(wrap(x), list(group)), "group", groups=["a", "b"], reference=reference).table
    for name in ("a", "b"):
        mine = found.filter(group=name).sort(pl.col("feature").str.strip_prefix("g").cast(pl.Int64))
        inside, outside = x[group == name], x[group != name] if reference == "rest" else x[group == "c"]
        for j in range(30):
            if j in (2, 3):
                assert mine["p"][j] is None and mine["statistic"][j] is None, "nothing differs where all is the same"
                continue
            peer = stats.mannwhitneyu(inside[:, j], outside[:, j], method="asymptotic", use_continuity=False)
            assert mine["p"][j] == pytest.approx(peer.pvalue, rel=1e-8)
            assert np.sign(mine["statistic"][j]) == np.sign(peer.statistic - len(inside) * len(outside) / 2)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # of scanpy, where all is 0
def test_scanpy_gives_the_same_scores() -> None:
    import scanpy
    from scipy import sparse

    x, group = planted(1)
    data = cells(sparse.csr_matrix(np.log1p(x)), group)
    mine = de.compare(data, "group").table
    theirs = data.copy()
    theirs.obs["group"] = theirs.obs["group"].astype("category")
    scanpy.tl.rank_genes_groups(theirs, "group", method="wilcoxon", tie_correct=True)
    for name in "abc":
        peer = pl.from_pandas(scanpy.get.rank_genes_groups_df(theirs, name))
        both = mine.filter(group=name).join(peer, left_on="feature", right_on="names").drop_nulls("statistic")
        assert both.height == 28
        np.testing.assert_allclose(both["statistic"], both["scores"], rtol=2e-6, atol=2e-6)  # theirs are float32
        np.testing.assert_allclose(both["p"], both["pvals"], rtol=1e-9)


def test_welch_is_scipys_and_keeps_its_digits_beside_a_large_mean() -> None:
    from scipy import stats

    draw = np.random.default_rng(2)
    x = draw.normal(1e6, 0.1, (60, 8))
    x[:25, 0] += 0.2
    group = np.array(["a"] * 25 + ["b"] * 35)
    table = de.compare(cells(x, list(group), "intensity", axis="subject"), "group", groups=["a"], test="t-test").table
    for row in table.iter_rows(named=True):
        j = int(row["feature"][1:])
        peer = stats.ttest_ind(x[group == "a", j], x[group == "b", j], equal_var=False)
        assert row["statistic"] == pytest.approx(peer.statistic, rel=1e-6)
        assert row["p"] == pytest.approx(peer.pvalue, rel=1e-6)
    assert table["feature"][0] == "g0"


def test_fold_changes_follow_the_unit() -> None:
    counts, group = planted(3)
    inside, outside = np.array(group) == "b", np.array(group) != "b"

    def fold(values: np.ndarray, unit: str, gene: str = "g0") -> float | None:
        table = de.compare(cells(values, group, unit, axis="subject"), "group", groups=["b"], test="t-test").table
        return table.filter(feature=gene)["log2_fold_change"][0]

    ratio = float(np.log2(counts[inside, 0].mean() / counts[outside, 0].mean()))
    assert fold(counts, "CP10k") == pytest.approx(ratio)
    assert fold(np.log1p(counts), "log1p(CP10k)") == pytest.approx(ratio), "the mean of the counts, not of their logs"
    assert fold(np.log1p(counts), "log1p(CP10k)", "g1") is None, "absent in one group: no ratio"
    logged = np.log2(counts + 1)
    assert fold(logged, "log2(CPM + 1)") == pytest.approx(logged[inside, 0].mean() - logged[outside, 0].mean())
    tenth = np.log10(counts + 1)
    assert fold(tenth, "log10 ng/mL") == pytest.approx(
        (tenth[inside, 0].mean() - tenth[outside, 0].mean()) * np.log2(10)
    )
    assert fold(logged - logged.mean(0), "z-score") is None


def test_raw_counts_are_brought_to_the_same_depth_first() -> None:
    """A clean control: one group sequenced four times as deep differs in nothing; without depth it would in all."""
    draw = np.random.default_rng(4)
    rate = draw.gamma(2, 2, 200)
    depth = np.repeat([1.0, 4.0], 60)[:, None]
    counts = draw.poisson(rate[None, :] * depth).astype(float)
    group = ["shallow"] * 60 + ["deep"] * 60
    fair = de.compare(cells(counts, group, "counts"), "group", groups=["deep"], test="t-test")
    assert fair.unit == "log1p(CP10k)"
    assert fair.table["log2_fold_change"].abs().median() < 0.1
    unfair = de.compare(cells(counts, group, "CP10k"), "group", groups=["deep"], test="t-test").table
    assert unfair["log2_fold_change"].median() == pytest.approx(2.0, abs=0.1)


def test_shares_above_zero_are_counted() -> None:
    counts, group = planted(5)
    row = (
        de.compare(cells(np.log1p(counts), group), "group", groups=["b"]).table.filter(feature="g1").row(0, named=True)
    )
    outside = counts[np.array(group) != "b", 1]
    assert row["pct_group"] == 0 and row["pct_reference"] == pytest.approx(100 * (outside > 0).mean())
    assert row["n_group"] == 50 and row["n_reference"] == 100


def test_small_groups_are_refused_and_said() -> None:
    counts, group = planted(6)
    group[-3:] = ["tiny"] * 3
    found = de.compare(cells(np.log1p(counts), group), "group", donor=None)
    assert set(found.table["group"]) == {"a", "b", "c"}
    small = found.findings.filter(check="group too small")
    assert small["names"].to_list() == [["tiny"]] and small["n"][0] == 3
    with pytest.raises(ValueError, match=r"group 'tiny' has 3 rows; a test needs at least 10"):
        de.compare(cells(np.log1p(counts), group), "group", groups=["tiny"])
    with pytest.raises(ValueError, match=r"reference|'tiny' has 3 rows"):
        de.compare(cells(np.log1p(counts), group), "group", reference="tiny")
    with pytest.raises(ValueError, match="no rest to compare"):
        de.compare(cells(np.log1p(counts), ["a"] * 150), "group")


def test_values_that_contradict_their_unit_are_refused() -> None:
    counts, group = planted(7)
    for values, unit, words in (
        (counts + 0.5, "counts", "needs whole numbers; found"),
        (counts - 3, "log1p(CP10k)", "cannot be negative"),
        (counts * 100, "log1p(CP10k)", "no natural log"),
        (np.where(counts > 4, np.nan, counts), "log2", "are no numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            de.compare(cells(values, group, unit), "group")
    data = cells(counts, group)
    del data.uns["unit"]
    with pytest.raises(ValueError, match=r"expected uns\['unit'\]"):
        de.compare(data, "group")
    with pytest.raises(KeyError, match=r"Did you mean 'group'"):
        de.compare(cells(counts, group), "grup")
    with pytest.raises(ValueError, match=r"Did you mean 'wilcoxon'"):
        de.compare(cells(counts, group), "group", test="wilcoxen")


@pytest.mark.parametrize(
    ("donor", "severity", "check"),
    [
        (None, "warning", "cells as replicates"),
        (["d1"] * 60 + ["d2"] * 50 + ["d1"] * 40, "warning", "one donor"),
        ([f"d{i % 5}" for i in range(150)], "note", "cells as replicates"),
    ],
)
def test_cells_of_one_donor_are_no_replicates(donor: list[str] | None, severity: str, check: str) -> None:
    counts, group = planted(8)
    found = de.compare(cells(np.log1p(counts), group, donor=donor), "group").findings
    assert found["severity"][0] == severity and found["check"][0] == check
    if check == "one donor":
        assert found.height == 3 and found["names"][1].to_list() == ["b", "d2"]
    subjects = de.compare(cells(np.log1p(counts), group, axis="subject"), "group")
    assert subjects.findings.is_empty(), "rows that are subjects are replicates"


def test_pseudo_bulk_compares_donors_and_a_donor_effect_is_no_finding() -> None:
    """Planted: three donors a side differ by chance from donor to donor, in nothing by group, but for gene 0."""
    draw = np.random.default_rng(9)
    donors = [f"d{i}" for i in range(6) for _ in range(80)]
    group = ["treated" if int(d[1]) < 3 else "control" for d in donors]
    rate = np.exp(draw.normal(1, 0.5, (6, 60)))  # each donor has its own level of each gene
    rate[:, 0] = np.array([30.0, 33, 36, 3, 3.3, 3.6])
    counts = draw.poisson(np.repeat(rate, 80, axis=0)).astype(float)
    data = cells(counts, group, "counts", donors)
    naive = de.compare(data, "group", groups=["treated"]).table.filter(pl.col("feature") != "g0")
    assert (naive["q"] < 0.05).mean() > 0.5, "cells as replicates find donors"
    bulk = de.pseudo_bulk(data, "group")
    assert bulk.shape == (6, 60) and bulk.obs["cells"].tolist() == [80] * 6
    total = counts[:80].sum(0)
    np.testing.assert_allclose(bulk.X[0], np.log2(total / total.sum() * 1e6 + 1))
    np.testing.assert_array_equal(bulk.layers["counts"][0], total)
    fair = de.compare(bulk, "group", groups=["treated"], test="t-test", least=3)
    assert fair.findings.is_empty() and fair.table["feature"][0] == "g0"
    assert (fair.table.filter(pl.col("feature") != "g0")["q"] < 0.05).mean() < 0.05
    assert fair.table["log2_fold_change"][0] > 2
    with pytest.raises(ValueError, match="needs whole numbers"):
        de.pseudo_bulk(cells(np.log1p(counts), group, donor=donors), "group")


def test_interferon_genes_lead_on_real_cells() -> None:
    """Kang et al. 2018, Nat. Biotechnol. 36:89: PBMC with and without interferon beta; the file is log-normalised."""
    data = old_file("kang_pbmc_ifnb_scgen_valid")
    found = de.compare(data, "condition", reference="control", unit="log1p")
    first = found.top("stimulated", 10)
    assert {"ISG15", "IFI6", "IFIT3", "IFIT1"} <= set(first["feature"])
    assert (first["log2_fold_change"] > 1).all() and (first["pct_group"] > first["pct_reference"]).all()
    assert 0 < first.filter(feature="IFIT3")["p"][0] < 1e-300, "tails do not vanish"
    assert found.findings["check"].to_list() == ["cells as replicates"]
