"""The tables that cross walls: plain polars frames with a checked schema.

``check(frame, OUTCOMES)`` returns the frame with its columns in order, or raises ``TableError``
that names the table, the column, what was expected and what was found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from workbench.text import nearest

NAME = pl.String()


class TableError(ValueError):
    """A frame does not have the columns, types or values its table promises."""


@dataclass(frozen=True)
class Table:
    """A table's schema: ``columns`` in order, which may be null, whether others may follow."""

    name: str
    columns: dict[str, pl.DataType]
    required: frozenset[str]  # columns without nulls
    open: bool = False  # may further columns follow?
    finite: frozenset[str] = field(default_factory=frozenset)


OUTCOMES = Table(
    "OUTCOMES",
    {
        "subject": NAME,  # cell line, animal, patient
        "treatment": NAME,  # drug or arm, by name
        "site": NAME,  # laboratory or hospital
        "dose": pl.Float64(),  # null where the endpoint sums over doses (an IC50)
        "dose_unit": NAME,
        "time_h": pl.Float64(),
        "endpoint": NAME,
        "value": pl.Float64(),
        "unit": NAME,
        "censored": pl.Int8(),  # 0 exact, +1 the truth lies above value, -1 below
        "source": NAME,  # the screen or file it came from
    },
    frozenset({"subject", "treatment", "site", "endpoint", "value", "unit", "censored", "source"}),
    finite=frozenset({"value"}),
)
SUBJECTS = Table("SUBJECTS", {"subject": NAME, "tissue": NAME}, frozenset({"subject"}), open=True)
TREATMENTS = Table(
    "TREATMENTS",
    {"treatment": NAME, "compound": NAME, "smiles": NAME},  # compound: first InChIKey block; null without structure
    frozenset({"treatment"}),
    open=True,
)
PREDICTIONS = Table(
    "PREDICTIONS",
    {
        "predictor": NAME,
        "split": NAME,  # the rule: "unseen subject" ...
        "fold": pl.Int32(),
        "row": pl.Int64(),  # row number in the study's outcomes
        "subject": NAME,
        "treatment": NAME,
        "tissue": NAME,
        "endpoint": NAME,
        "unit": NAME,
        "predicted": pl.Float64(),  # null where the predictor abstained
        "low": pl.Float64(),  # interval at `level`
        "high": pl.Float64(),
        "level": pl.Float64(),  # 0.9
        "abstained": NAME,  # the reason, null where it answered
        "baseline": pl.Float64(),  # mean effects of the training rows, removed by normalised metrics
        "observed": pl.Float64(),  # null until score has unsealed it
        "censored": pl.Int8(),
    },
    frozenset({"predictor", "split", "fold", "row", "subject", "treatment", "endpoint", "unit", "level"}),
)
METRICS = Table(
    "METRICS",
    {
        "predictor": NAME,
        "split": NAME,
        "fold": NAME,  # "0", "1", ... or "all": the mean over folds
        "metric": NAME,  # "RMSE", "normalised Pearson" ...
        "value": pl.Float64(),
        "low": pl.Float64(),  # 95 % bootstrap interval over `resampled`
        "high": pl.Float64(),
        "naive": pl.Float64(),  # best of the naive family on the same fold
        "naive_predictor": NAME,
        "unit": NAME,
        "resampled": NAME,  # "subject" or "treatment"
        "n": pl.Int64(),  # rows scored
        "abstained": pl.Int64(),  # rows without an answer
    },
    frozenset({"predictor", "split", "fold", "metric", "resampled", "n", "abstained"}),
)
COMPARISONS = Table(
    "COMPARISONS",
    {
        "split": NAME,
        "metric": NAME,
        "predictor": NAME,
        "other": NAME,
        "difference": pl.Float64(),  # predictor minus other
        "low": pl.Float64(),
        "high": pl.Float64(),
        "verdict": NAME,  # "better", "worse", "no difference shown", or not comparable
        "resampled": NAME,
    },
    frozenset({"split", "metric", "predictor", "other", "verdict", "resampled"}),
)
ATTRIBUTIONS = Table(
    "ATTRIBUTIONS",
    {
        "predictor": NAME,
        "split": NAME,
        "fold": pl.Int32(),
        "treatment": NAME,
        "modality": NAME,
        "feature": NAME,
        "value": pl.Float64(),
        "unit": NAME,
        "method": NAME,
    },
    frozenset({"predictor", "split", "fold", "treatment", "modality", "feature", "value", "unit", "method"}),
)
CURVES = Table(
    "CURVES",
    {
        "predictor": NAME,
        "fold": pl.Int32(),
        "step": pl.Int64(),
        "name": NAME,  # "training loss", "validation RMSE"
        "value": pl.Float64(),
        "unit": NAME,
    },
    frozenset({"predictor", "fold", "step", "name", "value"}),
)
FINDINGS = Table(
    "FINDINGS",
    {
        "check": NAME,  # "outliers", "same subject under two names" ...
        "family": NAME,  # the file of audits/ it comes from
        "severity": NAME,  # "error": do not train on it; "warning": look first; "note": know it
        "confidence": pl.Float64(),  # 0 to 1: how sure the check is that this is what it says
        "what": NAME,  # one sentence with the figures
        "where": NAME,  # endpoint, modality, file or fold
        "rows": pl.List(pl.Int64()),  # row numbers in the study's outcomes; empty where it is not about rows
        "names": pl.List(pl.String()),  # subjects, treatments or features concerned
        "n": pl.Int64(),  # how many rows or names in all
        "do": NAME,  # what to do about it
    },
    frozenset({"check", "family", "severity", "confidence", "what", "where", "rows", "names", "n", "do"}),
)
TRIALS = Table(
    "TRIALS",
    {
        "predictor": NAME,
        "fold": pl.Int32(),
        "trial": pl.Int32(),  # 0 has the defaults
        "state": NAME,  # "complete", "pruned", "failed"
        "value": pl.Float64(),  # RMSE on inner parts of the training rows; null where it was not reached
        "unit": NAME,
        "parameters": NAME,  # JSON
        "seconds": pl.Float64(),
        "chosen": pl.Boolean(),
    },
    frozenset({"predictor", "fold", "trial", "state", "unit", "parameters", "chosen"}),
)
# the same unseen subjects as other studies measured them: scored apart, so that the tables of a run stay of one study
ELSEWHERE = Table("ELSEWHERE", PREDICTIONS.columns, PREDICTIONS.required)
METRICS_ELSEWHERE = Table("METRICS_ELSEWHERE", METRICS.columns, METRICS.required)
COMPARISONS_ELSEWHERE = Table("COMPARISONS_ELSEWHERE", COMPARISONS.columns, COMPARISONS.required)

