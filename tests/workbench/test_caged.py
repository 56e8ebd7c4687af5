"""The cage: whatever a reader does, the caller gets a value or a FormatError and goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from polars.testing import assert_frame_equal

from workbench import caged
from workbench.caged import codec, messages
from workbench.formats import FormatError, h5ad, parquet

ROOT = Path(__file__).resolve().parents[2]


def run(do: str, *, memory: int = 2**28, seconds: float = 10, data: bytes = b"x", **options: Any) -> Any:
    return caged._read("tests.hostile_readers", data, "evil.bin", memory, seconds, {"do": do} | options)


def template() -> int:
    """The template's process id, warm."""
    run("echo")
    assert caged._template is not None
    return caged._template.process.pid


def children(process: int) -> list[str]:
    """States of the children of ``process``, zombies too."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = place.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == process:
                found.append(state)
    return found


# --- values ----------------------------------------


def test_a_format_is_read_as_it_is_without_the_cage():
    frame = pl.DataFrame({"a": [1.5, None], "b": ["x", "<b>"]})
    assert_frame_equal(caged.read("parquet", parquet.write(frame), "x.parquet"), frame)
    columns = {"a": pl.Float64, "b": pl.String}
    assert_frame_equal(caged.read("csv", b"a,b\n1.5,x\n,<b>\n", "x.csv", columns=columns), frame)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 7, -(2**70), 1.5, float("inf"), "text \u00b5 \0", b"bytes\0", [], {}, [1, [2.5, None]], (1, "x"),
        {"a": {"b": [b"", "y"]}}, np.float32(1.5), np.bool_(True),
    ],
)  # fmt: skip
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    back = codec.decode(*codec.encode(value))
    assert back == value and type(back) is type(value)


def test_data_types_come_back_as_they_were():
    given = {"a": pl.Float64, "b": pl.Int8()}
    back = codec.decode(*codec.encode(given))
    assert back == given and isinstance(back["a"], type) and not isinstance(back["b"], type)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3), np.zeros((0, 4)), np.array([1.5, np.nan], np.float32),
        np.array(3.5),
        np.array([True, False]), np.array([b"ab", b"c"]), np.array(["\u00b5m", ""]), np.array([1 + 2j]),
        np.arange(6.0)[::2], np.arange(6, dtype=">i4"), np.array(["2026-01-01"], "datetime64[D]"),
        np.array(["text", None, "\0"], dtype=object), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([(1, "x", 2.5)], dtype=[("a", "i4"), ("b", object), ("c", "f8")]),
    ],
)  # fmt: skip
def test_arrays_come_back_as_they_were_and_can_be_written_to(array: np.ndarray) -> None:
    back = messages.receive(sent(array))
    assert back.shape == array.shape and back.flags.writeable
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)


def sent(value: Any) -> bytearray:
    """The bytes that ``send`` writes."""
    end, start = os.pipe()
    got = bytearray()

    def collect() -> None:
        while part := os.read(end, 65536):
            got.extend(part)

    reader = threading.Thread(target=collect)
    reader.start()
    messages.send(start, value)
    os.close(start)
    reader.join()
    os.close(end)
    return got


def adata() -> anndata.AnnData:
    data = anndata.AnnData(
        scipy.sparse.csr_matrix(np.array([[0, 1.5, 0], [2, 0, 0]], np.float32)),
        obs=pd.DataFrame(
            {
                "kind": pd.Categorical(["b", None], categories=["a", "b"], ordered=True),
                "n": pd.array([1, None], dtype="Int64"),
                "on": [True, False],
                "note": ["x", "<b>"],
                "value": [1.5, np.nan],
            },
            index=["c1", "c2"],
        ),
        var=pd.DataFrame(index=["g1", "g2", "g3"]),
    )
    data.layers["counts"] = np.arange(6, dtype=np.int32).reshape(2, 3)
    data.obsm["pca"] = np.ones((2, 2))
    data.obsp["near"] = scipy.sparse.csc_matrix(np.eye(2))
    data.uns = {"unit": "counts", "nested": {"levels": np.array(["a", "b"], dtype=object), "k": 3}, "empty": {}}
    data.raw = data.copy()
    return data


def test_anndata_comes_back_whole():
    data, back = adata(), messages.receive(sent(adata()))
    pd.testing.assert_frame_equal(back.obs, data.obs, check_index_type=False)
    assert list(back.var_names) == list(data.var_names)
    assert scipy.sparse.issparse(back.X) and back.X.format == "csr" and back.X.dtype == np.float32
    np.testing.assert_array_equal(back.X.toarray(), data.X.toarray())
    np.testing.assert_array_equal(back.layers["counts"], data.layers["counts"])
    np.testing.assert_array_equal(back.obsm["pca"], data.obsm["pca"])
    np.testing.assert_array_equal(back.obsp["near"].toarray(), np.eye(2))
    np.testing.assert_array_equal(back.raw.X.toarray(), data.X.toarray())
    assert back.uns["unit"] == "counts" and back.uns["nested"]["k"] == 3 and back.uns["empty"] == {}
    assert list(back.uns["nested"]["levels"]) == ["a", "b"]


def test_anndata_without_values_and_mudata_come_back():
    import mudata

    empty = messages.receive(sent(anndata.AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["g", "h"]))))
    assert empty.shape == (1, 2) and empty.X is None
    with mudata.set_options(pull_on_update=False):
        first = anndata.AnnData(
            np.ones((2, 2), np.float32), obs=pd.DataFrame(index=["a", "b"]), var=pd.DataFrame(index=["g", "h"])
        )
        other = anndata.AnnData(
            np.zeros((1, 1), np.float32), obs=pd.DataFrame(index=["b"]), var=pd.DataFrame(index=["p"])
        )
        both = mudata.MuData({"rna": first, "protein": other})
        both.obs["donor"] = ["d1", "d2"]
        both.uns["title"] = "two"
        both.obsm["joint"] = np.ones((2, 2))
        back = messages.receive(sent(both))
    assert list(back.mod) == ["rna", "protein"] and back.shape == both.shape
    assert list(back.obs["donor"]) == ["d1", "d2"] and back.uns["title"] == "two" and back.axis == 0
    np.testing.assert_array_equal(back.obsm["joint"], np.ones((2, 2)))
    assert list(back["protein"].obs_names) == ["b"]


def test_a_file_goes_through_the_cage_with_its_anndata():
    data = adata()
    del data.raw
    back = caged.read("h5ad", h5ad.write(data), "x.h5ad")
    np.testing.assert_array_equal(back.X.toarray(), data.X.toarray())


@pytest.mark.parametrize("value", [object(), {1: 2}, {"f": print}, [lambda: 1], np.array([object()])])
def test_what_is_no_plain_value_is_not_carried(value: Any) -> None:
    with pytest.raises(TypeError):
        codec.encode(value)


@pytest.mark.parametrize(
    "header",
    [
        b"", b"[1]", b'{"t":"no"}', b'{"t":"array","d":"<f8","s":[9],"b":0}', b'{"t":"array","d":"O","s":[1],"b":0}',
        b'{"t":"array","d":"<f8","s":[-1],"b":0}', b'{"t":"array","d":"<f8","s":[1],"b":5}', b'{"t":"frame","b":0}',
        b'{"t":"sparse","f":"evil","s":[1,1],"v":[]}', b'{"t":"dict","k":["a"],"v":[]}',
        b'{"t":"dtype","v":"__class__"}',
        b"[" * 100_000, b'{"t":"array","d":"<f8,<O","s":[1],"b":0}',
    ],
)  # fmt: skip
def test_a_header_that_does_not_fit_is_garbage(header: bytes) -> None:
    with pytest.raises(codec.GarbageError):
        codec.decode(header, [b"12345678"])


def test_a_sparse_matrix_that_points_outside_itself_is_garbage():
    header, buffers = codec.encode(scipy.sparse.csr_matrix(np.eye(3)))
    buffers[1] = np.array([0, 1, 99], np.int32).tobytes()
    with pytest.raises(codec.GarbageError):
        codec.decode(header, buffers)


# --- what a reader may do to itself ----------------------------------------


def test_a_refusal_comes_back_as_it_was():
    with pytest.raises(FormatError, match=r"^evil\.bin, row 7: expected a number, found 'x'$") as refusal:
        run("refuse")
    assert type(refusal.value) is FormatError and refusal.value.place == "row 7"


@pytest.mark.parametrize(
    ("do", "kind", "words"),
    [
        ("bug", "failed", "KeyError"),
        ("eat_list", "memory", "exceeded 256 MiB of memory"),
        ("eat_numpy", "memory", "exceeded 256 MiB of memory"),
        ("eat_native", "signal", "SIGSEGV"),
        ("segfault", "signal", "SIGSEGV"),
        ("abort", "signal", "SIGABRT"),
        ("leave", "answer", "no answer"),
        ("recurse", "failed", "nested too deeply"),
        ("garbage", "answer", "checksum"),
        ("truncated", "answer", "checksum"),
        ("strange", "answer", "exit code"),
    ],
)
def test_a_reader_that_ends_badly_is_a_refusal(do: str, kind: str, words: str) -> None:
    before = template()
    with pytest.raises(caged.CagedError, match=words) as refusal:
        run(do)
    assert (refusal.value.kind, refusal.value.file, refusal.value.place) == (kind, "evil.bin", "reader")
    assert run("echo", data=b"after")["data"] == b"after"
    assert template() == before, "the template went on"


@pytest.mark.parametrize("do", ["loop", "sleep", "deaf"])
def test_a_reader_that_does_not_end_is_ended(do: str) -> None:
    began = time.monotonic()
    with pytest.raises(caged.CagedError, match=r"exceeded 0\.3 seconds") as refusal:
        run(do, seconds=0.3)
    assert refusal.value.kind == "time" and time.monotonic() - began < 5
    assert children(template()) == []


def test_an_answer_larger_than_the_cap_is_refused():
    assert len(run("big", size=2**20)) == 2**20
    with pytest.raises(caged.CagedError, match="more than 4 MiB"):
        caged._read("tests.hostile_readers", b"", "evil.bin", 2**22, 10, {"do": "flood"})
    with pytest.raises(caged.CagedError, match="expected at most 1 MiB, found 2"):
        run("echo", memory=2**20, data=bytes(2**21))
    assert run("echo")["value"] is None


def test_the_cap_is_beyond_what_the_file_itself_takes():
    assert len(run("echo", memory=2**28, data=bytes(2**26))["data"]) == 2**26


def test_what_a_parser_never_needs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("content")
    verdicts = run("allowed", path=str(path), parent=os.getpid())
    assert verdicts.pop("read") == "done" and verdicts.pop("thread") == "done"
    assert set(verdicts.values()) <= {"PermissionError", "OSError", "ValueError"}, verdicts
    assert path.read_text() == "content" and list(tmp_path.iterdir()) == [path]


# --- the template's life ----------------------------------------


def test_the_template_has_no_threads_of_ours_and_leaves_no_zombies():
    process = template()
    caged.read("parquet", parquet.write(pl.DataFrame({"a": [1]})), "x")
    names = {(t / "comm").read_text().strip() for t in Path(f"/proc/{process}/task").iterdir()}
    assert len(names) <= 2 and not any(n.startswith(("polars-0", "tokio", "OMP")) for n in names)
    for _ in range(5):
        run("echo")
    deadline = time.monotonic() + 5
    while children(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert children(process) == []


def test_a_killed_template_is_replaced_and_its_children_end_with_it():
    before = template()
    os.kill(before, signal.SIGKILL)
    assert run("echo", data=b"again")["data"] == b"again"
    assert template() != before
    seen: list[Any] = []
    slow = threading.Thread(target=lambda: seen.append(_caught("sleep", seconds=30)))
    busy = template()
    slow.start()
    while not children(busy):
        time.sleep(0.01)
    os.kill(busy, signal.SIGKILL)  # in the middle of a file: it is read once more by a new one
    while caged._template is None or caged._template.process.pid == busy or not children(caged._template.process.pid):
        time.sleep(0.01)
    os.kill(caged._template.process.pid, signal.SIGKILL)
    slow.join(timeout=20)
    assert isinstance(seen[0], caged.CagedError) and seen[0].kind == "template"
    assert run("echo", data=b"still")["data"] == b"still"


def _caught(do: str, **more: Any) -> Any:
    try:
        return run(do, **more)
    except Exception as error:
        return error


def test_a_stopped_template_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caged, "GRACE", 0.2)
    monkeypatch.setattr(caged, "LOADING", 0.5)
    before = template()
    os.kill(before, signal.SIGSTOP)
    monkeypatch.setattr(caged, "LOADING", 20.0)
    started = caged._running

    def quick() -> Any:
        found = started()
        caged.LOADING = 0.5 if found.process.pid == before else 60.0
        return found

    monkeypatch.setattr(caged, "_running", quick)
    assert run("echo", data=b"on")["data"] == b"on"
    assert caged._template is not None and caged._template.process.pid != before


def test_files_are_read_side_by_side():
    template()
    seen: list[Any] = []
    slow = threading.Thread(target=lambda: seen.append(_caught("sleep", seconds=1.5)))
    slow.start()
    began = time.monotonic()
    assert run("echo")["value"] is None
    assert time.monotonic() - began < 1.0
    slow.join()
    assert seen[0].kind == "time"


def test_a_forked_copy_of_the_caller_has_a_template_of_its_own():
    ours = template()
    child = os.fork()
    if child == 0:
        try:
            done = run("echo", data=b"child")["data"] == b"child" and caged._template.process.pid != ours  # type: ignore[union-attr]
            caged.stop()
            os._exit(0 if done else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert template() == ours


@pytest.mark.parametrize("end", ["return", "kill"])
def test_the_template_ends_with_the_caller(end: str) -> None:
    ending = "os.kill(os.getpid(), 9)" if end == "kill" else "pass"
    script = (
        "import os; from workbench import caged, formats\n"
        "from workbench.formats import parquet; import polars as pl\n"
        "caged.read('parquet', parquet.write(pl.DataFrame({'a': [1]})), 'x')\n"
        f"print(caged._template.process.pid, flush=True)\n{ending}\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == (-9 if end == "kill" else 0) and done.stderr == ""
    left = Path(f"/proc/{int(done.stdout)}")
    deadline = time.monotonic() + 5
    while left.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left.exists()


def test_a_program_in_the_working_folder_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('planted')")
    script = (
        "from workbench import caged; import polars as pl, os\n"
        f"from workbench.formats import parquet\nos.chdir({str(tmp_path)!r})\n"
        "print(caged.read('parquet', parquet.write(pl.DataFrame({'a': [1]})), 'x').height)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "1", done.stderr


def test_an_unknown_format_and_a_reader_that_cannot_be_loaded():
    with pytest.raises(KeyError, match="Did you mean 'parquet'"):
        caged.read("parqet", b"", "x")
    with pytest.raises(RuntimeError, match="the reader cannot be loaded: ModuleNotFoundError"):
        caged._read("tests.no_such_reader", b"", "x", 2**28, 10, {})


def test_fifty_small_files_a_second():
    frame = parquet.write(pl.DataFrame({"a": range(100)}))
    caged.read("parquet", frame, "x")
    best = min(_seconds(frame) for _ in range(3))
    assert best < 20 / 50 * 2.5, f"20 files took {best:.2f} s"  # others may be using the machine


def _seconds(frame: bytes) -> float:
    began = time.monotonic()
    for _ in range(20):
        caged.read("parquet", frame, "x")
    return time.monotonic() - began
