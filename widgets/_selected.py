"""What a widget has that takes part in a Selection: the trait ``selected``, and both ways between the two."""

from __future__ import annotations

from typing import Any

import traitlets as t

from widgets.linked import Selection


class Selects(t.HasTraits):
    """Beside ``anywidget.AnyWidget``: ``selected`` crosses to the browser, ``join`` ties it to a Selection.

    Attributes
    ----------
    selected : names of subjects; some may be unknown to this widget, which then draws the others
    selection : the Selection shared with other widgets, or one of its own
    """

    selected = t.List(t.Unicode()).tag(sync=True)
    selection: Selection

    def join(self, selection: Selection | None) -> None:
        """Follow ``selection`` and speak in it under the name of this class; call once, at the end of ``__init__``."""
        self.selection = Selection() if selection is None else selection
        self.selected = list(self.selection.subjects)
        self.selection.observe(self._hear, "subjects")
        self.observe(self._tell, "selected")

    def leave(self) -> None:
        """Stop following, so that a Selection that lives on keeps nothing of this widget."""
        self.selection.unobserve(self._hear, "subjects")

    def _hear(self, change: Any) -> None:
        if self.selected != change["new"]:
            self.selected = list(change["new"])

    def _tell(self, change: Any) -> None:
        if self.selection.subjects != change["new"]:
            self.selection.select(list(change["new"]), by=type(self).__name__)
