"""The page over runs in memory, as an app for ``panel serve``: ``?store=full``, ``empty``, ``broken`` ..."""

from __future__ import annotations

import panel as pn

from tests.dashboards import planted
from widgets.dashboards.response import page

if pn.state.served:
    pn.extension()
    if "stores" not in pn.state.cache:
        pn.state.cache["stores"] = planted.stores()
    asked = (pn.state.session_args.get("store") or [b"full"])[0].decode()
    page(pn.state.cache["stores"][asked]).servable()
