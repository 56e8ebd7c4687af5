"""Notebook widgets: one widget is one ``.py`` and one ``.js`` of the same stem; they see tables, never models.

``import widgets`` is light: a widget's file is imported when its name is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widgets.animal_study import AnimalStudy
    from widgets.audit_board import AuditBoard
    from widgets.cohort_builder import CohortBuilder
    from widgets.coverage_monitor import CoverageMonitor
    from widgets.dose_response import DoseResponse
    from widgets.embedding_explorer import EmbeddingExplorer
    from widgets.exposure import Exposure
    from widgets.federation_board import FederationBoard
    from widgets.growth_curves import GrowthCurves
    from widgets.linked import Selection
    from widgets.pilot_planner import PilotPlanner
    from widgets.prediction_explorer import PredictionExplorer
    from widgets.run_comparison import RunComparison
    from widgets.study_browser import StudyBrowser
    from widgets.training_panel import TrainingPanel

__all__ = [
    "AnimalStudy",
    "AuditBoard",
    "CohortBuilder",
    "CoverageMonitor",
    "DoseResponse",
    "EmbeddingExplorer",
    "Exposure",
    "FederationBoard",
    "GrowthCurves",
    "PilotPlanner",
    "PredictionExplorer",
    "RunComparison",
    "Selection",
    "StudyBrowser",
    "TrainingPanel",
]

_ROOMS = {
    "AnimalStudy": "widgets.animal_study",
    "AuditBoard": "widgets.audit_board",
    "CohortBuilder": "widgets.cohort_builder",
    "CoverageMonitor": "widgets.coverage_monitor",
    "DoseResponse": "widgets.dose_response",
    "EmbeddingExplorer": "widgets.embedding_explorer",
    "Exposure": "widgets.exposure",
    "FederationBoard": "widgets.federation_board",
    "GrowthCurves": "widgets.growth_curves",
    "PilotPlanner": "widgets.pilot_planner",
    "PredictionExplorer": "widgets.prediction_explorer",
    "RunComparison": "widgets.run_comparison",
    "Selection": "widgets.linked",
    "StudyBrowser": "widgets.study_browser",
    "TrainingPanel": "widgets.training_panel",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"widgets has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(importlib.import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
