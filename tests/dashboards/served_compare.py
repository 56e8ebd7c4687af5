"""The page that compares runs over planted ones, as an app for ``panel serve``: ``?store=full``, ``hostile`` ..."""

from __future__ import annotations

import panel as pn
import polars as pl

from tests.dashboards import planted_runs
from tests.widgets.planted import HOSTILE
from widgets.dashboards import begin
from widgets.dashboards.compare import page

STORES = {
    "full": planted_runs.Store,
    "hostile": lambda: planted_runs.Store(hostile=HOSTILE),
    "slow": lambda: planted_runs.Store(slow=3.0),
    "empty": lambda: planted_runs.Store(planted_runs.history().clear()),
    "many": lambda: planted_runs.Store(planted_runs.history([f"sweep {i}" for i in range(1700)], each=2)),
    "broken": lambda: planted_runs.Store(pl.exceptions.ComputeError("the file is no database")),
}

if pn.state.served:
    begin()
    page(STORES[(pn.state.session_args.get("store") or [b"full"])[0].decode()]()).servable()
