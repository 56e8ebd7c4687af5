"""Subjects by modalities of a study: what is there, what is missing, and a selection of subjects.

Layout of ``frame_bytes`` (container: ``widgets._parts.pack``); one row is one subject, in the order given.
Header: ``version``, ``subjects`` [name], ``group`` (the word for what follows), ``tissues`` [name], ``modalities``
[name], ``treatments`` (how many, or null),
``endpoints`` [{label, unit, n}]. Columns: ``tissue_of`` i2 (index into tissues, -1 unknown), ``n_outcomes`` i4,
``n_treatments`` i4 (only when outcomes were given), ``has.<k>`` u1 (modality k: 1 there, 0 missing).
"""

from __future__ import annotations

from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._parts import esm, pack, readable
from widgets.linked import Selection
from widgets.palette import theme
from workbench.tables import TableError
from workbench.text import nearest

_FIXED = {"subject": pl.String, "tissue": pl.String, "n_outcomes": pl.Int64}
_STATES = ("has", "lacks")


def _checked(presence: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Presence with plain strings, and its modalities (all Boolean columns)."""
    if missing := [c for c in _FIXED if c not in presence.columns]:
        raise TableError(f"presence: column {missing[0]!r} is missing; found {presence.columns}. Use study.presence().")
    modalities = [c for c in presence.columns if c not in _FIXED]
    for name in modalities:
        if presence.schema[name] != pl.Boolean:
            raise TableError(f"presence: modality {name!r} should be Boolean, found {presence.schema[name]}.")
    frame = presence.with_columns(
        pl.col("subject", "tissue").cast(pl.String),
        pl.col("n_outcomes").cast(pl.Int64).fill_null(0),
        *(pl.col(name).fill_null(False) for name in modalities),
    )
    if frame["subject"].null_count() or frame["subject"].n_unique() != len(frame):
        raise TableError("presence: each subject should have a name and one row; found empty or repeated names.")
    return frame, modalities


def _pack(frame: pl.DataFrame, modalities: list[str], outcomes: pl.DataFrame | None, group: str) -> bytes:
    tissues = frame["tissue"].drop_nulls().unique().sort()
    codes = frame["tissue"].replace_strict(
        tissues, pl.Series(range(len(tissues)), dtype=pl.Int16), default=-1, return_dtype=pl.Int16
    )
    columns: dict[str, np.ndarray] = {
        "tissue_of": codes.to_numpy(),
        "n_outcomes": frame["n_outcomes"].to_numpy().astype(np.int32),
        **{f"has.{k}": frame[name].to_numpy().astype(np.uint8) for k, name in enumerate(modalities)},
    }
    endpoints: list[dict[str, Any]] = []
    treatments = None
    if outcomes is not None:
        tried = outcomes.group_by(pl.col("subject").cast(pl.String)).agg(pl.col("treatment").n_unique().alias("n"))
        counts = frame.select("subject").join(tried, on="subject", how="left", maintain_order="left")["n"].fill_null(0)
        columns["n_treatments"] = counts.to_numpy().astype(np.int32)
        treatments = outcomes["treatment"].n_unique()
        for row in outcomes.group_by("endpoint", "unit").len("n").sort("endpoint", "unit").iter_rows(named=True):
            label, unit = readable(str(row["endpoint"]), str(row["unit"]))
            endpoints.append({"label": label, "unit": unit, "n": row["n"]})
    return pack(
        columns,
        version=1,
        subjects=frame["subject"].to_list(),
        group=group,
        tissues=tissues.to_list(),
        modalities=modalities,
        treatments=treatments,
        endpoints=endpoints,
    )


class StudyBrowser(anywidget.AnyWidget):
    """What a study holds of whom; click a tissue, ask for modalities, search: the rest is the selection.

    Parameters
    ----------
    presence : polars frame subject, tissue, one Boolean column per modality, n_outcomes (``study.presence()``)
    outcomes : polars frame of ``tables.OUTCOMES``; adds treatments per subject and a line per endpoint
    title : heading, shown as text
    group : the word for what stands in ``tissue``, where that is something else: "arm", "species"
    selection : shared with other widgets: what they select is marked here, and filters set here select there

    Attributes
    ----------
    marked : subjects that another widget has selected
    filters : dict with ``tissues`` (list; empty: all), ``modalities`` ({name: "has" or "lacks"}; absent: any) and
        ``search`` (part of a subject's name, in any case). Set it here or by hand in the page.
    selected : names of the subjects that pass the filters, in the order given; observe it to follow the page
    subject : the subject picked in the table, or ``""``

    Raises
    ------
    TableError
        A column is missing or no Boolean, or a subject has no name or several rows.

    Examples
    --------
    >>> browser = StudyBrowser(study.presence(), study.outcomes)  # doctest: +SKIP
    >>> browser.filters = {"tissues": ["lung"], "modalities": {"mutation": "has"}}  # doctest: +SKIP
    >>> browser.selection_frame()  # doctest: +SKIP
    """

    _esm = esm("study_browser")
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    filters = t.Dict().tag(sync=True)
    subject = t.Unicode().tag(sync=True)
    marked = t.List(t.Unicode()).tag(sync=True)
    selected = t.List(t.Unicode())

    def __init__(
        self,
        presence: pl.DataFrame,
        outcomes: pl.DataFrame | None = None,
        title: str = "",
        selection: Selection | None = None,
        *,
        group: str = "tissue",
    ) -> None:
        self._frame, self._modalities = _checked(presence)
        self._tissues = self._frame["tissue"].drop_nulls().unique().sort().to_list()
        packed = _pack(self._frame, self._modalities, outcomes, group)
        self.selection: Selection | None = None
        super().__init__(frame_bytes=packed, theme=theme(), title=title, filters={})
        self.selected = self.selection_frame()["subject"].to_list()
        self.selection, self._speaks = selection, f"study browser {id(self)}"
        if selection is not None:
            selection.observe(self._heard, "subjects")
            self._heard(None)

    def leave(self) -> None:
        """Stop following the selection."""
        if self.selection is not None:
            self.selection.unobserve(self._heard, "subjects")

    def _heard(self, _: Any) -> None:
        """Mark what another widget has selected."""
        if self.selection is not None:
            mine = self.selection.by == self._speaks
            self.marked = [] if mine else [str(name) for name in self.selection.subjects]

    @t.validate("filters")
    def _complete(self, proposal: Any) -> dict[str, Any]:
        asked = dict(proposal["value"])
        whole = {"tissues": [], "modalities": {}, "search": ""}
        self._known("filter", asked, whole)
        found = {**whole, **asked}
        self._known("tissue", found["tissues"], self._tissues)
        self._known("modality", found["modalities"], self._modalities)
        states = {name: state for name, state in found["modalities"].items() if state != "any"}
        self._known("state", states.values(), [*_STATES, "any"])
        return {"tissues": list(found["tissues"]), "modalities": states, "search": str(found["search"])}

    @staticmethod
    def _known(what: str, asked: Any, known: Any) -> None:
        for name in asked:
            if name not in known:
                few = ", ".join(map(repr, list(known)[:8])) or "none"
                raise t.TraitError(f"{what} {name!r} is not known here.{nearest(str(name), list(known))} Known: {few}.")

    @t.validate("subject")
    def _one_of_us(self, proposal: Any) -> str:
        name = proposal["value"]
        if name and not (self._frame["subject"] == name).any():
            near = nearest(name, self._frame["subject"].to_list())
            raise t.TraitError(f"subject {name!r} is not in this study.{near}")
        return name

    @t.observe("filters")
    def _select(self, _: Any) -> None:
        self.selected = self.selection_frame()["subject"].to_list()
        if self.selection is not None:
            free = not any(self.filters.values())  # no filter: everyone is shown, and nobody selected
            self.selection.select([] if free else self.selected, self._speaks)

    def selection_frame(self) -> pl.DataFrame:
        """The rows of ``presence`` that pass the filters."""
        keep = pl.lit(True)
        if tissues := self.filters.get("tissues"):
            keep &= pl.col("tissue").is_in(tissues)
        for name, state in self.filters.get("modalities", {}).items():
            keep &= pl.col(name) if state == "has" else ~pl.col(name)
        if search := self.filters.get("search", "").strip().lower():
            keep &= pl.col("subject").str.to_lowercase().str.contains(search, literal=True)
        return self._frame.filter(keep)
