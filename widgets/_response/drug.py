"""One drug: predicted against observed with intervals, scores beside naive, tissues, and the genes leaned on."""

from __future__ import annotations

from typing import Any

import panel as pn
import param
import polars as pl

from widgets import palette
from widgets._response import pieces, summary
from widgets._response.controls import html, picker
from widgets._response.markup import Markup, tag

ALL = "all tissues"


class DrugPage(pn.viewable.Viewer):
    """A page of one drug, with pickers for the drug, the predictor and a tissue to see in colour.

    Parameters
    ----------
    loaded
        The tables of a run: ``predictions``, ``attributions`` (may raise ``summary.Missing``) and ``scores``.
    """

    treatment: Any = param.Selector(default=None, objects=[None])
    predictor: Any = param.Selector(default=None, objects=[None])
    tissue: Any = param.Selector(default=ALL, objects=[ALL])

    def __init__(self, loaded: Any, **params: Any) -> None:
        self._loaded = loaded
        self._frame: pl.DataFrame = loaded.predictions
        names = summary.treatments(self._frame)
        present = set(self._frame["predictor"].unique().cast(pl.String))
        order = [p for p in loaded.scores if p in present] or sorted(present)
        tissues = sorted({t for t in self._frame["tissue"].unique().cast(pl.String) if t is not None})
        self.param["treatment"].objects = names
        self.param["predictor"].objects = order
        self.param["tissue"].objects = [ALL, *tissues]
        first = next((p for p in order if p not in summary.NAIVE), order[0])
        super().__init__(**{"treatment": names[0], "predictor": first, "tissue": ALL, **params})
        self._order = order
        self._pickers = pn.Row(
            picker(self, "treatment", "Drug"),
            picker(self, "predictor", "Predictor"),
            picker(self, "tissue", "Colour one tissue"),
            sizing_mode="stretch_width",
        )
        self._head = html(Markup(""))
        self._scores, self._tissues, self._genes = html(Markup("")), html(Markup("")), html(Markup(""))
        self._figure, self._points, self._whiskers = _scatter(self._unit())
        self._layout = pn.Column(
            self._pickers,
            self._head,
            pn.Row(
                pn.pane.Bokeh(self._figure, sizing_mode="stretch_width", height=430, min_width=420),
                self._scores, sizing_mode="stretch_width",
            ),
            pn.Row(self._genes, self._tissues, sizing_mode="stretch_width"),
            sizing_mode="stretch_width",
        )  # fmt: skip
        self._draw()

    def _unit(self) -> str:
        return str(self._frame["unit"][0]).replace("uM", "\u00b5M")

    @param.depends("treatment", "predictor", "tissue", watch=True)
    def _draw(self) -> None:
        rows = self._frame.filter(pl.col("treatment") == self.treatment)
        own = rows.filter((pl.col("predictor") == self.predictor) & pl.col("predicted").is_not_null())
        own = own.with_columns(pl.col("tissue").cast(pl.String).fill_null("unknown"))
        lit = own["tissue"] == self.tissue if self.tissue != ALL else pl.Series([True] * own.height, dtype=pl.Boolean)
        abstained = rows.filter((pl.col("predictor") == self.predictor) & pl.col("predicted").is_null()).height
        lines = rows["subject"].n_unique()
        found = f"{lines} lines measured" + (f", {abstained} not answered by {self.predictor}" if abstained else "")
        self._head.object = tag("div", tag("h2", self.treatment), tag("p", found, class_="low"))
        self._scores.object = pieces.drug_scores(summary.per_treatment(rows), self._order, self._unit())
        self._tissues.object = pieces.drug_tissues(
            summary.by_tissue(rows, self.treatment, self.predictor), self._unit()
        )
        try:
            features = summary.features(self._loaded.attributions, self.treatment, self.predictor)
            self._genes.object = pieces.drug_features(features, self.predictor)
        except summary.Missing as e:
            self._genes.object = pieces.problem(str(e))
        colour = [palette.VERMILLION if on and self.tissue != ALL else palette.BLUE if on else "#b9c0c7" for on in lit]
        data = {
            "observed": own["observed"].to_list(),
            "predicted": own["predicted"].to_list(),
            "low": own["low"].to_list(),
            "high": own["high"].to_list(),
            "subject": own["subject"].cast(pl.String).to_list(),
            "tissue": own["tissue"].to_list(),
            "fold": own["fold"].to_list(),
            "colour": colour,
            "alpha": [0.75 if on else 0.3 for on in lit],
            "whisker": [0.28 if on else 0.06 for on in lit],
        }
        self._points.data = data
        ends = [v for c in ("observed", "predicted") for v in data[c] if v is not None and v == v]
        if ends:
            pad = 0.05 * (max(ends) - min(ends)) or 1.0
            # the same limits on both axes: the diagonal is what a perfect predictor would draw
            self._figure.x_range.update(start=min(ends) - pad, end=max(ends) + pad)
            self._figure.y_range.update(start=min(ends) - pad, end=max(ends) + pad)

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout


def _scatter(unit: str) -> tuple[Any, Any, Any]:
    from bokeh.models import ColumnDataSource, HoverTool, Range1d
    from bokeh.models.annotations import Slope
    from bokeh.plotting import figure

    source = ColumnDataSource(
        {
            c: []
            for c in ("observed", "predicted", "low", "high", "subject", "tissue", "fold", "colour", "alpha", "whisker")
        }
    )
    plot = figure(
        height=430, tools="pan,wheel_zoom,box_zoom,reset",
        x_range=Range1d(start=-1, end=1), y_range=Range1d(start=-1, end=1),
        x_axis_label=f"observed, {plain(unit)}", y_axis_label=f"predicted, {plain(unit)}",
    )  # fmt: skip
    plot.toolbar.logo = None
    plot.add_layout(Slope(gradient=1, y_intercept=0, line_color="#5b6570", line_dash="dashed", line_width=1))
    whiskers = plot.segment("observed", "low", "observed", "high", source=source, color="colour", alpha="whisker")
    dots = plot.scatter(
        "observed", "predicted", source=source, size=7, color="colour", alpha="alpha", line_color="white"
    )
    plot.add_tools(
        HoverTool(
            renderers=[dots],
            tooltips=[
                ("line", "@subject"), ("tissue", "@tissue"), ("observed", "@observed{0.000}"),
                ("predicted", "@predicted{0.000} [@low{0.000}, @high{0.000}]"), ("fold", "@fold"),
            ],
        )
    )  # fmt: skip
    plot.xgrid.grid_line_color = plot.ygrid.grid_line_color = "#eceff2"
    plot.outline_line_color = None
    for axis in (plot.xaxis, plot.yaxis):
        axis.axis_label_text_font_style = "normal"
    return plot, source, whiskers


def plain(name: str) -> str:
    """A name for a Bokeh label; without the dollar signs that would make Bokeh fetch a TeX renderer from outside."""
    return name.replace("$", "＄").replace("\\", "＼")  # noqa: RUF001
