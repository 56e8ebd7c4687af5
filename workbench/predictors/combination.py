"""What will two drugs do together? Additive effects, which a score has to beat, and a kernel of pairs and lines.

    additive_effects   y = m + u_a + u_b + b_s
    pair_effects       the same, and what was seen of the pair itself on other lines
    combination        y = m + f(ab, s),   cov f = P(ab, cd) L(s, t)

    P = c + sum of d(x, y) over x in ab, y in cd  + p [d(a,c) d(b,d) + d(a,d) d(b,c)] / 2 + i [ab = cd]
    d = h Tanimoto + (1 - h) [same drug],   L = l + e <r_s, r_t> + j [same line],   r: rotated expression

Every term is the same for a b and b a. Weights and noise are chosen by errors on training rows held out by the
fold's own rule (for an unseen drug: drugs are held out). A treatment of one drug is a pair without product. Sources:
products of pair kernels, Ben-Hur and Noble 2005, Bioinformatics 21:i38; synergy by matrix and tensor factors,
Julkunen et al. 2020, Nature Communications 11:6136.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl

from workbench import modalities
from workbench.nn.kronecker import solve
from workbench.nn.scaling import Rotation
from workbench.predictors import answer
from workbench.predictors._closed_form import tanimoto
from workbench.predictors._members import Effects, Spread, blinded, members, places, structures
from workbench.predictors._pairs import positions
from workbench.splits import Fold, held_out
from workbench.tables import ATTRIBUTIONS, empty

START = {
    "noise": 0.3,
    "structure": 0.5,
    "product": 1.0,
    "identity": 0.2,
    "expression": 1.0,
    "line": 0.5,
    "constant": 0.3,
    "line_constant": 1.0,
}
TRIED: dict[str, tuple[float, ...]] = {
    "noise": (0.03, 0.1, 1.0, 3.0, 10.0),
    "structure": (0.0, 0.2, 0.8, 1.0),
    "product": (0.0, 0.3, 3.0),
    "identity": (0.0, 1.0, 3.0),
    "expression": (0.1, 0.3, 3.0),
    "line": (0.1, 2.0),
    "line_constant": (0.3, 3.0),
}


class MemberEffects:
    """Additive effects of the drugs of a treatment and of the line; see the module."""

    DEFAULTS: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, fold: Fold, report=None) -> MemberEffects:
        """Effects of ``fold.train``; widths from eighths of it, each held out by the fold's own rule."""
        rows = _rows(fold.study, fold.train)
        values, pairs = fold.train["value"].to_numpy(), self.name == "pair_effects"
        tried, residuals = [], []
        for teaches, held in held_out(fold, 8, fold.seed):
            made = Effects.fit(rows.filter(pl.Series(teaches)), values[teaches], pairs)
            residuals.append(values[held] - made.of(rows.filter(pl.Series(held))))
            tried.append(blinded(rows, teaches, held))
        self.spread_ = Spread.fit(pl.concat(tried), np.concatenate(residuals))
        self.effects_ = Effects.fit(rows, values, pairs)
        return self

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        rows = _rows(study, pairs)
        return answer(self.effects_.of(rows), self.spread_.of(rows))

    def config(self) -> dict[str, Any]:
        return {"params": {}, "effects": self.effects_.config(), "spread": self.spread_.effects.config()}

    def arrays(self) -> dict[str, np.ndarray]:
        quantile = {"quantile": np.array([self.spread_.quantile])}
        return self.effects_.arrays("effects") | self.spread_.effects.arrays("spread") | quantile

    def load(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.effects_ = Effects.load(config["effects"], arrays, "effects")
        self.spread_ = Spread(Effects.load(config["spread"], arrays, "spread"), float(arrays["quantile"][0]))

    def attributions(self) -> pl.DataFrame:
        return empty(ATTRIBUTIONS)


class Combination:
    """Kernel ridge on pairs of drugs and lines; see the module.

    Parameters
    ----------
    modality : of the lines; a study without it leaves lines to their names
    parts : inner divisions on which weights and noise are chosen
    clip_sd : training values further than this many standard deviations from their mean count as that far
    seed : of the inner divisions
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"modality": "expression", "parts": 4, "clip_sd": 5.0, "seed": 0}

    def __init__(self, name: str = "combination", **params) -> None:
        self.name = name
        self.params = self.DEFAULTS | params

    # ---- fitting --------------------------------------------------------------------------------------------------

    def fit(self, fold: Fold, report=None) -> Combination:
        rows, values = _rows(fold.study, fold.train), fold.train["value"].to_numpy()
        self._learn_features(fold, rows)
        divisions = held_out(fold, self.params["parts"], self.params["seed"])
        best, error, residual = dict(START), np.inf, np.full(0, np.nan)
        trials: list[dict[str, float]] = [{}, *({k: v} for k, tried in TRIED.items() for v in tried)]
        for number, change in enumerate(trials):
            weights = best | change
            kernels = self._kernels(weights)
            blind = [values[b] - self._blind(rows, values, a, b, kernels, weights["noise"]) for a, b in divisions]
            found = float(np.mean(np.concatenate(blind) ** 2))
            if found < error:
                best, error, residual = weights, found, np.concatenate(blind)
            if report is not None:
                report((number + 1) / (len(trials) + 1), "weights of the kernels, on rows held out in training")
        self.weights_ = best
        self.spread_ = Spread.fit(pl.concat([blinded(rows, a, b) for a, b in divisions]), residual)
        self.mean_, self.scale_, self.dual_ = self._solve(rows, values, self._kernels(best), best["noise"])
        return self

    def _learn_features(self, fold: Fold, rows: pl.DataFrame) -> None:
        self.lines_ = sorted(rows["subject"].unique())
        pairs = rows.select("compound", "member_a", "member_b").unique("compound").sort("compound")
        self.compounds_ = pairs["compound"].to_list()
        self.drugs_ = sorted({*pairs["member_a"], *pairs["member_b"].drop_nulls()})
        self.sides_ = np.stack([places(pairs[c], self.drugs_) for c in ("member_a", "member_b")])
        self.bits_, _ = _bits(fold.study, self.drugs_)
        self.rotation_, self.columns_ = None, []
        m = self.params["modality"]
        self.told_ = np.zeros((len(self.lines_), 0))
        if m in fold.study.modalities:
            block = modalities.read(fold.study, m, endpoint=fold.endpoint)
            values, there = block.rows(self.lines_)
            if there.sum() > 1:
                self.rotation_, self.columns_ = modalities.prepare(m, values, np.flatnonzero(there)), block.features
                self.told_ = _rotated(self.rotation_, values, there)

    def _kernels(self, weights) -> tuple[np.ndarray, np.ndarray]:
        """P (pairs, pairs) and L (lines, lines) of the fit."""
        pairs = self._pairs(self.sides_, self.bits_, self.drugs_, weights)
        lines = weights["line_constant"] + weights["expression"] * self.told_ @ self.told_.T
        own = (weights["identity"] * np.eye(len(pairs)), weights["line"] * np.eye(len(lines)))
        return pairs + own[0], lines + own[1]

    def _blind(self, rows: pl.DataFrame, values, teaches, held, kernels, noise: float) -> np.ndarray:
        """Predictions of the rows ``held`` by a fit on the rows that teach."""
        mean, scale, dual = self._solve(rows.filter(pl.Series(teaches)), values[teaches], kernels, noise)
        asked = rows.filter(pl.Series(held))
        p, s = positions(asked["compound"], self.compounds_), positions(asked["subject"], self.lines_)
        return mean + scale * (kernels[0] @ dual @ kernels[1])[p, s]

    def _solve(self, rows: pl.DataFrame, values: np.ndarray, kernels, noise: float) -> tuple[float, float, np.ndarray]:
        mean, scale = float(values.mean()), float(values.std()) or 1.0
        y = np.clip((values - mean) / scale, -self.params["clip_sd"], self.params["clip_sd"])
        p, s = positions(rows["compound"], self.compounds_), positions(rows["subject"], self.lines_)
        size = (len(self.compounds_), len(self.lines_))
        flat = p * size[1] + s
        count = np.bincount(flat, minlength=size[0] * size[1])
        total = np.bincount(flat, y, size[0] * size[1])
        grid = np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(size)
        a, b = (count.reshape(size).sum(axis) > 0 for axis in (1, 0))  # what teaches nothing takes no part
        dual = np.zeros(size)
        dual[np.ix_(a, b)] = solve(kernels[0][np.ix_(a, a)], kernels[1][np.ix_(b, b)], grid[np.ix_(a, b)], noise)
        return mean, scale, dual

    # ---- kernels --------------------------------------------------------------------------------------------------

    def _pairs(self, sides: np.ndarray, bits: np.ndarray, names: list[str], w) -> np.ndarray:
        """P between the pairs ``sides`` (2, n) into ``names`` with ``bits``, and the pairs of the fit: (n, P)."""
        same = np.array(names)[:, None] == np.array(self.drugs_)[None, :]
        drug = w["structure"] * tanimoto(bits, self.bits_) + (1 - w["structure"]) * same
        drug[same] = 1.0
        padded = np.zeros((drug.shape[0] + 1, drug.shape[1] + 1))  # the last row and column: no drug
        padded[:-1, :-1] = drug
        (a, b), (c, d) = sides, self.sides_
        ac, bd, ad, bc = (padded[np.ix_(i, j)] for i, j in ((a, c), (b, d), (a, d), (b, c)))
        return w["constant"] + (ac + bd + ad + bc) / 4 + w["product"] * (ac * bd + ad * bc) / 2

    # ---- applying -------------------------------------------------------------------------------------------------

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        w = self.weights_
        rows = _rows(study, pairs)
        asked = rows.select("compound", "member_a", "member_b").unique("compound").sort("compound")
        names = sorted({*asked["member_a"], *asked["member_b"].drop_nulls()})
        known = positions(pl.Series(names, dtype=pl.String), self.drugs_)
        bits, there = _bits(study, names)
        bits[known >= 0] = self.bits_[known[known >= 0]]
        sides = np.stack([places(asked[c], names) for c in ("member_a", "member_b")])
        kernel = self._pairs(sides, bits, names, w)
        at = positions(asked["compound"], self.compounds_)
        kernel[np.flatnonzero(at >= 0), at[at >= 0]] += w["identity"]
        subjects = sorted(rows["subject"].unique())
        told, present = self._told(study, subjects)
        lines = w["line_constant"] + w["expression"] * told @ self.told_.T
        of = positions(pl.Series(subjects, dtype=pl.String), self.lines_)
        lines[np.flatnonzero(of >= 0), of[of >= 0]] += w["line"]
        p, s = positions(rows["compound"], asked["compound"].to_list()), positions(rows["subject"], subjects)
        value = self.mean_ + self.scale_ * (kernel @ self.dual_ @ lines.T)[p, s]
        drug_known = np.append((known >= 0) | there, True)[sides].all(0)[p]
        line_known = (present | (of >= 0))[s]
        reason = [
            None if a and b else f"sample has no {self.params['modality']}" if a else "unknown structure"
            for a, b in zip(drug_known, line_known, strict=True)
        ]
        return answer(value, self.spread_.of(rows), reason)

    def _told(self, study, subjects: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Rotated features (S, k) and presence (S,) of the named subjects."""
        m = self.params["modality"]
        if self.rotation_ is None or m not in study.modalities:
            return np.zeros((len(subjects), self.told_.shape[1])), np.zeros(len(subjects), dtype=bool)
        block = modalities.read(study, m, columns=self.columns_)
        if block.features != self.columns_:
            raise ValueError(f"{m!r} has other columns than {self.name} was fitted on; use the study of the run.")
        values, there = block.rows(subjects)
        return _rotated(self.rotation_, values, there), there

    # ---- to and from files ----------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {
            "params": self.params,
            "lines": self.lines_,
            "compounds": self.compounds_,
            "drugs": self.drugs_,
            "columns": self.columns_,
            "spread": self.spread_.effects.config(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        out = {f"weight.{k}": np.array([v]) for k, v in self.weights_.items()}
        out |= {"mean": np.array([self.mean_]), "scale": np.array([self.scale_]), "dual": self.dual_}
        out |= {"sides": self.sides_, "bits": self.bits_, "told": self.told_}
        if self.rotation_ is not None:
            out |= self.rotation_.arrays("r")
        return out | self.spread_.effects.arrays("spread") | {"quantile": np.array([self.spread_.quantile])}

    def load(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.lines_, self.compounds_, self.drugs_ = config["lines"], config["compounds"], config["drugs"]
        self.columns_ = config["columns"]
        self.weights_ = {k: float(arrays[f"weight.{k}"][0]) for k in START}
        self.mean_, self.scale_ = float(arrays["mean"][0]), float(arrays["scale"][0])
        self.dual_, self.sides_, self.bits_, self.told_ = (arrays[k] for k in ("dual", "sides", "bits", "told"))
        self.rotation_ = Rotation.of(arrays, "r") if "r.mean" in arrays else None
        self.spread_ = Spread(Effects.load(config["spread"], arrays, "spread"), float(arrays["quantile"][0]))

    def attributions(self) -> pl.DataFrame:
        return empty(ATTRIBUTIONS)


def _rows(study, pairs: pl.DataFrame) -> pl.DataFrame:
    """subject, treatment, compound, member_a, member_b of each pair."""
    names = pairs["treatment"].cast(pl.String).unique().sort()
    return pairs.select(pl.col("subject", "treatment").cast(pl.String)).join(
        members(study, names.to_list()), on="treatment", how="left", maintain_order="left"
    )


def _bits(study, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints (n, 1024) float64 of the named members, and whether each has one, bool (n,)."""
    from workbench import molecules

    told = structures(study)
    found = [molecules.parent(told[n]) if n in told else None for n in names]
    there = np.array([m is not None for m in found], dtype=bool)
    bits = np.zeros((len(names), 1024))
    if there.any():
        bits[there] = molecules.fingerprints([m for m in found if m is not None])
    return bits, there


def _rotated(rotation: Rotation, values: np.ndarray, there: np.ndarray) -> np.ndarray:
    rotated = rotation.apply(values).astype(np.float64) / np.sqrt(max(rotation.axes.shape[1], 1))
    rotated[~there] = 0.0
    return rotated


PREDICTORS = {"additive_effects": MemberEffects, "pair_effects": MemberEffects, "combination": Combination}
