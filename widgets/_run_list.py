"""A list of runs to tick, of any length: searched by name, walked by keyboard; only the rows in sight exist.

``frame_bytes`` has a header alone (container: ``widgets._parts.pack``): ``runs`` [{name, more}], ``first`` [index].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets as t

from widgets._parts import esm, pack
from widgets.palette import theme


class RunList(anywidget.AnyWidget):
    """Runs with a tick each.

    Attributes
    ----------
    ids : run ids in the order of the list
    ticked : which are ticked, as indices, ascending
    """

    _esm = esm("_run_list")
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    ticked = t.List(t.Int()).tag(sync=True)

    def __init__(self) -> None:
        super().__init__(theme=theme())
        self.show([], [], [])

    def show(self, ids: Sequence[str], lines: Sequence[dict[str, str]], first: Sequence[str]) -> None:
        """List these runs, described by ``lines``; those of ``first`` are ticked, and again by a button."""
        self.ids = list(ids)
        at = {run_id: i for i, run_id in enumerate(self.ids)}
        chosen = sorted(at[run_id] for run_id in first if run_id in at)
        with self.hold_sync():
            self.frame_bytes = pack({}, version=1, runs=list(lines), first=chosen)
            self.ticked = chosen

    @t.validate("ticked")
    def _known(self, proposal: Any) -> list[int]:
        return sorted({i for i in proposal["value"] if 0 <= i < len(self.ids)}) if hasattr(self, "ids") else []

    @property
    def chosen(self) -> list[str]:
        """Ids of the ticked runs."""
        return [self.ids[i] for i in self.ticked]
