"""The drug-response page: who wins and by how much, what was unseen, every drug, and where the numbers come from.

One object, three places: ``ResponsePage(run)`` at the end of a notebook cell, ``panel serve`` of this file with a
picker over all runs, and ``widgets.report.export`` for people without a server. It reads tables of a run only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
import polars as pl

from widgets._response import pieces, summary
from widgets._response.controls import html, picker
from widgets._response.drug import DrugPage
from widgets._response.explorer import explorer
from widgets._response.loaded import Loaded, once
from widgets._response.markup import Markup, tag
from widgets.dashboards import begin
from widgets.dashboards._frame import asked, framed

FIRST_RUN = "workbench run experiments/response_gdsc2_unseen-subject.toml"


class ResponsePage(pn.viewable.Viewer):
    """The page over one run, or with a picker over a store of runs.

    Parameters
    ----------
    source
        A run (anything with ``metrics``, ``predictions`` ... as ``workbench.runs.Run`` has them), or a store with
        ``runs()`` and ``find(run_id)``; by default the store is ``workbench.runs``.
    """

    run_id: Any = param.Selector(default=None, objects=[None], doc="Which run is shown")

    def __init__(self, source: Any = None, **params: Any) -> None:
        super().__init__(**params)
        self.source = importlib.import_module("workbench.runs") if source is None else source
        self._single = not (hasattr(self.source, "runs") and hasattr(self.source, "find"))
        self._picker = picker(self, "run_id", "Run")
        self._picker.styles = {"flex": "1 1 240px"}  # on a narrow screen the button goes below
        self._again = pmui.Button(label="Look for new runs", variant="outlined", width=180, height=56, margin=(5, 10))
        # Panel caps a column at the height of the window; what is taller would lie over what comes after it
        self._body = pn.Column(sizing_mode="stretch_width", styles={"max-height": "none"})
        self._again.on_click(lambda _: self.refresh())
        above = [] if self._single else [pn.FlexBox(self._picker, self._again, sizing_mode="stretch_width")]
        self._whole = pn.Column(*above, self._body, sizing_mode="stretch_width", styles={"max-height": "none"})
        self.refresh()

    def refresh(self) -> None:
        """Look for runs again; the run in sight stays if it is still there."""
        if self._single:
            self._show(self.source)
            return
        try:
            frame = self.source.runs()
        except Exception as e:  # a page must say what is wrong with the store, not die of it
            self._picker.visible = False
            self._body.objects = [html(pieces.problem(f"The runs cannot be listed: {e}"))]
            return
        if frame.is_empty():
            self._picker.visible = False
            self._body.objects = [html(nothing_yet())]
            return
        frame = frame.sort("started", descending=True, nulls_last=True)
        options = {label(r): r["run_id"] for r in frame.iter_rows(named=True)}
        ids = list(options.values())
        self.param["run_id"].objects = [None, *ids]
        wanted = self.run_id if self.run_id in ids else _first_finished(frame)
        before = self.run_id
        self._picker.param.update(options=options, value=wanted, visible=True)  # which opens another run
        if before == wanted:
            self._open()

    def open(self, id_or_name: str) -> None:
        """Show the run of this id or name; what the store says if there is none."""
        try:
            found = self.source.find(id_or_name)
        except Exception as e:  # the store's own words tell more than ours
            self._body.objects = [html(pieces.problem(f"Run {id_or_name} cannot be opened: {e}"))]
            return
        if found.run_id in self.param["run_id"].objects:
            self.run_id = found.run_id

    @param.depends("run_id", watch=True)
    def _open(self) -> None:
        if self.run_id is None:
            return
        try:
            run = self.source.find(self.run_id)
        except Exception as e:  # the store's own words tell more than ours
            self._body.objects = [html(pieces.problem(f"Run {self.run_id} cannot be opened: {e}"))]
            return
        self._show(run)

    def _show(self, run: Any) -> None:
        loaded = once(run)
        parts = [
            ("Who wins", lambda: overview(loaded)),
            ("Explore predictions", lambda: explorer(loaded.predictions, loaded.scores)),
            ("One drug", lambda: DrugPage(loaded)),
            ("Learning curves", lambda: html(pieces.curves(loaded.curves))),
            ("Provenance", lambda: html(pieces.provenance(run))),
        ]
        rooms = [pn.Column(sizing_mode="stretch_width", min_height=200, styles={"max-height": "none"}) for _ in parts]
        self._made: dict[int, Any] = {}
        tabs = pmui.Tabs(*[(name, room) for (name, _), room in zip(parts, rooms, strict=True)],
                         sizing_mode="stretch_width",
                         sx={"& .MuiTab-root": {"textTransform": "none", "fontSize": 16}})  # fmt: skip

        def fill(_: Any = None) -> None:
            room = rooms[tabs.active]
            # A part is made when it is first looked at. Not by the tabs' own `dynamic`: in a notebook that would fetch
            # style sheets of what it makes from outside.
            if not room.objects:
                self._made[tabs.active] = shown(parts[tabs.active][1])
                room.objects = [self._made[tabs.active]]

        tabs.param.watch(fill, "active")
        fill()
        self._body.objects = [html(title(run)), tabs]

    def __panel__(self) -> pn.viewable.Viewable:
        return self._whole


def shown(make: Callable[[], Any]) -> Any:
    """What ``make`` returns, or in its place what is missing and what to do."""
    try:
        return make()
    except summary.Missing as e:
        return html(pieces.problem(str(e)))


def title(run: Any) -> Markup:
    """Name, study and digest, status and date of a run, in one line above everything."""
    known = dict(summary.provenance(run))
    facts = [known["Study"], f"digest {known['Study digest (SHA-256)'][:12]}", known["Status"], known["Started"]]
    return tag("div", tag("h1", known["Run"]), tag("p", " · ".join(facts), class_="low"))


def overview(loaded: Loaded) -> pn.Column:
    """Headline, two pictures, the table of scores, and the paired comparisons."""
    found = loaded.scores
    metrics = summary.ordered(list({m for cells in found.values() for m in cells}))
    pictures = tag("div", *[pieces.forest(found, m) for m in metrics[:2]], class_="figures")
    try:
        comparisons = pieces.verdicts(summary.sorted_comparisons(loaded.comparisons, list(found)))
    except summary.Missing as e:
        comparisons = pieces.problem(str(e))
    return pn.Column(
        html(pieces.headline(found, loaded.rule, loaded.paired, loaded.level)),
        html(pictures), html(pieces.leaderboard(found)), html(comparisons),
        sizing_mode="stretch_width",
    )  # fmt: skip


def nothing_yet() -> Markup:
    """What to do when there is no run at all."""
    return tag(
        "div",
        tag("h2", "No runs yet"),
        tag("p", "Record one, then look again: ", tag("code", FIRST_RUN), ", or the whole path at once: ",
            tag("code", "make demo"), class_="problem"),
    )  # fmt: skip


def label(row: dict[str, Any]) -> str:
    """A run in the picker: name, study, split, date, status, and the start of its id, which tells equal names apart."""
    parts = [row["name"], row["study"], row["split"], summary.when(row["started"]), row["status"], row["run_id"][:8]]
    return "  ·  ".join(str(p) for p in parts if p)


def _first_finished(frame: pl.DataFrame) -> str:
    finished = frame.filter(pl.col("status") == "FINISHED")
    return str((finished if finished.height else frame)["run_id"][0])


def page(source: Any = None) -> pmui.Page:
    """The whole page as it is served."""
    shown = ResponsePage(source)
    if run := asked().get("run"):
        shown.open(run)
    return framed(shown, "Drug response", ["run_id"], lambda: {"run": shown.run_id})


if pn.state.served:
    begin()
    page().servable()
