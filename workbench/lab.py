"""The launcher tiles of JupyterLab: the MLflow UI and the Panel pages, behind jupyter-server-proxy.

JupyterLab starts a server when its tile is first clicked, under ``<base url>/mlflow/`` and ``<base url>/panel/``.
The proxy only ends the process it started, so each server runs under ``python -m workbench.lab``, which ends
the server's whole process group when it is told to stop or when JupyterLab is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Any

ICONS = Path(__file__).resolve().parent / "icons"
START_S = 120.0  # the first import of MLflow or Panel on a slow disk
GRACE_S = 5.0  # between the request to end and the kill


def mlflow_server() -> dict[str, Any]:
    """Entry for jupyter-server-proxy: the MLflow UI on the workbench's runs."""
    from workbench import home, runs

    def command(port: int, base_url: str) -> list[str]:
        home.home().mkdir(parents=True, exist_ok=True)  # sqlite makes its file, not the folder
        return watched(runs.server_command(port, prefix=f"{base_url}mlflow")[0])

    def environment(port: int, base_url: str) -> dict[str, str]:
        told = runs.server_command(port, prefix=f"{base_url}mlflow")[1]
        return {name: _literal(value) for name, value in told.items() if os.environ.get(name) != value}

    return _entry("Runs (MLflow)", "mlflow", command) | {"environment": environment}


def panel_server() -> dict[str, Any]:
    """Entry for jupyter-server-proxy: the Panel pages, which register themselves (workbench imports no widgets)."""

    def command(port: int, base_url: str) -> list[str]:
        (pages,) = entry_points(group="workbench.servers", name="panel")
        return watched(pages.load()(port, prefix=f"{base_url}panel", origins=[f"127.0.0.1:{port}"]))

    return _entry("Pages (Panel)", "panel", command)


def _entry(title: str, name: str, command: Any) -> dict[str, Any]:
    return {
        "command": command,
        "timeout": START_S,
        "absolute_url": True,  # both servers know their prefix and write it into the addresses they send
        # JupyterLab has checked token and origin; the servers then need to trust nobody but the proxy, whatever name
        # a browser calls this machine by.
        "request_headers_override": {"Origin": "http://127.0.0.1:{port}", "Host": "127.0.0.1:{port}"},
        "new_browser_tab": True,
        "launcher_entry": {
            "title": title,
            "icon_path": str(ICONS / f"{name}.svg"),
            "path_info": f"{name}/",
            "category": "Notebook",  # Lab shows a tile's own icon in this category and in Console alone
        },
    }


def watched(command: list[str]) -> list[str]:
    """``command`` under this file's watch."""
    return [_literal(word) for word in [sys.executable, "-m", "workbench.lab", *command]]


def _literal(word: str) -> str:
    """``word`` as it survives the proxy, which fills in ``{port}`` and the like."""
    return word.replace("{", "{{").replace("}", "}}")


def main(command: list[str]) -> int:
    """Run ``command`` in its own process group and end the group with it, on a signal, or when the parent is gone.

    Returns the command's exit status, or 0 when it was ended here.
    """
    parent = os.getppid()
    told = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    while server.poll() is None and not told and os.getppid() == parent:
        time.sleep(0.2)
    status = server.poll()
    _end(server)
    return 0 if status is None else status


def _end(server: subprocess.Popen[bytes]) -> None:
    """Asks the server's group to end and kills what is left of it."""
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 0.0)):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + wait_s
        while time.monotonic() < until and _lives(server):
            time.sleep(0.05)


def _lives(server: subprocess.Popen[bytes]) -> bool:
    server.poll()  # reaps the leader, which would otherwise count as alive
    try:
        os.killpg(server.pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
