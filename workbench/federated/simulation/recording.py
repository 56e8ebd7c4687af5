"""A simulated federation as one MLflow run: the trained predictor, its scores, every round, every site.

One nested run for predictor and fold, as any run has; under the run one more a site and fold, with the site's figures
by round and the scores on its own test rows. It ends FINISHED, FAILED or KILLED, and a killed one is gone on with:
finished folds are taken over, the one that was stopped starts after its last round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import predict, predictors, runs, score, tables
from workbench.federated import task
from workbench.federated.messages import Value
from workbench.federated.spec import PRETRAINED, Federation
from workbench.federated.state import figures
from workbench.federated.watched import checked
from workbench.federated.worth import arms, encoders
from workbench.study import Study, find

if TYPE_CHECKING:
    from workbench.federated.private.accounting import Spent
    from workbench.federated.simulation.simulate import Fitted

Say = Callable[[float, str], None]
Point = Callable[[int, Mapping[str, Value]], None]
Train = Callable[[int, Say | None, Point], "Fitted"]

HALF = 0.5
KEPT = ("PREDICTIONS", "FEDERATION_ROUNDS", "FEDERATION_PREDICTIONS", "FEDERATION_COSTS")


def run(federation: Federation, train: Train, engine: str, say: Say | None = None) -> runs.Run:
    """Train on every fold by ``train(number, say, point)``, score and record; returns the run, read back."""
    from workbench.federated.simulation import simulate

    plan = federation.experiment
    study = Study.open(find(plan.study))
    split = federation.divide(study)
    taken = study.outcomes.filter(pl.col("endpoint").cast(pl.String) == plan.endpoint)
    told = plan.flat() | {"federation": federation.plain()["federation"], "split digest": split.digest}
    done = runs.finished(federation.name)
    numbers, kept = plan.numbers, list[dict[str, pl.DataFrame]]()
    with runs.record(told, study.digest, study.name, taken) as parent:
        parent.tag({"federation.engine": engine, "federation.method": federation.method})
        for at, number in enumerate(numbers):
            mark = simulate.mark(federation, number)
            found = _taken_over(parent, done, mark)
            if found is None:
                heard = None if say is None else _share(say, at, len(numbers))
                found = _fold(federation, parent, train, number, heard, mark)
            kept.append(found)
        predictions = pl.concat([k["PREDICTIONS"] for k in kept])
        naive = [n for n in predictors.naive_names() if n != federation.predictor]
        metrics, comparisons = score.evaluate(predictions, naive, plan.draws, plan.seed)
        parent.tables({"PREDICTIONS": predictions, "METRICS": metrics, "COMPARISONS": comparisons})
        for name in KEPT[1:]:
            parent.tables({name: pl.concat([k[name] for k in kept])})
        own = metrics.filter(pl.col("predictor").cast(pl.String) == federation.predictor)
        parent.metrics(headline(own))
        run_id = parent.run_id
    if say is not None:
        say(1.0, "done")
    return runs.find(run_id)


def _fold(
    federation: Federation, parent: runs.Recording, train: Train, number: int, say: Say | None, mark: str
) -> dict[str, pl.DataFrame]:
    plan, name = federation.experiment, federation.predictor
    fold, dealt = task.opened(federation, number)
    training, test = fold.train["row"].to_numpy(), fold.test["row"].to_numpy()
    told = dict(plan.parameters.get(name, {})) | {"method": federation.method, "seed": plan.seed}
    with parent.child(name, number, told, training=training, test=test) as child:
        told_by_round: list[tuple[int, str, float]] = []

        def point(step: int, values: Mapping[str, Value]) -> None:
            told_by_round.extend((step, name, value) for name, value in figures(values).items())
            child.metrics(figures(values), step)

        heard = say
        if say is not None and federation.arms:  # what is trained beside it takes as long
            heard = lambda done, what: say(HALF * done, what)  # noqa: E731
        made = train(number, heard, point)
        base = predict.baseline(fold)
        answer = score.unseal(predict.predictions(made.predictor, fold, base), fold)
        child.metrics(_scored(answer))
        learnt: dict[str, Any] = {}  # what encoders of sites' own know
        told_apart = pl.concat([arms.of("federated", answer, dealt), *_arms(federation, made, base, say, learnt)])
        example = fold.test.select("subject", "treatment").head(5)
        child.model(name, made.predictor.config(), made.predictor.arrays(), example)
        whole = _whole(getattr(made.predictor, "points_", None) or told_by_round)
        rounds = pl.concat([made.watched.rounds(), whole, _set_aside(made.predictor)])
        if (encoder := getattr(made.predictor, "encoder_", None)) is not None:
            step = max(at for at, _, _ in encoder.points_)
            rounds = pl.concat([rounds, encoders.rounds(encoder.explained_, step)])
            rounds = pl.concat([rounds, *(encoders.rounds(e, step, site) for site, e in learnt.items())])
        spent = getattr(made.predictor, "spent_", None)  # private.accounting.Spent, of a private training
        made_tables = {
            "PREDICTIONS": pl.concat([answer, *_naive(federation, fold, base)]), "FEDERATION_ROUNDS": rounds,
            "FEDERATION_PREDICTIONS": told_apart, "FEDERATION_COSTS": _costs(fold, dealt, rounds, spent),
        }  # fmt: skip
        child.tables(made_tables)
        for site, subjects in dealt.items():
            own = answer.filter(pl.col("subject").is_in(subjects))
            _site(parent, federation, number, site, own, rounds, made.watched.heads().get(site, ""))
        if encoder is not None:
            _encoder(parent, number, encoder, example)
        if spent is not None:
            child.metrics({"epsilon": spent.epsilon})
            child.tag({"privacy": f"delta {spent.delta:g}, unit {spent.unit}, accountant {spent.accountant}"})
        if ended := getattr(made.predictor, "ended_", ""):  # privacy budgets were spent before the last round
            child.tag({"ended early": ended})
        if left_out := getattr(made.predictor, "left_out_", {}):
            child.tag({"left out": "; ".join(f"{what}: {why}" for what, why in left_out.items())[:4000]})
        child.tag({runs.MARK: mark})
    return made_tables


def _encoder(parent: runs.Recording, number: int, encoder: Any, example: pl.DataFrame) -> None:
    """The nested run of an encoder that sites learnt together: for heads of their own, it comes back by this name."""
    with parent.child("encoder", number, {}) as child:
        told = {f"masked R2{'' if e.modality == 'all' else f' {e.modality}'}": e for e in encoder.explained_}
        ends = {f"{name} {end}": float(getattr(e, end)) for name, e in told.items() for end in ("low", "high")}
        figures = {name: float(e.value) for name, e in told.items()} | ends
        child.metrics({k: v for k, v in figures.items() if v == v})  # NaN: too few persons at every site
        child.model("encoder", encoder.config(), encoder.arrays(), example)


def _whole(points: list[tuple[int, str, float]]) -> pl.DataFrame:
    """FEDERATION_ROUNDS rows of the federation's own figures: (round, name, value) each."""
    rows = [(step, None, name, value, None, None, None, None) for step, name, value in points]
    schema = dict(tables.FEDERATION_ROUNDS.columns)
    return tables.check(pl.DataFrame(rows, schema=schema, orient="row"), tables.FEDERATION_ROUNDS)


