"""The audit of a study in its page: run once a study, beside the page, and shared by all who look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import panel as pn
import polars as pl

from widgets._response.controls import html
from widgets._response.markup import Markup, tag
from widgets._response.pieces import problem


class Audit:
    """The checks of one study on a thread of their own.

    Attributes
    ----------
    fraction, doing : how far it is, and with what
    findings : ``tables.FINDINGS`` when done, else None
    error : what went wrong, in words
    """

    def __init__(self, study: Any, run: Callable[..., pl.DataFrame]) -> None:
        self.fraction, self.doing, self.error = 0.0, "", ""
        self.findings: pl.DataFrame | None = None
        self._thread = threading.Thread(target=self._work, args=(study, run), daemon=True, name="audit")
        self._thread.start()

    def _work(self, study: Any, run: Callable[..., pl.DataFrame]) -> None:
        try:
            self.findings = run(study, say=self._say)
        except Exception as error:  # a page must say what is wrong with the study, not die of it
            self.error = f"The checks ended early: {type(error).__name__}: {error}"

    def _say(self, fraction: float, doing: str) -> None:
        self.fraction, self.doing = fraction, doing

    @property
    def done(self) -> bool:
        """Has it ended, well or not?"""
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(seconds)
        return self.done


_KNOWN: dict[str, Audit] = {}  # here and not in the served file, which Panel executes anew for every visitor
_LOCK = threading.Lock()
_MOST = 16


def of(study: Any) -> Audit:
    """The audit of a study: the one that runs or has run on this very content, else a new one."""
    from workbench import audits

    with _LOCK:
        if study.digest not in _KNOWN:
            while len(_KNOWN) >= _MOST:
                _KNOWN.pop(next(iter(_KNOWN)))
            _KNOWN[study.digest] = Audit(study, audits.run)
        return _KNOWN[study.digest]


def board(opened: Any) -> Any:
    """The board of findings; until the checks are done, how far they are."""
    room = pn.Column(sizing_mode="stretch_width")
    found = of(opened.study)
    if found.wait(0.3):
        room.objects = [_shown(opened, found)]
        return room
    told = html(_told(found))
    room.objects = [told]

    def look() -> None:
        if opened.closed:  # another study is in sight by now
            watch.stop()
        elif found.done:
            watch.stop()
            room.objects = [_shown(opened, found)]
        else:
            told.object = _told(found)

    watch = pn.state.add_periodic_callback(look, period=400)
    look()
    return room


def _told(found: Audit) -> Markup:
    """How far the checks are, as a bar and in words."""
    percent = f"{100 * found.fraction:.0f}"
    said = f"The checks are running: {percent} %" + (f", {found.doing.replace('_', ' ')}" if found.doing else "")
    bar = tag("progress", max="100", value=percent, aria_label="How far the checks are", style="width:100%")
    return tag("div", tag("p", said, role="status"), bar)


def _shown(opened: Any, found: Audit) -> Any:
    from widgets.audit_board import AuditBoard
    from workbench import audits

    if found.findings is None:
        return html(problem(found.error))
    ran = audits.checks().filter(~pl.col("split")).select("check", "family").rows()
    return opened.show(
        AuditBoard(found.findings, ran, study=opened.study, selection=opened.selection, note=opened.note)
    )
