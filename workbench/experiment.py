"""An experiment: a small TOML file, read strictly, run once, recorded as one MLflow run.

name = "response_gdsc2_unseen-subject"
study = "gdsc2"
endpoint = "ln_ic50"
split = "unseen subject"
folds = 5
seed = 0
predictors = ["drug_mean", "ridge", "drug_response"]
[parameters.drug_response]
members = 8
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from workbench import audits, figures, home, predict, predictors, score, train
from workbench.runs import Run, find, record
from workbench.splits import RULES, Split
from workbench.study import Study
from workbench.study import find as find_study
from workbench.text import nearest

Say = Callable[[float, str], None]  # (fraction of the whole done, what is going on)


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

    def __post_init__(self) -> None:
        offered = predictors.offered()
        if self.split not in RULES:
            raise ExperimentError(f"split is one of {list(RULES)}; found {self.split!r}.{nearest(self.split, RULES)}")
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
        for key in ("predictors", "only", "require"):
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
        for key in ("predictors", "require", "only"):
            plain[key] = list(plain[key])
        return plain


def read(path: Path | str) -> Experiment:
    """Read an experiment file.

    Raises
    ------
    ExperimentError
        Not TOML, an unknown key (with the nearest), a missing or ill-typed one.
    """
    path = Path(path)
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")]) if path.parent.is_dir() else ""
        raise ExperimentError(f"{path}: there is no such file.{near}")
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} is not TOML: {error}.") from None
    return of(given, str(path))


def of(given: dict[str, Any], where: str = "experiment") -> Experiment:
    """An Experiment of plain values; lists become tuples, and every type is checked."""
    known = {f.name: f for f in fields(Experiment)}
    kinds = {"str": str, "int": int, "tuple[str, ...]": (list, tuple), "tuple[int, ...]": (list, tuple)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise ExperimentError(f"{where}: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")
        wanted = kinds.get(str(known[key].type), dict)
        if not isinstance(value, wanted) or isinstance(value, bool):  # type: ignore[arg-type]
            raise ExperimentError(f"{where}: {key} should be {known[key].type}, found {value!r}.")
        item = {"tuple[str, ...]": str, "tuple[int, ...]": int}.get(str(known[key].type))
        if item and (odd := [v for v in value if not isinstance(v, item) or isinstance(v, bool)]):
            raise ExperimentError(f"{where}: {key} should hold {item.__name__} only, found {odd[0]!r}.")
        values[key] = tuple(value) if isinstance(value, list) else value
    try:
        return Experiment(**values)
    except TypeError as error:
        raise ExperimentError(f"{where}: {str(error).replace('Experiment.__init__() ', '')}.") from None
    except ValueError as error:
        raise ExperimentError(f"{where}: {error}") from None


def run(
    experiment: Experiment,
    *,
    say: Say | None = None,
    stopped: Callable[[], bool] | None = None,
    point: Callable[[str, int, int, dict[str, float]], None] | None = None,
    **trainer: Any,
) -> Run:
    """Run every predictor on every fold, score, and record it all; returns the run, read back from MLflow.

    Parameters
    ----------
    say : progress of the whole
    stopped : True ends the run as KILLED (raises ``train.Stopped``); checkpoints stay for the next attempt
    point : called with (predictor, fold, epoch, {curve: value}) as a learning curve grows
    trainer : accelerator, devices, strategy, num_nodes for Lightning
    """
    study = Study.open(find_study(experiment.study))
    split = experiment.divide(study)
    taken = study.outcomes.filter(pl.col("endpoint").cast(pl.String) == experiment.endpoint)
    told = experiment.flat() | {"split digest": split.digest}
    scored: list[pl.DataFrame] = []
    curves: list[pl.DataFrame] = []
    leaning: list[pl.DataFrame] = []
    steps = _Steps(experiment, say)
    with record(told, study.digest, study.name, taken) as parent:
        heard = None if say is None else (lambda done, what: say(0.0, f"audit: {what}"))
        parent.tables({"FINDINGS": audits.run(study, split, say=heard, stopped=stopped)})
        for number in experiment.numbers:
            fold = split.fold(number)
            base = predict.baseline(fold)
            for name in experiment.predictors:
                given = experiment.parameters.get(name, {})
                predictor = predictors.make(name, **given)
                mark = _fingerprint(experiment, study.digest, split.digest, name, number)
                with parent.child(
                    name,
                    number,
                    given | {"seed": experiment.seed},
                    training=split.folds[number][0],
                    test=split.folds[number][1],
                ) as child:
                    curve = train.fit(
                        predictor,
                        fold,
                        checkpoint=home.checkpoints() / f"{mark[:24]}.ckpt",
                        report=steps.within(name, number),
                        stopped=stopped,
                        point=None if point is None else (lambda e, v, n=name, k=number: point(n, k, e, v)),  # type: ignore[misc]
                        fingerprint=mark,
                        **trainer,
                    )
                    answer = score.unseal(predict.predictions(predictor, fold, base), fold)
                    metrics, _ = score.evaluate(answer, [], draws=1)
                    child.metrics(_headline(metrics))
                    if curve.height:
                        child.curve(curve)
                    child.model(
                        name, predictor.config(), predictor.arrays(), fold.test.select("subject", "treatment").head(5)
                    )
                    lean = attributions(predictor, fold)
                    child.tables({"PREDICTIONS": answer} | ({"ATTRIBUTIONS": lean} if lean.height else {}))
                steps.done(name)
                scored.append(answer)
                curves.append(curve)
                leaning.append(lean)
        if say is not None:
            say(0.97, "scoring: bootstrap over " + score.resampled(experiment.split) + "s")
        predictions = pl.concat(scored)
        metrics, comparisons = score.evaluate(predictions, predictors.naive_names(), experiment.draws, experiment.seed)
        joined = pl.concat(curves)
        parent.tables({"PREDICTIONS": predictions, "METRICS": metrics, "COMPARISONS": comparisons})
        parent.tables({"ATTRIBUTIONS": pl.concat(leaning), "CURVES": joined})
        parent.metrics(_headline(metrics, by_predictor=True))
        for name, figure in figures.story(metrics, predictions, joined).items():
            parent.figure(name, figure)
        run_id = parent.run_id
    if say is not None:
        say(1.0, "done")
    return find(run_id)


def attributions(predictor: predictors.Predictor, fold) -> pl.DataFrame:
    """``tables.ATTRIBUTIONS`` of a fitted predictor."""
    from workbench import tables

    frame = predictor.attributions()
    if not frame.height:
        return tables.empty(tables.ATTRIBUTIONS)
    return tables.check(
        frame.with_columns(
            pl.lit(predictor.name).alias("predictor"),
            pl.lit(fold.rule).alias("split"),
            pl.lit(fold.number, pl.Int32).alias("fold"),
            pl.lit(f"{fold.unit} per sd").alias("unit"),
        ),
        tables.ATTRIBUTIONS,
    )


def _headline(metrics: pl.DataFrame, by_predictor: bool = False) -> dict[str, float]:
    whole = metrics.filter((pl.col("fold") == "all") & pl.col("value").is_not_null())
    rows = whole.select("predictor", "metric", "value").iter_rows()
    return {f"{p} {m}" if by_predictor else m: v for p, m, v in rows}


def _fingerprint(experiment: Experiment, study: str, split: str, name: str, number: int) -> str:
    given = predictors.offered()[name].DEFAULTS | experiment.parameters.get(name, {})  # type: ignore[attr-defined]
    told = json.dumps([experiment.name, study, split, name, given, number], sort_keys=True, default=list)
    return hashlib.sha256(told.encode()).hexdigest()


class _Steps:
    """Fraction of the whole experiment: a predictor's share is what its kind usually costs."""

    COST: ClassVar[dict[str, float]] = {"ridge": 12.0, "trees": 40.0, "drug_response": 60.0}

    def __init__(self, experiment: Experiment, say: Say | None) -> None:
        self.say, self.spent = say, 0.0
        self.cost = {p: self.COST.get(p, 0.5) for p in experiment.predictors}
        self.total = len(experiment.numbers) * sum(self.cost.values()) / 0.95

    def within(self, name: str, number: int) -> predictors.Report | None:
        if self.say is None:
            return None
        say = self.say
        say(self.spent / self.total, f"fold {number}, {name}")
        return lambda done, message: say(
            (self.spent + done * self.cost[name]) / self.total, f"fold {number}, {name}: {message}"
        )

    def done(self, name: str) -> None:
        self.spent += self.cost[name]
