"""The prediction explorer in Panel: the same JavaScript that the notebook widget and the report run."""

from __future__ import annotations

import panel as pn
import param
import polars as pl

from widgets.palette import theme
from widgets.prediction_explorer import ESM, NAIVE, pack_predictions


class Explorer(pn.custom.AnyWidgetComponent):
    """Predicted against observed with intervals, drug picker, brush and residuals; the traits of the notebook widget."""

    _esm = ESM

    frame_bytes = param.Bytes(default=b"", doc="What pack_predictions returns")
    theme = param.String(default=theme())
    title = param.String(default="")
    series = param.String(default="")
    predictor = param.String(default="")
    treatment = param.String(default="")
    view = param.Selector(default="observed", objects=["observed", "residuals"])
    brush = param.List(default=[])


def kept(order: list[str], models: int | None = None) -> list[str]:
    """Predictors that an explorer carries: the ``models`` best (all if None) and the best naive one.

    ``order`` is best first. Every predictor costs 12 bytes a row on the way to the browser, and the weaker naive ones
    add nothing to look at; all of them stay in the tables.
    """
    trained = [p for p in order if p not in NAIVE][:models]
    naive = [p for p in order if p in NAIVE][:1]
    return [*trained, *naive]


def explorer(predictions: pl.DataFrame, order: list[str], treatment: str = "") -> Explorer:
    """The explorer over the best predictors of ``order`` (best first) and the best naive one."""
    names = kept(order) or predictions["predictor"].unique(maintain_order=True).to_list()[:3]
    frame = predictions.filter(pl.col("predictor").cast(pl.String).is_in(names))
    return Explorer(
        frame_bytes=pack_predictions(frame), predictor=names[0], treatment=treatment, sizing_mode="stretch_width"
    )
