"""Which drugs a treatment is made of, and what each adds to a mean.

    y_s,ab = m + u_a + u_b + b_s + w_ab          either order of a and b is the same; w only where the pair was seen

u and b are shrunk least squares, ``PRIOR`` observations of zero each; w is shrunk by what chance alone would explain. A
treatment of one drug has one member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench.predictors._pairs import positions
from workbench.predictors._widths import LEVEL
from workbench.splits import compounds

PRIOR = 1.0


def members(study, names: Sequence[str]) -> pl.DataFrame:
    """compound, member_a and member_b of each named treatment, in order; a single drug has no member_b."""
    table = compounds(study.treatments)
    if "member_a" not in table.columns:
        table = table.with_columns(pl.col("compound").alias("member_a"), pl.lit(None, pl.String).alias("member_b"))
    asked = pl.DataFrame({"treatment": list(names)}, schema={"treatment": pl.String})
    found = asked.join(table, on="treatment", how="left", maintain_order="left")
    return found.select(
        "treatment", pl.coalesce("compound", "treatment"), pl.coalesce("member_a", "treatment"), "member_b"
    )


def structures(study) -> dict[str, str]:
    """SMILES of every member whose structure the study knows."""
    known = study.treatments
    out: dict[str, str] = {}
    for side, name in (("", "treatment"), ("_a", "drug_a"), ("_b", "drug_b")):
        if f"smiles{side}" in known.columns and name in known.columns:
            key = [c for c in (f"compound{side}", name) if c in known.columns]
            if not side and "compound_key" in known.columns:
                key = ["compound_key", *key]
            told = known.select(pl.coalesce(pl.col(c).cast(pl.String) for c in key), pl.col(f"smiles{side}"))
            out |= dict(told.drop_nulls().sort(pl.all()).rows())
    return out


def places(column: pl.Series, names: Sequence[str]) -> np.ndarray:
    """``positions``, where no drug (null) is nowhere."""
    return positions(column.fill_null("\x1f"), names)


@dataclass
class Effects:
    """Fitted effects: ``mean``, and of every known ``drugs``, ``lines`` and ``compounds`` (pairs) one number."""

    drugs: list[str]
    lines: list[str]
    compounds: list[str]
    mean: float
    of_drug: np.ndarray
    of_line: np.ndarray
    of_compound: np.ndarray

    @classmethod
    def fit(cls, rows: pl.DataFrame, values: np.ndarray, pairs: bool) -> Effects:
        """Fit on ``rows`` (subject, compound, member_a, member_b); ``pairs``: keep what is a pair's own too."""
        drugs = sorted({*rows["member_a"].drop_nulls(), *rows["member_b"].drop_nulls()})
        lines, pairs_seen = sorted(rows["subject"].drop_nulls().unique()), sorted(rows["compound"].unique())
        mean = float(values.mean())
        n = len(drugs) + len(lines)
        columns = [places(rows["member_a"], drugs), places(rows["member_b"], drugs)]
        columns.append(places(rows["subject"], lines) + len(drugs))
        gram, right = np.zeros(n * n), np.zeros(n)
        for i in columns:
            right += np.bincount(i[i >= 0], (values - mean)[i >= 0], n)
            for j in columns:
                both = (i >= 0) & (j >= 0)
                gram += np.bincount(i[both] * n + j[both], minlength=n * n)
        solved = np.linalg.solve(gram.reshape(n, n) + PRIOR * np.eye(n), right)
        of_pair = np.zeros(len(pairs_seen))
        made = cls(drugs, lines, pairs_seen, mean, solved[: len(drugs)], solved[len(drugs) :], of_pair)
        if pairs:
            made.of_compound = _shrunk_means(places(rows["compound"], pairs_seen), values - made.of(rows))
        return made

    def of(self, rows: pl.DataFrame) -> np.ndarray:
        """Sum of the known effects of each row, float64 (n,); what was never seen adds nothing."""
        out = np.full(rows.height, self.mean)
        for column, names, effect in (
            ("member_a", self.drugs, self.of_drug),
            ("member_b", self.drugs, self.of_drug),
            ("subject", self.lines, self.of_line),
            ("compound", self.compounds, self.of_compound),
        ):
            at = places(rows[column], names)
            out += np.append(effect, 0.0)[at]  # -1, never seen: the last one
        return out

    def config(self) -> dict[str, list[str]]:
        return {"drugs": self.drugs, "lines": self.lines, "compounds": self.compounds}

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        return {
            f"{prefix}.mean": np.array([self.mean]),
            f"{prefix}.drug": self.of_drug,
            f"{prefix}.line": self.of_line,
            f"{prefix}.compound": self.of_compound,
        }

    @classmethod
    def load(cls, config: dict[str, list[str]], arrays: dict[str, np.ndarray], prefix: str) -> Effects:
        drugs, lines, pairs = (config[k] for k in ("drugs", "lines", "compounds"))
        drug, line, pair = (arrays[f"{prefix}.{k}"] for k in ("drug", "line", "compound"))
        return cls(drugs, lines, pairs, float(arrays[f"{prefix}.mean"][0]), drug, line, pair)


