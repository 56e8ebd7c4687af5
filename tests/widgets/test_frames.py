"""Frames in a notebook: words bare, numbers alike, names never code."""

from __future__ import annotations

import polars as pl

from widgets import frames


def cells(frame: pl.DataFrame) -> list[str]:
    import re

    return re.findall(r"<td[^>]*>(.*?)</td>", frames.drawn(frame))


def test_text_is_bare_and_a_name_is_no_markup() -> None:
    table = frames.drawn(pl.DataFrame({"drug": ["Nutlin-3a (-)", "<img src=x onerror=alert(1)>"]}))
    assert "&quot;" not in table and "Nutlin-3a (-)" in table
    assert "<img" not in table and "&lt;img" in table


def test_numbers_of_a_column_have_as_many_digits_as_one_of_them_needs() -> None:
    frame = pl.DataFrame({"a": [1.1, 1.07, None], "b": [0.123456789, -2.0, float("nan")], "n": [5, 12345, None]})
    assert cells(frame) == ["1.10", "0.123", "5", "1.07", "\u22122.000", "12,345", "\u2013", "\u2013", "\u2013"]


def test_a_small_number_is_not_rounded_to_nothing() -> None:
    assert cells(pl.DataFrame({"q": [0.04, 1.234e-9, 0.0]})) == ["0.040", "1.2e\u221209", "0.000"]


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    table = frames.drawn(pl.DataFrame({"drug": ["a"], "n": [1]}))
    assert 'text-align:left;max-width:64ch;white-space:normal">a<' in table
    assert 'text-align:right;">1<' in table


def test_a_long_frame_says_how_much_is_left_and_an_empty_one_keeps_its_head() -> None:
    assert "The first 60 of 1,000 rows." in frames.drawn(pl.DataFrame({"n": list(range(1000))}))
    assert len(cells(pl.DataFrame({"n": list(range(60))}))) == 60
    assert ">drug<" in frames.drawn(pl.DataFrame(schema={"drug": pl.String}))


def test_a_notebook_takes_it_and_a_script_is_left_alone(monkeypatch) -> None:
    from IPython.core import getipython
    from IPython.core.formatters import DisplayFormatter

    monkeypatch.setattr(getipython, "get_ipython", lambda: None)
    frames.as_read()  # no shell: nothing happens
    shell = type("Shell", (), {"display_formatter": DisplayFormatter()})()
    monkeypatch.setattr(getipython, "get_ipython", lambda: shell)
    frames.as_read()
    shown, _ = shell.display_formatter.format(pl.DataFrame({"drug": ["Afatinib"]}))
    assert "Afatinib" in shown["text/html"] and "&quot;" not in shown["text/html"]
