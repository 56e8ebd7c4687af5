"""Running an experiment: every entry on every fold, scored, and recorded as one MLflow run that can be gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import polars as pl

from workbench import audits, figures, home, predict, predictors, runs, score, tables, train, tuning
from workbench.experiment import entries
from workbench.experiment.entries import Entry
from workbench.experiment.spec import Experiment
from workbench.splits import Fold, Split
from workbench.study import Study
from workbench.study import find as find_study

Say = Callable[[float, str], None]  # (fraction of the whole done, what is going on)
Point = Callable[[str, int, int, dict[str, float]], None]
TUNED = "workbench.tuned"  # tag: parameters that tuning chose


def run(
    experiment: Experiment,
    *,
    say: Say | None = None,
    stopped: Callable[[], bool] | None = None,
    point: Point | None = None,
    **trainer: Any,
) -> runs.Run:
    """Run every predictor on every fold, score, and record it all; returns the run, read back from MLflow.

    What a run of the same experiment had finished before it was stopped is taken over if data, parameters and the code
    that fits are still the same.

    Parameters
    ----------
    say : progress of the whole
    stopped : True ends the run as KILLED (raises ``train.Stopped``); what is finished stays for the next attempt
    point : called with (predictor, fold, epoch, {curve: value}) as a learning curve grows
    trainer : accelerator, devices, strategy, num_nodes for Lightning
    """
    study = Study.open(find_study(experiment.study))
    others = {name: Study.open(find_study(name)) for name in experiment.elsewhere}
    split = experiment.divide(study)
    taken = study.outcomes.filter(pl.col("endpoint").cast(pl.String) == experiment.endpoint)
    told = experiment.flat() | {"split digest": split.digest}
    done = runs.finished(experiment.name)
    with runs.record(told, study.digest, study.name, taken) as parent:
        heard = None if say is None else (lambda fraction, what: say(0.0, f"audit: {what}"))
        parent.tables({"FINDINGS": audits.run(study, split, say=heard, stopped=stopped)})
        work = _Work(experiment, study, split, others, parent, done, _Steps(experiment, say), stopped, point, trainer)
        for number in experiment.numbers:
            work.fold(number)
        if say is not None:
            say(0.97, "scoring: bootstrap over " + score.resampled(experiment.split) + "s")
        conclude(experiment, parent, work.kept)
        run_id = parent.run_id
    if say is not None:
        say(1.0, "done")
    return runs.find(run_id)


def standing(experiment: Experiment) -> runs.Run | None:
    """The newest finished run of this experiment on the same data, by the same code; None where there is none."""
    study = Study.open(find_study(experiment.study))
    split, others = experiment.divide(study), [Study.open(find_study(name)) for name in experiment.elsewhere]
    digest = " ".join(s.digest for s in (study, *others))
    plain = [e for e in entries.of(experiment) if e.plain]
    wanted = {entries.mark(experiment, digest, split.digest, e, k, {}) for e in plain for k in experiment.numbers}
    past = runs.runs().filter(pl.col("experiment") == experiment.name, pl.col("status") == "FINISHED")
    for run_id in past["run_id"]:
        run = runs.find(run_id)
        told = json.loads(json.dumps(experiment.flat()))
        try:
            if {k: v for k, v in run.params.items() if k != "split digest"} != told:
                continue
        except runs.RunError:  # damaged since it was recorded
            continue
        if wanted <= {c.data.tags.get(runs.MARK) for c in run.children}:
            return run
    return None


@dataclass
class _Work:
    """The fits of one run; ``kept`` collects their tables by name."""

    experiment: Experiment
    study: Study
    split: Split
    others: dict[str, Study]
    parent: runs.Recording
    done: dict[str, runs.Run]
    steps: _Steps
    stopped: Callable[[], bool] | None
    point: Point | None
    trainer: dict[str, Any]
    kept: dict[str, list[pl.DataFrame]] = field(default_factory=dict)

    def fold(self, number: int) -> None:
        """Every entry on one fold; a predictor's variants come after it and take the parameters tuned for it."""
        fold = self.split.fold(number)
        base, tuned = predict.baseline(fold), dict[str, dict[str, Any]]()
        for entry in entries.of(self.experiment):
            name, before = entry.predictor, {} if entry.plain else tuned.get(entry.predictor, {})
            mark = entries.mark(self.experiment, self._digest(), self.split.digest, entry, number, before)
            found = self._taken_over(mark)
            if found is not None:
                tuned[name] = json.loads(self.done[mark].tags.get(TUNED, "{}")) if entry.plain else tuned.get(name, {})
            else:
                found, chosen = self._fit(entry, entry.seen(fold, self.experiment.seed), base, before, mark)
                tuned[name] = chosen if entry.plain else tuned.get(name, {})
            for table, frame in found.items():
                self.kept.setdefault(table, []).append(frame)
            self.steps.done(entry)

    def _taken_over(self, mark: str) -> dict[str, pl.DataFrame] | None:
        """Tables of a nested run finished before, now one of this run; None where there is none, or none to be read."""
        if (run := self.done.get(mark)) is None:
            return None
        try:
            found = {t: run.table(t) for t in ("PREDICTIONS", "ATTRIBUTIONS", "CURVES", "TRIALS", "ELSEWHERE")}
        except runs.RunError:  # damaged since: it stays where it is, and is made anew
            return None
        return found if runs.adopt(self.parent, run) else None

    def _digest(self) -> str:
        return " ".join([self.study.digest, *(other.digest for other in self.others.values())])

    def _fit(
        self, entry: Entry, fold: Fold, base: pl.Series, before: dict[str, Any], mark: str
    ) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
        e, name = self.experiment, entry.predictor
        given, chosen = e.parameters.get(name, {}), before
        report = self.steps.within(entry, fold.number)
        training, test = fold.train["row"].to_numpy(), fold.test["row"].to_numpy()
        told = given | {"seed": e.seed} | ({} if entry.plain else {"permuted": entry.permuted, "share": entry.share})
        with self.parent.child(entry.label, fold.number, told, training=training, test=test) as child:
            out: dict[str, pl.DataFrame] = {}
            if entry.plain and name in e.tuning:
                how = tuning.Tuning.of(name, e.tuning[name])
                chosen, trials = tuning.tune(name, fold, given, how, mark=mark, report=report, stopped=self.stopped)
                out["TRIALS"] = trials
                child.tag({TUNED: json.dumps(chosen, default=list)})
            predictor = predictors.make(name, **(given | chosen))
            point = None if self.point is None else self._point(entry.label, fold.number)
            curve = train.fit(
                predictor,
                fold,
                checkpoint=home.checkpoints() / f"{mark[:24]}.ckpt",
                report=report,
                stopped=self.stopped,
                point=point,
                fingerprint=f"{mark} {json.dumps(chosen, sort_keys=True, default=list)}",
                **self.trainer,
            )
            answer = named(score.unseal(predict.predictions(predictor, fold, base), fold), entry)
            metrics, _ = score.evaluate(answer, [], draws=1)
            child.metrics(headline(metrics))
            if curve.height:
                child.curve(curve := named(curve, entry))
            lean = named(attributions(predictor, fold), entry)
            if entry.plain:
                example = fold.test.select("subject", "treatment").head(5)
                child.model(name, predictor.config(), predictor.arrays(), example)
                if self.others:
                    out["ELSEWHERE"] = self._elsewhere(predictor, fold)
            child.tables({"PREDICTIONS": answer} | ({"ATTRIBUTIONS": lean} if lean.height else {}) | out)
            child.tag({runs.MARK: mark})
        return {"PREDICTIONS": answer, "ATTRIBUTIONS": lean, "CURVES": curve} | out, chosen

    def _point(self, label: str, number: int) -> Callable[[int, dict[str, float]], None]:
        return lambda epoch, values: self.point(label, number, epoch, values)  # type: ignore[misc]

    def _elsewhere(self, predictor: predictors.Predictor, fold: Fold) -> pl.DataFrame:
        from workbench import across

        found = [across.predictions_elsewhere(predictor, fold, o, fold.endpoint) for o in self.others.values()]
        return pl.concat([f for f in found if f.height] or [tables.empty(tables.ELSEWHERE)])