def _shrunk_means(group: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Mean of ``left`` by group times n v / (n v + w), v the variance between groups and w within, by moments.

    Source: Searle, Casella and McCulloch 1992, Variance Components, chapter 3.
    """
    n = np.bincount(group).astype(np.float64)
    mean = np.bincount(group, left) / np.maximum(n, 1)
    spare, even = n.sum() - len(n), n.sum() - (n**2).sum() / n.sum()
    within = float(((left - mean[group]) ** 2).sum()) / spare if spare > 0 else 0.0
    found = float((n * (mean - left.mean()) ** 2).sum()) - (len(n) - 1) * within
    between = max(found / even, 0.0) if even > 0 else 0.0
    total = n * between + within
    return mean * np.divide(n * between, total, out=np.zeros_like(n), where=total > 0)


def blinded(rows: pl.DataFrame, teaches: np.ndarray, held: np.ndarray) -> pl.DataFrame:
    """The rows ``held``, with null for a drug or a line that none of the rows that teach holds."""
    known = rows.filter(pl.Series(teaches))
    drugs = pl.concat([known["member_a"], known["member_b"]]).drop_nulls().unique().implode()
    seen = {"member_a": drugs, "member_b": drugs, "subject": known["subject"].unique().implode()}
    return rows.filter(pl.Series(held)).with_columns(
        pl.when(pl.col(c).is_in(names)).then(pl.col(c)).alias(c) for c, names in seen.items()
    )


@dataclass
class Spread:
    """Half-widths that know which drugs and lines vary much: ``quantile`` x exp(effects on log |residual|)."""

    effects: Effects
    quantile: float

    @classmethod
    def fit(cls, rows: pl.DataFrame, residuals: np.ndarray, level: float = LEVEL) -> Spread:
        """From residuals a fit has not seen; those that are not finite are left out (Lei et al. 2018, section 5.2).

        ``rows`` are ``blinded``, so that a drug or line that was new then adds no more than a new one will.
        """
        good = np.isfinite(residuals)
        if not good.any():
            raise ValueError("intervals need residuals; found none that is finite.")
        size, rows = np.abs(residuals[good]), rows.filter(pl.Series(good))
        floor = max(float(np.median(size)) * 0.1, 1e-9)  # a residual that is zero by chance is no proof of certainty
        effects = Effects.fit(rows, np.log(size + floor), pairs=False)
        ratio = np.sort(size / np.exp(effects.of(rows)))
        rank = int(np.ceil((len(ratio) + 1) * level)) - 1
        return cls(effects, float(ratio[min(rank, len(ratio) - 1)]))

    def of(self, rows: pl.DataFrame) -> np.ndarray:
        """Half-width of each row: float64 (n,)."""
        return self.quantile * np.exp(self.effects.of(rows))
