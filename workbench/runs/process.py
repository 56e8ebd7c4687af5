"""The running process: who it is, which code it runs, and how it is told to stop."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGES = (
    "translational-workbench", "anndata", "lightgbm", "mlflow", "numpy", "polars",
    "pytorch-lightning", "rdkit", "safetensors", "scanpy", "scikit-learn", "scipy", "torch",
)  # fmt: skip
CLOCK_SLACK_S = 2.0  # the kernel's boot time, and with it every start time, is only good to about a second


STOPS = ("SIGTERMException", "Stopped")  # Lightning's and train's, by name: this room knows neither


class Terminated(SystemExit):
    """SIGTERM arrived; unwinds like Ctrl-C and leaves with the status a shell expects (143)."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def was_killed(error: BaseException | None) -> bool:
    """Did a person or the system stop the work (True), or did the work itself fail (False)?

    Lightning answers Ctrl-C with ``sys.exit(1)``, so a SystemExit is followed to what it came from.
    """
    while error is not None:
        if isinstance(error, (KeyboardInterrupt, Terminated)) or type(error).__name__ in STOPS:
            return True
        error = (error.__cause__ or error.__context__) if isinstance(error, SystemExit) else None
    return False


class sigterm_raises:
    """Within it SIGTERM raises ``Terminated`` once, in the main thread; the handler before it returns at the end.

    Outside the main thread it does nothing: Python delivers signals to the main thread alone. A forked
    worker that inherits the handler dies of the signal as it would without it. ``hold()`` postpones a
    signal to the end of the block, for the lines that must not be cut in half.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._pid = -1
        self._held = self._arrived = self._pending = False

    def __enter__(self) -> sigterm_raises:
        if threading.current_thread() is threading.main_thread():
            self._pid = os.getpid()
            self._before = signal.signal(signal.SIGTERM, self._arrive)
        return self

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._held:
            self._pending = True
        elif not self._arrived:
            self._arrived = True
            raise Terminated

    def hold(self) -> None:
        """From here to the end of the block, only remember that SIGTERM came."""
        self._held = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.release(raising=error is None)

    def release(self, raising: bool = True) -> None:
        """Put the handler before back; a signal that was held is raised now when ``raising``."""
        if self._pid != os.getpid():
            return
        # a handler that was not set from Python reads as None and cannot be put back
        signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)
        if self._pending and raising:
            raise Terminated


def identity() -> dict[str, str]:
    """Host, pid and start time [s since 1970] of this process: together they are never used twice."""
    import psutil

    return {
        "process.host": socket.gethostname(),
        "process.pid": str(os.getpid()),
        "process.started": f"{psutil.Process().create_time():.3f}",
    }


def alive(pid: int, started: float) -> bool:
    """Does the process with this pid that started then [s since 1970] still run? A recycled pid does not count."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return abs(process.create_time() - started) <= CLOCK_SLACK_S
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # someone else's process: rather leave a run open than close one that works


def provenance() -> dict[str, str]:
    """Tags that say which code ran: git commit and state, lock digest, Python, packages, command."""
    checkout = Path(__file__).resolve().parents[2]
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:]])[:2000],
        "packages": json.dumps({name: v for name in PACKAGES if (v := installed(name))}),
    }
    lock = checkout / "requirements.lock"
    if lock.is_file():
        found["lock.sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    with contextlib.suppress(KeyError, OSError, ImportError):  # a container's user need not have a name
        found["mlflow.user"] = getpass.getuser()
    if commit := _git(checkout, "rev-parse", "HEAD"):
        found["git.commit"] = commit
        changed = _git(checkout, "status", "--porcelain")
        found["git.dirty"] = "unknown" if changed is None else str(bool(changed)).lower()
    return found


def installed(package: str) -> str | None:
    """Version of an installed package, else None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(checkout: Path, *words: str) -> str | None:
    if not (checkout / ".git").exists():  # an installed copy must not report the commit of whatever surrounds it
        return None
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(checkout), *words],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
