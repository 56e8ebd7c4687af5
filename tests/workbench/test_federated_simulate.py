"""Sites behind Flower's engine: what travels arrives, who fails is named, what is stopped goes on, nothing is left."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from tests import toy
from workbench.federated import methods, sharing, spec, task
from workbench.federated.messages import Ask, MessageError, Reply
from workbench.federated.simulation import simulate
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.federated.state import StateError, StateFile, Stopped

pytest.importorskip("flwr")


def federation(**own: Any) -> spec.Federation:
    top = own.pop("top", {})
    plain = {"name": "together", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 3,
             "only": [0], "draws": 50, "predictors": ["drug_mean"]}  # fmt: skip
    own = {"sites": {"random": 3}, "policy": {"minimum_rows": 5}, "timeout_s": 20} | own
    return spec.of(plain | top | {"federation": own})


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After every test no thread of the engine and no process that was not there before."""
    before = set(psutil.Process().children(recursive=True))  # a browser of other tests, say
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith(("flower", "ThreadPool"))]
    assert not left
    assert not set(psutil.Process().children(recursive=True)) - before


# --- what travels ----------------------------------------------------------------------------------------------------


def over_the_wire(record: Any) -> Any:
    """A record taken apart into bytes and put together again, as Flower does between machines."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

    parts = {name: part.deflate() for name, part in get_all_nested_objects(record).items()}
    return inflate_object_from_contents(record.object_id, parts)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int64", "uint64", "float16", "float32", "float64", ">f8", "longdouble"]
)
def test_arrays_arrive_to_the_bit(dtype: str) -> None:
    sent = {
        "plane": np.array([[0, 1, 2], [3, 250, 9]]).astype(dtype), "none": np.zeros((0, 4), dtype),
        "one": np.array(1).astype(dtype), "crossed": np.asfortranarray(np.ones((3, 2), dtype)),
    }  # fmt: skip
    ask = Ask("counts", 3, sent)
    got = task.ask_of(over_the_wire(task.content(ask)))
    for name, array in sent.items():
        assert got.arrays[name].dtype == array.dtype and got.arrays[name].shape == array.shape
        assert got.arrays[name].tobytes() == array.tobytes()


def test_the_ends_of_every_kind_arrive() -> None:
    sent = {
        "u": np.array([2**64 - 1], np.uint64),
        "i": np.array([-(2**63)], np.int64),
        "f": np.array([np.nan, -0.0, 5e-324]),
    }
    values: dict[str, Any] = {
        "yes": True, "n": -(2**63), "x": float("nan"), "text": "Größe", "none": [], "ints": [1, 2],
        "floats": [0.1, 2.0], "texts": ["a", ""],
    }  # fmt: skip
    got = task.reply_of(over_the_wire(task.content(Reply("site 1", "counts", 7, 12, sent, values))))
    assert (got.site, got.purpose, got.round, got.rows, got.refused) == ("site 1", "counts", 7, 12, None)
    assert all(got.arrays[k].tobytes() == v.tobytes() for k, v in sent.items())
    assert np.isnan(got.values["x"]) and {k: v for k, v in got.values.items() if k != "x"} == {
        k: v for k, v in values.items() if k != "x"
    }
    assert [type(got.values[k]) for k in ("yes", "n", "text")] == [bool, int, str]
    refused = task.reply_of(over_the_wire(task.content(Reply("site 1", "counts", 0, refused="no"))))
    assert refused.refused == "no" and refused.rows == 0


def test_what_is_no_message_is_refused() -> None:
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    good = task.content(Ask("counts"))
    with pytest.raises(MessageError, match="beyond 64 bits"):
        task.content(Ask("counts", values={"n": 2**63}))
    with pytest.raises(MessageError, match="cannot be read"):
        task.ask_of(RecordDict())
    with pytest.raises(MessageError, match="expected site as str, found NoneType"):
        task.reply_of(good)
    pickled = Array(dtype="object", shape=(1,), stype="numpy.ndarray", data=b"\x80\x04cos\nsystem\n.")
    with pytest.raises(MessageError, match=r"cannot be read \(ValueError\)"):
        task.ask_of(
            RecordDict({"arrays": ArrayRecord({"x": pickled}), "values": ConfigRecord({}), "about": good["about"]})
        )


def test_sizes_are_counted() -> None:
    small = task.size(task.content(Ask("counts")))
    large = task.size(task.content(Ask("counts", arrays={"x": np.zeros(1000)}, values={"names": [], "t": "abc"})))
    assert 8000 + 3 + 1 + 5 + 1 <= large - small <= 8000 + 200


# --- who fails -------------------------------------------------------------------------------------------------------


@pytest.fixture
def dealt_sites() -> list[Site]:
    fold = federation().divide(toy.write()).fold(0)
    return [Site(n, sharing.local(fold, own)) for n, own in sharing.at_random(fold, 5).items()]


def running(sites: list[Site], app: Any, **options: Any) -> Any:
    """FlowerSites over an app of the test's own."""
    import contextlib

    from workbench.federated.server_app import FlowerSites
    from workbench.federated.simulation.runtime import Runtime

    @contextlib.contextmanager
    def go() -> Iterator[Any]:
        logging.getLogger("flwr").setLevel(logging.CRITICAL)
        runtime = Runtime(app, {}, len(sites))
        try:
            yield FlowerSites(runtime.grid, len(sites), pause_s=0.05, wait=runtime.wait, **options)
        finally:
            runtime.end()

    return go()


