"""Processes that end with the one that started them: each in its own group, ended by id, SIGTERM and then SIGKILL.

A started process also dies when its starter is killed outright (Linux: PR_SET_PDEATHSIG), so that no server of a
federation is left listening behind somebody's back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1  # prctl(2)


class Stopped(BaseException):
    """This process was told to end; passes through ``except Exception`` on its way out, as KeyboardInterrupt does."""


@dataclass
class Processes:
    """Started processes by name, as a context: whatever happens inside, all have ended when it is left.

    Attributes
    ----------
    patience_s : wait after SIGTERM before SIGKILL [s]
    running : {name: process}
    """

    patience_s: float = 10.0
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` in a group of its own, its words appended to ``log``."""
        if name in self.running and self.running[name].poll() is None:
            raise RuntimeError(f"{name!r} runs already, as process {self.running[name].pid}.")
        with log.open("ab") as stream:
            self.running[name] = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if environment is None else environment),
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )
        return self.running[name]

    def end(self, name: str, how: int = signal.SIGTERM) -> int:
        """End one by a signal to its group, by SIGKILL if it stays; returns its exit status."""
        process = self.running.pop(name)
        for sign, wait in ((how, self.patience_s), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait)
                break
        _last(process.pid)
        return process.returncode

    def wait(self, name: str, seconds: float) -> int | None:
        """Exit status of one that ends by itself within ``seconds``, None where it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.running[name].wait(seconds)
        return None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():  # all are told first, so that they end side by side
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for name in list(self.running):
            self.end(name)


@contextlib.contextmanager
def told_to_end():
    """Within it SIGTERM and SIGINT raise Stopped in the main thread, once; then the handlers of before come back."""
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        heard.append(number)
        if len(heard) == 1:
            raise Stopped(signal.Signals(number).name)

    before = {sign: signal.signal(sign, hear) for sign in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _die_with(starter: int):
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork; after it only the call is made

    def set_up() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != starter:  # it died in between
            os._exit(1)

    return set_up


def _last(group: int, wait_s: float = 5.0) -> None:
    """Kill what is left of a group whose leader has ended, and wait until nobody is."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.02)
