"""One predictor, one fold, from a notebook: what the TrainingPanel widget needs as ``options`` and ``start``.

panel = TrainingPanel(interactive.options(), interactive.start)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import polars as pl

from workbench import experiment, predictors, rooms, runs
from workbench.splits import COMBINATIONS, RULES
from workbench.study import Study, StudyError, names
from workbench.study import find as find_study

SUBJECT_MODALITIES = [
    m for m in rooms.names("workbench.modalities") if rooms.load("workbench.modalities", m).AXIS == "subject"
]
LEARNT = ["drug_response", "stacked_kernels", "trees", "ridge"]
FUSING = ("stacked_kernels", "drug_response")  # take any subset of modalities


def options() -> dict[str, Any]:
    """Studies of the home, learnt predictors first, the split rules, and which modalities each predictor can use.

    Modalities are those of samples that a study of the home has; a choice uses the ones of its own study. Rules for
    combinations of drugs are offered where a study has combinations.
    """
    naive = predictors.naive_names()
    rest = [p for p in predictors.offered() if p not in LEARNT]
    studies = names()
    modalities, pairs = _had(studies)
    return {
        "studies": studies,
        "predictors": [*LEARNT, *rest],
        "splits": ["unseen subject", *[r for r in RULES if r != "unseen subject"], *(COMBINATIONS if pairs else ())],
        "modalities": sorted(modalities, key=lambda m: (m != "expression", m)),
        "uses": {name: [] for name in naive} | {"ridge": ["expression"]},
    }


def _had(studies: list[str]) -> tuple[set[str], bool]:
    """Modalities of samples that one of the studies has (every known one where there is no study yet); drug pairs?"""
    found: set[str] = set()
    pairs = False
    for name in studies:
        with contextlib.suppress(StudyError):  # a damaged study is refused when it is chosen
            study = Study.open(find_study(name))
            found |= set(study.modalities) & set(SUBJECT_MODALITIES)
            second = study.treatments["drug_b"] if "drug_b" in study.treatments.columns else pl.Series([None])
            pairs = pairs or second.null_count() < len(second)
    return found or set(SUBJECT_MODALITIES), pairs


def run(spec: experiment.Experiment, **trainer: Any) -> runs.Run:
    """``experiment.run`` behind a progress bar with the time left: on stderr, or as a widget in a notebook."""
    from tqdm.auto import tqdm

    form = "{l_bar}{bar}| {elapsed} < {remaining}"
    with tqdm(total=1.0, desc="starting", bar_format=form, dynamic_ncols=True) as bar:

        def say(done: float, message: str) -> None:
            bar.n = max(bar.n, min(done, 1.0))
            bar.set_description_str(message[:48].ljust(48), refresh=False)
            bar.refresh()

        return experiment.run(spec, say=say, **trainer)


def specify(choice: dict[str, Any], **fixed: Any) -> experiment.Experiment:
    """The Experiment of a choice (study, predictor, split, modalities): one fold beside the naive family.

    A choice with ``cohort`` (the name of a saved one) holds that cohort out instead; ``endpoint`` says what is learnt.

    Parameters
    ----------
    fixed : keys of an Experiment that override these, such as ``parameters``
    """
    study = Study.open(find_study(choice["study"]))
    endpoints = study.rows["endpoint"].unique().to_list()
    name, asked = choice["predictor"], list(choice.get("modalities") or [])
    chosen = [m for m in asked if m in study.modalities]
    given: dict[str, Any] = {}
    if name in FUSING:
        if name == "stacked_kernels":  # it has kernels for some modalities only
            able = predictors.offered()[name].DEFAULTS["modalities"]  # type: ignore[attr-defined]
            chosen = [m for m in chosen if m in able]
        if not chosen:
            has = [m for m in SUBJECT_MODALITIES if m in study.modalities]
            why = f" Study {study.name!r} has none of {asked}; it has {has}." if asked else ""
            raise experiment.ExperimentError(f"{name} needs at least one modality; tick one.{why}")
        given = {"modalities": chosen}
    elif name == "trees":
        kept = predictors.offered()["trees"].DEFAULTS["modalities"]  # type: ignore[attr-defined]
        given = {"modalities": {m: n for m, n in kept.items() if m in chosen or m == "drug_structure"}}
    rivals = [p for p in predictors.naive_names() if p != name]
    if cohort := str(choice.get("cohort") or ""):
        divided: dict[str, Any] = {
            "name": f"{study.name}: cohort {cohort}",
            "split": "unseen subject",
            "cohort": cohort,
        }
    else:
        divided = {
            "name": f"panel {choice['study']} {choice['split']}",
            "split": choice["split"],
            "folds": 5,
            "only": [0],
        }
    return experiment.of(
        {
            **divided,
            "study": choice["study"],
            "endpoint": choice.get("endpoint") or ("ln_ic50" if "ln_ic50" in endpoints else sorted(endpoints)[0]),
            "predictors": [*rivals, name],
            "parameters": {name: given} if given else {},
        }
        | fixed
    )


def start(
    choice: dict[str, Any],
    report: Callable[[dict[str, Any]], None],
    stopped: Callable[[], bool],
    *,
    base: str = "",
    **fixed: Any,
) -> dict[str, Any]:
    """Run a choice, reporting as the panel expects; returns the run's page, name and METRICS.

    Parameters
    ----------
    base : where MLflow's page is; by default that of the JupyterLab this kernel belongs to, else of ``workbench ui``
    """
    began = time.monotonic()
    runs.sweep()

    def say(done: float, message: str) -> None:
        passed = time.monotonic() - began
        left = passed * (1 - done) / done if done > 0.05 else None
        news = {"fraction": done, "message": message}
        report(news if left is None else news | {"seconds_left": left})

    def point(_predictor: str, _fold: int, epoch: int, values: dict[str, float]) -> None:
        report({"points": [(name, epoch, value) for name, value in values.items()]})

    made = experiment.run(specify(choice, **fixed), say=say, stopped=stopped, point=point)
    metrics = made.metrics.filter((pl.col("fold") == "all") & (pl.col("predictor") == choice["predictor"]))
    return {"url": made.ui_url(base or mlflow_page()), "run": made.name, "metrics": metrics, "run_id": made.run_id}


def mlflow_page() -> str:
    """Address of MLflow's page: behind the JupyterLab server this kernel belongs to, else that of `workbench ui`."""
    parent = os.environ.get("JPY_PARENT_PID", "")
    if parent.isdigit():
        from jupyter_server.serverapp import list_running_servers

        for server in list_running_servers():
            if server.get("pid") == int(parent):
                return f"{server['url'].rstrip('/')}/mlflow"
    return "http://127.0.0.1:5000"
