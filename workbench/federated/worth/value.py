"""Should my institution join? Alone, federated and pooled beside the naive value, on each site's own test rows.

Every arm of a site is scored on the rows that this site would want predicted, under one set of bootstrap draws, so
that differences are paired. The rule that turns them into a verdict, and its guard against many sites, is
``_verdict``'s; what the site paid (privacy, bytes, attacks) is joined where it is known and null where it is not.

Normalised metrics need one baseline for all arms. By default that of the federation: the mean effects of all training
rows. With the site's own means instead, their errors would stand on both sides of the correlation of whoever does not
share them, and flatter the federated arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from workbench import predictors, score, tables
from workbench.comparison._ranks import holm
from workbench.federated.watched import checked
from workbench.federated.worth import encoders as _encoders
from workbench.federated.worth import fairness as _fairness
from workbench.federated.worth.site_value import (
    ALONE,
    ARMS,
    FEDERATED,
    METRICS,
    OWN,
    PERSONALISED,
    POOLED,
    SHARED_ENCODER,
    SiteValue,
    WorthError,
)
from workbench.text import in_order, nearest

LEAST = 0.02  # of a correlation, unless the site says otherwise
SHARE = 0.01  # of the site's own RMSE: about what 0.02 more of a correlation near 0.5 takes from an error

Least = Mapping[str, float] | Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Value:
    """What a federation is worth.

    Attributes
    ----------
    sites : FEDERATION_VALUE, one row a site, arm and metric
    verdicts : FEDERATION_VERDICTS, one row a site and arm that it could join for
    overall : what the federation gains and how that is shared: ``_fairness.OVERALL``
    attacks : FEDERATION_ATTACKS, as given; empty where nothing was attacked
    notes : what to know before reading
    encoders : what the encoders of a pretraining know, ``_encoders.SCHEMA``; empty where there was none
    """

    sites: pl.DataFrame
    verdicts: pl.DataFrame
    overall: pl.DataFrame
    attacks: pl.DataFrame = field(default_factory=lambda: tables.empty(tables.FEDERATION_ATTACKS))
    notes: tuple[str, ...] = ()
    encoders: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_encoders.SCHEMA))


def worth(
    predictions: pl.DataFrame,
    *,
    least: Least | None = None,
    decides: str = METRICS[0],
    baseline: str = FEDERATED,
    costs: pl.DataFrame | None = None,
    attacks: pl.DataFrame | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Value:
    """Judge each site of a federation by its own test rows.

    Parameters
    ----------
    predictions
        FEDERATION_PREDICTIONS, unsealed (``score.unseal``), of any predictors and splits; rows of the naive family
        give the naive value (without any: the mean effects of the training rows of alone). A further column
        ``person`` is drawn in place of subjects.
    least
        The least difference that matters, by metric, in its unit; or by site, then metric. Default: 0.02 of a
        correlation, 1 % of the site's own RMSE.
    decides
        The main metric that must gain; by none of the others may a site lose what matters.
    baseline
        The arm whose baseline all share in normalised metrics, or "own".
    costs, attacks
        FEDERATION_COSTS and FEDERATION_ATTACKS, where they were measured.
    draws, seed
        Of the bootstrap.

    Raises
    ------
    WorthError
        Targets are sealed, an arm is unknown, a site lacks "alone", or a metric or site of ``least`` is unknown.
    """
    frame, unit = _checked(predictions, decides, baseline)
    _known(least, frame["site"].unique().to_list())
    costs = _added(_table(costs, tables.FEDERATION_COSTS))
    attacks = _table(attacks, tables.FEDERATION_ATTACKS)
    naive = pl.col("predictor").is_in(list(predictors.naive_names()))
    models = frame.filter(~naive)
    if models.is_empty():
        raise WorthError("every predictor is of the naive family; there is nothing to join for.")
    rows: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    parts: list[_fairness.Part] = []
    notes: list[str] = []
    for (predictor, split), group in models.group_by("predictor", "split", maintain_order=True):
        drawn = unit if score.resampled(str(split)) == "subject" else "treatment"
        beside = frame.filter(naive, pl.col("split") == split)
        names = in_order(group["site"].unique())
        for i, site in enumerate(names):
            own = pl.col("site") == site
            one = SiteValue(group.filter(own), beside.filter(own), drawn, baseline, draws, 1000 * seed + i)
            notes += one.notes
            where = {"predictor": predictor, "split": split, "site": site}
            matters = _least(least, site, one)
            rows += [{**where, **row} for row in one.scores(matters, len(names))]
            of_site = attacks.filter((pl.col("site") == site) | pl.col("site").is_null())
            for arm in (FEDERATED, PERSONALISED, SHARED_ENCODER):
                if arm not in one.arms.frames:
                    continue
                told.append({**where, "arm": arm, **one.verdict(arm, matters, len(names), decides, of_site)})
                parts += [
                    _fairness.Part({**where, "arm": arm, "metric": m}, *scores) for m, scores in one.beside_alone(arm)
                ]
    sites = _with_holm(rows)
    schema = {c: t for c, t in tables.FEDERATION_VERDICTS.columns.items() if c in told[0]}
    verdicts = pl.DataFrame(told, schema=schema).join(costs, on="site", how="left", maintain_order="left")
    return Value(
        tables.check(sites, tables.FEDERATION_VALUE),
        tables.check(verdicts, tables.FEDERATION_VERDICTS),
        _fairness.overall(parts, verdicts),
        attacks,
        tuple(dict.fromkeys([*notes, *_many(models["site"].n_unique())])),
    )


def of_run(run: Any, **options: Any) -> Value:
    """``worth`` of a recorded federation (a ``runs.Run``): its arms, costs, attacks, and its naive predictors.

    Raises
    ------
    WorthError
        The run holds no predictions by site, or no site was trained alone.
    """
    frame = run.table("FEDERATION_PREDICTIONS")
    if frame.is_empty():
        raise WorthError(
            f"run {run.name!r} holds no predictions by site; it is no federation. Make one: "
            "workbench federate simulate EXPERIMENT"
        )
    keys = ["split", "fold", "row"]
    owner = frame.select(*keys, "site").unique(maintain_order=True)
    family = pl.col("predictor").cast(pl.String).is_in(list(predictors.naive_names()))
    naive = run.table("PREDICTIONS").filter(family).with_columns(pl.col("split", "predictor").cast(pl.String))
    there = frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).filter(~family)
    beside = naive.join(
        owner.with_columns(pl.col("split").cast(pl.String)), on=keys, how="inner", maintain_order="left"
    )
    beside = beside.with_columns(pl.lit(POOLED).alias("arm")).select(frame.columns)
    schema = pl.Schema(tables.FEDERATION_PREDICTIONS.columns)
    found = worth(
        pl.concat([there.cast(schema), beside.cast(schema)]) if there.height else frame.cast(schema),
        **{"costs": run.table("FEDERATION_COSTS"), "attacks": run.table("FEDERATION_ATTACKS"), **options},
    )
    rounds = run.table("FEDERATION_ROUNDS")
    return replace(found, notes=(*found.notes, *checked(rounds)), encoders=_encoders.of(rounds))


def _many(sites: int) -> list[str]:
    if sites < 2:
        return []
    return [
        f"{sites} sites are judged at once: a join needs an interval that holds for all {sites} together (Bonferroni), "
        "and p values are Holm's over the sites; a warning of harm needs the site's own 95 % interval only."
    ]


def _with_holm(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """FEDERATION_VALUE of rows, with p values adjusted over the sites of one metric and arm."""
    frame = pl.DataFrame(rows, schema=dict(tables.FEDERATION_VALUE.columns)).with_row_index("at")
    done = [
        g.with_columns(p_holm=pl.Series(holm(g["p"].fill_null(float("nan")).to_numpy()), dtype=pl.Float64))
        for _, g in frame.group_by("predictor", "split", "arm", "metric", maintain_order=True)
    ]
    return pl.concat(done).sort("at").drop("at").with_columns(pl.col(pl.Float64).fill_nan(None))


def _checked(predictions: pl.DataFrame, decides: str, baseline: str) -> tuple[pl.DataFrame, str]:
    """The table, with the column of what is drawn where subjects are: "subject" or "person"."""
    if decides not in METRICS:
        raise WorthError(
            f"decides {decides!r} is none of the main metrics {', '.join(METRICS)}.{nearest(decides, METRICS)}"
        )
    if baseline not in (*ARMS, OWN):
        raise WorthError(f"baseline {baseline!r} is no arm and not {OWN!r}.{nearest(baseline, [*ARMS, OWN])}")
    person = [c for c in ("person",) if c in predictions.columns]
    frame = tables.check(predictions.drop(person), tables.FEDERATION_PREDICTIONS).with_columns(
        predictions[c] for c in person
    )
    if frame.is_empty():
        raise WorthError("there are no predictions to judge.")
    if strange := sorted(set(frame["arm"].unique()) - set(ARMS)):
        raise WorthError(f"arm {strange[0]!r} is unknown.{nearest(strange[0], ARMS)} Known: {', '.join(ARMS)}.")
    if sealed := frame["observed"].null_count():
        raise WorthError(f"{sealed:,} rows have no observed value; open the targets with score.unseal first.")
    keys = ["predictor", "split", "site", "arm", "fold", "row"]
    if frame.select(keys).is_duplicated().any():
        twice = frame.filter(frame.select(keys).is_duplicated()).row(0, named=True)
        raise WorthError(f"row {twice['row']} of site {twice['site']!r} stands twice in arm {twice['arm']!r}.")
    return frame, person[0] if person else "subject"


def _table(frame: pl.DataFrame | None, table: tables.Table) -> pl.DataFrame:
    """The frame in the table's form; a column that it lacks was not measured."""
    if frame is None:
        return tables.empty(table)
    lacking = [pl.lit(None, t).alias(c) for c, t in table.columns.items() if c not in frame.columns]
    cast = {c: t for c, t in table.columns.items() if c in frame.columns}
    return tables.check(frame.cast(cast).with_columns(lacking), table)  # type: ignore[arg-type]


