"""The tabs of the page of a study: each a function that returns something to show, or raises ``Absent``."""

from __future__ import annotations

import contextlib
import json
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import panel as pn
import polars as pl

from widgets import _mirror
from widgets._response.controls import html
from widgets._response.markup import Markup, table, tag
from widgets._study import audit
from widgets._study.contents import contents, flat, grouped, moment, spelled
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
    closed : has another study been opened since?
    """

    def __init__(self, study: Study, selection: Selection) -> None:
        self.study, self.selection = study, selection
        self.widgets: list[Any] = []
        self.closed = False
        told = json.dumps(study.provenance, default=str).lower()
        self.note = SYNTHETIC if "synthetic" in told else ""

    def show(self, widget: Any) -> Any:
        """The widget as a Panel component."""
        self.widgets.append(widget)
        return _mirror.in_panel(widget)

    def close(self) -> None:
        """Let go of the widgets: ipywidgets and the Selection would keep them for ever."""
        self.closed = True
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
        widgets.Exposure, widgets.AnimalStudy, widgets.AuditBoard, widgets.CohortBuilder,
    )  # fmt: skip


@cache
def prepare() -> None:
    """Import what draws points, once and beside the page: a first look at the Embedding tab need not wait for it."""

    def work() -> None:
        with contextlib.suppress(ImportError):  # the tab itself says what is missing
            from widgets.embedding_explorer import plot_bytes

            plot_bytes()

    threading.Thread(target=work, daemon=True, name="prepare").start()


def overview(opened: Opened) -> Any:
    """What the study holds: subjects by modalities, modalities with axis and unit, endpoints, further tables."""
    from widgets.study_browser import StudyBrowser

    study = opened.study
    presence, group = grouped(study)
    parts: list[Any] = []
    if opened.note:
        parts.append(html(tag("p", opened.note, class_="problem")))
    parts.append(opened.show(StudyBrowser(presence, study.outcomes, selection=opened.selection, group=group)))
    parts.append(html(contents(study)))
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
    people = opened.study.subjects
    if "tissue_name" in people.columns:  # in words where the source gives both
        people = people.with_columns(tissue=pl.coalesce("tissue_name", "tissue"))
    return opened.show(
        GrowthCurves(rows, control=control, subjects=people, selection=opened.selection, note=opened.note)
    )


def exposure(opened: Opened) -> Any:
    """Concentrations over time."""
    from widgets.exposure import PREFIX, Exposure

    if not (found := [e for e in opened.endpoints() if e.startswith(PREFIX)]):
        raise Absent(f"This study has no concentrations over time: no endpoint that begins with {PREFIX.strip()}.")
    rows = opened.study.outcomes.filter(pl.col("endpoint").cast(pl.String).is_in(found))
    return opened.show(Exposure(rows, opened.study.subjects, selection=opened.selection, note=opened.note))


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
        rows = [(c.name, c.axis, f"{len(c.members):,}", c.note, f"{moment(c.when)}, {c.who}") for c in found]
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
    facts = [
        ("Study", study.name),
        ("Digest (SHA-256 of the manifest)", study.digest),
        *((spelled(place), said) for place, said in flat(study.provenance)),
    ]
    files = [(name, f"{f['size']:,}", f["sha256"]) for name, f in sorted(study.manifest["files"].items())]
    journal = [
        (moment(e.get("when", "")), str(e.get("event", "")), str(e.get("who", "")), str(e.get("hash", ""))[:16])
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


TABS = {
    "Overview": overview,
    "Embedding": embedding,
    "Dose response": dose_response,
    "Growth": growth,
    "Exposure": exposure,
    "Animals": animals,
    "Audit": audit.board,
    "Cohorts": cohorts,
    "Provenance": provenance,
}
