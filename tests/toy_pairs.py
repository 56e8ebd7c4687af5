"""A synthetic study of drug pairs with planted truth: made of random numbers, it says nothing about biology.

    y_s,ab = b_s + u_a + u_b + x_s . (e_a + e_b) + f_a f_b + noise       either order of a and b is the same

24 lines of 3 tissues x all 45 pairs of 10 compounds; x_s are the first genes of the line. Optionally one pair stands
there twice more, swapped and under another name of its drug, and some drugs were given alone as well.
"""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl

from tests import toy
from workbench import home, molecules, tables
from workbench.study import Study, write_study

LINES, NOISE = 24, 0.5


def write(
    name: str = "pairs",
    *,
    seed: int = 0,
    swapped: bool = False,
    singles: bool = False,
    no_structure: tuple[str, ...] = (),
    interaction: float = 1.0,
    flip: bool = False,
) -> Study:
    """Write the synthetic study of pairs and open it.

    Parameters
    ----------
    swapped : aspirin + caffeine was measured again on two lines of three, swapped or under another name of aspirin
    singles : every drug was given alone too
    no_structure : drugs whose structure nobody knows
    interaction : weight of f_a f_b
    flip : store the two drugs of every pair the other way round
    """
    from anndata import AnnData

    draw = np.random.default_rng([4713, seed])
    drugs = sorted(toy.COMPOUNDS)
    x = draw.normal(size=(LINES, 20)).astype(np.float32)
    level, own = draw.normal(0, 1, len(drugs)), draw.normal(0, 0.5, (len(drugs), 3))
    shape, line = draw.normal(0, 1, len(drugs)), draw.normal(0, 0.5, LINES)
    at = {d: i for i, d in enumerate(drugs)} | {alias: drugs.index(d) for alias, d in toy.ALIASES.items()}
    named = [*itertools.combinations(drugs, 2), *([(d, None) for d in drugs] if singles else [])]
    rows = []
    for a, b in named:
        for s in range(LINES):
            i, j = at[a], at[b] if b else at[a]
            mean = line[s] + level[i] + level[j] + x[s, :3] @ (own[i] + own[j]) + interaction * shape[i] * shape[j]
            names = [(a, b)]
            if swapped and (a, b) == ("aspirin", "caffeine") and s % 3:
                names.append(("caffeine", "aspirin") if s % 3 == 1 else ("acetylsalicylic acid", "caffeine"))
            for p, q in names:
                both = (q, p) if flip and q is not None else (p, q)
                rows.append((f"line {s:02d}", *both, mean + draw.normal(0, NOISE)))
    frame = pl.DataFrame(rows, schema=["subject", "drug_a", "drug_b", "value"], orient="row").with_columns(
        pl.concat_str("drug_a", "drug_b", separator=" + ", ignore_nulls=True).alias("treatment")
    )
    treatments = frame.select("treatment", "drug_a", "drug_b").unique(maintain_order=True)
    smiles = {d: toy.COMPOUNDS[toy.ALIASES.get(d, d)] for d in at if d not in no_structure}
    compound = {d: molecules.identity(m) for d, t in smiles.items() if (m := molecules.parent(t)) is not None}
    single = pl.col("drug_b").is_null()

    def told(column: str, known: dict[str, str]) -> pl.Expr:
        return pl.col(column).replace_strict(known, default=None, return_dtype=pl.String)

    data = AnnData(x)
    data.obs_names = [f"line {s:02d}" for s in range(LINES)]
    data.var_names = [f"gene{i}" for i in range(20)]
    data.uns["axis"], data.uns["unit"] = "subject", "z-score"
    constant = {"site": "nowhere", "endpoint": "synergy", "unit": "score", "source": "synthetic"}
    return write_study(
        home.studies() / name,
        outcomes=tables.check(
            frame.select("subject", "treatment", "value").with_columns(
                *(pl.lit(v).alias(k) for k, v in constant.items()),
                *(pl.lit(None, t).alias(c) for c, t in (("dose", pl.Float64), ("dose_unit", pl.String))),
                pl.lit(None, pl.Float64).alias("time_h"),
                pl.lit(0, pl.Int8).alias("censored"),
            ),
            tables.OUTCOMES,
        ),
        subjects=pl.DataFrame({"subject": data.obs_names.to_list(), "tissue": [f"t{s % 3}" for s in range(LINES)]}),
        treatments=treatments.with_columns(
            pl.when(single).then(told("drug_a", compound)).alias("compound"),
            pl.when(single).then(told("drug_a", smiles)).alias("smiles"),
            *(told(f"drug_{s}", compound).alias(f"compound_{s}") for s in "ab"),
            *(told(f"drug_{s}", smiles).alias(f"smiles_{s}") for s in "ab"),
        ).select("treatment", "compound", "smiles", pl.exclude("treatment", "compound", "smiles")),
        modalities={"expression": data},
        provenance={"source": "synthetic numbers, planted truth", "seed": seed},
        event="made for a test",
    )
