"""Predicted against observed, drug by drug: a notebook widget whose arithmetic runs in the browser.

The same ``prediction_explorer.js`` runs in JupyterLab (this class), in Panel and in a page without a server, because
everything it needs crosses once, as bytes. ``ESM`` is its whole text: use this, not the file, for the shared parts.

Traits (a Panel component that declares parameters of these names and passes ``ESM`` works alike):

=============  =======  =====================================================================================
frame_bytes    bytes    what ``pack_predictions`` returns (layout below)
theme          str      ``widgets.palette.theme()``, the style sheet
title          str      heading; shown as text
series         str      one of the header's ``series[i].key``; endpoint, unit and split
predictor      str      one of the header's ``predictors[i].name``
treatment      str      one of the header's ``treatments``; ``""`` shows all of them
view           str      ``"observed"`` (predicted against observed) or ``"residuals"`` (observed - predicted)
brush          list     ``[x0, x1, y0, y1]`` in the units of the view's axes, or ``[]``
marked         list     names of subjects that another widget has selected: bright where there is no brush
=============  =======  =====================================================================================

Layout of ``frame_bytes`` (container: ``widgets._parts.pack``). One row is one measured pair, shared by all predictors;
rows are sorted by series, then treatment, then subject.

Header::

    version     1
    pairs       number of rows
    series      [{key, endpoint, label, unit, split}]     label and unit are for people: "ln IC50", "ln(µM)"
    predictors  [{name, naive, level, intervals}]         naive: is it of the naive family; level: 0.9 or null
    treatments  [name]       subjects  [name]       tissues  [name]

Columns::

    start          i4  S*T+1   rows of series s, treatment t are start[s*T+t] to start[s*T+t+1]
    tissue_of      i2  subjects -> index into tissues, -1 unknown
    subject        i4  rows -> index into subjects
    fold           i2  rows
    censored       i1  rows: 0 exact, +1 the truth lies above, -1 below
    observed       f4  rows
    baseline       f4  rows: mean effects of the training rows, NaN unknown
    predicted.<k>  f4  rows: predictor k, NaN where it abstained or was not asked
    low.<k>        f4  rows, only when predictors[k].intervals
    high.<k>       f4  rows, only when predictors[k].intervals
"""

from __future__ import annotations

import math
from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._parts import esm, pack, readable
from widgets.linked import Selection
from widgets.palette import theme
from workbench.tables import PREDICTIONS, TableError, check
from workbench.text import nearest

ESM = esm("prediction_explorer")
NAIVE = ("global_mean", "drug_mean", "cell_mean", "tissue_mean", "tissue_drug_mean", "mean_effects")
"""Predictors that stand for knowing nothing of the biology; every score is shown beside the best of them."""

_SERIES = ["endpoint", "unit", "split"]
_KEY = [*_SERIES, "fold", "row"]
_SHOWN = ["subject", "tissue", "treatment", "fold", "row", "observed", "predicted", "low", "high", "residual"]


def _keyed(predictions: pl.DataFrame, subjects: pl.DataFrame | None) -> pl.DataFrame:
    """Scored rows with plain strings, tissue filled from ``subjects``, and a ``series`` column."""
    frame = check(predictions, PREDICTIONS).with_columns(
        pl.col(*(c for c, kind in PREDICTIONS.columns.items() if isinstance(kind, pl.String))).cast(pl.String)
    )
    if subjects is not None:
        if missing := {"subject", "tissue"} - set(subjects.columns):
            raise TableError(f"subjects: columns {sorted(missing)} are missing; found {subjects.columns}.")
        known = subjects.select(pl.col("subject", "tissue").cast(pl.String)).unique("subject", keep="first")
        frame = frame.join(known.rename({"tissue": "_tissue"}), on="subject", how="left").with_columns(
            pl.coalesce("tissue", "_tissue").alias("tissue")
        )
        frame = frame.drop("_tissue")
    frame = frame.filter(pl.col("observed").is_finite())
    twice = frame.select("predictor", *_KEY).is_duplicated()
    if twice.any():
        row = frame.row(int(twice.arg_max() or 0), named=True)
        raise TableError(
            f"table PREDICTIONS: predictor {row['predictor']!r} answers row {row['row']} of fold {row['fold']} "
            "more than once. Keep one run, seed or repetition."
        )
    return frame.with_columns(pl.concat_str(_SERIES, separator=" \u00b7 ").alias("series"))


