"""What the parts of the page are put together from: a pane of safe markup, and a picker that a keyboard can use."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.models import ImportedStyleSheet
from panel.io.notebook import replace_inline_css

from widgets._response import pieces
from widgets._response.markup import Markup


class _Pane(pn.pane.HTML):
    """Panel's pane, which in a notebook asks an outside server for its style sheets whenever its content changes.

    Panel puts them inline when a pane is first drawn, and forgets to when it is updated.
    """

    def _get_properties(self, doc: Any) -> dict[str, Any]:
        found = super()._get_properties(doc)
        if pn.config.inline and (doc is None or doc.session_context is None):
            found["stylesheets"] = [
                replace_inline_css(s) if isinstance(s, ImportedStyleSheet) else s for s in found.get("stylesheets", [])
            ]
        return found


def html(content: Markup) -> pn.pane.HTML:
    """A pane of markup from this room, which has escaped every name in it."""
    return _Pane(content, stylesheets=[pieces.STYLE], sizing_mode="stretch_width", margin=(4, 10))


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