def _set_aside(predictor: Any) -> pl.DataFrame:
    """FEDERATION_ROUNDS rows of sites whose update a robust rule left out, with the reason."""
    rows = [
        (told["round"], site, "set aside", None, None, None, None, f"set aside: {why}")
        for told in getattr(predictor, "rounds_", [])
        for site, why in told.get("set_aside", {}).items()
    ]
    schema = dict(tables.FEDERATION_ROUNDS.columns)
    return tables.check(pl.DataFrame(rows, schema=schema, orient="row"), tables.FEDERATION_ROUNDS)


def _arms(
    federation: Federation, made: Fitted, base: pl.Series, say: Say | None, learnt: dict[str, Any]
) -> list[pl.DataFrame]:
    """Predictions of the arms beside the federation; ``learnt`` gets what each site's own encoder knows."""
    if not federation.arms:
        return []
    fold, dealt = made.fold, made.dealt
    many, begun = len(federation.arms) * len(dealt), 0  # pooled takes as long as all of alone

    def tell(what: str) -> None:
        nonlocal begun
        if say is not None:
            say(HALF + 0.95 * HALF * begun / many, f"in one house, {what}")
        begun += len(dealt) if what == "pooled" else 1

    parameters = federation.experiment.parameters.get(federation.predictor, {})
    out = arms.trained(federation.arms, federation.predictor, parameters, fold, dealt, base, tell)
    if set(federation.arms) & set(PRETRAINED):
        from workbench.federated.pretraining import arms as pretrained
        from workbench.federated.simulation import simulate

        free, told = task.free(federation, fold.number), simulate.settings(federation)
        out += pretrained.trained(federation.arms, made.predictor.encoder_, told, fold, dealt, free, base, learnt, tell)
    return out


