"""Concentration over time by arm or dose, on a logarithmic axis, with the limit of quantification marked.

Layout of ``frame_bytes`` (container: ``widgets._parts.pack``), of the compound, matrix and occasion that are shown.
Header: ``version``, ``unit``, ``label`` (of the time axis), ``how``, ``limits`` [number], ``subjects`` [name],
``groups`` [{name, subjects, samples, below, cmax, tmax, auc}], by rising dose, the last three [median, low, high, n] or
null. Columns: of the subjects ``group_of`` i2 and ``start`` i4 (subjects + 1) of ``time`` f4, ``value`` f4, ``below``
u1; of the groups ``mid_start`` i4 (groups + 1) of ``mid_time`` f4, ``mid`` f4 (NaN: below the limit).
"""

from __future__ import annotations

from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._exposure import HOW, PREFIX, middle, samples_of, summary_of
from widgets._parts import esm, pack
from widgets._selected import Selects
from widgets.linked import Selection
from widgets.palette import theme
from workbench.text import nearest

__all__ = ["PREFIX", "Exposure"]

ALL = "all"


def _pack(samples: pl.DataFrame, unit: str, label: str) -> bytes:
    groups = summary_of(samples)
    rank = {group["name"]: i for i, group in enumerate(groups)}
    curves = samples.group_by("subject", maintain_order=True).agg(pl.col("group").first(), "time_h", "value", "below")
    middles: list[tuple[list[float], list[float]]] = []
    for group in groups:
        own = samples.filter(pl.col("group") == group["name"]) if group["subjects"] > 1 else samples.clear()
        at = own.group_by("time_h").agg("value", "below").sort("time_h")
        middles.append((at["time_h"].to_list(), [middle(v, b) for _, v, b in at.iter_rows()]))

    def flat(column: str, kind: Any) -> np.ndarray:
        return curves[column].explode(empty_as_null=False).to_numpy().astype(kind)

    return pack(
        {
            "group_of": np.array([rank[name] for name in curves["group"]], dtype=np.int16),
            "start": np.cumsum([0, *curves["time_h"].list.len()]).astype(np.int32),
            "time": flat("time_h", np.float32),
            "value": flat("value", np.float32),
            "below": flat("below", np.uint8),
            "mid_start": np.cumsum([0, *(len(times) for times, _ in middles)]).astype(np.int32),
            "mid_time": np.array([x for times, _ in middles for x in times], dtype=np.float32),
            "mid": np.array([x for _, values in middles for x in values], dtype=np.float32),
        },
        version=1,
        unit=unit,
        label=label,
        how=HOW,
        limits=samples.filter("below")["value"].unique().sort().to_list(),
        subjects=curves["subject"].to_list(),
        groups=groups,
    )


