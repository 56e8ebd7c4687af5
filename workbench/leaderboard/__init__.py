"""A leaderboard: one small file, many experiments (studies x splits x seeds), one table; what is finished is kept.

Every experiment is recorded as a run of its own. The table groups the folds and seeds of an experiment, puts each
score beside the best naive one, and tells who beats whom by paired intervals (``workbench.comparison``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from workbench import comparison, experiment, interactive, toml_file
from workbench.experiment import Experiment, ExperimentError
from workbench.splits import RULES
from workbench.text import nearest

SHOWN = ("normalised Pearson", "per-drug Pearson", "RMSE")
FILE = Path("experiments", "leaderboards", "drug_response.toml")


@dataclass(frozen=True)
class Board:
    """What to run.

    Attributes
    ----------
    name, question : how people find it, and what it asks
    studies, endpoint : data and measured quantity
    seeds : {split rule: seeds of its folds}
    predictors, parameters, require, folds, draws : as in an Experiment
    tuning : as in an Experiment, and {predictor: {"splits": rules it is tuned on}} where it cannot answer on others
    elsewhere : {study: other studies in which its unseen lines are judged too}, for rules that hold lines apart
    """

    name: str
    studies: tuple[str, ...]
    endpoint: str
    seeds: dict[str, list[int]]
    predictors: tuple[str, ...]
    question: str = ""
    folds: int = 5
    draws: int = 1000
    require: tuple[str, ...] = ()
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    tuning: dict[str, dict[str, Any]] = field(default_factory=dict)
    elsewhere: dict[str, list[str]] = field(default_factory=dict)

    def experiments(self) -> Iterator[Experiment]:
        """Every experiment, first seeds of all first, so that an early stop leaves the widest table."""
        deepest = max(len(s) for s in self.seeds.values())
        for nth in range(deepest):
            for study in self.studies:
                for split, seeds in self.seeds.items():
                    if nth < len(seeds):
                        yield self.one(study, split, seeds[nth])

    def one(self, study: str, split: str, seed: int) -> Experiment:
        """The experiment of one study, split and seed."""
        lines = RULES[split] in ("subject", "tissue")
        return experiment.of(
            {
                "name": f"{self.name} {study} {split} seed {seed}",
                "question": self.question,
                "study": study,
                "endpoint": self.endpoint,
                "split": split,
                "seed": seed,
                "folds": self.folds,
                "draws": self.draws,
                "require": list(self.require),
                "predictors": list(self.predictors),
                "parameters": self.parameters,
                "tuning": {
                    predictor: {key: value for key, value in given.items() if key != "splits"}
                    for predictor, given in self.tuning.items()
                    if split in given.get("splits", [split])
                },
                "elsewhere": list(self.elsewhere.get(study, [])) if lines else [],
            },
            self.name,
        )


def read(path: Path | str) -> Board:
    """Read a leaderboard file.

    Raises
    ------
    ExperimentError
        No such file, not TOML, an unknown key (with the nearest), or an experiment of it that cannot be.
    """
    path = Path(path)
    given = toml_file.read(path, ExperimentError, hint=f" A leaderboard is a TOML file, see {FILE}.")
    known = [f.name for f in fields(Board)]
    for key in given:
        if key not in known:
            raise ExperimentError(f"{path}: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")
    if missing := [k for k in ("name", "studies", "endpoint", "seeds", "predictors") if not given.get(k)]:
        raise ExperimentError(f"{path}: {missing[0]} is missing or empty.")
    if not isinstance(given["seeds"], dict) or not all(isinstance(v, list) and v for v in given["seeds"].values()):
        raise ExperimentError(f'{path}: seeds should be a table such as "unseen subject" = [0, 1].')
    if odd := [s for s in given["seeds"] if s not in RULES]:
        raise ExperimentError(f"{path}: unknown split {odd[0]!r}.{nearest(odd[0], RULES)} Known: {', '.join(RULES)}.")
    for predictor, tuned in given.get("tuning", {}).items():
        if odd := [s for s in tuned.get("splits", ()) if s not in given["seeds"]]:
            told = f"{path}: tuning.{predictor}.splits names {odd[0]!r}.{nearest(odd[0], given['seeds'])}"
            raise ExperimentError(f"{told} The leaderboard runs: {', '.join(given['seeds'])}.")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    board = Board(**values)
    list(board.experiments())
    return board


def run(
    board: Board,
    *,
    only: Callable[[Experiment], bool] = lambda spec: True,
    again: bool = False,
    heard: Callable[[str], None] = lambda text: None,
    run_one: Callable[..., Any] = interactive.run,
) -> list[str]:
    """Run what is not there yet; returns the ids of the runs, one an experiment.

    Parameters
    ----------
    only : experiments to take part
    again : run those too that stand finished
    heard : told which experiment is at hand
    """
    wanted = [spec for spec in board.experiments() if only(spec)]
    ids = []
    for i, spec in enumerate(wanted):
        found = None if again else experiment.standing(spec)
        heard(f"{i + 1} of {len(wanted)}: {spec.name}" + (", finished before" if found else ""))
        ids.append((found or run_one(spec)).run_id)
    return ids


def table(ids: list[str], metrics: tuple[str, ...] = SHOWN) -> comparison.Comparison:
    """The runs compared on ``metrics``: scores, pairs, ranks."""
    return comparison.compare(ids, metric=list(metrics))


def markdown(told: comparison.Comparison, metrics: tuple[str, ...] = SHOWN, entered: tuple[str, ...] = ()) -> str:
    """Scores as a Markdown table: study, split, predictor, each metric with its interval, seconds a fold.

    The naive family is one row a split: the best of it, metric by metric. Who of ``entered`` answered for no row of a
    split has a row that says "abstains": a score that is missing is never passed over.
    """
    import polars as pl

    lines = [
        "| study | unseen | predictor | " + " | ".join(metrics) + " | seconds a fold |",
        "|" + "---|" * (len(metrics) + 4),
    ]
    for (study, split), part in told.scores.group_by(["study", "split"], maintain_order=True):
        naive = set(part["naive_predictor"].drop_nulls())
        cells = []
        for metric in metrics:
            row = part.filter(pl.col("metric") == metric, pl.col("naive").is_not_null()).head(1)
            cells.append(f"{row['naive'][0]:.3f}" if row.height else "")
        unseen = str(split).removeprefix("unseen ")
        lines.append(f"| {study} | {unseen} | best naive | " + " | ".join(cells) + " | |")
        scored = [e for e in part["entry"].unique(maintain_order=True) if e not in naive]
        learnt = [e for e in dict.fromkeys([*scored, *entered]) if not _naive(e)]
        for entry in learnt:
            mine = part.filter(pl.col("entry") == entry)
            cells = [_cell(mine.filter(pl.col("metric") == m)) for m in metrics]
            cost = mine["cost_s"].drop_nulls()
            lines.append(f"| | | {entry} | " + " | ".join(cells) + (f" | {cost[0]:.0f} |" if len(cost) else " | |"))
    return "\n".join(lines)


def _naive(entry: str) -> bool:
    from workbench import predictors

    return entry in predictors.naive_names()


def _cell(row: Any) -> str:
    if not row.height or row["value"][0] is None:
        return "abstains"
    low, high = row["low"][0], row["high"][0]
    return f"{row['value'][0]:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")
