"""A synthetic study with planted truth: made of random numbers, it says nothing about biology.

    y_sd = level_d + tissue_t + x_s . effect_d + noise        x_s: the first genes of the sample's expression

60 subjects of 4 tissues x 12 treatments, which are 10 compounds (two of them stand under two names). One pair in ten is
missing, some values are right-censored, some subjects lack mutation or copy number, and the last one has no modality
at all. Faults are planted by functions over the outcomes or over the values of a modality.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from workbench import home, molecules, tables
from workbench.study import Study, write_study

COMPOUNDS = {  # public structures; their names only make failures readable
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "nicotine": "CN1CCCC1c1cccnc1",
    "metformin": "CN(C)C(=N)NC(=N)N",
    "fluorouracil": "O=c1[nH]cc(F)c(=O)[nH]1",
    "hydroxyurea": "NC(=O)NO",
    "naproxen": "COc1ccc2cc(ccc2c1)C(C)C(=O)O",
    "theophylline": "Cn1c2[nH]cnc2c(=O)n(C)c1=O",
}
ALIASES = {"acetylsalicylic acid": "aspirin", "5-FU": "fluorouracil"}
TREATMENTS = sorted([*COMPOUNDS, *ALIASES])
GENES = 40
BARE = "subject 59"  # has outcomes and no modality

# Lightning calls what this torch has deprecated; nothing of ours does
lightning_warnings = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")

Outcomes = Callable[[pl.DataFrame], pl.DataFrame]
Values = Callable[[str, list[str], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Truth:
    """What was planted: ``mean`` (subjects, treatments) without noise, the names of both, and the noise's sd."""

    mean: np.ndarray
    subjects: list[str]
    treatments: list[str]
    noise: float


def planted(
    subjects: int = 60, seed: int = 0, noise: float = 0.3, tissues: int = 4
) -> tuple[Truth, np.ndarray, list[str]]:
    """Truth, expression (subjects, genes) float32 and the tissue of each subject."""
    draw = np.random.default_rng([4711, seed])
    names = [f"subject {i:02d}" for i in range(subjects)]
    tissue = np.arange(subjects) % tissues
    x = draw.normal(size=(subjects, GENES)).astype(np.float32)
    level = dict(zip(COMPOUNDS, draw.normal(0, 2, len(COMPOUNDS)), strict=True))
    effect = dict(zip(COMPOUNDS, draw.normal(0, 0.5, (len(COMPOUNDS), 6)), strict=True))
    compound = [ALIASES.get(t, t) for t in TREATMENTS]
    mean = np.stack([level[c] + x[:, :6] @ effect[c] for c in compound], axis=1)
    mean += draw.normal(0, 0.5, tissues)[tissue][:, None]
    return Truth(mean, names, TREATMENTS, noise), x, [f"tissue {t}" for t in tissue]


def write(
    name: str = "synthetic",
    *,
    seed: int = 0,
    subjects: int = 60,
    tissues: int = 4,
    noise: float = 0.3,
    missing: float = 0.1,
    censored: float = 0.03,
    outcomes: Outcomes | None = None,
    values: Values | None = None,
    leave_out: tuple[str, ...] = (),
    no_structure: tuple[str, ...] = (),
) -> Study:
    """Write the synthetic study ``name`` into the home and open it.

    Parameters
    ----------
    outcomes : changes the outcomes before they are written (they keep their order, so rows keep their numbers)
    values : (modality, row names, matrix) -> matrix, changes a modality
    leave_out : modalities the study shall not have
    no_structure : treatments whose structure nobody knows
    """
    from anndata import AnnData

    truth, x, tissue = planted(subjects, seed, noise, tissues)
    draw = np.random.default_rng([4712, seed])
    value = truth.mean + draw.normal(0, noise, truth.mean.shape)
    s, d = np.nonzero(draw.random(value.shape) >= missing)
    frame = pl.DataFrame(
        {
            "subject": [truth.subjects[i] for i in s],
            "treatment": [TREATMENTS[j] for j in d],
            "site": "nowhere",
            "dose": None,
            "dose_unit": None,
            "time_h": None,
            "endpoint": "ln_ic50",
            "value": value[s, d],
            "unit": "ln(uM)",
            "censored": (draw.random(len(s)) < censored).astype(np.int8),
            "source": "synthetic",
        },
        schema=dict(tables.OUTCOMES.columns),
    )
    second = frame.gather_every(25).with_columns(
        pl.lit("auc").alias("endpoint"), pl.lit("fraction").alias("unit"), pl.lit(0, pl.Int8).alias("censored")
    )
    frame = pl.concat([frame, second]).sort("treatment", "subject", "endpoint")
    structured = [t for t in TREATMENTS if t not in no_structure]
    smiles = {t: COMPOUNDS[ALIASES.get(t, t)] for t in structured}
    parents = {t: molecules.parent(text) for t, text in smiles.items()}
    matrices = {
        "expression": (truth.subjects[:-1], x[:-1], "subject", "z-score"),
        "mutation": (
            truth.subjects[: subjects - 8],
            (draw.random((subjects - 8, GENES)) < 0.2).astype(np.uint8),
            "subject",
            "mutated (0/1)",
        ),
        "copy_number": (
            truth.subjects[4:-1],
            draw.integers(-1, 2, (subjects - 5, GENES)).astype(np.int8),
            "subject",
            "copy-number call (-1/0/1)",
        ),
        "drug_structure": (
            structured,
            molecules.fingerprints([m for m in parents.values() if m is not None]),
            "treatment",
            "Morgan bit (0/1)",
        ),
    }
    modalities = {}
    for kind, (names, matrix, axis, unit) in matrices.items():
        if kind in leave_out:
            continue
        data = AnnData(matrix if values is None else values(kind, names, matrix).astype(matrix.dtype))
        data.obs_names = names
        data.var_names = [f"gene{i}" for i in range(matrix.shape[1])]
        data.uns["axis"], data.uns["unit"] = axis, unit
        modalities[kind] = data
    return write_study(
        home.studies() / name,
        outcomes=frame if outcomes is None else outcomes(frame),
        subjects=pl.DataFrame({"subject": truth.subjects, "tissue": tissue}),
        treatments=pl.DataFrame(
            {
                "treatment": TREATMENTS,
                "compound": [molecules.identity(m) if (m := parents.get(t)) is not None else None for t in TREATMENTS],
                "smiles": [smiles.get(t) for t in TREATMENTS],
            },
            schema=dict(tables.TREATMENTS.columns),
        ),
        modalities=modalities,
        provenance={"source": "synthetic numbers, planted truth", "seed": seed},
        event="made for a test",
    )
