"""The page over runs in memory, as an app for ``panel serve``: ``?store=full``, ``empty``, ``broken`` ..."""

from __future__ import annotations

from dataclasses import replace

import panel as pn

from tests.dashboards import planted
from widgets.dashboards.response import page
from workbench import tables


class Lost:
    """A store that cannot be read."""

    def runs(self) -> None:
        raise OSError(f"the store is gone {planted.HOSTILE}")

    find = None


def stores() -> dict[str, object]:
    """Stores by name, made once for a server."""
    good = planted.run(name="good run")
    older = replace(planted.run(seed=1, name="older run"), started=good.started.replace(year=2025))
    bare = replace(
        good, run_id="b" * 32, name="bare run", status="KILLED", metrics=tables.empty(tables.METRICS),
        predictions=tables.empty(tables.PREDICTIONS), curves=tables.empty(tables.CURVES),
        comparisons=tables.empty(tables.COMPARISONS), attributions=tables.empty(tables.ATTRIBUTIONS),
    )  # fmt: skip
    return {
        "full": planted.Store(older, good),
        "empty": planted.Store(),
        "broken": planted.Store(bare),
        "lost": Lost(),
        "hostile": planted.Store(planted.run(seed=2, hostile=True)),
    }


if pn.state.served:
    pn.extension()
    if "stores" not in pn.state.cache:
        pn.state.cache["stores"] = stores()
    asked = (pn.state.session_args.get("store") or [b"full"])[0].decode()
    page(pn.state.cache["stores"][asked]).servable()
