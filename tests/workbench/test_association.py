"""The association scan: the same t as statsmodels, on hostile designs and on real drugs and genes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests import toy
from tests.real import shared
from workbench.assays import _regressions, association
from workbench.assays._significance import benjamini_hochberg, t_tails


def planted(n: int = 160, p: int = 40, drugs: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses with gaps, half continuous and half 0/1 features, tissue dummies with a number beside them."""
    draw = np.random.default_rng(seed)
    tissue = np.eye(6)[draw.integers(0, 6, n)][:, 1:]
    covariates = np.hstack([tissue, draw.normal(5, 2, (n, 1))])
    x = np.hstack([draw.normal(size=(n, p // 2)), (draw.random((n, p - p // 2)) < 0.2).astype(float)])
    y = draw.normal(size=(n, drugs)) + tissue @ draw.normal(size=(5, drugs)) + 0.8 * x[:, [0]] - 0.5 * x[:, [-1]]
    y[draw.random(y.shape) < 0.15] = np.nan
    y[draw.random(n) < 0.7, 3] = np.nan  # a drug that most samples never met
    return y, x, covariates


def ols(y: np.ndarray, x: np.ndarray, covariates: np.ndarray, *own: np.ndarray):
    """statsmodels' answer for one pair."""
    import statsmodels.api as sm

    ok = (
        np.isfinite(y) & np.isfinite(x) & np.isfinite(covariates).all(1) & np.all([np.isfinite(z) for z in own], axis=0)
    )
    return sm.OLS(y[ok], np.column_stack([np.ones(ok.sum()), covariates[ok], *[z[ok] for z in own], x[ok]])).fit()


def test_every_t_beta_se_and_p_is_that_of_ordinary_least_squares() -> None:
    y, x, c = planted()
    found = _regressions.fit(y, x, c, block=7)
    for d in range(y.shape[1]):
        for j in range(x.shape[1]):
            peer = ols(y[:, d], x[:, j], c)
            assert found.t[d, j] == pytest.approx(peer.tvalues[-1], rel=1e-10, abs=1e-12)
            assert found.beta[d, j] == pytest.approx(peer.params[-1], rel=1e-10, abs=1e-12)
            assert found.se[d, j] == pytest.approx(peer.bse[-1], rel=1e-10)
            assert found.df[d] == peer.df_resid and found.n[d] == peer.nobs
            assert t_tails(found.t[d, j], found.df[d]) == pytest.approx(peer.pvalues[-1], rel=1e-8)
    assert found.recomputed == 0 and found.dropped == []


def test_a_covariate_of_each_response_is_taken_away_over_its_own_rows() -> None:
    y, x, c = planted(seed=1)
    own = np.random.default_rng(2).normal(size=y.shape)
    own[:9, 4] = np.nan
    found = _regressions.fit(y, x, c, (own, own**2))
    for d in (0, 3, 4, 11):
        for j in (0, 7, 33, 39):
            peer = ols(y[:, d], x[:, j], c, own[:, d], own[:, d] ** 2)
            assert found.t[d, j] == pytest.approx(peer.tvalues[-1], rel=1e-10, abs=1e-12)
            assert found.df[d] == peer.df_resid


def test_collinear_covariates_count_once_and_a_tissue_without_rows_not_at_all() -> None:
    y, x, c = planted(seed=2)
    y[c[:, 2] == 1, 5] = np.nan  # the drug never met this tissue
    plain = _regressions.fit(y, x, c)
    doubled = _regressions.fit(y, x, np.hstack([c, 3 * c[:, [1]] - c[:, [0]] + 2, np.ones((len(c), 1))]))
    np.testing.assert_allclose(doubled.t, plain.t, rtol=1e-9)
    assert len(doubled.dropped) == 2 and doubled.rank.tolist() == plain.rank.tolist()
    assert plain.rank[5] == plain.rank[0] - 1
    peer = ols(y[:, 5], x[:, 1], np.delete(c, 2, axis=1))
    assert plain.t[5, 1] == pytest.approx(peer.tvalues[-1], rel=1e-10) and plain.df[5] == peer.df_resid


def test_pairs_that_lose_digits_are_computed_again_and_constant_ones_say_why() -> None:
    y, x, c = planted(seed=3)
    draw = np.random.default_rng(4)
    x[:, 0] = c[:, 0] + 1e-5 * draw.normal(size=len(x))  # nearly a tissue
    x[:, 1] = c[:, 1]  # a tissue
    x[:, 2] = 0.1  # constant, and 0.1 has no exact binary form
    there = np.isfinite(y[:, 6])
    x[:, 3] = np.where(there, 0.3, draw.normal(size=len(x)))  # constant where drug 6 was measured
    y[:, 7] = 2 + x[:, 9]  # explained wholly
    found = _regressions.fit(y, x, c)
    for d in (0, 3, 6):
        peer = ols(y[:, d], x[:, 0], c)
        assert found.t[d, 0] == pytest.approx(peer.tvalues[-1], rel=1e-6)
    assert found.recomputed > 0
    assert found.constant[:, 1:3].all() and found.constant[6, 3] and not found.constant[0, 3]
    assert np.isnan(found.t[:, 1:3]).all() and not found.constant[:, 4:].any()
    assert found.t[7, 9] > 1e6 or np.isinf(found.t[7, 9])
    table = association.scan_arrays(y, x, c)
    why = table.filter(feature="1")["why"].unique().to_list()
    assert why == ["the feature is constant once the covariates are taken away"]
    assert table.filter(feature="1")["q"].null_count() == table.filter(feature="1").height


def test_features_with_gaps_are_regressed_over_the_rows_that_have_them() -> None:
    y, x, c = planted(seed=5)
    x[3:20, 4] = np.nan
    x[[1, 50, 99], 11] = np.nan
    table = association.scan_arrays(y, x, c, rows=10)
    for d, j in ((0, 4), (2, 11), (5, 12)):
        peer = ols(y[:, d], x[:, j], c)
        row = table.filter(treatment=str(d), feature=str(j)).row(0, named=True)
        assert row["t"] == pytest.approx(peer.tvalues[-1], rel=1e-10) and row["n"] == peer.nobs


def test_effect_sizes_mean_what_they_say() -> None:
    y, x, c = planted(seed=6)
    table = association.scan_arrays(y, x[:, 20:], c)
    row = table.filter(treatment="2", feature="19").row(0, named=True)
    there = np.isfinite(y[:, 2])
    z = np.column_stack([np.ones(there.sum()), c[there]])
    residual = [v - z @ np.linalg.lstsq(z, v, rcond=None)[0] for v in (y[there, 2], x[there, 39])]
    peer = ols(y[:, 2], x[:, 39], c)
    assert row["partial_r"] == pytest.approx(np.corrcoef(*residual)[0, 1], rel=1e-9)
    assert row["cohen_d"] == pytest.approx(peer.params[-1] / np.sqrt(peer.mse_resid), rel=1e-9)
    assert row["beta_sd"] == pytest.approx(peer.params[-1] * x[:, 39].std(), rel=1e-9)
    assert row["carriers"] == x[there, 39].sum()


def test_q_is_benjamini_hochberg_and_tails_do_not_vanish() -> None:
    from scipy import stats
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).random(500) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12)
    gaps = np.insert(p, [0, 250], np.nan)
    np.testing.assert_array_equal(benjamini_hochberg(gaps)[~np.isnan(gaps)], benjamini_hochberg(p))
    assert benjamini_hochberg(np.array([])).shape == (0,)
    assert t_tails(np.array(-50.0), np.array(750.0)) == pytest.approx(2 * stats.t.sf(50, 750), rel=1e-9)
    assert 0 < t_tails(np.array(50.0), np.array(750.0)) < 1e-200


def test_null_data_give_uniform_p() -> None:
    """A clean control: nothing planted, nothing found; 5 % of p below 5 %."""
    draw = np.random.default_rng(8)
    y, x = draw.normal(size=(120, 30)), draw.normal(size=(120, 200))
    y[draw.random(y.shape) < 0.2] = np.nan
    table = association.scan_arrays(y, x, draw.normal(size=(120, 5)))
    assert table.height == 6000
    assert (table["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.01)
    assert (table["q"] < 0.05).sum() <= 2


def test_a_study_is_scanned_with_its_tissues_and_what_was_planted_comes_first() -> None:
    study = toy.write(subjects=60, noise=0.2)
    said: list[float] = []
    found = association.scan(study, say=lambda done, text: said.append(done))
    assert found.unit == "ln(uM)" and found.endpoint == "ln_ic50"
    assert sorted(found.units) == ["copy_number", "expression", "mutation"]
    assert found.covariates == [f"tissue = tissue {i}" for i in (1, 2, 3)]
    best = found.top(30, modality="expression", q=0.05)
    assert best.height >= 10 and set(best["feature"].cast(pl.String)) <= {f"gene{i}" for i in range(6)}
    assert said[-1] == 1.0 and found.table["n"].max() <= 60
    row = found.table.filter(treatment="aspirin", modality="expression", feature="gene3").row(0, named=True)
    wide = study.outcomes.filter(treatment="aspirin", endpoint="ln_ic50").join(study.subjects, on="subject")
    expression = study.modality("expression")
    wide = wide.filter(pl.col("subject").is_in(list(expression.obs_names)))
    x = expression[wide["subject"].to_list(), "gene3"].X.ravel().astype(float)
    tissue = wide["tissue"].to_dummies().to_numpy()[:, 1:].astype(float)
    assert row["t"] == pytest.approx(ols(wide["value"].to_numpy(), x, tissue).tvalues[-1], rel=1e-10)


def test_rare_features_are_left_out_and_counted_and_rare_drugs_too() -> None:
    def rare(kind: str, names: list[str], matrix: np.ndarray) -> np.ndarray:
        if kind == "mutation":
            matrix = matrix.copy()
            matrix[:, 0], matrix[:3, 0] = 0, 1
        return matrix

    study = toy.write(values=rare)
    found = association.scan(study, modalities=["mutation"], carriers=4)
    assert "gene0" not in found.table["feature"].cast(pl.String).to_list()
    counted = found.left_out.filter(pl.col("what").str.contains("carriers"))
    assert counted["n"].sum() + found.table.height == len(toy.TREATMENTS) * toy.GENES
    few = association.scan(study, modalities=["mutation"], rows=1000)
    assert few.table.is_empty() and few.left_out["n"].sum() == len(toy.TREATMENTS) * toy.GENES


def test_the_general_level_is_of_the_other_drugs() -> None:
    study = toy.write()
    plain, level = (association.scan(study, modalities=["expression"], general_level=g) for g in (False, True))
    assert level.covariates[-1] == "general level" and plain.covariates == level.covariates[:-1]
    y = np.array([[1.0, 5.0, np.nan], [2.0, 1.0, 7.0], [3.0, 3.0, 9.0]])
    made = association._general_level(y)
    z = (y - np.nanmean(y, 0)) / np.nanstd(y, 0)
    assert made[1, 0] == pytest.approx((z[1, 1] + z[1, 2]) / 2) and made[0, 0] == pytest.approx(z[0, 1])
    one = association.scan(study, modalities=["expression"], general_level=True, treatments=["nicotine"])
    both = one.table.join(level.table, on=["treatment", "feature"])
    assert both.height == toy.GENES and (both["t"] - both["t_right"]).abs().max() < 1e-9


def test_mistyped_names_are_refused_with_the_nearest() -> None:
    study = toy.write()
    with pytest.raises(KeyError, match=r"Did you mean 'ln_ic50'"):
        association.scan(study, "ln_ic5")
    with pytest.raises(KeyError, match=r"Did you mean 'aspirin'"):
        association.scan(study, treatments=["asprin"])
    with pytest.raises(KeyError, match=r"Did you mean 'tissue'"):
        association.scan(study, covariates=["tisue"])
    with pytest.raises(ValueError, match="one value per subject"):
        association.scan(study, modalities=["drug_structure"])
    with pytest.raises(KeyError, match=r"Did you mean 'gene1'"):
        association.scan(study, modalities=["mutation"]).top(feature="gene1x")


def test_published_pairs_are_found_on_real_cell_lines() -> None:
    """BRAF (673) with BRAF and MEK inhibitors, ERBB2 (2064) with its inhibitors, PIK3CA (5290) and PTEN (5728) with
    those of PI3K and AKT, BCL2 (596) with venetoclax, MET (4233) with savolitinib: Iorio et al. 2016, Cell 166:740."""
    folder: Path = shared("cell_lines")
    response = pl.read_csv(folder / "response_ln_ic50.csv").pivot("drug_name", index="DepMap_ID", values="ln_IC50")
    tissue = pl.read_csv(folder / "annotations.tsv", separator="\t", infer_schema=False)
    tissue = tissue.select(DepMap_ID="depMapID", site="Site_Primary").unique("DepMap_ID", keep="first")
    lines = response.join(tissue, on="DepMap_ID", maintain_order="left")
    drugs = response.columns[1:]
    design, labels, complete = association.dummies(lines, ["site"])
    assert lines.height == 580 and complete.all() and len(labels) == 24
    tables = []
    for kind in ("mu", "cn", "exp"):
        x = pl.read_parquet(folder / f"{kind}_580x706.parquet")
        x = lines.select("DepMap_ID").join(x, on="DepMap_ID", maintain_order="left").drop("DepMap_ID")
        found = association.scan_arrays(lines.select(drugs).to_numpy(), x.to_numpy(), design)
        names = {"treatment": dict(enumerate(drugs)), "feature": dict(enumerate(x.columns))}
        tables.append(
            found.with_columns(
                pl.lit(kind).alias("kind"),
                *(pl.col(c).cast(pl.String).cast(pl.Int64).replace_strict(names[c]) for c in names),
            )
        )
    every = pl.concat(tables)

    def of(kind: str, gene: str, drug: str) -> tuple[float, float, float]:
        row = every.filter(kind=kind, feature=gene, treatment=drug).row(0, named=True)
        return row["beta"], row["p"], row["q"]

    sensitive = [  # kind, gene, drug, largest q
        ("mu", "673", "Dabrafenib", 1e-8),
        ("mu", "673", "PLX-4720", 0.01),
        ("mu", "5290", "Alpelisib", 1e-4),
        ("mu", "5728", "Ipatasertib", 1e-6),
        ("cn", "2064", "Lapatinib", 1e-8),
        ("cn", "2064", "Afatinib", 1e-12),
        ("exp", "2064", "Lapatinib", 1e-2),
        ("exp", "2064", "Afatinib", 1e-2),
        ("exp", "596", "Venetoclax", 1e-20),
        ("cn", "4233", "Savolitinib", 1e-15),
    ]
    for kind, gene, drug, limit in sensitive:
        beta, _, q = of(kind, gene, drug)
        assert beta < 0 and q < limit, (kind, gene, drug, beta, q)
    for drug in ("Trametinib", "PD0325901", "Ulixertinib"):
        beta, p, _ = of("mu", "673", drug)
        assert beta < 0 and p < 0.05, (drug, beta, p)
    best = every.filter(kind="mu").sort("p", nulls_last=True).row(0, named=True)
    assert (best["feature"], best["treatment"]) == ("673", "Dabrafenib"), "the first of 120,000 pairs"
