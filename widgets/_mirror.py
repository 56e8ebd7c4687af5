"""Any widget of this package in a Panel page: the same object, the same script, no ipywidgets comm in between.

``in_panel(widget)`` makes a Panel component that carries the widget's script and its synchronised traits as parameters,
and ties the two together both ways. The widget itself stays in Python and does what it does in a notebook.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import anywidget
import panel as pn
import param
import traitlets as t

_OTHERS = {"layout", "tabbable", "tooltip", "comm", "keys"}
_KINDS: list[tuple[type, Any]] = [
    (t.Bytes, param.Bytes),
    (t.Unicode, param.String),
    (t.Bool, param.Boolean),
    (t.Int, param.Integer),
    (t.Float, param.Number),
    (t.Dict, param.Dict),
    (t.List, param.List),
]


def _synced(kind: type[anywidget.AnyWidget]) -> dict[str, t.TraitType]:
    return {n: s for n, s in kind.class_traits(sync=True).items() if not n.startswith("_") and n not in _OTHERS}


def _written(widget: anywidget.AnyWidget) -> type[anywidget.AnyWidget]:
    """The class as it stands in its file: anywidget gives every instance a class of its own below it."""
    return next(kind for kind in type(widget).__mro__ if isinstance(vars(kind).get("_esm"), str))


@cache
def _component(kind: Any) -> type[pn.custom.AnyWidgetComponent]:
    def declared(trait: t.TraitType) -> param.Parameter:
        if isinstance(trait, t.Enum):
            return param.Selector(default=trait.default(), objects=list(trait.values or ()))
        for known, made in _KINDS:
            if isinstance(trait, known):
                return made(default=trait.default())
        raise TypeError(f"{kind.__name__}: a trait of type {type(trait).__name__} has no parameter in Panel.")

    nothing: Any = classmethod(lambda cls: {"imports": {}, "scopes": {}})  # else Panel names React on an outside server
    body = {name: declared(trait) for name, trait in _synced(kind).items()}
    return type(
        kind.__name__, (pn.custom.AnyWidgetComponent,), {**body, "_esm": str(kind._esm), "_process_importmap": nothing}
    )


def declare(*kinds: type[anywidget.AnyWidget]) -> None:
    """Make the components of these classes known before a page is drawn that will show one of them only later.

    A notebook's page is told which kinds of components there are once, when it is drawn.
    """
    kind: Any
    for kind in kinds:
        _component(kind)


def in_panel(widget: anywidget.AnyWidget, **layout: Any) -> pn.custom.AnyWidgetComponent:
    """The widget as a Panel component; what changes in one changes in the other.

    Parameters
    ----------
    layout : of the component, such as ``sizing_mode`` (by default "stretch_width")
    """
    kind: Any = _written(widget)
    names = list(_synced(kind))
    made = _component(kind)(
        **{name: getattr(widget, name) for name in names}, **{"sizing_mode": "stretch_width", **layout}
    )

    def to_page(change: Any) -> None:
        if getattr(made, change["name"]) != change["new"]:
            made.param.update(**{change["name"]: change["new"]})

    def from_page(*events: Any) -> None:
        for event in events:
            new = bytes(event.new) if isinstance(event.new, memoryview | bytearray) else event.new
            if getattr(widget, event.name) != new:
                try:
                    widget.set_trait(event.name, new)
                except t.TraitError:
                    made.param.update(**{event.name: getattr(widget, event.name)})  # refused: the page shows what holds

    widget.observe(to_page, names)
    made.param.watch(from_page, names)
    return made
