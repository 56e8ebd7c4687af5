"""Cell lines to patients: planted shifts, planted signals, noise, over-correction, and what the verb says."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from tests.real import shared
from workbench import home, tables
from workbench.study import Study, write_study
from workbench.translate import (
    adapt,
    areas,
    biology,
    command,
    congruence,
    domains,
    drawn,
    gate,
    patients,
    shift,
    transfer,
)
from workbench.translate.domains import Domain

LINES, TUMOURS, GENES, PROGRAMS = 160, 60, 200, 8
KNOWN = [g.replace("-", ".") for text in biology.PROGRAMMES.values() for g in text.split()][:40]


def latent(
    seed: int, mixed: bool = False, n: int = TUMOURS
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Latent programmes of lines and tumours, their loadings, tissue of lines and of tumours."""
    rng = np.random.default_rng(seed)
    tissue = np.arange(LINES) % 4
    own = np.arange(n) % 4 if mixed else np.zeros(n, dtype=int)
    level = rng.normal(size=(4, PROGRAMS))
    z_lines = level[tissue] + rng.normal(size=(LINES, PROGRAMS))
    z_tumours = level[own] + rng.normal(size=(n, PROGRAMS))
    loadings = rng.normal(size=(PROGRAMS, GENES))
    return z_lines, z_tumours, loadings, tissue, own


def planted(seed: int = 0, *, shifted: bool = True, mixed: bool = False, n: int = TUMOURS) -> tuple[Domain, Domain]:
    """The same biology in lines of four tissues and in tumours, each gene of the tumours moved and stretched."""
    z_lines, z_tumours, loadings, tissue, own = latent(seed, mixed, n)
    rng = np.random.default_rng([seed, 1])
    x = z_lines @ loadings + rng.normal(size=(LINES, GENES))
    y = z_tumours @ loadings + rng.normal(size=(n, GENES))
    if shifted:
        y = y * np.exp(rng.normal(0, 0.4, GENES)) + rng.normal(0, 4, GENES)
    genes = [*KNOWN, *(f"G{i}" for i in range(GENES - len(KNOWN)))]
    name = np.array([f"tissue {t}" for t in range(4)], dtype=object)
    return (
        Domain(x, [f"line {i}" for i in range(LINES)], genes, name[tissue]),
        Domain(y, [f"patient {i}" for i in range(n)], genes, name[own]),
    )


def verdict(method: str, lines: Domain, tumours: Domain) -> tuple[shift.Shift, str]:
    found = shift.measure(method, lines, tumours, permutations=100)
    return found, biology.words(found, biology.measure(method, lines, tumours))


# ---- the shift -------------------------------------------------------------------------------------------------------


def test_a_planted_shift_is_seen_and_a_clean_pair_is_left_alone() -> None:
    found, words = verdict("none", *planted())
    assert found.value > 0.99 and words == "shift remains"
    assert found.value == max(found.levels, found.spread)
    clean, words = verdict("none", *planted(shifted=False))
    assert clean.low <= clean.value <= clean.high and words == "shift removed, biology kept"


def test_a_planted_shift_is_removed_and_the_biology_kept() -> None:
    found, words = verdict("ComBat with tissue", *planted())
    assert found.value < 0.65 and words == "shift removed, biology kept"


def test_standardising_each_domain_suffices_where_both_are_many_and_of_the_same_tissues() -> None:
    found, words = verdict("per-domain standardisation", *planted(mixed=True, n=160))
    assert found.value < 0.7 and words == "shift removed, biology kept"


def test_standardising_each_domain_does_not_suffice_where_the_tumours_are_of_one_tissue() -> None:
    """Lines of four tissues have another middle than tumours of one: the known trap of the floor."""
    found, words = verdict("per-domain standardisation", *planted())
    assert found.value > 0.9 and words == "shift remains"


def test_a_shift_of_co_expression_alone_is_seen_and_named() -> None:
    lines, tumours = planted(shifted=False)
    rng = np.random.default_rng(7)
    own = lines.values[lines.tissue == "tissue 0"]
    unlinked = np.column_stack([rng.choice(own[:, j], TUMOURS) for j in range(GENES)])  # every gene alone is the same
    found = shift.measure("none", lines, Domain(unlinked, tumours.names, tumours.genes, tumours.tissue))
    assert not found.gone and found.spread > 0.9 and found.spread > found.levels + 0.2


