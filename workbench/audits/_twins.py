"""Who is the same as whom: subjects by name, identifier or profile; compounds by structure, name or fingerprint."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench import cell_lines, molecules
from workbench.audits._case import PERSON, Case, Profile

REPLICATE = re.compile(r"[\s._\-(]+(?:rep(?:licate)?|dup(?:licate)?|copy|technical)[\s._\-]*[0-9a-d]+\)?$", re.I)
VISIT = re.compile(r"[\s._\-(]+(?:visit|week|day|cycle|passage|timepoint)[\s._\-]*[0-9]+\)?$", re.I)
IDENTIFIER = re.compile(r"^(?:cosmic|depmap|rrid|cvcl|sidm|sanger|broad|cellosaurus|model)[_ ]?(?:id|number)?$", re.I)
NEAR = 0.9  # correlation of two profiles, feature by feature against all subjects, from which they are one sample
LEAST = 20  # features that a profile needs before it can tell two subjects apart


@dataclass(frozen=True)
class Pair:
    """Two names that seem to be one thing: ``why`` in words, ``sure`` 0 to 1."""

    a: str
    b: str
    why: str
    sure: float


def by_name(names: Iterable[str], pattern: re.Pattern[str] | None = None) -> Iterator[tuple[str, str]]:
    """Pairs of different names that are the same without case and punctuation (and without a suffix of a pattern)."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        bare = name if pattern is None else pattern.sub("", name)
        if pattern is None or bare != name:
            groups[cell_lines.key(bare)].append(name)
        elif pattern is not None:
            groups[cell_lines.key(name)].insert(0, name)
    for key, found in groups.items():
        if key and len(found) > 1 and (pattern is None or any(pattern.search(name) for name in found)):
            yield from ((found[0], other) for other in found[1:])