CEILING = Table(  # how far a study repeats in another: what no predictor of its values can exceed for long
    "CEILING",
    {
        "study": NAME,
        "other": NAME,
        "endpoint": NAME,
        "treatment": NAME,  # as `study` calls it; null: over all shared drugs
        "compound": NAME,
        "other_treatment": NAME,  # its names in `other`, joined by " / "
        "metric": NAME,  # "Pearson", "Spearman", "RMSE", "shift"; over all also the normalised and the means over drugs
        "value": pl.Float64(),
        "low": pl.Float64(),  # 95 % bootstrap interval over lines
        "high": pl.Float64(),
        "unit": NAME,
        "n": pl.Int64(),  # shared pairs: for one drug its shared lines
    },
    frozenset({"study", "other", "endpoint", "metric", "unit", "n"}),
)
SHARES = Table(  # a predictor's score beside the agreement of two studies
    "SHARES",
    {
        "study": NAME,
        "other": NAME,
        "predictor": NAME,
        "split": NAME,
        "metric": NAME,  # of a drug "Pearson"; over all "per-drug Pearson" and "normalised Pearson"
        "treatment": NAME,  # null: over all drugs that have a ceiling
        "n": pl.Int64(),  # rows scored
        "score": pl.Float64(),
        "low": pl.Float64(),  # every interval: 95 %, bootstrap over lines, the same lines for all columns
        "high": pl.Float64(),
        "shared": pl.Int64(),  # pairs measured in both studies
        "agreement": pl.Float64(),
        "agreement_low": pl.Float64(),
        "agreement_high": pl.Float64(),
        "ceiling": pl.Float64(),  # sqrt(agreement): the score of one who knows the truth
        "corrected": pl.Float64(),  # score / ceiling: correlation with the truth, and the share of the ceiling
        "corrected_low": pl.Float64(),
        "corrected_high": pl.Float64(),
        "elsewhere": pl.Float64(),  # the same predictions against the other study's values of the same pairs
        "elsewhere_low": pl.Float64(),
        "elsewhere_high": pl.Float64(),
        "corrected_elsewhere": pl.Float64(),  # elsewhere / ceiling: the share of one who cannot have learnt that screen
        "corrected_elsewhere_low": pl.Float64(),
        "corrected_elsewhere_high": pl.Float64(),
        "triad": pl.Float64(),  # sqrt(score x elsewhere / agreement), the score on the shared pairs
        "triad_low": pl.Float64(),
        "triad_high": pl.Float64(),
        "reason": NAME,  # why there is no corrected value; null where there is one
    },
    frozenset({"study", "other", "predictor", "split", "metric", "n"}),
)

