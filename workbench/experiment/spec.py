"""What to run: the keys of an experiment file, each checked when it is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from workbench import predictors, toml_file
from workbench.splits import COMBINATIONS, RULES, Split
from workbench.study import Study
from workbench.text import nearest
from workbench.tuning import Tuning, TuningError

LISTS: dict[str, type] = {"tuple[str, ...]": str, "tuple[int, ...]": int, "tuple[float, ...]": float}
LATER = ("tuning", "permute", "sizes", "elsewhere")


class ExperimentError(ValueError):
    """An experiment file says something that cannot be run; the message names the key and the nearest known one."""


@dataclass(frozen=True)
class Experiment:
    """What to run. Unknown keys, types and names are errors at reading time.

    Attributes
    ----------
    name, question : how people find it, and what it asks
    study, endpoint : data and measured quantity
    split, folds, seed : what is unseen at test time
    cohort : a saved cohort of the study to hold out instead of folds; the split is then "unseen subject"
    only : folds to run, all when empty
    require : subject modalities a subject must have to take part
    predictors, parameters : who competes, and {predictor: {parameter: value}}
    draws : bootstrap draws
    tuning : {predictor: {setting of ``workbench.tuning.Tuning``: value}}; chosen inside the training rows of each fold
    permute : randomisation test: modalities whose rows are dealt anew among the samples, once each, for every learnt
        predictor; a score that does not fall was not made of that modality
    sizes : learning curve over training size: shares of the training groups, between 0 and 1, to fit on as well
    elsewhere : other studies in which the unseen lines of each fold are judged too
    """

    name: str
    study: str
    endpoint: str
    split: str
    predictors: tuple[str, ...]
    question: str = ""
    folds: int = 5
    seed: int = 0
    only: tuple[int, ...] = ()
    require: tuple[str, ...] = ()
    draws: int = 1000
    cohort: str = ""
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    tuning: dict[str, dict[str, Any]] = field(default_factory=dict)
    permute: tuple[str, ...] = ()
    sizes: tuple[float, ...] = ()
    elsewhere: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        offered = predictors.offered()
        if self.split not in (rules := [*RULES, *COMBINATIONS]):
            raise ExperimentError(f"split is one of {rules}; found {self.split!r}.{nearest(self.split, rules)}")
        for key in ("name", "study", "endpoint", "predictors"):
            if not getattr(self, key):
                raise ExperimentError(
                    f"{key} is empty; it needs at least one{'' if key == 'predictors' else ' letter'}."
                )
        if self.cohort and self.split != "unseen subject":
            raise ExperimentError(f'a cohort is held out as split "unseen subject"; found {self.split!r}.')
        for key, least in (("folds", 2), ("seed", 0), ("draws", 0)):
            if (found := getattr(self, key)) < least:
                raise ExperimentError(f"{key} should be at least {least}, found {found}.")
        for key in ("predictors", "only", "require", "permute", "sizes", "elsewhere"):
            if twice := [v for v in getattr(self, key) if getattr(self, key).count(v) > 1]:
                raise ExperimentError(f"{key} names {twice[0]!r} twice; once is enough.")
        for name in [*self.predictors, *self.parameters]:
            if name not in offered:
                raise ExperimentError(
                    f"unknown predictor {name!r}.{nearest(name, offered)} Known: {', '.join(offered)}."
                )
        for name, given in self.parameters.items():
            if not isinstance(given, dict):
                raise ExperimentError(f"parameters.{name} should be a table of parameters, found {given!r}.")
            predictors.make(name, **given)
        for name, given in self.tuning.items():
            if name not in self.predictors:
                raise ExperimentError(
                    f"tuning names {name!r}, which is not among the predictors.{nearest(name, self.predictors)}"
                )
            try:
                Tuning.of(name, given)
            except TuningError as error:
                raise ExperimentError(f"tuning.{name}: {error}") from None
        if wrong_size := [v for v in self.sizes if not 0 < v < 1]:
            raise ExperimentError(f"sizes are shares of the training groups between 0 and 1; found {wrong_size[0]}.")
        if self.elsewhere and RULES.get(self.split) not in ("subject", "tissue"):
            raise ExperimentError(f"elsewhere judges unseen lines in another study; the split is {self.split!r}.")
        folds = 1 if self.cohort else self.folds
        if wrong := [k for k in self.only if not 0 <= k < folds]:
            said = (
                f"the cohort {self.cohort!r} makes one fold, 0"
                if self.cohort
                else f"folds = {folds} gives 0 to {folds - 1}"
            )
            raise ExperimentError(f"only names fold {wrong[0]}, but {said}.")

    @property
    def numbers(self) -> list[int]:
        """Folds to run."""
        return list(self.only) or list(range(1 if self.cohort else self.folds))

    def divide(self, study: Study) -> Split:
        """The split asked for: a cohort held out, or folds by rule."""
        if self.cohort:
            return Split.cohort(study, self.cohort, endpoint=self.endpoint, seed=self.seed, require=self.require)
        return Split.make(
            study, self.split, endpoint=self.endpoint, folds=self.folds, seed=self.seed, require=self.require
        )

    def flat(self) -> dict[str, Any]:
        """Parameters as MLflow shows them."""
        plain = asdict(self)
        for key in ("predictors", "require", "only", "permute", "sizes", "elsewhere"):
            plain[key] = list(plain[key])
        return {k: v for k, v in plain.items() if v or k not in LATER}  # runs recorded before a key was known agree


def read(path: Path | str) -> Experiment:
    """Read an experiment file.

    Raises
    ------
    ExperimentError
        Not TOML, an unknown key (with the nearest), a missing or ill-typed one.
    """
    path = Path(path)
    given = toml_file.read(path, ExperimentError)
    return of(given, str(path))


def of(given: dict[str, Any], where: str = "experiment") -> Experiment:
    """An Experiment of plain values; lists become tuples, and every type is checked."""
    known = {f.name: f for f in fields(Experiment)}
    kinds = {"str": str, "int": int} | dict.fromkeys(LISTS, (list, tuple))
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise ExperimentError(f"{where}: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")
        wanted: Any = kinds.get(str(known[key].type), dict)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ExperimentError(f"{where}: {key} should be {known[key].type}, found {value!r}.")
        item = LISTS.get(str(known[key].type))
        if item and (odd := [v for v in value if not isinstance(v, item) or isinstance(v, bool)]):
            raise ExperimentError(f"{where}: {key} should hold {item.__name__} only, found {odd[0]!r}.")
        values[key] = tuple(value) if isinstance(value, list) else value
    try:
        return Experiment(**values)
    except TypeError as error:
        raise ExperimentError(f"{where}: {str(error).replace('Experiment.__init__() ', '')}.") from None
    except ValueError as error:
        raise ExperimentError(f"{where}: {error}") from None
