"""What every test gets: its own home, one thread, no screen, and no way out to the network."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Nothing above loads numpy, and it must stay so: a thread pool is sized once, at import.
for _pool in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"


# --- homes -----------------------------------------------------------------------------------------------------------
# A module fixture that trains something costly runs before the test's own home exists, so homes come in three sizes:
# the session's and the module's for such fixtures, and a fresh one for each test that is not marked `shared_home`.


def _move_in(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("WORKBENCH_HOME", str(folder))
    patch.setenv("WORKBENCH_CACHE", str(folder / "cache"))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        _move_in(patch, tmp_path_factory.mktemp("session") / "home")
        yield


@pytest.fixture(scope="module", autouse=True)
def _module_home(_session_home: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("module") / "home"
        _move_in(patch, home)
        yield home


@pytest.fixture(autouse=True)
def workbench_home(
    request: pytest.FixtureRequest, _module_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The WORKBENCH_HOME of this test (not created): fresh, or the module's where marked ``shared_home``."""
    with pytest.MonkeyPatch.context() as patch:
        home = _module_home
        if not request.node.get_closest_marker("shared_home"):
            home = tmp_path_factory.mktemp("test") / "home"
            _move_in(patch, home)
        if request.node.get_closest_marker("index"):
            patch.delenv("WORKBENCH_CACHE", raising=False)
        yield home


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """``shared/data`` next to the checkout: small real files that are not ours to commit."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared/data folder next to the checkout")
    return folder


# --- the network -----------------------------------------------------------------------------------------------------


class OutsideError(OSError):
    """This process tried to reach something that is not this machine."""


def _is_here(host: Any) -> bool:
    """Does ``host`` (a name or address, as sockets take it) mean this machine?"""
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost", socket.gethostname()) or str(host).endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(scope="session", autouse=True)
def _guard() -> Iterator[list[str]]:
    """Refuses and lists every attempt of this process to reach outside, module and session fixtures included."""
    tried: list[str] = []

    def refuse(what: str, host: Any) -> None:
        tried.append(f"{what} {host}")
        raise OutsideError(f"tests stay on this machine, but something tried to {what} {host!r}")

    def guarded(name: str) -> Any:
        real = getattr(socket.socket, name)

        def call(self: socket.socket, *args: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(args[-1][0]):
                refuse(name, args[-1][0])
            return real(self, *args)

        return call

    lookup = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if not _is_here(host):
            refuse("look up", host)
        return lookup(host, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, guarded(name))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield tried


@pytest.fixture(autouse=True)
def outside(_guard: list[str]) -> Iterator[list[str]]:
    """What was tried and refused; code under test may swallow the refusal, so anything left here fails the test."""
    yield _guard
    tried = [*_guard]
    _guard.clear()
    if tried:
        pytest.fail(f"reached for the network: {', '.join(tried)}", pytrace=False)


# --- which tests run -------------------------------------------------------------------------------------------------


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests/browser/ as browser tests, and skips slow tests until somebody asks for them."""
    wait = pytest.mark.skip(reason="slow: runs with SLOW=1 or CI=true")
    for item in items:
        if ROOT / "tests" / "browser" in item.path.parents:
            item.add_marker("browser")
        if item.get_closest_marker("slow") and not (_asked("SLOW") or _asked("CI")):
            item.add_marker(wait)
