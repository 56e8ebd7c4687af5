"""Molecules by SMILES: the part that acts, its identity, its fingerprint."""

from __future__ import annotations

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
