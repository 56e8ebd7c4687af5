"""The closed-form path of DrugResponse: ridge on fused features, and drugs never seen by their structure.

    phi_s = [p_m g_m r_m / sqrt(f_m)]_m / sqrt(sum_m p_m g_m^2)          r_m: rotated modality m, p_m: is it there?
    L_sd  = o_d + phi_s . b_d
    new d: (o, b)_new = mean + sum_d' a_d' ((o, b)_d' - mean),  a = k_new (K + lambda I)^-1,  K: Tanimoto similarity

Everything learnt is a buffer, so the module's state is complete.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from workbench import modalities, rooms
from workbench.nn import kernel_ridge
from workbench.nn.scaling import Rotation
from workbench.predictors._pairs import matrix, positions
from workbench.splits import Fold

LAMBDAS = 10.0 ** np.linspace(-1.0, 2.0, 10)
STRUCTURE = "drug_structure"


class ClosedForm(nn.Module):
    """See the module. ``names``: subject modalities in use; ``structured``: are compound structures used?"""

    bits: Tensor
    offset: Tensor
    weights: Tensor
    penalty: Tensor

    def __init__(self, names: list[str], structured: bool) -> None:
        super().__init__()
        self.names, self.structured = list(names), structured
        self.gains = {m: float(rooms.load("workbench.modalities", m).GAIN) for m in self.names}
        self.rotations: dict[str, Rotation] = {}
        self.subjects: list[str] = []
        self.treatments: list[str] = []
        self.columns: dict[str, list[str]] = {}

    # ---- fitting --------------------------------------------------------------------------------------------------

    def fit(self, fold: Fold, train: pl.DataFrame, report=None) -> ClosedForm:
        """Fit on ``train`` (with column ``part``); ``held_out`` (S, T) are predictions that have not seen their row."""
        self.subjects = sorted(train["subject"].unique())
        self.treatments = sorted(train["treatment"].unique())
        for m in self.names:
            block = modalities.read(fold.study, m, endpoint=fold.endpoint)
            values, there = block.rows(self.subjects)
            if not there.any():
                raise ValueError(f"no training subject has modality {m!r}; leave it out of the predictor's modalities.")
            self._keep(m, modalities.prepare(m, values, np.flatnonzero(there)), block.features)
        x, presence = self.features(fold.study, self.subjects)
        phi = self._phi(x, presence)
        y = matrix(train, self.subjects, self.treatments)
        tissue = dict(train.select("subject", "tissue").unique().iter_rows())
        groups = np.array([tissue[s] for s in self.subjects]) if fold.group == "tissue" else None
        say = None if report is None else (lambda done: report(0.3 * done, "closed form, drug by drug"))
        fitted = kernel_ridge.fit(phi @ phi.T, y, groups=groups, progress=say)
        self._buffer("offset", fitted.intercept)
        self._buffer("weights", phi.T @ fitted.dual)
        plane = fitted.intercept + phi @ (phi.T @ fitted.dual)
        self._fit_structures(fold, train, y, plane, fitted)
        return self

    def _fit_structures(self, fold: Fold, train: pl.DataFrame, y: np.ndarray, plane: np.ndarray, fitted) -> None:
        n = len(self.treatments)
        bits = np.zeros((n, 1), dtype=np.float32)
        if self.structured:
            block = modalities.read(fold.study, STRUCTURE)
            bits, there = block.rows(self.treatments)
            self._keep(STRUCTURE, modalities.prepare(STRUCTURE, bits, np.flatnonzero(there)), block.features)
        self._buffer("bits", bits)
        self.structure = self._structure(bits)
        self.held_out, self.held_out_offset = fitted.left_out.copy(), fitted.intercept.copy()
        # a compound's part: the split's own where compounds are what it holds apart
        compound = dict(train.select("treatment", "compound").unique(subset="treatment").iter_rows())
        if fold.group == "compound":
            of = dict(train.select("treatment", "part").unique(subset="treatment").iter_rows())
            part = np.array([of[t] for t in self.treatments])
        else:
            order = {c: i % 8 for i, c in enumerate(sorted(set(compound.values())))}
            part = np.array([order[compound[t]] for t in self.treatments])
        kernel, errors, guesses = tanimoto(bits, bits), [], []
        for lam in LAMBDAS:
            guess = np.full((n, n), 1.0 / n)  # stays where no compound of another part can speak
            for p in np.unique(part) if len(np.unique(part)) > 1 else ():
                guess[part == p] = _average(
                    kernel[np.ix_(part == p, part != p)], kernel[np.ix_(part != p, part != p)], part != p, lam
                )
            guesses.append(guess)
            errors.append(np.nanmean((y - plane @ guess.T) ** 2))
        best = int(np.argmin(errors))
        self._buffer("penalty", np.array([LAMBDAS[best]]))
        if fold.group == "compound":
            self.held_out = np.where(np.isfinite(y), plane @ guesses[best].T, np.nan)
            self.held_out_offset = guesses[best] @ fitted.intercept

    # ---- applying -------------------------------------------------------------------------------------------------

    def features(
        self, study, subjects: list[str], without: tuple[str, ...] = ()
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Rotated modalities {m: (S, f)} and presence (S, M) float32 of the named subjects."""
        x, presence = {}, np.zeros((len(subjects), len(self.names)), dtype=np.float32)
        for i, m in enumerate(self.names):
            rotation = self.rotations[m]
            there = np.zeros(len(subjects), dtype=bool)
            if m in study.modalities and m not in without:
                block = modalities.read(study, m, columns=self.columns[m])
                if block.features != self.columns[m]:
                    raise ValueError(
                        f"{m!r} has other columns than the predictor was fitted on; use the study of its run."
                    )
                values, there = block.rows(subjects)
                rotated = rotation.apply(values)
            else:
                rotated = np.zeros((len(subjects), rotation.axes.shape[1]), dtype=np.float32)
            rotated[~there] = 0.0
            x[m], presence[:, i] = rotated, there
        return x, presence

    def _phi(self, x: dict[str, np.ndarray], presence: np.ndarray) -> np.ndarray:
        gain = np.array([self.gains[m] for m in self.names])
        norm = np.sqrt(np.maximum((presence * gain**2).sum(1), 1e-12))
        parts = [
            x[m].astype(np.float64) * (presence[:, i] * gain[i] / norm / np.sqrt(max(x[m].shape[1], 1)))[:, None]
            for i, m in enumerate(self.names)
        ]
        return np.concatenate(parts, axis=1)

    def treatments_of(self, study, drugs: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Trained index or -1 (T,), rotated structure (T, c), bits (T, b) and understood (T,) of the named drugs."""
        known = positions(pl.Series(drugs, dtype=pl.String), self.treatments)
        bits = np.zeros((len(drugs), self.bits.shape[1]), dtype=np.float32)
        there = np.zeros(len(drugs), dtype=bool)
        if self.structured and STRUCTURE in study.modalities:
            bits, there = modalities.read(study, STRUCTURE).rows(drugs)
        seen = known >= 0
        bits[seen] = self.bits.numpy(force=True)[known[seen]]
        return known, self._structure(bits), bits, seen | there

    def predict(self, x: dict[str, np.ndarray], presence: np.ndarray, known: np.ndarray, bits: np.ndarray):
        """Offsets (T,) and predictions (S, T)."""
        own = self.bits.numpy(force=True)
        blend = np.zeros((len(known), len(self.treatments)))
        seen = known >= 0
        blend[seen, known[seen]] = 1.0
        if (~seen).any():
            everyone = np.ones(len(self.treatments), dtype=bool)
            blend[~seen] = _average(tanimoto(bits[~seen], own), tanimoto(own, own), everyone, float(self.penalty[0]))
        offset = blend @ self.offset.numpy(force=True).astype(np.float64)
        weights = self.weights.numpy(force=True).astype(np.float64) @ blend.T
        return offset, offset + self._phi(x, presence) @ weights

    def _structure(self, bits: np.ndarray) -> np.ndarray:
        if not self.structured:
            return np.zeros((len(bits), 1), dtype=np.float32)
        rotated = self.rotations[STRUCTURE].apply(bits)
        rotated[bits.sum(1) == 0] = 0.0
        return rotated if rotated.shape[1] else np.zeros((len(bits), 1), dtype=np.float32)

    @property
    def structure_size(self) -> int:
        return max(self.rotations[STRUCTURE].axes.shape[1], 1) if self.structured else 1

    # ---- state ----------------------------------------------------------------------------------------------------

    def _buffer(self, name: str, value: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)))

    def _keep(self, m: str, rotation: Rotation, columns: list[str]) -> None:
        self.rotations[m], self.columns[m] = rotation, list(columns)
        for part in ("mean", "sd", "axes"):
            self._buffer(f"{m}_{part}", getattr(rotation, part))
        self._buffer(f"{m}_scale", np.array([rotation.scale]))

    def config(self) -> dict[str, Any]:
        """Everything that is not a number: names and columns."""
        return {
            "names": self.names,
            "structured": self.structured,
            "subjects": self.subjects,
            "treatments": self.treatments,
            "columns": self.columns,
        }

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, Tensor]) -> ClosedForm:
        """From ``config`` and the buffers of ``state_dict``."""
        self = cls(config["names"], config["structured"])
        self.subjects, self.treatments, self.columns = config["subjects"], config["treatments"], config["columns"]
        for name, value in state.items():
            self._buffer(name, value.numpy(force=True))
        for m in self.columns:
            get = {part: getattr(self, f"{m}_{part}").numpy() for part in ("mean", "sd", "axes", "scale")}
            self.rotations[m] = Rotation(get["mean"], get["sd"], get["axes"], float(get["scale"][0]))
        self.structure = self._structure(self.bits.numpy())
        return self

    def attributions(self, top: int, share: float) -> pl.DataFrame:
        """Strongest coefficients of each drug: change in y per sd of the feature, with all modalities there."""
        weights = self.weights.numpy(force=True)
        norm = np.sqrt(sum(g**2 for g in self.gains.values()))
        start, frames = 0, []
        for m in self.names:
            rotation = self.rotations[m]
            k = rotation.axes.shape[1]
            factor = share * self.gains[m] / norm / np.sqrt(max(k, 1)) / rotation.scale
            original = rotation.axes @ weights[start : start + k] * factor
            start += k
            rows = np.argsort(-np.abs(original), axis=0)[:top]
            for j, name in enumerate(self.treatments):
                chosen = rows[:, j]
                frames.append((name, m, [self.columns[m][i] for i in chosen], original[chosen, j].astype(np.float64)))
        return pl.concat(
            pl.DataFrame(
                {
                    "treatment": t,
                    "modality": m,
                    "feature": f,
                    "value": v,
                    "method": "closed-form coefficient per standard deviation",
                }
            )
            for t, m, f, v in frames
        )


def tanimoto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Tanimoto similarity of bit rows (n, f) and (m, f): (n, m); 0 where either has no bits."""
    both = a.astype(np.float64) @ b.astype(np.float64).T
    either = a.sum(1, dtype=np.float64)[:, None] + b.sum(1, dtype=np.float64)[None, :] - both
    return np.where(either > 0, both / np.maximum(either, 1e-12), 0.0)


def _average(cross: np.ndarray, within: np.ndarray, into: np.ndarray, lam: float) -> np.ndarray:
    """Weights (n, len(into)), rows sum to 1, that turn profiles of the drugs ``into`` into those of ``cross``."""
    n = within.shape[0]
    solved = np.linalg.solve(within + lam * np.eye(n), cross.T).T
    out = np.zeros((len(cross), len(into)))
    out[:, into] = solved + (1.0 - solved.sum(1, keepdims=True)) / n
    return out