def _added(costs: pl.DataFrame) -> pl.DataFrame:
    """One row a site: folds are added up, but for the rows it brought; what one of them did not measure is null.

    Privacy adds up as well: epsilons to epsilons, deltas to deltas (Dwork and Roth 2014, theorem 3.16).
    """
    whole = [c for c in tables.FEDERATION_COSTS.columns if c not in ("site", "rows")]
    added = costs.group_by("site", maintain_order=True).agg(
        pl.col("rows").max(), *(pl.when(pl.col(c).null_count() == 0).then(pl.col(c).sum()) for c in whole)
    )
    return added.select(list(tables.FEDERATION_COSTS.columns))


def _known(least: Least | None, sites: list[str]) -> None:
    for name, value in (least or {}).items():
        if isinstance(value, Mapping):
            if name not in sites:
                raise WorthError(f"least names a site {name!r} that has no predictions.{nearest(name, sites)}")
            _known(value, sites)
        elif name not in METRICS:
            raise WorthError(f"least names {name!r}, which is no main metric.{nearest(name, METRICS)}")
        elif not 0 <= value < float("inf"):
            raise WorthError(f"least of {name} is {value}; give a number from 0 up.")


def _least(least: Least | None, site: str, one: SiteValue) -> dict[str, float]:
    """What matters to a site, by metric."""
    default = {m: SHARE * one.arms.value(ALONE, m).value if m == "RMSE" else LEAST for m in METRICS}
    given: dict[str, Any] = dict(least or {})
    own = given.get(site, given) if any(isinstance(v, Mapping) for v in given.values()) else given
    return default | {m: float(v) for m, v in own.items() if not isinstance(v, Mapping)}