COVERAGE = Table(
    "COVERAGE",
    {
        "predictor": NAME,
        "split": NAME,
        "intervals": NAME,  # which intervals: "as recorded", "by drug", "weighted by expression" ...
        "by": NAME,  # kind of group: all, fold, tissue, treatment, predicted, distance
        "name": NAME,  # the group
        "position": pl.Int32(),  # its place where groups have an order, else 0
        "unit": NAME,  # what counts as independent: subject or treatment
        "level": pl.Float64(),  # promised
        "n": pl.Int64(),  # rows
        "units": pl.Int64(),  # lines (or drugs)
        "covered": pl.Float64(),  # share of rows within their interval
        "low": pl.Float64(),  # 95 % interval of that share
        "high": pl.Float64(),
        "below": pl.Float64(),  # share of rows below their interval
        "above": pl.Float64(),
        "width": pl.Float64(),  # mean width of the finite intervals, in the endpoint's unit
        "unbounded": pl.Float64(),  # share of infinite intervals
        "p": pl.Float64(),  # two-sided, against the level
        "q": pl.Float64(),  # false discovery rate among the groups of one kind
        "verdict": NAME,  # holds, in doubt, breaks, wider than promised, too few to judge
    },
    frozenset(
        {
            "predictor",
            "split",
            "intervals",
            "by",
            "name",
            "position",
            "unit",
            "level",
            "n",
            "units",
            "covered",
            "verdict",
        }
    ),
)
ASSAY_VALUES = Table(
    "ASSAY_VALUES",
    {
        "present": NAME,  # the modalities a sample has: "expression + mutation", or "nothing"
        "modality": NAME,  # the one that would be measured next
        "treatment": NAME,  # a drug, or "all drugs"
        "lines": pl.Int64(),  # lines the value was found on
        "unit": NAME,
        "before": pl.Float64(),  # RMSE with what is present
        "after": pl.Float64(),  # RMSE with the modality too
        "value": pl.Float64(),  # before - after, as found
        "sd": pl.Float64(),  # of value, by a bootstrap over lines
        "expected": pl.Float64(),  # value drawn towards the mean over drugs by its noise
        "low": pl.Float64(),  # 95 % interval of expected
        "high": pl.Float64(),
        "correlation": pl.Float64(),  # gain in normalised Pearson, for "all drugs"
        "correlation_low": pl.Float64(),
        "correlation_high": pl.Float64(),
    },
    frozenset({"present", "modality", "treatment", "lines", "unit", "before", "after", "value"}),
)

