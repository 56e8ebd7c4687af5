"""What conftest.py promises every test: its own home, no way out, one thread."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from workbench import home

seen: list[Path] = []


@pytest.fixture(scope="module")
def made_once() -> Path:
    """Stands for a costly run that a module trains once, in the module's home."""
    home.studies().mkdir(parents=True)
    (home.studies() / "note").write_text("kept", encoding="utf-8")
    return home.home()


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_fresh_home(turn: int, workbench_home: Path) -> None:
    assert home.home() == workbench_home.resolve()
    assert not workbench_home.exists()
    assert workbench_home not in seen
    assert home.cache().is_relative_to(workbench_home)
    workbench_home.mkdir()
    seen.append(workbench_home)


@pytest.mark.shared_home
def test_a_marked_test_sees_what_the_module_made(made_once: Path) -> None:
    assert home.home() == made_once
    assert (home.studies() / "note").read_text(encoding="utf-8") == "kept"


def test_an_unmarked_test_does_not(made_once: Path) -> None:
    assert home.home() != made_once
    assert not home.studies().exists()


@pytest.mark.index
def test_one_for_the_index_keeps_the_cache_of_the_user() -> None:
    assert "WORKBENCH_CACHE" not in os.environ


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 443)])
def test_an_address_outside_is_refused_and_noted(address: tuple[str, int], outside: list[str]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as s, pytest.raises(OSError, match="tests stay on this machine"):
        s.connect(address)
    assert outside == [f"connect {address[0]}"]
    outside.clear()


def test_a_name_outside_is_not_even_looked_up(outside: list[str]) -> None:
    with pytest.raises(OSError, match="tests stay on this machine"):
        socket.create_connection(("telemetry.example.org", 443), timeout=1)
    assert outside == ["look up telemetry.example.org"]
    outside.clear()


def test_this_machine_may_be_reached(outside: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
    assert outside == []


def test_one_thread_and_no_screen() -> None:
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.environ["MPLBACKEND"] == "Agg"