class Exposure(Selects, anywidget.AnyWidget):
    """Concentration of a compound over time, subject by subject and the median of each arm or dose.

    Parameters
    ----------
    outcomes : polars frame of ``tables.OUTCOMES``; endpoints ``concentration <matrix>`` are read, the rest ignored;
        ``censored`` -1 is a sample below the limit of quantification, which then is its value
    subjects : subject, and what there is of arm, arm_dose, arm_dose_unit, species, route: they make the groups
    selection : what is selected, shared with other widgets
    title, note : heading, and a remark above the plot (such as "Synthetic data"); shown as text

    Attributes
    ----------
    options : compounds, matrices and occasions there are; of the last two those of the compound that is shown
    choice : compound, matrix, occasion (a number as text, or "all")
    selected : names of the selected subjects

    Raises
    ------
    TableError
        A column is missing, or a matrix has several units.

    Examples
    --------
    >>> exposure = Exposure(study.outcomes, study.subjects)  # doctest: +SKIP
    >>> exposure.choice = {"matrix": "plasma", "occasion": "1"}  # doctest: +SKIP
    >>> exposure.summary  # doctest: +SKIP
    """

    _esm = esm("exposure")
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    options = t.Dict().tag(sync=True)
    choice = t.Dict().tag(sync=True)

    def __init__(
        self,
        outcomes: pl.DataFrame,
        subjects: pl.DataFrame | None = None,
        *,
        selection: Selection | None = None,
        title: str = "",
        note: str = "",
    ) -> None:
        self._samples = samples_of(outcomes, subjects)
        counts = self._samples.group_by("treatment").agg(pl.col("subject").n_unique().alias("n"))
        self._compounds = counts.sort(-pl.col("n").cast(pl.Int64), "treatment").select(name="treatment", n="n")
        super().__init__(theme=theme(), title=title, note=note)
        self.choice = {}
        self._fill()
        self.observe(self._fill, "choice")
        self.join(selection)

    def _of(self, compound: str) -> dict[str, list[Any]]:
        """What of this compound can be chosen: matrices by how many samples they have, occasions by time."""
        own = self._samples.filter(pl.col("treatment") == compound)
        matrices = own["matrix"].value_counts(sort=True)["matrix"].to_list()
        found = own.select("occasion", "from_h").unique().sort("occasion")
        # there is no day 0: the first dose is on day 1 (SENDIG, study day)
        days = [(o, h / 24 + (h >= 0)) for o, h in found.iter_rows()]
        occasions = [{"value": str(o), "label": f"day {day:g} of the study"} for o, day in days]
        return {"matrices": matrices, "occasions": occasions}

    @t.validate("choice")
    def _completed(self, proposal: Any) -> dict[str, str]:
        asked, compounds = dict(proposal["value"]), self._compounds["name"].to_list()
        if strange := [name for name in asked if name not in ("compound", "matrix", "occasion")]:
            raise t.TraitError(f"choice: {strange[0]!r} is not one of compound, matrix, occasion.")
        compound = asked.get("compound") or self.choice.get("compound") or (compounds[0] if compounds else "")
        offered = self._of(compound)
        occasions = [o["value"] for o in offered["occasions"]]
        known = {"compound": compounds, "matrix": offered["matrices"], "occasion": [*occasions, ALL]}
        first = {"compound": compound, "matrix": [*known["matrix"], ""][0], "occasion": known["occasion"][0]}
        before = self.choice if self.choice.get("compound") == compound else {}
        found = {name: str(asked.get(name) or before.get(name) or first[name]) for name in first}
        for name, value in found.items():
            if value and value not in known[name]:
                if name == "compound" or "compound" not in asked:
                    raise t.TraitError(f"{name} {value!r} is not here.{nearest(value, known[name])}")
                found[name] = first[name]  # left over from another compound
        return found

    def _fill(self, _: Any = None) -> None:
        shown, start = self.shown, self._start
        unit = (shown["unit"][0] if len(shown) else "").replace("ug", "\u00b5g").replace("uM", "\u00b5M")
        label = f"Time from hour {start:g} of the study, h" if start else "Time, h"
        shown = shown.with_columns(pl.col("time_h") - start)
        with self.hold_trait_notifications():
            self.options = {"compounds": self._compounds.to_dicts(), **self._of(self.choice["compound"])}
            self.frame_bytes = _pack(shown, unit, label)

    @property
    def _start(self) -> float:
        """Hour of the study that is hour 0 of the occasion that is shown."""
        least = self.shown["from_h"].min() if self.choice["occasion"] != ALL else None
        return 0.0 if least is None else float(least)  # type: ignore[arg-type]

    @property
    def shown(self) -> pl.DataFrame:
        """The samples that are drawn: subject, treatment, matrix, unit, group, time_h, value, below ..."""
        choice = self.choice
        keep = (pl.col("treatment") == choice["compound"]) & (pl.col("matrix") == choice["matrix"])
        if choice["occasion"] != ALL:
            keep &= pl.col("occasion") == int(choice["occasion"])
        return self._samples.filter(keep)

    @property
    def summary(self) -> pl.DataFrame:
        """Of the groups that are drawn: name, subjects, samples, below, and medians of cmax, tmax and auc."""
        found = summary_of(self.shown.with_columns(pl.col("time_h") - self._start))
        kinds = {"name": pl.String, "subjects": pl.Int64, "samples": pl.Int64, "below": pl.Int64}
        sizes = dict.fromkeys(("cmax", "tmax", "auc"), pl.Float64)
        rows = [{**row, **{c: row[c][0] if row[c] else None for c in sizes}} for row in found]
        return pl.DataFrame(rows, schema={**kinds, **sizes})
