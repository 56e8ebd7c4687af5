"""The template: one process without threads that forks once for every file to be read.

``python -P -m workbench.caged <descriptor>`` with the number of a socket to its parent. It imports what a format
needs once, before it forks, ends a child that takes too long, says how each one ended, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from workbench.caged import codec, messages, walls
from workbench.formats import FormatError


@dataclass
class _Child:
    deadline: float
    says: int  # the pipe on which its parent's parent hears how it ended
    late: bool = False


def serve(control: socket.socket) -> None:
    """Fork for every request on ``control`` until its other end closes."""
    warm()
    children: dict[int, _Child] = {}
    wake, woken = os.pipe()
    for handle in (wake, woken):
        os.set_blocking(handle, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        while True:
            soonest = min((c.deadline for c in children.values() if not c.late), default=None)
            wait = None if soonest is None else max(0.0, soonest - time.monotonic())
            ready = select.select([control.fileno(), wake], [], [], wait)[0]
            if wake in ready:
                os.read(wake, 4096)
            _look_after(children)
            if control.fileno() in ready and not _request(control, children):
                return
    finally:
        for process in children:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def warm() -> None:
    """Do once what every child would do for the first time (15 ms); no expressions, which start threads."""
    frame = pl.DataFrame([pl.Series("a", np.arange(2.0)), pl.Series("b", ["x", None], dtype=pl.String)])
    header, buffers = codec.encode({"value": {"frame": frame, "array": np.arange(3.0)}})
    codec.decode(header, buffers)


def _look_after(children: dict[int, _Child]) -> None:
    """Say how the ended ended, and end the late."""
    for process, child in list(children.items()):
        if _ended(process, child):
            del children[process]
        elif not child.late and time.monotonic() >= child.deadline:
            child.late = True
            os.kill(process, signal.SIGKILL)


def _ended(process: int, child: _Child) -> bool:
    found, status = os.waitpid(process, os.WNOHANG)
    if not found:
        return False
    _say(child.says, {"code": os.waitstatus_to_exitcode(status), "late": child.late})
    os.close(child.says)
    return True


def _say(handle: int, words: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(handle, json.dumps(words).encode() + b"\n")


def _request(control: socket.socket, children: dict[int, _Child]) -> bool:
    """Take one request and fork for it; False when the parent is gone."""
    words, handles, _, _ = socket.recv_fds(control, 65536, 3)
    if not words:
        return False
    asked = json.loads(words)
    given, answer, says = handles
    known = len(sys.modules)
    try:
        module = importlib.import_module(asked["module"])
        for name in getattr(module, "PRELOAD", ()):
            importlib.import_module(name)
    except Exception as error:  # a broken installation is no fault of the file
        _say(says, {"broken": f"{type(error).__name__}: {error}"})
        for handle in handles:
            os.close(handle)
        return True
    if len(sys.modules) != known:  # what stays shared with the children for good
        gc.collect()
        gc.freeze()
    template = os.getpid()
    process = os.fork()
    if process == 0:
        _child(asked, module, given, answer, template)
    os.close(given)
    os.close(answer)
    _say(says, {"process": process})
    children[process] = _Child(time.monotonic() + asked["seconds"], says)
    return True


def _child(asked: dict[str, Any], module: Any, given: int, answer: int, template: int) -> None:
    """Read one file and answer; never returns."""
    try:
        walls.die_with_parent(template)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.disable()
        data = bytearray(os.fstat(given).st_size)
        with os.fdopen(given, "rb", buffering=0) as stream:
            filled = 0
            while filled < len(data) and (n := stream.readinto(memoryview(data)[filled:])):
                filled += n
        request = messages.receive(data)
        del data
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        os.dup2(answer, 3)
        os.closerange(4, 65536)
        walls.limit(asked["memory"], asked["seconds"])
        walls.filter_calls()
        messages.send(3, _answer(module, request))
        os._exit(0)
    except MemoryError:
        os._exit(MEMORY)
    except BaseException:
        os._exit(FAILED)


MEMORY, FAILED = 101, 102  # exit codes of a child that could not even answer


def _answer(module: Any, request: dict[str, Any]) -> dict[str, Any]:
    file = request["file"]
    try:
        value = module.read(request["data"], file, **request["options"])
        return {"value": value}
    except FormatError as error:
        return {"refused": [str(error.file), str(error.place), str(error.reason)]}
    except MemoryError:
        return {"memory": True}
    except RecursionError:
        return {"failed": "nested too deeply (RecursionError)"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
