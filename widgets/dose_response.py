"""Dose-response curves compared: several lines under one drug, or several drugs on one line.

The index of all curves crosses once; points, curve and band cross for the few that are shown. Layouts (container:
``widgets._parts.pack``).

``index_bytes``, one row a curve. Header: ``version``, ``subjects`` [name], ``treatments`` [name], ``dose_unit``.
Columns: ``subject_of`` i4, ``treatment_of`` i4, ``ic50`` f4 (dose; NaN unknown), ``state`` i1 (0 exact, +1 above, -1
below, 2 flat).

``frame_bytes``. Header: ``version``, ``dose_unit``, ``label``, ``unit``, ``full`` (the untreated response, 1), ``low``,
``high`` (doses tested), ``level``, ``how``, ``curves`` [{subject, treatment, from, to, ic50, ic50_low, ic50_high,
state, flags}]. Columns: ``start`` i4 (curves + 1) of ``dose``, ``value`` f4; ``mean_start`` i4 (curves + 1) of
``mean_dose``, ``mean`` f4; ``grid`` f4 (G, log10 of the dose); ``mid``, ``lower``, ``upper`` f4 (curves * G). Responses
are fractions of the untreated one.
"""

from __future__ import annotations

from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._dose import ENDPOINT, GRID, HOW, KEY, drawn, fits_of, points_of, suffix_of
from widgets._parts import esm, pack
from widgets._selected import Selects
from widgets.linked import Selection
from widgets.palette import theme
from workbench.text import nearest

__all__ = ["ENDPOINT", "DoseResponse"]

LEVEL = 0.95
MOST = 8  # curves side by side: as many as there are colours
FIRST = 4  # shown at the start


def _code(column: pl.Series, known: list[str]) -> np.ndarray:
    place = pl.Series(range(len(known)), dtype=pl.Int32)
    codes = column.replace_strict(pl.Series(known, dtype=pl.String), place, return_dtype=pl.Int32)
    return codes.to_numpy().astype(np.int32)


