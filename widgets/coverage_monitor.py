"""COVERAGE as people read it: what was promised, what was found, where it breaks, and what another interval changes.

Layout of ``frame_bytes`` (container: ``widgets._parts.pack``). Header: ``version``, ``predictors``, ``splits``,
``intervals``, ``kinds``, ``names`` (of groups), ``units``, ``verdicts``: lists of texts that the columns point into.
Columns, one entry a row of the table: ``predictor``, ``split``, ``interval`` i2, ``kind`` i1, ``name`` i4, ``position``
i2, ``unit`` i1, ``verdict`` i1, ``n`` and ``k`` i4 (rows and units), and ``level``, ``covered``, ``low``, ``high``,
``below``, ``above``, ``width``, ``unbounded`` f4 (NaN where unknown).
"""

from __future__ import annotations

from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._parts import esm, pack
from widgets.palette import theme
from workbench.tables import COVERAGE, TableError, check
from workbench.text import nearest

VERDICTS = ("breaks", "wider than promised", "in doubt", "holds", "too few to judge")
KINDS = ("all", "tissue", "treatment", "predicted", "distance", "fold")
FIGURES = ("level", "covered", "low", "high", "below", "above", "width", "unbounded")
CODED = {"predictor": "predictors", "split": "splits", "intervals": "intervals", "name": "names", "unit": "units"}


def _packed(frame: pl.DataFrame) -> tuple[bytes, dict[str, list[str]]]:
    columns, header = {}, {}
    for column, plural in CODED.items():
        texts = frame[column].cast(pl.String)
        known = texts.unique(maintain_order=True).to_list()
        at = {text: i for i, text in enumerate(known)}
        kind = {"name": np.int32, "unit": np.int8}.get(column, np.int16)
        columns["interval" if column == "intervals" else column] = np.array([at[x] for x in texts], dtype=kind)
        header[plural] = known
    for column, order in (("by", KINDS), ("verdict", VERDICTS)):
        texts = frame[column].cast(pl.String)
        strange = sorted(set(texts) - set(order))
        if strange:
            raise TableError(
                f"table COVERAGE: {column} {strange[0]!r} is not known.{nearest(strange[0], order)} "
                f"Expected one of {list(order)}."
            )
        columns["kind" if column == "by" else column] = np.array([order.index(x) for x in texts], dtype=np.int8)
    columns["position"] = frame["position"].cast(pl.Int16).to_numpy()
    columns |= {"n": frame["n"].cast(pl.Int32).to_numpy(), "k": frame["units"].cast(pl.Int32).to_numpy()}
    for column in FIGURES:
        columns[column] = frame[column].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    kinds = [k for k in KINDS if k in set(frame["by"].cast(pl.String))]
    header["kinds"] = list(KINDS)
    return pack(columns, version=1, verdicts=list(VERDICTS), **header), header | {"kinds": kinds}


class CoverageMonitor(anywidget.AnyWidget):
    """Coverage of prediction intervals by tissue, drug, prediction, distance and fold, against what they promise.

    Parameters
    ----------
    coverage : polars frame of ``tables.COVERAGE``, of any predictors, splits and kinds of interval; may be empty
    title, note : heading, and a remark above the plot; shown as text

    Attributes
    ----------
    predictor, split, intervals, by : what is shown; an unknown name is refused
    beside : other intervals, drawn as rings beside those shown; ``""`` for none

    Raises
    ------
    TableError
        ``coverage`` is not such a table, or holds an unknown kind or verdict.

    Examples
    --------
    >>> CoverageMonitor(coverage.table(run.predictions))  # doctest: +SKIP
    """

    _esm = esm("coverage_monitor")
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    predictor = t.Unicode().tag(sync=True)
    split = t.Unicode().tag(sync=True)
    intervals = t.Unicode().tag(sync=True)
    beside = t.Unicode().tag(sync=True)
    by = t.Unicode().tag(sync=True)

    def __init__(self, coverage: pl.DataFrame, *, title: str = "", note: str = "") -> None:
        self._coverage = check(coverage, COVERAGE)
        packed, self._known = _packed(self._coverage)
        first: dict[str, Any] = {}
        if self._coverage.height:
            first = {
                "predictor": self._known["predictors"][-1],
                "split": self._known["splits"][0],
                "intervals": self._known["intervals"][0],
                "by": "tissue" if "tissue" in self._known["kinds"] else self._known["kinds"][0],
            }
        super().__init__(frame_bytes=packed, theme=theme(), title=title, note=note, **first)

    @t.validate("predictor", "split", "intervals", "by", "beside")
    def _there(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        plural = {"predictor": "predictors", "split": "splits", "by": "kinds"}.get(name, "intervals")
        known = self._known[plural]
        if value not in known and not (value == "" and (name == "beside" or not known)):
            raise t.TraitError(f"{name} {value!r} is not among the {len(known)} here.{nearest(value, known)}")
        return value

    @property
    def shown(self) -> pl.DataFrame:
        """The rows that are drawn: those chosen, in the order of the table."""
        chosen = [pl.col(c) == getattr(self, c) for c in ("predictor", "split", "intervals", "by")]
        return self._coverage.filter(pl.all_horizontal(chosen))

    @property
    def breaks(self) -> pl.DataFrame:
        """Groups of what is shown whose intervals hold less than they promise, worst first."""
        return self.shown.filter(pl.col("verdict") == "breaks").sort(pl.col("covered") - pl.col("level"))
