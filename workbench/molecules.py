"""Molecules by SMILES: the part that acts, its identity, its fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rdkit.Chem import Mol

BITS = 1024
RADIUS = 2


def parent(smiles: str) -> Mol | None:
    """The largest fragment of ``smiles`` (salts and solvents left out), or None where it cannot be parsed.

    Largest by heavy atoms, then by mass, so that the order of the fragments does not matter.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem.rdMolDescriptors import CalcExactMolWt

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or molecule.GetNumAtoms() == 0:
            return None
        fragments = Chem.GetMolFrags(molecule, asMols=True)
        return max(fragments, key=lambda f: (f.GetNumHeavyAtoms(), CalcExactMolWt(f)))


def identity(molecule: Mol) -> str | None:
    """First block of the InChIKey (14 letters): one compound whatever its salt, charge or stereochemistry."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        key = Chem.MolToInchiKey(molecule)
    return key.split("-")[0] or None


def fingerprints(molecules: list[Mol]) -> np.ndarray:
    """Morgan fingerprints, radius 2: shape (molecules, 1024), uint8 of 0 and 1."""
    from rdkit.Chem import rdFingerprintGenerator

    generator: Any = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    if not molecules:
        return np.zeros((0, BITS), dtype=np.uint8)
    return np.stack([generator.GetFingerprintAsNumPy(m) for m in molecules]).astype(np.uint8)


@dataclass(frozen=True)
class Standardised:
    """A compound in one spelling, with what was done to it.

    Attributes
    ----------
    given : the SMILES as it came
    smiles : canonical SMILES of the parent (salts and solvents left out, charges neutralised, one tautomer chosen);
        null where ``given`` cannot be read
    key : full InChIKey of ``smiles``
    compound : its first block, the same for all salts, charges and stereoisomers of a skeleton
    removed : canonical SMILES of the fragments left out, one each
    changes : what was done, in words, in order
    problem : why it could not be read, null where it could
    """

    given: str
    smiles: str | None
    key: str | None
    compound: str | None
    removed: tuple[str, ...]
    changes: tuple[str, ...]
    problem: str | None


TAUTOMERS = 200  # structures looked at before the choice; beyond it the tautomer that came is kept and said


def standardise(smiles: str, tautomer: bool = True) -> Standardised:
    """One spelling of a compound: largest fragment, functional groups as RDKit normalises them, neutral, one tautomer.

    The rules are those of RDKit's MolStandardize (after the ChEMBL pipeline, Bento et al. 2020, J. Cheminform. 12:51).
    The InChIKey's first block, not the tautomer, decides which compounds are the same: InChI moves hydrogens itself.

    Parameters
    ----------
    tautomer : choose the canonical tautomer (slow on large molecules: up to seconds each)
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem.MolStandardize import rdMolStandardize as rules

    with rdBase.BlockLogs():
        whole = Chem.MolFromSmiles(smiles) if smiles and smiles.strip() else None
        if whole is None or whole.GetNumAtoms() == 0:
            reason = "is empty" if not (smiles or "").strip() else "is not a SMILES that RDKit can read"
            return Standardised(smiles, None, None, None, (), (), reason)
        molecule = parent(smiles)
        assert molecule is not None  # its whole could be read
        changes = []
        fragments = sorted(Chem.MolToSmiles(f) for f in Chem.GetMolFrags(whole, asMols=True))
        kept = Chem.MolToSmiles(molecule)
        fragments.remove(kept)
        if fragments:
            changes.append("left out " + ", ".join(sorted(set(fragments))))
        for what, step in (("normalised groups", rules.Normalize), ("neutralised", rules.Uncharger().uncharge)):
            after = step(molecule)
            if Chem.MolToSmiles(after) != Chem.MolToSmiles(molecule):
                changes.append(what)
            molecule = after
        if tautomer:
            enumerator = rules.TautomerEnumerator()
            enumerator.SetMaxTautomers(TAUTOMERS)
            enumerator.SetRemoveSp3Stereo(False)  # a stereocentre is what was made and tested
            found = enumerator.Enumerate(molecule)
            if found.status != rules.TautomerEnumeratorStatus.Completed:
                changes.append(f"tautomer kept: more than {TAUTOMERS} to choose from")
            else:
                chosen = enumerator.PickCanonical(found)
                if Chem.MolToSmiles(chosen) != Chem.MolToSmiles(molecule):
                    changes.append("chose the canonical tautomer")
                molecule = chosen
        key = Chem.MolToInchiKey(molecule) or None
        return Standardised(
            smiles,
            Chem.MolToSmiles(molecule),
            key,
            key.split("-")[0] if key else None,
            tuple(sorted(set(fragments))),
            tuple(changes),
            None if key else "has no InChIKey: InChI cannot describe it",
        )


def molar_mass(smiles: str) -> float | None:
    """Average molar mass of the whole of ``smiles`` in g/mol, salts included; null where it cannot be read.

    It is the mass of what is weighed. Give the parent's SMILES where concentrations count the parent alone.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import Descriptors

    descriptors: Any = Descriptors  # it makes its functions when imported
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
        return float(descriptors.MolWt(molecule)) if molecule is not None and molecule.GetNumAtoms() else None