def pack_predictions(predictions: pl.DataFrame, subjects: pl.DataFrame | None = None) -> bytes:
    """PREDICTIONS (scored) as the bytes that the browser half reads; the layout is at the top of this file.

    Parameters
    ----------
    predictions : polars frame of ``tables.PREDICTIONS``; rows without an observed value are left out
    subjects : polars frame with subject and tissue, for rows whose tissue is empty

    Raises
    ------
    TableError
        A column is missing or of another type, or a predictor answers one row twice.
    """
    return _pack(_keyed(predictions, subjects))


def _pack(frame: pl.DataFrame) -> bytes:
    series = frame.select("series", *_SERIES).unique(maintain_order=True).sort("series")
    treatments = frame["treatment"].unique().sort()
    people = frame.group_by("subject").agg(pl.col("tissue").drop_nulls().first()).sort("subject")
    tissues = people["tissue"].drop_nulls().unique().sort()
    names = _predictors(frame)

    def code(column: pl.Series, known: pl.Series) -> pl.Series:
        number = pl.Series(range(len(known)), dtype=pl.Int32)
        return column.replace_strict(known, number, default=-1, return_dtype=pl.Int32)

    pairs = (
        frame.group_by(_KEY, maintain_order=True)
        .agg(
            pl.col("series", "subject", "treatment", "observed", "censored").first(),
            pl.col("baseline").drop_nulls().first(),
        )
        .sort("series", "treatment", "subject", "fold", "row")
    )
    which, what = code(pairs["series"], series["series"]), code(pairs["treatment"], treatments)
    where = which.to_numpy().astype(np.int64) * len(treatments) + what.to_numpy()
    cells = len(series) * len(treatments)
    columns: dict[str, np.ndarray] = {
        "start": np.searchsorted(where, np.arange(cells + 1)).astype(np.int32),
        "tissue_of": code(people["tissue"], tissues).to_numpy().astype(np.int16),
        "subject": code(pairs["subject"], people["subject"]).to_numpy(),
        "fold": pairs["fold"].to_numpy().astype(np.int16),
        "censored": pairs["censored"].fill_null(0).to_numpy(),
        "observed": _floats(pairs["observed"]),
        "baseline": _floats(pairs["baseline"]),
    }
    described: list[dict[str, Any]] = []
    for k, name in enumerate(names):
        own = frame.filter(pl.col("predictor") == name)
        answers = own.select(*_KEY, "predicted", "low", "high")
        values = pairs.select(_KEY).join(answers, on=_KEY, how="left", maintain_order="left")
        columns[f"predicted.{k}"] = _floats(values["predicted"])
        intervals = bool((values["low"].is_finite() & values["high"].is_finite()).any())
        if intervals:
            columns[f"low.{k}"], columns[f"high.{k}"] = _floats(values["low"]), _floats(values["high"])
        level = float(own["level"][0]) if len(own) else None
        described.append({"name": name, "naive": name in NAIVE, "level": level, "intervals": intervals})
    return pack(
        columns,
        version=1,
        pairs=len(pairs),
        series=[
            {
                "key": row["series"],
                "endpoint": row["endpoint"],
                **dict(zip(("label", "unit"), readable(row["endpoint"], row["unit"]), strict=True)),
                "split": row["split"],
            }
            for row in series.iter_rows(named=True)
        ],
        predictors=described,
        treatments=treatments.to_list(),
        subjects=people["subject"].to_list(),
        tissues=tissues.to_list(),
    )


def _floats(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Float32).fill_null(float("nan")).to_numpy()


def _predictors(frame: pl.DataFrame) -> list[str]:
    """Predictor names, the naive family last, otherwise by name."""
    return sorted(frame["predictor"].unique().to_list(), key=lambda name: (name in NAIVE, name))


class PredictionExplorer(anywidget.AnyWidget):
    """Predicted against observed with intervals, per-drug picker, brush and residuals.

    Parameters
    ----------
    predictions : polars frame of ``tables.PREDICTIONS`` after scoring (``observed`` filled)
    subjects : polars frame with subject and tissue; fills empty tissues
    title : heading, shown as text
    selection : shared with other widgets: what they select is bright here, and a brush here selects there

    Attributes
    ----------
    series, predictor, treatment, view, brush, marked : what is shown; set them here or by hand (see the module)

    Raises
    ------
    TableError
        ``predictions`` is not such a table, or a predictor answers one row twice.

    Examples
    --------
    >>> explorer = PredictionExplorer(run.predictions)  # doctest: +SKIP
    >>> explorer.treatment = "Erlotinib"  # doctest: +SKIP
    >>> explorer.brush = [-2.0, 1.0, 2.0, 6.0]  # predicted resistant, observed sensitive  # doctest: +SKIP
    >>> explorer.brushed["tissue"].value_counts()  # doctest: +SKIP
    """

    _esm = ESM
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    series = t.Unicode().tag(sync=True)
    predictor = t.Unicode().tag(sync=True)
    treatment = t.Unicode().tag(sync=True)
    view = t.Enum(["observed", "residuals"], default_value="observed").tag(sync=True)
    brush = t.List(t.Float()).tag(sync=True)
    marked = t.List(t.Unicode()).tag(sync=True)

    def __init__(
        self,
        predictions: pl.DataFrame,
        subjects: pl.DataFrame | None = None,
        title: str = "",
        selection: Selection | None = None,
    ) -> None:
        self.selection: Selection | None = None
        self._frame = _keyed(predictions, subjects)
        self._known = {
            "series": self._frame["series"].unique().sort().to_list(),
            "predictor": _predictors(self._frame),
            "treatment": ["", *self._frame["treatment"].unique().sort().to_list()],
        }
        first = {name: known[0] if known else "" for name, known in self._known.items()}
        super().__init__(frame_bytes=_pack(self._frame), theme=theme(), title=title, **first)
        self.selection, self._speaks = selection, f"predictions {id(self)}"
        if selection is not None:
            selection.observe(self._heard, "subjects")
            self._heard(None)

    def leave(self) -> None:
        """Stop following the selection."""
        if self.selection is not None:
            self.selection.unobserve(self._heard, "subjects")

    def _heard(self, _: Any) -> None:
        """Mark what another widget has selected."""
        if self.selection is not None and self.selection.by != self._speaks:
            self.marked = [str(name) for name in self.selection.subjects]

    @t.observe("brush")
    def _speak(self, _: Any) -> None:
        if self.selection is not None:
            self.marked = []
            self.selection.select(self.brushed["subject"].unique(maintain_order=True).to_list(), self._speaks)

    @t.validate("series", "predictor", "treatment")
    def _one_of(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        known = self._known[name]
        if value not in known and (value or known):
            raise t.TraitError(f"{name} {value!r} is not among the {len(known)} here.{nearest(value, known)}")
        return value

    @t.validate("brush")
    def _rectangle(self, proposal: Any) -> list[float]:
        value = proposal["value"]
        if not value:
            return []
        if len(value) != 4 or not all(map(math.isfinite, value)):
            raise t.TraitError(f"brush should be [x0, x1, y0, y1] in the view's units, or []; found {value}.")
        x0, x1, y0, y1 = value
        return [min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)]

    @t.observe("view")
    def _new_axes(self, _: Any) -> None:
        self.brush = []  # a rectangle means nothing on other axes

    @property
    def shown(self) -> pl.DataFrame:
        """Rows that are drawn: subject, tissue, treatment, fold, row, observed, predicted, low, high, residual."""
        rows = self._frame.filter(
            (pl.col("series") == self.series)
            & (pl.col("predictor") == self.predictor)
            & pl.col("predicted").is_finite()
            & (pl.lit(self.treatment == "") | (pl.col("treatment") == self.treatment))
        )
        return rows.with_columns((pl.col("observed") - pl.col("predicted")).alias("residual")).select(_SHOWN)

    @property
    def brushed(self) -> pl.DataFrame:
        """The drawn rows inside the brush; no brush, no rows."""
        rows = self.shown
        if not self.brush:
            return rows.clear()
        x0, x1, y0, y1 = self.brush
        x, y = ("observed", "predicted") if self.view == "observed" else ("predicted", "residual")
        return rows.filter(pl.col(x).is_between(x0, x1) & pl.col(y).is_between(y0, y1))

    @property
    def per_treatment(self) -> pl.DataFrame:
        """Treatment, n, Pearson and RMSE of the picked predictor over all folds, best first, undefined last."""
        rows = self._frame.filter(
            (pl.col("series") == self.series)
            & (pl.col("predictor") == self.predictor)
            & pl.col("predicted").is_finite()
        )
        flat = (pl.col("observed").n_unique() < 2) | (pl.col("predicted").n_unique() < 2) | (pl.len() < 3)
        return (
            rows.group_by("treatment")
            .agg(
                pl.len().cast(pl.Int64).alias("n"),
                pl.when(flat).then(None).otherwise(pl.corr("predicted", "observed")).alias("Pearson"),
                (pl.col("predicted") - pl.col("observed")).pow(2).mean().sqrt().alias("RMSE"),
            )
            .sort("Pearson", "treatment", descending=[True, False], nulls_last=True)
        )
