"""The page of federations as Python holds it: which run is shown, what matters, rounds that go on, what is said."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator

import panel as pn
import polars as pl
import pytest

from tests.dashboards.planted_federations import Store, history
from tests.widgets.planted import HOSTILE
from tests.workbench.planted_arms import COSTS, GAINS, LOSES, SITES, predictions
from widgets._compare.job import Desk, Job
from widgets._parts import unpack
from widgets.dashboards import pages
from widgets.dashboards.federation import MARK, FederationPage, page
from widgets.dashboards.federation import Store as Recorded

ALIKE = "alike sites \u00b7 2026-11-01 08:30 \u00b7 finished"


@pytest.fixture
def opened() -> Iterator[Callable[..., FederationPage]]:
    made: list[FederationPage] = []

    def open_page(store: Store, run: str = "") -> FederationPage:
        made.append(FederationPage(store))
        if run:
            made[-1].open(run)
        made[-1].__panel__()
        return made[-1]

    yield open_page
    for viewer in made:
        viewer.close()


def said(viewer: FederationPage) -> str:
    return "".join(str(p.object) for p in viewer._whole.select(pn.pane.HTML))


def test_it_begins_at_the_newest_and_follows_one_that_trains(opened: Callable[..., FederationPage]) -> None:
    store = Store()
    viewer = opened(store)
    assert viewer.run == "unlike sites \u00b7 2026-11-01 09:30 \u00b7 running" and viewer.board is not None
    assert viewer.board.note == "Still training: this page follows it." and viewer.board.verdicts.is_empty()
    assert unpack(viewer.board.rounds_bytes)[1]["round"].max() == 3
    viewer.look()
    assert unpack(viewer.board.rounds_bytes)[1]["round"].max() == 4
    assert "No verdict" not in said(viewer) and not viewer._csv.visible


def test_another_run_is_shown_with_its_verdicts_and_figures_as_a_file(opened: Callable[..., FederationPage]) -> None:
    viewer = opened(Store())
    viewer.run = ALIKE
    assert viewer.board is not None and viewer.board.title == "alike sites" and viewer.board.note == ""
    assert dict(viewer.board.verdicts.select("site", "verdict").iter_rows())["island"] == "do not join"
    figures = pl.read_csv(io.BytesIO(viewer._file().getvalue()))
    row = figures.filter(site="north", arm="federated", metric="normalised Pearson").row(0, named=True)
    assert viewer._csv.visible and len(figures) == 45 and row["difference"] == pytest.approx(0.102)


def test_what_matters_is_the_readers_to_say(opened: Callable[..., FederationPage]) -> None:
    store = Store()
    viewer = opened(store, "alike sites")
    assert store.asked[-1] == ("c" * 32, {"normalised Pearson": 0.02, "per-drug Pearson": 0.02})
    viewer._correlation.value = 0.05
    viewer._error.value = "0,1"
    assert store.asked[-1] == ("c" * 32, {"normalised Pearson": 0.05, "per-drug Pearson": 0.05, "RMSE": 0.1})
    viewer._error.value = "a lot"
    assert "RMSE" not in store.asked[-1][1]


def test_a_run_without_arms_says_what_is_missing_and_shows_its_rounds(opened: Callable[..., FederationPage]) -> None:
    viewer = opened(Store(), "without arms")
    assert "No verdict: site &#x27;north&#x27; has no rows of arm" in said(viewer)
    assert viewer.board is not None and unpack(viewer.board.rounds_bytes)[1]["round"].max() == 4


def test_the_address_names_the_run_or_what_is_wrong_with_it(opened: Callable[..., FederationPage]) -> None:
    assert opened(Store(), "cccc").opened_id == "c" * 32
    assert opened(Store(), "older run").opened_id == "a" * 32
    wrong = opened(Store(), "oldr run")
    assert "No federation is called" in said(wrong) and "Did you mean" in said(wrong) and wrong.opened_id == "d" * 32


def test_an_empty_and_a_broken_store_say_so_and_names_are_text(opened: Callable[..., FederationPage]) -> None:
    empty = opened(Store(history().clear()))
    assert "No federation yet" in said(empty) and not empty._picker.visible
    assert empty._above.visible and empty._again.visible, "it says to look again"
    empty.store.runs = history()
    empty.refresh()
    assert empty._picker.visible and empty.run is not None and "No federation yet" not in said(empty)
    broken = opened(Store(OSError("the file is no database")))
    assert "The runs cannot be listed: OSError: the file is no database" in said(broken)
    store = Store(hostile=HOSTILE)
    hostile = opened(store, "cccc")
    assert hostile.board is not None and HOSTILE in hostile.board.title and HOSTILE not in said(hostile)
    store.open = lambda *_: 1 / 0  # type: ignore[method-assign]
    hostile.look()
    assert "cannot be read: ZeroDivisionError" in said(hostile) and hostile._room.objects == []


def test_the_run_in_sight_stays_when_there_are_new_ones(opened: Callable[..., FederationPage]) -> None:
    store = Store(history().filter(pl.col("name") != "unlike sites"))
    viewer = opened(store, "older run")
    store.runs = history()
    viewer.refresh()
    assert viewer.opened_id == "a" * 32 and len(viewer._picker.options) == 4


def test_the_page_is_one_of_those_that_are_served() -> None:
    assert "federation" in [p.stem for p in pages()]
    assert page(Store()).title == "Federations \u00b7 Translational Workbench"


def test_recorded_federations_are_found_judged_and_followed() -> None:
    from tests.widgets import planted_federation
    from workbench import runs

    def about(name: str) -> dict[str, str]:
        return {"name": name, "study": "toy", "split": "unseen subject"}

    with runs.record(about("plain"), study_digest="00" * 32):
        pass
    frame = predictions({s: SITES[s] for s in (GAINS, LOSES)})
    with runs.record(about("federation"), study_digest="00" * 32) as run:
        run.tag({MARK: "ridge"})
        kept = {"FEDERATION_PREDICTIONS": frame, "FEDERATION_COSTS": COSTS}
        run.tables({**kept, "FEDERATION_ROUNDS": planted_federation.rounds(3)})
    store = Recorded()
    assert store.history()["experiment"].to_list() == ["federation"]
    found = store.open(store.history()["run_id"][0], {"RMSE": 0.5})
    assert dict(found.value.verdicts.select("site", "verdict").iter_rows()) == {GAINS: "join", LOSES: "do not join"}
    assert (
        found.value.sites.filter(metric="RMSE")["least"].unique().to_list() == [0.5]
        and found.rounds["round"].max() == 3
    )
    with runs.record(about("live"), study_digest="00" * 32) as run:
        run.tag({MARK: "network"})
        with run.child("network", 0) as child:
            for step in range(3):
                child.metrics({"validation loss": 1.0 / (step + 1), "RMSE": 2.0}, step)
            so_far = store.open(run.run_id, {})
            assert so_far.status == "RUNNING" and so_far.value is None
            rows = so_far.rounds.sort("round").select("round", "site", "name", "value").rows()
            assert rows == [(0, None, "validation loss", 1.0), (1, None, "validation loss", 0.5),
                            (2, None, "validation loss", pytest.approx(1 / 3))]  # fmt: skip
    ended = store.open(run.run_id, {})
    assert ended.status == "FINISHED" and "no federation" in ended.why
    job = Job(lambda _: store.history())
    assert job.wait(30) and len(job.result) == 2


def test_nothing_is_watched_before_the_page_has_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that falls between the opening of a page's connection and its first drawing was lost: an empty page."""
    later: list[Callable[[], None]] = []
    watched: list[Callable[[], None]] = []

    class Watch:
        def stop(self) -> None:
            watched.clear()

    def every(look: Callable[[], None], period: int) -> Watch:
        watched.append(look)
        return Watch()

    monkeypatch.setattr(pn.state, "onload", later.append)
    monkeypatch.setattr(pn.state, "add_periodic_callback", every)
    free = threading.Event()
    ended: list[Job] = []
    desk = Desk()
    desk.start(lambda _: free.wait(10), ended.append, lambda _: None, patience=0.0)
    assert len(later) == 1 and not watched
    later[0]()
    assert len(watched) == 1 and not ended
    free.set()
    assert desk.job is not None and desk.job.wait(10)
    watched[0]()
    assert len(ended) == 1 and not watched
    desk.start(lambda _: free.wait(10) and time.sleep(0.2), ended.append, lambda _: None, patience=0.0)
    desk.stop()
    later[1]()
    assert not watched, "what was stopped before the page had loaded stays so"
