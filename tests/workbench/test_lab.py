"""The launcher's entries and the watch over their servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest

from workbench import home, lab

TILES = {"mlflow": lab.mlflow_server, "panel": lab.panel_server}


@pytest.mark.parametrize("name", TILES)
def test_the_launcher_finds_the_tile(name: str) -> None:
    (found,) = entry_points(group="jupyter_serverproxy_servers", name=name)
    entry = found.load()()
    assert found.load() is TILES[name]
    assert entry["launcher_entry"]["path_info"] == f"{name}/"
    icon = Path(entry["launcher_entry"]["icon_path"])
    assert ElementTree.parse(icon).getroot().get("viewBox") == "0 0 32 32"
    assert entry["absolute_url"] is True and entry["timeout"] == 120


@pytest.mark.parametrize("name", TILES)
def test_the_command_listens_here_under_the_prefix(name: str) -> None:
    words = TILES[name]()["command"](4321, "/user/ada/")
    assert words[:3] == [sys.executable, "-m", "workbench.lab"]
    assert words[words.index("--port") + 1] == "4321"
    assert f"/user/ada/{name}" in words
    assert any(word.split(":")[0] == "127.0.0.1" for word in words) and "0.0.0.0" not in words
    assert not [
        word for word in words if "*" in word and not word.endswith(".py")
    ]  # no page elsewhere may open a socket


def test_runs_come_from_this_home_and_its_folder_is_made(workbench_home: Path) -> None:
    words = lab.mlflow_server()["command"](4321, "/")
    assert home.tracking_uri() in words
    assert workbench_home.is_dir()


def test_braces_survive_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """jupyter-server-proxy runs ``str.format`` over every word and every variable."""
    odd = "/tmp/{port} of {me}"
    monkeypatch.setenv("WORKBENCH_HOME", odd)
    monkeypatch.setattr(Path, "mkdir", lambda *a, **k: None)
    words = [word.format(port=1, base_url="/") for word in lab.mlflow_server()["command"](1, "/")]
    assert home.tracking_uri() in words and "{port} of {me}" in home.tracking_uri()


def test_a_server_that_fails_says_so() -> None:
    command = [sys.executable, "-m", "workbench.lab", sys.executable, "-c", "raise SystemExit(7)"]
    assert subprocess.run(command, check=False).returncode == 7


def children(of: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == of:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("sign", ["SIGTERM", "SIGKILL"])
def test_a_server_ends_with_its_parent(tmp_path: Path, sign: str) -> None:
    """Told to end, or its JupyterLab killed: the server's children are gone as well, even deaf ones."""
    note = tmp_path / "pids"
    deaf = (
        "import os, signal, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(60)\n"
    )
    watch = f"[sys.executable, '-m', 'workbench.lab', sys.executable, '-c', {deaf!r}]"
    lab_ = f"import subprocess, sys; subprocess.run({watch})"
    parent = subprocess.Popen([sys.executable, "-c", lab_])
    try:
        end = time.monotonic() + 30
        while not (note.exists() and len(note.read_text().split()) == 2):
            assert time.monotonic() < end, "the server never started"
            time.sleep(0.05)
        pids = [int(pid) for pid in note.read_text().split()]
        (watcher,) = children(parent.pid)
        if sign == "SIGTERM":
            os.kill(watcher, signal.SIGTERM)
        else:
            parent.kill()
        while any(alive(pid) for pid in pids):
            assert time.monotonic() < end + 10, "the server outlived its watcher"
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
