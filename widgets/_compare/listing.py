"""Which runs there are to compare: studies, splits, a line a run, which are taken at first, where MLflow shows them."""

from __future__ import annotations

from typing import Any

import polars as pl

FINISHED = "FINISHED"
FIRST = 20  # so many are compared before anything is ticked


def experiments(history: pl.DataFrame) -> pl.DataFrame:
    """The runs that were started as such (not the nested ones), with a study and a split, newest first."""
    own = pl.col("parent").is_null() if "kind" not in history.columns else pl.col("kind") == "experiment"
    found = history.filter(own & pl.col("study").is_not_null() & pl.col("split").is_not_null())
    return found.sort("started", descending=True, nulls_last=True, maintain_order=True)


def studies(runs: pl.DataFrame) -> list[str]:
    """Studies with runs, by name."""
    return sorted(runs["study"].unique().to_list())


def splits(runs: pl.DataFrame, study: str | None) -> list[str]:
    """Splits of the runs on a study, by name."""
    return sorted(runs.filter(pl.col("study") == study)["split"].unique().to_list())


def among(runs: pl.DataFrame, study: str | None, split: str | None = None) -> pl.DataFrame:
    """Runs on one study and, where given, one split, newest first."""
    return runs.filter(**{"study": study} | ({} if split is None else {"split": split}))


def newest(runs: pl.DataFrame, most: int = FIRST) -> list[str]:
    """Run ids of the newest finished run of each experiment, of the newest ``most`` experiments."""
    finished = runs.filter(pl.col("status") == FINISHED)
    return finished.unique("experiment", keep="first", maintain_order=True)["run_id"].head(most).to_list()


def first_place(runs: pl.DataFrame) -> tuple[str, str] | None:
    """Study and split of the newest finished run, else of the newest; where a page begins."""
    finished = runs.filter(pl.col("status") == FINISHED)
    some = runs if finished.is_empty() else finished
    return None if some.is_empty() else (str(some["study"][0]), str(some["split"][0]))


def described(runs: pl.DataFrame) -> list[dict[str, str]]:
    """One line a run, for the list that ticks: name, and when, how long, how it ended, its id."""
    lines = []
    for row in runs.iter_rows(named=True):
        facts = [
            when(row["started"]), took(row.get("duration_s")),
            "" if row["status"] == FINISHED else str(row["status"]).lower(), str(row["run_id"])[:8],
        ]  # fmt: skip
        lines.append(
            {"name": row["name"] or row["experiment"] or "unnamed", "more": " \u00b7 ".join(filter(None, facts))}
        )
    return lines


def when(moment: Any) -> str:
    """A time to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}" if moment is not None else "not started"


def took(seconds: float | None) -> str:
    """A duration for people: seconds, minutes or hours."""
    if seconds is None or seconds != seconds:
        return ""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def mlflow_base(tracking: str, page: str = "") -> str:
    """Where MLflow's page is: the tracking server, else beside these pages in JupyterLab, else that of `workbench ui`.

    Parameters
    ----------
    tracking : the tracking address
    page : path of this page in the browser, ``/user/ada/panel/compare`` behind a proxy
    """
    if tracking.startswith(("http:", "https:")):
        return tracking.rstrip("/")
    before, found, rest = page.rpartition("/panel/")
    if found and "/" not in rest:
        return f"{before}/mlflow"
    return "http://127.0.0.1:5000"


def address(base: str, experiment_id: str, run_id: str) -> str:
    """A run on MLflow's page at ``base``, which opens among language models unless told."""
    return f"{base}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