def _costs(fold: Any, dealt: Any, rounds: pl.DataFrame, spent: Spent | None = None) -> pl.DataFrame:
    """``tables.FEDERATION_COSTS``: what each site brought, spent of its privacy and sent, and how often it had no part.

    ``spent`` is what the whole training cost; a site that left on the way spent less, one that sent nothing none.
    """
    asked = rounds.filter(pl.col("site").is_not_null() & (pl.col("bytes").is_not_null() | pl.col("lost").is_not_null()))
    rows = []
    for site, subjects in dealt.items():
        own = asked.filter(pl.col("site").cast(pl.String) == site)
        sent = own.drop_nulls("bytes")
        brought = fold.train.filter(pl.col("subject").is_in(subjects)).height
        lost = own.height - sent.height
        privacy = (None, None) if spent is None else (spent.epsilon if sent.height else 0.0, spent.delta)
        rows.append((site, brought, *privacy, int(sent["bytes"].sum()), sent.height, sent["round"].n_unique(), lost))
    return tables.check(
        pl.DataFrame(rows, schema=dict(tables.FEDERATION_COSTS.columns), orient="row"), tables.FEDERATION_COSTS
    )


def _site(
    parent: runs.Recording,
    federation: Federation,
    number: int,
    site: str,
    answer: pl.DataFrame,
    rounds: pl.DataFrame,
    head: str,
) -> None:
    """The nested run of one site: its figures by round, the bytes it sent, its scores, the newest hash of its book."""
    own = rounds.filter(pl.col("site").cast(pl.String) == site)
    with parent.child(f"{federation.predictor} at {site}", number, {"site": site}) as child:
        figures = own.drop_nulls("value").select("round", pl.col("name").cast(pl.String), "value")
        sent = own.group_by("round").agg(pl.lit("bytes sent").alias("name"), pl.col("bytes").sum().cast(pl.Float64))
        curve = pl.concat([figures, sent.rename({"bytes": "value"}).sort("round")]).rename({"round": "step"})
        if curve.height:  # all at once: one call a round would take longer than the rounds
            named = {"predictor": pl.lit(child.predictor), "fold": pl.lit(number, pl.Int32), "unit": pl.lit("")}
            child.curve(curve.with_columns(pl.col("step").cast(pl.Int64), **named))
        if answer.height:
            child.metrics(_scored(answer))
        lost = own.drop_nulls("lost").select("round", "name", "lost").unique(maintain_order=True)
        if lost.height:
            child.tag({"lost": "; ".join(f"round {r}, {p}: {why}" for r, p, why in lost.iter_rows())})
        if head:
            child.tag({"ledger head": head})
        if site in federation.faults:
            child.tag({"planted fault": str(dict(federation.faults[site]))})
        if judged := checked(own):
            child.tag({"checks": " ".join(judged)})


def _naive(federation: Federation, fold: Any, base: pl.Series) -> list[pl.DataFrame]:
    """Predictions of the naive family, fitted on the pooled training rows: what the score has to beat."""
    out = []
    for name in predictors.naive_names():
        if name != federation.predictor:
            fitted = predictors.make(name).fit(fold)
            out.append(score.unseal(predict.predictions(fitted, fold, base), fold))
    return out


def _taken_over(parent: runs.Recording, done: dict[str, runs.Run], mark: str) -> dict[str, pl.DataFrame] | None:
    if (run := done.get(mark)) is None:
        return None
    try:
        found = {t: run.table(t) for t in KEPT}
    except runs.RunError:  # damaged since: it stays where it is, and is made anew
        return None
    return found if runs.adopt(parent, run) else None


def _scored(answer: pl.DataFrame) -> dict[str, float]:
    return headline(score.evaluate(answer, [], draws=1)[0])


def headline(metrics: pl.DataFrame) -> dict[str, float]:
    """{metric: value over all folds} of the one predictor in ``metrics``."""
    whole = metrics.filter((pl.col("fold") == "all") & pl.col("value").is_not_null())
    return dict(whole.select("metric", "value").iter_rows())


def _share(say: Say, at: int, many: int) -> Say:
    return lambda done, what: say(0.97 * (at + done) / many, f"{what} ({at + 1} of {many} folds)")
