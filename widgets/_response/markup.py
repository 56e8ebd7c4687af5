"""Markup in which a name can never become code: every text and every attribute is escaped as it is placed.

``tag("td", name, class_="name")`` returns ``Markup``; only ``Markup`` passes unescaped into another tag, so the one way
to script is to write it in this room. Pages and reports build everything that shows a name from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

VOID = frozenset({"line", "circle", "rect", "path", "polyline", "br", "meta", "link", "img", "col"})
MINUS = "\u2212"
DASH = "\u2013"


class Markup(str):
    """Text that is already safe HTML."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element; ``class_`` is ``class``, ``data_x`` is ``data-x``; an attribute of None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Markup:
    """Children one after the other, escaped unless they are ``Markup``; None is nothing."""
    return Markup("".join(c if isinstance(c, Markup) else "" if c is None else escape(str(c)) for c in children))


def number(value: float | None, signed: bool = False) -> str:
    """``value`` to three digits after the point (fewer from 10 on), with a true minus; a dash for nothing."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 0
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return (text.replace("-0.000", "0.000") if float(text) == 0 else text).replace("-", MINUS)


def weight(value: float) -> str:
    """A signed value to three significant digits, for quantities of any size."""
    return f"{value:+.3g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, signed: bool = False) -> str:
    """``[low, high]`` or nothing where either end is unknown."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low, signed)}, {number(high, signed)}]"


def table(head: Iterable[object], rows: Iterable[Iterable[object]], caption: str, class_: str = "") -> Markup:
    """A table with a caption; the first cell of each row is its heading."""
    body = []
    for row in rows:
        first, *rest = row
        body.append(tag("tr", tag("th", first, scope="row"), *[tag("td", cell) for cell in rest]))
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *[tag("th", cell, scope="col") for cell in head])),
            tag("tbody", *body),
            class_=class_ or None,
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )
