"""The page of federations: should each site join, what it gives, and the rounds of one that is still training.

One object, two places: ``FederationPage()`` at the end of a notebook cell, and ``panel serve`` of this file. The
address names the run: ``/federation?run=federation_gdsc2_tissue``. Reading and judging happen beside the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
import polars as pl

from widgets import _mirror
from widgets._compare import listing
from widgets._compare.job import Desk, Job
from widgets._response.controls import html, picker
from widgets._response.markup import Markup, tag
from widgets._response.pieces import problem
from widgets.dashboards import begin
from widgets.dashboards._frame import asked, framed
from widgets.federation_board import FederationBoard, plan_of
from workbench import tables
from workbench.text import nearest

FIRST_RUN = "workbench federate simulate experiments/federations/gdsc2_random.toml"
MARK = "federation.method"  # the tag of a run that is a federation
RUNNING = "RUNNING"
LOOK_AGAIN_MS = 4000
CORRELATIONS = ("normalised Pearson", "per-drug Pearson")


@dataclass(frozen=True)
class Opened:
    """One federation: its value (None where there is none, then ``why``), rounds, how it stands, how it was trained."""

    value: Any
    rounds: pl.DataFrame
    status: str
    why: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """Where federations come from; anything with these two methods can take its place."""

    def history(self) -> pl.DataFrame:
        """One row a federation, newest first, as ``workbench.runs.index.history``."""
        from workbench.runs import index

        runs = listing.experiments(index.history())
        marked = index.places(runs["run_id"], MARK).filter(pl.col("value").is_not_null())
        return runs.filter(pl.col("run_id").is_in(marked["run_id"].implode()))

    def open(self, run_id: str, least: Mapping[str, float]) -> Opened:
        """The federation of that run, judged with what matters."""
        from workbench import runs
        from workbench.federated.worth.value import WorthError, of_run

        run = runs.find(run_id)
        rounds = run.table("FEDERATION_ROUNDS")
        if run.status == RUNNING and rounds.is_empty():
            rounds = self._so_far(run)
        try:
            return Opened(of_run(run, least=least), rounds, run.status, plan=plan_of(run))
        except WorthError as error:
            return Opened(None, rounds, run.status, str(error), plan_of(run))

    def _so_far(self, run: Any) -> pl.DataFrame:
        """Figures by round of a run that is still training; its tables are written when a fold ends."""
        from workbench.runs import store
        from workbench.runs.keys import name_of
        from workbench.score import BETTER

        rows = []
        for child in run.children:
            for key in child.data.metrics:
                if (name := name_of(key)) not in BETTER:
                    points = store.client().get_metric_history(child.info.run_id, key)
                    rows += [(p.step, None, name, p.value, None, None, None, None) for p in points]
        return pl.DataFrame(rows, schema=dict(tables.FEDERATION_ROUNDS.columns), orient="row")


class FederationPage(pn.viewable.Viewer):
    """Federations of a store, one at a time.

    Parameters
    ----------
    store : anything with ``history()`` and ``open(run_id, least)``; by default the runs of this workbench
    """

    run: Any = param.Selector(default=None, objects=[None], doc="The federation in sight, as the picker lists it")

    def __init__(self, store: Any = None, **params: Any) -> None:
        super().__init__(**params)
        _mirror.declare(FederationBoard)
        self.store = Store() if store is None else store
        self.runs: pl.DataFrame | None = None
        self.opened: Opened | None = None
        self.board: FederationBoard | None = None
        self._named: dict[str, str] = {}
        self._asked = ""
        self._reader, self._opener = Desk(), Desk()
        self._watch: Any = None
        self._picker = picker(self, "run", "Federation")
        self._picker.styles = {"flex": "1 1 320px"}
        self._again = pmui.Button(label="Look for new runs", variant="outlined", width=180, height=56, margin=(5, 10))
        self._correlation = pmui.FloatInput(
            label="Least gain in correlation that matters", value=0.02, start=0.0, end=1.0, step=0.01, width=270
        )
        self._error = pmui.TextInput(label="Least change of RMSE (else 1 %)", value="", width=270,
                                     placeholder="1 % of the site's own")  # fmt: skip
        self._csv = pmui.FileDownload(
            callback=self._file, filename="federation.csv", label="All figures as csv", width=220, visible=False,
            embed=False, auto=True,
        )  # fmt: skip
        self._remark, self._state = html(Markup("")), html(Markup(""))
        self._room = pn.Column(sizing_mode="stretch_width", styles={"max-height": "none"})
        self._above = pn.FlexBox(
            self._picker, self._correlation, self._error, self._again, sizing_mode="stretch_width", visible=False
        )
        self._whole = pn.Column(
            self._above, self._remark, self._state, self._room, self._csv, sizing_mode="stretch_width"
        )
        self._again.on_click(lambda _: self.refresh())
        for control in (self._correlation, self._error):
            control.param.watch(lambda _: self.look(), "value")

    # ---- reading

    def refresh(self) -> None:
        """Read which federations there are, again; the one in sight stays if it is still there."""
        self._reader.start(lambda _: self.store.history(), self._read, lambda job: self._say("Reading the runs", job))

    def open(self, run: str) -> None:
        """Begin at this run (id, start of an id, or name) once the runs are read."""
        self._asked = run
        if self.runs is not None:
            self._arrive()

    def _read(self, job: Job) -> None:
        if job.error:
            self._state.object = problem(f"The runs cannot be listed: {job.error}")
            return
        self.runs = job.result
        self._above.visible = True
        for control in (self._picker, self._correlation, self._error):  # without runs one can look again, and no more
            control.visible = not self.runs.is_empty()
        if self.runs.is_empty():
            self._state.object = nothing_yet()
            return
        self._say()
        self._arrive()

    def _arrive(self) -> None:
        assert self.runs is not None
        self._named = {}
        for r in self.runs.iter_rows(named=True):
            name = re.sub(r" \d{8}-\d{6}$", "", r["name"] or r["experiment"] or "unnamed")  # it tells when by itself
            facts = [name, listing.when(r["started"]), str(r["status"]).lower()]
            label = " \u00b7 ".join(facts)
            self._named[label if label not in self._named else f"{label} \u00b7 {r['run_id'][:8]}"] = r["run_id"]
        labels = list(self._named)
        ids = {i: label for label, i in self._named.items()}
        told, wanted, asked = "", "", self._asked
        if asked:
            newest = self.runs.reverse()  # of an experiment that ran often, the last one
            names = {n: i for c in ("experiment", "name") for n, i in newest.select(c, "run_id").iter_rows() if n}
            found = names.get(asked) or next((i for i in ids if i.startswith(asked)), None)
            wanted = ids.get(found or "", "")
            if not wanted:
                told = f"No federation is called {asked!r}.{nearest(asked, names)} The newest is shown."
        self._asked = ""
        before = self.opened_id
        wanted = wanted or ids.get(before, labels[0])
        self.param["run"].objects = [None, *labels]
        self._picker.options = labels
        self._remark.object = problem(told) if told else Markup("")
        if self.run == wanted:
            self.look()
        else:
            self.run = wanted
        self._remark.object = problem(told) if told else Markup("")

    @property
    def opened_id(self) -> str:
        """Id of the run in sight; empty where there is none."""
        return self._named.get(self.run or "", self._last)

    _last = ""

    @property
    def least(self) -> dict[str, float]:
        """What matters, by metric; what was left empty, or is no number, takes its default."""
        found = {}
        if self._correlation.value is not None:
            found = dict.fromkeys(CORRELATIONS, float(self._correlation.value))
        try:
            error = float(str(self._error.value or "").replace(",", "."))
        except ValueError:
            return found
        return found | ({"RMSE": error} if 0 <= error < float("inf") else {})

    @param.depends("run", watch=True)
    def _moved(self) -> None:
        if self.run is not None:
            self._remark.object = Markup("")
            self.look()

    def look(self) -> None:
        """Read and judge the run in sight, beside the page."""
        run_id, least, name = self.opened_id, self.least, self.run
        self._unwatch()
        if not run_id:
            return
        follows = self._last == run_id and self.opened is not None and self.opened.status == RUNNING
        self._last = run_id
        self._opener.start(
            lambda _: self.store.open(run_id, least),
            lambda job: self._show(job, name),
            lambda job: None if follows else self._say("Judging the sites", job),
        )

    def _show(self, job: Job, name: str) -> None:
        if job.error:
            self._state.object = problem(f"This federation cannot be read: {job.error}")
            self._room.objects, self._csv.visible = [], False
            return
        self._say()
        self.opened = found = job.result
        title = name.split(" \u00b7 ")[0]
        if self.board is None:
            self.board = FederationBoard(found.value, found.rounds, plan=found.plan)
        else:
            self.board.update(found.value, rounds=found.rounds, plan=found.plan)
        self.board.title = title
        training = found.status == RUNNING
        self.board.note = "Still training: this page follows it." if training else ""
        if found.why and not training:
            self._state.object = problem(f"No verdict: {found.why}")
        if not self._room.objects:
            self._room.objects = [_mirror.in_panel(self.board, margin=(4, 10))]
        self._csv.visible = found.value is not None
        if training and pn.state.curdoc is not None:
            pn.state.onload(self._follow)

    def _follow(self) -> None:
        if self._watch is None:
            self._watch = pn.state.add_periodic_callback(self.look, period=LOOK_AGAIN_MS)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        self._watch = None

    def _say(self, text: str = "", job: Job | None = None) -> None:
        """That work goes on; without words, that none does."""
        if job is None:
            self._state.object = Markup("")
            return
        bar = tag("progress", max="100", aria_label=text, style="width:100%")
        self._state.object = tag("div", tag("p", f"{text} \u2026 {job.seconds:.0f} s", role="status"), bar)

    def _file(self) -> io.BytesIO:
        """Every score and difference of the federation as csv."""
        assert self.opened is not None and self.opened.value is not None
        return io.BytesIO(self.opened.value.sites.write_csv().encode())

    def close(self) -> None:
        """Let go: ipywidgets would keep the widget for ever."""
        self._unwatch()
        self._reader.stop()
        self._opener.stop()
        if self.board is not None:
            self.board.close()

    def __panel__(self) -> pn.viewable.Viewable:
        if self.runs is None and self._reader.job is None:
            self.refresh()
        return self._whole


def nothing_yet() -> Markup:
    """What to do when there is no federation at all."""
    return tag(
        "div",
        tag("h2", "No federation yet"),
        tag("p", "Record one, then look again: ", tag("code", FIRST_RUN), class_="problem"),
    )


def page(store: Any = None) -> pmui.Page:
    """The whole page as it is served."""
    shown = FederationPage(store)
    if run := asked().get("run"):
        shown.open(run)
    return framed(shown, "Federations", ["run"], lambda: {"run": shown.opened_id})


if pn.state.served:
    begin()
    page().servable()