def test_a_site_that_fails_is_named_with_the_reason_and_the_others_are_summed(dealt_sites: list[Site]) -> None:
    from flwr.app import Message
    from flwr.clientapp import ClientApp

    app, well = ClientApp(), threading.Event()

    @app.query()
    def answer(message: Message, context: Any) -> Message:
        site = dealt_sites[context.node_config["partition-id"]]
        ask = task.ask_of(message.content)
        if ask.purpose == "counts" and not well.is_set():
            if site.name == "site 2":
                raise ValueError("row 17 of subject 03 is 4.25")
            if site.name == "site 3":
                site = dealt_sites[0]
            if site.name == "site 4":
                ask = Ask("counts", ask.round + 1)
        return Message(task.content(site.answer(ask)), reply_to=message)

    with running(dealt_sites, app, timeout_s=20.0) as sites:
        assert sites.names == ("site 1", "site 2", "site 3", "site 4", "site 5")
        got = sites.ask(Ask("counts", 1))
        assert [r.site for r in got.replies] == ["site 1", "site 5"]
        assert got.lost == {
            "site 2": "its app failed",  # Flower's text would have told the row
            "site 3": "answered under another name, 'site 1'",
            "site 4": "answered 'counts' of round 2",
        }
        with pytest.raises(TooFewSites, match=r"2 of the 3 sites needed answered .*site 2: its app failed"):
            sites.total(Ask("counts", 1), least=3)
        well.set()  # they come back
        total, all_there = sites.total(Ask("counts", 2))
        expected, _ = Inline(dealt_sites).total(Ask("counts", 2))
        assert len(all_there.replies) == 5 and total["rows"] == expected["rows"]
        assert sites.ask(Ask("counts"), of=["site 9", "site 1"]).lost == {"site 9": "unknown site"}
        assert sites.bytes_received["site 1"] > sites.bytes_received["site 2"] > 0


def test_a_slow_site_is_lost_and_its_late_answer_is_not_taken_for_the_next(dealt_sites: list[Site]) -> None:
    from flwr.app import Message
    from flwr.clientapp import ClientApp

    app, slow = ClientApp(), threading.Event()

    @app.query()
    def answer(message: Message, context: Any) -> Message:
        site = dealt_sites[context.node_config["partition-id"]]
        ask = task.ask_of(message.content)
        if ask.purpose == "counts" and site.name == "site 2" and not slow.is_set():
            slow.set()
            time.sleep(0.9)
        return Message(task.content(site.answer(ask)), reply_to=message)

    with running(dealt_sites[:2], app, timeout_s=0.6) as sites:
        first = sites.ask(Ask("counts", 0), of=["site 2"])
        assert first.lost == {"site 2": "no answer within 0.6 s"}
        time.sleep(0.5)
        second = sites.ask(Ask("counts", 1))
        assert [r.round for r in second.replies] == [1, 1] and not second.lost


