"""TrainingPanel without a front end: the thread, its news, stopping, errors, and what the end shows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
import traitlets

from tests.widgets.planted import HOSTILE
from widgets import TrainingPanel
from widgets._parts import unpack
from widgets.training_panel import _packed

OPTIONS = {
    "predictors": ["drug_response", "ridge"],
    "splits": ["unseen subject", "unseen pair"],
    "modalities": ["expression", "mutation"],
    "studies": ["gdsc2"],
    "uses": {"ridge": ["expression"]},
}
Report = Callable[[dict[str, Any]], None]


def three_steps(choice: dict[str, Any], report: Report, stopped: Callable[[], bool]) -> dict[str, Any]:
    for i in range(3):
        points = [("training loss", i, 1.0 - 0.25 * i)] + ([("validation RMSE", i, 1.5)] if i == 2 else [])
        report({"fraction": i / 3, "message": f"step {i}", "points": points})
    return {"url": "http://127.0.0.1:5000/#/runs/1", "run": "r1", "choice": choice}


def test_a_training_runs_in_its_thread_and_ends_with_a_link() -> None:
    panel = TrainingPanel(OPTIONS, three_steps)
    assert panel.choice == {
        "study": "gdsc2",
        "predictor": "drug_response",
        "split": "unseen subject",
        "modalities": ["expression", "mutation"],
    }
    panel.request = {"verb": "start", "n": 1}  # as the page does
    assert panel.wait(10) == "done"
    assert panel.curve.rows() == [
        ("training loss", 0.0, 1.0),
        ("training loss", 1.0, 0.75),
        ("training loss", 2.0, 0.5),
        ("validation RMSE", 2.0, 1.5),
    ]
    header, columns = unpack(panel.curve_bytes)
    assert header["names"] == ["training loss", "validation RMSE"]
    assert columns["value.0"].tolist() == [1.0, 0.75, 0.5]
    assert panel.progress["fraction"] == 1.0
    assert panel.result == {"url": "http://127.0.0.1:5000/#/runs/1", "run": "r1", "scores": []}
    assert panel.returned["choice"] == panel.choice


def test_stop_reaches_the_callback_and_progress_stays_where_it_was() -> None:
    begun = threading.Event()

    def until_stopped(choice: Any, report: Report, stopped: Callable[[], bool]) -> dict[str, Any]:
        report({"fraction": 0.4, "seconds_left": 9})
        begun.set()
        while not stopped():
            threading.Event().wait(0.005)
        return {}

    panel = TrainingPanel(OPTIONS, until_stopped)
    panel.start()
    assert begun.wait(10)
    assert (panel.state, panel.progress["seconds_left"]) == ("running", 9.0)
    panel.start()  # a second press does nothing
    panel.request = {"verb": "stop", "n": 2}
    assert panel.wait(10) == "stopped"
    assert panel.progress["fraction"] == 0.4
    assert panel.error == ""


def test_an_error_is_shown_and_the_panel_is_usable_again() -> None:
    def fails_once(choice: Any, report: Report, stopped: Any) -> dict[str, Any]:
        if not panel.traceback and not tries:
            tries.append(1)
            raise ValueError(f"column {HOSTILE} is missing")
        return {}

    tries: list[int] = []
    panel = TrainingPanel(OPTIONS, fails_once)
    panel.start()
    assert panel.wait(10) == "failed"
    assert panel.error == f"ValueError: column {HOSTILE} is missing"
    assert "fails_once" in panel.traceback
    panel.start()
    assert panel.wait(10) == "done"
    assert (panel.error, panel.traceback) == ("", "")


@pytest.mark.parametrize(
    ("returned", "news", "said"),
    [
        (None, {}, "TypeError: start should return a dict with url, run and metrics; it returned None."),
        ({}, {"fractoin": 0.1}, "Did you mean 'fraction'"),
    ],
)
def test_a_callback_that_breaks_the_agreement_is_told_so(returned: Any, news: dict[str, Any], said: str) -> None:
    def wrong(choice: Any, report: Report, stopped: Any) -> Any:
        report(news)
        return returned

    panel = TrainingPanel(OPTIONS, wrong)
    panel.start()
    assert panel.wait(10) == "failed"
    assert said in panel.error


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/hosts", "//x/y", "http:", None]
)
def test_only_web_addresses_become_links(url: str | None) -> None:
    panel = TrainingPanel(OPTIONS, lambda *_: {"url": url})
    panel.start()
    assert panel.wait(10) == "done"
    assert panel.result["url"] == ""


def test_the_scores_are_the_chosen_predictors_over_all_folds() -> None:
    metrics = pl.DataFrame(
        {
            "predictor": ["ridge", "ridge", "drug_mean"],
            "fold": ["0", "all", "all"],
            "metric": ["RMSE"] * 3,
            "value": [1.3, 1.2, 1.46],
            "low": [1.2, float("nan"), 1.4],
            "high": [1.4, 1.25, 1.5],
            "naive": [1.5, 1.46, 1.46],
            "naive_predictor": ["drug_mean"] * 3,
            "unit": ["ln(uM)"] * 3,
        }
    )
    panel = TrainingPanel(OPTIONS, lambda *_: {"metrics": metrics})
    panel.choice = {"predictor": "ridge"}
    panel.start()
    assert panel.wait(10) == "done"
    assert panel.result["scores"] == [
        {
            "metric": "RMSE",
            "value": 1.2,
            "low": None,  # not a number is no number
            "high": 1.25,
            "naive": 1.46,
            "naive_predictor": "drug_mean",
            "unit": "ln(uM)",
        }
    ]


def test_choices_are_checked_and_unusable_modalities_dropped() -> None:
    panel = TrainingPanel(OPTIONS, three_steps)
    panel.choice = {"predictor": "ridge", "modalities": ["mutation", "expression"]}
    assert panel.choice["modalities"] == ["expression"]
    with pytest.raises(traitlets.TraitError, match="Did you mean 'ridge'"):
        panel.choice = {"predictor": "rigde"}
    with pytest.raises(traitlets.TraitError, match="Did you mean 'split'"):
        panel.choice = {"splits": "unseen pair"}
    with pytest.raises(ValueError, match="Did you mean 'predictors'"):
        TrainingPanel({"predictor": ["ridge"]}, three_steps)
    assert panel.choice["predictor"] == "ridge"


def test_a_panel_without_options_stands() -> None:
    assert TrainingPanel({}, three_steps).choice == {"study": "", "predictor": "", "split": "", "modalities": []}


def test_long_curves_are_thinned_and_keep_their_last_point() -> None:
    _, columns = unpack(_packed({"training loss": [(float(i), float(-i)) for i in range(10_001)]}))
    assert len(columns["step.0"]) <= 1500
    assert columns["step.0"][-1] == 10_000
    assert columns["value.0"][-1] == -10_000
