"""What is selected, shared by widgets: a lasso in one is highlighted in the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import traitlets as t


class Selection(t.HasTraits):
    """Names of the selected subjects; observe ``subjects`` to follow.

    Attributes
    ----------
    subjects : names, in the order they were selected; empty when nothing is
    treatments : names of treatments, where someone selected among those; does not change with ``subjects``
    predictors : names of predictors or their variants, where someone marked among those; likewise on their own
    cells : modality -> row numbers (int32, ascending) where the selection is finer than whole subjects: of a
        subject that stands in ``subjects`` only these cells are meant. Empty when whole subjects are.
    by : name of the widget that spoke last, so that it does not answer itself

    Examples
    --------
    >>> selection = Selection()
    >>> selection.observe(lambda change: print(selection.by, change["new"]), "subjects")
    >>> selection.select(["A549"], by="lasso")
    lasso ['A549']
    >>> missing(selection.subjects, ["HT-29"])
    ['A549']
    """

    subjects = t.List(t.Unicode())
    treatments = t.List(t.Unicode())
    predictors = t.List(t.Unicode())
    cells = t.Dict()
    by = t.Unicode()

    def select(self, subjects: Sequence[str], by: str, cells: Mapping[str, np.ndarray] | None = None) -> None:
        """Set what is selected in one step; those who observe hear once."""
        exact = {name: np.asarray(rows, dtype=np.int32) for name, rows in (cells or {}).items()}
        with self.hold_trait_notifications():
            self.by = by
            if exact or self.cells:  # arrays have no plain equality: an empty one is set only where one was
                self.cells = exact
            self.subjects = list(subjects)

    def select_treatments(self, treatments: Sequence[str], by: str) -> None:
        """The same for treatments; the subjects stay."""
        with self.hold_trait_notifications():
            self.by = by
            self.treatments = list(treatments)

    def select_predictors(self, predictors: Sequence[str], by: str) -> None:
        """The same for predictors."""
        with self.hold_trait_notifications():
            self.by = by
            self.predictors = list(predictors)

    def clear(self, by: str = "") -> None:
        """Select nothing."""
        self.select([], by)
        self.select_treatments([], by)
        self.select_predictors([], by)


def missing(selected: Sequence[str], shown: Collection[str]) -> list[str]:
    """Of the selected names those that a view does not show: to be counted and named there."""
    known = set(shown)
    return [name for name in selected if name not in known]


def counted(names: Sequence[str], few: int = 3) -> str:
    """ "A, B, C and 18 more": the first ``few`` names and how many are left."""
    rest = len(names) - few
    return ", ".join(names[:few]) + (f" and {rest:,} more" if rest > 0 else "")
