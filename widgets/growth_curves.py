"""Tumour growth: volumes by day and arm, the middle of each arm with its interval, best responses, calls.

One curve is one subject under one treatment (its arm). Layout of ``frame_bytes`` (container: ``widgets._parts.pack``).

Header: ``version``, ``unit``, ``how`` (what the middle and the bars are, in words), ``control`` (name or null), ``day``
(of the inhibition, or null), ``subjects`` [name], ``arms`` [{name, n, tgi, tgi_low, tgi_high}]; ``tissues`` [{name, n}]
and ``total``, of all curves. Everything else is of the tissue that is shown.

Columns: of the curves ``arm_of`` i2, ``subject_of`` i4, ``call`` i1 (0 CR, 1 PR, 2 SD, 3 PD, -1 not called), ``best``
f4 (per cent, NaN too short) and ``start`` i4 (curves + 1); of the points ``day`` f4 and ``volume`` f4; of the arms
``grid_start`` i4 (arms + 1); of their grids ``grid_day``, ``median``, ``q25``, ``q75``, ``mean``, ``low``, ``high`` f4.
"""

from __future__ import annotations

from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._growth import ENDPOINT, HOW, arms_of, called, curves_of, middles, repeated
from widgets._parts import esm, pack
from widgets._selected import Selects
from widgets.linked import Selection
from widgets.palette import theme
from workbench.tables import TableError
from workbench.text import nearest

__all__ = ["ENDPOINT", "GrowthCurves"]

CALLS = ("CR", "PR", "SD", "PD")
FIRST = 4  # arms shown at the start


def _pack(curves: pl.DataFrame, arms: pl.DataFrame, grids: list[dict[str, np.ndarray]], **told: Any) -> bytes:
    """``curves``: one row a curve with lists ``day`` and ``volume``; ``arms`` and ``grids`` are in the same order."""
    names = arms["treatment"].to_list()
    subjects = curves["subject"].unique(maintain_order=True).to_list()
    rank = {name: i for i, name in enumerate(CALLS)}

    def flat(column: str) -> np.ndarray:
        return curves[column].explode(empty_as_null=False).cast(pl.Float32).to_numpy()

    def code(column: str, known: list[str], kind: type) -> np.ndarray:
        place = {name: i for i, name in enumerate(known)}
        return np.array([place[name] for name in curves[column]], dtype=kind)

    columns = {
        "arm_of": code("treatment", names, np.int16),
        "subject_of": code("subject", subjects, np.int32),
        "call": np.array([rank.get(call or "", -1) for call in curves["call"]], dtype=np.int8),
        "best": curves["best"].cast(pl.Float32).fill_null(float("nan")).to_numpy(),
        "start": np.cumsum([0, *curves["day"].list.len()]).astype(np.int32),
        "day": flat("day"),
        "volume": flat("volume"),
        "grid_start": np.cumsum([0, *(len(grid["grid_day"]) for grid in grids)]).astype(np.int32),
    }
    for name in ("grid_day", "median", "q25", "q75", "mean", "low", "high"):
        columns[name] = np.concatenate([np.empty(0), *(grid[name] for grid in grids)]).astype(np.float32)
    unit = curves["unit"][0] if len(curves) else ""
    return pack(
        columns,
        version=1,
        unit=unit.replace("mm3", "mm\u00b3"),
        **told,
        subjects=subjects,
        arms=[{"name": row.pop("treatment"), **row} for row in arms.to_dicts()],
    )


