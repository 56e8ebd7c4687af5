"""Nested runs that a stopped run had finished, taken over by the run that goes on where it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.runs import store
from workbench.runs.read import Run

if TYPE_CHECKING:
    from workbench.runs.write import Recording

MARK = "workbench.mark"  # what a nested run's result depends on


def finished(experiment: str) -> dict[str, Run]:
    """Finished nested runs of unfinished runs of an experiment, by their mark; of two with one mark the newest."""
    found = store.client().get_experiment_by_name(experiment)
    if found is None:
        return {}
    open_parents = {
        r.info.run_id
        for r in _search(found.experiment_id, "attributes.status != 'FINISHED'")
        if "mlflow.parentRunId" not in r.data.tags and r.info.status in ("KILLED", "FAILED")
    }
    done: dict[str, Run] = {}
    for run in _search(found.experiment_id, "attributes.status = 'FINISHED'"):
        told = run.data.tags
        if told.get("mlflow.parentRunId") in open_parents and MARK in told:
            done.setdefault(told[MARK], Run(run))
    return done


def adopt(recording: Recording, run: Run) -> bool:
    """Make ``run`` a nested run of ``recording``; where it was made stays in its tags.

    False, and nothing is changed, where another run took it over since ``finished`` found it.
    """
    above = run.tags["mlflow.parentRunId"]
    client = store.client()
    if client.get_run(run.run_id).data.tags.get("mlflow.parentRunId") != above:
        return False
    client.set_tag(run.run_id, "workbench.fitted under", run.tags.get("workbench.fitted under") or above)
    client.set_tag(run.run_id, "mlflow.parentRunId", recording.run_id)
    recording.names(run.tags["predictor"])
    return True


def _search(experiment_id: str, where: str) -> Any:
    return store.pages(
        store.client().search_runs,
        experiment_ids=[experiment_id],
        filter_string=where,
        order_by=["attributes.start_time DESC"],
    )
