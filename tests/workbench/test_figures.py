"""Figures: what is drawn is what the table says, and names are drawn as typed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
import pytest

from workbench import figures, tables

HOSTILE = ["<img src=x onerror=alert(1)>", "$x^2$ and $\\frac{1}{2}$", "_hidden", "a$b", "$\\undefined{$"]


def metrics(values: dict[str, float | None], metric: str = "RMSE", split: str = "unseen subject") -> pl.DataFrame:
    rows = [
        (name, split, fold, metric, v, v and v - 0.1, v and v + 0.2, 1.5, "drug_mean", "ln(uM)", "subject", 9, 0)
        for name, v in values.items()
        for fold in ("0", "all")
    ]
    return pl.DataFrame(rows, schema=dict(tables.METRICS.columns), orient="row")


def predictions(
    predictors: list[str], drugs: list[str], subjects: int = 12, split: str = "unseen subject"
) -> pl.DataFrame:
    """The first predictor answers the truth, the others its negative; drug means are predicted by ``mean``."""
    draw = np.random.default_rng(1)
    parts = []
    for fold in range(2):
        truth = draw.normal(size=(subjects, len(drugs)))
        for i, predictor in enumerate(predictors):
            told = np.full_like(truth, 1 / 3) if predictor == "mean" else truth if i == 0 else -truth
            rows = {
                "predictor": predictor, "split": split, "fold": fold, "row": np.arange(truth.size),
                "subject": np.repeat([f"S{s}" for s in range(subjects)], len(drugs)),
                "treatment": drugs * subjects, "tissue": "lung", "endpoint": "ln_ic50", "unit": "ln(uM)",
                "predicted": told.ravel(), "low": None, "high": None, "level": 0.9, "abstained": None,
                "baseline": 0.0, "observed": truth.ravel(), "censored": 0,
            }  # fmt: skip
            parts.append(pl.DataFrame(rows, schema=dict(tables.PREDICTIONS.columns)))
    return tables.check(pl.concat(parts), tables.PREDICTIONS)


def curves(predictors: list[str]) -> pl.DataFrame:
    rows = [(p, f, s, "training loss", 1.0 / (s + 1 + f), "") for p in predictors for f in range(2) for s in range(5)]
    return pl.DataFrame(rows, schema=dict(tables.CURVES.columns), orient="row")


def draw(figure: Any) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=50)
    return drawn.getvalue()


def words(figure: Any) -> list[str]:
    from matplotlib.text import Text

    draw(figure)
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def test_bars_are_the_values_with_the_best_on_top_and_the_naive_value_marked() -> None:
    figure = figures.metric_bars(metrics({"drug_mean": 1.5, "ridge": 1.2, "trees": 1.3, "silent": None}), "RMSE")
    (axes,) = figure.axes
    bars = {round(b.get_y() + b.get_height() / 2): b.get_width() for b in axes.patches}
    assert [bars[i] for i in sorted(bars)] == [1.5, 1.3, 1.2], "lower is better: the lowest is drawn last, on top"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["drug_mean", "trees", "ridge"]
    assert any(np.allclose(line.get_xdata(), 1.5) for line in axes.lines)
    assert axes.get_xlabel() == "RMSE [ln(uM)], lower is better"
    said = axes.get_title(loc="left")
    assert "unseen subject" in said and "drug_mean 1.500" in said
    arms = [s for c in axes.collections for s in c.get_segments()]
    assert any(np.allclose(s[:, 0], [1.1, 1.4]) for s in arms), "the interval of ridge"
    up = figures.ranked(metrics({"a": 0.1, "b": 0.4}, "normalised Pearson"), "normalised Pearson")
    assert up == ["b", "a"], "higher is better"


def test_each_split_has_its_panel() -> None:
    both = pl.concat([metrics({"ridge": 1.2}), metrics({"ridge": 1.4}, split="unseen tissue")])
    titles = [a.get_title(loc="left") for a in figures.metric_bars(both, "RMSE").axes]
    assert [t.split("\n")[0] for t in titles] == ["RMSE, unseen subject", "RMSE, unseen tissue"]


def test_observed_and_predicted_share_axes_units_and_the_identity_line() -> None:
    frame = predictions(["truth", "false"], ["D1", "D2"])
    (axes,) = figures.observed_predicted(frame, "truth").axes
    points = axes.collections[0].get_offsets()
    assert len(points) == 48 and np.allclose(points[:, 0], points[:, 1])
    assert axes.get_xlim() == axes.get_ylim()
    assert np.allclose(axes.lines[0].get_xdata(), axes.lines[0].get_ydata())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted ln_ic50 [ln(uM)]", "observed ln_ic50 [ln(uM)]")
    silent = frame.with_columns(pl.when(pl.col("row") < 4).then(None).otherwise("predicted").alias("predicted"))
    assert "40 test pairs, 8 without an answer" in figures.observed_predicted(silent, "truth").axes[0].get_title(
        loc="left"
    )


def test_many_pairs_are_counted_in_cells() -> None:
    (axes, bar) = figures.observed_predicted(predictions(["truth"], [f"D{i}" for i in range(30)], 40), "truth").axes
    assert axes.collections[0].get_array().sum() == 2400
    assert not any("$" in t for t in words(axes.figure)), "the bar's numbers are plain"
    assert bar.get_ylabel() == "pairs in a cell"


def test_per_drug_correlations_are_those_of_each_drug() -> None:
    frame = predictions(["truth", "false", "mean"], ["D1", "D2", "D3"])
    thin = pl.concat([frame, predictions(["truth"], ["rare"], subjects=4)])
    (axes,) = figures.per_drug(thin, ["truth", "false"]).axes
    drawn = [c.get_offsets()[:, 1] for c in axes.collections]
    assert np.allclose(drawn[0], 1.0) and np.allclose(drawn[1], -1.0) and len(drawn[0]) == 3, "four rows are too few"
    (axes,) = figures.per_drug(frame, ["mean"]).axes
    assert np.array_equal(axes.collections[0].get_offsets()[:, 1], [0.0, 0.0, 0.0]), "one value for all ranks nobody"


def test_curves_have_one_line_per_fold_and_one_colour_per_predictor() -> None:
    (axes,) = figures.learning_curves(curves(["ridge", "trees"])).axes
    assert len(axes.lines) == 4 and len({line.get_color() for line in axes.lines}) == 2
    assert np.allclose(axes.lines[1].get_ydata(), 1.0 / np.arange(2, 7))


def test_names_are_drawn_as_typed() -> None:
    drawn = [
        figures.metric_bars(metrics(dict.fromkeys(HOSTILE, 1.0)), "RMSE"),
        figures.metric_bars(metrics({"ridge": 1.0}, metric=HOSTILE[1], split=HOSTILE[1]), HOSTILE[1]),
        figures.observed_predicted(predictions(HOSTILE, ["D"]), HOSTILE[4]),
        figures.per_drug(predictions(HOSTILE[:2], HOSTILE), HOSTILE[:2]),
        figures.learning_curves(curves(HOSTILE)),
    ]
    for figure, wanted in zip(drawn, (HOSTILE, HOSTILE[1:2], HOSTILE[4:], HOSTILE, HOSTILE), strict=True):
        said = words(figure)
        for name in wanted:
            assert any(name in text for text in said), name
    from matplotlib.text import Text

    parsed = [t.get_text() for f in drawn for t in f.findobj(Text) if t.get_parse_math() and "$" in t.get_text()]
    assert parsed == [], "these would be set as formulas"


def test_two_names_that_differ_only_as_formulas_look_different() -> None:
    assert draw(figures.metric_bars(metrics({"$x$": 1.0}), "RMSE")) != draw(
        figures.metric_bars(metrics({"x": 1.0}), "RMSE")
    )


def test_the_story_is_numbered_and_leaves_out_what_is_not_there() -> None:
    scores = pl.concat([metrics({"a": 1.0, "b": 2.0}), metrics({"a": 0.1, "b": 0.6}, "normalised Pearson")])
    pages = figures.story(scores, predictions(["a", "b"], ["D1"]), curves(["b"]))
    assert list(pages) == [
        "1 normalised Pearson", "2 RMSE", "3 observed and predicted", "4 per drug", "5 learning curves",
    ]  # fmt: skip
    assert "b, unseen subject" in pages["3 observed and predicted"].axes[0].get_title(loc="left"), "the best predictor"
    nothing = figures.story(*(tables.empty(t) for t in (tables.METRICS, tables.PREDICTIONS, tables.CURVES)))
    assert nothing == {}


@pytest.mark.parametrize("name", ["metric_bars", "observed_predicted", "learning_curves", "per_drug"])
def test_an_empty_table_says_so(name: str) -> None:
    table = {"metric_bars": tables.METRICS, "learning_curves": tables.CURVES}.get(name, tables.PREDICTIONS)
    assert any(w.startswith("No ") for w in words(getattr(figures, name)(tables.empty(table))))


def test_drawing_leaves_the_session_alone() -> None:
    import matplotlib

    matplotlib.rcParams["font.size"] = 3
    try:
        figure = figures.learning_curves(curves(["ridge"]))
        assert figure.axes[0].title.get_fontsize() > 6 and matplotlib.rcParams["font.size"] == 3
        assert matplotlib.rcParams["text.parse_math"] is True
    finally:
        matplotlib.rcdefaults()
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