def noise_for_tumours(lines: Domain, tumours: Domain) -> adapt.Adapted:
    """Over-correction: what comes out follows the same law in both domains and has nothing to do with what went in."""

    def noise(values: np.ndarray) -> np.ndarray:
        return np.stack([np.random.default_rng(int(abs(v.sum()) * 1e6) % 2**32).normal(size=GENES) for v in values])

    return adapt.Adapted(noise, noise, np.arange(GENES))


def nothing_left(lines: Domain, tumours: Domain) -> adapt.Adapted:
    """Over-correction: every direction taken out."""
    return adapt.Adapted(np.zeros_like, np.zeros_like, np.arange(GENES))


@pytest.mark.parametrize("wrong", [noise_for_tumours, nothing_left])
def test_an_over_correction_that_removes_the_biology_is_caught(monkeypatch: pytest.MonkeyPatch, wrong) -> None:
    monkeypatch.setitem(adapt.METHODS, "wrong", wrong)
    found, words = verdict("wrong", *planted())
    assert found.gone and words == "shift removed with the biology"


def test_matched_domains_get_through_every_method() -> None:
    lines, tumours = planted()
    for method in adapt.METHODS:
        fitted = adapt.fit(method, lines, tumours)
        x, y = fitted.lines(lines.values), fitted.tumours(tumours.values)
        assert x.shape == (LINES, len(fitted.genes)) and y.shape == (TUMOURS, len(fitted.genes))
        assert np.isfinite(x).all() and np.isfinite(y).all()
    with pytest.raises(KeyError, match="Did you mean 'CORAL'"):
        adapt.fit("CORRAL", lines, tumours)


def test_combat_moves_location_and_scale_to_the_tissue() -> None:
    lines, tumours = planted()
    y = adapt.fit("ComBat with tissue", lines, tumours).tumours(tumours.values)
    own = lines.values[lines.tissue == "tissue 0"]
    assert np.abs(y.mean(axis=0) - own.mean(axis=0)).max() < 0.35  # was 4 on average
    assert 0.8 < np.median(y.std(axis=0) / own.std(axis=0)) < 1.25


def test_quantile_matching_gives_the_tumours_the_distribution_of_the_lines() -> None:
    lines, tumours = planted()
    y = adapt.fit("quantile matching", lines, tumours).tumours(tumours.values)
    for share in (0.1, 0.5, 0.9):
        assert np.abs(np.quantile(y, share, axis=0) - np.quantile(lines.values, share, axis=0)).max() < 0.6
    order = np.argsort(tumours.values[:, 0])
    assert (np.diff(y[order, 0]) >= 0).all()


def test_consensus_directions_are_orthonormal_and_shared() -> None:
    lines, tumours = planted()
    x = adapt.fit("consensus subspaces", lines, tumours).lines(lines.values)
    assert np.linalg.matrix_rank(x, tol=1e-6) <= PROGRAMS + 2  # eight programmes were planted in both


def test_conserved_genes_leave_out_those_whose_correlations_changed() -> None:
    lines, tumours = planted()
    rng = np.random.default_rng(3)
    broken = tumours.values.copy()
    broken[:, :100] = rng.normal(size=(TUMOURS, 100))  # half of the genes lose every relation
    kept = adapt.fit("conserved genes", lines, Domain(broken, tumours.names, tumours.genes, tumours.tissue)).genes
    assert len(kept) == 66 and (kept >= 100).mean() > 0.95


