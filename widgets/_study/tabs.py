"""The tabs of the page of a study: each a function that returns something to show, or raises ``Absent``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import panel as pn
import polars as pl

from widgets import _mirror
from widgets._response.controls import html
from widgets._response.markup import Markup, table, tag
from widgets._study import audit
from widgets.linked import Selection

if TYPE_CHECKING:
    from workbench.study import Study

CONTROLS = ("untreated", "vehicle", "control", "dmso", "placebo", "vehicle control", "pbs", "saline")
SYNTHETIC = "Synthetic data: these numbers were made up and say nothing about biology."


class Absent(Exception):
    """The study has nothing for this tab; the message says what is missing and what would bring it."""


class Opened:
    """A study in sight with what its tabs share.

    Attributes
    ----------
    study : the Study
    selection : what is selected, in every tab
    note : a remark for every widget; says so where the data are synthetic
    widgets : every notebook widget made so far, to be let go of when another study is opened
    """

    def __init__(self, study: Study, selection: Selection) -> None:
        self.study, self.selection = study, selection
        self.widgets: list[Any] = []
        told = json.dumps(study.provenance, default=str).lower()
        self.note = SYNTHETIC if "synthetic" in told else ""

    def show(self, widget: Any) -> Any:
        """The widget as a Panel component."""
        self.widgets.append(widget)
        return _mirror.in_panel(widget)

    def close(self) -> None:
        """Let go of the widgets: ipywidgets and the Selection would keep them for ever."""
        for widget in self.widgets:
            if hasattr(widget, "leave"):
                widget.leave()
            widget.close()
        self.widgets = []

    def endpoints(self) -> dict[str, int]:
        """Rows of each endpoint."""
        counts = self.study.rows.group_by(pl.col("endpoint").cast(pl.String)).len().sort("endpoint")
        return dict(counts.iter_rows())


def declare() -> None:
    """Make every widget of the tabs known to the page before it is drawn."""
    import widgets

    _mirror.declare(
        widgets.StudyBrowser, widgets.EmbeddingExplorer, widgets.DoseResponse, widgets.GrowthCurves,
        widgets.AnimalStudy, widgets.AuditBoard, widgets.CohortBuilder,
    )  # fmt: skip


def overview(opened: Opened) -> Any:
    """What the study holds: subjects by modalities, modalities with axis and unit, endpoints, further tables."""
    from widgets.study_browser import StudyBrowser

    study = opened.study
    files = study.manifest["files"]
    modalities = [
        (name, facts.get("axis", ""), " x ".join(f"{n:,}" for n in facts["schema"]["shape"]), facts["units"]["X"])
        for name in study.modalities
        for facts in [files[f"modalities/{name}.h5ad"]]
    ]
    units = study.rows.group_by(pl.col("endpoint", "unit").cast(pl.String)).agg(
        pl.len().alias("rows"), pl.col("subject").n_unique(), pl.col("treatment").n_unique().alias("treatments")
    )
    endpoints = [(e, u, f"{n:,}", f"{s:,}", f"{d:,}") for e, u, n, s, d in units.sort("endpoint").iter_rows()]
    parts: list[Any] = []
    if opened.note:
        parts.append(html(tag("p", opened.note, class_="problem")))
    parts.append(opened.show(StudyBrowser(study.presence(), study.outcomes, selection=opened.selection)))
    drawn = [
        table(["Modality", "rows are", "rows x columns", "unit"], modalities, "Modalities", "left compact")
        if modalities
        else tag("p", "This study has no modality: it holds outcomes alone.", class_="problem"),
        table(["Endpoint", "unit", "rows", "subjects", "treatments"], endpoints[:200], "Endpoints", "left compact"),
    ]
    if records := list(study.records):
        rows = [(name, f"{files[f'records/{name}.parquet'].get('rows', 0):,}") for name in records]
        drawn.append(
            table(["Further table", "rows"], rows, "Further tables, as their source wrote them", "left compact")
        )
    if "unread" in records and len(unread := study.record("unread")):
        rows_of = [tuple(map(str, row)) for row in unread.head(200).iter_rows()]
        drawn.append(table([c.capitalize() for c in unread.columns], rows_of, "What could not be read", "left compact"))
    parts.append(html(tag("div", *drawn, class_="pair")))
    return pn.Column(*parts, sizing_mode="stretch_width")


def embedding(opened: Opened) -> Any:
    """Rows of a modality as points."""
    from widgets.embedding_explorer import EmbeddingExplorer

    if not opened.study.modalities:
        raise Absent("This study has no modality, so there is nothing to lay out as points.")
    try:
        return opened.show(EmbeddingExplorer(opened.study, selection=opened.selection))
    except ImportError as error:
        raise Absent(str(error)) from error


def dose_response(opened: Opened) -> Any:
    """Dose-response curves."""
    from widgets.dose_response import ENDPOINT, DoseResponse

    if ENDPOINT not in opened.endpoints():
        derived = [e for e in opened.endpoints() if "ic50" in e.lower() or e == "auc"]
        more = f" It holds what was derived from such points: {', '.join(derived)}." if derived else ""
        raise Absent(f"This study has no dose-response points: no endpoint {ENDPOINT} with doses.{more}")
    rows = opened.study.outcomes.filter(pl.col("endpoint").cast(pl.String) == ENDPOINT)
    if rows["dose"].null_count() == len(rows):
        raise Absent(f"This study has {ENDPOINT}, but no dose stands beside it: no curve can be drawn.")
    return opened.show(DoseResponse(rows, selection=opened.selection, note=opened.note))


def growth(opened: Opened) -> Any:
    """Tumour growth curves."""
    from widgets.growth_curves import ENDPOINT, GrowthCurves

    if ENDPOINT not in opened.endpoints():
        raise Absent(f"This study has no tumour growth: no endpoint {ENDPOINT} over time.")
    rows = opened.study.outcomes.filter(pl.col("endpoint").cast(pl.String) == ENDPOINT)
    arms = rows["treatment"].cast(pl.String).unique().to_list()
    control = next((arm for word in CONTROLS for arm in sorted(arms) if arm.strip().lower() == word), None)
    return opened.show(GrowthCurves(rows, control=control, selection=opened.selection, note=opened.note))


def animals(opened: Opened) -> Any:
    """Arms, weights, laboratory values and findings of a study of animals."""
    from widgets.animal_study import AnimalStudy

    if "arm" not in opened.study.subjects.columns:
        raise Absent(
            "This study has no arms of animals: its subjects have no column arm. Studies in the SEND standard have one."
        )
    return opened.show(AnimalStudy(opened.study, selection=opened.selection, note=opened.note))


def cohorts(opened: Opened) -> Any:
    """Saved cohorts, and the builder of new ones; training stays in notebooks."""
    from widgets.cohort_builder import CohortBuilder

    builder = CohortBuilder(opened.study, opened.selection)
    listed = html(Markup(""))

    def tell(_: Any = None) -> None:
        found = builder.study.cohorts.values()
        rows = [(c.name, c.axis, f"{len(c.members):,}", c.note, f"{c.when}, {c.who}") for c in found]
        listed.object = (
            table(["Cohort", "of", "members", "note", "saved"], rows, "Saved cohorts", "left compact")
            if rows
            else tag("p", "No cohort is saved in this study yet. Select subjects in any tab, then save them here.")
        )

    builder.observe(tell, "cohorts")
    tell()
    return pn.Column(opened.show(builder), listed, sizing_mode="stretch_width")


def provenance(opened: Opened) -> Any:
    """Where the content came from, every file with its digest, and what happened to the study."""
    study = opened.study
    facts = [("Study", study.name), ("Digest (SHA-256 of the manifest)", study.digest), *flat(study.provenance)]
    files = [(name, f"{f['size']:,}", f["sha256"]) for name, f in sorted(study.manifest["files"].items())]
    journal = [
        (e.get("when", ""), str(e.get("event", "")), str(e.get("who", "")), str(e.get("hash", ""))[:16])
        for e in study.journal
    ]
    return html(
        tag(
            "div",
            table(["", ""], facts, "Where this study comes from", "left facts"),
            table(["File", "bytes", "SHA-256"], files, "Files, each verified before it is read", "left compact"),
            table(
                ["When", "what", "who", "entry"],
                journal,
                "Journal, each entry chained to the one before",
                "left compact",
            ),
        )
    )


def flat(found: Any, before: str = "", most: int = 60) -> list[tuple[str, str]]:
    """Nested JSON as (place, value) pairs, at most ``most``; lists of plain values stay one value."""
    if isinstance(found, dict):
        pairs = [
            p for key, value in found.items() for p in flat(value, f"{before} > {key}" if before else str(key), most)
        ]
    elif isinstance(found, list) and any(isinstance(v, dict | list) for v in found):
        pairs = [p for i, value in enumerate(found) for p in flat(value, f"{before} > {i + 1}", most)]
    else:
        text = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
        pairs = [(before, text if len(text) < 600 else f"{text[:600]} \u2026")]
    return pairs if len(pairs) <= most else [*pairs[:most], (before or "further", f"{len(pairs) - most} more entries")]


TABS = {
    "Overview": overview,
    "Embedding": embedding,
    "Dose response": dose_response,
    "Growth": growth,
    "Animals": animals,
    "Audit": audit.board,
    "Cohorts": cohorts,
    "Provenance": provenance,
}
