"""Polars frames in a notebook as people read them: words without quotes, numbers alike within a column, no types.

Polars' own table puts quotes around every text, aligns all of it to the right and cuts what is long; no setting of
it changes that. ``as_read()`` at the head of a notebook replaces it there, and nowhere else.
"""

from __future__ import annotations

import polars as pl

from widgets._response.markup import DASH, MINUS, Markup, tag

MOST = 60  # rows that are shown
DIGITS = 3  # at most so many after the point


def as_read() -> None:
    """From here on this notebook shows polars frames by ``drawn``; outside of a notebook nothing happens."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is not None and shell.display_formatter is not None:
        shell.display_formatter.formatters["text/html"].for_type(pl.DataFrame, drawn)


def drawn(frame: pl.DataFrame) -> Markup:
    """The frame as a table of HTML: all text escaped, numbers to the right, up to 60 rows and a word on the rest.

    Examples
    --------
    >>> "<td" in drawn(pl.DataFrame({"drug": ["Trametinib"], "r": [0.5]}))
    True
    """
    shown = frame.head(MOST)
    right = [kind.is_numeric() for kind in frame.dtypes]
    columns = [_cells(shown[name]) for name in frame.columns]

    def place(number: bool) -> str:
        return f"text-align:{'right' if number else 'left'};" + ("" if number else "max-width:64ch;white-space:normal")

    head = [tag("th", name, style=place(number)) for name, number in zip(frame.columns, right, strict=True)]
    rows = [
        tag("tr", *[tag("td", cell, style=place(number)) for cell, number in zip(row, right, strict=True)])
        for row in zip(*columns, strict=True)
    ]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    more = tag("p", f"The first {MOST} of {frame.height:,} rows.") if frame.height > MOST else None
    return tag("div", table, more)


def _cells(column: pl.Series) -> list[str]:
    """Values as text; floats of a column with one number of digits, which is the most that any of them needs."""
    if column.dtype.is_float():
        finite = [v for v in column if v is not None and abs(v) < float("inf")]
        digits = max((_digits(v) for v in finite), default=0)
        return [_number(v, digits) for v in column]
    if column.dtype.is_integer():
        return [DASH if v is None else f"{v:,}".replace("-", MINUS) for v in column]
    if column.dtype == pl.Boolean:
        return [DASH if v is None else "yes" if v else "no" for v in column]
    return [_text(v) for v in column]


def _digits(value: float) -> int:
    """Digits after the point that tell ``value``, up to three."""
    return next((d for d in range(DIGITS) if abs(value - round(value, d)) < 1e-9), DIGITS)


def _number(value: float | None, digits: int) -> str:
    if value is None or value != value:
        return DASH
    small = 0 < abs(value) < 0.5 * 10.0**-DIGITS  # three digits would make nothing of it
    return (f"{value:.1e}" if small else f"{value:,.{digits}f}").replace("-", MINUS)


def _text(value: object) -> str:
    if value is None:
        return DASH
    if isinstance(value, pl.Series | list | tuple):
        return ", ".join(_text(v) for v in value)
    return str(value)