def conclude(experiment: Experiment, parent: runs.Recording, kept: dict[str, list[pl.DataFrame]]) -> None:
    """Score what was predicted and record tables, headline figures and pictures."""
    whole = {name: pl.concat([f for f in frames if f.height] or frames[:1]) for name, frames in kept.items()}
    predictions = whole["PREDICTIONS"]
    naive = predictors.naive_names()
    metrics, comparisons = score.evaluate(predictions, naive, experiment.draws, experiment.seed)
    parent.tables({"PREDICTIONS": predictions, "METRICS": metrics, "COMPARISONS": comparisons})
    parent.tables({name: whole[name] for name in ("ATTRIBUTIONS", "CURVES", "TRIALS") if name in whole})
    if "ELSEWHERE" in whole and (elsewhere := whole["ELSEWHERE"]).height:
        scored = [
            score.evaluate(part, naive, experiment.draws, experiment.seed)
            for _, part in elsewhere.group_by("split", maintain_order=True)
        ]
        parent.tables({"ELSEWHERE": elsewhere, "METRICS_ELSEWHERE": pl.concat([m for m, _ in scored])})
        parent.tables({"COMPARISONS_ELSEWHERE": pl.concat([c for _, c in scored])})
    parent.metrics(headline(metrics, by_predictor=True))
    plain = pl.col("predictor").cast(pl.String).is_in(list(experiment.predictors))
    for name, figure in figures.story(*(t.filter(plain) for t in (metrics, predictions, whole["CURVES"]))).items():
        parent.figure(name, figure)
    for name, figure in figures.checks(metrics, [e for e in entries.of(experiment) if not e.plain]).items():
        parent.figure(name, figure)