def test_two_sites_of_one_name_are_told_apart(dealt_sites: list[Site]) -> None:
    from flwr.app import Message
    from flwr.clientapp import ClientApp

    app = ClientApp()
    dealt_sites[1].name = "site 1"

    @app.query()
    def answer(message: Message, context: Any) -> Message:
        site = dealt_sites[context.node_config["partition-id"]]
        return Message(task.content(site.answer(task.ask_of(message.content))), reply_to=message)

    with pytest.raises(TooFewSites, match="another node that is connected is called 'site 1' too"):  # noqa: SIM117
        with running(dealt_sites[:2], app, least=2, patience_s=0.1):
            pass


def test_a_site_that_cannot_start_says_no_more_than_the_kind_of_error(caplog: pytest.LogCaptureFixture) -> None:
    from flwr.app import Context, Message, RecordDict
    from flwr.supercore.task_identity import TaskIdentity

    from workbench.federated.client_app import app

    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 2, 3
    message = Message(task.content(Ask("counts", 4)), 5, "query")
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before
    node: Any = {"name": "clinic", "study": "/not/there", "policy": "policy.toml", "ledger": "book"}
    config: Any = task.run_config(federation(), 0)
    reply = task.reply_of(app(message, Context(9, 5, node, RecordDict(), config)).content)
    assert (reply.site, reply.purpose, reply.round, dict(reply.arrays)) == ("clinic", "counts", 4, {})
    assert reply.refused == "failed with FileNotFoundError before it could answer; see the site's log."
    assert "/not/there" in caplog.text


# --- engines ---------------------------------------------------------------------------------------------------------


def test_flower_and_inline_give_the_same_predictor_and_the_pooled_means() -> None:
    toy.write()
    plan = federation(policy={"minimum_rows": 5, "minimum_cell": 1})
    a, b = (simulate.fitted(plan, 0, engine) for engine in ("inline", "flower"))
    assert all(np.array_equal(v, b.predictor.arrays()[k]) for k, v in a.predictor.arrays().items())
    pooled = dict(a.fold.train.group_by("treatment").agg(pl.col("value").mean()).iter_rows())
    (found,) = b.predictor.tables_
    assert found == pytest.approx(pooled, abs=1e-12)
    assert {e.purpose for e in b.watched.exchanges} == {"schema", "value_sums"}


def test_a_gated_site_writes_down_what_leaves_and_answers_the_same() -> None:
    from workbench.federated.gate import ledger

    toy.write()
    open_, gated = federation(), federation(gated=True)
    a, b = (simulate.fitted(plan, 0, "flower") for plan in (open_, gated))
    assert all(np.array_equal(v, b.predictor.arrays()[k]) for k, v in a.predictor.arrays().items())
    book = task.book(gated, 0, "site 2") / "ledger.jsonl"
    found = ledger.verify(book)
    assert found.entries >= 3 and not found.faults  # hello, schema, sums
    book.write_text(book.read_text().replace("value_sums", "value_sum5", 1))
    assert ledger.verify(book).faults


def test_secure_sums_give_the_same_means() -> None:
    toy.write()
    a, b = (simulate.fitted(federation(secure=secure), 0, "flower") for secure in (False, True))
    assert all(np.allclose(v, b.predictor.arrays()[k], atol=1e-5) for k, v in a.predictor.arrays().items())
    assert not any(e.purpose == "value_sums" for e in b.watched.exchanges)  # nobody's own part was asked for