def by_column(case: Case, columns: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(subject, subject, column) of subjects that share an identifier; a column that nearly all share is none."""
    for column in columns:
        frame = case.subjects.select("subject", pl.col(column).cast(pl.String).alias("id")).drop_nulls()
        frame = frame.filter(~pl.col("id").str.to_lowercase().is_in(["", "na", "nan", "none", "unknown", "-"]))
        for _, group in sorted(frame.group_by("id", maintain_order=True), key=lambda g: str(g[0])):
            if 1 < group.height <= max(2, frame.height // 2):
                names = group["subject"].to_list()
                yield from ((names[0], other, column) for other in names[1:])


def people(case: Case) -> list[str]:
    """Columns of SUBJECTS that name the patient, donor or animal a subject was taken from."""
    return case.columns(PERSON)


def identifiers(case: Case) -> list[str]:
    """Columns of SUBJECTS that name the line itself in a catalogue."""
    return [c for c in case.subjects.columns if IDENTIFIER.match(c)]


def by_profile(profile: Profile) -> Iterator[tuple[str, str, float]]:
    """(subject, subject, r) of subjects whose profiles agree feature by feature, once what all subjects share is gone.

    z-scores per feature leave r near 0 for strangers and 0.2 to 0.6 for one tissue; one sample profiled twice stays
    above ``NEAR``. Fisher's transform with the profile's effective number of features guards small panels.
    """
    if profile.z.shape[1] < LEAST:
        return
    own = np.sqrt(np.maximum(np.diag(profile.gram), 1e-12))
    r = profile.gram / own / own[:, None]
    # a profile of calls may be nearly empty, and all empty ones are alike: two lines without alterations are no twins
    informative = np.diag(profile.gram) > 0.25 * profile.z.shape[1]
    informative &= (np.abs(profile.z) > 1).sum(axis=1) >= 15
    rank = (np.trace(profile.gram) ** 2) / (profile.gram**2).sum()  # participation ratio: features that count
    bound = np.tanh(5.5 / np.sqrt(max(rank, 4.0) - 3))
    i, j = np.nonzero(np.triu(r, 1) > max(NEAR, bound))
    for a, b in zip(i, j, strict=True):
        if informative[a] and informative[b]:
            yield profile.names[a], profile.names[b], float(r[a, b])


def subjects(case: Case) -> list[Pair]:
    """Pairs of subjects that seem to be one line, animal or patient sample under two names."""
    found: dict[tuple[str, str], Pair] = {}

    def add(a: str, b: str, why: str, sure: float) -> None:
        key = (min(a, b), max(a, b))
        if key in found:
            old = found[key]
            found[key] = Pair(*key, f"{old.why}; {why}", 1 - (1 - old.sure) * (1 - sure))
        else:
            found[key] = Pair(*key, why, sure)

    seen = [p for p in case.profiles.values() if p.z.shape[1] >= LEAST]
    at = [({n: i for i, n in enumerate(p.names)}, p) for p in seen]
    person = {s: (c, v) for c in people(case) for s, v in case.subjects.select("subject", c).drop_nulls().rows()}
    for p in seen:
        for a, b, r in by_profile(p):
            if _contradicted(a, b, p, at) or (a in person and person[a] == person.get(b)):
                continue  # two mice of one patient share the patient's profile: that is another finding
            add(a, b, f"{p.modality} profiles agree with r = {r:.3f}", 0.99 if r > 0.97 else 0.9)
    for a, b in by_name(case.subjects["subject"]):
        if not _contradicted(a, b, None, at):
            add(a, b, "the names differ in case and punctuation only", 0.7)
    for a, b, column in by_column(case, identifiers(case)):
        add(a, b, f"the same {column}", 0.95)
    for a, b in by_name(case.subjects["subject"], REPLICATE):
        add(a, b, "the names are replicates of one", 0.9)
    return sorted(found.values(), key=lambda pair: (-pair.sure, pair.a, pair.b))


def mixed_up(case: Case) -> list[tuple[str, Pair]]:
    """(modality, pair) of subjects alike in one modality and strangers in another: one sample went in twice."""
    seen = [p for p in case.profiles.values() if p.z.shape[1] >= LEAST]
    at = [({n: i for i, n in enumerate(p.names)}, p) for p in seen]
    return [
        (p.modality, Pair(a, b, f"r = {r:.3f}", 0.95 if r > 0.97 else 0.9))
        for p in seen
        for a, b, r in by_profile(p)
        if _contradicted(a, b, p, at)
    ]


def _contradicted(a: str, b: str, but: Profile | None, at: list[tuple[dict[str, int], Profile]]) -> bool:
    """Does another profile of both show two different samples (as of TT and T-T)?"""
    for index, p in at:
        if p is but or a not in index or b not in index:
            continue
        i, j = index[a], index[b]
        own = float(np.sqrt(max(1e-12, p.gram[i, i] * p.gram[j, j])))
        if min(p.gram[i, i], p.gram[j, j]) > 0.2 * p.z.shape[1] and p.gram[i, j] / own < 0.6:
            return True
    return False


def compounds(case: Case) -> list[Pair]:
    """Pairs of treatments that are one compound: salt, charge, tautomer, stereochemistry or spelling apart."""
    frame = case.treatments
    smiles = frame["smiles"].to_list()
    molecule = {t: molecules.parent(s) for t, s in zip(frame["treatment"], smiles, strict=True) if s is not None}
    groups: dict[str, list[str]] = defaultdict(list)
    formulas: dict[str, list[str]] = defaultdict(list)
    identity: dict[str, str] = {}
    for treatment, found in molecule.items():
        if found is not None and (key := molecules.identity(found)) is not None:
            identity[treatment] = key
            groups[key].append(treatment)
            formulas[_formula(found)].append(treatment)
    pairs = [Pair(g[0], other, "the same structure but for salt, charge or stereochemistry", 0.99)
             for g in groups.values() for other in g[1:]]  # fmt: skip
    for members in formulas.values():
        keys = {identity[t]: t for t in reversed(members)}
        if len(keys) > 1:
            pairs += _tautomers({t: molecule[t] for t in keys.values()})
    known = {(p.a, p.b) for p in pairs}
    for a, b in by_name(frame["treatment"]):
        if (a, b) not in known and not (a in identity and b in identity):
            pairs.append(Pair(a, b, "the names differ in case and punctuation only", 0.8))
    return pairs


def _formula(molecule: object) -> str:
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    return (
        CalcMolFormula(molecule).rstrip("+-0123456789") if "+" in CalcMolFormula(molecule) else CalcMolFormula(molecule)
    )


def _tautomers(molecule: dict[str, object]) -> list[Pair]:
    from rdkit import Chem, rdBase
    from rdkit.Chem.MolStandardize import rdMolStandardize

    chooser = rdMolStandardize.TautomerEnumerator()
    chooser.SetMaxTautomers(200)
    first: dict[str, str] = {}
    pairs = []
    with rdBase.BlockLogs():
        for treatment, found in molecule.items():
            plain = Chem.MolToSmiles(chooser.Canonicalize(found), isomericSmiles=False)
            other = first.setdefault(plain, treatment)
            if other != treatment:
                pairs.append(Pair(other, treatment, "tautomers of one structure", 0.95))
    return pairs


def alike(case: Case) -> list[Pair]:
    """Pairs of different compounds whose Morgan fingerprints (radius 2) are equal: Tanimoto 1."""
    prints: dict[bytes, list[str]] = defaultdict(list)
    frame = case.treatments.filter(pl.col("smiles").is_not_null())
    known = [(t, m) for t, s in frame.select("treatment", "smiles").rows() if (m := molecules.parent(s)) is not None]
    if not known:
        return []
    for (treatment, _), bits in zip(known, molecules.fingerprints([m for _, m in known]), strict=True):
        prints[bits.tobytes()].append(treatment)
    same = {(p.a, p.b) for p in compounds(case)}
    return [
        Pair(g[0], other, "Morgan fingerprints are equal (Tanimoto 1)", 0.8)
        for g in prints.values()
        for other in g[1:]
        if (g[0], other) not in same
    ]
