"""The page that compares runs: choose a study, what was unseen and which runs; who is better, how surely, at what cost.

One object, two places: ``ComparePage()`` at the end of a notebook cell, and ``panel serve`` of this file. The address
names the place: ``/compare?study=gdsc2&split=unseen subject``. Reading and comparing happen beside the page.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
import polars as pl

from widgets import _mirror
from widgets._compare import listing
from widgets._compare.job import Desk, Job
from widgets._response.controls import html, picker
from widgets._response.markup import Markup, table, tag
from widgets._response.pieces import problem
from widgets._run_list import RunList
from widgets.dashboards import begin
from widgets.dashboards._frame import asked, framed
from widgets.run_comparison import RunComparison
from workbench.text import nearest

FIRST_RUN = "workbench run experiments/response_gdsc2_unseen-subject.toml"
LEADING = "normalised Pearson"  # the metric that orders the entries
LISTED = 50  # runs with a link below the comparison


class Store:
    """Where runs come from; anything with these two methods can take its place."""

    def history(self) -> pl.DataFrame:
        """One row a run, as ``workbench.runs.index.history``."""
        from workbench.runs import index

        return index.history()

    def compare(self, runs: Sequence[str], say: Callable[[float, str], None]) -> Any:
        """The comparison of these runs by every metric; ``say`` is told how far it is."""
        from workbench import comparison, score

        metrics = sorted(score.BETTER, key=lambda m: m != LEADING)
        return comparison.compare(list(runs), metric=metrics, say=say)


class ComparePage(pn.viewable.Viewer):
    """Runs of a store, compared.

    Parameters
    ----------
    store : anything with ``history()`` and ``compare(runs, say)``; by default the runs of this workbench
    """

    study: Any = param.Selector(default=None, objects=[None], doc="Study of the runs in sight")
    split: Any = param.Selector(default=None, objects=[None], doc="What was unseen in the runs in sight")

    def __init__(self, store: Any = None, **params: Any) -> None:
        super().__init__(**params)
        _mirror.declare(RunComparison, RunList)
        self.store = Store() if store is None else store
        self.runs: pl.DataFrame | None = None
        self.board: RunComparison | None = None
        self.list = RunList()
        self._asked: tuple[str, str] | None = None
        self._compared: list[str] = []
        self._reader, self._comparer = Desk(), Desk()
        self._studies, self._splits = picker(self, "study", "Study"), picker(self, "split", "Split")
        for control in (self._studies, self._splits):  # beside each other where there is room
            control.styles = {"flex": "1 1 240px"}
        self._again = pmui.Button(label="Look for new runs", variant="outlined", width=180, height=56, margin=(5, 10))
        self._go = pmui.Button(label="Compare", variant="contained", width=260, margin=(4, 10))
        self._csv = pmui.FileDownload(
            callback=self._file, filename="scores.csv", label="All scores as csv", width=220, visible=False,
            embed=False, auto=True,
        )  # fmt: skip
        self._remark, self._state, self._links = html(Markup("")), html(Markup("")), html(Markup(""))
        # Panel caps a column at the height of the window; what is taller would lie over what comes after it
        self._room = pn.Column(sizing_mode="stretch_width", styles={"max-height": "none"})
        self._above = pn.Column(
            pn.FlexBox(self._studies, self._splits, self._again, sizing_mode="stretch_width"),
            _mirror.in_panel(self.list, margin=(4, 10)),
            self._go,
            sizing_mode="stretch_width", visible=False,
        )  # fmt: skip
        self._whole = pn.Column(
            self._remark, self._above, self._state, self._room, self._csv, self._links, sizing_mode="stretch_width"
        )
        self._again.on_click(lambda _: self.refresh())
        self._go.on_click(lambda _: self.compare())
        self.list.observe(self._ticks, "ticked")

    # ---- reading

    def refresh(self) -> None:
        """Read which runs there are, again; what is in sight stays if it is still there."""
        self._reader.start(
            lambda _: listing.experiments(self.store.history()),
            self._read,
            lambda job: self._say("Reading the runs", job),
        )

    def open(self, study: str, split: str = "") -> None:
        """Begin at this study and split once the runs are read; a word in their place if there are none."""
        self._asked = (study, split)
        if self.runs is not None:
            self._arrive()

    def _read(self, job: Job) -> None:
        if job.error:
            self._state.object = problem(f"The runs cannot be listed: {job.error}")
            return
        self.runs = job.result
        if self.runs.is_empty():
            self._above.visible = False
            self._state.object = nothing_yet()
            return
        self._say()
        self._above.visible = True
        self._arrive()

    def _arrive(self) -> None:
        """Begin at what was asked for, stay where we are, or go to the newest finished run."""
        runs, known = self._runs, listing.studies(self._runs)
        study, split = self._asked or (self.study, self.split)
        told = ""
        if self._asked and study not in known:
            told = f"No run is on a study called {study!r}.{nearest(study, known)} There are: {', '.join(known)}."
        elif self._asked and split and split not in listing.splits(runs, study):
            there = listing.splits(runs, study)
            told = f"No run on {study} left out {split!r}.{nearest(split, there)} There are: {', '.join(there)}."
        self._asked = None
        if study not in known:
            study, split = listing.first_place(runs) or (known[0], None)
        if split not in listing.splits(runs, study):
            split = listing.among(runs, study)["split"][0]
        self.param["study"].objects = [None, *known]
        self.param["split"].objects = [None, *runs["split"].unique().sort()]
        self._studies.options, self._splits.options = known, listing.splits(runs, study)
        if (self.study, self.split) == (study, split):
            self._moved()
        else:
            self.param.update(study=study, split=split)
        self._remark.object = problem(told) if told else Markup("")

    @property
    def _runs(self) -> pl.DataFrame:
        assert self.runs is not None  # asked for only once they are read
        return self.runs

    @param.depends("study", "split", watch=True)
    def _moved(self) -> None:
        if self.study is None:
            return
        known = listing.splits(self._runs, self.study)
        self._splits.options = known
        if self.split not in known:  # another study was chosen: where its newest run is
            self.split = listing.among(self._runs, self.study)["split"][0]
            return
        here = listing.among(self._runs, self.study, self.split)
        self._remark.object = Markup("")
        self.list.show(here["run_id"].to_list(), listing.described(here), listing.newest(here))
        self._ticks()
        self.compare()

    # ---- comparing

    def _ticks(self, _: Any = None) -> None:
        n = len(self.list.ticked)
        stale = " again" if self._compared and set(self._compared) != set(self.list.chosen) else ""
        self._go.label = (
            "Tick runs to compare" if not n else f"Compare {'this run' if n == 1 else f'these {n:,} runs'}{stale}"
        )
        self._go.disabled = not n

    def compare(self) -> None:
        """Compare the ticked runs, beside the page."""
        chosen = self.list.chosen
        if not chosen:
            self._comparer.stop()
            none = not listing.newest(listing.among(self._runs, self.study, self.split))
            why = "None of the runs here has finished; tick those to compare anyway." if none else "Tick some above."
            self._clear(problem(f"No run is ticked. {why}"))
            return
        place = f"{self.study} \u00b7 {self.split}"
        what = f"{len(chosen):,} {'run' if len(chosen) == 1 else 'runs'}"
        self._comparer.start(
            lambda say: self.store.compare(chosen, say),
            lambda job: self._show(job, chosen, place),
            lambda job: self._say(f"Comparing {what}", job),
        )

    def _show(self, job: Job, chosen: list[str], place: str) -> None:
        if job.error:
            self._clear(problem(f"These runs cannot be compared: {job.error}"))
            return
        self._say()
        self._compared = chosen
        if self.board is None:
            self.board = RunComparison(job.result)
        else:
            self.board.show(job.result)
        self.board.title = f"Runs compared: {place}"
        self.board.look_at(place)
        if not self._room.objects:
            self._room.objects = [_mirror.in_panel(self.board, margin=(4, 10))]
        self._csv.visible = not self.board.comparison.scores.is_empty()
        self._tell_links()
        self._ticks()

    def _clear(self, said: Markup) -> None:
        self._state.object = said
        self._room.objects = []
        self._csv.visible = False
        self._links.object = Markup("")
        if self.board is not None:
            self.board.leave()
            self.board.close()
        self.board, self._compared = None, []
        self._ticks()

    def _say(self, text: str = "", job: Job | None = None) -> None:
        """That work goes on, and how far it is; without words, that none does."""
        if job is None:
            self._state.object = Markup("")
            return
        said = f"{text} \u2026 {job.seconds:.0f} s" + (f": {job.doing}" if job.doing else "")
        share = f"{100 * job.fraction:.0f}" if job.fraction else None
        bar = tag("progress", max="100", value=share, aria_label=text, style="width:100%")
        self._state.object = tag("div", tag("p", said, role="status"), bar)

    def _tell_links(self) -> None:
        from workbench import home

        location = pn.state.location
        base = listing.mlflow_base(home.tracking_uri(), getattr(location, "pathname", None) or "")
        shown = self._runs.filter(pl.col("run_id").is_in(self._compared[:LISTED]))
        rows = [
            (
                tag("a", row["name"] or row["run_id"], target="_blank", rel="noopener",
                    href=listing.address(base, str(row["experiment_id"]), row["run_id"])),
                row["experiment"], listing.when(row["started"]), listing.took(row["duration_s"]),
                str(row["status"]).lower(),
            )
            for row in shown.iter_rows(named=True)
        ]  # fmt: skip
        more = len(self._compared) - len(rows)
        rest = f" The first {LISTED} of {len(self._compared):,}." if more > 0 else ""
        self._links.object = tag(
            "div",
            table(["In MLflow", "Experiment", "Started", "Took", "Ended"], rows, "These runs", "left compact"),
            tag("p", f"MLflow's page is at {base}; `workbench ui` starts it.{rest}", class_="note"),
        )

    def _file(self) -> io.BytesIO:
        """All scores of the comparison, every split and metric, as csv."""
        assert self.board is not None
        return io.BytesIO(self.board.comparison.scores.write_csv().encode())

    def close(self) -> None:
        """Let go: ipywidgets would keep the widgets for ever."""
        self._reader.stop()
        self._comparer.stop()
        for widget in (self.board, self.list):
            if widget is not None:
                widget.close()

    def __panel__(self) -> pn.viewable.Viewable:
        if self.runs is None and self._reader.job is None:
            self.refresh()
        return self._whole


def nothing_yet() -> Markup:
    """What to do when there is no run at all."""
    return tag(
        "div",
        tag("h2", "No runs yet"),
        tag("p", "Record some, then look again: ", tag("code", FIRST_RUN), ", or the whole path at once: ",
            tag("code", "make demo"), class_="problem"),
    )  # fmt: skip


def page(store: Any = None) -> pmui.Page:
    """The whole page as it is served."""
    shown, query = ComparePage(store), asked()
    if "study" in query:
        shown.open(query["study"], query.get("split", ""))
    return framed(shown, "Compare runs", ["study", "split"], lambda: {"study": shown.study, "split": shown.split})


if pn.state.served:
    begin()
    page().servable()
