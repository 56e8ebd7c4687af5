"""The tables of one run, as the page and the report read them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import polars as pl

from widgets._response import summary


class Loaded:
    """The tables of one run, each read once and only when a part of the page needs it."""

    def __init__(self, run: Any) -> None:
        self.run = run

    @cached_property
    def rule(self) -> str:
        """The split rule: what the scored rows had that training had not."""
        split = getattr(self.run, "split", None) or self.params.get("split")
        if split:
            return str(split)
        metrics = summary.read(self.run, "metrics")
        return str(metrics["split"][0])

    @cached_property
    def scores(self) -> dict[str, dict[str, summary.Cell]]:
        """METRICS over all folds with the verdicts of COMPARISONS, best predictor first."""
        return summary.scores(summary.read(self.run, "metrics"), self.paired)

    @cached_property
    def params(self) -> dict[str, Any]:
        """The experiment's parameters; empty where the run ended before it wrote them."""
        return summary.given(self.run)

    @cached_property
    def level(self) -> float | None:
        """The level that intervals were made for, such as 0.9."""
        try:
            return float(self.predictions["level"][0])
        except summary.Missing:
            return None

    @cached_property
    def paired(self) -> pl.DataFrame | None:
        """COMPARISONS, or None where there are none."""
        try:
            return self.comparisons
        except summary.Missing:
            return None

    @cached_property
    def comparisons(self) -> pl.DataFrame:
        """COMPARISONS."""
        return summary.read(self.run, "comparisons")

    @cached_property
    def predictions(self) -> pl.DataFrame:
        """PREDICTIONS."""
        return summary.read(self.run, "predictions")

    @cached_property
    def attributions(self) -> pl.DataFrame:
        """ATTRIBUTIONS."""
        return summary.read(self.run, "attributions")

    @cached_property
    def curves(self) -> pl.DataFrame:
        """CURVES."""
        return summary.read(self.run, "curves")


_RECENT: dict[str, Loaded] = {}  # here and not in the served file, which Panel executes anew for every visitor


def once(run: Any) -> Loaded:
    """The tables of a run; a finished run never changes, so visitors of one server share the last two."""
    key = str(getattr(run, "run_id", ""))
    if key in _RECENT and _RECENT[key].run.status == getattr(run, "status", None) == "FINISHED":
        return _RECENT[key]
    _RECENT.pop(key, None)
    _RECENT[key] = Loaded(run)
    while len(_RECENT) > 2:
        _RECENT.pop(next(iter(_RECENT)))
    return _RECENT[key]
