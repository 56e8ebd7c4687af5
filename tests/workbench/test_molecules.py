"""Compounds in one spelling: salts, charges, tautomers; what cannot be read is said."""

from __future__ import annotations

import pytest

from workbench import molecules, units


@pytest.mark.parametrize(
    ("given", "same_as", "done"),
    [
        ("CC(=O)Oc1ccccc1C(=O)[O-].[Na+]", "CC(=O)Oc1ccccc1C(=O)O", ["left out [Na+]", "neutralised"]),
        ("Cl.CN(C)C(=N)NC(=N)N", "CN(C)C(=N)NC(=N)N", ["left out Cl"]),
        ("O.O.Cn1cnc2c1c(=O)n(C)c(=O)n2C", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", ["left out O"]),
        ("Oc1ccccn1", "O=c1cccc[nH]1", ["chose the canonical tautomer"]),
        ("CN(=O)=O", "C[N+](=O)[O-]", []),
    ],
)
def test_one_compound_has_one_spelling(given: str, same_as: str, done: list[str]) -> None:
    one, other = molecules.standardise(given), molecules.standardise(same_as)
    assert (one.smiles, one.key, one.compound) == (other.smiles, other.key, other.compound)
    assert one.compound is not None and len(one.compound) == 14
    assert set(done) <= set(one.changes)
    assert one.given == given and one.problem is None


def test_a_clean_compound_is_left_alone() -> None:
    found = molecules.standardise("Cn1cnc2c1c(=O)n(C)c(=O)n2C")
    assert (found.smiles, found.changes, found.removed) == ("Cn1c(=O)c2c(ncn2C)n(C)c1=O", (), ())
    assert found.key == "RYYVLZVUVIJVGH-UHFFFAOYSA-N"


def test_a_stereocentre_stays() -> None:
    left, right = molecules.standardise("C[C@H](N)C(=O)O"), molecules.standardise("C[C@@H](N)C(=O)O")
    assert left.smiles != right.smiles and left.key != right.key
    assert left.compound == right.compound


@pytest.mark.parametrize(("given", "problem"), [("", "is empty"), ("  ", "is empty"), ("C1CC", "not a SMILES")])
def test_what_cannot_be_read_is_said_and_kept(given: str, problem: str) -> None:
    found = molecules.standardise(given)
    assert found.given == given and problem in str(found.problem)
    assert (found.smiles, found.key, found.compound) == (None, None, None)


def test_molar_mass_counts_the_salt() -> None:
    free, salt = molecules.molar_mass("CN(C)C(=N)NC(=N)N"), molecules.molar_mass("Cl.CN(C)C(=N)NC(=N)N")
    assert free == pytest.approx(129.167, abs=1e-3) and salt == pytest.approx(165.628, abs=1e-3)
    assert units.convert(129.167, "ng/mL", "uM", molar_mass=129.167) == pytest.approx(1.0, rel=1e-12)
    assert molecules.molar_mass("C1CC") is None and molecules.molar_mass("") is None