def test_known_labels_of_tumours_survive_on_real_tumours() -> None:
    """TCGA breast tumours in two halves, one with a planted batch: the subtype is still told once that is removed."""
    folder = shared("breast_tumour")
    frame = pl.read_csv(folder / "breastTCGA_train_mrna.csv")
    subtype = pl.read_csv(folder / "breastTCGA_train_subtype.csv")["subtype"].to_numpy().astype(object)
    values, genes = frame.drop("dim_0").to_numpy(), frame.columns[1:]
    rng = np.random.default_rng(5)
    first = np.zeros(len(subtype), dtype=bool)
    for kind in np.unique(subtype):
        index = rng.permutation(np.flatnonzero(subtype == kind))
        first[index[: len(index) // 2]] = True
    moved = values[~first] * np.exp(rng.normal(0, 0.3, len(genes))) + rng.normal(0, 2, len(genes))
    names = frame["dim_0"].cast(pl.String).to_numpy()
    lines = Domain(values[first], list(names[first]), genes, subtype[first])
    tumours = Domain(moved, list(names[~first]), genes, subtype[~first])
    before = shift.measure("none", lines, tumours, permutations=50)
    after = shift.measure("per-domain standardisation", lines, tumours, permutations=50)
    assert before.value > 0.95 and not before.gone and after.gone
    kept = biology.measure("per-domain standardisation", lines, tumours, labels=subtype[~first])
    told = kept.filter(evidence="labels of tumours").row(0, named=True)
    assert told["before"] > 0.7 and told["kept"] > 0.9
    assert biology.words(after, kept) == "shift removed, biology kept"


# ---- areas and the gate ----------------------------------------------------------------------------------------------


def test_areas_are_those_of_the_definition() -> None:
    score = np.array([[0.1, 3.0], [0.4, 3.0], [0.35, 3.0], [0.8, 3.0]])
    positive = np.array([False, False, True, True])
    assert areas.auroc(score, positive) == pytest.approx([0.75, 0.5])
    assert np.isnan(areas.auroc(score, np.ones(4, dtype=bool))).all()


def test_the_corrected_p_costs_more_with_more_scores_and_nothing_for_copies() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(60) % 2 == 0
    good = rng.normal(size=60) + 1.2 * positive
    copies = areas.judge(np.column_stack([good] * 20), positive, permutations=1000)
    many = areas.judge(np.column_stack([good, rng.normal(size=(60, 19))]), positive, permutations=1000)
    assert copies.corrected[0] == copies.p[0]
    assert many.corrected[0] > many.p[0]
    assert copies.low[0] > 0.5 and copies.low[0] < copies.value[0] < copies.high[0]


def test_areas_refuse_what_is_no_number_or_one_class() -> None:
    with pytest.raises(ValueError, match="found 1 that are none"):
        areas.judge(np.array([[1.0], [np.nan], [2.0], [3.0]]), np.array([True, False, True, False]))
    with pytest.raises(ValueError, match="1 responders of 4"):
        areas.judge(np.ones((4, 1)), np.array([True, False, False, False]))


def test_noise_keeps_the_gate_shut_in_at_least_95_of_100() -> None:
    opened = 0
    for seed in range(100):
        rng = np.random.default_rng([9, seed])
        score = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 40)) + rng.normal(size=(50, 40))  # 40 related scores
        opened += bool(gate.decide(score, rng.permutation(np.arange(50) < 24), draws=400, seed=seed).open)
    assert opened <= 5


def test_a_planted_signal_opens_the_gate_and_only_for_itself() -> None:
    rng = np.random.default_rng(1)
    positive = rng.permutation(np.arange(80) < 40)
    score = rng.normal(size=(80, 10))
    score[:, 4] += 1.8 * positive
    found = gate.decide(score, positive)
    assert found.open == {4} and found.why is None


def test_a_signal_that_points_the_wrong_way_never_opens_it() -> None:
    rng = np.random.default_rng(2)
    positive = rng.permutation(np.arange(80) < 40)
    score = rng.normal(size=(80, 6)) - 2.0 * positive[:, None]
    found = gate.decide(score, positive)
    assert not found.open and found.why is not None and "not shown to beat chance" in found.why


def test_too_few_patients_confirm_nothing() -> None:
    positive = np.arange(20) < 8
    found = gate.decide(positive[:, None].astype(float), positive)
    assert not found.open and "too few patients" in str(found.why)


def test_the_half_that_chooses_does_not_confirm() -> None:
    """A score that is right on the choosing half alone stays shut."""
    rng = np.random.default_rng(4)
    positive = rng.permutation(np.arange(100) < 50)
    chooses = gate.halves(positive)
    assert chooses.sum() == 50 and positive[chooses].sum() == 25
    score = rng.normal(size=(100, 1))
    score[chooses, 0] += 5.0 * positive[chooses]
    assert not gate.decide(score, positive).open


# ---- studies ---------------------------------------------------------------------------------------------------------


