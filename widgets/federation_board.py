"""Should each site join: what it has alone and together, the verdict, what it paid; and the rounds while they run.

The arithmetic is ``workbench.federated.worth.value``'s; this shows its frames. What crosses to the browser:
``_federation.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anywidget
import polars as pl
import traitlets as t

from widgets import _federation
from widgets._parts import esm
from widgets._plan import plan_of
from widgets.palette import theme
from workbench.tables import FEDERATION_ROUNDS, check, empty
from workbench.text import nearest

__all__ = ["FederationBoard", "plan_of"]

KEEP: Any = object()  # what was not given stays as it is


class FederationBoard(anywidget.AnyWidget):
    """A federation, site by site: scores of each arm beside the naive value, differences, verdicts, costs, rounds.

    Parameters
    ----------
    value : what ``workbench.federated.worth.value.worth`` returns, or anything with its frames; None before the end
    rounds : polars frame of ``tables.FEDERATION_ROUNDS``, as far as it goes
    plan : how it was trained, ``widgets.federation_board.plan_of(run)``; without it the board cannot say why a figure
        is missing
    title, note : heading, and a remark above everything; shown as text

    Attributes
    ----------
    place : predictor and split in sight, ``"ridge \u00b7 unseen subject"``; one of ``places``
    metric : one of ``metrics``
    arm : what a site would join for: "federated" or "personalised"

    Raises
    ------
    TableError, ValueError
        A frame is not the table it should be, or holds an unknown verdict or arm.

    Examples
    --------
    >>> board = FederationBoard(rounds=so_far)  # doctest: +SKIP
    >>> board.update(rounds=more)  # while it trains; doctest: +SKIP
    >>> board.update(worth(predictions))  # doctest: +SKIP
    """

    _esm = esm("federation_board")
    frame_bytes = t.Bytes().tag(sync=True)
    rounds_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    place = t.Unicode().tag(sync=True)
    metric = t.Unicode().tag(sync=True)
    arm = t.Unicode().tag(sync=True)

    def __init__(
        self,
        value: Any = None,
        rounds: pl.DataFrame | None = None,
        *,
        plan: Mapping[str, Any] | None = None,
        title: str = "",
        note: str = "",
    ) -> None:
        self.plan = dict(plan or {})
        self._rounds = check(empty(FEDERATION_ROUNDS) if rounds is None else rounds, FEDERATION_ROUNDS)
        packed = self._take(value)
        first = {"place": next(iter(self.places), ""), "metric": next(iter(self.metrics), "")}
        super().__init__(
            frame_bytes=packed, rounds_bytes=_federation.rounds_packed(self._rounds), theme=theme(), title=title,
            note=note, arm=next(iter(self.arms), ""), **first,
        )  # fmt: skip

    def _take(self, value: Any) -> bytes:
        frames = _federation.frames_of(value)
        self._frames, self.value = frames, value
        self.places, self.metrics = _federation.places_of(frames), _federation.metrics_of(frames)
        self.arms = frames["verdicts"]["arm"].unique(maintain_order=True).to_list()
        from workbench.federated.watched import checked

        shown = checked(self._rounds)  # a table of the board has them, by name and round
        notes = [n for n in getattr(value, "notes", ()) if n not in shown]
        return _federation.packed(frames, notes, self.plan)

    def update(self, value: Any = KEEP, *, rounds: Any = KEEP, plan: Any = KEEP) -> None:
        """Another value, rounds or plan in place of those shown; what is in sight stays where it is still there."""
        if plan is not KEEP:
            self.plan = dict(plan or {})
        if rounds is not KEEP:
            self._rounds = check(empty(FEDERATION_ROUNDS) if rounds is None else rounds, FEDERATION_ROUNDS)
        again = plan is not KEEP or (rounds is not KEEP and self.value is not None)
        packed = self._take(self.value if value is KEEP else value) if again or value is not KEEP else None
        with self.hold_sync():
            if packed is not None:
                for name, known in (("place", self.places), ("metric", self.metrics), ("arm", self.arms)):
                    if getattr(self, name) not in known:
                        setattr(self, name, next(iter(known), ""))
                self.frame_bytes = packed
            if rounds is not KEEP:
                self.rounds_bytes = _federation.rounds_packed(self._rounds)

    @t.validate("place", "metric", "arm")
    def _one_of(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        known = {"place": self.places, "metric": self.metrics, "arm": self.arms}[name]
        if value not in known and (value or known):
            raise t.TraitError(f"{name} {value!r} is not among the {len(known)} here.{nearest(value, known)}")
        return str(value)

    @property
    def shown(self) -> pl.DataFrame:
        """Scores of the place and metric in sight, site by site and arm by arm."""
        here = pl.concat_str("predictor", "split", separator=" \u00b7 ") == self.place
        return self._frames["sites"].filter(here & (pl.col("metric") == self.metric))

    @property
    def verdicts(self) -> pl.DataFrame:
        """Verdicts of the place and arm in sight."""
        here = pl.concat_str("predictor", "split", separator=" \u00b7 ") == self.place
        return self._frames["verdicts"].filter(here & (pl.col("arm") == self.arm))

    @property
    def lost(self) -> pl.DataFrame:
        """Sites that had no part in a round, with the reason."""
        return self._rounds.filter(pl.col("lost").is_not_null()).select("round", "site", "lost")
