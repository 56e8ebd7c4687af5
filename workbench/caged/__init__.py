"""Foreign files are parsed in a child process with caps on memory and time; only inert values come back.

    caged.read("xpt", data, "dm.xpt")

A parser of a binary format, however careful, can be made to crash, to loop or to eat all memory. So it runs in a
child forked from a warm template process (``caged.__main__``), behind walls (``caged.walls``): a cap on memory and
time, no network, no programs, no files written. The value comes back through an inert codec (``caged.codec``), never
as a pickle. Whatever happens to the child, the caller gets a value or a ``FormatError``.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import rooms
from workbench.formats import FormatError
from workbench.text import nearest

__all__ = ["CagedError", "read", "stop"]

MEMORY = 2**30  # bytes
SECONDS = 10.0
GRACE = 20.0  # seconds the template may be late itself before it is replaced
LOADING = 300.0  # seconds a cold machine may take to import what a format needs
QUIET = {  # threads do not survive a fork
    "MALLOC_ARENA_MAX": "1",
    "_RJEM_MALLOC_CONF": "background_thread:false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
ONE_THREAD = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class CagedError(FormatError):
    """The reader did not end as a reader should; ``kind`` is time, memory, signal, failed, answer or template."""

    def __init__(self, file: str, reason: str, kind: str) -> None:
        super().__init__(file, "reader", reason)
        self.kind = kind


@dataclass
class _Template:
    """The process that forks, and the socket to it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    owner: int = field(default_factory=os.getpid)


class _Dead(Exception):
    """The template died or hangs."""


_lock = threading.Lock()
_template: _Template | None = None


def read(format: str, data: bytes, file: str, *, memory: int = MEMORY, seconds: float = SECONDS, **options: Any) -> Any:
    """``workbench.formats.<format>.read(data, file, **options)``, run in a child process.

    Parameters
    ----------
    format : name of a file in ``workbench.formats``
    data, file : the bytes, and their name for messages
    memory : bytes the child may use beyond what it starts with (``data`` included in that); also the most it may answer
    seconds : wall time it may take
    options : plain values, numpy arrays, frames and polars data types

    Raises
    ------
    FormatError
        As the reader raised it; or ``CagedError`` where it took too much memory or time, crashed, failed in an
        unforeseen way or gave what is no answer.
    KeyError
        There is no such format.
    RuntimeError
        The format's own packages cannot be imported.
    """
    known = rooms.names("workbench.formats")
    if format not in known:
        raise KeyError(f"no format {format!r}.{nearest(format, known)} There are: {', '.join(known)}.")
    return _read(f"workbench.formats.{format}", data, file, memory, seconds, options)


def _read(module: str, data: bytes, file: str, memory: int, seconds: float, options: dict[str, Any]) -> Any:
    """``<module>.read(data, file, **options)`` in a child."""
    if len(data) > memory:
        raise CagedError(file, f"expected at most {memory / 2**20:,.0f} MiB, found {len(data) / 2**20:,.0f}", "memory")
    from workbench.caged import codec, messages

    words = json.dumps({"module": module, "memory": int(memory), "seconds": float(seconds)}).encode()
    for last in (False, True):
        with _file() as request:
            messages.send(request, {"file": file, "data": data, "options": options})
            os.lseek(request, 0, os.SEEK_SET)
            try:
                answer, end = _ask(words, request, file, memory, seconds)
                break
            except _Dead as error:
                if last:
                    raise CagedError(file, f"its process died twice ({error}); nothing was read", "template") from None
    if end["code"] != 0:
        raise _ending(file, end, memory, seconds)
    try:
        said = messages.receive(answer)
        if "value" in said:
            return said["value"]
        if "refused" in said:
            raise FormatError(*said["refused"])
    except (codec.GarbageError, TypeError) as error:
        raise CagedError(file, f"answered with what is no answer: {error}", "answer") from None
    if "memory" in said:
        raise _too_much(file, memory)
    raise CagedError(file, f"failed: {said.get('failed')}", "failed")


def stop() -> None:
    """End the template process; the next ``read`` starts another one."""
    with _lock:
        _stop()