class DoseResponse(Selects, anywidget.AnyWidget):
    """Dose-response points, fitted curves with their bands, IC50s, and a line that reads them at any dose.

    Parameters
    ----------
    points : polars frame of ``tables.OUTCOMES``; endpoint ``viability`` with a dose is read, the rest ignored
    fits : one row a curve, as ``workbench.assays.dose_response.fit`` gives it, which is asked by default
    selection : what is selected, shared with other widgets
    title, note : heading, and a remark above the plot (such as "Synthetic data"); shown as text

    Attributes
    ----------
    by : ``"treatment"`` (one drug, several lines) or ``"subject"`` (one line, several drugs)
    one : the drug or line that is kept
    others : up to eight lines or drugs compared, in the order of their colours
    dose : where the dose line stands, in the dose's unit; 0 puts it in the middle
    selected : names of the selected subjects

    Raises
    ------
    TableError
        A column is missing, or units are mixed.

    Examples
    --------
    >>> curves = DoseResponse(study.outcomes, dose_response.fit(study.outcomes))  # doctest: +SKIP
    >>> curves.one, curves.others, curves.dose = "Erlotinib", ["A549", "PC-9"], 0.3  # doctest: +SKIP
    >>> curves.reading  # doctest: +SKIP
    """

    _esm = esm("dose_response")
    index_bytes = t.Bytes().tag(sync=True)
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    by = t.Enum(["treatment", "subject"], default_value="treatment").tag(sync=True)
    one = t.Unicode().tag(sync=True)
    others = t.List(t.Unicode()).tag(sync=True)
    dose = t.Float(0.0).tag(sync=True)
    most = t.Int(MOST).tag(sync=True)

    def __init__(
        self,
        points: pl.DataFrame,
        fits: pl.DataFrame | None = None,
        *,
        selection: Selection | None = None,
        title: str = "",
        note: str = "",
    ) -> None:
        self._points = points_of(points, None if fits is None else suffix_of(fits))
        self._dose_unit = str(self._points["dose_unit"][0]) if len(self._points) else "uM"
        self._fits = fits_of(self._fitted() if fits is None else fits, self._points)
        self._names = {c: self._fits[c].unique().sort().to_list() for c in KEY}
        index = pack(
            {
                "subject_of": _code(self._fits["subject"], self._names["subject"]),
                "treatment_of": _code(self._fits["treatment"], self._names["treatment"]),
                "ic50": self._fits["ic50"].cast(pl.Float32).fill_null(float("nan")).to_numpy(),
                "state": self._fits["state"].to_numpy(),
            },
            version=1,
            subjects=self._names["subject"],
            treatments=self._names["treatment"],
            dose_unit=self._dose_unit.replace("uM", "\u00b5M"),
        )
        super().__init__(index_bytes=index, theme=theme(), title=title, note=note)
        with self.hold_trait_notifications():
            self._begin()
        self.join(selection)

    def _fitted(self) -> pl.DataFrame:
        from workbench.assays import dose_response

        points = self._points.with_columns(unit=pl.lit("fraction"))
        return dose_response.fit(points, dose_unit=self._dose_unit)

    def _begin(self) -> None:
        """The name with the most curves, and the first of its partners."""
        names = self._names[self.by]
        if self.one not in names:
            most = self._fits.group_by(self.by).len().sort(-pl.col("len").cast(pl.Int64), self.by)
            self.one = most[self.by][0] if len(most) else ""
        self.others = self.partners()[:FIRST]

    @t.observe("by")
    def _turn(self, _: Any) -> None:
        self.one = ""
        self._begin()

    @t.observe("one")
    def _keep(self, _: Any) -> None:
        known = set(self.partners())
        kept = [name for name in self.others if name in known]
        self.others = kept or self.partners()[:FIRST]
        self._repack()

    @t.observe("others")
    def _repack(self, _: Any = None) -> None:
        self.frame_bytes = self._pack(self.shown)

    @t.validate("one")
    def _one_of_us(self, proposal: Any) -> str:
        value, names = proposal["value"], self._names[self.by]
        if value and value not in names:
            raise t.TraitError(f"{self.by} {value!r} is not among the {len(names)} here.{nearest(value, names)}")
        return value

    @t.validate("others")
    def _few(self, proposal: Any) -> list[str]:
        value, side = list(dict.fromkeys(proposal["value"])), self._other
        for name in value:
            if name not in self._names[side]:
                raise t.TraitError(f"{side} {name!r} has no curve here.{nearest(name, self._names[side])}")
        if len(value) > MOST:
            raise t.TraitError(f"others: {len(value)} curves asked for; {MOST} can be told apart.")
        return value

    @property
    def _other(self) -> str:
        return "subject" if self.by == "treatment" else "treatment"

    def partners(self) -> list[str]:
        """Lines tested with the drug that is kept (or drugs with the line), lowest IC50 first, flat ones last."""
        mine = self._fits.filter(pl.col(self.by) == self.one)
        size = pl.when(pl.col("state") == 2).then(None).otherwise("ic50")
        return mine.sort(size, self._other, nulls_last=True)[self._other].to_list()

    @property
    def shown(self) -> pl.DataFrame:
        """The fits of the curves that are drawn, in the order of ``others``."""
        rank = pl.DataFrame({self._other: self.others}, schema={self._other: pl.String})
        return rank.join(self._fits.filter(pl.col(self.by) == self.one), on=self._other, maintain_order="left")

    @property
    def reading(self) -> pl.DataFrame:
        """Of the drawn curves at ``dose``: subject, treatment, predicted, low, high (fractions of the untreated)."""
        rows = []
        for row in self.shown.iter_rows(named=True):
            points = self._of(row)
            doses = np.sort(points["dose"].unique().to_numpy())
            doses = doses[doses > 0]
            at = np.array([self.dose if self.dose > 0 else float(np.sqrt(doses[0] * doses[-1]))])
            middle, low, high = drawn(points, at, row["state"] == 2)
            rows.append((row["subject"], row["treatment"], float(middle[0]), float(low[0]), float(high[0])))
        names = ["predicted", "low", "high"]
        return pl.DataFrame(
            rows, schema={**dict.fromkeys(KEY, pl.String), **dict.fromkeys(names, pl.Float64)}, orient="row"
        )

    def _of(self, row: dict[str, Any]) -> pl.DataFrame:
        return self._points.filter((pl.col("subject") == row["subject"]) & (pl.col("treatment") == row["treatment"]))

    def _pack(self, shown: pl.DataFrame) -> bytes:
        found = [(row, self._of(row)) for row in shown.iter_rows(named=True)]
        whole = [(row["state"] == 2, points) for row, points in found]
        found = [(row, points.filter(pl.col("dose") > 0)) for row, points in found]  # no place for 0 on a log axis
        doses = np.concatenate([np.empty(0), *(points["dose"].to_numpy() for _, points in found)])
        low, high = (float(doses.min()), float(doses.max())) if len(doses) else (0.01, 10.0)
        if not low < high:
            low, high = low / 3, high * 3
        grid = np.linspace(np.log10(low / 1.4), np.log10(high * 1.4), GRID)
        means = [p.group_by("dose", maintain_order=True).agg(pl.col("value").mean()) for _, p in found]
        lines = [drawn(points, 10**grid, flat) for flat, points in whole]

        def joined(arrays: list[Any]) -> np.ndarray:
            return np.concatenate([np.empty(0), *arrays]).astype(np.float32)

        columns = {
            "start": np.cumsum([0, *(len(p) for _, p in found)]).astype(np.int32),
            "dose": joined([p["dose"].to_numpy() for _, p in found]),
            "value": joined([p["value"].to_numpy() for _, p in found]),
            "mean_start": np.cumsum([0, *map(len, means)]).astype(np.int32),
            "mean_dose": joined([m["dose"].to_numpy() for m in means]),
            "mean": joined([m["value"].to_numpy() for m in means]),
            "grid": grid.astype(np.float32),
            **{name: joined([line[i] for line in lines]) for i, name in enumerate(("mid", "lower", "upper"))},
        }
        curves = [
            {**row, "from": float(points["dose"].min() or low), "to": float(points["dose"].max() or high)}  # type: ignore[arg-type]
            for row, points in found
        ]
        return pack(
            columns, version=1, dose_unit=self._dose_unit.replace("uM", "\u00b5M"), label="Viability",
            unit="fraction of untreated", full=1.0, low=low, high=high, level=LEVEL, how=HOW, curves=curves,
        )  # fmt: skip
