"""The page that compares runs as Python holds it: what is listed and ticked, what is compared, what is said."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import panel as pn
import polars as pl
import pytest

from tests.dashboards.planted_runs import Store, history
from tests.widgets.planted import HOSTILE
from widgets._compare import listing
from widgets._compare.job import Desk, Job
from widgets.dashboards import pages
from widgets.dashboards.compare import ComparePage, page
from workbench.comparison import Comparison


@pytest.fixture
def opened() -> Iterator[Callable[..., ComparePage]]:
    made: list[ComparePage] = []

    def open_page(store: Store) -> ComparePage:
        made.append(ComparePage(store))
        made[-1].__panel__()
        return made[-1]

    yield open_page
    for viewer in made:
        viewer.close()


def said(viewer: ComparePage) -> str:
    return "".join(str(p.object) for p in viewer._whole.select(pn.pane.HTML))


def test_it_begins_at_the_newest_finished_run_with_the_newest_of_each_experiment(
    opened: Callable[..., ComparePage],
) -> None:
    store = Store()
    viewer = opened(store)
    assert (viewer.study, viewer.split) == ("gdsc1", "unseen subject")
    runs = listing.among(listing.experiments(history()), "gdsc1", "unseen subject")
    assert len(runs) == 6 and viewer.list.ids == runs["run_id"].to_list()
    names = dict(runs.select("run_id", "name").iter_rows())
    assert [names[i] for i in viewer.list.chosen] == ["tuned subject 1", "response subject 1"]  # not those that run
    assert store.asked == [viewer.list.chosen]
    assert viewer.board is not None and viewer.board.place == "gdsc1 \u00b7 unseen subject"
    assert viewer._go.label == "Compare these 2 runs"


def test_another_study_and_split_are_listed_and_compared(opened: Callable[..., ComparePage]) -> None:
    store = Store()
    viewer = opened(store)
    assert viewer._splits.options == ["unseen subject"]
    viewer.study = "gdsc2"
    assert viewer._splits.options == ["unseen subject", "unseen treatment"] and viewer.split == "unseen subject"
    viewer.split = "unseen treatment"
    assert viewer.board is not None and viewer.board.place == "gdsc2 \u00b7 unseen treatment"
    assert len(store.asked) == 3
    viewer.study = "gdsc1"  # which has no such split
    assert viewer.split == "unseen subject" and viewer.board.place == "gdsc1 \u00b7 unseen subject"


def test_what_is_ticked_is_compared_when_asked(opened: Callable[..., ComparePage]) -> None:
    store = Store()
    viewer = opened(store)
    viewer.list.ticked = [0, 2, 99]
    assert viewer.list.ticked == [0, 2] and viewer._go.label == "Compare these 2 runs again" and len(store.asked) == 1
    viewer._go.clicks += 1
    assert store.asked[-1] == [viewer.list.ids[0], viewer.list.ids[2]]
    assert viewer._go.label == "Compare these 2 runs"
    viewer.list.ticked = []
    assert viewer._go.disabled and viewer._go.label == "Tick runs to compare"
    viewer.compare()
    assert "No run is ticked" in said(viewer) and viewer._room.objects == []


def test_what_takes_long_is_said_and_what_was_left_behind_is_not_shown(opened: Callable[..., ComparePage]) -> None:
    store = Store()
    viewer = opened(store)
    store.slow = 0.6
    viewer.study = "gdsc2"
    assert "Comparing 2 runs \u2026 0 s: half of it" in said(viewer) and 'value="50"' in said(viewer)
    left = viewer._comparer.job
    viewer.split = "unseen treatment"
    assert left is not None and viewer._comparer.job is not left
    left.wait(5)
    job = viewer._comparer.job
    assert job is not None and job.wait(5)
    assert viewer.board is not None and viewer.board.place == "gdsc1 \u00b7 unseen subject"  # nobody looked yet
    viewer._show(job, viewer.list.chosen, "gdsc2 \u00b7 unseen treatment")
    assert viewer.board.place == "gdsc2 \u00b7 unseen treatment" and "Comparing" not in said(viewer)


def test_an_empty_and_a_broken_store_say_so(opened: Callable[..., ComparePage]) -> None:
    empty = opened(Store(history().clear()))
    assert "No runs yet" in said(empty) and not empty._above.visible
    broken = opened(Store(OSError("the file is no database")))
    assert "The runs cannot be listed: OSError: the file is no database" in said(broken)


def test_runs_that_cannot_be_compared_say_why(opened: Callable[..., ComparePage]) -> None:
    store = Store()
    viewer = opened(store)
    store.compare = lambda runs, say: Comparison(metrics=(), better={})  # type: ignore[method-assign]
    viewer.compare()
    assert viewer.board is not None and viewer.board.places == [] and not viewer._csv.visible

    def fails(runs: object, say: object) -> None:
        raise ValueError("no nested run has finished")

    store.compare = fails  # type: ignore[method-assign]
    viewer.compare()
    assert "These runs cannot be compared: ValueError: no nested run has finished" in said(viewer)
    assert viewer.board is None and viewer._room.objects == []


def test_each_run_has_a_link_to_mlflow_and_all_scores_are_a_file(opened: Callable[..., ComparePage]) -> None:
    viewer = opened(Store(hostile=HOSTILE))
    text = said(viewer)
    run_id = viewer.list.chosen[0]
    assert f"http://127.0.0.1:5000/#/experiments/7/runs/{run_id}?workflowType=machine_learning" in text
    assert HOSTILE not in text and "&lt;img src=x" in text
    scores = pl.read_csv(io.BytesIO(viewer._file().getvalue()))
    assert len(scores) == 15 and set(scores["metric"]) == {"normalised Pearson", "RMSE", "per-drug Pearson"}
    assert scores.filter(entry="ridge", metric="RMSE")["value"].item() == pytest.approx(1.175 - 0.1)


def test_where_mlflow_is() -> None:
    assert listing.mlflow_base("sqlite:///x/mlflow.db") == "http://127.0.0.1:5000"
    assert listing.mlflow_base("https://runs.example.org/") == "https://runs.example.org"
    assert listing.mlflow_base("sqlite:///x", "/user/ada/panel/compare") == "/user/ada/mlflow"
    assert listing.mlflow_base("sqlite:///x", "/compare") == "http://127.0.0.1:5000"


def test_the_address_names_the_place_or_what_is_wrong_with_it(opened: Callable[..., ComparePage]) -> None:
    viewer = opened(Store())
    viewer.open("gdsc2", "unseen treatment")
    assert (viewer.study, viewer.split) == ("gdsc2", "unseen treatment")
    viewer.open("gdsc3")
    assert "No run is on a study called" in said(viewer) and "Did you mean" in said(viewer)
    viewer.open("gdsc2", "unseen tisue")
    assert "left out" in said(viewer) and viewer.study == "gdsc2"


def test_ten_thousand_runs_are_listed_at_once(opened: Callable[..., ComparePage]) -> None:
    store = Store(history([f"sweep {i}" for i in range(1667)], each=2))
    began = time.monotonic()
    viewer = opened(store)
    assert viewer.runs is not None and len(viewer.runs) == 10002 and len(viewer.list.ids) == 3334
    assert len(viewer.list.chosen) == 20 and viewer._go.label == "Compare these 20 runs"
    viewer.list.ticked = list(range(3334))
    viewer.compare()
    assert len(store.asked[-1]) == 3334 and "The first 50 of 3,334" in said(viewer)
    assert time.monotonic() - began < 8


def test_a_job_tells_its_end_once_and_an_error_in_words() -> None:
    heard: list[str] = []
    desk = Desk()
    desk.start(
        lambda say: 7, lambda job: heard.append(f"done {job.result}"), lambda job: heard.append("going"), patience=5
    )
    assert heard == ["done 7"]
    failed = Job(lambda say: 1 / 0)
    assert failed.wait(5) and failed.error == "ZeroDivisionError: division by zero" and failed.result is None


def test_durations_and_times_are_for_people() -> None:
    assert [listing.took(s) for s in (None, 3.2, 420.0, 9000.0)] == ["", "3 s", "7 min", "2 h"]
    assert listing.when(None) == "not started"


def test_the_page_is_one_of_those_that_are_served() -> None:
    assert "compare" in [p.stem for p in pages()]
    made = page(Store())
    assert made.title == "Compare runs \u00b7 Translational Workbench"


def test_runs_that_were_recorded_are_read_and_compared_as_the_comparison_says() -> None:
    from tests.workbench.test_comparison import write
    from workbench.comparison import compare

    write("planted", {"good": {}, "worse": {}, "mean_effects": {}}, split="unseen subject", kept=False)
    viewer = ComparePage()
    viewer.refresh()
    if viewer.runs is None:
        job = viewer._reader.job
        assert job is not None and job.wait(60)
        viewer._read(job)
    if viewer.board is None:
        job = viewer._comparer.job
        assert job is not None and job.wait(60) and not job.error
        viewer._show(job, viewer.list.chosen, "toy \u00b7 unseen subject")
    assert viewer.board is not None and viewer.board.place == "toy \u00b7 unseen subject"
    wanted = compare(viewer.list.chosen, metric=["normalised Pearson"]).scores.sort("value", descending=True)
    told = ["entry", "value", "low", "naive"]
    assert viewer.board.shown.select(told).equals(wanted.select(told)) and len(wanted) == 3
    assert set(viewer.board.metrics) >= {"RMSE", "per-drug Pearson", "coverage"}
    viewer.close()
