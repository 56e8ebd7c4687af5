"""The same lines and the same compounds of two studies: what must not be taken for one, and what must."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from workbench import ceiling, home, tables
from workbench.ceiling import matching
from workbench.sources import gdsc
from workbench.study import Study, write_study


def study(
    name: str, lines: dict[str, dict], drugs: dict[str, str | None], unit: str = "ln(uM)", seed: int = 0
) -> Study:
    """A study of every line with every drug; ``drugs`` gives their SMILES."""
    draw = np.random.default_rng(seed)
    pairs = [(s, d) for d in sorted(drugs) for s in sorted(lines)]
    facts = sorted({k for f in lines.values() for k in f})
    outcomes = pl.DataFrame(
        {"subject": [s for s, _ in pairs], "treatment": [d for _, d in pairs], "site": "x", "dose": None,
         "dose_unit": None, "time_h": None, "endpoint": "ln_ic50", "value": draw.normal(size=len(pairs)), "unit": unit,
         "censored": 0, "source": name},
        schema=dict(tables.OUTCOMES.columns),
    )  # fmt: skip
    return write_study(
        home.studies() / name,
        outcomes=outcomes,
        subjects=pl.DataFrame(
            [{"subject": s, "tissue": "lung", **{k: f.get(k) for k in facts}} for s, f in sorted(lines.items())]
        ),
        treatments=gdsc._treatments(sorted(drugs), {d: s for d, s in drugs.items() if s})[0],
        modalities={},
        provenance={},
        event="made for a test",
    )


ETHANOL, R_ALANINE, S_ALANINE = "CCO", "C[C@@H](N)C(=O)O", "C[C@H](N)C(=O)O"


def test_names_that_must_not_collide_do_not() -> None:
    a = study("a", {n: {} for n in ("TT", "T-T", "KM-H2", "A549", "NCI-H1")}, {"x": ETHANOL})
    b = study("b", {n: {} for n in ("TT", "KMH-2", "a-549", "H1")}, {"x": ETHANOL}, seed=1)
    found = matching.lines(a, b)
    assert found.rows() == [("A549", "a-549", "name"), ("KM-H2", "KMH-2", "name"), ("NCI-H1", "H1", "name")]


def test_identifiers_join_what_names_do_not_and_part_what_names_join() -> None:
    ids = {"TT": 1, "T-T": 2, "KM-H2": 3, "odd name": 4, "A549": 5}
    a = study("a", {n: {"cosmic_id": i} for n, i in ids.items()}, {"x": ETHANOL})
    other = {"TT": 1, "T.T": 2, "KMH-2": 99, "another": 4, "A-549": None}
    b = study("b", {n: {"cosmic_id": i} for n, i in other.items()}, {"x": ETHANOL}, seed=1)
    assert matching.lines(a, b).rows() == [
        ("A549", "A-549", "name"), ("T-T", "T.T", "cosmic_id"), ("TT", "TT", "cosmic_id"),
        ("odd name", "another", "cosmic_id"),
    ]  # fmt: skip


def test_ccle_names_of_depmap_ids_are_read_without_their_tissue() -> None:
    a = study("a", {n: {} for n in ("DMS 53", "A549")}, {"x": ETHANOL})
    b = study("b", {"ACH-1": {"CCLE_ID": "DMS53_LUNG"}, "ACH-2": {"CCLE_ID": "A549_LUNG"}}, {"x": ETHANOL}, seed=1)
    assert matching.lines(a, b).select("subject", "other_subject").rows() == [("A549", "ACH-2"), ("DMS 53", "ACH-1")]


def test_compounds_are_one_by_structure_and_isomers_are_not() -> None:
    a = study("a", {"A549": {}}, {"Spirit": ETHANOL, "Ala": R_ALANINE, "Ala S": S_ALANINE, "Code-1": None, "Met": "C"})
    b = study("b", {"A549": {}}, {"Ethanol": "OCC", "L-form": S_ALANINE, "CODE 1": None, "Met": "CC"}, seed=1)
    found = matching.compounds(a, b)
    assert found.select("treatment", "other_treatment", "by").rows() == [
        ("Ala S", "L-form", "structure"), ("Code-1", "CODE 1", "name"), ("Spirit", "Ethanol", "structure"),
    ], "one name for two structures is two compounds, and so are two isomers under two names"  # fmt: skip


def test_pairs_of_two_studies_side_by_side() -> None:
    a = study("a", {n: {} for n in ("A549", "TT", "T-T")}, {"Spirit": ETHANOL, "Methane": "C"})
    b = study("b", {n: {} for n in ("A-549", "TT")}, {"Ethanol": "OCC", "Ethyl alcohol": ETHANOL}, seed=1)
    pairs = ceiling.shared_pairs(a, b, "ln_ic50")
    assert pairs.select("study", "other", "subject", "treatment", "other_treatment").rows() == [
        ("a", "b", "A549", "Spirit", "Ethanol / Ethyl alcohol")
    ], "TT may be T-T, so it is neither"
    mine = a.outcomes.with_row_index("row").filter(pl.col("subject") == "A549", pl.col("treatment") == "Spirit")
    assert pairs.select("row", "value").row(0) == mine.select("row", "value").row(0)
    theirs = b.outcomes.filter(pl.col("subject") == "A-549")["value"]
    assert pairs["other_value"][0] == pytest.approx(theirs.mean())


def test_studies_that_cannot_be_compared_are_refused() -> None:
    a = study("a", {"A549": {}}, {"x": ETHANOL})
    with pytest.raises(ValueError, match="agreement with itself says nothing"):
        ceiling.agreement(a, a, "ln_ic50")
    with pytest.raises(ValueError, match=r"'ln\(uM\)' in study 'a' and in 'log10\(uM\)' in 'b'"):
        ceiling.agreement(a, study("b", {"A549": {}}, {"x": ETHANOL}, "log10(uM)"), "ln_ic50")
    with pytest.raises(ValueError, match="share no pair: 0 lines and 1 treatments"):
        ceiling.agreement(a, study("c", {"HeLa": {}}, {"x": ETHANOL}), "ln_ic50")
    with pytest.raises(ValueError, match="no endpoint 'ic50'"):
        ceiling.agreement(a, study("d", {"HeLa": {}}, {"x": ETHANOL}), "ic50")
