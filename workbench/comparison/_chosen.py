"""Which nested runs are compared: grouped into places (what is asked) and entries (who answers)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from workbench.runs import index
from workbench.runs.keys import CHILD, EXPERIMENT
from workbench.text import nearest

# what is asked: runs that agree in these have the same test rows, seed and fold being equal
TASK = ("endpoint", "folds", "cohort", "require")
NOT_SETTINGS = ("seed", "predictor")  # parameters of a nested run that do not make a variant


class ComparisonError(ValueError):
    """There is nothing to compare, or not what was asked for; the message says what is there."""


@dataclass(frozen=True)
class Chosen:
    """What is compared.

    Attributes
    ----------
    runs : one row a nested run that counts: study, split (unique names of places), entry, predictor, variant, run_id,
        parent, experiment_id, name, fold, seed, started, duration_s, folds (of the split), study_digest, rule
    values : run_id, metric, value of the metrics asked for
    settings : study, split, entry, param, value: parameters in which the entries of a predictor differ
    notes : what was left out
    """

    runs: pl.DataFrame
    values: pl.DataFrame
    settings: pl.DataFrame
    notes: list[str]


def choose(runs: Sequence[str] | None, study: str | None, split: str | None, metrics: Sequence[str]) -> Chosen:
    """The finished nested runs of the runs named (default: all) on that study and split (default: all).

    Raises
    ------
    ComparisonError
        A run, study or split is unknown, or no finished nested run is left.
    """
    known = index.history()
    parents = known.filter(pl.col("kind") == EXPERIMENT)
    nested = known.filter(pl.col("kind") == CHILD)
    if nested.is_empty():
        raise ComparisonError("no experiment has been recorded yet. Make a run: workbench run experiments/<file>.toml")
    if runs is not None:
        wanted = _named(parents, runs)
        nested = nested.filter(pl.col("parent").is_in(wanted.implode()))
    for what, name in (("study", study), ("split", split)):
        if name is not None:
            there = nested[what].drop_nulls().unique().sort().to_list()
            nested = nested.filter(pl.col(what) == name)
            if nested.is_empty():
                raise ComparisonError(f"no run on {what} {name!r}.{nearest(name, there)} There are: {there}.")
    notes = []
    ended = nested.filter(pl.col("status") != "FINISHED").height
    if ended:
        notes.append(f"{ended:,} nested runs that did not finish are left out.")
    nested = nested.filter(pl.col("status") == "FINISHED", pl.col("fold").is_not_null())
    if nested.is_empty():
        raise ComparisonError("no nested run of what was asked for has finished; workbench runs lists them.")
    placed = _places(nested)
    settings = _settings(placed)
    varied = _varied(placed, settings)
    counted = varied.sort("started", descending=True).unique(
        ["study", "split", "entry", "seed", "fold"], keep="first", maintain_order=True
    )
    if again := varied.height - counted.height:
        notes.append(f"{again:,} nested runs were run again later with the same settings; the newest counts.")
    values = index.history_metrics(counted["run_id"], metrics, named=True).filter(pl.col("metric").is_in(list(metrics)))
    names = counted.select("run_id", "study", "split", "entry")
    differ = settings.join(names, on="run_id").unique(
        ["study", "split", "entry", "param"], keep="first", maintain_order=True
    )
    return Chosen(counted, values, differ.select("study", "split", "entry", "param", "value"), notes)


def _named(parents: pl.DataFrame, runs: Sequence[str]) -> pl.Series:
    """Ids of the experiment runs meant: by id, start of an id, run name or experiment (then all of its runs)."""
    found: list[str] = []
    for name in runs:
        for fits in (pl.col("run_id") == name, pl.col("name") == name, pl.col("experiment") == name,
                     pl.col("run_id").str.starts_with(name)):  # fmt: skip
            if (hits := parents.filter(fits)).height and name:
                found += hits["run_id"].to_list()
                break
        else:
            if name == "latest" and parents.height:
                found.append(parents["run_id"][0])
                continue
            hint = nearest(name, [*parents["name"].drop_nulls(), *parents["experiment"].drop_nulls().unique()])
            raise ComparisonError(f"no run {name!r} among {parents.height}.{hint} `workbench runs` shows them all.")
    return pl.Series(found, dtype=pl.String).unique()


def _places(nested: pl.DataFrame) -> pl.DataFrame:
    """Nested runs with ``rule``, the split's rule, and ``split`` told apart where one name is several tasks."""
    above = nested["parent"].drop_nulls().unique()
    told = index.history_params(above, TASK).unique(["run_id", "param"])
    wide = told.pivot("param", index="run_id") if told.height else pl.DataFrame(schema={"run_id": pl.String()})
    wide = wide.with_columns(pl.lit(None, pl.String).alias(c) for c in TASK if c not in wide.columns)
    placed = nested.join(wide.rename({"run_id": "parent"}), on="parent", how="left", maintain_order="left")
    placed = placed.with_columns(
        pl.col("split").fill_null("").alias("rule"), pl.col("study", "split").fill_null("not stated")
    )
    facts = placed.select("study", "split", "study_digest", *TASK).unique(maintain_order=True)
    named = []
    for (_, split), group in facts.group_by("study", "split", maintain_order=True):
        differ = [c for c in TASK if group[c].n_unique() > 1]
        digests = group["study_digest"].n_unique() > 1
        for row in group.iter_rows(named=True):
            words = [f"{c} {_plain(row[c])}" for c in differ] + ([f"data {row['study_digest'][:6]}"] if digests else [])
            named.append(f"{split} ({', '.join(words)})" if words else str(split))
    order = [g for _, g in facts.group_by("study", "split", maintain_order=True)]
    names = pl.concat(order).with_columns(pl.Series("place", named, dtype=pl.String))
    keys = ["study", "split", "study_digest", *TASK]
    joined = placed.join(names, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(
        pl.col("place").alias("split"), pl.col("folds").cast(pl.Int64, strict=False), pl.col("seed").fill_null(0)
    ).drop("place", "endpoint", "cohort", "require")


def _plain(text: str | None) -> str:
    """A parameter's text as people write it: lists without brackets and quotes."""
    if text is None:
        return "not stated"
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    words = ", ".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else text
    return words.strip() or "none"


def _settings(placed: pl.DataFrame) -> pl.DataFrame:
    """Parameters of every nested run in which those of its predictor differ: run_id, predictor, param, value."""
    who = placed.select("run_id", "parent", "predictor").unique("run_id", maintain_order=True)
    own = index.history_params(who["run_id"], named=True).filter(~pl.col("param").is_in(NOT_SETTINGS))
    own = own.join(who, on="run_id")
    above = index.history_params(who["parent"].drop_nulls().unique(), named=True)
    tuning = above.filter(pl.col("param").str.starts_with("tuning.")).rename({"run_id": "parent"})
    tuning = who.join(tuning, on="parent").filter(
        pl.col("param").str.starts_with(pl.concat_str(pl.lit("tuning."), "predictor", pl.lit(".")))
    )
    tuning = tuning.with_columns(
        pl.concat_str(pl.lit("tuning."), pl.col("param").str.split(".").list.slice(2).list.join(".")).alias("param")
    )
    columns = ["run_id", "predictor", "param", "value"]
    told = pl.concat([own.select(columns), tuning.select(columns)]).unique(["run_id", "param"], maintain_order=True)
    many = who.group_by("predictor").agg(pl.len().alias("runs"))
    counts = told.group_by("predictor", "param").agg(pl.col("value").n_unique().alias("kinds"), pl.len().alias("said"))
    differ = counts.join(many, on="predictor").filter((pl.col("kinds") > 1) | (pl.col("said") < pl.col("runs")))
    return told.join(differ.select("predictor", "param"), on=["predictor", "param"], how="semi", maintain_order="left")


def _in_short(settings: pl.DataFrame) -> pl.DataFrame:
    """run_id and text of every setting; how a predictor was tuned is one word where all its tuned runs share it."""
    of_tuning = pl.col("param").str.starts_with("tuning.")
    tuned = settings.filter(of_tuning)
    runs = tuned.group_by("predictor").agg(pl.col("run_id").n_unique().alias("runs"))
    kinds = tuned.group_by("predictor", "param").agg(pl.col("value").n_unique().alias("kinds"), pl.len().alias("said"))
    alike = kinds.join(runs, on="predictor").filter((pl.col("kinds") == 1) & (pl.col("said") == pl.col("runs")))
    rest = settings.join(alike, on=["predictor", "param"], how="anti").sort("param")
    words = rest.select("run_id", pl.concat_str("param", pl.lit("="), "value").alias("text"))
    return pl.concat([words, tuned.select("run_id").unique().sort("run_id").with_columns(text=pl.lit("tuned"))])


def _varied(placed: pl.DataFrame, settings: pl.DataFrame) -> pl.DataFrame:
    """Nested runs with ``variant`` and ``entry``."""
    text = (
        _in_short(settings).group_by("run_id", maintain_order=True).agg(pl.col("text").str.join(", ").alias("variant"))
    )
    varied = placed.join(text, on="run_id", how="left", maintain_order="left").with_columns(
        pl.col("variant").fill_null(""), pl.col("predictor").fill_null("not stated")
    )
    # of several variants the one that sets nothing is told apart by saying so
    several = varied.group_by("predictor").agg(pl.col("variant").n_unique().alias("n"))
    varied = varied.join(several, on="predictor", how="left", maintain_order="left").with_columns(
        pl.when((pl.col("variant") == "") & (pl.col("n") > 1))
        .then(pl.lit("defaults"))
        .otherwise("variant")
        .alias("variant")
    )
    entry = pl.when(pl.col("variant") == "").then("predictor").otherwise(pl.format("{}, {}", "predictor", "variant"))
    return varied.with_columns(entry.alias("entry")).drop("n")
