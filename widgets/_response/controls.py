"""What the parts of the page are put together from: a pane of safe markup, and a picker that a keyboard can use."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from widgets._response import pieces
from widgets._response.markup import Markup


def html(content: Markup) -> pn.pane.HTML:
    """A pane of markup from this room, which has escaped every name in it."""
    return pn.pane.HTML(content, stylesheets=[pieces.STYLE], sizing_mode="stretch_width", margin=(4, 10))


def picker(owner: param.Parameterized, name: str, label: str) -> pmui.AutocompleteInput:
    """A picker of parameter ``name`` of ``owner`` (a Selector): type a part of a name, arrows and Enter choose.

    The material Select cannot be opened from the keyboard here; this one can, and finds one name among hundreds.
    """
    control = pmui.AutocompleteInput(
        label=label, options=owner.param[name].objects, value=getattr(owner, name),
        min_characters=0, case_sensitive=False, search_strategy="includes", sizing_mode="stretch_width",
    )  # fmt: skip

    def chosen(event: Any) -> None:
        if event.new is not None:  # an emptied field chooses nothing
            setattr(owner, name, event.new)

    control.param.watch(chosen, "value")
    owner.param.watch(lambda event: setattr(control, "value", event.new), name)
    return control
