"""The prediction explorer in Panel: the same JavaScript that the notebook widget and the report run."""

from __future__ import annotations

from typing import Any

import panel as pn
import param
import polars as pl

from widgets._response.summary import Cell
from widgets.palette import theme
from widgets.prediction_explorer import ESM, NAIVE, pack_predictions


class Explorer(pn.custom.AnyWidgetComponent):
    """Predicted against observed with intervals, drug picker, brush and residuals; traits of the notebook widget."""

    _esm = ESM

    @classmethod
    def _process_importmap(cls) -> dict[str, dict[str, str]]:
        return {"imports": {}, "scopes": {}}  # the module imports nothing; Panel would name React on an outside server

    frame_bytes = param.Bytes(default=b"", doc="What pack_predictions returns")
    theme = param.String(default=theme())
    title = param.String(default="")
    series = param.String(default="")
    predictor = param.String(default="")
    treatment = param.String(default="")
    view: Any = param.Selector(default="observed", objects=["observed", "residuals"])
    brush = param.List(default=[])


def kept(found: dict[str, dict[str, Cell]], models: int | None = None) -> list[str]:
    """Predictors that an explorer carries: the ``models`` best (all if None) and the best naive one.

    ``found`` is best first. The best naive one is that of the RMSE where it was scored: by a normalised correlation the
    naive family is all near nothing. Every predictor costs 12 bytes a row on the way to the browser, and the weaker
    naive ones add nothing to look at; all of them stay in the tables.
    """
    trained = [p for p in found if p not in NAIVE][:models]
    named = next((c["RMSE"].naive_predictor for c in found.values() if "RMSE" in c), "")
    naive = sorted((p for p in found if p in NAIVE), key=lambda p: p != named)[:1]
    return [*trained, *naive]


def explorer(predictions: pl.DataFrame, found: dict[str, dict[str, Cell]]) -> Explorer:
    """The explorer over the trained predictors of ``found`` (best first) and the best naive one."""
    present = set(predictions["predictor"].unique().cast(pl.String))
    names = [p for p in kept(found) if p in present] or predictions["predictor"].unique(maintain_order=True).to_list()[
        :3
    ]
    frame = predictions.filter(pl.col("predictor").cast(pl.String).is_in(names))
    return Explorer(frame_bytes=pack_predictions(frame), predictor=names[0], sizing_mode="stretch_width")