def study(name: str, domain: Domain, rows: list[tuple[str, str, float]], endpoint: str, unit: str, **facts) -> Study:
    """A study of expression and one endpoint."""
    from anndata import AnnData

    data = AnnData(domain.values.astype(np.float32))
    data.obs_names, data.var_names = domain.names, domain.genes
    data.uns = {"axis": "subject", "unit": "log2 intensity"}
    outcomes = pl.DataFrame(rows, schema=["subject", "treatment", "value"], orient="row").with_columns(
        pl.lit("here").alias("site"),
        pl.lit(endpoint).alias("endpoint"),
        pl.lit(unit).alias("unit"),
        pl.lit("made up").alias("source"),
        pl.lit(0, pl.Int8).alias("censored"),
        *(pl.lit(None, pl.Float64).alias(c) for c in ("dose", "time_h")),
        pl.lit(None, pl.String).alias("dose_unit"),
    )
    return write_study(
        home.studies() / name,
        outcomes=tables.check(outcomes, tables.OUTCOMES),
        subjects=pl.DataFrame({"subject": domain.names, "tissue": list(domain.tissue)}),
        treatments=pl.DataFrame(
            {"treatment": sorted({r[1] for r in rows}), "compound": None, "smiles": None},
            schema=dict(tables.TREATMENTS.columns),
        ),
        modalities={"expression": data},
        provenance={"source": "synthetic", **facts},
        event="made for a test",
    )


def pair(signal: float) -> tuple[Study, Study]:
    """Lines whose response to Paclitaxel follows a programme, and patients who respond by ``signal`` (0: noise)."""
    lines, tumours = planted(11)
    z_lines, z_tumours, *_ = latent(11)
    rng = np.random.default_rng(12)
    rows = [
        (name, drug, float(-z_lines[i, k] * 2 + rng.normal(0, 0.5)))
        for k, drug in ((0, "Paclitaxel"), (5, "Docetaxel"))
        for i, name in enumerate(lines.names)
    ]
    respond = signal * z_tumours[:, 0] + rng.logistic(size=TUMOURS) > np.median(signal * z_tumours[:, 0])
    response = [(name, "chemotherapy", float(r)) for name, r in zip(tumours.names, respond, strict=True)]
    given = {"regimen": {"Paclitaxel": "every patient"}}
    return (
        study("lines", lines, rows, "ln_ic50", "ln(uM)"),
        study("patients", tumours, response, "complete_response", "0/1", **given),
    )


def test_a_planted_predictive_signal_opens_the_gate_for_the_drug_that_carries_it() -> None:
    lines, cohort = pair(6.0)
    moved = transfer.fit(lines, cohort, methods=["per-domain standardisation", "ComBat with tissue"])
    assert moved.predict()["predicted"].null_count() == moved.predict().height  # not judged: nothing is shown
    assert moved.predict()["abstained"].unique().to_list() == [transfer.NOT_JUDGED]
    table = moved.judge(patients.response(cohort)[1], draws=500)
    best = table.filter(drug="Paclitaxel", method="ComBat with tissue").row(0, named=True)
    assert best["auroc"] > 0.8 and best["low"] > 0.5 and best["corrected"] < 0.05 and best["gate"] == "open"
    assert best["role"] == "given to every patient" and best["lines_pearson"] > 0.8
    shown = moved.predict().filter(treatment="Paclitaxel", method="ComBat with tissue")
    assert shown["predicted"].null_count() == 0 and shown["abstained"].null_count() == shown.height
    other = moved.predict().filter(treatment="Docetaxel")
    assert other["predicted"].null_count() == other.height
    assert set(other["abstained"]) == {"another method or drug was confirmed, this one was not"}


def test_without_a_signal_it_abstains_and_says_why() -> None:
    lines, cohort = pair(0.0)
    moved = transfer.fit(lines, cohort, methods=["none", "per-domain standardisation"])
    moved.judge(patients.response(cohort)[1], draws=500)
    told = moved.predict()
    assert told["predicted"].null_count() == told.height
    assert all("not shown to beat chance" in why and "on the 31 others" in why for why in told["abstained"])


def test_the_response_never_touches_what_is_fitted() -> None:
    """The same predictions come out whatever the patients' responses are."""
    lines, cohort = pair(6.0)
    first = transfer.fit(lines, cohort, methods=["CORAL"]).sensitivity
    _, tumours = planted(11)
    shuffled = [(name, "chemotherapy", float(i % 2)) for i, name in enumerate(tumours.names)]
    given = {"regimen": {"Paclitaxel": "every patient"}}
    other = study("shuffled", tumours, shuffled, "complete_response", "0/1", **given)
    assert np.array_equal(first, transfer.fit(lines, other, methods=["CORAL"]).sensitivity)


