"""Who takes part: every predictor as it is, and beside it, where asked, with a modality dealt anew or fewer groups.

The randomisation test leaves a modality's distribution as it is and gives each sample the row of another, in training
and in test alike; the learning curve takes whole groups of what the split holds apart. Source: the randomisation
tests of Bernett et al., DrEval (Nature Communications 2026).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench import predictors, rooms
from workbench.splits import Fold, inner_parts

if TYPE_CHECKING:
    from anndata import AnnData

    from workbench.experiment.spec import Experiment
    from workbench.study import Study

PACKAGE = Path(__file__).resolve().parents[1]
ELSEWHERE = ("across", "ceiling/matching")
CODE = ("nn", "modalities", "predictors/__init__", "splits", "batches", "train", "predict", "tuning")


@dataclass(frozen=True)
class Entry:
    """A predictor as it takes part; ``label`` is its name in every table."""

    predictor: str
    permuted: str = ""
    share: float = 1.0

    @property
    def plain(self) -> bool:
        """Is it the predictor itself?"""
        return not self.permuted and self.share == 1.0

    @property
    def label(self) -> str:
        if self.permuted:
            return f"{self.predictor} - {self.permuted} permuted"
        return self.predictor if self.plain else f"{self.predictor} - {self.share:.3g} of training"

    def seen(self, fold: Fold, seed: int) -> Fold:
        """The fold as this entry sees it."""
        if self.permuted:
            return replace(fold, study=Dealt(fold.study, self.permuted, seed))  # type: ignore[arg-type]
        if self.share < 1.0:
            part = inner_parts(fold, 1000, seed)
            few = int(part.max()) + 1
            kept = pl.Series(part < max(2, round(self.share * few)))
            return replace(fold, train=fold.train.filter(kept))
        return fold


def of(experiment: Experiment) -> list[Entry]:
    """Every entry of an experiment: the predictors, then the learnt ones again for each modality and share."""
    entries = [Entry(name) for name in experiment.predictors]
    learnt = [name for name in experiment.predictors if name not in predictors.naive_names()]
    for modality in experiment.permute:
        entries += [Entry(n, modality) for n in learnt if uses(n, experiment.parameters.get(n, {}), modality)]
    entries += [Entry(name, share=share) for share in experiment.sizes for name in experiment.predictors]
    return entries


def uses(predictor: str, given: dict[str, Any], modality: str) -> bool:
    """May the predictor look at the modality?"""
    params: dict[str, Any] = predictors.offered()[predictor].DEFAULTS | given  # type: ignore[attr-defined]
    if modality == "drug_structure" and "structure" in params:
        return bool(params["structure"])
    told = [params[k] for k in ("modality", "modalities") if k in params]
    return not told or any(modality == t if isinstance(t, str) else modality in t for t in told)


class Dealt:
    """A study in which the rows of one modality have been dealt anew among its samples (or compounds)."""

    def __init__(self, study: Study, modality: str, seed: int) -> None:
        data = study.modality(modality)
        if data.uns["axis"] == "cell":
            raise ValueError(f"modality {modality!r} is one of cells; only those of samples or compounds are permuted.")
        # a derangement as good as any: everyone takes the row of the next in a shuffled circle
        order = np.random.default_rng([20261122, seed]).permutation(data.n_obs)
        row = np.empty(data.n_obs, dtype=np.int64)
        row[order] = np.roll(order, 1)
        dealt = data[row].copy()
        dealt.obs_names = data.obs_names
        self._study, self._name, self._data = study, modality, dealt

    def modality(self, name: str) -> AnnData:
        """As ``Study.modality``, the one dealt anew excepted."""
        return self._data if name == self._name else self._study.modality(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


def mark(experiment: Experiment, study: str, split: str, entry: Entry, fold: int, tuned: dict[str, Any]) -> str:
    """SHA-256 of all a fit depends on: data, fold, parameters and the code that fits and predicts."""
    name = entry.predictor
    defaults: dict[str, Any] = predictors.offered()[name].DEFAULTS  # type: ignore[attr-defined]
    given = defaults | experiment.parameters.get(name, {}) | tuned
    told = [study, split, fold, experiment.seed, entry.label, given, experiment.tuning.get(name), _code(name)]
    told += [list(experiment.elsewhere), _digest(ELSEWHERE) if experiment.elsewhere else ""]
    told += ["" if entry.plain else _digest(("experiment/entries",))]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=list).encode()).hexdigest()


@cache
def _code(predictor: str) -> str:
    """SHA-256 of the source that fits and applies ``predictor``."""
    room = "workbench.predictors"
    own = next(n for n in rooms.names(room) if predictor in rooms.load(room, n).PREDICTORS)
    private = tuple(f"predictors/{f.stem}" for f in sorted((PACKAGE / "predictors").glob("_[!_]*.py")))
    return _digest((f"predictors/{own}", *private, *CODE))


@cache
def _digest(places: tuple[str, ...]) -> str:
    """SHA-256 of the source of modules and folders of this package."""
    h = hashlib.sha256()
    for place in places:
        folder = PACKAGE / place
        for file in sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]:
            h.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return h.hexdigest()
