"""The page of a study: what it holds, as points, curves, animals and findings, linked by one selection.

One object, two places: ``StudyPage("gdsc2")`` at the end of a notebook cell, and ``panel serve`` of this file with a
picker over the studies of the home. The address names the study: ``/study?study=gdsc2``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from widgets._response.controls import html, picker
from widgets._response.markup import Markup, tag
from widgets._response.pieces import problem
from widgets._study.tabs import TABS, Absent, Opened, declare, prepare
from widgets.dashboards import begin
from widgets.dashboards._frame import asked, framed
from widgets.linked import Selection, counted
from workbench.text import nearest

BUILD = "workbench study build gdsc2"


class StudyPage(pn.viewable.Viewer):
    """One study, or a picker over all studies of the home.

    Parameters
    ----------
    study : a Study, the name of one, or None for the picker
    selection : what is selected, shared with widgets outside of the page too
    """

    name_shown: Any = param.Selector(default=None, objects=[None], doc="Name of the study in sight")

    def __init__(self, study: Any = None, selection: Selection | None = None, **params: Any) -> None:
        super().__init__(**params)
        declare()
        self.selection = selection if selection is not None else Selection()
        self.opened: Opened | None = None
        self._given = study if study is not None and not isinstance(study, str) else None
        self._picker = picker(self, "name_shown", "Study")
        self._picker.styles = {"flex": "1 1 240px"}  # on a narrow screen the button goes below
        self._again = pmui.Button(
            label="Look for new studies", variant="outlined", width=200, height=56, margin=(5, 10)
        )
        self._again.on_click(lambda _: self.refresh())
        self._said = html(Markup(""))
        self._clear = pmui.Button(label="Clear selection", variant="outlined", size="small", visible=False)
        self._clear.on_click(lambda _: self.selection.clear("page"))
        # Panel caps a column at the height of the window; what is taller would lie over what comes after it
        self._body = pn.Column(sizing_mode="stretch_width", styles={"max-height": "none"})
        # as tall without its button as with it, so that the tabs stay where they are
        chosen = pn.Row(self._said, self._clear, sizing_mode="stretch_width", min_height=44)
        above = [] if study is not None else [pn.FlexBox(self._picker, self._again, sizing_mode="stretch_width")]
        self._whole = pn.Column(*above, self._body, sizing_mode="stretch_width", styles={"max-height": "none"})
        self._chosen = chosen
        self.selection.observe(self._tell, "subjects")
        if study is None:
            self.refresh()
        else:
            self._open_study(study)

    def refresh(self) -> None:
        """Look for studies again; the one in sight stays if it is still there."""
        from workbench import study

        try:
            known = study.names()
        except OSError as error:  # a page must say what is wrong with the home, not die of it
            self._picker.visible = False
            self._body.objects = [html(problem(f"The studies cannot be listed: {error}"))]
            return
        if not known:
            self._picker.visible = False
            self._body.objects = [html(nothing_yet())]
            return
        self.param["name_shown"].objects = [None, *known]
        wanted = self.name_shown if self.name_shown in known else known[0]
        before = self.name_shown
        self._picker.param.update(options=known, value=wanted, visible=True)  # which opens another study
        if before == wanted:
            self._open()

    def open(self, name: str) -> None:
        """Show the study of this name in the home, or say that there is none: an address names no other folder."""
        known = [str(n) for n in self.param["name_shown"].objects if n is not None]
        if name in known:
            self.name_shown = name
        else:
            self.close()
            listed = f"It has: {', '.join(known)}." if known else "It has none yet."
            told = f"There is no study called {name!r} in this home.{nearest(name, known)} {listed}"
            self._body.objects = [html(problem(told))]

    @param.depends("name_shown", watch=True)
    def _open(self) -> None:
        if self.name_shown is not None:
            self._open_study(self.name_shown)

    def _open_study(self, study: Any) -> None:
        from workbench.study import Study, find

        self.close()
        try:
            found = Study.open(find(study)) if isinstance(study, str) else study
        except Exception as error:  # what opening says about a missing or damaged study tells more than ours
            self._body.objects = [html(problem(f"Study {study} cannot be opened: {error}"))]
            return
        self.selection.clear("page")
        self.opened = Opened(found, self.selection)
        self._body.objects = [html(title(self.opened)), self._chosen, self._tabs(self.opened)]
        self._tell()

    def _tabs(self, opened: Opened) -> pmui.Tabs:
        rooms = [pn.Column(sizing_mode="stretch_width", min_height=200, styles={"max-height": "none"}) for _ in TABS]
        tabs = pmui.Tabs(*zip(TABS, rooms, strict=True), sizing_mode="stretch_width",
                         sx={"& .MuiTab-root": {"textTransform": "none", "fontSize": 16}})  # fmt: skip
        makers = list(TABS.values())

        def make(i: int) -> None:
            if opened is self.opened:
                rooms[i].objects = [shown(lambda: makers[i](opened))]

        def fill(_: Any = None) -> None:
            i = tabs.active
            if rooms[i].objects:  # made when first looked at
                return
            if i and pn.state.curdoc is not None and pn.state.served:  # say so first: the first of a kind is slow
                rooms[i].objects = [html(tag("p", "Being made \u2026", class_="low", role="status"))]
                pn.state.curdoc.add_next_tick_callback(lambda: make(i))
            else:
                make(i)

        tabs.param.watch(fill, "active")
        fill()
        return tabs

    def _tell(self, _: Any = None) -> None:
        names = self.selection.subjects
        self._clear.visible = bool(names)
        words = f"{len(names):,} {'subject' if len(names) == 1 else 'subjects'} selected: {counted(names, 5)}"
        self._said.object = tag("p", words if names else "Nothing is selected.", class_="low", role="status")

    def close(self) -> None:
        """Let go of the study in sight and its widgets."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def __panel__(self) -> pn.viewable.Viewable:
        return self._whole


def shown(make: Callable[[], Any]) -> Any:
    """What ``make`` returns, or in its place what is missing or went wrong."""
    try:
        return make()
    except Absent as gap:
        return html(problem(str(gap)))
    except Exception as error:  # one part that fails must not take the others with it
        return html(problem(f"This part cannot be shown: {type(error).__name__}: {error}"))


def title(opened: Opened) -> Markup:
    """Name, size and digest of a study in two lines above everything."""
    study = opened.study
    sizes = [("subject", study.subjects.height), ("treatment", study.treatments.height), ("outcome", study.rows.height)]
    counts = [f"{n:,} {noun}{'' if n == 1 else 's'}" for noun, n in sizes]
    counts += [
        f"{len(study.modalities)} {'modality' if len(study.modalities) == 1 else 'modalities'}",
        f"digest {study.digest[:12]}",
    ]
    return tag("div", tag("h1", study.name), tag("p", " \u00b7 ".join(counts), class_="low"))


def nothing_yet() -> Markup:
    """What to do when there is no study at all."""
    own = tag("code", "workbench study build FOLDER")
    return tag(
        "div",
        tag("h2", "No studies yet"),
        tag("p", "Build one, then look again: ", tag("code", BUILD), ", or one of a folder: ", own, class_="problem"),
    )


def page() -> pmui.Page:
    """The whole page as it is served."""
    shown = StudyPage()
    if study := asked().get("study"):
        shown.open(study)
    if pn.state.curdoc is not None:
        pn.state.onload(prepare)
    return framed(shown, "Study", ["name_shown"], lambda: {"study": shown.name_shown})


if pn.state.served:
    begin()
    page().servable()