def _ending(file: str, end: dict[str, Any], memory: int, seconds: float) -> CagedError:
    """What a child's exit code says."""
    from workbench.caged.__main__ import MEMORY as OUT_OF_MEMORY

    code = end["code"]
    if end["late"]:
        return CagedError(file, f"exceeded {seconds:g} seconds", "time")
    if code == OUT_OF_MEMORY:
        return _too_much(file, memory)
    if code < 0:
        hint = " (often: out of memory)" if -code in (signal.SIGABRT, signal.SIGKILL) else ""
        return CagedError(file, f"crashed by signal {signal.Signals(-code).name}{hint}", "signal")
    return CagedError(file, f"ended with exit code {code} and no answer", "answer")


def _too_much(file: str, memory: int) -> CagedError:
    return CagedError(file, f"exceeded {memory / 2**20:,.0f} MiB of memory", "memory")


@contextlib.contextmanager
def _file() -> Any:
    """An unnamed file in memory, or on disk where the system has none of those."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("caged")
        try:
            yield handle
        finally:
            os.close(handle)
    else:
        with tempfile.TemporaryFile() as stream:
            yield stream.fileno()


def _ask(words: bytes, request: int, file: str, memory: int, seconds: float) -> tuple[bytearray, dict[str, Any]]:
    """The child's answer and how it ended; _Dead when the template is."""
    hears, answers = os.pipe()
    told, says = os.pipe()
    try:
        with _lock:
            template = _running()
            try:
                socket.send_fds(template.control, [words], [request, answers, says])
            except OSError as error:
                _stop()
                raise _Dead(f"{type(error).__name__}") from None
        os.close(answers)
        os.close(says)
        answers = says = -1
        return _listen(template, hears, told, file, memory, seconds)
    finally:
        for handle in (hears, told, answers, says):
            if handle >= 0:
                os.close(handle)


def _listen(
    template: _Template, hears: int, told: int, file: str, memory: int, seconds: float
) -> tuple[bytearray, dict[str, Any]]:
    answer, news = bytearray(), bytearray()
    waiting = {hears, told}
    until = time.monotonic() + LOADING
    while waiting:
        ready = select.select(list(waiting), [], [], max(0.0, until - time.monotonic()))[0]
        if not ready:
            _replace(template)
            raise _Dead("it did not answer")
        for handle in ready:
            got = os.read(handle, 1 << 20)
            if not got:
                waiting.discard(handle)
            elif handle == hears:
                answer += got
                if len(answer) > memory + 2**20:
                    raise CagedError(file, f"its content takes more than {memory / 2**20:,.0f} MiB", "memory")
            else:
                news += got
                if b"process" in got:
                    until = time.monotonic() + seconds + GRACE
    said: dict[str, Any] = {}
    for line in news.splitlines():
        said |= json.loads(line)
    if "broken" in said:
        raise RuntimeError(f"{file}: the reader cannot be loaded: {said['broken']}")
    if "code" not in said:
        _replace(template)
        raise _Dead("it was ended")
    return answer, said


# ---- the template's life


def _running() -> _Template:
    """The template, started where there is none; call with the lock held."""
    global _template
    if _template is not None and (_template.owner != os.getpid() or _template.process.poll() is not None):
        _stop()
    if _template is None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, _kind())
        with theirs:
            root = str(Path(__file__).resolve().parents[2])
            path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "workbench.caged", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path, **QUIET, **dict.fromkeys(ONE_THREAD, "1")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the caller
            )
        _template = _Template(process, ours)
    return _template


def _kind() -> int:
    return socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM


def _replace(template: _Template) -> None:
    with _lock:
        if _template is template:
            _stop(at_once=True)


def _stop(at_once: bool = False) -> None:
    global _template
    template, _template = _template, None
    if template is None:
        return
    template.control.close()
    if template.owner != os.getpid():
        template.process.returncode = 0  # not this process's child: nothing to wait for
        return
    if at_once:
        template.process.kill()
    try:
        template.process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        template.process.kill()
        template.process.wait()


def _forked() -> None:
    """A forked copy of the caller has no template: the one it knows belongs to its parent."""
    global _lock
    _lock = threading.Lock()
    _stop()


atexit.register(stop)
os.register_at_fork(after_in_child=_forked)
