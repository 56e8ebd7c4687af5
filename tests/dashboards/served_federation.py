"""The page of federations over planted ones, as an app for ``panel serve``: ``?store=full``, ``hostile`` ..."""

from __future__ import annotations

import panel as pn
import polars as pl

from tests.dashboards.planted_federations import Store, history
from tests.widgets.planted import HOSTILE
from widgets.dashboards import begin
from widgets.dashboards.federation import page

STORES = {
    "full": Store,
    "hostile": lambda: Store(hostile=HOSTILE),
    "slow": lambda: Store(slow=6.0),
    "empty": lambda: Store(history().clear()),
    "broken": lambda: Store(pl.exceptions.ComputeError("the file is no database")),
}

if pn.state.served:
    begin()
    page(STORES[(pn.state.session_args.get("store") or [b"full"])[0].decode()]()).servable()
