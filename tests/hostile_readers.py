"""A reader that misbehaves in whatever way its options say, for the tests of the cage."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from workbench.formats import FormatError


def read(data: bytes, file: str, do: str, **more: Any) -> Any:
    """Do what ``do`` says."""
    return globals()[do](data, file, **more)


def echo(data: bytes, file: str, value: Any = None) -> Any:
    return {"data": data, "file": file, "value": value}


def refuse(data: bytes, file: str) -> Any:
    raise FormatError(file, "row 7", "expected a number, found 'x'")


def bug(data: bytes, file: str) -> Any:
    return {}["nothing"]


def eat_list(data: bytes, file: str) -> Any:
    held = []
    while True:
        held.append(bytearray(2**24))


def eat_numpy(data: bytes, file: str) -> Any:
    return float(np.ones(2**40).sum())


def eat_native(data: bytes, file: str) -> Any:
    held = []
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    while True:
        address = libc.malloc(2**24)
        ctypes.memset(address, 1, 2**24)  # a parser that does not look at what malloc gave
        held.append(address)


def loop(data: bytes, file: str) -> Any:
    while True:
        pass


def sleep(data: bytes, file: str) -> Any:
    time.sleep(3600)


def deaf(data: bytes, file: str) -> Any:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def segfault(data: bytes, file: str) -> Any:
    ctypes.string_at(0)


def abort(data: bytes, file: str) -> Any:
    os.abort()


def leave(data: bytes, file: str) -> Any:
    os._exit(0)


def recurse(data: bytes, file: str) -> Any:
    return recurse(data, file)


def garbage(data: bytes, file: str) -> Any:
    os.write(3, b"CAGED001" + os.urandom(1000))
    os._exit(0)


def truncated(data: bytes, file: str) -> Any:
    from workbench.caged import messages

    end, start = os.pipe()
    messages.send(start, {"value": "x" * 1000})
    os.write(3, os.read(end, 65536)[:-100])
    os._exit(0)


def big(data: bytes, file: str, size: int) -> Any:
    return np.zeros(size, np.uint8)


def flood(data: bytes, file: str) -> Any:
    while True:
        os.write(3, bytes(2**20))


def strange(data: bytes, file: str) -> Any:
    return object()


def allowed(data: bytes, file: str, path: str, parent: int) -> dict[str, str]:
    """What the walls say to everything that a parser never needs."""
    tried = {
        "socket": lambda: socket.socket(),
        "program": lambda: subprocess.run([sys.executable, "-c", "1"], check=True),
        "fork": lambda: os.fork(),
        "write": lambda: Path(path).write_text("x"),
        "append": lambda: os.write(os.open(path, os.O_WRONLY | os.O_APPEND), b"x"),
        "remove": lambda: os.unlink(path),
        "rename": lambda: os.rename(path, path + "x"),
        "folder": lambda: os.mkdir(path + "d"),
        "kill": lambda: os.kill(parent, signal.SIGTERM),
        "more memory": lambda: __import__("resource").setrlimit(9, (-1, -1)),
        "read": lambda: Path(path).read_text(),
        "thread": lambda: _thread(),
    }
    return {name: _try(what) for name, what in tried.items()}


def _thread() -> None:
    import threading

    done = threading.Thread(target=lambda: None)
    done.start()
    done.join()


def _try(what: Any) -> str:
    try:
        what()
    except BaseException as error:
        return type(error).__name__
    return "done"