class GrowthCurves(Selects, anywidget.AnyWidget):
    """Tumour volume against day, by arm, with best responses and mRECIST calls.

    Parameters
    ----------
    outcomes : polars frame of ``tables.OUTCOMES``; endpoint ``tumour_volume`` with ``time_h`` is read, the rest ignored
    calls : subject, treatment, call, where calls were made elsewhere; by default ``workbench.assays.growth`` makes them
    control : the arm that growth inhibition is measured against
    subjects : subject, tissue: with two tissues or more, one of them can be looked at alone
    selection : what is selected, shared with other widgets
    title, note : heading, and a remark above the plots (such as "Synthetic data"); shown as text

    Attributes
    ----------
    arms : names of the arms shown, in the order of their colours
    tissue : the tissue shown, ``""`` for all; middles and inhibition are then of its curves alone
    selected : names of the selected subjects

    Raises
    ------
    TableError
        ``outcomes`` lacks a column, or volumes come in several units.

    Examples
    --------
    >>> growth = GrowthCurves(study.outcomes)  # doctest: +SKIP
    >>> growth.arms = ["untreated", "binimetinib"]  # doctest: +SKIP
    """

    _esm = esm("growth_curves")
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    arms = t.List(t.Unicode()).tag(sync=True)
    tissue = t.Unicode().tag(sync=True)

    def __init__(
        self,
        outcomes: pl.DataFrame,
        calls: pl.DataFrame | None = None,
        *,
        control: str | None = None,
        subjects: pl.DataFrame | None = None,
        selection: Selection | None = None,
        title: str = "",
        note: str = "",
    ) -> None:
        curves = called(curves_of(outcomes), calls)
        names = curves["treatment"].unique().to_list()
        if control is not None and control not in names:
            raise TableError(
                f"control {control!r} is no arm here.{nearest(control, names)} Arms: {sorted(names)[:12]}."
            )
        of = pl.DataFrame(schema={"subject": pl.String, "tissue": pl.String}) if subjects is None else subjects
        of = of.select(pl.col("subject", "tissue").cast(pl.String)).unique("subject", keep="first")
        self._all = curves.join(of, on="subject", how="left", maintain_order="left")
        self._control, self._said = control, " ".join(filter(None, [HOW, repeated(outcomes)]))
        self._names: list[str] = []
        super().__init__(theme=theme(), title=title, note=note)
        self._fill()
        self.join(selection)

    @t.observe("tissue")
    def _fill(self, _: Any = None) -> None:
        """Arms, middles and inhibition of the tissue that is shown."""
        own = pl.lit(True) if not self.tissue else pl.col("tissue") == self.tissue
        self._curves = self._all.filter(own)
        names = set(self._curves["treatment"])
        control = self._control if self._control in names else None
        arms, day = arms_of(self._curves, control)
        self._names = arms["treatment"].to_list()
        grids = [middles(self._curves.filter(pl.col("treatment") == name)) for name in self._names]
        tissues = self._all["tissue"].drop_nulls().value_counts(name="n").sort("tissue").rename({"tissue": "name"})
        told = {"how": self._said, "tissues": tissues.to_dicts(), "total": len(self._all)}
        kept = [name for name in self.arms if name in names]
        with self.hold_trait_notifications():
            self.frame_bytes = _pack(self._curves, arms, grids, control=control, day=day, **told)
            self.arms = kept or self._names[:FIRST]

    @t.validate("tissue")
    def _grown(self, proposal: Any) -> str:
        value, known = proposal["value"], self._all["tissue"].drop_nulls().unique().sort().to_list()
        if value and value not in known:
            raise t.TraitError(f"tissue {value!r} is not among the {len(known)} here.{nearest(value, known)}")
        return value

    @t.validate("arms")
    def _known(self, proposal: Any) -> list[str]:
        for name in proposal["value"]:
            if name not in self._names:
                raise t.TraitError(
                    f"arm {name!r} is not among the {len(self._names)} here.{nearest(name, self._names)}"
                )
        return list(dict.fromkeys(proposal["value"]))

    @property
    def shown(self) -> pl.DataFrame:
        """One row a curve that is drawn: subject, treatment, call, best (per cent), day and volume (lists)."""
        rows = self._curves.filter(pl.col("treatment").is_in(self.arms))
        return rows.select("subject", "treatment", "call", "best", "day", "volume")