def test_unknown_engines_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown engine 'flowr'. Did you mean 'flower'"):
        simulate.fitted(federation(top={"study": toy.write().name}), 0, "flowr")


def test_a_round_through_flower_takes_milliseconds() -> None:
    toy.write()
    plan = federation()
    with simulate.sites(plan, 0, "flower") as sites:
        took = []
        for number in range(30):
            start = time.perf_counter()
            sites.ask(Ask("counts", number))
            took.append(time.perf_counter() - start)
    assert np.median(took) < 0.05  # Flower's own pace is a tenth of a second and more


def test_the_engine_ends_with_the_error_of_whoever_used_it() -> None:
    toy.write()
    with pytest.raises(KeyError, match="mine"), simulate.sites(federation(), 0, "flower"):
        raise KeyError("mine")


# --- stopping and going on -------------------------------------------------------------------------------------------


def add_up(sites: Any, settings: Any, state: Any, keep: Any, say: Any) -> Any:
    """A method of rounds: sums the sites' rows times the round; notes which rounds it really did."""
    number, total = (0, 0.0) if state is None else (state[0], float(state[1]["total"][0]))
    for k in range(number + 1, settings["rounds"] + 1):
        got, _ = sites.total(Ask("counts", k))
        total += k * float(got["rows"][0])
        DONE.append(k)
        keep(k, {"total": np.array([total]), "none": np.zeros((0, 2))}, {"total": total, "what": "rows"})
    return total


DONE: list[int] = []


@pytest.fixture
def adding(monkeypatch: pytest.MonkeyPatch) -> spec.Federation:
    DONE.clear()
    monkeypatch.setitem(methods.METHODS, "means", methods.Method(("drug_mean",), add_up))
    toy.write()
    return federation(rounds=5)


def test_a_stopped_training_goes_on_after_its_last_round(adding: spec.Federation, tmp_path: Path) -> None:
    uncut = simulate.fitted(adding, 0, "inline", folder=tmp_path)
    whole = uncut.predictor
    assert DONE == [1, 2, 3, 4, 5] and not list(tmp_path.iterdir())
    DONE.clear()
    heard: list[int] = []
    with pytest.raises(Stopped, match="stopped after round 3"):
        simulate.fitted(adding, 0, "flower", folder=tmp_path, stopped=lambda: len(DONE) == 3,
                        point=lambda k, values: heard.append(k))  # fmt: skip
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".jsonl", ".safetensors"]
    said, told = list[str](), list[tuple[int, dict[str, Any]]]()
    again = simulate.fitted(adding, 0, "flower", folder=tmp_path, say=lambda f, text: said.append(text),
                            point=lambda k, values: told.append((k, dict(values))))  # fmt: skip
    assert DONE == [1, 2, 3, 4, 5] and heard == [1, 2, 3] and again.predictor == whole
    assert said == ["going on after round 3"] and not list(tmp_path.iterdir())
    # what passed before the stop counts: rounds, figures and bytes are those of a training that nobody stopped
    passed = [[(e.purpose, e.round, e.nbytes) for e in f.watched.exchanges] for f in (uncut, again)]
    assert passed[0] == passed[1] and len(passed[0]) == 5
    assert [k for k, _ in told] == [1, 2, 3, 4, 5] and told[-1][1] == {"total": whole}