# a federation: what a site has alone and together, and what it pays; null is "not measured"
_F, _N = pl.Float64(), pl.Int64()
FEDERATION_PREDICTIONS = Table(  # arm, who trained: "alone", "federated", "pooled" or "personalised"
    "FEDERATION_PREDICTIONS", {**PREDICTIONS.columns, "site": NAME, "arm": NAME}, PREDICTIONS.required | {"site", "arm"}
)
_ARM = {"predictor": NAME, "split": NAME, "site": NAME, "arm": NAME}
FEDERATION_VALUE = Table(  # scores on the site's own test rows; difference: from alone, rows that both answered
    "FEDERATION_VALUE",
    {
        **_ARM, "metric": NAME, "value": _F, "low": _F, "high": _F, "naive": _F, "naive_predictor": NAME, "unit": NAME,
        "difference": _F, "difference_low": _F, "difference_high": _F,  # every interval: 95 %
        "together_low": _F, "together_high": _F,  # 95 % for all sites of the table at once (Bonferroni)
        "p": _F, "p_holm": _F,  # two-sided, of no difference; over the sites of one metric and arm
        "least": _F,  # the least difference that matters to the site
        "verdict": NAME,  # "better", "worse", "no difference shown", or not comparable; null for alone
        "resampled": NAME, "units": _N, "n": _N,  # what the bootstrap draws, how many of them, rows scored
    },
    frozenset({*_ARM, "metric", "resampled", "units", "n"}),
)  # fmt: skip
FEDERATION_COSTS = Table(  # rows: training rows brought; bytes, messages: that left; rounds: it took part in
    "FEDERATION_COSTS",
    {"site": NAME, "rows": _N, "epsilon": _F, "delta": _F, "bytes": _N, "messages": _N, "rounds": _N, "refusals": _N},
    frozenset({"site"}),
)
FEDERATION_ATTACKS = Table(  # site null: the result as a whole; figure: "AUC"; chance: who knows nothing reaches it
    "FEDERATION_ATTACKS",
    {"site": NAME, "attack": NAME, "figure": NAME, "value": _F, "low": _F, "high": _F, "chance": _F},
    frozenset({"attack", "figure"}),
    open=True,  # knows: what the attacker has; n: units; epsilon, delta: spent on what was attacked
)
FEDERATION_VERDICTS = Table(  # verdict: "join", "do not join", "cannot tell"; decides: the metric that does
    "FEDERATION_VERDICTS",
    {**_ARM, "verdict": NAME, "reason": NAME, "decides": NAME,
     "negative_transfer": NAME, "flags": pl.List(NAME),  # metrics that are worse than alone, by ", "; all else to know
     **{c: t for c, t in FEDERATION_COSTS.columns.items() if c != "site"}},
    frozenset({*_ARM, "verdict", "reason", "decides", "negative_transfer", "flags"}),
)  # fmt: skip
FEDERATION_ROUNDS = Table(  # site null: the federation's own figure; lost: why the site has no part in this round
    "FEDERATION_ROUNDS",
    {"round": pl.Int32(), "site": NAME, "name": NAME, "value": _F, "unit": NAME, "bytes": _N, "seconds": _F,
     "lost": NAME},
    frozenset({"round"}),
)  # fmt: skip

TABLES = {
    t.name: t
    for t in (
        OUTCOMES,
        SUBJECTS,
        TREATMENTS,
        PREDICTIONS,
        METRICS,
        COMPARISONS,
        ATTRIBUTIONS,
        CURVES,
        FINDINGS,
        ASSAY_VALUES,
        CEILING,
        SHARES,
        TRIALS,
        ELSEWHERE,
        METRICS_ELSEWHERE,
        COMPARISONS_ELSEWHERE,
        *(FEDERATION_PREDICTIONS, FEDERATION_VALUE, FEDERATION_COSTS),
        *(FEDERATION_ATTACKS, FEDERATION_VERDICTS, FEDERATION_ROUNDS),
    )
}


def check(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The frame with the table's columns first and in order, categoricals accepted as strings.

    Raises
    ------
    TableError
        A column is missing, unknown, of another type, null or not finite where it may not be.
    """
    where = f"table {table.name}"
    for column, wanted in table.columns.items():
        if column not in frame.columns:
            hint = nearest(column, frame.columns)
            raise TableError(f"{where}: column {column!r} ({wanted}) is missing; found {frame.columns}.{hint}")
        found = frame.schema[column]
        if isinstance(wanted, pl.String) and isinstance(found, (pl.Categorical, pl.Enum)):
            continue
        if found != wanted:
            raise TableError(f"{where}: column {column!r} should be {wanted}, found {found}. Cast it before.")
    extra = [c for c in frame.columns if c not in table.columns]
    if extra and not table.open:
        raise TableError(f"{where}: unknown column {extra[0]!r}.{nearest(extra[0], list(table.columns))}")
    for column in sorted(table.required):
        if n := frame[column].null_count():
            row = int(frame[column].is_null().arg_max() or 0)
            raise TableError(f"{where}: column {column!r} has {n} empty cells, first in row {row}. Fill or drop them.")
    for column in sorted(table.finite):
        bad = ~frame[column].is_finite()
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise TableError(f"{where}: column {column!r} holds {frame[column][row]} in row {row}; numbers only.")
    return frame.select([*table.columns, *extra])


def empty(table: Table) -> pl.DataFrame:
    """A frame of the table's schema without rows."""
    return pl.DataFrame(schema=dict(table.columns))
