"""What is selected, shared by widgets: a lasso in one is highlighted in the others."""

from __future__ import annotations

import traitlets as t


class Selection(t.HasTraits):
    """Names of the selected subjects; observe ``subjects`` to follow.

    Attributes
    ----------
    subjects : names, in the order they were selected; empty when nothing is
    by : name of the widget that spoke last, so that it does not answer itself
    """

    subjects = t.List(t.Unicode())
    by = t.Unicode()

    def select(self, subjects: list[str], by: str) -> None:
        """Set both traits in one step; those who observe hear once."""
        with self.hold_trait_notifications():
            self.by = by
            self.subjects = list(subjects)