def test_a_training_that_fails_before_its_first_round_leaves_no_file(
    adding: spec.Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("all sites gone")

    monkeypatch.setitem(methods.METHODS, "means", methods.Method(("drug_mean",), broken))
    with pytest.raises(RuntimeError, match="all sites gone"):
        simulate.fitted(adding, 0, "inline", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_trainings_state_is_left_alone(adding: spec.Federation, tmp_path: Path) -> None:
    other = StateFile(simulate.place(adding, 0, tmp_path), "of another")
    other.keep(4, {"total": np.array([1e9])}, {})
    assert simulate.fitted(adding, 0, "inline", folder=tmp_path).predictor < 1e8
    assert DONE == [1, 2, 3, 4, 5]


def test_a_state_is_kept_to_the_bit_and_a_damaged_one_named(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "s.safetensors", "m")
    arrays = {"u": np.array([2**64 - 1], np.uint64), "f": np.array([[np.nan, -0.0]]), "z": np.zeros((0, 3), np.int32)}
    assert file.load() is None
    (tmp_path / ".s.safetensors.999999999.tmp").write_bytes(b"of a killed one")
    file.keep(7, arrays, {"n": 1, "x": 0.1, "t": ["a"], "yes": True})
    number, got, values = file.load() or (0, {}, {})
    assert number == 7 and values == {"n": 1, "x": 0.1, "t": ["a"], "yes": True}
    assert all(got[k].tobytes() == v.tobytes() and got[k].dtype == v.dtype for k, v in arrays.items())
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]
    for damaged in (file.path.read_bytes()[:-3], b"", b"\xff" * 20):
        file.path.write_bytes(damaged)
        with pytest.raises(StateError, match=r"s.safetensors is not a readable state .* Delete it"):
            file.load()


def test_what_training_depends_on_is_in_its_mark() -> None:
    toy.write()
    marks = {
        simulate.mark(federation(), 0),
        simulate.mark(federation(least=3), 0),
        simulate.mark(federation(sites={"random": 4}), 0),
        simulate.mark(federation(policy={"minimum_rows": 6}), 0),
        simulate.mark(federation(top={"seed": 1}), 0),
    }
    assert len(marks) == 5 and simulate.mark(federation(), 0) in marks


# --- Ray's workers ---------------------------------------------------------------------------------------------------


def _actor(seconds: float = 30) -> psutil.Process:
    """A worker of Ray that holds a site, once it bears its name."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for process in psutil.process_iter(["cmdline"]):
            if "ClientAppActor" in " ".join(process.info["cmdline"] or []):
                return process
        time.sleep(0.1)
    raise AssertionError("no worker of Ray was found")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves files and processes to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_rays_workers_keep_their_sites_and_a_dead_one_is_replaced() -> None:
    ray = pytest.importorskip("ray")
    toy.write(subjects=150)
    plan = federation(timeout_s=120, settings={"axes": 8, "parts": 2}, top={"predictors": ["ridge"]})
    here = simulate.fitted(plan, 0, "inline").predictor.arrays()
    from workbench.federated.simulation.engine import ray_running

    with ray_running(2):
        there = simulate.fitted(plan, 0, "ray").predictor.arrays()
        assert all(np.allclose(v, there[k], atol=1e-6) for k, v in here.items())
        with simulate.sites(plan, 0, "ray") as sites:
            assert sites.names == ("site 1", "site 2", "site 3")
            actor = _actor()
            actor.kill()
            actor.wait(10)
            got = sites.ask(Ask("counts", 0))
            assert set(got.lost.values()) == {"its process ended or could not be reached"} and 1 <= len(got.lost) <= 2
            assert not sites.ask(Ask("counts", 1)).lost
    assert not ray.is_initialized()


def test_a_state_is_gone_on_with_by_the_same_code_only(tmp_path: Path) -> None:
    named = ("federated/exact/ridge.py", "predictors/linear.py", "nn/scaling.py", "modalities/expression.py",
             "splits/__init__.py", "batches.py", "train.py", "predict.py")  # fmt: skip
    for name in named:
        assert (simulate.PACKAGE / name).is_file(), "what is marked is where it is looked for"
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("a = 1\n")
    before = simulate.code(tmp_path)
    (tmp_path / "federated/exact/ridge.py").write_text("a = 2\n")
    after = simulate.code(tmp_path)
    assert before != after
    (tmp_path / "federated/exact/ridge.py").rename(tmp_path / "federated/ridge.py")
    assert (moved := simulate.code(tmp_path)) not in (before, after)
    for name in named[1:]:
        (tmp_path / name).write_text("a = 2\n")
        assert moved != (moved := simulate.code(tmp_path)), name
