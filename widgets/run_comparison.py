"""Many runs compared: scores beside the naive one, who is better than whom, mean ranks, what differs, at what cost.

The arithmetic is ``workbench.comparison``'s; this shows its frames. What crosses to the browser: ``_comparison.py``.
"""

from __future__ import annotations

from typing import Any

import anywidget
import polars as pl
import traitlets as t

from widgets import _comparison
from widgets._parts import esm
from widgets.linked import Selection
from widgets.palette import theme
from workbench.text import nearest


class RunComparison(anywidget.AnyWidget):
    """Predictors and their variants compared over folds and seeds, one study and split at a time.

    Parameters
    ----------
    comparison : what ``workbench.comparison.compare`` returns, or anything with its frames, ``metrics`` and ``better``
    selection : shared with other widgets: entries marked here are marked there
    title : heading, shown as text
    note : a remark above everything

    Attributes
    ----------
    place : study and split in sight, ``"gdsc2 \u00b7 unseen subject"``; one of ``places``
    metric : one of ``metrics``
    marked : names of entries that stand out in every plot and table

    Raises
    ------
    ValueError
        The comparison lacks a frame or a column.

    Notes
    -----
    The diagram of mean ranks is that of Dem\u0161ar (2006), Journal of Machine Learning Research 7:1-30: entries joined
    by a bar lie within the critical difference of Nemenyi's test and are not told apart.

    Examples
    --------
    >>> board = RunComparison(compare(study="gdsc2"))  # doctest: +SKIP
    >>> board.metric = "RMSE"  # doctest: +SKIP
    >>> board.shown.select("entry", "value", "low", "high", "naive")  # doctest: +SKIP
    """

    _esm = esm("run_comparison")
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    place = t.Unicode().tag(sync=True)
    metric = t.Unicode().tag(sync=True)
    marked = t.List(t.Unicode()).tag(sync=True)

    def __init__(self, comparison: Any, selection: Selection | None = None, title: str = "", note: str = "") -> None:
        packed = self._take(comparison)
        first = {"place": self._fullest(self.places), "metric": self._leading}
        super().__init__(frame_bytes=packed, theme=theme(), title=title, note=note, **first)
        self.selection = Selection() if selection is None else selection
        self._hear()
        self.selection.observe(self._hear, "predictors")
        self.observe(self._tell, "marked")

    def _take(self, comparison: Any) -> bytes:
        packed = _comparison.packed(comparison)
        frames = _comparison.frames_of(comparison)
        self.comparison = comparison
        self.metrics = _comparison.metrics_of(frames)
        self.places = [_comparison.key(*place) for place in _comparison.places_of(frames)]
        return packed

    @property
    def _leading(self) -> str:
        """The metric that is compared first, else the first one."""
        return next((m for m in self.comparison.metrics if m in self.metrics), (self.metrics or [""])[0])

    def _fullest(self, places: list[str]) -> str:
        """Of these places the one with most scores, the first of equals."""
        counts = self.comparison.scores.group_by("study", "split").len()
        known = {_comparison.key(study, split): n for study, split, n in counts.iter_rows()}
        return max(places, key=lambda place: known.get(place, 0), default="")

    def look_at(self, place: str) -> None:
        """Show this place, or the fullest of those that were split off it: ``"... unseen subject (folds 5)"``."""
        near = [p for p in self.places if p == place or p.startswith(f"{place} (")]
        if near and self.place not in near:
            self.place = self._fullest(near)

    def show(self, comparison: Any) -> None:
        """Another comparison in place of this one; study, split, metric and marks stay where it has them."""
        packed = self._take(comparison)
        with self.hold_sync():
            if self.place not in self.places:
                self.place = self._fullest(self.places)
            if self.metric not in self.metrics:
                self.metric = self._leading
            self.frame_bytes = packed

    def leave(self) -> None:
        """Stop following the selection."""
        self.selection.unobserve(self._hear, "predictors")

    def _hear(self, _: Any = None) -> None:
        if self.marked != self.selection.predictors:
            self.marked = list(self.selection.predictors)

    def _tell(self, change: Any) -> None:
        if self.selection.predictors != change["new"]:
            self.selection.select_predictors(list(change["new"]), by=type(self).__name__)

    @t.validate("place", "metric")
    def _one_of(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        known = self.places if name == "place" else self.metrics
        if value not in known and (value or known):
            raise t.TraitError(f"{name} {value!r} is not among the {len(known)} here.{nearest(value, known)}")
        return str(value)

    @property
    def shown(self) -> pl.DataFrame:
        """Scores of the place and metric in sight, best first; those without a value last."""
        here = pl.concat_str("study", "split", separator=" \u00b7 ") == self.place
        falling = _comparison.direction(self.metric, self.comparison.better) != "lower"
        rows = self.comparison.scores.filter(here & (pl.col("metric") == self.metric))
        return rows.sort("value", descending=falling, nulls_last=True)