def test_genes_match_by_symbol_whatever_the_spelling() -> None:
    lines, tumours = planted()
    here = [f"HLA.{i}" for i in range(100)] + ["A.1", "a-1"] + [f"X{i}" for i in range(98)]  # A.1 stands twice
    there = [f"hla-{i}" for i in range(100)] + [f"Y{i}" for i in range(100)]
    one = study("one", Domain(lines.values, lines.names, here, lines.tissue), [("line 0", "d", 1.0)], "e", "ln(uM)")
    two = study(
        "two", Domain(tumours.values, tumours.names, there, tumours.tissue), [("patient 0", "d", 1.0)], "e", "0/1"
    )
    found = domains.match(one, two)
    assert len(found.lines.genes) == 100 and found.lines.genes[:2] == ["HLA.0", "HLA.1"]
    assert found.lost_lines == 100 and found.lost_tumours == 100 and not found.within
    assert np.allclose(found.tumours.values, tumours.values[:, :100], atol=1e-4)
    none = study("three", Domain(tumours.values, tumours.names, [f"Q{i}" for i in range(GENES)], tumours.tissue),
                 [("patient 0", "d", 1.0)], "e", "0/1")  # fmt: skip
    with pytest.raises(ValueError, match="at least 20 genes that both studies name, found 0"):
        domains.match(one, none)


def test_unknown_drugs_and_endpoints_are_refused() -> None:
    lines, cohort = pair(0.0)
    with pytest.raises(KeyError, match="Did you mean 'Paclitaxel'"):
        transfer.fit(lines, cohort, drugs=["Paclitaxol"])
    with pytest.raises(ValueError, match="expected one endpoint in '0/1', found none"):
        patients.response(lines)
    with pytest.raises(ValueError, match="does not tell what the patients got"):
        transfer.drugs_of(lines, lines)


def test_naive_values_find_a_planted_programme_and_leave_noise_alone() -> None:
    _, cohort = pair(0.0)
    truth = patients.response(cohort)[1]
    found = patients.naive(cohort, truth, draws=300)
    assert found["name"].to_list()[-1] == "ridge within the patients" and found.height == 5
    assert (found["low"] < 0.5).all()
    domain = planted(11)[1]
    score = biology.score(domain.values, biology.programme(domain, "proliferation"))
    high = {n: bool(s > np.median(score)) for n, s in zip(domain.names, score, strict=True)}
    assert patients.naive(cohort, high, draws=300).row(0, named=True)["auroc"] == 1.0


# ---- what is shown ---------------------------------------------------------------------------------------------------


def test_the_verb_prints_the_verdict_and_writes_it(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    pair(0.0)
    out = tmp_path / "found.json"
    argv = ["patients", "--from", "lines", "--method", "none", "--method", "ComBat with tissue", "--draws", "300"]
    assert command.main([*argv, "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "160 lines of lines, 60 patients of patients, 200 genes in both" in said
    assert "shift remains" in said and "shift removed, biology kept" in said
    assert "The gate is shut. It abstains: not shown to beat chance" in said
    rows = json.loads(out.read_text())
    assert {r["table"] for r in rows} == {"shift", "naive", "transfer"}
    assert {r["drug"] for r in rows if r["table"] == "transfer"} == {"Paclitaxel", "Docetaxel", transfer.REGIMEN}


def test_the_verb_refuses_in_words(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["nowhere"]) == 1
    assert "workbench translate:" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["x", "--json", str(tmp_path / "no" / "f.json")])
    assert "there is no folder" in capsys.readouterr().err


def test_the_pictures_hold_every_row(tmp_path) -> None:
    lines, tumours = planted()
    table, evidence = congruence.examine(
        domains.Matched(lines, tumours, 0, 0, False), ["none", "ComBat with tissue"], permutations=50
    )
    assert table["method"].to_list() == ["none", "ComBat with tissue"] and evidence["method"].n_unique() == 2
    figure = drawn.shift(table, "$x$ <b>")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["none", "ComBat with tissue"]
    verdict = pl.DataFrame({"method": ["a", "b"], "drug": ["x", "x"], "auroc": [0.4, 0.6], "low": 0.3, "high": 0.7})
    naive = pl.DataFrame({"name": ["score"], "auroc": [0.5], "low": [0.4], "high": [0.6]})
    figure = drawn.areas(verdict, naive)
    figure.savefig(tmp_path / "areas.png")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["x", "score"]
    assert (tmp_path / "areas.png").stat().st_size > 10_000
