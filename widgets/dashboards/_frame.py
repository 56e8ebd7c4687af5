"""What every page has around it: the query it was asked with, an address that follows it, a title, a width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import panel as pn
import panel_material_ui as pmui

from widgets._response.pieces import ICON
from widgets.palette import BLUE, SKY

PRODUCT, WIDTH = "Translational Workbench", 1500
DARK = {  # white on a bar as light as the dark page's accents could not be read
    "palette": {"primary": {"main": SKY}},
    "components": {
        "MuiAppBar": {"styleOverrides": {"root": {"backgroundColor": "#0b3a53 !important", "color": "#fff"}}}
    },
}


def asked() -> dict[str, str]:
    """What the address of this page asks for: {name: its first value}."""
    return {name: words[0].decode("utf-8", "replace") for name, words in (pn.state.session_args or {}).items()}


def framed(shown: Any, title: str, on: list[str], address: Callable[[], Mapping[str, Any]]) -> pmui.Page:
    """The whole page as it is served; ``shown`` is closed with its session where it can be.

    Parameters
    ----------
    shown : what is on it
    title : its name, before the product's
    on, address : when one of these parameters of ``shown`` changes, the browser's address asks for ``address()``, so
        that it is one to send to a colleague; names without a value leave it as it was
    """
    if (location := pn.state.location) is not None:

        def tell(*_: Any) -> None:
            told = address()
            if all(told.values()):
                location.update_query(**told)

        shown.param.watch(tell, on)
        pn.state.onload(tell)
    if pn.state.curdoc is not None and hasattr(shown, "close"):
        pn.state.on_session_destroyed(lambda _: shown.close())
    return pmui.Page(
        title=f"{title} \u00b7 {PRODUCT}", favicon=ICON, theme_toggle=True, main_width=WIDTH,
        main=[pn.Column(shown, sizing_mode="stretch_width", margin=(16, 20))],
        theme_config={"light": {"palette": {"primary": {"main": BLUE}}}, "dark": DARK},
    )  # fmt: skip
