"""A comparison put where the team sees it."""

from __future__ import annotations

from workbench.comparison._drawn import figures
from workbench.comparison.command import TABLES, text
from workbench.comparison.frames import Comparison


def log(comparison: Comparison, run_or_experiment: str | None = None) -> str:
    """Store the figures and tables of a comparison in MLflow; returns the id of the run that holds them.

    Parameters
    ----------
    run_or_experiment
        A run by id or name, which gets them beside its own; or the name of an MLflow experiment, which gets a new run
        (default: a new run in the experiment "comparisons").

    Raises
    ------
    RunError
        It is neither.
    """
    from workbench.runs.attach import attach

    pages = {n: f for metric in comparison.metrics for n, f in figures(comparison, metric).items()}
    frames = {name: frame for name in TABLES if (frame := getattr(comparison, name)).height}
    return attach("comparison", pages, frames, run_or_experiment, note=f"```\n{text(comparison)}\n```")