def named(frame: pl.DataFrame, entry: Entry) -> pl.DataFrame:
    """The frame with the entry's label as its predictor."""
    return frame.with_columns(pl.lit(entry.label).alias("predictor")) if frame.height else frame


def attributions(predictor: predictors.Predictor, fold: Fold) -> pl.DataFrame:
    """``tables.ATTRIBUTIONS`` of a fitted predictor."""
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


def headline(metrics: pl.DataFrame, by_predictor: bool = False) -> dict[str, float]:
    """{metric: value over all folds}, or {"predictor metric": value}."""
    whole = metrics.filter((pl.col("fold") == "all") & pl.col("value").is_not_null())
    rows = whole.select("predictor", "metric", "value").iter_rows()
    return {f"{p} {m}" if by_predictor else m: v for p, m, v in rows}


class _Steps:
    """Fraction of the whole experiment: an entry's share is what it cost on the folds before, or what is usual."""

    USUAL: ClassVar[dict[str, float]] = {"ridge": 12.0, "trees": 40.0, "drug_response": 60.0}

    def __init__(self, experiment: Experiment, say: Say | None) -> None:
        self.say, self.folds, self.spent = say, len(experiment.numbers), 0.0
        self.entries = entries.of(experiment)
        self.cost = {e.label: self._guess(experiment, e) for e in self.entries}
        self.began, self.last = time.monotonic(), 0.0
        self.left = {e.label: self.folds for e in self.entries}

    def _guess(self, experiment: Experiment, entry: Entry) -> float:
        usual = self.USUAL.get(entry.predictor, 0.5) * entry.share
        tries = experiment.tuning.get(entry.predictor, {}).get("trials", 20) if entry.plain else 0
        return usual * (1 + (0.3 * tries if entry.predictor in experiment.tuning else 0))

    def within(self, entry: Entry, number: int) -> predictors.Report | None:
        if self.say is None:
            return None
        self.began = time.monotonic()
        self._tell(0.0, f"fold {number}, {entry.label}")
        cost = self.cost[entry.label]
        return lambda done, message: self._tell(done * cost, f"fold {number}, {entry.label}: {message}")

    def _tell(self, more: float, message: str) -> None:
        total = self.spent + sum(self.cost[label] * n for label, n in self.left.items())
        self.last = max(self.last, min(0.95, 0.95 * (self.spent + more) / max(total, 1e-9)))
        if self.say is not None:
            self.say(self.last, message)

    def done(self, entry: Entry) -> None:
        took = time.monotonic() - self.began
        self.cost[entry.label] = took
        self.spent, self.began = self.spent + took, time.monotonic()
        self.left[entry.label] -= 1
